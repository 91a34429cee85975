"""The key of a thousand open WebSockets is removed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
from support.client import bearer
from support.keys import KEY, OTHER_KEY

from load.process import patched_miniature

#: The longest that the event loop may be held, in milliseconds of its thread's processor time. Time that other work
#: takes from it isn't counted.
MOST_HELD = 5.0

#: All of them must be closed within this many seconds.
CLOSED_WITHIN = 2.0

#: A custom node that measures how long the event loop is held.
PROBE = """\
import asyncio
import time
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
worst = {"held": 0.0, "late": 0.0}

async def probe(app):
    async def look():
        while True:
            busy, clock = time.thread_time(), time.perf_counter()
            await asyncio.sleep(0.001)
            worst["held"] = max(worst["held"], time.thread_time() - busy)
            worst["late"] = max(worst["late"], time.perf_counter() - clock - 0.001)
    app["probe"] = asyncio.create_task(look())

PromptServer.instance.app.on_startup.append(probe)

@PromptServer.instance.routes.post("/probe")
async def tell(request):
    told = dict(worst)
    worst.update(held=0.0, late=0.0)
    return web.json_response(told)
"""


def run(folder: Path, sockets: int) -> dict[str, str]:
    """Returns the figures. Raises AssertionError if one is missed."""
    keys = folder / "keys.txt"
    keys.write_text(f"{KEY}\n{OTHER_KEY}\n")
    keys.chmod(0o600)
    with patched_miniature(folder / "tree", "--api-key-file", str(keys), node=PROBE) as server:
        before, idle, closed, held = asyncio.run(_remove(server.url, keys, sockets))
    assert closed < CLOSED_WITHIN, f"the last socket was closed after {closed:.1f} s"
    assert held["held"] < MOST_HELD, f"the event loop was held for {held['held']:.1f} ms"
    return {
        "closed with 1008": f"all of {sockets:,}, the last {closed:.2f} s after the key was removed",
        "the loop was held": _figure(held),
        "while they were open": _figure(idle),
        "while none was": _figure(before),
    }


Told = dict[str, float]


def _figure(told: Told) -> str:
    return f"for {told['held']:.1f} ms at most; late, with the machine's other work, by {told['late']:.1f} ms"


async def _remove(url: str, keys: Path, count: int) -> tuple[Told, Told, float, Told]:
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def probe() -> Told:
            async with session.post("/probe", headers=bearer(OTHER_KEY)) as answer:
                return {name: 1000 * seconds for name, seconds in (await answer.json()).items()}

        await probe()
        await asyncio.sleep(3)
        before = await probe()
        sockets = []
        for first in range(0, count, 50):
            numbers = range(first, min(first + 50, count))
            connecting = (session.ws_connect(f"/ws?clientId=load-{n}", headers=bearer(KEY)) for n in numbers)
            sockets += await asyncio.gather(*connecting)
        for socket in sockets:
            await socket.receive_json(timeout=30)
        await probe()
        await asyncio.sleep(3)
        idle = await probe()
        removed = time.monotonic()
        keys.write_text(f"{OTHER_KEY}\n")
        ended = [asyncio.create_task(_close_code(socket)) for socket in sockets]
        codes = await asyncio.wait_for(asyncio.gather(*ended), 30)
        closed = time.monotonic() - removed
        assert set(codes) == {1008}, set(codes)
        return before, idle, closed, await probe()


async def _close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in socket:
        pass
    return socket.close_code
