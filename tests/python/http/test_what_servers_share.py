"""Two servers that tell each other what they know: what ends on one ends on the other."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web
from comfy_auth_rs import KeyStore, setup
from comfy_auth_rs._core import describe, key_file_entries, revocation_record
from support.apps import echo_socket, secret
from support.client import BEARER, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY

SOON = 5


class Here:
    """A server, and what it shares."""

    def __init__(self, server, middleware):
        self.server, self.middleware, self.shared = server, middleware, middleware.shared

    async def browser(self, cookie):
        """What a browser sends with this session to this server's port."""
        name, value = cookie.split("=")
        assert name.startswith("comfyui_session_")
        return {
            "Cookie": f"comfyui_session_{self.server.port}={value}",
            "Origin": f"http://127.0.0.1:{self.server.port}",
        }

    def learn_from(self, other):
        """Learns all that the other server knows. Returns the kinds of records that were new."""
        _, records = other.shared.all()
        return {describe(record)["kind"] for record in records if self.shared.merge([record])} - {"node"}


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"more")
        await asyncio.sleep(0.05)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEY} alice user=alice prompts=2/h\n{OTHER_KEY} bob\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def start(aiohttp_server, key_file):
    async def start(**given):
        app = web.Application()
        app.router.add_route("*", "/prompt", secret)
        app.router.add_get("/ws", echo_socket)
        app.router.add_get("/stream", stream)
        middleware = setup(app, **{"api_key_file": key_file, **given})
        return Here(await aiohttp_server(app), middleware)

    return start


@pytest.fixture
async def pair(start):
    return await start(), await start()


async def end_of(reader):
    """Checks that a response breaks off within the promised time, with some tolerance."""
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), SOON)
    return True


@asynccontextmanager
async def streaming(server, headers):
    """Yields a reader for the rest of a response that never ends by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{head}\r\n".encode())
    assert b" 200 " in await asyncio.wait_for(reader.readline(), SOON)
    yield reader
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_session_that_is_logged_out_here_ends_there(pair):
    here, there = pair
    cookie, other = await log_in(here.server), await log_in(here.server)
    for one in pair:
        assert (await fetch(one.server, headers=await one.browser(cookie))).status == 200
    reply = await fetch(here.server, "/auth_session", await here.browser(cookie), method="DELETE")
    assert reply.status == 204
    assert (await fetch(there.server, headers=await there.browser(cookie))).status == 200  # nobody has told it yet
    assert there.learn_from(here) == {"log_out"}
    for one in pair:
        assert (await fetch(one.server, headers=await one.browser(cookie))).status == 401
        assert (await fetch(one.server, headers=await one.browser(other))).status == 200


async def test_a_log_out_counts_though_another_application_looks_at_the_same_keys(start, key_file):
    keys = KeyStore(api_key_file=[key_file])
    here, there, beside = [await start(keys=keys, api_key_file=()) for _ in range(3)]
    cookie = await log_in(here.server)
    await fetch(here.server, "/auth_session", await here.browser(cookie), method="DELETE")
    assert there.learn_from(here) == {"log_out"}
    await fetch(beside.server)
    assert (await fetch(there.server, headers=await there.browser(cookie))).status == 401


@pytest.mark.slow
async def test_what_the_session_has_in_flight_there_ends_too(pair, aiohttp_client):
    """Even a request so new that the server hasn't looked at its open requests since."""
    here, there = pair
    cookie, other = await log_in(here.server), await log_in(here.server)
    client = await aiohttp_client(there.server)
    socket = await client.ws_connect("/ws", headers=await there.browser(cookie))
    await fetch(here.server, "/auth_session", await here.browser(cookie), method="DELETE")
    async with (
        streaming(there.server, await there.browser(cookie)) as young,
        streaming(there.server, await there.browser(other)) as goes_on,
    ):
        there.learn_from(here)
        assert (await socket.receive(timeout=SOON)).data == 1008
        assert await end_of(young)
        assert await asyncio.wait_for(goes_on.readexactly(1000), SOON)


@pytest.mark.slow
async def test_a_key_that_is_revoked_is_unknown_and_what_it_has_in_flight_ends(pair, aiohttp_client, key_file):
    here, there = pair
    alice, _ = [entry.id for entry in key_file_entries("keys", key_file.read_bytes())[0]]
    cookie = await log_in(here.server)
    client = await aiohttp_client(here.server)
    socket = await client.ws_connect("/ws", headers=BEARER)
    async with streaming(here.server, BEARER) as young, streaming(here.server, bearer(OTHER_KEY)) as goes_on:
        assert here.shared.merge([revocation_record(key_file, alice)]) == 1
        assert (await fetch(here.server, headers=BEARER)).json["cause"] == "invalid_credential"
        assert (await fetch(here.server, headers=await here.browser(cookie))).status == 401
        assert (await fetch(here.server, headers=bearer(OTHER_KEY))).status == 200
        assert (await socket.receive(timeout=SOON)).data == 1008
        assert await end_of(young)
        assert await asyncio.wait_for(goes_on.readexactly(1000), SOON)
    assert (await fetch(there.server, headers=BEARER)).status == 200
    assert there.learn_from(here) == {"revocation"}
    assert (await fetch(there.server, headers=BEARER)).status == 401


def forwarded(address, key):
    return {"X-Forwarded-For": address, **bearer(key)}


async def test_an_address_that_is_locked_here_is_locked_there(start):
    here, there = await start(trusted_proxy="127.0.0.1"), await start(trusted_proxy="127.0.0.1")
    for number in range(10):
        assert (await fetch(here.server, headers=forwarded("203.0.113.7", f"wrong-{number}"))).status == 401
    assert there.learn_from(here) == {"lock"}
    for number in range(10):  # ten keys are evaluated during a lock
        reply = await fetch(there.server, headers=forwarded("203.0.113.7", f"wrong-{number}"))
        assert (reply.status, reply.json["cause"]) == (429, "locked")
        assert 50 <= int(reply.headers["Retry-After"]) <= 61
    for one in (here, there):
        assert (await fetch(one.server, headers=forwarded("203.0.113.8", KEY))).status == 200
    assert (await fetch(there.server, headers=forwarded("203.0.113.7", KEY))).status == 429


@pytest.mark.parametrize(
    ("proxy", "client", "is_told"),
    [
        ("127.0.0.1", "203.0.113.7", True),
        ("127.0.0.1", "10.1.2.3", True),  # the proxy vouches for it
        ("127.0.0.1", "127.0.0.9", False),
        ("127.0.0.1", "169.254.1.1", False),
        ("127.0.0.1", "unknown", False),  # the proxy itself
        ("192.0.2.1", "203.0.113.7", False),  # nobody vouches for it
    ],
)
async def test_locks_that_would_lock_out_others_elsewhere_stay(start, proxy, client, is_told):
    here = await start(trusted_proxy=proxy)
    for number in range(10):
        assert (await fetch(here.server, headers=forwarded(client, f"wrong-{number}"))).status == 401
    assert (await fetch(here.server, headers=forwarded(client, "wrong"))).status == 429
    kinds = [describe(record)["kind"] for record in here.shared.all()[1]]
    assert kinds == (["lock", "node"] if is_told else ["node"])
    assert here.shared.version == int(is_told)


async def test_prompts_that_are_queued_here_count_there(pair):
    here, there = pair

    def queueing(one):
        async def ask(request, handler, asker):
            one.middleware.ledger.queued("some", asker)
            asker.give_back()
            return await handler(request)

        one.middleware.ask_with(ask)

    for one in pair:
        queueing(one)
    called = threading.Event()
    here.shared.wake(called.set)
    called.clear()
    assert (await fetch(here.server, headers=BEARER, method="POST")).status == 200
    assert called.is_set()
    assert there.learn_from(here) == {"prompt"}
    assert (await fetch(there.server, headers=BEARER, method="POST")).status == 200
    assert (await fetch(there.server, headers=BEARER, method="POST")).json["cause"] == "quota"
    assert here.learn_from(there) == {"prompt"}
    assert (await fetch(here.server, headers=BEARER, method="POST")).status == 429
    assert (await fetch(here.server, headers=bearer(OTHER_KEY), method="POST")).status == 200


async def test_only_what_is_to_be_told_calls_back(pair):
    here, _ = pair
    called = threading.Event()
    here.shared.wake(called.set)
    called.clear()
    cookie = await log_in(here.server)
    headers = await here.browser(cookie)
    for _ in range(3):
        assert (await fetch(here.server, headers=headers)).status == 200
        assert (await fetch(here.server, headers=bearer("wrong"))).status == 401
    assert not called.is_set()
    assert (await fetch(here.server, "/auth_session", headers, method="DELETE")).status == 204
    assert called.is_set()
    version, records = here.shared.changes(0)
    assert (version, here.shared.version) == (1, 1)
    assert [describe(record)["kind"] for record in records] == ["log_out"]


async def test_a_new_version_of_a_key_file_calls_back(pair, key_file):
    """The store may know something about a key that is new here."""
    here, _ = pair
    await fetch(here.server)
    called = threading.Event()
    here.shared.wake(called.set)
    called.clear()
    key_file.write_text(f"{OTHER_KEY} bob\n")
    for _ in range(100):
        await fetch(here.server)
        if called.is_set():
            break
        await asyncio.sleep(0.05)
    assert called.is_set()
    assert here.shared.keys_loaded == 1
