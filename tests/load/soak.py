"""Mixed traffic for a long time: memory doesn't grow."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path

import aiohttp
from support.client import BROWSER, bearer
from support.keys import KEY

from load.client import Connection, request, stop
from load.process import MIB, memory, open_files, patched_miniature

CONNECTIONS = 16

#: How much more memory the process may hold at the end than after warming up.
FLAT = 1 * MIB

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

#: One request of each kind, and the status of its answer. There are too few guesses to lock anyone out.
TRAFFIC = [
    (request("/prompt", bearer(KEY)), 200),
    (request("/queue", {"X-API-Key": KEY}), 200),
    (request(f"/system_stats?api_key={KEY}"), 200),
    (request("/view?filename=picture.png", bearer(KEY)), 200),
    (request("/prompt"), 401),
    (request("/prompt", bearer("wrong")), 401),
    (request("/queue", {"Authorization": "Basic !"}), 401),
    (request("/no/such/path", BROWSER), 302),
    (request("/", BROWSER), 302),
    (request("/auth_login.html", BROWSER), 200),
    (request("/auth_inject.js"), 200),
    (request("/health"), 200),
    (request("/index.html", BROWSER), 200),
    (request("/prompt", method="POST", body=b"{}" * 4000), 401),
    (request("/upload/image", {"Cookie": "comfyui_session=" + "A" * 98}, method="POST", body=b"x" * 9000), 401),
    (request("/auth_session", FORM, method="POST", body=b"api_key=wrong"), 303),
]


def run(folder: Path, seconds: float, warm_up: float) -> dict[str, str]:
    """Returns the figures. Raises AssertionError if memory or descriptors grow, or an answer is wrong."""
    file = folder / "keys.txt"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    with patched_miniature(folder / "tree", "--api-key-file", str(file)) as server:
        (folder / "tree/output").mkdir(exist_ok=True)
        (folder / "tree/output/picture.png").write_bytes(PICTURE)
        samples: list[tuple[float, int, int]] = []
        started = time.monotonic()

        async def watch() -> None:
            while True:
                samples.append((time.monotonic() - started, memory(server), open_files(server)))
                await asyncio.sleep(min(1.0, warm_up / 5))

        counts = asyncio.run(_mix(server.url, server.port, file, seconds + warm_up, watch))
    warm = [held for at, held, _ in samples if warm_up / 2 <= at < warm_up]
    later = [held for at, held, _ in samples if at >= warm_up]
    end = later[-len(later) // 5 :]
    part = (seconds + warm_up) / 12
    starts = [number * part for number in range(12)]
    grown = _median(end) - max(warm)
    course = [_median([held for at, held, _ in samples if start <= at < start + part]) for start in starts]
    told = ", ".join(f"{held / MIB:.2f}" for held in course)
    assert grown < FLAT, f"{grown / MIB:.2f} MiB more; in twelve parts of the time: {told}"
    return {
        "traffic": f"{sum(counts.values()):,} requests in {seconds + warm_up:.0f} s: "
        + ", ".join(f"{number:,} {name}" for name, number in counts.items()),
        "memory when warm": f"{max(warm) / MIB:.2f} MiB",
        "memory at the end": f"{_median(end) / MIB:.2f} MiB, at most {max(later) / MIB:.2f} MiB",
        "memory in twelve parts of the time": f"{told} MiB",
        "grown": f"{grown / MIB:+.2f} MiB",
        "descriptors": f"{samples[len(samples) // 2][2]} in the middle, {samples[-1][2]} at the end",
    }


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


async def _mix(
    url: str, port: int, file: Path, seconds: float, watch: Callable[[], Coroutine[None, None, None]]
) -> dict[str, int]:
    end = time.monotonic() + seconds
    counts = dict.fromkeys(("plain", "sessions", "sockets", "changes of the key file", "broken off"), 0)

    async def plain(source: str) -> None:
        choose = random.Random(source)
        with closing(Connection(port, source)) as connection:
            while time.monotonic() < end:
                data, status = choose.choice(TRAFFIC)
                answer = await connection.ask(data)
                assert answer.status == status, (data[:60], answer)
                counts["plain"] += 1

    async def sessions() -> None:
        """Logs in, uses the session, logs out. A log-out is remembered for as long as its session would have lasted."""
        with closing(Connection(port)) as connection:
            while time.monotonic() < end:
                answer = await connection.ask(request("/auth_session", bearer(KEY), method="POST", body=b"{}"))
                cookie = {"Cookie": answer.head.split(b"Set-Cookie: ")[1].split(b";")[0].decode()}
                own = {**cookie, "Sec-Fetch-Site": "same-origin"}
                for data, status in (
                    (request("/prompt", own), 200),
                    (request("/auth_session", own, method="DELETE"), 204),
                    (request("/prompt", own), 401),
                ):
                    answer = await connection.ask(data)
                    assert answer.status == status, (data[:60], answer)
                counts["sessions"] += 1
                await asyncio.sleep(0.5)

    async def sockets() -> None:
        async with aiohttp.ClientSession(url) as session:
            while time.monotonic() < end:
                name = random.getrandbits(64)
                async with session.ws_connect(f"/ws?clientId={name:x}", headers=bearer(KEY)) as socket:
                    await socket.receive_json(timeout=20)
                counts["sockets"] += 1
                await asyncio.sleep(0.02)

    async def change() -> None:
        while time.monotonic() < end:
            new = file.with_suffix(".new")
            new.write_text(f"{KEY}\nanother-{random.getrandbits(128):032x}\n")
            new.chmod(0o600)
            new.replace(file)
            counts["changes of the key file"] += 1
            await asyncio.sleep(2)

    async def break_off() -> None:
        """Disconnects in the middle of a request."""
        while time.monotonic() < end:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("/prompt", method="POST", body=b"{}" * 500)[: random.randrange(1, 800)])
            await asyncio.sleep(0.02)
            writer.close()
            counts["broken off"] += 1

    watching = asyncio.create_task(watch())
    await asyncio.gather(
        *(plain(f"127.0.0.{number + 2}") for number in range(CONNECTIONS)), sessions(), sockets(), change(), break_off()
    )
    await stop(watching)
    return counts
