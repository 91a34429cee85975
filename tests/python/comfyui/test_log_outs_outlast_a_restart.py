"""A logged-out session stays logged out after a restart or a kill, without any flag. ComfyUI's user folder keeps it."""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.state import VARIABLE
from support.client import Process, ask, bearer
from support.keys import KEY
from support.servers import REAL_STARTS_WITHIN, Server, free_port, start_real, start_server

FILE = Path("__comfy_auth_rs", "comfy_auth_rs.sqlite3")
OURS = {"Sec-Fetch-Site": "same-origin"}

CopyMiniature = Callable[..., Path]
#: Starts the server with these flags and this environment, always on the same port and with the same folders.
Start = Callable[..., AbstractContextManager[Server]]


def log_in(server: Process) -> str:
    answer = ask(server, "/auth_session", bearer(KEY), method="POST", body=b"")
    assert answer.status == 204, answer
    return answer.headers["Set-Cookie"].split(";")[0]


def log_out(server: Process, cookie: str) -> int:
    return ask(server, "/auth_session", {"Cookie": cookie, **OURS}, method="DELETE").status


def admits(server: Process, cookie: str) -> bool:
    status = ask(server, "/queue", {"Cookie": cookie}).status
    assert status in (200, 401)
    return status == 200


@pytest.fixture(params=["patch", "run", "custom node"])
def start(request: pytest.FixtureRequest, copy_miniature: CopyMiniature, tmp_path: Path) -> Start:
    tree, port = copy_miniature(patched=request.param == "patch"), free_port()
    folders = ("--base-directory", str(tmp_path))
    if request.param == "custom node":
        custom_node.install(tree, tmp_path)

    def start(*flags: str, **env: str) -> AbstractContextManager[Server]:
        if request.param == "custom node":
            env |= {"COMFYUI_API_KEY": KEY, "COMFYUI_AUTH_FLAGS": " ".join(flags)}
            return start_server(tree, *folders, env=env, port=port)
        command = ["-m", "comfy_auth_rs", "run", str(tree), "--"] if request.param == "run" else ["main.py"]
        return start_server(tree, *folders, "--api-key", KEY, *flags, env=env, command=command, port=port)

    return start


def test_a_log_out_outlasts_a_restart_and_a_kill(start: Start, tmp_path: Path) -> None:
    with start() as server:
        kept, ended = log_in(server), log_in(server)
        assert log_out(server, ended) == 204
        file = tmp_path / "user" / FILE
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert not server.own_faults
    with start() as server:
        assert (admits(server, kept), admits(server, ended)) == (True, False)
        assert log_out(server, kept) == 204
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with start() as server:
        assert not admits(server, kept) and not admits(server, ended)
        assert "the state is" not in server.output


def test_the_state_can_be_named_by_a_flag_and_by_the_environment(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    for flags, env in ((("--auth-state", str(file)), {VARIABLE: "memory"}), ((), {VARIABLE: str(file)})):
        with start(*flags, **env) as server:
            cookie = log_in(server)
            assert log_out(server, cookie) == 204
        with start(*flags, **env) as server:
            assert not admits(server, cookie)
    with start("--auth-state", "memory") as server:
        assert admits(server, cookie), "the earlier state isn't read"
    assert not (tmp_path / "user" / FILE).exists()


def test_it_starts_where_its_file_cannot_be_used(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "user" / FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(9999))
    with start() as server:
        assert ask(server, "/queue", bearer(KEY)).status == 200
        assert ask(server, "/queue").status == 401
        assert log_out(server, log_in(server)) == 503
        assert len(re.findall(f"the state is unavailable: {file}: it is damaged", server.output)) == 1
        assert not server.own_faults


@pytest.mark.skipif(not os.environ.get("COMFYUI_DIR"), reason="COMFYUI_DIR names no ComfyUI")
def test_a_log_out_outlasts_a_restart_of_a_real_comfyui(tmp_path: Path) -> None:
    assert REAL_STARTS_WITHIN
    options: dict[str, Any] = {}
    cookies = []
    for _ in range(2):
        with start_real(tmp_path, "--api-key", KEY, "--disable-all-custom-nodes", **options) as server:
            for cookie in cookies:
                # The cookie's name has the port of the server that made it.
                name, _, value = cookie.partition("=")
                host = f"127.0.0.1:{name.rpartition('_')[2]}"
                assert ask(server, "/queue", {"Cookie": f"{name}={value}", "Host": host}).status == 401
            cookies.append(log_in(server))
            assert log_out(server, cookies[-1]) == 204
    file = tmp_path / "user" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(KEY.encode() in path.read_bytes() for path in file.parent.iterdir())
