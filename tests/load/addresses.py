"""A hundred thousand addresses guess at once: memory stays bounded, and the right key still gets in."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from support.keys import KEY

from load.client import Connection, request, stop
from load.process import MIB, memory, patched_miniature

CONNECTIONS = 64

#: They run one after the other, each from new addresses. The last must not cost any more memory.
FLOODS = 4

#: The most memory that all failed attempts together may take.
MOST = 48 * MIB

#: Distinct wrong keys in each request. One fewer than locks an address, because that takes the most memory.
GUESSES = 9


def run(folder: Path, addresses: int) -> dict[str, str]:
    """Returns the figures. Raises AssertionError if memory keeps growing or the key is refused."""
    with patched_miniature(folder / "tree", "--api-key", KEY, "--auth-trusted-proxy", "127.0.0.1") as server:
        held, floods = [memory(server)], []
        for number in range(FLOODS):
            floods.append(asyncio.run(_flood(server.port, number * addresses, addresses)))
            held.append(memory(server))
    grown = [after - before for before, after in pairwise(held)]
    assert held[-1] - held[0] < MOST, grown
    assert grown[-1] < MIB, grown
    return {
        "addresses that failed": f"{FLOODS} x {addresses:,}, {GUESSES} guesses each, "
        f"in {sum(seconds for seconds, _ in floods):.0f} s",
        "memory": ", then ".join(f"{more / MIB:.1f} MiB more" for more in grown),
        "the holder of the key": f"always admitted, in {1000 * max(slowest for _, slowest in floods):.0f} ms at most",
    }


async def _flood(port: int, first: int, count: int) -> tuple[float, float]:
    """Returns how many seconds it took, and how long the holder of the key waited at most."""
    numbers = iter(range(first, first + count))

    async def guess() -> None:
        with closing(Connection(port)) as connection:
            for number in numbers:
                address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                fields = "".join(f"\r\nX-API-Key: wrong-{number}-{guess}" for guess in range(GUESSES))
                data = request("/prompt", {"X-Forwarded-For": f"{address}{fields}"})
                answer = await connection.ask(data)
                assert answer.status == 401, answer

    slowest = 0.0

    async def use() -> None:
        nonlocal slowest
        with closing(Connection(port)) as connection:
            for number in itertools.count():
                # From one known address, and from new ones all the time.
                for address in ("192.0.2.1", f"198.51.{number >> 8 & 255}.{number & 255}"):
                    answer = await connection.ask(request("/prompt", {"X-Forwarded-For": address, "X-API-Key": KEY}))
                    assert answer.status == 200, answer
                    slowest = max(slowest, answer.received - answer.sent)
                await asyncio.sleep(0.05)

    started = time.monotonic()
    using = asyncio.create_task(use())
    await asyncio.gather(*(guess() for _ in range(CONNECTIONS)))
    taken = time.monotonic() - started
    await stop(using)
    return taken, slowest
