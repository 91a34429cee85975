"""ComfyUI prints and writes a key nowhere, even with DEBUG, and `ps` shows a key only if it was typed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.canary import everywhere, is_silent, malformed, send
from support.client import ask, bearer
from support.keys import CANARY, KEY, WRONG_KEY
from support.servers import Server, start_server


def test_comfyui_at_its_most_talkative(copy_miniature: Any) -> None:
    """Neither its output nor the files that it leaves contain a key."""
    tree: Path = copy_miniature()
    environment = {"PYTHONFAULTHANDLER": "1", "PYTHONASYNCIODEBUG": "1"}
    with start_server(tree, "--api-key", KEY, "--verbose", "DEBUG", env=environment) as server:
        for key in (KEY, WRONG_KEY):
            for target, headers in everywhere(key):
                ask(server, target, headers)
            for request in malformed(key):
                send(server, request)
        for target in ("/system_stats", "/internal/logs", "/internal/logs/raw", "/settings", "/history", "/queue"):
            answer = ask(server, target, bearer(KEY))
            assert answer.status == 200
            assert is_silent(answer.text)
        os.kill(server.process.pid, signal.SIGABRT)
        server.process.wait(10)
        assert "Fatal Python error: Aborted" in server.output
        assert is_silent(server.output)
    written = [file for file in tree.rglob("*") if file.is_file()]
    assert [file for file in written if CANARY.encode() in file.read_bytes()] == []


def test_ps_shows_what_was_typed_and_nothing_more(copy_miniature: Any, tmp_path: Path) -> None:
    def seen(server: Server) -> str:
        folder = Path("/proc") / str(server.process.pid)
        if not folder.exists():
            pytest.skip("there is no /proc")
        return (folder / "cmdline").read_text() + (folder / "comm").read_text() + (folder / "environ").read_text()

    (tmp_path / "keys.txt").write_text(KEY)
    with start_server(copy_miniature(), "--api-key-file", str(tmp_path / "keys.txt")) as server:
        assert is_silent(seen(server))
    with start_server(copy_miniature(), "--api-key", KEY) as server:
        assert seen(server).count(CANARY) == 1
    flags = Path(__file__).resolve().parents[3] / "docs" / "flags.md"
    assert "in the process list" in flags.read_text()
