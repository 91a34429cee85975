"""A small application with something to protect."""

from __future__ import annotations

from typing import Any

from aiohttp import web

#: What a route that needs the key answers: it must never reach a client without one.
SECRET = "the secret"


async def secret(request: web.Request) -> web.Response:
    return web.Response(text=SECRET)


def secret_app(*middlewares: Any) -> web.Application:
    """Every method of `/prompt` answers with the secret."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/prompt", secret)
    return app
