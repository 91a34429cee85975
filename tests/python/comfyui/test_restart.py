"""`comfy-auth-rs run`: the miniature still asks for the key after a restart."""

from __future__ import annotations

import http.client
import os
import shutil
import time
from pathlib import Path

import pytest
from support.client import ask, bearer
from support.keys import KEY
from support.servers import MINI_COMFYUI, start_server

RESTARTING_NODE = """
import os, sys
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}

@PromptServer.instance.routes.post("/restart")
async def restart(request):
    os.execv(sys.executable, [sys.executable] + sys.argv)
"""


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return str(file)


@pytest.mark.skipif(os.name != "posix", reason="os.execv keeps the process only on POSIX")
@pytest.mark.parametrize("flag", ["--api-key-file", "--api-key"])
def test_the_miniature_asks_for_the_key_before_and_after_a_restart(tmp_path, key_file, flag):
    pytest.importorskip("comfyui_frontend_package", reason="the miniature serves comfyui-frontend-package")
    tree = shutil.copytree(MINI_COMFYUI, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    node = tmp_path / "base" / "custom_nodes" / "restarting.py"
    node.parent.mkdir(parents=True)
    node.write_text(RESTARTING_NODE)
    before = {file: file.read_bytes() for file in tree.rglob("*.py")}
    value = key_file if flag == "--api-key-file" else KEY
    arguments = (flag, value, "--base-directory", str(tmp_path / "base"))
    with start_server(tmp_path, *arguments, command=("-m", "comfy_auth_rs", "run", "tree", "--")) as server:

        def assert_protected() -> None:
            for path in ("/queue", "/api/queue", "/system_stats", "/userdata/x.json"):
                assert ask(server, path).status == 401
                assert ask(server, path, bearer("wrong")).status == 401
            assert ask(server, "/queue", bearer(KEY)).status == 200
            stats = ask(server, "/system_stats", bearer(KEY)).text
            assert str(tree / "main.py") in stats
            assert KEY not in stats

        assert_protected()
        assert ask(server, "/restart", method="POST").status == 401
        started = server.output.count("an API key is required")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(server, "/restart", bearer(KEY), method="POST")
        deadline = time.monotonic() + 30
        while server.output.count("an API key is required") == started and time.monotonic() < deadline:
            assert server.process.poll() is None, server.output
            time.sleep(0.05)
        assert server.output.count("an API key is required") == started + 1
        while time.monotonic() < deadline:
            try:
                assert_protected()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        else:
            pytest.fail(server.output)
    assert {file: file.read_bytes() for file in tree.rglob("*.py")} == before
