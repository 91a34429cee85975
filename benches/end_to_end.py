"""Processor time that a request costs the whole server: without the protection, with the least possible, and with it.

Five servers run at the same time: ComfyUI as it is; with an empty `async def` middleware; with that and an empty
`async def` before each response; the same, but it adds the header field that ours adds; with ours. wrk asks them in
short turns whose order changes, so that whatever else the machine does slows all of them equally. The time that a
server's process spent in a turn, on all threads, is divided by the requests that it answered. The ratio within each
round is what counts; its median is printed. All servers are started several times, because the layout of memory makes
one process some percent faster than its twin.

Everything runs on one processor, and wrk only when the server waits. Otherwise the server's time includes waking wrk on
another processor and being interrupted by it. How often this happens depends on how fast the server is: two
microseconds more of work were then counted as six.

ComfyUI is the one that `COMFYUI_DIR` names, run by `COMFYUI_PYTHON`, or else the miniature.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/python"))

from comfy_auth_rs import generate_key  # noqa: E402
from comfy_auth_rs.comfyui.tree import patch  # noqa: E402
from support.client import ask, bearer  # noqa: E402
from support.servers import MINI_COMFYUI, Server, start_real, start_server  # noqa: E402

#: As many as a browser opens, times two.
CONNECTIONS = 12

KEY = generate_key()

#: A custom node with `/health`, which gives the same answer as ours when nothing changes.
HEALTH = """
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
FIGURES = {
    "status": "ok",
    "queue": {"pending": 0, "running": 0},
    "device": {"name": "cpu", "type": "cpu"},
    "vram": {"total": 2**35, "free": 2**34},
}


@PromptServer.instance.routes.get("/health")
async def health(request):
    return web.json_response(FIGURES, headers={"Cache-Control": "no-store"})
"""

#: The least that a key needs from aiohttp: a middleware, and a function before each response.
MIDDLEWARE = """
@web.middleware
async def middleware(request, handler):
    return await handler(request)


PromptServer.instance.app.middlewares.append(middleware)
"""

RECEIVER = """
async def before_sending(request, response):
    pass


PromptServer.instance.app.on_response_prepare.append(before_sending)
"""

HEADER = RECEIVER.replace("pass", 'response.headers.setdefault("Cache-Control", "private")')

#: The servers, each with its custom node; ours comes without one.
NODES = {
    "plain": HEALTH,
    "empty middleware": HEALTH + MIDDLEWARE,
    "both empty": HEALTH + MIDDLEWARE + RECEIVER,
    "with the header": HEALTH + MIDDLEWARE + HEADER,
}
OURS = "ours"
SERVERS = (*NODES, OURS)


class Row(NamedTuple):
    """One line of the table: what wrk asks all servers for, and how their answers must look."""

    name: str
    target: str
    headers: dict[str, str]
    contains: bytes
    #: The most that ours may cost, compared with the server with both empty functions.
    most: float


class Turn(NamedTuple):
    """Microseconds of processor time per request, and requests per second."""

    cost: float
    rate: float


def turn(row: Row, server: Server, seconds: int) -> Turn:
    headers = [word for name, value in row.headers.items() for word in ("-H", f"{name}: {value}")]
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *headers, server.url + row.target]
    command = ["chrt", "--batch", "0", *wrk]
    before = processor_time(server)
    output = subprocess.check_output(command, text=True)
    spent = processor_time(server) - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{row.target} was refused or broke off:\n{output}")
    requests, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert requests and rate, output
    return Turn(spent * 1e6 / int(requests[1]), float(rate[1]))


def processor_time(server: Server) -> float:
    """Seconds that all threads of a process have spent: Linux has a clock for each (clock_getcpuclockid)."""
    return time.clock_gettime(~server.process.pid << 3 | 2)


def resident(server: Server) -> float:
    """Memory in MiB of a process after it answered what was asked."""
    ask(server, "/metrics", bearer(KEY))
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def check(row: Row, server: Server) -> None:
    """Check that a server serves what the row says."""
    answer = ask(server, row.target, row.headers)
    assert answer.status == 200, f"{row.name}: {answer.status}"
    assert row.contains in answer.body, f"{row.name}: no {row.contains!r}"


def start(name: str, folder: Path) -> AbstractContextManager[Server]:
    """One of the servers, with its data below `folder`."""
    base = folder / name.replace(" ", "_")
    base.mkdir()
    is_real = "COMFYUI_DIR" in os.environ
    if not is_real:
        shutil.copytree(MINI_COMFYUI, base, dirs_exist_ok=True)
    for data in ("custom_nodes", "output"):
        (base / data).mkdir(exist_ok=True)
    (base / "output" / "picture.png").write_bytes(PICTURE)
    if name != OURS:
        (base / "custom_nodes" / "empty.py").write_text(NODES[name])
        return start_real(base, is_patched=False) if is_real else start_server(base)
    key_file = folder / "keys"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    if is_real:
        return start_real(base, "--api-key-file", str(key_file))
    patch(base)
    return start_server(base, "--api-key-file", str(key_file))


#: Not a valid picture, because nothing reads it.
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(20_000)


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, Server]]:
    """All servers. They start at the same time, because a real ComfyUI takes half a minute."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        started = [threads.submit(stack.enter_context, start(name, folder)) for name in SERVERS]
        yield {name: server.result() for name, server in zip(SERVERS, started, strict=True)}


def rows(ours: Server) -> list[Row]:
    login = ask(ours, "/auth_session", bearer(KEY), method="POST", body=b"")
    cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
    key = bearer(KEY)
    page = ask(ours, "/index.html", key).text
    asset = re.search(r'"(?:\./)?(assets/[^"]+\.(?:css|ico))"', page)
    assert asset, "the frontend's page names no file"
    picture = "/api/view?filename=picture.png&type=output"
    return [
        Row("`GET /prompt`, Bearer", "/prompt", key, b"exec_info", 1.02),
        Row("`GET /prompt`, cookie", "/prompt", cookie, b"exec_info", 1.04),
        Row("`GET /api/view`, Bearer", picture, key, PICTURE, 1.02),
        Row("`GET /api/view`, cookie", picture, cookie, PICTURE, 1.02),
        Row("a file of the frontend, no credential", f"/{asset[1]}", {}, b"", 1.02),
        Row("`GET /`, script injected", "/", key, b"<html", 1.0),
        Row("`GET /health`", "/health", {}, b'"vram"', 1.1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the processor time of requests to whole servers.")
    parser.add_argument("--starts", type=int, default=5, help="starts of the servers (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each server a start (default: %(default)s)")
    parser.add_argument("--only", default="", help="measure only rows whose name holds this")
    parser.add_argument("--seconds", type=int, default=1, help="length of one turn (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also save all figures")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found: dict[str, list[dict[str, Turn]]] = {}
    memory: dict[str, list[float]] = {name: [] for name in SERVERS}
    for _ in range(options.starts):
        with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as running:
            table = [row for row in rows(running[OURS]) if options.only in row.name]
            for row in table:
                for server in running.values():
                    check(row, server)
                    turn(row, server, 1)
            for name, server in running.items():
                memory[name].append(resident(server))
            for _ in range(options.rounds):
                for row in table:
                    order = random.sample(SERVERS, len(SERVERS))
                    turns = {name: turn(row, running[name], options.seconds) for name in order}
                    found.setdefault(row.name, []).append(turns)
    report(table, found)
    more = statistics.median(ours - plain for ours, plain in zip(memory[OURS], memory["plain"], strict=True))
    print(f"\nResident memory: {more:.1f} MiB more than plain (target ≤ 6 on a real ComfyUI).")
    if options.json:
        Path(options.json).write_text(json.dumps(found))


def report(table: list[Row], found: dict[str, list[dict[str, Turn]]]) -> None:
    """Prints the table, in Markdown. Times are in microseconds."""
    print(f"| {CONNECTIONS} connections | {' | '.join(SERVERS)} | of plain | of both empty | quartiles | target |")
    print(f"| --- |{' ---: |' * (len(SERVERS) + 2)} --- | --- |")
    for row in table:
        rounds = found[row.name]
        costs = [f"{statistics.median(turns[name].cost for turns in rounds):.1f}" for name in SERVERS]
        of_plain = statistics.median(turns[OURS].cost / turns["plain"].cost for turns in rounds)
        ratios = [turns[OURS].cost / turns["both empty"].cost for turns in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells = [*costs, f"{of_plain:.3f}", f"**{middle:.3f}**", f"{low:.3f} to {high:.3f}", f"≤ {row.most:.2f}"]
        print(f"| {row.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
