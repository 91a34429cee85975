"""A ComfyUI that a custom node starts asks for the keys of its parent, and so does one that restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.comfyui import custom_node, processes
from comfy_auth_rs.comfyui.inheritance import VARIABLE, digest_of
from support.children import NODE, child_of
from support.client import UPGRADE, Process, ask, bearer
from support.keys import KEY, OTHER_KEY
from support.servers import MINI_COMFYUI, Server, ServerDied, free_port, start_server

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

ERROR = "comfy-auth-rs: error: "
SAYS_SO = "using the keys of the ComfyUI that started this one, process "
UNRELATED = "has ended or did not start this one; give --api-key-file FILE"

CopyMiniature = Callable[..., Path]
Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module", params=["patch", "run", "custom node"])
def start(request: pytest.FixtureRequest, copy_miniature: CopyMiniature) -> Start:
    """Starts the miniature, protected in one of the three ways, with the key file `file`, or with `KEY`."""
    tree = copy_miniature(patched=request.param == "patch")
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    if request.param == "custom node":
        custom_node.install(tree)

    def start(*flags: str, file: str | None = None) -> AbstractContextManager[Server]:
        env = {"WITNESS_RESTARTS": "1"}
        command = ["-m", "comfy_auth_rs", "run", str(tree), "--"] if request.param == "run" else ["main.py"]
        if request.param == "custom node":
            env |= {"COMFYUI_API_KEY_FILE": file} if file else {"COMFYUI_API_KEY": KEY}
            return start_server(tree, env={**env, "COMFYUI_AUTH_FLAGS": " ".join(flags)})
        keys = ("--api-key-file", file) if file else ("--api-key", KEY)
        return start_server(tree, *keys, *flags, env=env, command=command)

    return start


@pytest.fixture
def patched(copy_miniature: CopyMiniature) -> Path:
    tree = copy_miniature()
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    return tree


def opens(server: Process, key: str) -> bool:
    status = ask(server, "/queue", bearer(key)).status
    assert status in (200, 401)
    return status == 200


def assert_protected(server: Process) -> None:
    for path in ("/queue", "/api/queue", "/system_stats"):
        assert ask(server, path).status == 401
    assert opens(server, KEY)
    assert not opens(server, "wrong")
    assert KEY not in ask(server, "/system_stats", bearer(KEY)).text


# --- by each of the three ways ----------------------------------------------------------------------------------


def test_a_child_and_its_child_ask_for_the_key_and_say_so(start: Start, tmp_path: Path) -> None:
    with (
        start() as server,
        child_of(server, tmp_path, "--enable-cors-header") as child,
        child_of(child, tmp_path) as grandchild,
    ):
        for each, parent in ((child, server.process.pid), (grandchild, child.pid)):
            assert_protected(each)
            assert f"{SAYS_SO}{parent}" in each.output
            assert KEY not in each.output
            assert KEY not in Path(f"/proc/{each.pid}/environ").read_text()
        assert SAYS_SO not in server.output


def test_a_child_follows_the_key_file_and_takes_the_other_settings(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    file.write_text(f"{KEY}\n")
    with (
        start("--auth-require-ws", "--auth-exempt", "/object_info", file=str(file)) as server,
        child_of(server, tmp_path) as child,
    ):
        assert_protected(child)
        assert ask(child, "/object_info").status == 200
        assert ask(child, "/ws", UPGRADE).status == 401
        file.write_text(f"{OTHER_KEY}\n")
        deadline = time.monotonic() + 10
        while not opens(child, OTHER_KEY):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not opens(child, KEY)


def test_a_child_restarts_without_its_parent(start: Start, tmp_path: Path) -> None:
    """It restarts like ComfyUI-Manager does. The child's own arguments contain no key."""
    with start() as server, child_of(server, tmp_path) as child:
        for times in (2, 3):
            with suppress(OSError):  # the connection ends without an answer
                ask(child, "/restart", bearer(KEY), method="POST")
            deadline = time.monotonic() + 40
            while child.output.count("an API key is required") < times:
                assert time.monotonic() < deadline, child.output
                time.sleep(0.05)
            while True:
                with suppress(ConnectionError):
                    assert_protected(child)
                    break
                assert time.monotonic() < deadline, child.output
                time.sleep(0.05)
            server.stop()


# --- by the ways that have flags --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [["--api-key", OTHER_KEY], ["--api-key-file", "other.txt"]], ids=str)
def test_a_child_with_keys_of_its_own_keeps_to_them(patched: Path, tmp_path: Path, flags: list[str]) -> None:
    (patched / "other.txt").write_text(OTHER_KEY)
    with (
        start_server(patched, "--api-key", KEY, "--auth-exempt", "/object_info") as server,
        child_of(server, tmp_path, *flags) as child,
    ):
        assert opens(child, OTHER_KEY)
        assert not opens(child, KEY)
        assert ask(child, "/object_info").status == 401
        assert SAYS_SO not in child.output
        with child_of(child, tmp_path, key=OTHER_KEY) as grandchild:
            assert opens(grandchild, OTHER_KEY)
            assert not opens(grandchild, KEY)


def test_a_child_is_given_its_parent_s_arguments(patched: Path, tmp_path: Path) -> None:
    """In those arguments, `[redacted]` replaces the key."""
    with (
        start_server(patched, "--api-key", KEY) as server,
        child_of(server, tmp_path, "--api-key", "[redacted]") as child,
    ):
        assert_protected(child)
        assert SAYS_SO in child.output


def test_a_child_may_be_stricter(patched: Path, tmp_path: Path) -> None:
    with start_server(patched, "--api-key", KEY) as server:
        assert ask(server, "/ws", UPGRADE).status == 101
        with child_of(server, tmp_path, "--auth-require-ws") as child:
            assert_protected(child)
            assert ask(child, "/ws", UPGRADE).status == 401


def test_the_custom_node_s_file_is_the_same_in_another_folder(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    tree = copy_miniature(patched=False)
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    (tree / "api_key.txt").write_text(KEY)
    custom_node.install(tree)
    env = {"COMFYUI_API_KEY_FILE": "api_key.txt", "COMFYUI_AUTH_FLAGS": "--auth-exempt /object_info"}
    with (
        start_server(tree, env=env) as server,
        child_of(server, tmp_path, words=(str(tree / "main.py"),), cwd=str(tmp_path)) as child,
    ):
        assert_protected(child)
        assert SAYS_SO in child.output
        assert ask(child, "/object_info").status == 200


def test_a_child_in_another_tree_takes_what_the_custom_node_was_told(
    copy_miniature: CopyMiniature, patched: Path, tmp_path: Path
) -> None:
    tree = copy_miniature(patched=False)
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    custom_node.install(tree)
    with (
        start_server(tree, env={"COMFYUI_API_KEY": KEY, "COMFYUI_AUTH_FLAGS": "--auth-exempt /object_info"}) as server,
        child_of(server, tmp_path, cwd=str(patched)) as child,
    ):
        assert_protected(child)
        assert SAYS_SO in child.output
        assert ask(child, "/object_info").status == 200


def test_a_child_whose_parent_is_another_process_now_does_not_start(patched: Path, tmp_path: Path) -> None:
    """A shell started the child and has ended, so the child has another parent now."""
    with start_server(patched, "--api-key", KEY) as server:
        main = str(patched / "main.py")
        with pytest.raises(ServerDied) as died, child_of(server, tmp_path, how="daemon", words=(main,)):
            pass
        assert f"{ERROR}{VARIABLE}: process {server.process.pid}, whose keys it holds, {UNRELATED}" in died.value.output


@pytest.mark.parametrize("without", [(), (VARIABLE,)], ids=["its environment", "an environment of its own"])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("asyncio", ["main.py"]),
        ("spawnv", ["main.py"]),
        ("posix_spawn", ["main.py"]),
        ("Popen", ["-s", "-X", "utf8", "-Wignore", "-uB", "main.py"]),
        ("Popen", ["-u", "-m", "main"]),
    ],
)
def test_run_starts_children_by_run(
    copy_miniature: CopyMiniature, tmp_path: Path, how: str, words: list[str], without: tuple[str, ...]
) -> None:
    tree = copy_miniature(patched=False)
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    with (
        start_server(tree, "--api-key", KEY, command=["-m", "comfy_auth_rs", "run", str(tree), "--"]) as server,
        child_of(server, tmp_path, how=how, words=tuple(words), without=without) as child,
    ):
        assert_protected(child)
        assert SAYS_SO in server.output + child.output


# --- what was left in the environment ---------------------------------------------------------------------------


def record(key: str = KEY, **changed: Any) -> str:
    """The variable as this process would leave it. All servers that tests start are its descendants."""
    process = processes.this()
    assert process
    settings = {"api_key": [digest_of(key)]}
    found = {"format": 1, "pid": process.pid, "started": process.started, "settings": settings}
    return json.dumps({**found, **changed})


def end_of(tree: Path, *flags: str, **env: str) -> str:
    """The line that it ends with. It never listened."""
    result = subprocess.run(
        [sys.executable, "main.py", "--port", str(free_port()), *flags],
        cwd=tree,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith(ERROR)
    assert KEY not in result.stderr
    return line.removeprefix(ERROR)


def test_it_counts_below_the_process_that_it_names(patched: Path) -> None:
    with start_server(patched, env={VARIABLE: record()}) as server:
        assert_protected(server)
        assert f"{SAYS_SO}{os.getpid()}" in server.output


def test_it_counts_nowhere_else(patched: Path) -> None:
    sibling = subprocess.Popen(["sleep", "60"])
    try:
        stat = Path(f"/proc/{sibling.pid}/stat").read_text().rpartition(")")[2].split()[19]
        unrelated = {
            "an earlier process of this number": record(started="1"),
            "no such process": record(pid=2**22 + 1),
            "not an ancestor": record(pid=sibling.pid, started=stat),
        }
        for name, text in unrelated.items():
            found = end_of(patched, **{VARIABLE: text})
            assert found.startswith(f"{VARIABLE}: process {json.loads(text)['pid']}, whose keys it holds, "), name
            assert found.endswith(f"{UNRELATED} (with the custom node, COMFYUI_API_KEY_FILE), or unset {VARIABLE}")
    finally:
        sibling.kill()
        sibling.wait()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[" * 100_000,
        "sha256:" + "0" * 64,
        record(format=2),
        record(pid="1"),
        record(settings={}),
        record(settings={"api_key": []}),
        record(settings={"api_key": digest_of(KEY)}),
        record(settings={"api_key": [digest_of(KEY)], "require_ws": "no"}),
        record(settings={"api_key": [digest_of(KEY)], "what_a_later_version_restricts_keys_by": True}),
    ],
    ids=[
        "nothing",
        "empty",
        "null",
        "deep",
        "a digest",
        "another format",
        "no pid",
        "no settings",
        "no keys",
        "no list of keys",
        "no switch",
        "an unknown setting",
    ],
)
def test_what_is_not_understood_opens_nothing(patched: Path, text: str) -> None:
    found = end_of(patched, **{VARIABLE: text})
    assert found.startswith(f"{VARIABLE}: it cannot be read; another version of comfy-auth-rs may have written it; ")


def test_where_the_system_does_not_tell_nothing_opens(patched: Path) -> None:
    found = end_of(patched, **{VARIABLE: record(started=None)})
    assert found.startswith(f"{VARIABLE}: this system doesn't say whether process {os.getpid()}, whose keys it holds")


def test_the_custom_node_starts_by_it_and_refuses_another_s(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    with start_server(tree, env={VARIABLE: record()}) as server:
        assert_protected(server)
        assert SAYS_SO in server.output
    assert UNRELATED in end_of(tree, **{VARIABLE: record(started="1")})


@pytest.mark.parametrize("left", [record(OTHER_KEY, started="1"), record(OTHER_KEY), "nonsense"])
def test_keys_of_its_own_count_alone_and_after_a_restart_too(patched: Path, left: str) -> None:
    old = {VARIABLE: left, "COMFY_AUTH_RS_RESTART_DIGESTS": digest_of(OTHER_KEY), "WITNESS_RESTARTS": "1"}
    with start_server(patched, "--api-key", KEY, env=old) as server:
        for restarts in range(2):
            if restarts:
                with suppress(OSError):  # the connection ends without an answer
                    ask(server, "/restart", bearer(KEY), method="POST")
                deadline = time.monotonic() + 30
                while server.output.count("To see the GUI") < 2:
                    assert time.monotonic() < deadline, server.output
                    time.sleep(0.05)
            assert_protected(server)
            assert not opens(server, OTHER_KEY)


def test_half_a_patch_is_refused_before_anything_starts(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature()
    (tree / "server.py").write_bytes((MINI_COMFYUI / "server.py").read_bytes())
    assert "its server.py is not patched" in end_of(tree, **{VARIABLE: record()})


# --- a key where argparse would print it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [f"--api-k={KEY}"],
        ["--api-k", KEY],
        [f"--api={KEY}"],
        [f"--a={KEY}"],
        ["--api_key", KEY],
        ["--apikey", KEY],
        ["-api-key", KEY],
        ["--API-KEY", KEY],
        ["--api-keys", KEY],
        [f"--api-key:{KEY}"],
        ["\u2013api-key", KEY],
        ["--api-key", OTHER_KEY, KEY],
        [f"--api-key={OTHER_KEY}", KEY],
    ],
)
def test_a_misspelt_flag_does_not_show_the_key(patched: Path, words: list[str]) -> None:
    assert end_of(patched, *words).startswith("an argument looks like --api-key, but is misspelled")


def test_other_mistakes_are_told_as_ever(patched: Path) -> None:
    result = subprocess.run(
        [sys.executable, "main.py", "--api-key", KEY, "--no-such-flag", "--port", "1"],
        cwd=patched, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.endswith("main.py: error: unrecognized arguments: --no-such-flag\n")
