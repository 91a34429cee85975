"""`comfy-auth-rs state`, `keys revoke --state` and what `doctor` says about a state, run as users run them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.comfyui.state import default_file
from comfy_auth_rs.comfyui.tree import patch
from support.client import bearer, fetch, log_in
from support.command import run
from support.keys import CANARY, KEY, OTHER_KEY
from support.metrics import OPEN_METRICS, value, values
from support.state import lock, log_out, node, seconds_until
from support.trees import make_tree

NOBODY = 65534
MOMENT = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root and another user's files")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY} ours\n{OTHER_KEY} alice prompts=3/h user=alice\n")
    keys.chmod(0o600)
    return keys


@pytest.fixture
def serve(aiohttp_server: Any, file: Path) -> Callable[..., Awaitable[Any]]:
    async def serve(keys: Path) -> Any:
        return await aiohttp_server(node(file, api_key=(), api_key_file=keys))

    return serve


async def command(*args: object, **env: str) -> Any:
    return await asyncio.to_thread(lambda: run(*args, **env))


async def is_known(server: Any, key: str) -> bool:
    return (await fetch(server, headers=bearer(key))).status == 200


# --- state ------------------------------------------------------------------------------------------------------


async def test_it_shows_what_is_remembered(serve: Any, file: Path, keys: Path) -> None:
    server = await serve(keys)
    assert (await log_out(server, await log_in(server))).status == 204
    await lock(server, "203.0.113.7")
    await command("keys", "revoke", keys, "alice", "--state", file)
    with closing(sqlite3.connect(file)) as database:
        database.execute("INSERT INTO facts (name, value, until) VALUES (x'78', x'79', 9999999999)")
        database.commit()
    shown = await command("state", file)
    assert (shown.returncode, shown.stderr) == (0, "")
    title, head, *rows, unknown = shown.stdout.splitlines()
    assert title == f"{file} (SQLite {sqlite3.sqlite_version})"
    assert head.split() == ["WHAT", "KEY", "ABOUT", "SINCE", "UNTIL"]
    assert [re.sub(MOMENT, "T", re.sub("[0-9a-f]{8}", "ID", " ".join(row.split()))) for row in rows] == [
        "lock - 203.0.113.7 - T", "log-out ID - T T", "revoked key ID - T T", "server - ID T T",
    ]  # fmt: skip
    assert unknown == "Entries not written by this version of comfy-auth-rs: 1"
    told = json.loads((await command("state", file, "--json")).stdout)
    assert {name: told[name] for name in ("kind", "place", "unknown")} == {
        "kind": "sqlite", "place": str(file), "unknown": 1,
    }  # fmt: skip
    entries = {entry["kind"]: entry for entry in told["entries"]}
    assert entries.keys() == {"lock", "log_out", "revocation", "node"}
    assert entries["lock"]["address"] == "203.0.113.7"
    listed = json.loads((await command("keys", "list", keys, "--json")).stdout)
    assert [entry["key"] for entry in (entries["log_out"], entries["revocation"])] == [key["id"] for key in listed]
    assert all(re.fullmatch(MOMENT, entry["until"]) for entry in told["entries"])
    assert CANARY not in json.dumps(told) + shown.stdout


async def test_it_changes_nothing_and_may_be_used_by_many_at_once(serve: Any, file: Path, keys: Path) -> None:
    server = await serve(keys)
    assert (await log_out(server, await log_in(server))).status == 204
    shown = await asyncio.gather(*[command("state", file, "--json") for _ in range(5)])
    assert len({re.sub(MOMENT, "", one.stdout) for one in shown}) == 1
    assert all(one.returncode == 0 for one in shown)
    assert (await log_out(server, await log_in(server))).status == 204


def test_an_empty_one(file: Path) -> None:
    node(file)
    shown = run("state", file)
    assert shown.stdout.splitlines()[-1].startswith("server ")
    node("memory")


def test_the_state_may_be_named_by_the_environment(file: Path) -> None:
    node(file)
    assert run("state", COMFYUI_AUTH_STATE=str(file)).stdout == run("state", file).stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "no state; name a file or a URL, or set COMFYUI_AUTH_STATE"),
        (["memory"], "a state in memory can only be seen by its own process; name a file or a URL"),
        (["missing"], "missing: it is not there"),
        (["http://:canary@h"], "http://[redacted]@h: unknown kind of store"),
        (["valkey://:canary@127.0.0.1:1"], "valkey://[redacted]@127.0.0.1:1: it cannot be reached"),
        (["/etc/passwd"], "/etc/passwd: it is damaged, or not a state of comfy-auth-rs"),
    ],
)
def test_what_cannot_be_shown_is_one_line(args: list[str], words: str, tmp_path: Path) -> None:
    args = [str(tmp_path / arg) if arg == "missing" else arg for arg in args]
    shown = run("state", *args)
    assert (shown.returncode, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert words in shown.stderr
    assert "canary" not in shown.stderr
    assert not (tmp_path / "missing").exists()


@needs_root
def test_root_has_no_more_rights_than_the_owner_of_a_folder(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    folder = tmp_path / "theirs"
    folder.mkdir()
    file = folder / "state"
    node(file)
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    assert run("state", file).returncode == 0
    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY}
    os.chown(folder, 0, 0)
    folder.chmod(0o777)
    shown = run("state", file)
    assert shown.returncode == 2
    assert f"{file}: other users can change {folder}; run `chmod go-w {folder}` first" in shown.stderr


# --- keys revoke ------------------------------------------------------------------------------------------------


async def test_a_key_is_revoked_on_servers_whose_file_still_has_it(
    serve: Any, file: Path, keys: Path, tmp_path: Path
) -> None:
    others = [tmp_path / f"keys-{number}" for number in range(2)]
    for other in others:
        other.write_bytes(keys.read_bytes())
        other.chmod(0o600)
    servers = [await serve(path) for path in (keys, *others)]
    assert all([await is_known(server, OTHER_KEY) for server in servers])
    told = await command("keys", "revoke", keys, "alice", "--state", file)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[1:] == [f"Every server that shares {file} is told."]

    async def none_knows_it() -> bool:
        return not any([await is_known(server, OTHER_KEY) for server in servers])

    assert await seconds_until(none_knows_it) < 1.5
    assert all([await is_known(server, KEY) for server in servers])
    still_there = [
        [
            *values(
                await fetch(server, "/metrics", {**bearer(KEY), **OPEN_METRICS}), "key_file_revoked_keys", "file"
            ).values()
        ]
        for server in servers
    ]
    assert still_there == [[0], [1], [1]]


async def test_metrics_say_whether_the_store_is_there(serve: Any, file: Path, keys: Path) -> None:
    server = await serve(keys)

    async def is_up(number: int) -> bool:
        return value(await fetch(server, "/metrics", {**bearer(KEY), **OPEN_METRICS}), "state_up") == number

    await seconds_until(lambda: is_up(1))
    file.rename(file.with_name("kept"))
    file.mkdir()
    await seconds_until(lambda: is_up(0))
    file.rmdir()
    file.with_name("kept").rename(file)
    await seconds_until(lambda: is_up(1))


async def test_after_the_file_was_changed_the_state_can_still_be_told(
    serve: Any, file: Path, keys: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(keys.read_bytes())
    other.chmod(0o600)
    server = await serve(other)
    missing = tmp_path / "missing"
    told = await command("keys", "revoke", keys, "alice", "--state", missing)
    assert told.returncode == 2
    assert re.search(
        rf"alice \(\w+\) is revoked in {keys}, but not in the state: {missing}: it is not there", told.stderr
    )
    assert not missing.exists()
    told = await command("keys", "revoke", keys, "alice", "--state", file)
    assert (told.returncode, told.stderr) == (0, "")
    assert "Nothing was changed." in told.stdout

    async def is_gone() -> bool:
        return not await is_known(server, OTHER_KEY)

    assert await seconds_until(is_gone) < 1.5


# --- doctor -----------------------------------------------------------------------------------------------------


def checks(*args: object, **env: str) -> dict[str, tuple[str, str]]:
    shown = run("doctor", *args, "--json", **env)
    return {check["name"]: (check["state"], check["detail"]) for check in json.loads(shown.stdout)["checks"]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = make_tree(tmp_path / "tree")
    patch(tree)
    return tree


async def test_doctor_says_how_the_state_fares(serve: Any, file: Path, keys: Path, tree: Path, tmp_path: Path) -> None:
    port = "--port", 1
    kind, detail = checks(tree, *port)["State"]
    assert (kind, detail) == (
        "note",
        f"{default_file(tree / 'user')} doesn't exist yet; ComfyUI makes it when it starts with a key",
    )
    assert checks(tree, *port, "--state", "memory")["State"][0] == "note"
    server = await serve(keys)
    assert (await log_out(server, await log_in(server))).status == 204
    other = tmp_path / "other"
    other.write_bytes(keys.read_bytes())
    other.chmod(0o600)
    await command("keys", "revoke", keys, "alice", "--state", file)
    for named in ((("--state", file), {}), ((), {"COMFYUI_AUTH_STATE": str(file)})):
        found = await asyncio.to_thread(
            lambda named=named: checks(tree, *port, *named[0], "--api-key-file", other, **named[1])
        )
        assert found["State"] == (
            "ok",
            f"{file} (SQLite {sqlite3.sqlite_version}): servers that share it: 1; log-outs: 1, revoked keys: 1, "
            "locks: 0",
        )
    shown = await command("doctor", tree, *port, "--state", file, "--api-key-file", other, "--api-key-file", keys)
    [line] = [line for line in shown.stdout.splitlines() if "is revoked" in line]
    assert re.search(
        rf"note    Keys .* {other}:2: the key of alice \([0-9a-f]{{8}}\) is revoked but still in this file", line
    )
    own = default_file(tree / "user")
    own.parent.mkdir(parents=True)
    own.write_bytes(os.urandom(9999))
    kind, detail = checks(tree, *port)["State"]
    assert (kind, detail[:70]) == ("unsafe", f"{own}: it is damaged"[:70])


async def test_doctor_asks_the_running_server_how_its_state_fares(
    serve: Any, file: Path, keys: Path, tree: Path
) -> None:
    server = await serve(keys)
    ask = (tree, "--port", server.port, "--key-file", keys)
    found = await asyncio.to_thread(lambda: checks(*ask))
    assert found["State in use"] == ("ok", f"sqlite, {file}; servers that share it: 1")
    file.unlink()
    file.mkdir()
    deadline = time.monotonic() + 5
    while True:
        found = await asyncio.to_thread(lambda: checks(*ask))
        if found["State in use"][0] == "unsafe" or time.monotonic() > deadline:
            break
    kind, detail = found["State in use"]
    assert kind == "unsafe"
    assert re.match(rf"unavailable since {MOMENT}: {file}: not a regular file", detail)
    assert stat.S_ISDIR(file.stat().st_mode)
