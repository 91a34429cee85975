"""Bytes out, bytes in: nothing here knows HTTP well enough to mend a request."""

from __future__ import annotations

import asyncio
import re
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


#: The networks of those for whom the server believes what `CLIENT_FIELD` says, and where the others attack from.
TRUSTED, UNTRUSTED = "127.64.0.0/10", "127.0.0.2"
CLIENT_FIELD = "X-Attacker"

#: What presents a key, and may be a guess.
GUESS = re.compile(rb"(?i)x-api-key|authorization|api_?key|token|/key/|%2fkey")


async def barrage(port: int, attacks: Mapping[str, bytes], network: int) -> dict[str, bytes]:
    """Sends each request on a connection of its own, and each guess from an address of its own, so that guesses lock
    nobody out. All of loopback counts as one: so a guess comes through a proxy that says who sends it."""
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
