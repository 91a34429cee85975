"""What a client notices: requests a second, with the protection and without, by wrk.

Each pair of servers runs at the same time; wrk asks them in turn, for many short turns, so that whatever else the
machine does hits both alike. The ratio of each round's two figures is what counts; their median is printed. All servers
are started anew several times: where things lie in memory makes one process some percent faster than its twin.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/python"))

from comfy_auth_rs import generate_key, setup  # noqa: E402
from comfy_auth_rs.comfyui.tree import patch  # noqa: E402
from support.servers import MINI_COMFYUI, start_server  # noqa: E402

#: As many as a browser opens, and a second browser.
CONNECTIONS = 12

KEY = generate_key()
BEARER = f"Authorization: Bearer {KEY}"


#: A custom node, with the least that a key needs of aiohttp: its place among the middlewares and before each response.
EMPTY = """
from aiohttp import web
from server import PromptServer


@web.middleware
async def middleware(request, handler):
    return await handler(request)


async def before_sending(request, response):
    pass


@PromptServer.instance.routes.get("/empty")
async def is_in(request):
    return web.Response()


PromptServer.instance.app.middlewares.append(middleware)
PromptServer.instance.app.on_response_prepare.append(before_sending)
NODE_CLASS_MAPPINGS = {}
"""


class Ask(NamedTuple):
    """What wrk asks for, and how the first answer must look."""

    url: str
    header: str = "Accept: */*"
    contains: bytes = b""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    ours: Ask
    reference: Ask
    target: float | None


def requests_a_second(ask: Ask, seconds: int) -> float:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", ask.header, ask.url]
    output = subprocess.check_output(command, text=True)
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{ask.url} was refused or broke off:\n{output}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found, output
    return float(found[1])


def check(ask: Ask) -> None:
    """That both sides of a row serve what its name says."""
    command = ["curl", "--silent", "--fail", "--show-error", "--header", ask.header, ask.url]
    assert ask.contains in subprocess.check_output(command), f"{ask.url} does not answer with {ask.contains!r}"


def plain_app(port: int) -> None:
    """`/health` of our own, and `/same`, which answers what it did when it started, behind nothing."""
    figures = {
        "status": "ok",
        "queue": {"pending": 0, "running": 0},
        "device": {"name": "cpu", "type": "cpu"},
        "vram": {"total": 2**35, "free": 2**34},
    }

    async def same(request: web.Request) -> web.Response:
        return web.json_response(figures, headers={"Cache-Control": "no-store"})

    app = web.Application()
    app.router.add_get("/health", same)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def protected_app(port: int) -> None:
    app = web.Application()
    setup(app, api_key=KEY)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


@contextmanager
def rows(folder: Path) -> Iterator[list[Row]]:
    tree = folder / "ComfyUI"
    shutil.copytree(MINI_COMFYUI, tree)
    patch(tree)
    with_empty = folder / "empty" / "ComfyUI"
    shutil.copytree(tree, with_empty)
    Path(with_empty, "custom_nodes").mkdir(exist_ok=True)
    Path(with_empty, "custom_nodes", "empty.py").write_text(EMPTY)
    key_file = folder / "keys"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    apps = [(__file__, "--serve", role) for role in ("protected", "plain")]
    with ExitStack() as stack:
        protected = stack.enter_context(start_server(tree, "--api-key-file", str(key_file))).url
        open_, empty = (stack.enter_context(start_server(copy)).url for copy in (tree, with_empty))
        health, same = (stack.enter_context(start_server(REPOSITORY, command=app)).url for app in apps)
        fetch(f"{empty}/empty")  # fails where the custom node didn't load
        script = re.search(r'"(?:\./)?(assets/[^"]+\.css)"', fetch(f"{open_}/index.html"))
        assert script, "the frontend's page names no style sheet"
        asset = f"/{script[1]}"
        yield [
            Row("`GET /prompt`, Bearer", Ask(f"{protected}/prompt", BEARER, b"exec_info"),
                Ask(f"{open_}/prompt", BEARER, b"exec_info"), 0.98),
            Row("`GET /prompt`, empty functions instead", Ask(f"{empty}/prompt", BEARER, b"exec_info"),
                Ask(f"{open_}/prompt", BEARER, b"exec_info"), None),
            Row("`GET /`, script injected", Ask(f"{protected}/", BEARER, b"auth_inject.js"),
                Ask(f"{open_}/", BEARER, b"<html"), 1.0),
            Row("a file of the frontend, no credential", Ask(f"{protected}{asset}"), Ask(f"{open_}{asset}"), 1 / 1.05),
            Row("`GET /health`", Ask(f"{health}/health", contains=b'"vram"'),
                Ask(f"{same}/health", contains=b'"vram"'), 0.9),
        ]  # fmt: skip


def fetch(url: str) -> str:
    return subprocess.check_output(["curl", "--silent", "--fail", "--show-error", url], text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure requests a second with wrk, with the protection and without.")
    parser.add_argument("--starts", type=int, default=9, help="starts of the servers (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side a start (default: %(default)s)")
    parser.add_argument("--only", default="", help="measure only rows whose name holds this")
    parser.add_argument("--seconds", type=int, default=1, help="length of one turn (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also save all figures, in requests a second")
    parser.add_argument("--serve", choices=("plain", "protected"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        {"plain": plain_app, "protected": protected_app}[options.serve](options.port)
        return
    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.starts):
        with tempfile.TemporaryDirectory() as folder, rows(Path(folder)) as table:
            table = [row for row in table if options.only in row.name]
            for row in table:
                for ask in (row.ours, row.reference):
                    check(ask)
                    requests_a_second(ask, 1)
            for _ in range(options.rounds):
                for row in table:
                    pair = [requests_a_second(ask, options.seconds) for ask in (row.ours, row.reference)]
                    figures.setdefault(row.name, []).append((pair[0], pair[1]))
    print(f"| requests a second, {CONNECTIONS} connections | ours | reference | ratio | quartiles | target |")
    print("| --- | ---: | ---: | ---: | --- | --- |")
    for row in table:
        ours, reference = (statistics.median(side) for side in zip(*figures[row.name], strict=True))
        ratios = [ours / reference for ours, reference in figures[row.name]]
        low, middle, high = statistics.quantiles(ratios, n=4)
        target = "" if row.target is None else f"≥ {row.target:.2f}"
        print(f"| {row.name} | {ours:.0f} | {reference:.0f} | **{middle:.3f}** | {low:.3f} to {high:.3f} | {target} |")
    if options.json:
        Path(options.json).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
