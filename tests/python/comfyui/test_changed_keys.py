"""`comfy-auth-rs keys` changes the file of a running server, which follows within a second."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import ask, bearer
from support.command import run
from support.keys import KEY
from support.servers import MINI_COMFYUI, Server, start_server

pytest.importorskip("comfyui_frontend_package", reason="the miniature serves comfyui-frontend-package")

#: A bit longer than the server takes. It checks key files twice a second.
SOON = 1.5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEY} first\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def server(tmp_path: Path, file: Path) -> Iterator[Server]:
    tree = shutil.copytree(MINI_COMFYUI, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    arguments = ("--api-key-file", str(file), "--base-directory", str(tmp_path / "base"))
    with start_server(tree.parent, *arguments, command=("-m", "comfy_auth_rs", "run", "tree", "--")) as started:
        yield started


def status_of(server: Server, key: str) -> int:
    return ask(server, "/queue", bearer(key)).status


def keys(*args: object) -> str:
    result = run("keys", *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_running_server_follows_every_change(server: Server, file: Path) -> None:
    def becomes(key: str, status: int) -> None:
        since = time.monotonic()
        while (found := status_of(server, key)) != status:
            assert time.monotonic() - since < SOON, found
            time.sleep(0.05)

    assert status_of(server, KEY) == 200
    added = json.loads(keys("add", file, "--label", "second", "--json"))
    becomes(added["key"], 200)

    rotated = keys("rotate", file, added["id"], "--grace", "1h").strip()
    becomes(rotated, 200)
    assert status_of(server, added["key"]) == 200, "the old key is still in its grace period"
    keys("revoke", file, added["id"])
    becomes(added["key"], 401)
    assert status_of(server, rotated) == 200

    keys("revoke", file, "first")
    becomes(KEY, 401)
    keys("revoke", file, "second")  # the last key, so nobody gets in
    becomes(rotated, 401)
    for key in (KEY, added["key"], rotated, "wrong"):
        assert status_of(server, key) in (401, 429)
    assert ask(server, "/queue").status in (401, 429)

    again = keys("add", file, "--label", "second", "--digest").strip()
    becomes(again, 200)
    assert server.process.poll() is None
    for key in (KEY, added["key"], rotated, again):
        assert key not in server.output
