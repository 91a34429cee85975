"""A thousand WebSockets are open, and everything else keeps working."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
from support.client import bearer
from support.keys import KEY

from load.process import MIB, memory, open_files, patched_miniature


def run(folder: Path, sockets: int) -> dict[str, str]:
    """Returns the figures. Raises AssertionError if a socket fails, or another one takes its place."""
    with patched_miniature(folder / "tree", "--api-key", KEY, "--auth-require-ws") as server:
        before, files = memory(server), open_files(server)
        opened, slowest = asyncio.run(_open(server.url, sockets))
        held = memory(server) - before
        deadline = time.monotonic() + 20
        while open_files(server) > files + 2:
            assert time.monotonic() < deadline, "sockets were left open"
            time.sleep(0.1)
    return {
        "open sockets": f"{sockets:,}, each with a clientId of its own, opened in {opened:.1f} s",
        "memory for them": f"{held / MIB:.1f} MiB, {held / sockets / 1024:.1f} KiB each",
        "each got its message": "yes",
        "a request meanwhile": f"{1000 * slowest:.1f} ms at most",
        "descriptors afterwards": "as before",
    }


async def _open(url: str, count: int) -> tuple[float, float]:
    """Returns how many seconds opening took, and the slowest of the requests sent meanwhile."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        started = time.monotonic()
        sockets = []
        for first in range(0, count, 50):
            numbers = range(first, min(first + 50, count))
            connecting = (session.ws_connect(f"/ws?clientId=load-{n}", headers=bearer(KEY)) for n in numbers)
            sockets += await asyncio.gather(*connecting)
        opened = time.monotonic() - started
        slowest = 0.0
        for number in (0, count // 2, count - 1):
            try:
                await session.ws_connect(f"/ws?clientId=load-{number}")
                raise AssertionError("somebody without the key took a socket over")
            except aiohttp.WSServerHandshakeError as refused:
                assert refused.status == 401, refused
            started = time.monotonic()
            async with session.get("/queue", headers=bearer(KEY)) as answer:
                assert answer.status == 200
            slowest = max(slowest, time.monotonic() - started)
        for socket in sockets:
            await socket.send_json({"type": "feature_flags", "data": {}})
        for socket in sockets:
            while (await socket.receive_json(timeout=30))["type"] != "feature_flags":
                pass
        await asyncio.gather(*(socket.close() for socket in sockets))
        return opened, slowest
