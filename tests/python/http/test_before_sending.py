"""What happens to each response before it is sent, if ours is the only signal receiver and if there is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy_auth_rs
import pytest
from aiohttp import web
from comfy_auth_rs._core import BeforeSending
from support.client import BEARER, UPGRADE, fetch
from support.keys import KEY


async def whole(request: web.Request) -> web.Response:
    return web.Response(text="whole")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"stream")
    return response


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__))


async def socket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    await response.close()
    return response


async def fail(request: web.Request) -> web.Response:
    raise web.HTTPTeapot


HANDLERS = {"/whole": whole, "/stream": stream, "/file": file, "/fail": fail}


def application() -> web.Application:
    app = web.Application()
    app.add_routes([web.route("*", path, handler) for path, handler in HANDLERS.items()])
    app.add_routes([web.get("/socket", socket), web.get("/public", whole)])
    comfy_auth_rs.setup(app, api_key=KEY, exempt=["/public"])
    return app


@pytest.mark.parametrize("other", [None, "before the start", "at the start"])
async def test_every_response_is_marked(aiohttp_server: Any, other: str | None) -> None:
    app, seen = application(), []

    async def see(request: web.Request, response: web.StreamResponse) -> None:
        seen.append(request.path)

    async def begin_to_see(app: web.Application) -> None:
        app.on_response_prepare.append(see)

    if other == "before the start":
        app.on_response_prepare.append(see)
    elif other == "at the start":
        app.on_startup.append(begin_to_see)
    server = await aiohttp_server(app)
    assert isinstance(app.on_response_prepare.send, BeforeSending) is (other is None)
    asked = [*HANDLERS, "/no/such/path", "/no/such/path", "/socket"]
    for path in asked:
        headers = BEARER | UPGRADE if path == "/socket" else BEARER
        for _ in range(2):
            assert (await fetch(server, path, headers)).headers["Cache-Control"] == "private", path
    assert "Cache-Control" not in (await fetch(server, "/public")).headers
    assert seen == ([] if other is None else [path for path in asked for _ in range(2)] + ["/public"])


async def test_what_is_found_out_of_a_write_does_not_hold_for_a_read(aiohttp_server: Any) -> None:
    server = await aiohttp_server(application())
    for path in ("/whole", "/no/such/path"):
        for method, control in (("POST", None), ("GET", "private"), ("POST", None), ("GET", "private")):
            answer = await fetch(server, path, BEARER, method=method)
            assert answer.headers.get("Cache-Control") == control
