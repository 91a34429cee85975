"""`identity(request)`: who was admitted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from pathlib import Path

import comfy_auth_rs
import pytest
from aiohttp import web
from comfy_auth_rs import Identity, identity
from support.client import bearer, fetch
from support.keys import KEY, OTHER_KEY, WRONG_KEY

REPOSITORY = Path(__file__).resolve().parents[3]

#: It is derived from the key, so it is the same on every server.
KEY_ID = hmac.digest(hashlib.sha256(KEY.encode()).digest(), b"comfy-auth-rs key id v1", "sha256")[:16].hex()


async def tell(request):
    who = identity(request)
    return web.json_response(who and {"label": who.label, "key_id": who.key_id, "source": who.source})


def make_app(key_file, **settings):
    app = web.Application()
    app.router.add_get("/", tell)
    app.router.add_get("/open", tell)
    comfy_auth_rs.setup(app, api_key_file=key_file, exempt="/open", **settings)
    return app


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"{KEY} alice's laptop\n{OTHER_KEY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
async def server(aiohttp_server, key_file):
    return await aiohttp_server(make_app(key_file, url_key=True))


async def test_tells_label_id_and_how_it_was_presented(server):
    basic = base64.b64encode(f"any:{KEY}".encode()).decode()
    for path, headers, source in (
        ("/", bearer(KEY), "bearer"),
        ("/", {"Authorization": f"Basic {basic}"}, "basic"),
        ("/", {"X-API-Key": KEY}, "x-api-key"),
        (f"/?api_key={KEY}", {}, "query"),
        (f"/key/{KEY}/open", {}, "path"),
        ("/open", bearer(KEY), "bearer"),
    ):
        expected = {"label": "alice's laptop", "key_id": KEY_ID, "source": source}
        assert (await fetch(server, path, headers)).json == expected, source
    assert (await fetch(server, "/", bearer(OTHER_KEY))).json["label"] is None


async def test_a_session_is_its_keys(server):
    answer = await fetch(server, "/auth_session", bearer(KEY), method="POST")
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    assert (await fetch(server, "/", cookie)).json == {
        "label": "alice's laptop", "key_id": KEY_ID, "source": "cookie",
    }  # fmt: skip
    foreign = {**cookie, "Sec-Fetch-Site": "cross-site"}
    assert (await fetch(server, "/open", foreign)).json is None, "a request by another site's page has no identity"


async def test_nobody_is_none_and_asking_counts_and_logs_nothing(server, caplog):
    caplog.set_level(logging.INFO, "comfy_auth_rs")
    assert (await fetch(server, "/open")).json is None
    assert (await fetch(server, "/open", bearer(WRONG_KEY))).json is None
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_asking_about_many_guesses_locks_nobody(aiohttp_server, key_file):
    app = make_app(key_file)

    async def ask_often(request):
        asked = [identity(request.clone(headers=bearer(f"guess-{number}"))) for number in range(20)]
        return web.json_response(asked)

    app.router.add_get("/often", ask_often)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/often", bearer(KEY))).json == [None] * 20
    assert (await fetch(server, "/", bearer(OTHER_KEY))).status == 200


async def test_for_middlewares_and_without_setup(aiohttp_server):
    seen = []

    @web.middleware
    async def note(request, handler):
        seen.append(identity(request))
        return await handler(request)

    middleware = comfy_auth_rs.create_auth_middleware(api_key=KEY, exempt="/open")
    app = web.Application(middlewares=[note, middleware])
    inner = web.Application()
    inner.router.add_get("/who", tell)
    app.router.add_get("/open", tell)
    app.add_subapp("/inner", inner)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/inner/who", bearer(KEY))).json["key_id"] == KEY_ID
    assert (await fetch(server, "/open")).json is None
    assert [who and who.key_id for who in seen] == [KEY_ID, None]
    assert isinstance(seen[0], Identity) and KEY not in repr(seen[0])


async def test_where_nothing_asks_for_a_key(aiohttp_server):
    app = web.Application()
    app.router.add_get("/", tell)
    assert (await fetch(await aiohttp_server(app), "/", bearer(KEY))).json is None


async def test_the_example(aiohttp_client, key_file):
    key_file.write_text(f"{KEY} alice's laptop\n{OTHER_KEY} wall scope=view user=Eve\n")
    names = {"__name__": "example"}
    exec((REPOSITORY / "examples/who_is_it.py").read_text(encoding="utf-8"), names)
    client = await aiohttp_client(names["make_app"](key_file))
    assert await (await client.get("/")).json() == {"hello": "stranger"}
    told = await (await client.get("/", headers=bearer(KEY))).json()
    assert told == {"hello": "alice's laptop", "scopes": ["all"], "subject": KEY_ID, "source": "bearer"}
    told = await (await client.get("/", headers=bearer(OTHER_KEY))).json()
    assert told == {"hello": "wall", "scopes": ["view"], "subject": "eve", "source": "bearer"}
    assert (await client.post("/paint", headers=bearer(OTHER_KEY))).status == 403
    assert await (await client.post("/paint", headers=bearer(KEY))).json() == {"painted for": KEY_ID}
