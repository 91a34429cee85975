"""Bytes out, bytes in: nothing here knows enough HTTP to repair a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

#: If a connection is silent for this many seconds after an answer, that is its end.
SILENCE = 0.4
#: How many seconds the first byte may take.
PATIENCE = 1.5
#: The most connections at the same time.
WIDTH = 24


def request(line: str | bytes, *fields: str | bytes, body: str | bytes = b"", host: bytes = b"@HOST@") -> bytes:
    """A request as a client would send it: `line` without its version, `Host`, then `fields` verbatim."""
    head = [_bytes(line) + b" HTTP/1.1", b"Host: " + host, *map(_bytes, fields), b"Connection: close", b"", b""]
    return b"\r\n".join(head) + _bytes(body)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


async def exchange(port: int, data: bytes, source: str = "127.0.0.1", silence: float = SILENCE) -> bytes:
    """Sends `data`, and returns all that comes back until the server closes the connection or falls silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    received = b""
    try:
        writer.write(data)
        while chunk := await asyncio.wait_for(reader.read(65536), silence if received else max(silence, PATIENCE)):
            received += chunk
    except (asyncio.TimeoutError, ConnectionError):
        pass  # the server waits for more, or closed the connection before it had read everything
    finally:
        writer.close()
    return received


#: The server believes `CLIENT_FIELD` from proxies in the network `TRUSTED`. Other attacks come from `UNTRUSTED`.
TRUSTED, UNTRUSTED = "127.64.0.0/10", "127.0.0.2"
CLIENT_FIELD = "X-Attacker"

#: Requests with these words present a key, and may be guesses.
GUESS = re.compile(rb"(?i)x-api-key|authorization|api_?key|token|/key/|%2fkey")


async def barrage(port: int, attacks: Mapping[str, bytes], network: int) -> dict[str, bytes]:
    """Sends each request on its own connection, and each guess from its own address, so that guesses lock nobody out.

    All of loopback counts as one address. So guesses come through a proxy that says who sends them.
    """
    turn = asyncio.Semaphore(WIDTH)

    async def attack(number: int, data: bytes) -> bytes:
        source = UNTRUSTED
        if GUESS.search(data):
            source = f"127.{network}.0.1"
            field = f"{CLIENT_FIELD}: 198.{network}.{number // 250}.{number % 250 + 1}"
            data = data.replace(b"\r\n", b"\r\n" + field.encode() + b"\r\n", 1)
        async with turn:
            return await exchange(port, data, source)

    answers = await asyncio.gather(*(attack(number, data) for number, data in enumerate(attacks.values())))
    return dict(zip(attacks, answers, strict=True))
