"""`--auth-state` in ComfyUI: which setting counts, who inherits it, and that its password appears nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.state import VARIABLE
from support.children import NODE, child_of
from support.client import Process, ask, bearer
from support.keys import CANARY, KEY
from support.servers import ServerDied, free_port, start_server

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

CopyMiniature = Callable[..., Path]
FILE = Path("user", "__comfy_auth_rs", "comfy_auth_rs.sqlite3")


@pytest.fixture
def tree(copy_miniature: CopyMiniature) -> Path:
    tree = copy_miniature()
    (tree / "custom_nodes" / "starting.py").write_text(NODE)
    return tree


def state_of(server: Process) -> dict[str, object]:
    state = ask(server, "/auth_session", bearer(KEY)).json["state"]
    assert isinstance(state, dict)
    return state


def url() -> str:
    """The address of a Valkey that doesn't exist."""
    return f"valkey://me:{CANARY}-password@127.0.0.1:{free_port()}/0"


def shown(url: str) -> str:
    return f"valkey://[redacted]@{url.rpartition('@')[2]}"


def is_silent(server: Process, output: str) -> bool:
    told = ask(server, "/system_stats", bearer(KEY)).text + ask(server, "/auth_session", bearer(KEY)).text + output
    return f"{CANARY}-password" not in told


# --- which counts -----------------------------------------------------------------------------------------------


def test_a_flag_counts_before_the_environment_and_that_before_comfyuis_own(tree: Path, tmp_path: Path) -> None:
    keys = ("--api-key", KEY)
    by_flag, by_environment = tmp_path / "flag", tmp_path / "environment"
    for flags, env, place in (
        (("--auth-state", str(by_flag)), {VARIABLE: str(by_environment)}, by_flag),
        ((f"--auth-state={by_flag}",), {}, by_flag),
        ((), {VARIABLE: str(by_environment)}, by_environment),
        ((), {}, tree / FILE),
    ):
        with start_server(tree, *keys, *flags, env=env) as server:
            assert state_of(server) | {"nodes": 1} == {
                "kind": "sqlite", "place": str(place), "fault": None, "away_since": None, "nodes": 1,
            }  # fmt: skip
    assert not by_environment.with_name("missing").exists()


def test_a_relative_path_begins_where_comfyui_was_started(tree: Path) -> None:
    for flags, env in ((("--auth-state", "own.sqlite3"), {}), ((), {VARIABLE: "own.sqlite3"})):
        with start_server(tree, "--api-key", KEY, *flags, env=env) as server:
            assert state_of(server)["place"] == str(tree / "own.sqlite3")


def test_without_a_key_the_environment_stops_nobody_but_a_flag_does(tree: Path) -> None:
    with start_server(tree, env={VARIABLE: url()}) as server:
        assert ask(server, "/queue").status == 200
    with pytest.raises(ServerDied) as died, start_server(tree, "--auth-state", url()):
        pass
    assert "--auth-state: nothing asks for a key yet" in died.value.output
    assert f"{CANARY}-password" not in died.value.output


# --- bad settings -----------------------------------------------------------------------------------------------

BAD = "http://me:canary-9c41-password@127.0.0.1/x"


@pytest.mark.parametrize("way", ["flag", "environment", "custom node's flags", "custom node's environment"])
def test_what_names_no_state_ends_the_process_with_one_line(copy_miniature: CopyMiniature, way: str) -> None:
    tree = copy_miniature(patched="custom" not in way)
    flags: tuple[str, ...] = ("--api-key", KEY)
    env = {}
    if "custom" in way:
        custom_node.install(tree)
        flags, env = (), {"COMFYUI_API_KEY": KEY}
    if way == "flag":
        flags += ("--auth-state", BAD)
    elif way == "custom node's flags":
        env["COMFYUI_AUTH_FLAGS"] = f"--auth-state {BAD}"
    else:
        env[VARIABLE] = BAD
    with pytest.raises(ServerDied) as died, start_server(tree, *flags, env=env):
        pass
    place = {
        "flag": "--auth-state",
        "environment": VARIABLE,
        "custom node's flags": "COMFYUI_AUTH_FLAGS: --auth-state",
        "custom node's environment": VARIABLE,
    }[way]
    assert died.value.returncode == 2
    assert died.value.output.splitlines()[-1].startswith(
        f"comfy-auth-rs: error: {place}: http://[redacted]@127.0.0.1/x: unknown kind of store; write a path, memory, or"
    )
    assert "canary-9c41-password" not in died.value.output


def test_a_missing_client_ends_the_process_with_one_line(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'valkey'\")")
    where = url()
    env = {"PYTHONPATH": str(tmp_path), VARIABLE: where}
    with pytest.raises(ServerDied) as died, start_server(tree, "--api-key", KEY, env=env):
        pass
    assert died.value.returncode == 2
    assert died.value.output.splitlines()[-1] == (
        f"comfy-auth-rs: error: {VARIABLE}: {shown(where)}: the Valkey client is missing; run "
        f'`{sys.executable} -m pip install "comfy-auth-rs[valkey]"`'
    )


def test_only_who_names_a_valkey_needs_its_client(tmp_path: Path) -> None:
    program = "import comfy_auth_rs, comfy_auth_rs.comfyui, sys; print({'valkey', 'sqlite3'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"


# --- the password -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["flag", "flag with =", "environment"])
def test_the_password_is_shown_nowhere(tree: Path, way: str) -> None:
    where = url()
    flags = {"flag": ("--auth-state", where), "flag with =": (f"--auth-state={where}",), "environment": ()}[way]
    env = {VARIABLE: where} if way == "environment" else {}
    with start_server(tree, "--api-key", KEY, "--verbose", "DEBUG", *flags, env=env) as server:
        assert ask(server, "/queue", bearer(KEY)).status == 200
        told = state_of(server)
        assert (told["kind"], told["place"]) == ("valkey", shown(where))
        assert told["fault"] == f"{shown(where)}: it cannot be reached (Connection refused)"
        assert is_silent(server, server.output)
        assert f"the state is unavailable: {shown(where)}: it cannot be reached" in server.output
        if way != "environment":
            assert shown(where) in ask(server, "/system_stats", bearer(KEY)).text
        assert not server.own_faults


def test_a_misspelt_flag_is_not_repeated_with_it(tree: Path) -> None:
    where = url()
    for words in (("--auth-stat", where), (f"--auth-st={where}",)):
        with start_server(tree, "--api-key", KEY, *words) as server:  # argparse accepts the abbreviated flag
            assert state_of(server)["place"] == shown(where)
            assert is_silent(server, server.output)
    for words in (("--auth_state", where), ("--auth-state", where, where), (f"--auth-stat3={where}",)):
        with pytest.raises(ServerDied) as died, start_server(tree, "--api-key", KEY, *words):
            pass
        assert f"{CANARY}-password" not in died.value.output


def test_a_restart_by_its_own_arguments_knows_the_password(tree: Path) -> None:
    where = url()
    with start_server(tree, "--api-key", KEY, "--auth-state", where, env={"WITNESS_RESTARTS": "1"}) as server:
        for times in (2, 3):
            with suppress(OSError):  # the connection ends without an answer
                ask(server, "/restart", bearer(KEY), method="POST")
            deadline = time.monotonic() + 40
            while server.output.count("an API key is required") < times:
                assert time.monotonic() < deadline, server.output
                time.sleep(0.05)
            while True:
                with suppress(ConnectionError):
                    assert state_of(server)["place"] == shown(where)
                    break
                time.sleep(0.05)
            assert is_silent(server, server.output)
            environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
            assert f"{VARIABLE}={where}".encode() in environment, "the variable still has it, as docs/state.md says"
            [left] = [
                json.loads(one.partition(b"=")[2]) for one in environment if one.startswith(b"COMFY_AUTH_RS_PARENT=")
            ]
            assert "state" not in left["settings"]
            assert f"{CANARY}-password" not in json.dumps(left)


def test_arguments_without_the_password_are_refused_where_nobody_knows_it(tree: Path) -> None:
    where = shown(url())
    with pytest.raises(ServerDied) as died, start_server(tree, "--api-key", KEY, "--auth-state", where):
        pass
    assert died.value.returncode == 2
    assert f"--auth-state: {where}: the user name and password were removed from the arguments" in died.value.output


# --- who inherits it --------------------------------------------------------------------------------------------


def test_a_child_shares_the_state_of_its_parent(tree: Path, tmp_path: Path) -> None:
    with (
        start_server(tree, "--api-key", KEY) as server,
        child_of(server, tmp_path, "--base-directory", str(tmp_path)) as child,
    ):
        assert state_of(child)["place"] == state_of(server)["place"] == str(tree / FILE)
        assert not (tmp_path / FILE).exists()
        answer = ask(server, "/auth_session", bearer(KEY), method="POST", body=b"")
        name, _, value = answer.headers["Set-Cookie"].split(";")[0].partition("=")
        theirs = {"Cookie": f"comfyui_session_{child.port}={value}"}
        assert ask(child, "/queue", theirs).status == 200
        ours = {"Cookie": f"{name}={value}", "Sec-Fetch-Site": "same-origin"}
        assert ask(server, "/auth_session", ours, method="DELETE").status == 204
        deadline = time.monotonic() + 3
        while ask(child, "/queue", theirs).status != 401:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("given", ["flag", "environment"])
def test_a_child_inherits_one_that_was_named(tree: Path, tmp_path: Path, given: str) -> None:
    flags, env = (("--auth-state", "own"), {}) if given == "flag" else ((), {VARIABLE: "own"})
    with start_server(tree, "--api-key", KEY, *flags, env=env) as server:
        for more, there, place in (
            ((), {}, tree / "own"),
            (("--auth-state", str(tmp_path / "theirs")), {}, tmp_path / "theirs"),
            ((), {VARIABLE: str(tmp_path / "theirs")}, tmp_path / "theirs"),
        ):
            main = str(tree / "main.py")
            with child_of(server, tmp_path, *more, words=(main,), cwd=str(tmp_path), env=there) as child:
                assert state_of(child)["place"] == str(place)


def test_a_child_inherits_a_url_with_its_password(tree: Path, tmp_path: Path) -> None:
    where = url()
    with (
        start_server(tree, "--api-key", KEY, "--auth-state", where) as server,
        child_of(server, tmp_path) as child,
        child_of(server, tmp_path, "--auth-state", shown(where)) as by_arguments,
    ):
        for each in (child, by_arguments):
            assert state_of(each)["place"] == shown(where)
            assert is_silent(each, each.output)
    assert os.environ.get(VARIABLE) is None
