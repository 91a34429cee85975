"""The command `comfy-auth-rs`, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import warm


def run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return warm.run("-m", "comfy_auth_rs", *map(str, args), env={**os.environ, "COLUMNS": "80", **env})


def run_in_terminal(*args: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Runs it in its own terminal, and returns all that it writes. Needs a system with pseudo-terminals."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "comfy_auth_rs", *map(str, args)]
    environment = {**os.environ, "COLUMNS": "80", **env}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, cwd=cwd) as process:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 4096):
                output += chunk
        except OSError:  # this is how Linux says that the other end is closed
            pass
    os.close(ours)
    return subprocess.CompletedProcess(command, process.returncode, output)
