"""Each decision leaves one DEBUG line that says why. It never contains a credential."""

from __future__ import annotations

import asyncio
import logging

import comfy_auth_rs
import pytest
from aiohttp import web
from support.client import bearer, fetch
from support.keys import KEY, WRONG_KEY


async def answer(request):
    return web.Response()


@pytest.fixture
async def server(aiohttp_server):
    app = web.Application()
    app.router.add_get("/items/{number}", answer)
    comfy_auth_rs.setup(app, api_key=KEY)
    return await aiohttp_server(app)


@pytest.fixture
async def lines(caplog):
    def take():
        found = [record.getMessage() for record in caplog.records if record.name == "comfy_auth_rs.decisions"]
        caplog.clear()
        return found

    caplog.set_level(logging.DEBUG, "comfy_auth_rs.decisions")
    return take


async def test_a_line_says_what_was_asked_and_why_not(server, lines):
    await fetch(server, "/items/7", bearer(WRONG_KEY) | {"X-API-Key": "two words"})
    await fetch(server, "/items/7", bearer(KEY))
    await fetch(server, "/nothing/here")
    await fetch(server, "/auth_session", method="POST", body=b"")
    told = lines()
    places = "looked at Authorization{}, X-API-Key{}, Cookie, query, path"
    assert told[0] == (
        "comfy-auth-rs: Access, GET /items/{number}: invalid_credential; "
        + places.format(" (unknown key)", " (unknown key)")
    )
    assert told[1].startswith("comfy-auth-rs: Access, GET /items/{number}: granted to ")
    assert told[1].endswith(" (bearer); looked at Authorization")
    assert told[2] == "comfy-auth-rs: Access, GET no route: missing_credential; " + places.format("", "")
    assert told[3].startswith("comfy-auth-rs: Access, POST /auth_session: needs no credential; ")
    assert told[4].startswith("comfy-auth-rs: LogIn, POST /auth_session: missing_credential; ")
    assert not any(secret in line for line in told for secret in (KEY, WRONG_KEY, "two words"))


async def test_no_line_while_it_is_off(aiohttp_server, caplog):
    caplog.set_level(logging.INFO, "comfy_auth_rs")
    app = web.Application()
    comfy_auth_rs.setup(app, api_key=KEY)
    server = await aiohttp_server(app)
    await fetch(server, "/nothing")
    assert [record for record in caplog.records if record.name == "comfy_auth_rs.decisions"] == []
    caplog.set_level(logging.DEBUG, "comfy_auth_rs")
    await asyncio.sleep(1.1)  # the level is checked once a second
    await fetch(server, "/nothing")
    assert [record for record in caplog.records if record.name == "comfy_auth_rs.decisions"] != []
