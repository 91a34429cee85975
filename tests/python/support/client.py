"""A plain HTTP client: it sends targets verbatim, follows no redirects, and adds no header but `Host`.

`ask` blocks, for servers in another process. `fetch` and `Connection` are for servers in this event loop.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from multidict import CIMultiDict

from support.keys import KEY

CHALLENGE = 'Bearer realm="ComfyUI"'
BASIC = 'Basic realm="ComfyUI"'
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Listener(Protocol):
    """Something that listens on 127.0.0.1: aiohttp's `TestServer`, a process, or a proxy in front of one."""

    @property
    def port(self) -> int | None: ...


class Process(Listener, Protocol):
    """A listener with its origin in `url`."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True)
class Answer:
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


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


BEARER = bearer(KEY)


def basic(password: str, user: str = "any") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# --- processes --------------------------------------------------------------------------------------------------


def connect(server: Process, source: str = "127.0.0.1") -> http.client.HTTPConnection:
    """Opens a connection that accepts any certificate."""
    if server.url.startswith("https:"):
        context = ssl._create_unverified_context()
        address = (source, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=20, source_address=address, context=context
        )
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=20, source_address=(source, 0))


def ask(
    server: Process,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    source: str = "127.0.0.1",
) -> Answer:
    """Sends one request on its own connection, from the address `source`. `target` is what follows the method."""
    return exchange(connect(server, source), target, headers, method=method, body=body)


def exchange(
    connection: http.client.HTTPConnection,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> Answer:
    """Sends one request on a connection, then closes it."""
    with closing(connection):
        return _exchange(connection, target, headers, method, body)


def _exchange(
    connection: http.client.HTTPConnection,
    target: str,
    headers: Mapping[str, str] | None,
    method: str,
    body: bytes | None,
) -> Answer:
    has_host = "Host" in (headers or {})
    connection.putrequest(method, target, skip_host=has_host, skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    return Answer(response.status, CIMultiDict(response.headers.items()), response.read())


class Visitor:
    """Sends requests one after the other on one connection, as long as the server keeps it. Half the work of `ask`."""

    def __init__(self, server: Process) -> None:
        self._connection = connect(server)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        try:
            return _exchange(self._connection, target, headers, method, body)
        except ConnectionError:  # the server closed it after the last answer
            self._connection.close()
            return _exchange(self._connection, target, headers, method, body)


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """The headers, without those that depend on the time, and without the length: bodies are compared anyway."""
    skipped = {"date", "last-modified", "etag", "content-length"}
    return sorted((name.lower(), value) for name, value in answer.headers.items() if name.lower() not in skipped)


def is_refusal(answer: Answer, method: str = "GET") -> bool:
    """Whether this is the refusal that everyone without a key gets: it tells nobody whether a path exists.

    The refusal of a prompt has ComfyUI's own form, because ComfyUI's page shows what is wrong with a prompt.
    """
    headers = {name: value for name, value in headers_of(answer) if name not in ("x-route", "server")}
    expected = {
        "cache-control": "no-store",
        "www-authenticate": CHALLENGE,
        "content-type": "application/json; charset=utf-8",
    }
    if (answer.status, headers) != (401, expected):
        return False
    if method == "HEAD":
        return answer.body == b""
    error = answer.json["error"]
    return (error["type"] if "node_errors" in answer.json else error) == "unauthorized"


# --- servers in this event loop ---------------------------------------------------------------------------------


class Connection:
    """One connection: requests go out verbatim, replies are read one by one."""

    def __init__(self, server: Listener, source: str | None = None) -> None:
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
    ) -> Answer:
        """`headers` may repeat a name and may hold any bytes, as surrogates."""
        fields = CIMultiDict(headers)
        fields.setdefault("Host", f"127.0.0.1:{self._server.port}")
        if body is not None:
            fields.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        await self.send("\r\n".join(lines).encode(errors="surrogateescape") + (body or b""))
        return await self.reply(method)

    async def reply(self, method: str = "GET") -> Answer:
        head = (await self._read(self._reader.readuntil(b"\r\n\r\n"))).decode()
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = CIMultiDict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines)
        status = int(status_line.split(" ")[1])
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Answer(status, headers, b"")
        if "Content-Length" in headers:
            return Answer(status, headers, await self._read(self._reader.readexactly(int(headers["Content-Length"]))))
        body = b""
        while size := int(await self._read(self._reader.readline()), 16):
            body += await self._read(self._reader.readexactly(size))
            await self._read(self._reader.readline())
        await self._read(self._reader.readline())
        return Answer(status, headers, body)

    async def at_end(self) -> bool:
        """Whether the server has closed the connection without sending anything more."""
        return await self._read(self._reader.read(1)) == b""

    @staticmethod
    async def _read(reading: Any) -> Any:
        return await asyncio.wait_for(reading, 10)


async def fetch(
    server: Listener,
    target: str = "/prompt",
    headers: Headers = (),
    *,
    method: str = "GET",
    body: bytes | None = None,
    source: str | None = None,
) -> Answer:
    """Like `ask`, for a server in this event loop. `headers` may repeat a name and may hold any bytes."""
    async with Connection(server, source) as connection:
        return await connection.request(target, headers, method=method, body=body)


async def log_in(server: Listener, key: str = KEY) -> str:
    """Logs in, and returns the value of the `Cookie` field."""
    reply = await fetch(server, "/auth_session", bearer(key), method="POST", body=b"")
    assert reply.status == 204, reply
    return reply.headers["Set-Cookie"].split(";")[0]
