"""Clients send byte by byte to routes that refuse them: they take little memory, and nobody waits for them."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path

from support.keys import KEY

from load.client import Connection, request, stop
from load.process import MIB, memory, open_files, patched_miniature

#: Requests that begin and never end. aiohttp waits ten seconds for the rest of a body that nobody reads. We wait as
#: long for the body of a log-in, and then aiohttp adds its ten seconds.
HEAD = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\n{}\r\n\r\n"
FORM = "application/x-www-form-urlencoded"
BODIES = {
    "a refused body of known length": (HEAD.format("/prompt", "application/json", "Content-Length: 1000000"), b"x"),
    "a refused body in chunks": (HEAD.format("/upload/image", "x/y", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "a log-in": (HEAD.format("/auth_session", FORM, "Content-Length: 9000"), b"x"),
}
WAITS_AT_MOST = 25.0


def run(folder: Path, clients: int, kinds: int = len(BODIES)) -> dict[str, str]:
    """Returns figures for `clients` of each of the first `kinds` of bodies. Raises AssertionError if they stay."""
    figures = {}
    with patched_miniature(folder / "tree", "--api-key", KEY) as server:
        files = open_files(server)
        for name, (head, piece) in list(BODIES.items())[:kinds]:
            before = memory(server)
            lasted, slowest = asyncio.run(_trickle(server.port, head.encode(), piece, clients))
            grown = memory(server) - before
            assert lasted < WAITS_AT_MOST, f"{name}: still open after {lasted:.0f} s"
            assert grown < 16 * MIB, f"{name}: {grown / MIB:.1f} MiB more"
            figures[name] = (
                f"{clients} clients, closed after {lasted:.1f} s at most, {grown / MIB:.1f} MiB more; "
                f"others waited {1000 * slowest:.0f} ms at most"
            )
        assert open_files(server) <= files + 2
    return figures


async def _trickle(port: int, head: bytes, piece: bytes, clients: int) -> tuple[float, float]:
    """Returns how long the last connection stayed open, and how long anyone else waited at most."""

    async def trickle() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started = time.monotonic()
        writer.write(head)

        async def send() -> None:
            while True:
                writer.write(piece)
                await asyncio.sleep(0.5)

        sending = asyncio.create_task(send())
        received = b""
        try:
            while chunk := await asyncio.wait_for(reader.read(65536), WAITS_AT_MOST + 5):
                received += chunk
        except ConnectionError:
            pass  # bytes were still on their way when the server closed
        finally:
            sending.cancel()
            writer.close()
        assert received.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 408 ")), received[:80]
        return time.monotonic() - started

    slowest = 0.0

    async def use() -> None:
        nonlocal slowest
        with closing(Connection(port)) as connection:
            while True:
                for data, status in ((request("/prompt", {"X-API-Key": KEY}), 200), (request("/prompt"), 401)):
                    answer = await connection.ask(data)
                    assert answer.status == status, answer
                    slowest = max(slowest, answer.received - answer.sent)
                await asyncio.sleep(0.1)

    using = asyncio.create_task(use())
    lasted = await asyncio.gather(*(trickle() for _ in range(clients)))
    await stop(using)
    return max(lasted), slowest
