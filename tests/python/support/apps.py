"""Small protected applications in this process, and HTTP to talk to them with as it stands."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web
from multidict import CIMultiDict

KEY = "canary-right-key-of-at-least-32-characters"
OTHER_KEY = "canary-another-right-key-of-32-characters"
BEARER = {"Authorization": f"Bearer {KEY}"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

#: What a route that needs the key answers: it must never reach a client without one.
SECRET = "the secret"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(password: str, user: str = "any") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def secret(request: web.Request) -> web.Response:
    return web.Response(text=SECRET)


def secret_app(*middlewares: Any) -> web.Application:
    """Every method of `/prompt` answers with the secret."""
    app = web.Application(middlewares=middlewares)
    app.router.add_route("*", "/prompt", secret)
    return app


class Server(Protocol):
    """Something that listens on 127.0.0.1: aiohttp's `TestServer`, or a process."""

    @property
    def port(self) -> int | None: ...


@dataclass(frozen=True)
class Reply:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def location(self) -> str:
        return self.headers["Location"]


class Connection:
    """One connection: requests go out verbatim, replies are read one by one."""

    def __init__(self, server: Server, source: str | None = None) -> None:
        self._server = server
        self._source = source

    async def __aenter__(self) -> Connection:
        source = None if self._source is None else (self._source, 0)
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port, local_addr=source)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def request(
        self, target: str, headers: Headers = (), *, method: str = "GET", body: bytes | None = None
    ) -> Reply:
        """`headers` may repeat a name and may hold any bytes, as surrogates."""
        fields = CIMultiDict(headers)
        fields.setdefault("Host", f"127.0.0.1:{self._server.port}")
        if body is not None:
            fields.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        await self.send("\r\n".join(lines).encode(errors="surrogateescape") + (body or b""))
        return await self.reply(method)

    async def reply(self, method: str = "GET") -> Reply:
        head = (await self._read(self._reader.readuntil(b"\r\n\r\n"))).decode()
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = CIMultiDict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines)
        status = int(status_line.split(" ")[1])
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Reply(status, headers, b"")
        if "Content-Length" in headers:
            return Reply(status, headers, await self._read(self._reader.readexactly(int(headers["Content-Length"]))))
        body = b""
        while size := int(await self._read(self._reader.readline()), 16):
            body += await self._read(self._reader.readexactly(size))
            await self._read(self._reader.readline())
        await self._read(self._reader.readline())
        return Reply(status, headers, body)

    async def at_end(self) -> bool:
        """Whether the server has closed the connection, and sent nothing more before that."""
        return await self._read(self._reader.read(1)) == b""

    @staticmethod
    async def _read(reading: Any) -> Any:
        return await asyncio.wait_for(reading, 10)


async def ask(
    server: Server,
    target: str = "/prompt",
    headers: Headers = (),
    *,
    method: str = "GET",
    body: bytes | None = None,
    source: str | None = None,
) -> Reply:
    """One request on a connection of its own, from the address `source`."""
    async with Connection(server, source) as connection:
        return await connection.request(target, headers, method=method, body=body)


async def log_in(server: Server, key: str = KEY) -> str:
    """The `Cookie` field value of a new session."""
    reply = await ask(server, "/auth_session", bearer(key), method="POST", body=b"")
    assert reply.status == 204, reply
    return reply.headers["Set-Cookie"].split(";")[0]
