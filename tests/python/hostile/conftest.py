"""The servers under attack: the patched miniature, and the real ComfyUI that `COMFYUI_DIR` names."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.client import ask, bearer
from support.keys import OTHER_KEY
from support.servers import Server, start_real, start_server

from hostile.forging import DAY, forgeries, token
from hostile.target import Target, occupy, plant
from hostile.wire import CLIENT_FIELD, TRUSTED

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


@pytest.fixture(scope="session", params=["miniature", "real"])
def target(
    request: pytest.FixtureRequest, copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory, key: str
) -> Iterator[Target]:
    """A server with a picture, settings, files and a running graph, and everything that the attacks need."""
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    environment = plant(base)
    (base / "custom_nodes").mkdir(exist_ok=True)
    (base / "models").mkdir(exist_ok=True)
    shutil.copy(HERE / "canary_node.py", base / "custom_nodes")
    viewer = secrets.token_urlsafe(32)
    (base / "keys.txt").write_text(f"{viewer} viewer scope=view\n")
    (base / "keys.txt").chmod(0o600)
    flags = ["--api-key", key, "--api-key-file", str(base / "keys.txt"), "--auth-url-key", "--verbose", "DEBUG"]
    flags += ["--auth-trusted-proxy", TRUSTED, "--auth-client-field", CLIENT_FIELD]
    with ExitStack() as servers:
        if request.param == "real":
            server = servers.enter_context(start_real(base, *flags, env=environment))
        else:
            starting = start_server(copy_miniature(), "--base-directory", str(base), *flags, env=environment)
            server = servers.enter_context(starting)
        stranger = servers.enter_context(start_server(copy_miniature(), "--api-key", OTHER_KEY))
        occupy(server, key)
        assert is_admitted(server, token(key, expires=time.time() + DAY)), "`token` makes no valid sessions"
        forged = {**forgeries(key), "LOGGED-OUT": log_out(server, log_in(server, key))}
        cookie, foreign = log_in(server, key), log_in(stranger, OTHER_KEY)
        yield Target(request.param, server, base, key, viewer, cookie, foreign, forged)
        assert key not in server.output
        assert viewer not in server.output


def log_in(server: Server, key: str) -> str:
    """Logs in, and returns the session as `NAME=VALUE`."""
    answer = ask(server, "/auth_session", bearer(key), method="POST", body=b"")
    assert answer.status == 204
    return answer.headers["Set-Cookie"].split(";")[0]


def log_out(server: Server, cookie: str) -> str:
    """Logs out, and returns the value of the ended session."""
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    assert ask(server, "/auth_session", headers, method="DELETE").status == 204
    return cookie.split("=")[1]


def is_admitted(server: Server, value: str) -> bool:
    return ask(server, "/queue", {"Cookie": f"comfyui_session_{server.port}={value}"}).status == 200
