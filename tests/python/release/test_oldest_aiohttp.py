"""Tests that depend on aiohttp's private names, run with the oldest aiohttp that we support."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HTTP = Path(__file__).resolve().parents[1] / "http"

#: From the same time, because it doesn't work with current versions of its dependencies.
OLDEST = ("aiohttp==3.9.5", "yarl==1.9.4", "multidict==6.0.5", "pytest-aiohttp==1.0.5")

FILES = (
    "test_aiohttp_internals.py",
    "test_middleware.py",
    "test_sessions.py",
    "test_url_prefix.py",
    "test_identity.py",
    "test_connections.py",
    "test_sockets.py",
)


def test_on_the_oldest_aiohttp(tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--no-deps"]
    subprocess.run([*pip, "--target", tmp_path / "site", *OLDEST], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(HTTP / name for name in FILES)]
    version = [sys.executable, "-c", "import aiohttp; print(aiohttp.__version__)"]
    assert subprocess.run(version, env=environment, capture_output=True, text=True).stdout == "3.9.5\n"
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HTTP.parents[2])
    assert result.returncode == 0, result.stdout[-4000:]
