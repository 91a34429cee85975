"""Custom nodes queue in their own ways, or change ComfyUI's queue: they keep working, and limits hold."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfyui.test_limits import NODE, PICTURE, Site
from support.audit import lines_of
from support.servers import start_server

#: Queues a prompt under a number, with `put` or around it. And replaces `put` with one that drops some prompts.
QUEUES = """
import heapq
import execution

@PromptServer.instance.routes.post("/queue_by_number")
async def queue_by_number(request):
    asked = await request.json()
    queue, item = PromptServer.instance.prompt_queue, (0.5, asked["id"], asked["prompt"], {}, ["2"])
    if asked["past"]:
        with queue.mutex:
            heapq.heappush(queue.queue, item)
            queue.not_empty.notify()
    else:
        queue.put(item)
    return web.Response()

put = execution.PromptQueue.put

def put_or_look(self, item):
    return None if item[3].get("only_look") else put(self, item)

execution.PromptQueue.put = put_or_look
"""

KEYS = {"owner": "", "looks": "scope=run queued=1", "twice": "queued=2"}


@pytest.fixture
def site(copy_miniature: Callable[[], Path], tmp_path: Path) -> Iterator[Site]:
    keys = {label: secrets.token_urlsafe(32) for label in KEYS}
    (tmp_path / "keys.txt").write_text("".join(f"{key} {label} {KEYS[label]}\n" for label, key in keys.items()))
    (tmp_path / "keys.txt").chmod(0o600)
    tree = copy_miniature()
    node = tree / "custom_nodes" / "queues" / "__init__.py"
    node.parent.mkdir(parents=True)
    node.write_text(NODE + QUEUES)
    with start_server(tree, "--api-key-file", str(tmp_path / "keys.txt")) as server:
        site = Site(server, tmp_path, keys)
        yield site
        site.open_gates()
        assert server.own_faults == []


@pytest.mark.parametrize("past", [False, True])
def test_a_node_may_queue_by_a_number(site: Site, past: bool) -> None:
    assert site.ask("owner", "/queue_by_number", {"id": 12345, "past": past, "prompt": PICTURE}).status == 200
    prompt_id = site.queued("owner")
    site.until(lambda: prompt_id in site.ask("owner", "/history").json)
    assert site.in_queue() == ([], [])


def test_half_a_character_in_an_id_is_comfyuis_to_judge(site: Site) -> None:
    asked = json.dumps({"prompt": PICTURE, "prompt_id": "half-\ud800"}).encode()
    assert site.ask("looks", "/prompt", asked).status == 200
    site.until(lambda: site.in_queue() == ([], []))
    assert site.limits("looks")["queued"]["left"] == 1


def test_what_a_nodes_put_drops_takes_no_place(site: Site) -> None:
    for _ in range(3):
        assert site.queue("looks", extra_data={"only_look": True}).status == 200
    assert site.limits("looks")["queued"]["left"] == 1


def test_a_prompt_that_is_put_by_a_put_that_fails_takes_a_place(site: Site) -> None:
    """ComfyUI's `put` fails after it has added the prompt if another prompt has the same number and id."""
    site.blocked()
    asked = {"number": 5, "prompt_id": str(uuid.uuid4())}
    first, second, third = (site.queue("twice", site.waiting(), **asked).status for _ in range(3))
    assert (first, third) == (200, 429)
    assert second >= 400
    assert len(site.in_queue()[1]) == 2


#: Replaces methods of the queue object: first with ones that call ComfyUI's, then also `get` with its own version.
REPLACES = """
import copy, heapq

queue = PromptServer.instance.prompt_queue

def replace(name):
    method = getattr(queue, name)
    setattr(queue, name, lambda *args, **named: method(*args, **named))

for name in ("put", "get", "task_done", "wipe_queue", "delete_queue_item"):
    replace(name)

def get(timeout=None):
    with queue.not_empty:
        while len(queue.queue) == 0:
            queue.not_empty.wait(timeout=timeout)
            if timeout is not None and len(queue.queue) == 0:
                return None
        item = heapq.heappop(queue.queue)
        number = queue.task_counter
        queue.currently_running[number] = copy.deepcopy(item)
        queue.task_counter += 1
        return item, number

if DOES_ITS_WORK:
    queue.get = get
"""


@pytest.mark.parametrize("does_its_work", [False, True])
def test_a_nodes_own_methods_on_the_queue_are_seen(
    copy_miniature: Callable[[], Path], tmp_path: Path, does_its_work: bool
) -> None:
    keys = {label: secrets.token_urlsafe(32) for label in KEYS}
    (tmp_path / "keys.txt").write_text("".join(f"{key} {label} {KEYS[label]}\n" for label, key in keys.items()))
    (tmp_path / "keys.txt").chmod(0o600)
    tree, log = copy_miniature(), tmp_path / "audit.jsonl"
    node = tree / "custom_nodes" / "replaces" / "__init__.py"
    node.parent.mkdir(parents=True)
    node.write_text(NODE + REPLACES.replace("DOES_ITS_WORK", str(does_its_work)))
    with start_server(tree, "--api-key-file", str(tmp_path / "keys.txt"), "--auth-audit", str(log)) as server:
        site = Site(server, tmp_path, keys)
        for _ in range(3):
            prompt_id = site.queued("looks")
            site.until(lambda prompt_id=prompt_id: prompt_id in site.ask("owner", "/history").json)
            site.until(lambda: site.limits("looks")["queued"]["left"] == 1)
        site.open_gates()
        time.sleep(0.5)
    events = [line["event"].removeprefix("prompt_") for line in lines_of(log) if line["event"].startswith("prompt_")]
    assert events == ["queued", "started", "finished"] * 3
