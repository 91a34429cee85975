"""Follows a tutorial of docs/tutorials/ in a terminal, from its first line to its last.

Its blocks depend on each other, unlike those of other pages. A comment before a block says more: `starts the server`
(the last command keeps running, so the next block goes into another terminal), `prints` (the block before it prints
this, among other things; `…` stands for anything), or `not run: REASON`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from support.servers import free_port
from support.snippets import Snippet, snippets

#: Addresses that readers must replace with their own.
_ADDRESSES = re.compile(r"http://(?:192\.168\.1\.20|127\.0\.0\.1):8188|https://pod-8188\.example\.com")
_NEW_KEY = re.compile(r"^([\w-]{43})\ncomfy-auth-rs: the new key of (\S+) \(", re.M)

#: Programs under their everyday names. The package is already installed, so `pip` does nothing.
_PROGRAMS = {
    "python3": 'case "$1" in main.py) exec {python} "$@" --port {port};; *) exec {python} "$@";; esac',
    "pip": '[ "$*" = "install comfy-auth-rs" ]',
    "comfy-auth-rs": 'case "$1" in doctor) set -- "$@" --port {port};; esac; exec {python} -m comfy_auth_rs "$@"',
}


class Reader:
    """Someone with terminals, a home folder and a ComfyUI, who does what a tutorial says.

    Some tutorials need other `programs`, and other replacements (`filled`). The command of each terminal begins with
    `inside`.
    """

    def __init__(self, folder: Path, programs: Mapping[str, str] = _PROGRAMS, inside: Sequence[str] = ()) -> None:
        self._home, self._workspace = folder / "home", folder / "workspace"
        self._inside = inside
        self._port = free_port()
        self._keys: dict[str, str] = {}
        self._servers: list[int] = []
        words = {"python": shlex.quote(sys.executable), "port": self._port}
        write_programs(folder / "programs", {name: script.format(**words) for name, script in programs.items()})
        self._environment = {
            **os.environ,
            "HOME": str(self._home),
            "PATH": f"{folder / 'programs'}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._log = folder / "server.log"
        self._terminal = self._open_terminal()

    def types(self, snippet: Snippet) -> str:
        """Types a block, and returns what it prints. A command that fails ends the tutorial."""
        code = self.filled(snippet.code)
        code = re.sub(r"KEY-OF-([A-Z]+)", lambda found: self._keys[found[1].lower()], code)
        if snippet.needs == "starts the server":
            *before, last = code.splitlines()
            return self._run("\n".join([*before, f"{last} > {shlex.quote(str(self._log))} 2>&1 &", "echo PID $!"]))
        printed = self._run(code)
        self._keys |= {label: key for key, label in _NEW_KEY.findall(printed)}
        return printed

    def waits_for_the_server(self, printed: str) -> None:
        self._servers.append(int(printed.split("PID ")[1]))
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"http://127.0.0.1:{self._port}/health", timeout=10)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)
        self._close_terminal()
        self._terminal = self._open_terminal()

    def leaves(self) -> None:
        self._close_terminal()
        for pid in self._servers:
            os.kill(pid, signal.SIGTERM)

    def filled(self, code: str) -> str:
        """The code with this machine's addresses and folders in place of the reader's own."""
        return _ADDRESSES.sub(f"http://127.0.0.1:{self._port}", code).replace("/workspace", str(self._workspace))

    def _open_terminal(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._inside, "bash", "--norc", "-eo", "pipefail"],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _close_terminal(self) -> None:
        assert self._terminal.stdin
        assert self._terminal.stdout
        self._terminal.stdin.close()
        self._terminal.stdout.close()
        self._terminal.wait(20)

    def _run(self, code: str) -> str:
        assert self._terminal.stdin
        assert self._terminal.stdout
        self._terminal.stdin.write(f"{code}\necho; echo THAT WAS ALL\n")
        self._terminal.stdin.flush()
        printed = ""
        for line in self._terminal.stdout:
            if line == "THAT WAS ALL\n":
                return printed
            printed += line
        raise AssertionError(f"{code}\nfailed after it printed:\n{printed}")


def write_programs(folder: Path, programs: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)


def follow(page: Path, someone: Reader) -> int:
    """Types what a page says, and compares what it shows. Returns how often it shows something."""
    printed, shown = "", 0
    for block in blocks(page):
        if block.needs == "prints":
            assert is_in(block.code, printed), f"{block.name}: it printed\n{printed}"
            shown += 1
            continue
        printed = someone.types(block)
        if block.needs == "starts the server":
            someone.waits_for_the_server(printed)
    return shown


def blocks(page: Path) -> list[Snippet]:
    """The blocks that are typed or shown."""
    return [snippet for snippet in snippets() if snippet.page == page and snippet.reason is None]


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    found = Reader(folder)
    try:
        yield found
    finally:
        found.leaves()


def is_in(shown: str, printed: str) -> bool:
    """Whether the output contains what a page shows. Line ends count only if the page shows another line after them."""
    lines = [".*?".join(map(re.escape, line.rstrip().split("…"))) for line in shown.rstrip().splitlines()]
    return re.search(r"[^\n]*\n+".join(lines), printed) is not None
