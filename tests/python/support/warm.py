"""Start Python programs that end on their own, each in its own process, without waiting for `import aiohttp`.

That import takes most of the time of a short program. On Linux, a process that has done it, and hasn't imported this
package, forks for each program. Elsewhere, or if the environment has variables for Python itself, Python starts as
usual.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

#: Variables that Python, the C library or the linker read before any program begins.
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_")


def run(
    *args: str, env: Mapping[str, str], cwd: str | os.PathLike[str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGS…`, which must be `-m MODULE …` or `SCRIPT …`. Returns all that it prints, and its status."""
    if sys.platform != "linux" or _read_at_the_start(env) != _read_at_the_start(os.environ):
        command = [sys.executable, *args]
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout)
    mask = os.umask(0o77)
    os.umask(mask)
    words = {"args": args, "env": dict(env), "cwd": os.path.abspath(cwd or "."), "mask": mask}  # noqa: PTH100
    starter, theirs = socket.socketpair()
    with starter, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with theirs:
            handles = [theirs.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(_starter(os.getpid()), [b"."], handles)
        starter.sendall(json.dumps(words).encode() + b"\n")
        starter.settimeout(timeout)
        try:
            status = int(starter.recv(16))
        except TimeoutError:
            starter.close()  # this ends the program
            raise subprocess.TimeoutExpired(list(args), timeout) from None
        out.seek(0)
        err.seek(0)
        printed, told = (file.read().decode().replace("\r\n", "\n") for file in (out, err))
    return subprocess.CompletedProcess([sys.executable, *args], status, printed, told)


def _read_at_the_start(env: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in env.items() if name.startswith(_READ_AT_THE_START)}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # `_become` applies it
    return found


@cache
def _starter(_process: int) -> socket.socket:
    """The process that forks: one for each process that runs tests. It ends with that process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# --- the process that forks -------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Returns in each child, with the program to run there."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by the process's descriptor
    while True:
        ready, _, _ = select.select([requests, *running, *(asker for _, asker in running.values())], [], [])
        for process in [process for process in running if process in ready]:
            pid, asker = running.pop(process)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(process)
            with asker:
                asker.send(str(status).encode())
        for pid, asker in running.values():
            if asker in ready:  # the asking test has gone
                os.kill(pid, signal.SIGKILL)
        if requests in ready:
            data, handles, _, _ = socket.recv_fds(requests, 1, 3)
            if not data:
                os._exit(0)
            asker = socket.socket(fileno=handles[0])
            with asker.makefile("rb") as file:
                words = json.loads(file.readline())
            if not (pid := os.fork()):
                os.dup2(handles[1], 1)
                os.dup2(handles[2], 2)
                for left in (requests, asker, *(asker for _, asker in running.values())):
                    left.detach()
                os.closerange(3, 1024)
                return words
            os.close(handles[1])
            os.close(handles[2])
            running[os.pidfd_open(pid)] = (pid, asker)


def _become(words: dict[str, Any]) -> None:
    """Runs a module or a script the way Python does."""
    os.umask(words["mask"])
    os.chdir(words["cwd"])
    os.environ.clear()
    os.environ.update(words["env"])
    sys.dont_write_bytecode = bool(words["env"].get("PYTHONDONTWRITEBYTECODE"))
    sys.orig_argv = [sys.executable, *words["args"]]
    if words["args"][0] == "-m":
        sys.argv = ["-m", *words["args"][2:]]
        sys.path[0] = words["cwd"]
        runpy._run_module_as_main(words["args"][1])
    else:
        sys.argv = list(words["args"])
        sys.path[0] = str(Path(words["args"][0]).resolve().parent)
        runpy.run_path(words["args"][0], run_name="__main__")


if __name__ == "__main__":
    import aiohttp.web  # noqa: F401

    assert "comfy_auth_rs" not in sys.modules
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
