"""The command `comfy-auth-rs`, in a process of its own."""

from __future__ import annotations

import os
import subprocess

from support import warm


def run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    return warm.run("-m", "comfy_auth_rs", *map(str, args), env={**os.environ, "COLUMNS": "80", **env})
