"""A small application with a secret to protect."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from aiohttp import web
from comfy_auth_rs.comfyui import install
from comfy_auth_rs.comfyui.flags import Secret, destination
from comfy_auth_rs.comfyui.inheritance import VARIABLE
from comfy_auth_rs.settings import Settings
from stand_in import Queue, Server

#: The answer of a route that needs the key. It must never reach a client without one.
SECRET = "the secret"


async def secret(request: web.Request) -> web.Response:
    return web.Response(text=SECRET)


async def echo_socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


def secret_app(*middlewares: Any) -> web.Application:
    """Every method of `/prompt` answers with the secret."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/prompt", secret)
    return app


def install_as_comfyui(app: web.Application, *, web_root: Path | None = None, **given: Any) -> Server:
    """Protects `app` with the function that a patched ComfyUI calls. `given` are settings."""
    settings = Settings.of(**given)
    values = {destination(setting.name): getattr(settings, setting.name) for setting in fields(Settings)}
    values["api_key"] = [Secret(key) for key in settings.api_key]
    queue = Queue(currently_running={}, get_tasks_remaining=lambda: 0)
    server = Server(app=app, prompt_queue=queue, web_root=str(web_root))
    install(server, argparse.Namespace(listen="127.0.0.1", **values))
    os.environ.pop(VARIABLE, None)  # processes started later are not its children
    return server
