"""This process and its ancestors, by process id and start time, because process ids are reused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Process", "ancestors", "this"]

_PROC = "/proc"


class Process(NamedTuple):
    """A process. Its start time is only for comparing."""

    pid: int
    parent: int
    started: str


def this() -> Process | None:
    """This process; None if the system doesn't say, as on Windows."""
    # Not `os.getpid()`: in a PID namespace, /proc may be the one from outside.
    return _look_up("self" if sys.platform == "linux" else str(os.getpid()))


def ancestors() -> Iterator[Process]:
    """The process that started this one, the one that started that, and so on, as far as the system says."""
    process = this()
    while process is not None and process.parent > 0:
        process = _look_up(str(process.parent))
        if process is not None:
            yield process


def _look_up(pid: str) -> Process | None:
    try:
        if sys.platform == "linux":
            return _from_proc(pid)
        return None if sys.platform == "win32" else _from_ps(pid)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _from_proc(pid: str) -> Process:
    with open(f"{_PROC}/{pid}/stat", "rb") as file:
        number, _, rest = file.read().partition(b" (")
    fields = rest.rpartition(b")")[2].split()  # drops the name, which may hold anything
    # Fields 4 and 22 of proc(5). The list begins with field 3.
    return Process(int(number), int(fields[1]), fields[19].decode())


def _from_ps(pid: str) -> Process:
    found = subprocess.run(
        ["/bin/ps", "-o", "pid=,ppid=,lstart=", "-p", pid],
        env={"LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=10,
        text=True,
    ).stdout.split(maxsplit=2)
    number, parent, started = found
    return Process(int(number), int(parent), " ".join(started.split()))
