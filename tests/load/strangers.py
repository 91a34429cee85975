"""A WebSocket never reads, and 600 without a key send all they can: everybody else still hears everything."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import aiohttp
from hostile.sockets import PING, Raw, frame
from hostile.websockets import UPGRADE, upgrade
from support.client import bearer
from support.keys import KEY
from support.servers import Server, start_real

from load.process import MIB, memory, patched_miniature

#: The most memory that all of it may take, in bytes.
MOST = 64 * MIB

#: How late a message may reach a listener, in seconds.
LATEST = 1.0

#: Messages a second that go to everybody.
RATE = 20

#: A custom node that sends each status with the time. The clock is the same for all processes of a machine.
NODE = """\
import asyncio
import time
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
tasks = set()

async def tell(count, rate, size, sid):
    filling = "x" * size
    for number in range(count):
        told = {"number": number, "sent": time.monotonic(), "filling": filling}
        PromptServer.instance.send_sync("status", told, sid)
        if rate:
            await asyncio.sleep(1 / rate)

@PromptServer.instance.routes.post("/load/tell")
async def begin(request):
    tasks.add(asyncio.create_task(tell(**await request.json())))
    return web.Response()
"""

#: The largest flags that reach ComfyUI, then the largest messages, then pings.
_FLAGS = {f"flag-{number:02}".ljust(62, "x"): "x" * 64 if number < 24 else True for number in range(40)}
_STREAM = (
    frame(json.dumps({"type": "feature_flags", "data": _FLAGS}).encode())
    + frame(b"x" * 65_536)
    + frame(b"x" * 65_536, 0x82)
    + frame(b"x" * 125, PING) * 100
)


def run(folder: Path, sockets: int, seconds: float) -> dict[str, str]:
    """Returns the figures. Raises AssertionError if one is missed."""
    with _server(folder) as server:
        before = asyncio.run(_listen(server, seconds, deaf=False))[0]
        held = memory(server)
        with _flood(server.port, sockets) as (opened, refused):
            delays, peak = asyncio.run(_listen(server, seconds, deaf=True))
        time.sleep(2)
        left = memory(server) - held
    assert opened + refused == sockets, (opened, refused)
    assert max(delays) < LATEST, f"a message was {max(delays):.2f} s late"
    assert peak - held < MOST, f"{(peak - held) / MIB:.1f} MiB more"
    return {
        "sockets without a key": f"{opened} of {sockets} were opened, {refused} were refused",
        "the one that did not read": "aborted",
        "everybody else heard": f"all of {len(delays)} messages, {_figure(delays)} late; before, {_figure(before)}",
        "memory": f"{(peak - held) / MIB:.1f} MiB more at most, {left / MIB:.1f} MiB two seconds after",
    }


def _figure(delays: list[float]) -> str:
    return f"{1000 * sorted(delays)[len(delays) // 2]:.1f} ms, at most {1000 * max(delays):.0f} ms"


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    """The miniature, or the real ComfyUI that `COMFYUI_DIR` names."""
    if "COMFYUI_DIR" not in os.environ:
        with patched_miniature(folder / "tree", "--api-key", KEY, node=NODE) as server:
            yield server
        return
    base = folder / "base"
    (base / "custom_nodes").mkdir(parents=True)
    Path(base / "custom_nodes" / "load_node.py").write_text(NODE)
    with start_real(base, "--api-key", KEY) as server:
        yield server


# --- those who listen -----------------------------------------------------------------------------------------------


async def _listen(server: Server, seconds: float, *, deaf: bool) -> tuple[list[float], int]:
    """Returns how late each message reached two listeners, one with the key and one without; and the peak memory."""
    async with aiohttp.ClientSession(server.url) as session:
        if not deaf:
            return await _hear(session, server, seconds)
        async with Raw(server, "/ws?clientId=deaf", f"Authorization: Bearer {KEY}", buffer=4096) as silent:
            await _tell(session, 3_000, 0, 10_000, "deaf")
            heard = await _hear(session, server, seconds)
            assert await asyncio.wait_for(silent.close_code(), 20) is None, "it was closed as if it had read"
            return heard


async def _tell(session: aiohttp.ClientSession, count: int, rate: float, size: int, sid: str | None) -> None:
    asked = {"size": size, "count": count, "rate": rate, "sid": sid}
    async with session.post("/load/tell", json=asked, headers=bearer(KEY)) as answer:
        assert answer.status == 200


async def _hear(session: aiohttp.ClientSession, server: Server, seconds: float) -> tuple[list[float], int]:
    count = round(RATE * seconds)
    delays: list[float] = []
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, memory(server))
            await asyncio.sleep(0.05)

    async def hear(listener: aiohttp.ClientWebSocketResponse) -> None:
        number = 0
        while number < count:
            message: dict[str, Any] = await listener.receive_json(timeout=60)
            if "sent" in message["data"]:
                assert message["data"]["number"] == number
                delays.append(time.monotonic() - message["data"]["sent"])
                number += 1

    listeners = [await session.ws_connect("/ws", headers=headers) for headers in (bearer(KEY), _STRANGER)]
    watching = asyncio.create_task(watch())
    await _tell(session, count, RATE, 0, None)
    await asyncio.gather(*map(hear, listeners))
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    for listener in listeners:
        await listener.close()
    return delays, peak


_STRANGER: dict[str, str] = {}


# --- those who flood ------------------------------------------------------------------------------------------------


@contextmanager
def _flood(port: int, sockets: int) -> Iterator[tuple[int, int]]:
    """Runs sockets that always send and never read, in another process. Yields how many were opened, and refused."""
    context = multiprocessing.get_context("spawn")
    done, (ours, theirs) = context.Event(), context.Pipe()
    process = context.Process(target=_send, args=(port, sockets, theirs, done))
    process.start()
    try:
        assert ours.poll(60), "the sockets were not opened"
        yield ours.recv()
    finally:
        done.set()
        process.join(30)


def _send(port: int, sockets: int, told: Any, done: Event) -> None:
    handshake = upgrade("/ws", *UPGRADE).replace(b"@HOST@", f"127.0.0.1:{port}".encode())
    opened: dict[socket.socket, int] = {}
    refused = 0
    # Leave a place for the listener without a key.
    spare = None
    for _ in range(sockets):
        connection = socket.create_connection(("127.0.0.1", port), 30)
        connection.sendall(handshake)
        status = connection.recv(4096).split(b" ")[1]
        assert status in (b"101", b"429"), status
        if status == b"101":
            connection.setblocking(False)
            opened[connection] = 0
            spare = connection
        else:
            refused += 1
            connection.close()
    if refused and spare is not None:
        del opened[spare]
        spare.close()
        time.sleep(0.5)
    told.send((len(opened) + (1 if refused else 0), refused))
    while not done.wait(0.01) and opened:
        for connection, at in list(opened.items()):
            try:
                opened[connection] = (at + connection.send(_STREAM[at : at + 65_536])) % len(_STREAM)
            except BlockingIOError:
                pass
            except OSError:
                del opened[connection]
