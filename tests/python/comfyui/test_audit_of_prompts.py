"""What the audit log and `usage` say of prompts, compared with ComfyUI's own history."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.audit import check_audit, lines_of
from support.client import JSON, ask, bearer
from support.keys import CANARY
from support.servers import Server, ServerDied, start_real, start_server

ALICE, BOB = (f"{CANARY}-{name}-0123456789-abcdefghijklmnopqrstuvwxyz" for name in ("alice", "bob"))

#: A node that takes as long as it is told, has as many outputs as it is told, and fails if it is told.
NODE = """
import time
import comfy.model_management

class Work:
    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "test", "work", (), True

    @classmethod
    def INPUT_TYPES(cls):
        number = ("FLOAT", {"default": 0.0, "max": 100.0, "step": 0.01})
        fails = ("BOOLEAN", {"default": False})
        return {"required": {"seconds": number, "outputs": ("INT", {"default": 1}), "fails": fails}}

    @classmethod
    def IS_CHANGED(cls, **given):
        return float("nan")

    def work(self, seconds, outputs, fails):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(min(left, 0.05))
        if fails:
            raise RuntimeError("as it was told")
        return {"ui": {"text": ["done"] * outputs, "animated": (True,)}}

NODE_CLASS_MAPPINGS = {"Work": Work}
"""

Start = Callable[[], AbstractContextManager[Server]]


@pytest.fixture(
    params=[
        "miniature",
        pytest.param(
            "real",
            marks=pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no real ComfyUI"),
        ),
    ]
)
def start(request: pytest.FixtureRequest, tmp_path: Path, copy_miniature: Callable[[], Path]) -> Start:
    """Each call starts the server, always with the same log."""
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{ALICE} alice user=Alice scope=run\n{BOB} bob\n")
    keys.chmod(0o600)
    flags = ("--api-key-file", str(keys), "--auth-audit", str(tmp_path / "audit.jsonl"))
    base = copy_miniature() if request.param == "miniature" else tmp_path / "base"
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    (base / "custom_nodes" / "work.py").write_text(NODE)
    if request.param == "miniature":
        return lambda: start_server(base, *flags)
    return lambda: start_real(base, *flags)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def queue(server: Server, key: str, seconds: float = 0.05, *, outputs: int = 1, fails: bool = False) -> str:
    prompt = {"1": {"class_type": "Work", "inputs": {"seconds": seconds, "outputs": outputs, "fails": fails}}}
    answer = ask(
        server, "/prompt", {**bearer(key), **JSON}, method="POST", body=json.dumps({"prompt": prompt}).encode()
    )
    assert answer.status == 200, answer.body
    identifier: str = answer.json["prompt_id"]
    return identifier


def post(server: Server, target: str, key: str, **body: Any) -> int:
    return ask(server, target, {**bearer(key), **JSON}, method="POST", body=json.dumps(body).encode()).status


def history(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = ask(server, "/history", bearer(BOB)).json
    return found


def wait_until_idle(server: Server) -> None:
    deadline = time.monotonic() + 60
    while ask(server, "/prompt", bearer(ALICE)).json["exec_info"]["queue_remaining"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_runs(server: Server, identifier: str) -> None:
    deadline = time.monotonic() + 60
    while identifier not in [item[1] for item in ask(server, "/queue", bearer(ALICE)).json["queue_running"]]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seconds_in(entry: dict[str, Any]) -> float:
    """How long a prompt ran, by ComfyUI's own times in its history."""
    times = [data["timestamp"] for name, data in entry["status"]["messages"] if name.startswith("execution_")]
    return (max(times) - min(times)) / 1000


def usage(log: Path, by: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "comfy_auth_rs", "usage", str(log), "--by", by, "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def test_usage_says_what_happened(start: Start, log: Path) -> None:
    """Alice and Bob queue prompts: some fail, some are cancelled, one is interrupted, and some are lost by a kill."""
    expected: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def note(server: Server, owner: dict[str, str]) -> None:
        for identifier, entry in history(server).items():
            counts = expected[owner[identifier]]
            counts["prompts"] += 1
            counts["seconds"] += seconds_in(entry)
            counts["outputs"] += sum(len(output["text"]) for output in entry["outputs"].values())

    with start() as server:
        owner = {queue(server, key, 0.1, outputs=2): key for key in (ALICE, BOB) * 3}
        owner |= {queue(server, key, 0.02, fails=True): key for key in (ALICE, BOB)}
        wait_until_idle(server)
        blocking = queue(server, BOB, 30)
        owner[blocking] = BOB
        wait_until_runs(server, blocking)
        cancelled = {queue(server, key): key for key in (ALICE, BOB, ALICE)}
        for identifier in list(cancelled)[:2]:
            assert post(server, "/queue", ALICE, delete=[identifier]) == 200
        assert post(server, "/queue", BOB, clear=True) == 200
        assert post(server, "/interrupt", ALICE) == 200
        wait_until_idle(server)
        note(server, owner)
        lost = [queue(server, ALICE, 30), queue(server, BOB), queue(server, ALICE)]
        wait_until_runs(server, lost[0])
        time.sleep(0.5)  # until the log is written
        server.process.kill()
        server.process.wait()
    with start() as server:
        owner = {queue(server, key, 0.05): key for key in (ALICE, ALICE, BOB, BOB, BOB)}
        wait_until_idle(server)
        note(server, owner)
        time.sleep(0.5)
    lines = lines_of(log)
    found = usage(log, "key")
    labels = {ALICE: "alice", BOB: "bob"}
    for key, counts in expected.items():
        row = next(row for row in found["rows"] if row["label"] == labels[key])
        assert row["prompts"] == counts["prompts"]
        assert row["outputs"] == counts["outputs"]
        assert row["seconds"] == pytest.approx(counts["seconds"], abs=0.1)
    totals = {row["label"]: row for row in found["rows"]}
    assert {label: row["cancelled"] for label, row in totals.items()} == {"alice": 2, "bob": 1}
    assert {label: row["unfinished"] for label, row in totals.items()} == {"alice": 2, "bob": 1}
    assert {label: row["failed"] for label, row in totals.items()} == {"alice": 1, "bob": 1}
    assert {label: row["interrupted"] for label, row in totals.items()} == {"alice": 0, "bob": 1}
    unfinished = [line["prompt_id"] for line in lines if line["event"] == "prompt_unfinished"]
    assert sorted(unfinished) == sorted(lost)
    by = {line["label"]: line["key"] for line in lines if line["event"] == "admitted"}
    interrupted = [line for line in lines if line.get("status") == "interrupted"]
    assert [(line["prompt_id"], line["label"], line["by"]) for line in interrupted] == [(blocking, "bob", by["alice"])]
    of_cancelled = {line["prompt_id"]: line["by"] for line in lines if line["event"] == "prompt_cancelled"}
    assert list(of_cancelled) == list(cancelled)
    assert list(of_cancelled.values()) == [by["alice"], by["alice"], by["bob"]]
    users = {row["user"]: row["prompts"] for row in usage(log, "user")["rows"]}
    assert users["Alice"] == expected[ALICE]["prompts"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_left_when_the_server_ends_is_told_at_once(start: Start, log: Path, number: int) -> None:
    with start() as server:
        running = queue(server, ALICE, 30)
        wait_until_runs(server, running)
        waiting = queue(server, BOB)
        os.kill(server.process.pid, number)
        server.process.wait(30)
    lines = lines_of(log)
    left = {line["prompt_id"]: line for line in lines if line["event"] == "prompt_unfinished"}
    assert left.keys() == {running, waiting}
    assert left[running]["seconds"] > 0 and "seconds" not in left[waiting]
    assert left[running]["label"] == "alice"


@pytest.mark.parametrize("folder", ["output", "input", "user", "temp"])
def test_the_log_is_in_no_folder_that_clients_can_read(patched_miniature: Path, tmp_path: Path, folder: str) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{ALICE} alice\n")
    keys.chmod(0o600)
    base = tmp_path / "base"
    (base / folder).mkdir(parents=True)
    flags = ("--api-key-file", str(keys), "--base-directory", str(base))
    with (
        pytest.raises(ServerDied) as died,
        start_server(patched_miniature, *flags, "--auth-audit", str(base / folder / "audit.jsonl")) as server,
    ):
        server.process.wait(30)
        raise ServerDied(server.process.returncode, server.output)
    assert died.value.returncode == 2
    assert "--auth-audit: " in died.value.output and "name a file elsewhere" in died.value.output
    assert "Traceback" not in died.value.output


def test_two_servers_may_write_to_one_log(copy_miniature: Callable[[], Path], tmp_path: Path) -> None:
    """A custom node's children write to their parent's log."""
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{ALICE} alice\n")
    keys.chmod(0o600)
    log = tmp_path / "audit.jsonl"
    tree = copy_miniature()
    (tree / "custom_nodes" / "work.py").write_text(NODE)
    flags = ("--api-key-file", str(keys), "--auth-audit", str(log))
    with start_server(tree, *flags) as first:
        running = queue(first, ALICE, 30)
        wait_until_runs(first, running)
        with start_server(tree, *flags) as second:
            for server in (first, second) * 50:
                assert post(server, "/prompt", ALICE) == 400
            time.sleep(0.5)
            assert "prompt_unfinished" not in log.read_text()
    check_audit(log)
    assert sum(line["event"] == "admitted" for line in lines_of(log)) == 101
