"""A custom node that starts further ComfyUIs, and the processes that it starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from support.client import Process, ask, bearer
from support.keys import KEY
from support.servers import ServerDied, free_port

#: Starts the command that it is sent, in the way that it is told.
NODE = """
import asyncio, os, subprocess, sys
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}

@PromptServer.instance.routes.post("/start")
async def start(request):
    asked = await request.json()
    words = [sys.executable, *asked["words"]]
    with open(asked["log"], "wb") as log:
        environment = {**os.environ, **asked["env"]}
        for name in asked["without"]:
            environment.pop(name, None)
        more = {"cwd": asked["cwd"], "env": environment, "stdout": log, "stderr": subprocess.STDOUT}
        how = asked["how"]
        if how == "Popen":
            pid = subprocess.Popen(words, **more).pid
        elif how == "asyncio":
            pid = (await asyncio.create_subprocess_exec(*words, **more)).pid
        elif how == "spawnv":
            pid = os.spawnv(os.P_NOWAIT, words[0], words)
        elif how == "posix_spawn":
            pid = os.posix_spawn(words[0], words, environment)
        elif how == "daemon":
            pid = int(subprocess.check_output(["sh", "-c", '"$@" >"$0" 2>&1 & echo $!', asked["log"], *words]))
    return web.json_response(pid)
"""


@dataclass(frozen=True)
class Child:
    """A ComfyUI that another ComfyUI started."""

    url: str
    port: int
    pid: int
    _log: Path

    @property
    def output(self) -> str:
        return self._log.read_text()


@contextmanager
def child_of(
    server: Process,
    folder: Path,
    *flags: str,
    key: str = KEY,
    how: str = "Popen",
    words: tuple[str, ...] = ("main.py",),
    cwd: str = ".",
    env: dict[str, str] | None = None,
    without: tuple[str, ...] = (),
    timeout: float = 40,
) -> Iterator[Child]:
    """Yields the child that the custom node starts, once it listens. Raises `ServerDied` if it ends first."""
    port = free_port()
    log = folder / f"log of {port}"
    asked = {
        "words": [*words, "--port", str(port), *flags],
        "how": how,
        "log": str(log),
        "cwd": cwd,
        "env": env or {},
        "without": without,
    }
    answer = ask(server, "/start", bearer(key), method="POST", body=json.dumps(asked).encode())
    assert answer.status == 200, answer.text
    child = Child(f"http://127.0.0.1:{port}", port, answer.json, log)
    try:
        deadline = time.monotonic() + timeout
        while True:
            if _has_ended(child.pid):
                raise ServerDied(None, child.output)
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < deadline, child.output
            time.sleep(0.05)
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
