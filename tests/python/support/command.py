"""The command `comfy-auth-rs`, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def run(*args: object, python: str = sys.executable, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "comfy_auth_rs", *map(str, args)],
        env={**os.environ, "COLUMNS": "80", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
