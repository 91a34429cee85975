"""A key may do exactly what its scope says, on every route in every spelling.

Tested on the miniature, and on the real ComfyUI that `COMFYUI_DIR` names; with `COMFYUI_MANAGER`, a folder that `pip
install --target FOLDER comfyui-manager` filled, also on the Manager.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.client import JSON, Answer, ask
from support.scopes import BELOW_ALL, KEYS, OF_THE_MANAGER, WRITES, Visit, needed, visit, write_keys
from support.servers import WITNESS, Server, start_real, start_server
from support.sweep import METHODS, Route, odd_targets, read_routes, targets

MANAGER = os.environ.get("COMFYUI_MANAGER")

#: Requested with the owner's key: things that a user would miss.
STATE = ("/queue", "/history", "/settings", "/userdata?dir=workflows&recurse=true", "/internal/files/output", "/models")

#: Names of a user's files, and files that only the owner may touch.
USER_FILES = [
    f"{api}/userdata/{name}"
    for api in ("", "/api")
    for name in (
        "workflows%2Fx.json", "workflows%2Fdeep%2Fx.json", "subgraphs%2Fx.json", "comfy.settings.json",
        "comfy.templates.json", "user.css", "workflows%2F..%2Fuser.css", "x.html", "scripts%2Fx.js",
        "ComfyUI-Manager%2Fconfig.ini", "comfyui-manager%2Fconfig.ini", "workflows%2F..%2FComfyUI-Manager%2Fconfig.ini",
        "ComfyUI-Manager%252Fconfig.ini", "workflows%2Fx.json/move/user.css", "user.css/move/workflows%2Fx.json",
        "workflows%2Fx.json/move/workflows%2Fy.json", "ComfyUI-Manager%2Fconfig.ini/move/workflows%2Fx.json",
    )
]  # fmt: skip
LISTINGS = [
    f"{api}{target}"
    for api in ("", "/api")
    for target in (
        "/userdata?dir=workflows", "/userdata?dir=ComfyUI-Manager", "/userdata?dir=workflows/../ComfyUI-Manager",
        "/v2/userdata", "/v2/userdata?path=workflows", "/v2/userdata?path=ComfyUI-Manager",
    )
]  # fmt: skip


@dataclass(frozen=True)
class Site:
    server: Server
    base: Path
    keys: dict[str, str]
    routes: set[Route]

    def ask(self, label: str, target: str, method: str = "GET", body: bytes | None = None) -> Answer:
        headers = {"X-API-Key": self.keys[label], **(JSON if body else {})}
        return ask(self.server, target, headers, method=method, body=body)

    def state(self) -> dict[str, Any]:
        """What is on disk, and what the owner sees. Logs, databases and our own state don't count."""
        files = [
            file
            for folder in ("user", "input", "output", "models", "custom_nodes")
            for file in (self.base / folder).rglob("*")
            if file.is_file()
            and not {"__pycache__", "__comfy_auth_rs"}.intersection(file.parts)
            and not file.name.endswith((".log", ".db"))
        ]
        found: dict[str, Any] = {
            str(file.relative_to(self.base)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        }
        for target in STATE:
            answer = self.ask("owner", target)
            assert answer.status == 200, (target, answer)
            found[target] = answer.json
        return found


@contextmanager
def running(kind: str, request: pytest.FixtureRequest, base: Path, *flags: str, path: str = "") -> Iterator[Site]:
    """A server with a key for each scope, and with files that someone has made."""
    for name in ("input", "output", "user/default/workflows", "user/default/ComfyUI-Manager", "models"):
        (base / name).mkdir(parents=True)
    (base / "user" / "default" / "workflows" / "x.json").write_text('{"of": "somebody"}')
    (base / "user" / "default" / "comfy.settings.json").write_text('{"of": "somebody"}')
    (base / "user" / "default" / "ComfyUI-Manager" / "config.ini").write_text("[default]\n")
    (base / "output" / "x.txt").write_text("of somebody")
    shutil.copytree(WITNESS, base / "custom_nodes" / "witness", ignore=shutil.ignore_patterns("__pycache__"))
    keys = write_keys(base / "keys.txt")
    # The Manager must not install anything into anyone's Python.
    offline = {"PIP_NO_INDEX": "1", "PIP_DRY_RUN": "1", "UV_OFFLINE": "1"}
    env = {"WITNESS_ROUTES": str(base / "routes.json"), "PYTHONPATH": path, **offline}
    flags = ("--api-key-file", str(base / "keys.txt"), *flags)
    if kind == "real":
        starting = start_real(base, *flags, env=env)
    else:
        tree = request.getfixturevalue("copy_miniature")()
        shutil.rmtree(tree / "custom_nodes" / "witness")
        starting = start_server(tree, "--base-directory", str(base), *flags, env=env)
    with starting as server:
        site = Site(server, base, keys, read_routes(base / "routes.json"))
        make_a_picture(site)
        yield site
        assert not [key for key in keys.values() if key in server.output]


def make_a_picture(site: Site) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "made"}},
    }
    assert site.ask("owner", "/prompt", "POST", json.dumps({"prompt": graph}).encode()).status == 200
    deadline = time.monotonic() + 60
    while not site.ask("owner", "/history").json:
        assert time.monotonic() < deadline, "the graph doesn't run"
        time.sleep(0.1)
    time.sleep(0.5)  # the queue is updated last


def skip_without(kind: str) -> None:
    if kind == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")


@pytest.fixture(scope="module", params=["miniature", "real"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    skip_without(request.param)
    with running(request.param, request, tmp_path_factory.mktemp("base")) as site:
        yield site


@pytest.fixture(scope="module")
def state_before(site: Site) -> dict[str, Any]:
    return site.state()


def everything(routes: set[Route]) -> list[tuple[str, str]]:
    """Every plain route with every method, and every odd spelling read and written."""
    known = [*targets(routes), *USER_FILES, *LISTINGS]
    odd = [(method, target) for target in odd_targets(routes) for method in ("GET", "POST")]
    twins = [(method, f"/api/api{path}") for path in ("/queue", "/jobs", "/jobs/x", "/free") for method in METHODS]
    return [*((method, target) for target in known for method in METHODS), *odd, *twins]


@pytest.fixture(scope="module")
def visits(site: Site, state_before: dict[str, Any]) -> Callable[[str], list[Visit]]:
    """Sends all of it with one key. Each key is used only once."""
    found: dict[str, list[Visit]] = {}

    def visits(label: str) -> list[Visit]:
        if label not in found:
            found[label] = visit(site.server, label, site.keys[label], everything(site.routes))
        return found[label]

    return visits


def test_with_view_nothing_of_a_persons_changes(
    site: Site, state_before: dict[str, Any], visits: Callable[[str], list[Visit]]
) -> None:
    """It runs first, before tests that may change something."""
    assert len([name for name in state_before if name.startswith("output/made")]) == 1
    answers = visits("view")
    assert len([one for one in answers if one.method in WRITES and one.is_refused]) > 1000
    after = site.state()
    changed = {name for name in state_before.keys() | after.keys() if state_before.get(name) != after.get(name)}
    assert changed == set()


@pytest.mark.parametrize("label", KEYS)
def test_each_route_answers_or_refuses_as_the_scope_says(visits: Callable[[str], list[Visit]], label: str) -> None:
    answers = visits(label)
    faults = [fault for one in answers if (fault := one.fault())]
    assert faults == []
    refused = sum(one.is_refused for one in answers)
    print(f"\n{label}: {len(answers)} requests, {refused} refused, {len({one.route for one in answers})} routes")
    assert (refused > 0) == (label != "owner")


def test_every_word_is_needed_somewhere(visits: Callable[[str], list[Visit]]) -> None:
    """If one weren't, the tests above would prove nothing."""
    words = [needed(one.method, one.route, one.target) for one in visits("view") if one.route is not None]
    assert [word for word in ("view", "run", "nodes", "all", None) if words.count(word) < 50] == []


def test_no_traceback_is_ours(site: Site, visits: Callable[[str], list[Visit]]) -> None:
    assert visits("view")
    assert visits("people")
    assert site.server.own_faults == []


# --- the Manager ------------------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=[(kind, legacy) for kind in ("miniature", "real") for legacy in (False, True)],
    ids=lambda param: f"{param[0]}-{'legacy' if param[1] else 'new'}",
)
def managed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if MANAGER is None:
        pytest.skip("COMFYUI_MANAGER names no folder that holds comfyui-manager")
    kind, is_legacy = request.param
    skip_without(kind)
    if kind == "real" and "--enable-manager" not in Path(os.environ["COMFYUI_DIR"], "comfy/cli_args.py").read_text():
        pytest.skip("this ComfyUI has no --enable-manager")
    flags = ["--enable-manager", *(["--enable-manager-legacy-ui"] if is_legacy else [])]
    with running(kind, request, tmp_path_factory.mktemp("base"), *flags, path=MANAGER) as site:
        yield site


def test_nothing_of_the_manager_with_less_than_all(managed: Site) -> None:
    its = {route for route in managed.routes if OF_THE_MANAGER.fullmatch(route.path)}
    assert len(its) > 20
    wanted = [(method, target) for target in targets(its) for method in METHODS]
    wanted += [(method, target) for target in odd_targets(its) for method in ("GET", "POST")]
    wanted += [(method, target) for target in (*USER_FILES, *LISTINGS) if "anager" in target for method in METHODS]
    before = managed.state()
    assert any("manager" in name for name in before), "the Manager keeps its files there"
    for label in BELOW_ALL:
        answers = visit(managed.server, label, managed.keys[label], wanted)
        assert [fault for one in answers if (fault := one.fault())] == []
        reached = [one for one in answers if one.route in its]
        assert len(reached) > 100
        assert [one.name for one in reached if one.answer.status not in (400, 403)] == []
    assert managed.state() == before
    assert managed.server.own_faults == []
    # The owner still gets an answer. (This request only reads.)
    assert managed.ask("owner", "/v2/manager/version").status == 200
    print(f"\n{len(its)} paths of the Manager, {len(wanted)} requests with each of {len(BELOW_ALL)} keys")


def test_the_rest_is_the_same_beside_the_manager(managed: Site) -> None:
    others = {route for route in managed.routes if not OF_THE_MANAGER.fullmatch(route.path)}
    wanted = [(method, target) for target in targets(others) for method in METHODS]
    for label in BELOW_ALL:
        answers = visit(managed.server, label, managed.keys[label], wanted)
        assert [fault for one in answers if (fault := one.fault())] == []
