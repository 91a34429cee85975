"""WebSockets of your own application: a client that doesn't read delays nobody; one that reads gets everything."""

from __future__ import annotations

import asyncio
import socket
import time

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import setup
from comfy_auth_rs.sockets import MOST_UNSENT, MOST_UNSENT_TO_STRANGERS
from support.client import BEARER

#: These tests wait for timers.
pytestmark = pytest.mark.slow

CHUNK = bytes(256 * 1024)

#: Less than it would take if the server waited for a client that doesn't read.
SOON = 20


class Told(web.WebSocketResponse):
    """An application may use its own class."""


@pytest.fixture
async def server(aiohttp_server):
    app = web.Application()
    open_ones = app[SOCKETS] = []

    async def listen(request):
        response = Told()
        await response.prepare(request)
        open_ones.append(response)
        async for _ in response:
            pass
        return response

    async def stream(request):
        response = web.WebSocketResponse()
        await response.prepare(request)
        for _ in range(int(request.query["count"])):
            await response.send_bytes(CHUNK)
        return response

    for prefix in ("", "/open"):
        app.router.add_get(f"{prefix}/listen", listen)
        app.router.add_get(f"{prefix}/stream", stream)
    setup(app, api_key=BEARER["Authorization"].split()[1], exempt="/open/*")
    return await aiohttp_server(app)


SOCKETS = web.AppKey("sockets", list)


@pytest.fixture
async def session(server):
    async with aiohttp.ClientSession(server.make_url("/")) as session:
        yield session


async def deaf(server, target, headers):
    """A client that reads the handshake and nothing more."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", server.port))
    fields = {"Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    await loop.sock_sendall(connection, f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
    assert (await loop.sock_recv(connection, 12)).endswith(b"101")
    return connection


@pytest.mark.parametrize(
    ("prefix", "headers", "most"), [("", BEARER, MOST_UNSENT), ("/open", {}, MOST_UNSENT_TO_STRANGERS)]
)
async def test_who_does_not_read_delays_nobody_for_long(server, session, prefix, headers, most):
    connection = await deaf(server, f"{prefix}/listen", headers)
    listener = await session.ws_connect("/listen", headers=BEARER, max_msg_size=0)
    while len(server.app[SOCKETS]) < 2:
        await asyncio.sleep(0.01)
    count = 2 * most // len(CHUNK) + 64  # the system buffers some of it, too
    heard = asyncio.create_task(hear(listener, count))
    started = time.monotonic()
    gone = 0
    for _ in range(count):
        for response in server.app[SOCKETS]:
            try:
                await response.send_bytes(CHUNK)
            except ConnectionError:
                gone += 1
    assert await asyncio.wait_for(heard, SOON) == count
    assert time.monotonic() - started < SOON
    assert gone > 0
    connection.close()


async def hear(listener, count):
    heard = 0
    async for message in listener:
        heard += len(message.data) == len(CHUNK)
        if heard == count:
            break
    return heard


@pytest.mark.parametrize(("prefix", "headers"), [("", BEARER), ("/open", {})])
async def test_a_stream_is_slowed_down_for_who_reads_slowly(session, prefix, headers):
    count = 3 * MOST_UNSENT // len(CHUNK)
    stream = await session.ws_connect(f"{prefix}/stream?count={count}", headers=headers, max_msg_size=0)
    for number in range(count):
        if number % 32 == 0:
            await asyncio.sleep(0.05)
        message = await stream.receive(timeout=SOON)
        assert len(message.data) == len(CHUNK), number
    assert (await stream.receive(timeout=SOON)).type is aiohttp.WSMsgType.CLOSE
