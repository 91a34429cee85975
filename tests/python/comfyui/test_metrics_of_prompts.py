"""`/metrics` of a ComfyUI: prompts are counted by key, and `docs/metrics.md` lists exactly the metrics that it has."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.client import JSON, ask, bearer
from support.keys import CANARY
from support.metrics import OPEN_METRICS, families, value, values
from support.servers import Server, start_server

ALICE, BOB, NAMELESS, LEAVING = (
    f"{CANARY}-{name}-0123456789-abcdefghijklmnopqrstuvwxyz" for name in ("alice", "bob", "nameless", "leaving")
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"

FAILING = """\
class Fail:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "fail"
    CATEGORY = "tests"

    def fail(self):
        raise ValueError("on purpose")

NODE_CLASS_MAPPINGS = {"Fail": Fail}
"""


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


def write(key_file: Path, *lines: str) -> None:
    key_file.touch(mode=0o600)
    key_file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def server(copy_miniature: Any, key_file: Path) -> Iterator[Server]:
    tree = copy_miniature()
    (tree / "custom_nodes" / "failing.py").write_text(FAILING)
    write(
        key_file, f"{ALICE} alice", f"{BOB} bob expires=2199-01-31 user=bob", NAMELESS, f"{LEAVING} leaving scope=run"
    )
    log = key_file.with_name("audit.jsonl")
    with start_server(tree, "--api-key-file", str(key_file), "--auth-audit", str(log)) as started:
        yield started


def queue(server: Server, key: str, graph: dict[str, Any]) -> str:
    """Queues a graph. Returns the prompt's id."""
    body = json.dumps({"prompt": graph}).encode()
    answer = ask(server, "/prompt", {**bearer(key), **JSON}, method="POST", body=body)
    assert answer.status == 200, answer
    prompt: str = answer.json["prompt_id"]
    return prompt


def slow(seconds: float, color: int = 0) -> dict[str, Any]:
    """A graph with a new color has no cached result."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color}},
        "2": {"class_type": "ProgressDemo", "inputs": {"image": ["1", 0], "seconds": seconds, "steps": 10}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


FAIL = {"1": {"class_type": "Fail", "inputs": {}}}


def post(server: Server, key: str, target: str, body: Any) -> None:
    answer = ask(server, target, {**bearer(key), **JSON}, method="POST", body=json.dumps(body).encode())
    assert answer.status == 200, answer


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def prompts(server: Server) -> dict[str, float]:
    """The counts by label and status, without zeros."""
    found = values(ask(server, "/metrics", bearer(ALICE)), "prompts_total", "key_label/status")
    return {name: count for name, count in found.items() if count}


def queued(server: Server) -> dict[str, float]:
    return values(ask(server, "/metrics", bearer(ALICE)), "queue_prompts", "state")


def test_prompts_are_counted_by_key_and_end(server: Server, key_file: Path) -> None:
    assert prompts(server) == {}
    queue(server, ALICE, slow(0.2, 1))
    queue(server, ALICE, FAIL)
    queue(server, NAMELESS, slow(0.1, 2))
    until(lambda: prompts(server) == {"alice/success": 1, "alice/error": 1, "/success": 1})

    running = queue(server, BOB, slow(30, 3))
    until(lambda: queued(server)["running"] == 1)
    waiting = [queue(server, BOB, slow(0.1, 4)), queue(server, ALICE, slow(0.1, 5))]
    assert queued(server) == {"pending": 2, "running": 1}
    page = ask(server, "/metrics", bearer(ALICE))
    assert value(page, "prompts_total", key_label="bob", status="success") == 0  # there before any prompt ends
    post(server, ALICE, "/queue", {"delete": [waiting[0]]})
    post(server, BOB, "/interrupt", {"prompt_id": running})
    until(lambda: "alice/success" in prompts(server) and prompts(server)["alice/success"] == 2)
    assert prompts(server) == {
        "alice/success": 2, "alice/error": 1, "/success": 1, "bob/interrupted": 1, "bob/cancelled": 1,
    }  # fmt: skip
    assert ask(server, "/prompt", {**bearer(ALICE), **JSON}, method="POST", body=b'{"prompt": {}}').status == 400
    assert sum(prompts(server).values()) == 6

    seconds = values(ask(server, "/metrics", bearer(ALICE)), "prompt_seconds_total", "key_label")
    assert seconds.keys() == {"alice", "bob", ""}
    assert 0.3 <= seconds["alice"] < 5
    assert 0.1 <= seconds[""] < 5
    assert 0 < seconds["bob"] < 25

    # A removed key keeps its counts, and prompts that it queued still count for it.
    queue(server, LEAVING, slow(0.8, 6))
    write(key_file, f"{ALICE} alice", f"{BOB} bob expires=2199-01-31")
    until(lambda: prompts(server).get("leaving/success") == 1)
    assert prompts(server)["/success"] == 1


def documented() -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric in the document's table."""
    rows = re.findall(r"^\| `(comfy_auth_\w+)` \| (\w+) \|(.*?)\| .+ \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_document_names_all_that_it_tells_and_no_more(server: Server) -> None:
    queue(server, ALICE, slow(0.1, 7))
    for headers in ({}, OPEN_METRICS):
        told: dict[str, tuple[str, set[str]]] = {}
        for family in families(ask(server, "/metrics", {**bearer(ALICE), **headers})):
            for sample in family.samples:
                kind, labels = told.get(sample.name, (family.type, set()))
                told[sample.name] = (kind if kind != "info" else "gauge", labels | sample.labels.keys())
        assert told == documented()


def test_the_document_names_every_cause(server: Server) -> None:
    page = ask(server, "/metrics", bearer(ALICE))
    outcomes = values(page, "decisions_total", "outcome/cause")
    text = PAGE.read_text(encoding="utf-8")
    words = {word for name in outcomes for word in name.split("/")} - {""}
    section = text.split("## What was decided")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == words | {"outcome", "cause"}
