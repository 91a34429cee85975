"""Clients of `/ws` that misbehave, and a node that makes ComfyUI send what a test wants."""

from __future__ import annotations

import asyncio
import socket
import struct

from support.servers import Server

from hostile.websockets import UPGRADE, upgrade

#: `POST /test/send` sends `count` messages of the type `event` to `sid` or to everybody, each `size` bytes longer. If
#: `event` is a number, the messages are binary. `GET /test/flags` returns what ComfyUI knows of its clients. Both need
#: the key.
NODE = """
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
routes = PromptServer.instance.routes

@routes.post("/test/send")
async def send(request):
    asked = await request.json()
    filling = bytes(asked["size"]) if isinstance(asked["event"], int) else {"filling": "x" * asked["size"]}
    for number in range(asked["count"]):
        data = filling if isinstance(filling, bytes) else {**filling, "number": number}
        PromptServer.instance.send_sync(asked["event"], data, asked["sid"])
    return web.Response()

@routes.get("/test/flags")
async def flags(request):
    return web.json_response(PromptServer.instance.sockets_metadata)
"""

TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


def frame(payload: bytes, first: int = TEXT) -> bytes:
    """One frame from a client, with a mask of zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    return bytes([first]) + length + bytes(4) + payload


class Raw:
    """A connection that reads only when it is told to."""

    def __init__(self, server: Server, target: str = "/ws", *fields: str, after: bytes = b"", buffer: int = 0) -> None:
        self._server, self._after, self._buffer = server, after, buffer
        self._handshake = upgrade(target, *UPGRADE, *fields).replace(b"@HOST@", f"127.0.0.1:{server.port}".encode())

    async def __aenter__(self) -> Raw:
        connection = socket.socket()
        if self._buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._server.port))
        # With this limit, the reader soon stops reading on its own.
        self.reader, self.writer = await asyncio.open_connection(sock=connection, limit=512)
        self.writer.write(self._handshake + self._after)
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    async def message(self) -> tuple[int, bytes]:
        """Reads a frame. Returns its first byte and its payload."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
        return first, await self.reader.readexactly(length)

    async def close_code(self) -> int | None:
        """Reads until the end. Returns the close code, or `None` if the connection was aborted."""
        try:
            while True:
                first, payload = await self.message()
                if first == CLOSE:
                    return struct.unpack(">H", payload[:2])[0] if payload else None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
