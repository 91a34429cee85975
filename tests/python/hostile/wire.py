"""Bytes out, bytes in: nothing here knows HTTP well enough to mend a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

#: How long a connection may be silent after an answer before that is taken for its end, in seconds.
SILENCE = 0.4
#: How long the first byte may take, in seconds.
PATIENCE = 1.5
#: Most connections at the same time.
WIDTH = 24


def request(line: str | bytes, *fields: str | bytes, body: str | bytes = b"", host: bytes = b"@HOST@") -> bytes:
    """A request as a client would send it: `line` without its version, `fields` verbatim, a `Host` before them."""
    head = [_bytes(line) + b" HTTP/1.1", b"Host: " + host, *map(_bytes, fields), b"Connection: close", b"", b""]
    return b"\r\n".join(head) + _bytes(body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


async def exchange(port: int, data: bytes, source: str = "127.0.0.1", silence: float = SILENCE) -> bytes:
    """Sends `data` and returns all that comes back until the server closes the connection or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    received = b""
    try:
        writer.write(data)
        while chunk := await asyncio.wait_for(reader.read(65536), silence if received else max(silence, PATIENCE)):
            received += chunk
    except (asyncio.TimeoutError, ConnectionError):
        pass  # the server waits for more, or has closed the connection before reading it all
    finally:
        writer.close()
    return received


async def barrage(port: int, attacks: Mapping[str, bytes], network: int) -> dict[str, bytes]:
    """Sends each request on a connection of its own, from an address of its own, so that guesses lock nobody out."""
    turn = asyncio.Semaphore(WIDTH)

    async def attack(number: int, data: bytes) -> bytes:
        async with turn:
            return await exchange(port, data, f"127.{network}.{number // 250}.{number % 250 + 1}")

    answers = await asyncio.gather(*(attack(number, data) for number, data in enumerate(attacks.values())))
    return dict(zip(attacks, answers, strict=True))
