"""aiohttp's private names: each is used in one file, exists, and gives the same as its public counterpart.

The release tests also run this file with the oldest aiohttp that we support.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import web
from comfy_auth_rs import aiohttp_internals
from support.client import fetch

ROOT = Path(__file__).resolve().parents[3]

#: The only files that use them: one in Rust, one in Python.
RUST, PYTHON = ROOT / "src/py/aiohttp.rs", Path(aiohttp_internals.__file__)

#: Before aiohttp 3.14, all keys of a request were strings.
MINE = web.RequestKey("mine", object) if hasattr(web, "RequestKey") else "mine"

#: How to get each value by its private name, and by its public one.
OF_A_REQUEST = {
    "_headers": (lambda request: request._headers, lambda request: request.headers),
    "_method": (lambda request: request._method, lambda request: request.method),
    "_message": (lambda request: request._message.path, lambda request: request.raw_path),
    "_match_info": (lambda request: request._match_info, lambda request: request.match_info),
    "_route": (lambda request: request._match_info._route, lambda request: request.match_info.route),
    "_resource": (
        lambda request: request.match_info.route._resource,
        lambda request: request.match_info.route.resource,
    ),
    "_handler": (
        lambda request: request.match_info.route._handler,
        lambda request: request.match_info.route.handler,
    ),
    "_transport_peername": (
        lambda request: request._transport_peername,
        lambda request: request.transport.get_extra_info("peername"),
    ),
    "_state": (lambda request: request._state[MINE], lambda request: request[MINE]),
    "_rel_url": (lambda request: request._rel_url, lambda request: request.rel_url),
    # Values that a request caches.
    "_cache": (lambda request: request._cache["path"], lambda request: request.path),
}

#: These have no public counterpart.
SET_ONLY = {
    "_handle_request", "_lingering_time", "_message_tail", "_middlewares", "_path", "_payload_parser", "_post_start",
    "_resources",
}  # fmt: skip


def private_names(text):
    return set(re.findall(r'(?:"|\.)(_[a-z][a-z_]*)\b', text)) - {"_core", "_replace", "_version"}


async def test_private_and_public_names_agree(aiohttp_server):
    seen = {}

    async def compare(request):
        request[MINE] = object()
        assert request.path == "/x/y"  # now it is cached
        for name, (private, public) in OF_A_REQUEST.items():
            one, other = private(request), public(request)
            seen[name] = one is other or one == other
        seen["_lingering_time"] = request.protocol._lingering_time == 10.0
        in_flight = aiohttp_internals.requests_in_flight(asyncio.get_running_loop())
        assert aiohttp_internals.applications_of(request) == request.match_info.apps == (app,)
        assert aiohttp_internals.applications_of(object()) == ()
        seen["_handle_request"] = [found is request for found in in_flight] == [True]
        return web.Response()

    app = web.Application()
    app.router.add_post("/x/{name}", compare)
    response = await fetch(await aiohttp_server(app), "/x/y?q=1", {"X-Mine": "1"}, method="POST", body=b"body")
    assert response.status == 200
    assert seen == {**dict.fromkeys(OF_A_REQUEST, True), "_lingering_time": True, "_handle_request": True}
    assert app.router._resources == list(app.router.resources())
    assert app._middlewares is app.middlewares
    assert private_names(RUST.read_text()) | private_names(PYTHON.read_text()) == OF_A_REQUEST.keys() | SET_ONLY


async def test_a_file_response_names_its_file(tmp_path):
    assert aiohttp_internals.file_of(web.FileResponse(tmp_path / "x")) == tmp_path / "x"


async def test_another_list_of_middlewares():
    app = web.Application()
    assert aiohttp_internals.set_middlewares(app, [MINE]) is app.middlewares
    assert list(app.middlewares) == [MINE]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("longer", [b"", b"longer" * 1000])
async def test_the_length_of_a_body_that_is_replaced_at_last(aiohttp_server, method, longer):
    async def replace(request, response):
        response.body = longer
        aiohttp_internals.set_length(request, response, len(longer))

    async def short(request):
        return web.Response(body=b"short")

    app = web.Application()
    app.router.add_get("/", short)
    app.on_response_prepare.append(replace)
    response = await fetch(await aiohttp_server(app), "/", method=method)
    assert response.headers["Content-Length"] == str(len(longer))
    assert response.body == (longer if method == "GET" else b"")


async def test_marked_requests(aiohttp_server):
    seen = []

    async def handler(request):
        seen.append((type(request), isinstance(request, web.Request), request.path, request.query_string))
        return web.Response()

    app = web.Application()
    routes = app.add_routes([web.get("/marked", handler), web.get("/other", handler)])
    aiohttp_internals.mark_requests(routes[0].resource)
    server = await aiohttp_server(app)
    for target in ("/marked?x=1", "/other?x=1"):
        assert (await fetch(server, target)).status == 200
    assert (await fetch(server, "/marked", method="POST")).status == 405
    assert seen == [
        (aiohttp_internals.MarkedRequest, True, "/marked", "x=1"),
        (web.Request, True, "/other", "x=1"),
    ]


async def test_a_response_keeps_its_headers_alike():
    response = web.Response(headers={"X-Mine": "1"})
    assert response._headers is response.headers


async def test_a_moved_request_is_what_its_clone_would_be(aiohttp_server):
    told = []

    async def move(request):
        clone = request.clone(rel_url=request.rel_url.with_path("/moved").with_query(request.rel_url.query))
        aiohttp_internals.move(request, "/moved")
        told.extend((getattr(request, name), getattr(clone, name)) for name in ("rel_url", "url", "path", "path_qs",
                    "raw_path", "query", "query_string"))  # fmt: skip
        return web.Response()

    app = web.Application()
    app.router.add_get("/x/{name}", move)
    assert (await fetch(await aiohttp_server(app), "/x/y?q=1&r=%2B")).status == 200
    assert len(told) == 7
    for moved, cloned in told:
        assert moved == cloned


def others():
    for path in [*(ROOT / "src").rglob("*.rs"), *(ROOT / "python").rglob("*.py")]:
        if path not in (RUST, PYTHON):
            yield pytest.param(path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", list(others()))
def test_no_other_file_names_them(path):
    assert not private_names(path.read_text(encoding="utf-8")) & (OF_A_REQUEST.keys() | SET_ONLY)
