"""The attributes of keys in a key file: `scope=`, `expires=`, `from=`, `user=`."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from contextlib import suppress
from datetime import datetime, timezone

import aiohttp
import comfy_auth_rs
import pytest
from aiohttp import web, web_app
from aiohttp.test_utils import TestClient, TestServer
from comfy_auth_rs import KeyFileError, KeyStore, identity, setup
from comfy_auth_rs.aiohttp_internals import requests_in_flight
from multidict import CIMultiDict
from support.apps import SECRET, echo_socket, install_as_comfyui, secret
from support.client import BROWSER, CHALLENGE, FORM, JSON, Answer, basic, bearer, fetch, log_in
from support.keys import CANARY, KEY, OTHER_KEY, WRONG_KEY

VIEWER, RUNNER, BOTH, SCRAPER, NAMELESS, ELSEWHERE, LATER = (
    f"{CANARY}-{name}-0123456789-abcdefghijklmnopqrstuvwxyz"
    for name in ("viewer", "runner", "both", "scraper", "nameless", "elsewhere", "later")
)

LINES = (
    f"{KEY} owner",
    f'{VIEWER} "the wall = 3" scope=view',
    f"{RUNNER} bot scope=view,run user=Bob-1",
    f"{BOTH} alice scope=nodes,run user=alice from=127.0.0.0/8,::1",
    f"{SCRAPER} prometheus scope=metrics",
    f"{NAMELESS} scope=view",
    f"{ELSEWHERE} far from=192.0.2.0/24",
    f"{LATER} guest expires=2199-01-31",
)

NEEDS = {"/view": "view", "/run": "run", "/both": "run,nodes", "/any": "", "/list/*": ["view", "metrics"]}

#: Longer than the promised second, because other work may share this machine.
SOON = 5

#: Time enough for two looks at the key file.
A_WHILE = 1.3


def write(path, *lines):
    """Replaces the file in one step, as editors and deployment tools do."""
    beside = path.with_suffix(".new")
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    beside.chmod(0o600)
    beside.replace(path)
    return path


@pytest.fixture
def key_file(tmp_path):
    return write(tmp_path / "keys.txt", *LINES)


async def tell(request):
    who = identity(request)
    names = ("label", "user", "scopes", "expires", "subject", "key_id")
    return web.json_response(who and {name: getattr(who, name) for name in names})


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"more")
        await asyncio.sleep(0.05)


def routes(app):
    for path in ("/view", "/run", "/both", "/any", "/unnamed", "/list/{name}"):
        app.router.add_get(path, secret)
    app.router.add_get("/who", tell)
    app.router.add_get("/ws", echo_socket)
    app.router.add_get("/stream", stream)
    app.router.add_route("*", "/prompt", secret)
    return app


@pytest.fixture
async def server(aiohttp_server, key_file):
    app = routes(web.Application())
    setup(app, api_key_file=key_file, scopes={**NEEDS, "/who": "", "/ws": "view", "/stream": "run", "/prompt": "run"})
    return await aiohttp_server(app)


@pytest.fixture
async def client(server, aiohttp_client):
    """A client that closes before its server, which would otherwise wait for it."""
    return await aiohttp_client(server)


@pytest.fixture
async def comfyui(aiohttp_server, key_file):
    app = routes(web.Application())
    app.router.add_route("*", "/api/prompt", secret)
    install_as_comfyui(app, api_key_file=[key_file])
    return await aiohttp_server(app)


# ---------------------------------------------------------------------------------------------------------------------
# Scopes


ALLOWED = {
    KEY: {"/view", "/run", "/both", "/any", "/unnamed", "/list/x"},
    VIEWER: {"/view", "/any"},
    RUNNER: {"/view", "/run", "/any"},
    BOTH: {"/view", "/run", "/both", "/any"},
    SCRAPER: {"/any"},
}


async def test_each_key_may_do_what_its_scope_covers(server):
    for key, allowed in ALLOWED.items():
        for path in ALLOWED[KEY]:
            for method in ("GET", "HEAD"):
                for headers in (bearer(key), basic(key), {"X-API-Key": key}, {"Cookie": await log_in(server, key)}):
                    reply = await fetch(server, path, headers, method=method)
                    assert reply.status == (200 if path in allowed else 403), (key, path)
                    assert (SECRET in reply.text) == (path in allowed and method == "GET")


@pytest.mark.parametrize(
    ("key", "path", "needed", "message"),
    [
        (VIEWER, "/run", "run", 'The API key "the wall = 3" may only view: its scope is view, and this needs run.'),
        (
            RUNNER,
            "/both",
            "run nodes",
            'The API key "bot" may not do this: its scope is run, and this needs run,nodes.',
        ),
        (BOTH, "/unnamed", "all", 'The API key "alice" may not do this: its scope is run,nodes, and this needs all.'),
        (
            SCRAPER,
            "/view",
            "view",
            'The API key "prometheus" may not do this: its scope is metrics, and this needs view.',
        ),
    ],
)
@pytest.mark.parametrize("accept", [{}, BROWSER], ids=["a program", "a browser"])
async def test_a_refusal_says_what_is_missing(server, key, path, needed, message, accept):
    """A browser isn't sent to the login page: it is already logged in."""
    told = (f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"',)
    for headers in (bearer(key), basic(key), {"Cookie": await log_in(server, key)}):
        reply = await fetch(server, path, {**headers, **accept})
        assert reply.status == 403
        assert reply.json == {"error": "insufficient_scope", "cause": "insufficient_scope", "message": message}
        assert tuple(CIMultiDict(reply.headers).getall("WWW-Authenticate")) == told, "and nobody is asked for Basic"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "Location" not in reply.headers


async def test_a_key_without_a_label_is_named_by_its_id(server):
    key_id = (await fetch(server, "/who", bearer(NAMELESS))).json["key_id"]
    message = (await fetch(server, "/run", bearer(NAMELESS))).json["message"]
    assert message == f"The API key {key_id} may only view: its scope is view, and this needs run."


async def test_a_refusal_is_no_guess(server):
    for _ in range(30):
        assert (await fetch(server, "/run", bearer(VIEWER))).status == 403
    assert (await fetch(server, "/view", bearer(VIEWER))).status == 200


async def test_another_key_beside_it_that_may_is_enough(server):
    for headers in ({**bearer(VIEWER), "X-API-Key": RUNNER}, {**bearer(RUNNER), "X-API-Key": VIEWER}):
        assert (await fetch(server, "/run", headers)).status == 200
    assert (await fetch(server, f"/run?api_key={RUNNER}", bearer(VIEWER))).status == 200


async def test_what_needs_no_key_needs_no_scope(server):
    for path in ("/health", "/auth_login.html"):
        assert (await fetch(server, path, bearer(SCRAPER))).status == 200


async def test_our_own_routes_are_for_every_key(server):
    for key in ALLOWED:
        assert (await fetch(server, "/auth_session", bearer(key))).status == 200
        assert (await fetch(server, "/auth_verify", bearer(key))).status == 204
        cookie = {"Cookie": await log_in(server, key), "Sec-Fetch-Site": "same-origin"}
        assert (await fetch(server, "/auth_session", cookie, method="DELETE")).status == 204
        assert (await fetch(server, "/any", cookie)).status == 401


# ---------------------------------------------------------------------------------------------------------------------
# POST /prompt, whose answer ComfyUI's page reads


@pytest.mark.parametrize("path", ["/prompt", "/api/prompt"])
async def test_a_refused_prompt_has_comfyuis_own_form(comfyui, path):
    for headers, status, cause in (
        ({}, 401, "missing_credential"),
        (bearer(WRONG_KEY), 401, "invalid_credential"),
        (bearer(ELSEWHERE), 403, "address"),
        (bearer(VIEWER), 403, "insufficient_scope"),
    ):
        reply = await fetch(comfyui, path, {**headers, **JSON}, method="POST", body=b"{}")
        assert (reply.status, reply.json["cause"]) == (status, cause)
        message, error = reply.json["message"], "unauthorized" if status == 401 else reply.json["error"]["type"]
        what, _, why = message.partition(": ")
        assert reply.json == {
            "error": {"type": error, "message": what.rstrip("."), "details": why or cause, "extra_info": {}},
            "node_errors": {},
            "cause": cause,
            "message": message,
        }
        assert error in ("unauthorized", "forbidden", "insufficient_scope")
        assert (status == 403) == (error != "unauthorized")
    assert (await fetch(comfyui, path, bearer(RUNNER), method="POST", body=b"")).text == SECRET


async def test_everything_else_has_the_plain_one(comfyui, server):
    for headers, error in ((bearer(SCRAPER), "insufficient_scope"), (bearer(ELSEWHERE), "forbidden")):
        for where, method in ((comfyui, "GET"), (comfyui, "PUT"), (server, "GET"), (server, "POST")):
            reply = await fetch(where, "/prompt", headers, method=method)
            assert (reply.status, reply.json["error"]) == (403, error)
            assert reply.json.keys() == {"error", "cause", "message"}


async def test_in_comfyui_a_route_that_nobody_knows_is_for_its_owner(comfyui):
    for key in (VIEWER, RUNNER, SCRAPER):
        reply = await fetch(comfyui, "/unnamed", bearer(key))
        assert (reply.status, reply.json["cause"]) == (403, "insufficient_scope")
        assert reply.headers["WWW-Authenticate"].endswith('scope="all"')
    assert (await fetch(comfyui, "/unnamed", bearer(KEY))).text == SECRET


# ---------------------------------------------------------------------------------------------------------------------
# Who is told what


#: What only an owner is told.
OF_OWNER = {
    "displaced_middlewares": [],
    "state": {"kind": "memory", "place": "memory", "fault": None, "away_since": None, "nodes": 1},
}


def introduction(**told):
    limits = {"prompts": None, "queued": None}
    return {"label": None, "user": None, "expires": None, "source": "bearer", "limits": limits, **told}


async def test_a_client_is_told_who_it_is(server):
    until = "2199-02-01T00:00:00Z"
    for key, told in {
        KEY: introduction(label="owner", scope="all", **OF_OWNER),
        VIEWER: introduction(label="the wall = 3", scope="view"),
        RUNNER: introduction(label="bot", scope="run", user="Bob-1"),
        BOTH: introduction(label="alice", scope="run nodes", user="alice"),
        SCRAPER: introduction(label="prometheus", scope="metrics"),
        NAMELESS: introduction(scope="view"),
        LATER: introduction(label="guest", scope="all", expires=until, **OF_OWNER),
    }.items():
        assert (await fetch(server, "/auth_session", bearer(key))).json == told
        cookie = {"Cookie": await log_in(server, key)}
        assert (await fetch(server, "/auth_session", cookie)).json == {**told, "source": "cookie"}


async def test_a_key_that_ends_with_the_last_year_is_told_when(aiohttp_server, tmp_path):
    app = web.Application()
    setup(app, api_key_file=write(tmp_path / "keys.txt", f"{LATER} guest expires=9999-12-31"))
    reply = await fetch(await aiohttp_server(app), "/auth_session", bearer(LATER))
    assert (reply.status, reply.json["expires"]) == (200, "9999-12-31T23:59:59Z")


async def test_a_handler_is_told_who_it_is(server):
    told = (await fetch(server, "/who", bearer(RUNNER))).json
    assert {name: told[name] for name in ("label", "user", "scopes", "expires", "subject")} == {
        "label": "bot", "user": "Bob-1", "scopes": ["run"], "expires": None, "subject": "bob-1",
    }  # fmt: skip
    told = (await fetch(server, "/who", bearer(LATER))).json
    assert told["expires"] == datetime(2199, 2, 1, tzinfo=timezone.utc).timestamp()
    assert (told["user"], told["scopes"], told["subject"]) == (None, ["all"], told["key_id"])


async def test_where_it_may_not_go_a_key_is_nobody(aiohttp_server, key_file):
    app = routes(web.Application())
    setup(app, api_key_file=key_file, exempt="/who", scopes={"/view": "view"})
    server = await aiohttp_server(app)
    for key, label in ((KEY, "owner"), (VIEWER, None), (ELSEWHERE, None)):
        told = (await fetch(server, "/who", bearer(key))).json
        assert (told and told["label"]) == label


async def test_a_proxy_asks_for_a_scope(server):
    for key, allowed in {
        KEY: {"view", "run", "nodes", "metrics", "all"},
        VIEWER: {"view"},
        RUNNER: {"view", "run"},
        BOTH: {"view", "run", "nodes"},
        SCRAPER: {"metrics"},
    }.items():
        for word in ("view", "run", "nodes", "metrics", "all", "", "View", "read", "view,run", "view%20run"):
            reply = await fetch(server, f"/auth_verify?scope={word}", bearer(key))
            assert reply.status == (204 if word in allowed else 403), (key, word)
            assert "Location" not in reply.headers
        for query in ("scope=view&scope=view", f"scope=view&scope={'all'}&x=1", "scope=view&scop%65=view"):
            assert (await fetch(server, f"/auth_verify?{query}", bearer(key))).status == 403
        assert (await fetch(server, "/auth_verify", bearer(key))).status == 204
    for headers, status in (({}, 401), (bearer(WRONG_KEY), 401), (bearer(ELSEWHERE), 403)):
        for query in ("", "?scope=view", "?scope=nonsense"):
            assert (await fetch(server, f"/auth_verify{query}", headers)).status == status


WHO = ("X-Auth-Key-Label", "X-Auth-User", "X-Auth-Scope", "X-Auth-Subject")


async def test_a_proxy_is_told_who_it_is(server):
    for key, told in {
        RUNNER: ("bot", "Bob-1", "run", "bob-1"),
        BOTH: ("alice", "alice", "run nodes", "alice"),
        KEY: ("owner", "", "all", (await fetch(server, "/who", bearer(KEY))).json["key_id"]),
    }.items():
        reply = await fetch(server, "/auth_verify?scope=run", bearer(key))
        assert tuple(reply.headers[name] for name in WHO) == told
    reply = await fetch(server, "/auth_verify?scope=run", bearer(VIEWER))
    assert [reply.headers[name] for name in WHO] == [""] * 4


# ---------------------------------------------------------------------------------------------------------------------
# Addresses


async def test_a_key_is_good_from_its_addresses_alone(server):
    for accept in ({}, BROWSER):
        reply = await fetch(server, "/view", {**bearer(ELSEWHERE), **accept})
        assert (reply.status, reply.json["error"], reply.json["cause"]) == (403, "forbidden", "address")
        assert reply.json["message"] == "The API key may not be used from this address."
        assert not {"WWW-Authenticate", "Location"} & reply.headers.keys()
    assert (await fetch(server, "/both", bearer(BOTH), source="127.0.0.9")).status == 200
    forged = dict.fromkeys(("X-Forwarded-For", "X-Real-IP"), "192.0.2.1")
    assert (await fetch(server, "/view", {**bearer(ELSEWHERE), **forged})).status == 403


async def test_nobody_logs_in_with_it_from_elsewhere(server):
    reply = await fetch(server, "/auth_session", bearer(ELSEWHERE), method="POST", body=b"")
    assert (reply.status, reply.json["cause"]) == (403, "address")
    reply = await fetch(server, "/auth_session", FORM, method="POST", body=f"api_key={ELSEWHERE}".encode())
    assert (reply.status, reply.json["cause"]) == (403, "address")
    assert "Set-Cookie" not in reply.headers


async def test_behind_a_proxy_the_clients_address_counts(aiohttp_server, key_file):
    app = routes(web.Application())
    setup(app, api_key_file=key_file, trusted_proxy="127.0.0.1")
    server = await aiohttp_server(app)

    async def status(key, *told):
        headers = [*bearer(key).items(), *(("X-Forwarded-For", value) for value in told)]
        return (await fetch(server, "/view", headers)).status

    assert await status(ELSEWHERE, "192.0.2.1") == 200
    assert await status(ELSEWHERE, "203.0.113.1, 192.0.2.1") == 200
    assert await status(ELSEWHERE, "192.0.2.1, 203.0.113.1") == 403
    # If the client's address is unknown, the proxy's own address doesn't count instead.
    near = write(key_file, f"{KEY} near from=127.0.0.1")
    await asyncio.sleep(A_WHILE)
    assert near == key_file
    for told in ((), ("unknown",), ("192.0.2.1, unknown",), ("",)):
        assert await status(KEY, *told) == 403, told


# ---------------------------------------------------------------------------------------------------------------------
# The end of a key


def moment(unix):
    return datetime.fromtimestamp(unix, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


async def in_flight(server, key, path="/stream"):
    """Starts a request whose answer never ends by itself, and returns its reader and writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON)
    assert b" 200 " in head.partition(b"\r\n")[0]
    return reader, writer


async def end_of(reader):
    """Waits until the server ends it, and returns the time."""
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass
    return time.time()


async def close_of(socket):
    """Waits until a WebSocket is closed, and returns the code and the time."""
    message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
    return socket.close_code, time.time()


async def is_alive(socket):
    await socket.send_str("hello")
    return await socket.receive_str(timeout=SOON) == "hello"


@pytest.mark.slow
async def test_what_a_key_has_open_ends_with_it(server, client, key_file):
    """Even if no request comes in."""
    end = int(time.time()) + 3
    write(key_file, f"{KEY} owner", f"{RUNNER} bot scope=run expires={moment(end)}")
    await asyncio.sleep(A_WHILE)
    session = {"Cookie": await log_in(server, RUNNER), "Origin": str(server.make_url("")).rstrip("/")}
    gone = [await client.ws_connect("/ws", headers=headers) for headers in (bearer(RUNNER), session)]
    stays = await client.ws_connect("/ws", headers=bearer(KEY))
    (reader, writer), (other, another) = await in_flight(server, RUNNER), await in_flight(server, KEY)
    assert time.time() < end, "this machine is too slow for the test"
    ended = await asyncio.wait_for(asyncio.gather(end_of(reader), *map(close_of, gone)), 3 + SOON)
    aborted, closed = ended[0], ended[1:]
    assert [code for code, _ in closed] == [1008, 1008]
    for at in (aborted, *(at for _, at in closed)):
        assert end <= at < end + SOON, at - end
    print("after", [round(at - end, 2) for at in (aborted, *(at for _, at in closed))])  # shown by pytest -s
    for headers in (bearer(RUNNER), session):
        reply = await fetch(server, "/run", headers)
        assert reply.status == 401
    assert (
        (await fetch(server, "/run", bearer(RUNNER)))
        .headers["WWW-Authenticate"]
        .startswith(f'{CHALLENGE}, error="invalid_token"')
    ), "an expired key is an unknown key"
    assert await is_alive(stays)
    assert await asyncio.wait_for(other.read(4), SOON)
    writer.close()
    another.close()


@pytest.mark.slow
async def test_what_a_key_has_open_ends_though_nobody_could_look_when_it_ended(server, key_file):
    end = int(time.time()) + 3
    write(key_file, f"{RUNNER} bot scope=run expires={moment(end)}")
    await asyncio.sleep(end - 1 - time.time())
    reader, writer = await in_flight(server, RUNNER)
    assert time.time() < end, "this machine is too slow for the test"
    time.sleep(2.5)  # a handler blocks the event loop
    await asyncio.wait_for(end_of(reader), SOON)
    writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("attributes", ["scope=metrics", "from=192.0.2.0/24", "expires=2001-01-01"])
async def test_what_a_key_has_open_ends_when_its_line_no_longer_allows_it(server, client, key_file, attributes):
    gone = await client.ws_connect("/ws", headers=bearer(KEY))
    stays = await client.ws_connect("/ws", headers=bearer(RUNNER))
    reader, writer = await in_flight(server, KEY)
    await asyncio.sleep(A_WHILE)
    write(key_file, f"{KEY} owner {attributes}", f"{RUNNER} bot scope=run")
    changed = time.time()
    (code, closed), aborted = await asyncio.wait_for(asyncio.gather(close_of(gone), end_of(reader)), SOON)
    print("after", round(closed - changed, 2), round(aborted - changed, 2))  # shown by pytest -s
    assert code == 1008
    assert await is_alive(stays)
    writer.close()


@pytest.mark.slow
async def test_only_what_the_scope_no_longer_covers_ends(server, client, key_file):
    looks = await client.ws_connect("/ws", headers=bearer(KEY))
    reader, writer = await in_flight(server, KEY)
    await asyncio.sleep(A_WHILE)
    write(key_file, f"{KEY} owner scope=view")
    await asyncio.wait_for(end_of(reader), SOON)
    await asyncio.sleep(A_WHILE)
    assert await is_alive(looks)
    assert not [r for r in requests_in_flight(asyncio.get_running_loop()) if r.path == "/stream" and r.transport]
    writer.close()


@pytest.mark.slow
async def test_in_comfyui_too(comfyui, aiohttp_client, key_file):
    client = await aiohttp_client(comfyui)
    gone = await client.ws_connect("/ws", headers=bearer(KEY))
    stays = await client.ws_connect("/ws", headers=bearer(VIEWER))
    reader, writer = await in_flight(comfyui, KEY)
    await asyncio.sleep(A_WHILE)
    write(key_file, f"{KEY} owner scope=metrics", f"{VIEWER} scope=view")
    (code, _), _ = await asyncio.wait_for(asyncio.gather(close_of(gone), end_of(reader)), SOON)
    assert code == 1008
    assert await is_alive(stays)
    writer.close()


@pytest.mark.slow
async def test_a_file_whose_keys_have_all_expired_admits_nobody(aiohttp_server, tmp_path):
    path = write(
        tmp_path / "keys.txt", f"{KEY} expires=2001-01-01", f"{VIEWER} scope=view expires=2020-02-29T12:00:00Z"
    )
    keys = KeyStore(api_key_file=[path])
    [warning] = keys.warnings()
    assert str(warning).startswith(f"{path}: every key in this file has expired, so nobody gets in;")
    app = routes(web.Application())
    setup(app, keys=keys, scopes=dict.fromkeys(("/view", "/any"), ""))
    server = await aiohttp_server(app)
    for key in (KEY, VIEWER):
        for path_ in ("/view", "/any", "/auth_session", "/auth_verify"):
            reply = await fetch(server, path_, bearer(key))
            assert (reply.status, reply.json["cause"]) == (401, "invalid_credential")
    write(path, f"{KEY} expires=2001-01-01", VIEWER)
    await asyncio.sleep(A_WHILE)
    assert [(await fetch(server, "/view", bearer(key))).status for key in (KEY, VIEWER)] == [401, 200]
    assert keys.warnings() == []


# ---------------------------------------------------------------------------------------------------------------------
# The same key in two files


def test_two_files_that_contradict_each_other_start_nothing(tmp_path):
    first = write(tmp_path / "first.txt", f"{OTHER_KEY}", f"{KEY} scope=view")
    second = write(tmp_path / "second.txt", f"{KEY} scope=run")
    with pytest.raises(KeyFileError) as fault:
        setup(web.Application(), api_key_file=[first, second])
    assert str(fault.value) == (
        f"{second}:1: the same key has other attributes in {first}:2; write the same in both, or remove one"
    )
    with pytest.raises(KeyFileError, match="the same key is given without a file, so it opens everything"):
        setup(web.Application(), api_key=KEY, api_key_file=first)
    write(second, f"{KEY} another label scope=view")
    assert len(KeyStore(api_key_file=[first, second])) == 2


@pytest.fixture
async def of_two(aiohttp_server, tmp_path):
    files = [write(tmp_path / name, f"{KEY} scope=view", OTHER_KEY) for name in ("first.txt", "second.txt")]
    app = routes(web.Application())
    setup(app, api_key_file=files, scopes={"/ws": "view", "/view": "view", "/run": "run"})
    return await aiohttp_server(app), files


@pytest.mark.slow
async def test_while_it_runs_the_last_good_version_counts(of_two, caplog):
    server, (first, second) = of_two
    write(second, f"{KEY} scope=all", f"{LATER} new")
    await asyncio.sleep(A_WHILE)
    for _ in range(3):
        assert (await fetch(server, "/run", bearer(KEY))).status == 403, "a key may only do what both files allow"
        assert (await fetch(server, "/view", bearer(LATER))).status == 401
        await asyncio.sleep(A_WHILE / 2)
    said = [record.getMessage() for record in caplog.records if "other attributes" in record.getMessage()]
    assert len(said) == 1
    assert f"{second}:1: the same key has other attributes in {first}:1" in said[0]
    write(second, f"{KEY} scope=view", f"{LATER} new")
    await asyncio.sleep(A_WHILE)
    assert (await fetch(server, "/view", bearer(LATER))).status == 200


@pytest.mark.slow
async def test_a_sooner_end_counts_all_the_same(of_two, aiohttp_client):
    server, (_, second) = of_two
    client = await aiohttp_client(server)
    socket = await client.ws_connect("/ws", headers=bearer(KEY))
    await asyncio.sleep(A_WHILE)
    write(second, f"{KEY} scope=all expires=2001-01-01")
    code, _ = await asyncio.wait_for(close_of(socket), SOON)
    assert code == 1008
    assert (await fetch(server, "/view", bearer(KEY))).status == 401
    assert (await fetch(server, "/view", bearer(OTHER_KEY))).status == 200


# ---------------------------------------------------------------------------------------------------------------------
# `scopes=` in your own application


@pytest.mark.parametrize(
    ("scopes", "fault"),
    [
        ({"/x": "read"}, '"read" is not a scope; write one of: view, run, nodes, metrics, all'),
        ({"/x": "View"}, '"View" is not a scope'),
        ({"/x": ["view", "view run"]}, '"view run" is not a scope'),
        ({"x": "view"}, '"x" must begin with /'),
        ({"^/(": "view"}, '"\\^/\\(" is not a regular expression'),
    ],
)
def test_scopes_that_make_no_sense_are_a_fault_of_the_start(scopes, fault):
    with pytest.raises(ValueError, match=f"scopes: .*{fault}" if fault.startswith('"x') else fault):
        setup(web.Application(), api_key=KEY, scopes=scopes)


async def test_of_patterns_the_first_that_matches_counts(aiohttp_server, key_file):
    app = routes(web.Application())
    setup(app, api_key_file=key_file, scopes={"/list/{name}": "run", "^/(view|list/.*)": "view", "/*": "metrics"})
    server = await aiohttp_server(app)
    expected = {"/list/x": {RUNNER}, "/view": {RUNNER, VIEWER}, "/run": {SCRAPER}, "/nowhere": set()}
    for path, keys in expected.items():
        for key in (RUNNER, VIEWER, SCRAPER):
            status = (await fetch(server, path, bearer(key))).status
            assert status == (200 if key in keys else 403), (path, key)
    assert (await fetch(server, "/nowhere", bearer(KEY))).status == 404


async def test_a_function_says_what_a_request_needs(aiohttp_server, key_file):
    def needed(request: web.Request):
        return {"GET": "view", "POST": ["run", "nodes"], "PUT": ()}.get(request.method, "all")

    app = routes(web.Application())
    setup(app, api_key_file=key_file, scopes=needed)
    server = await aiohttp_server(app)
    expected = {"GET": {VIEWER, RUNNER, BOTH}, "POST": {BOTH}, "PUT": {VIEWER, RUNNER, BOTH, SCRAPER}, "DELETE": set()}
    for method, keys in expected.items():
        for key in (VIEWER, RUNNER, BOTH, SCRAPER):
            reply = await fetch(server, "/prompt", bearer(key), method=method)
            assert reply.status == (200 if key in keys else 403), (method, key)
        assert (await fetch(server, "/prompt", bearer(KEY), method=method)).status == 200
        assert (await fetch(server, "/prompt", method=method)).status == 401


def wrong_word(request):
    return "read"


def half_wrong(request):
    return ["view", "read"]


def nothing(request):
    return None


def numbers(request):
    return [1]


def failing(request):
    raise RuntimeError("the table is not there")


async def asynchronous(request):
    return "view"


@pytest.mark.filterwarnings("ignore:coroutine 'asynchronous' was never awaited")
@pytest.mark.parametrize("needed", [wrong_word, half_wrong, nothing, numbers, failing, asynchronous])
async def test_a_function_that_fails_admits_nobody(aiohttp_server, key_file, needed, caplog):
    caplog.set_level(logging.ERROR)
    app = routes(web.Application())
    setup(app, api_key_file=key_file, scopes=needed)
    server = await aiohttp_server(app)
    for key in (VIEWER, RUNNER, BOTH, SCRAPER):
        for path in ("/prompt", "/view", "/ws"):
            reply = await fetch(server, path, bearer(key))
            assert reply.status == 500
            assert SECRET not in reply.text
    assert (await fetch(server, "/view", bearer(WRONG_KEY))).status == 401
    assert (await fetch(server, "/auth_session", bearer(VIEWER))).status == 200, "our own routes don't ask it"
    assert CANARY not in caplog.text


async def test_the_middleware_alone_asks_too(aiohttp_server, key_file):
    middleware = comfy_auth_rs.create_auth_middleware(api_key_file=key_file, scopes={"/view": "view"})
    server = await aiohttp_server(routes(web.Application(middlewares=[middleware])))
    for path, status in (("/view", 200), ("/run", 403)):
        reply: Answer = await fetch(server, path, bearer(VIEWER))
        assert reply.status == status


async def test_a_file_is_judged_by_what_is_served(aiohttp_server, key_file, tmp_path):
    folder = tmp_path / "files"
    for name in ("public", "private"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.txt").write_text(name)
    app = web.Application()
    app.router.add_static("/files", folder)
    scopes = {"/files/public/*": "view", "/files/private/x.txt": "run", "/files/*": "view"}
    setup(app, api_key_file=key_file, scopes=scopes)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/files/public/x.txt", bearer(VIEWER))).text == "public"
    assert (await fetch(server, "/files/private/x.txt", bearer(RUNNER))).text == "private"
    spellings = (
        "private/x.txt",
        "public/%2e%2e/private/x.txt",
        "private//x.txt",
        "%2e/private/x.txt",
        "private/x.txt/",
    )
    for spelling in spellings:
        reply = await fetch(server, f"/files/{spelling}", bearer(VIEWER))
        assert reply.status == 403, spelling


async def test_what_is_known_of_a_route_keeps_no_application_alive(key_file):
    class Kept:
        def __init__(self, app):
            self.app = app

        async def answer(self, request):
            return web.Response()

    async def serve():
        app = web.Application()
        app.router.add_get("/view", Kept(app).answer)
        setup(app, api_key_file=key_file, scopes={"/view": "view"})
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/view", headers=bearer(VIEWER))).status == 200
        return weakref.ref(app)

    app = await serve()
    await asyncio.sleep(A_WHILE)  # until the last look is over
    if (cached := getattr(web_app, "_cached_build_middleware", None)) is not None:
        cached.cache_clear()  # aiohttp's own cache
    gc.collect()
    assert app() is None
