"""Start a ComfyUI-shaped tree as a real process, wait until it answers, and stop it again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import comfy_auth_rs

from support.audit import check_audit

MINI_COMFYUI = Path(__file__).resolve().parents[3] / "examples" / "mini_comfyui"
WITNESS = Path(__file__).resolve().parents[2] / "fixtures" / "witness"

#: How many seconds a real ComfyUI may take until it listens: it imports torch.
REAL_STARTS_WITHIN = 180


class ServerDied(RuntimeError):
    """The process ended, or never listened. `output` is all it printed, `returncode` its exit status."""

    def __init__(self, returncode: int | None, output: str) -> None:
        what = "did not listen in time" if returncode is None else f"ended with exit status {returncode}"
        super().__init__(f"the server {what}; it printed:\n{output}")
        self.returncode = returncode
        self.output = output


@dataclass(frozen=True)
class Server:
    """A process that listens on `port` of 127.0.0.1; `url` has no trailing slash."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    _log: Path

    @property
    def output(self) -> str:
        """Everything on stdout and stderr so far."""
        return self._log.read_bytes().decode(errors="replace")

    @property
    def own_faults(self) -> list[str]:
        """Exceptions of this package that nobody caught: the last line of each traceback that ends in it."""
        texts = self.output.split("Traceback (most recent call last):")[1:]
        frames = [[line for line in text.splitlines() if line.startswith('  File "')] for text in texts]
        return [found[-1] for found in frames if found and "/comfy_auth_rs/" in found[-1]]

    def stop(self) -> None:
        """Ends this process and no other. Safe to call twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


#: Not the global generator: Hypothesis seeds it alike in all test processes, so they would take the same ports.
_random = random.SystemRandom()


#: The number of this test process, and the number of processes that there are ports for.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PROCESSES = 16
_lately: deque[int] = deque(maxlen=300)


def free_port() -> int:
    """A free TCP port of 127.0.0.1.

    It lies below the range for outgoing connections, which could take it in the meantime. Each test process has its own
    ports and doesn't use one twice in a row. Otherwise the server of another test might answer.
    """
    while True:
        port = _random.randrange(20_000, 32_000, _PROCESSES) + _PROCESS % _PROCESSES
        if port in _lately:
            continue
        _lately.append(port)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def start_server(
    tree: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    command: Sequence[str] = ("main.py",),
    port: int | None = None,
    timeout: float = 60,
) -> Iterator[Server]:
    """Run `python COMMAND… --port PORT ARGS…` in `tree` and yield it as soon as the port answers.

    `env` is added to this process's environment; `command` can name a launcher instead of main.py; `timeout` is in
    seconds. Raises ServerDied, with the output, if the process ends or stays silent. If `args` contain keys, the server
    writes an audit log, and every line is checked at the end.
    """
    port = port or free_port()
    has_keys = any(arg.partition("=")[0] in ("--api-key", "--api-key-file") for arg in args)
    watched = has_keys and "--auth-audit" not in args
    scheme = "https" if "--tls-keyfile" in args else "http"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    # Windows can't delete a file that a leftover child of the server still has open.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, open(Path(folder, "log"), "wb") as log:
        audit = Path(folder, "audit.jsonl")
        process = subprocess.Popen(
            [python, *command, "--port", str(port), *args, *(["--auth-audit", str(audit)] if watched else [])],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = Server(f"{scheme}://127.0.0.1:{port}", port, process, Path(log.name))
        try:
            _wait_until_it_answers(server, timeout)
            yield server
        finally:
            server.stop()
        if watched:
            check_audit(audit, was_killed=os.name != "posix" or process.returncode == -signal.SIGKILL)


def start_real(
    base: Path, *args: str, env: Mapping[str, str] | None = None, is_patched: bool = True
) -> AbstractContextManager[Server]:
    """Starts the ComfyUI that `COMFYUI_DIR` names, patched in memory, with its data folders below `base`.

    It writes nothing into its own folder, has no model, and computes on the CPU. `PYTHONPATH` in `env` adds folders
    with packages. Without `is_patched`, it starts unchanged.
    """
    package = base / "package"
    if not package.exists():  # an earlier start may have made it
        package.mkdir()
        (package / "comfy_auth_rs").symlink_to(Path(comfy_auth_rs.__file__).parent)
    tree = Path(os.environ["COMFYUI_DIR"]).resolve()
    path = os.pathsep.join([str(package), *filter(None, [(env or {}).get("PYTHONPATH")])])
    return start_server(
        tree,
        "--cpu",
        "--base-directory",
        str(base),
        "--database-url",
        "sqlite:///:memory:",
        *args,
        env={**(env or {}), "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        python=os.environ.get("COMFYUI_PYTHON", sys.executable),
        command=["-m", "comfy_auth_rs", "run", str(tree), "--"] if is_patched else ["main.py"],
        timeout=REAL_STARTS_WITHIN,
    )


def _wait_until_it_answers(server: Server, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if (status := server.process.poll()) is not None:
            raise ServerDied(status, server.output)
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise ServerDied(None, server.output)
