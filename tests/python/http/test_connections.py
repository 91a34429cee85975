"""A connection ends with the key or session that admitted it, even if no request comes in."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import KeyStore, create_auth_middleware, identity, setup
from comfy_auth_rs.aiohttp_internals import requests_in_flight
from support.apps import echo_socket
from support.client import BEARER, UPGRADE, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY

#: These tests wait for timers.
pytestmark = pytest.mark.slow

#: Longer than the promised second, because other work may share this machine.
SOON = 5

#: Time enough for two looks at the key file.
A_WHILE = 1.3

BIG = 64 * 1024 * 1024


async def deaf_socket(request):
    """Neither reads nor ends by itself."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await asyncio.sleep(3600)
    return socket


async def long_poll(request):
    await asyncio.sleep(3600)


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"more")
        await asyncio.sleep(0.05)


async def body(request):
    return web.Response(body=bytes(BIG))


async def upload(request):
    await request.content.read(BIG)
    return web.Response()


def replace(path, *keys):
    """Replaces the file in one step, as editors and deployment tools do."""
    beside = path.with_suffix(".new")
    beside.write_text("".join(f"{key}\n" for key in keys))
    beside.replace(path)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.txt"
    replace(path, KEY, OTHER_KEY)
    return path


def routes(app, folder):
    file = folder / "big"
    with file.open("wb") as written:
        written.truncate(BIG)

    async def download(request):
        return web.FileResponse(file)

    app.router.add_get("/ws", echo_socket)
    app.router.add_get("/deaf", deaf_socket)
    app.router.add_get("/open", stream)
    for path, handler in (("/poll", long_poll), ("/stream", stream), ("/file", download), ("/body", body)):
        app.router.add_get(path, handler)
    app.router.add_post("/upload", upload)
    return app


@pytest.fixture
async def client(aiohttp_client, key_file, tmp_path):
    app = routes(web.Application(), tmp_path)
    setup(app, api_key_file=key_file, exempt=["/open", "/ws"])
    return await aiohttp_client(app)


async def close_code(socket):
    """Waits until a socket is closed, and returns the code."""
    message = await socket.receive(timeout=SOON)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
    return socket.close_code


async def is_alive(socket):
    await socket.send_str("hello")
    return await socket.receive_str(timeout=SOON) == "hello"


async def browser(server):
    """Logs in, and returns what a page of this server sends with that session."""
    return {"Cookie": await log_in(server), "Origin": str(server.make_url("")).rstrip("/")}


async def log_out(server, headers):
    reply = await fetch(server, "/auth_session", headers, method="DELETE")
    assert reply.status == 204


class Pending:
    """A request in flight. Nothing of the answer is read until the server ends it."""

    def __init__(self, server, target, headers=BEARER, method="GET"):
        self._server, self._target, self._authorization = server, target, headers.get("Authorization")
        self._head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        self._head += "".join(f"{name}: {value}\r\n" for name, value in {**headers}.items()) + "\r\n"

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port, limit=1024)
        self._writer.write(self._head.encode())
        while not self._requests():
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()
        while self._requests():
            await asyncio.sleep(0.01)

    def _requests(self):
        """Only requests whose client is still there: aiohttp lets a handler that doesn't write run on."""
        return [
            request
            for request in requests_in_flight(asyncio.get_running_loop())
            if request.path == self._target
            and request.headers.get("Authorization") == self._authorization
            and request.transport is not None
        ]

    async def is_open(self):
        await asyncio.sleep(A_WHILE)
        return bool(self._requests())

    async def is_ended(self):
        """Whether the server ends it before everything was sent."""
        until = asyncio.get_running_loop().time() + SOON
        while self._requests():
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.01)
        size = 0
        with suppress(ConnectionError):
            while chunk := await asyncio.wait_for(self._reader.read(65536), SOON):
                size += len(chunk)
        return size < BIG


# ---------------------------------------------------------------------------------------------------------------------
# A key is removed


async def test_the_sockets_of_a_removed_key_are_closed(client, key_file):
    gone = [await client.ws_connect("/ws?clientId=mine", headers=BEARER), await client.ws_connect(f"/ws?token={KEY}")]
    stays = [await client.ws_connect("/ws", headers=bearer(OTHER_KEY)), await client.ws_connect("/ws")]
    replace(key_file, OTHER_KEY)
    assert [await close_code(socket) for socket in gone] == [1008, 1008]
    await asyncio.sleep(A_WHILE)
    assert all([await is_alive(socket) for socket in stays])
    async with client.ws_connect("/ws?clientId=mine") as socket:  # the clientId is free again
        assert await is_alive(socket)


async def test_a_socket_that_is_not_closed_by_its_client_or_handler_is_aborted(client, key_file):
    socket = await client.ws_connect("/deaf", headers=BEARER, autoclose=False)
    async with Pending(client.server, "/ws", BEARER | UPGRADE) as silent:
        replace(key_file, OTHER_KEY)
        assert await close_code(socket) == 1008
        assert await silent.is_ended()


@pytest.mark.parametrize("target", ["/poll", "/stream", "/file", "/body"])
async def test_whatever_else_a_removed_key_has_in_flight_is_aborted(client, key_file, target):
    async with (
        Pending(client.server, target) as gone,
        Pending(client.server, "/stream", bearer(OTHER_KEY)) as stays,
        Pending(client.server, "/open", {}) as anonymous,
    ):
        replace(key_file, OTHER_KEY)
        assert await gone.is_ended()
        assert await stays.is_open()
        assert await anonymous.is_open()


async def test_an_upload_is_aborted(client, key_file):
    headers = BEARER | {"Content-Length": str(BIG)}
    async with Pending(client.server, "/upload", headers, "POST") as upload:
        assert await upload.is_open()
        replace(key_file, OTHER_KEY)
        assert await upload.is_ended()


async def test_a_file_that_still_holds_the_key_closes_nothing(client, key_file):
    socket = await client.ws_connect("/ws", headers=BEARER)
    async with Pending(client.server, "/poll") as poll:
        replace(key_file, "another-key-0123456789-abcdefghijklmnopqrstuvwxyz", KEY)
        assert await poll.is_open()
    key_file.write_text("bad\x07line\n")
    await asyncio.sleep(A_WHILE)
    assert await is_alive(socket)


async def test_what_needs_no_key_goes_on_whatever_it_presents(client, key_file):
    async with Pending(client.server, "/open", bearer("wrong")) as anonymous:
        replace(key_file, OTHER_KEY)
        assert await anonymous.is_open()


async def test_a_request_that_a_reload_refuses_is_refused(client, key_file):
    async with Pending(client.server, "/poll"):
        replace(key_file, OTHER_KEY)
        await asyncio.sleep(A_WHILE)
        assert (await fetch(client.server, "/poll", BEARER)).status == 401


async def test_it_is_watched_again_after_the_server_was_idle(client, key_file):
    for key, left in ((KEY, OTHER_KEY), (OTHER_KEY, KEY)):
        replace(key_file, KEY, OTHER_KEY)
        await asyncio.sleep(A_WHILE)
        async with Pending(client.server, "/poll", bearer(key)) as poll:
            replace(key_file, left)
            assert await poll.is_ended()


async def test_a_busy_server_is_watched(client, key_file):
    """Other requests make the server look at the key file, too."""
    done = asyncio.Event()

    async def others():
        while not done.is_set():
            await fetch(client.server, "/health")

    busy = asyncio.create_task(others())
    for key, left in ((KEY, OTHER_KEY), (OTHER_KEY, KEY)):
        replace(key_file, KEY, OTHER_KEY)
        await asyncio.sleep(A_WHILE)
        async with Pending(client.server, "/poll", bearer(key)) as poll:
            replace(key_file, left)
            assert await poll.is_ended()
    done.set()
    await busy


# ---------------------------------------------------------------------------------------------------------------------
# A session is logged out


async def test_a_log_out_ends_what_its_session_has_open_and_nothing_else(client):
    ended, other = await browser(client.server), await browser(client.server)
    gone = await client.ws_connect("/ws", headers=ended)
    stays = [await client.ws_connect("/ws", headers=headers) for headers in (other, BEARER)]
    async with (
        Pending(client.server, "/stream", ended) as gone_too,
        Pending(client.server, "/poll", other) as stays_too,
    ):
        await log_out(client.server, ended)
        assert await close_code(gone) == 1008
        assert await gone_too.is_ended()
        assert await stays_too.is_open()
    assert all([await is_alive(socket) for socket in stays])


async def test_a_session_that_was_logged_out_before_is_not_what_admits(client):
    ended = await browser(client.server)
    await log_out(client.server, ended)
    async with Pending(client.server, "/open", ended) as anonymous:
        assert await anonymous.is_open()


# ---------------------------------------------------------------------------------------------------------------------
# The timer


def timers(loop):
    return [handle for handle in loop._scheduled if "Watch" in repr(handle) and not handle.cancelled()]


async def test_a_handler_may_ask_who_it_is_for_as_long_as_the_socket_is_open(aiohttp_client, key_file, tmp_path):
    async def asking_socket(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            await socket.send_json(identity(request) is not None)
        return socket

    app = web.Application()
    app.router.add_get("/ws", asking_socket)
    setup(app, api_key_file=key_file)
    client = await aiohttp_client(app)
    socket = await client.ws_connect("/ws?clientId=mine", headers=bearer(KEY))
    for _ in range(15):  # longer than it takes to look at the keys again
        await socket.send_str("who")
        assert await socket.receive_json()
        await asyncio.sleep(0.1)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await client.ws_connect("/ws?clientId=mine", headers=bearer(OTHER_KEY))
    replace(key_file, OTHER_KEY)
    assert (await asyncio.wait_for(socket.receive(), SOON)).data == 1008


async def test_another_server_with_the_same_key_goes_on(aiohttp_server, key_file, tmp_path):
    other_file = tmp_path / "other.txt"
    replace(other_file, KEY)
    asked = []

    async def poll(request):
        asked.append(request)
        await asyncio.sleep(2 * A_WHILE)
        return web.Response()

    servers = []
    for file in (key_file, other_file):
        app = web.Application()
        app.router.add_get("/poll", poll)
        app.router.add_get("/ws", echo_socket)
        setup(app, api_key_file=file)
        servers.append(await aiohttp_server(app))
    async with aiohttp.ClientSession(headers=bearer(KEY)) as session:
        socket = await session.ws_connect(servers[0].make_url("/ws"))
        polling = asyncio.create_task(session.get(servers[1].make_url("/poll")))
        await asyncio.sleep(0.2)
        replace(key_file, OTHER_KEY)
        assert (await asyncio.wait_for(socket.receive(), SOON)).data == 1008
        assert (await polling).status == 200
    assert len(asked) == 1


async def test_the_timer_runs_only_while_something_is_in_flight(client):
    loop = asyncio.get_running_loop()
    assert not timers(loop)
    for _ in range(3):
        socket = await client.ws_connect("/ws", headers=BEARER)
        await asyncio.sleep(A_WHILE)
        assert len(timers(loop)) == 1
        await socket.close()
        await asyncio.sleep(A_WHILE)
        assert not timers(loop)


async def test_the_middleware_alone_aborts(aiohttp_client, key_file, tmp_path):
    middleware = create_auth_middleware(api_key_file=key_file)
    client = await aiohttp_client(routes(web.Application(middlewares=[middleware]), tmp_path))
    socket = await client.ws_connect("/ws", headers=BEARER)
    async with Pending(client.server, "/stream") as gone:
        replace(key_file, OTHER_KEY)
        assert await close_code(socket) == 1006
        assert await gone.is_ended()


async def test_two_applications_with_the_same_keys(aiohttp_client, key_file, tmp_path):
    keys = KeyStore(api_key_file=[key_file])
    sockets = []
    for _ in range(2):
        app = routes(web.Application(), tmp_path)
        setup(app, keys=keys)
        client = await aiohttp_client(app)
        sockets.append(await client.ws_connect("/ws", headers=BEARER))
    replace(key_file, OTHER_KEY)
    assert [await close_code(socket) for socket in sockets] == [1008, 1008]


async def test_a_server_stops_while_sockets_are_being_closed(aiohttp_server, key_file, tmp_path):
    app = routes(web.Application(), tmp_path)
    setup(app, api_key_file=key_file)
    server = await aiohttp_server(app)
    async with aiohttp.ClientSession(server.make_url("/")) as session:
        sockets = [await session.ws_connect("/ws", headers=BEARER) for _ in range(20)]
        replace(key_file, OTHER_KEY)
        await asyncio.sleep(0.5)
        await server.close()
        assert all([await close_code(socket) for socket in sockets])
