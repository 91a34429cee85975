"""Limits of prompts hold: in the miniature, and in the real ComfyUI that `COMFYUI_DIR` names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.client import JSON, UPGRADE, Answer, ask, fetch
from support.servers import Server, start_real, start_server

#: A graph that ends when a file exists. And a middleware that delays a prompt before ComfyUI reads it, and answers if
#: ComfyUI's handler fails.
NODE = """
import asyncio, pathlib, time
from aiohttp import web
from server import PromptServer

class WaitForFile:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"path": ("STRING", {"default": ""})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "run", True, "tests"

    def run(self, path):
        import comfy.model_management
        deadline = time.monotonic() + 60
        while not pathlib.Path(path).exists() and time.monotonic() < deadline:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return {}

NODE_CLASS_MAPPINGS = {"WaitForFile": WaitForFile}

@web.middleware
async def slow(request, handler):
    await asyncio.sleep(float(request.headers.get("X-Slow", 0)))
    try:
        return await handler(request)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return web.Response(status=400)

PromptServer.instance.app.middlewares.append(slow)
"""

#: The attributes after each label. Each test has its own keys, because all tests share a server.
KEYS = {
    "owner": "",
    "jump": "scope=run",
    "take": "scope=run",
    "race": "scope=run",
    "burst": "scope=run queued=1",
    "slow": "scope=run prompts=2/h",
    "cancel": "scope=run queued=1",
    "interrupt": "scope=run queued=1",
    "end": "scope=run queued=2 prompts=2/h",
    "wrong": "scope=run prompts=1/h queued=1",
    "last": "scope=run prompts=100/d",
    "first": "prompts=100/d",
    "anna": "scope=run user=anna prompts=3/h",
    "Anna": "scope=run user=Anna prompts=1/d queued=5",
    "bob": "scope=run user=bob prompts=3/h",
    "told": "scope=run prompts=60/h queued=3",
    "twin": "scope=run prompts=1/d",
    "upgrade": "scope=run prompts=1/d",
    "free": "scope=run",
}

PICTURE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "made"}},
}

WITHIN = 60.0


@dataclass
class Site:
    server: Server
    folder: Path
    keys: dict[str, str]
    #: Graphs wait until these files exist.
    gates: list[Path] = field(default_factory=list)

    def ask(self, label: str, target: str, body: Any = None, **fields: str) -> Answer:
        headers = {"X-API-Key": self.keys[label], **fields}
        if body is None:
            return ask(self.server, target, headers)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.server, target, {**headers, **JSON}, method="POST", body=sent)

    def queue(self, label: str, graph: Any = None, **asked: Any) -> Answer:
        return self.ask(label, "/prompt", {"prompt": graph or PICTURE, **asked})

    def queued(self, label: str, graph: Any = None, **asked: Any) -> str:
        """Queues a prompt. Returns its id."""
        answer = self.queue(label, graph, **asked)
        assert answer.status == 200, answer
        prompt_id: str = answer.json["prompt_id"]
        return prompt_id

    def waiting(self) -> Any:
        """A graph that ends when its gate is opened."""
        gate = self.folder / f"gate-{len(self.gates)}"
        self.gates.append(gate)
        return {"1": {"class_type": "WaitForFile", "inputs": {"path": str(gate)}}}

    def open_gates(self) -> None:
        for gate in self.gates:
            gate.touch()

    def in_queue(self) -> tuple[list[str], list[str]]:
        """The ids of the prompts that run, and of those that wait, in order."""
        found = self.ask("owner", "/queue").json
        waiting = sorted(found["queue_pending"], key=lambda item: item[0])
        return [item[1] for item in found["queue_running"]], [item[1] for item in waiting]

    def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + WITHIN
        while not holds():
            assert time.monotonic() < deadline, self.server.output[-3000:]
            time.sleep(0.05)

    def run_dry(self) -> None:
        self.open_gates()
        self.until(lambda: self.in_queue() == ([], []))

    def blocked(self) -> str:
        """Queues a prompt of the owner that runs until the gates open. Returns its id."""
        prompt_id = self.queued("owner", self.waiting())
        self.until(lambda: self.in_queue()[0] == [prompt_id])
        return prompt_id

    def limits(self, label: str) -> Any:
        return self.ask(label, "/auth_session").json["limits"]


@pytest.fixture(scope="module", params=["miniature", "real"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    keys = {label: secrets.token_urlsafe(32) for label in KEYS}
    (base / "keys.txt").write_text("".join(f"{key} {label} {KEYS[label]}\n" for label, key in keys.items()))
    (base / "keys.txt").chmod(0o600)
    flags = ("--api-key-file", str(base / "keys.txt"))
    node = base / "custom_nodes" / "limits_test" / "__init__.py"
    if request.param == "real":
        starting = start_real(base, *flags)
    else:
        tree = request.getfixturevalue("copy_miniature")()
        starting = start_server(tree, *flags)
        node = tree / "custom_nodes" / "limits_test" / "__init__.py"
    node.parent.mkdir(parents=True)
    node.write_text(NODE)
    with starting as server:
        yield Site(server, base, keys)
        assert server.own_faults == []
        assert not [key for key in keys.values() if key in server.output]


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    yield running
    running.run_dry()


async def at_once(site: Site, label: str, bodies: list[Any], **fields: str) -> list[Answer]:
    headers = {"X-API-Key": site.keys[label], **JSON, **fields}
    asking = [fetch(site.server, "/prompt", headers, method="POST", body=json.dumps(body).encode()) for body in bodies]
    return list(await asyncio.gather(*asking))


def is_over(answer: Answer) -> bool:
    """Whether a limit refused it, in the form that ComfyUI's page reads."""
    if answer.status != 429:
        return False
    body = answer.json
    assert (body["cause"], body["error"]["type"], body["node_errors"]) == ("quota", "too_many_requests", {})
    assert (body["message"], body["error"]["details"]) == (f"{body['error']['message']}.", "quota")
    assert answer.headers["Retry-After"].isdecimal() and int(answer.headers["Retry-After"]) > 0
    assert "WWW-Authenticate" not in answer.headers
    return True


# --- queued= ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["0", "0.5"])
def test_fifty_at_once_take_one_place(site: Site, slow: str) -> None:
    body = {"prompt": site.waiting()}
    answers = asyncio.run(at_once(site, "burst", [body] * 50, **{"X-Slow": slow}))
    assert Counter(answer.status for answer in answers) == {200: 1, 429: 49}
    assert all(is_over(answer) for answer in answers if answer.status != 200)
    running, waiting = site.in_queue()
    assert len(running + waiting) == 1
    site.run_dry()
    site.queued("burst")


def test_what_is_cancelled_frees_its_place(site: Site) -> None:
    site.blocked()
    for how in ("delete", "clear"):
        prompt_id = site.queued("cancel")
        assert is_over(site.queue("cancel"))
        body = {"delete": [prompt_id]} if how == "delete" else {"clear": True}
        assert site.ask("cancel", "/queue", body).status == 200
        assert site.in_queue()[1] == []
    site.queued("cancel")


def test_what_is_interrupted_frees_its_place(site: Site) -> None:
    prompt_id = site.queued("interrupt", site.waiting())
    site.until(lambda: site.in_queue()[0] == [prompt_id])
    assert is_over(site.queue("interrupt"))
    assert site.ask("interrupt", "/interrupt", b"").status == 200
    site.until(lambda: site.limits("interrupt")["queued"]["left"] == 1)
    site.queued("interrupt")


def test_what_has_ended_frees_its_place_but_still_counts(site: Site) -> None:
    site.queued("end", site.waiting())
    site.queued("end")
    assert site.limits("end")["queued"] == {"limit": 2, "left": 0}
    site.run_dry()
    limits = site.limits("end")
    assert limits["queued"]["left"] == 2 and limits["prompts"]["left"] == 0
    assert is_over(site.queue("end"))


# --- prompts= ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": {"1": {"class_type": "NoSuchNode", "inputs": {}}}},
        {"prompt": {}},
        {},
        b"{",
        b"[]",
        b'"prompt"',
        b"",
        b"\xff\xfe",
        b"[" * 50_000,
        {"prompt": None, "prompt_id": ["x"]},
        {"prompt": PICTURE, "number": "x"},
    ],
    ids=repr,
)
def test_what_comfyui_refuses_does_not_count(site: Site, body: Any) -> None:
    before = site.limits("wrong")
    answer = site.ask("wrong", "/prompt", body)
    assert answer.status == 400, "ComfyUI or the middleware refuses it"
    assert answer.headers["RateLimit"] == '"prompts";r=1, "queued";r=1'
    assert site.limits("wrong") == before == {
        "prompts": {"limit": 1, "window": 3600, "left": 1, "reset": None},
        "queued": {"limit": 1, "left": 1},
    }  # fmt: skip


def test_a_prompt_counts_at_the_gate_however_slowly_it_is_read(site: Site) -> None:
    answers = asyncio.run(at_once(site, "slow", [{"prompt": PICTURE}] * 10, **{"X-Slow": "0.5"}))
    assert Counter(answer.status for answer in answers) == {200: 2, 429: 8}


def test_keys_of_one_user_share_what_they_queued_and_keep_their_own_limits(site: Site) -> None:
    site.queued("anna")
    assert is_over(site.queue("Anna"))
    assert "1 prompt a day" in site.queue("Anna").json["message"]
    assert site.limits("Anna")["prompts"]["left"] == 0 and site.limits("anna")["prompts"]["left"] == 2
    site.queued("anna")
    site.queued("anna")
    assert is_over(site.queue("anna"))
    assert site.limits("bob")["prompts"]["left"] == 3
    site.queued("bob")


def test_the_twin_counts_with_it(site: Site) -> None:
    assert site.ask("twin", "/api/prompt", {"prompt": PICTURE}).status == 200
    assert is_over(site.queue("twin")) and is_over(site.ask("twin", "/api/prompt", {"prompt": PICTURE}))


def test_an_upgrade_is_no_way_past(site: Site) -> None:
    assert site.ask("upgrade", "/prompt", {"prompt": PICTURE}, **UPGRADE).status == 200
    assert is_over(site.ask("upgrade", "/prompt", {"prompt": PICTURE}, **UPGRADE))
    assert is_over(site.queue("upgrade"))


# --- what clients are told --------------------------------------------------------------------------------------


def test_a_client_is_told_what_is_left(site: Site) -> None:
    site.blocked()
    assert site.limits("told") == {
        "prompts": {"limit": 60, "window": 3600, "left": 60, "reset": None},
        "queued": {"limit": 3, "left": 3},
    }
    for left in (2, 1, 0):
        answer = site.queue("told")
        assert answer.status == 200
        assert answer.headers["RateLimit-Policy"] == '"prompts";q=60;w=3600, "queued";q=3'
        found = re.fullmatch(r'"prompts";r=(\d+)(;t=\d+)?, "queued";r=(\d)', answer.headers["RateLimit"])
        assert found and (int(found[1]), int(found[3])) == (57 + left, left)
    answer = site.queue("told")
    assert is_over(answer)
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["RateLimit-Policy"] == '"prompts";q=60;w=3600, "queued";q=3'
    assert answer.headers["RateLimit"] == '"prompts";r=57, "queued";r=0'
    assert answer.json["message"] == (
        "Your limit is 3 prompts in the queue at once; you may go on when one of yours has ended."
    )
    limits = site.limits("told")
    assert 3500 < limits["prompts"].pop("reset") <= 3600
    assert limits == {"prompts": {"limit": 60, "window": 3600, "left": 57}, "queued": {"limit": 3, "left": 0}}


def test_people_read_when_they_may_go_on(site: Site) -> None:
    if site.limits("slow")["prompts"]["left"]:
        site.queue("slow")
        site.queue("slow")
    answer = site.queue("slow")
    assert is_over(answer)
    seconds = int(answer.headers["Retry-After"])
    assert 3400 < seconds <= 3600
    assert answer.headers["RateLimit"] == f'"prompts";r=0;t={seconds}'
    assert re.fullmatch(
        r"Your limit is 2 prompts an hour; you may go on in (59|60) minutes\.", answer.json["message"]
    ), answer.json


def test_nothing_is_said_where_there_is_no_limit(site: Site) -> None:
    assert site.limits("free") == {"prompts": None, "queued": None}
    for answer in (site.queue("free"), site.queue("owner"), site.ask("told", "/prompt"), site.ask("told", "/queue")):
        assert answer.status == 200
        assert not {name.lower() for name in answer.headers} & {"ratelimit", "ratelimit-policy", "retry-after"}


# --- the place in the queue -------------------------------------------------------------------------------------


def test_a_limited_key_waits_for_its_turn(site: Site) -> None:
    site.blocked()
    ordinary = site.queued("owner")
    expected = [ordinary]
    for asked in ({"front": True}, {"number": -1000}, {"number": 0}, {"front": False}, {}, {"number": 1e9}):
        expected.append(site.queued("last", **asked))
        assert site.in_queue()[1] == expected, asked
    expected.append(site.queued("owner"))
    assert site.in_queue()[1] == expected


@pytest.mark.parametrize("label", ["owner", "first", "jump"])
def test_others_may_go_first(site: Site, label: str) -> None:
    """Keys without a limit may go first, and so may keys with scope `all`."""
    site.blocked()
    ordinary = site.queued("owner")
    front = site.queued(label, front=True)
    number = site.queued(label, number=-1000)
    assert site.in_queue()[1] == [number, front, ordinary]


# --- prompt_id --------------------------------------------------------------------------------------------------


def is_taken(answer: Answer) -> bool:
    if answer.status != 400:
        return False
    body = answer.json
    if body.get("cause") != "prompt_id_taken":
        return False
    assert (body["error"]["type"], body["node_errors"]) == ("bad_request", {})
    return True


def test_below_all_nobody_takes_the_id_of_another_prompt(site: Site) -> None:
    done, runs, waits, new = (str(uuid.uuid4()) for _ in range(4))
    assert site.queued("take", prompt_id=done) == done
    site.until(lambda: done in site.ask("owner", f"/history/{done}").json)
    site.queued("owner", site.waiting(), prompt_id=runs)
    site.until(lambda: site.in_queue()[0] == [runs])
    site.queued("take", prompt_id=waits)
    for prompt_id in (done, runs, waits):
        assert is_taken(site.queue("take", prompt_id=prompt_id)), prompt_id
        assert is_taken(site.queue("last", prompt_id=prompt_id)), prompt_id
    assert site.in_queue() == ([runs], [waits])
    assert site.queued("take", prompt_id=new) == new
    assert site.queue("owner", prompt_id=new).status == 200, "the owner may use it again"


def test_an_id_that_was_never_queued_may_be_tried_again(site: Site) -> None:
    prompt_id = str(uuid.uuid4())
    for _ in range(2):
        answer = site.queue("take", {"1": {"class_type": "NoSuchNode", "inputs": {}}}, prompt_id=prompt_id)
        assert answer.status == 400 and not is_taken(answer)
    assert site.queued("take", prompt_id=prompt_id) == prompt_id


def test_a_refused_id_takes_no_place(site: Site) -> None:
    prompt_id = site.queued("owner")
    before = site.limits("cancel")
    assert is_taken(site.queue("cancel", prompt_id=prompt_id))
    assert site.limits("cancel") == before


def test_of_several_at_once_with_one_id_one_is_queued(site: Site) -> None:
    body = {"prompt": PICTURE, "prompt_id": str(uuid.uuid4())}
    answers = asyncio.run(at_once(site, "race", [body] * 10, **{"X-Slow": "0.3"}))
    assert Counter(answer.status for answer in answers) == {200: 1, 400: 9}
    assert all(is_taken(answer) for answer in answers if answer.status != 200)
