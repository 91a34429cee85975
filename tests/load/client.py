"""A cheap client: it sends prepared bytes, returns a status and times, and keeps its connections open."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.I)


@dataclass(frozen=True)
class Answer:
    """A status, the response's head, and when the request left and the answer arrived, on the monotonic clock."""

    status: int
    head: bytes
    sent: float
    received: float


def request(
    target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes | None = None
) -> bytes:
    """A request that leaves the connection open."""
    fields = {"Host": "127.0.0.1", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + (body or b"")


async def stop(task: asyncio.Task[None]) -> None:
    """Ends a task that runs beside a scenario, and raises what it raised."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Connection(asyncio.Protocol):
    """One connection, one request at a time. Opens again if the server closed it. `closing` closes it."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._port = port
        self._source = source
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, data: bytes) -> Answer:
        """Sends a request and waits for its answer. Bodies are counted, not kept."""
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._received = b""
            await loop.create_connection(lambda: self, "127.0.0.1", self._port, local_addr=(self._source, 0))
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        sent = time.monotonic()
        self._transport.write(data)
        status, head = await self._waiter
        return Answer(status, head, sent, time.monotonic())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the server closed the connection without an answer"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[: end + 2]
        length = _LENGTH.search(head)
        if len(self._received) < end + 4 + (int(length[1]) if length else 0):
            return
        self._received = b""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result((int(head[9:12]), head))
