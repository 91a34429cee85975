"""What `comfy-auth-rs usage` says of a ComfyUI's prompts: some failed, one was interrupted, a kill lost two."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.audit import lines_of
from support.client import JSON, ask, bearer
from support.command import run
from support.keys import KEY, OTHER_KEY
from support.servers import Server, start_real, start_server

ALICE, BOB = KEY, OTHER_KEY

#: A node that takes a while, and then has two outputs or fails.
NODE = """
import time

import comfy.model_management


class Work:
    RETURN_TYPES = ()
    FUNCTION = "work"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        whole = ("INT", {"default": 0, "min": 0, "max": 1000000})
        return {"required": {"milliseconds": whole, "fails": whole, "number": whole}}

    def work(self, milliseconds, fails, number):
        end = time.monotonic() + milliseconds / 1000
        while time.monotonic() < end:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.005)
        if fails:
            raise RuntimeError("as it was told")
        return {"ui": {"text": ["one", "two"]}}


NODE_CLASS_MAPPINGS = {"Work": Work}
"""

Start = Callable[[], Any]


class Client:
    """Somebody with a key."""

    def __init__(self, server: Server, key: str) -> None:
        self._server, self._key = server, key

    def post(self, path: str, body: dict[str, Any]) -> None:
        headers = {**bearer(self._key), **JSON}
        answer = ask(self._server, path, headers, method="POST", body=json.dumps(body).encode())
        assert answer.status == 200, answer.text

    def get(self, path: str) -> Any:
        return ask(self._server, path, bearer(self._key)).json

    def queue(self, milliseconds: int, fails: bool = False) -> str:
        prompt_id = str(uuid.uuid4())
        inputs = {"milliseconds": milliseconds, "fails": int(fails), "number": uuid.uuid4().int % 1_000_000}
        self.post("/prompt", {"prompt": {"1": {"class_type": "Work", "inputs": inputs}}, "prompt_id": prompt_id})
        return prompt_id

    def wait(self, done: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done(self.get("/queue")):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_idle(queue: dict[str, Any]) -> bool:
    return not queue["queue_running"] and not queue["queue_pending"]


def runs(queue: dict[str, Any]) -> bool:
    return bool(queue["queue_running"])


@pytest.fixture(params=["miniature", "real"])
def start(request: pytest.FixtureRequest, copy_miniature: Callable[[], Path], tmp_path: Path) -> Start:
    """Starts the same ComfyUI each time, with the keys of Alice and Bob."""
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path / "base"
    for name in ("custom_nodes", "input", "output", "user", "models"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "work.py").write_text(NODE)
    keys = tmp_path / "keys"
    keys.write_text(f"{ALICE} Alice's laptop user=alice\n{BOB} Bob\n")
    keys.chmod(0o600)
    flags = ["--api-key-file", str(keys), "--auth-audit", str(tmp_path / "audit.jsonl")]
    tree = copy_miniature()

    def start() -> Any:
        if request.param == "miniature":
            return start_server(tree, "--base-directory", str(base), *flags)
        shutil.rmtree(base / "package", ignore_errors=True)  # an earlier start made it
        return start_real(base, *flags)

    return start


def test_usage_says_what_happened(start: Start, tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with start() as server:
        alice, bob = Client(server, ALICE), Client(server, BOB)
        for number in range(9):
            alice.queue(50 * number, fails=number in (3, 4))
        for number in range(6):
            bob.queue(100 + 10 * number, fails=number == 5)
        alice.wait(is_idle)
        alice.queue(60_000)
        alice.wait(runs)
        bob.post("/interrupt", {})
        alice.wait(is_idle)
        history = alice.get("/history")
        running = bob.queue(60_000)
        bob.wait(runs)
        taken_off, waiting = [bob.queue(1), bob.queue(1)], bob.queue(1)
        bob.post("/queue", {"delete": taken_off})
        assert ask(server, "/queue").status == 401
        time.sleep(1.5)  # until the log is written; a kill would lose the rest
        server.process.kill()
    with start() as server:
        Client(server, ALICE).wait(is_idle)
        deadline = time.monotonic() + 20
        while audit.read_bytes().count(b"prompt_unfinished") < 2 and time.monotonic() < deadline:
            time.sleep(0.1)

    events = lines_of(audit)
    ended = {event["prompt_id"]: event for event in events if event["event"] == "prompt_finished"}
    assert ended.keys() == history.keys()
    for prompt_id, event in ended.items():
        assert event["seconds"] == pytest.approx(seconds(history[prompt_id]), abs=0.1)
    assert [event["status"] for event in ended.values()].count("interrupted") == 1
    assert {event["prompt_id"] for event in events if event["event"] == "prompt_unfinished"} == {running, waiting}

    told = run("usage", audit, "--json")
    assert told.stderr == ""
    rows = {row["label"]: row for row in json.loads(told.stdout)["rows"]}
    of_alice = {
        "queued": 10,
        "prompts": 10,
        "failed": 2,
        "interrupted": 1,
        "cancelled": 0,
        "unfinished": 0,
        "outputs": 14,
    }
    of_bob = {"queued": 10, "prompts": 6, "failed": 1, "interrupted": 0, "cancelled": 2, "unfinished": 2, "outputs": 10}
    for label, figures in (("Alice's laptop", of_alice), ("Bob", of_bob)):
        assert {name: rows[label][name] for name in figures} == figures, label
        finished = [event for event in ended.values() if event["label"] == label]
        assert rows[label]["seconds"] == pytest.approx(sum(event["seconds"] for event in finished), abs=0.001)
        assert rows[label]["seconds"] == pytest.approx(
            sum(seconds(history[event["prompt_id"]]) for event in finished), abs=0.1
        )
    assert rows["Alice's laptop"]["user"] == "alice"
    assert rows[None]["refusals"] >= 1


def seconds(entry: dict[str, Any]) -> float:
    """The time from ComfyUI's first message of a prompt to its last."""
    times = [about["timestamp"] for _, about in entry["status"]["messages"]]
    return (max(times) - min(times)) / 1000
