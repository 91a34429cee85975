"""The servers under attack: the patched miniature, and a real ComfyUI where `COMFYUI_DIR` names one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import comfy_auth_rs
import pytest
from client import ask, bearer
from servers import Server, start_server

from hostile.target import Target, occupy, plant

HERE = Path(__file__).parent
OTHER_KEY = "another-0123456789-abcdefghijklmnopqrstuvwxyz"
STARTS_WITHIN = 180  # seconds; a real one imports torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="each request comes from an address of its own")


@pytest.fixture(scope="session", params=["miniature", "real"])
def target(
    request: pytest.FixtureRequest, copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory, key: str
) -> Iterator[Target]:
    """Has a picture, settings, files and a graph that runs; 127.0.0.1 is never locked."""
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    environment = plant(base)
    (base / "custom_nodes").mkdir()
    (base / "models").mkdir()
    shutil.copy(HERE / "canary_node.py", base / "custom_nodes")
    flags = ["--base-directory", str(base), "--verbose", "DEBUG", "--auth-url-key"]
    with ExitStack() as servers:
        if request.param == "real":
            server = servers.enter_context(start_real(base, key, environment, *flags))
        else:
            server = servers.enter_context(start_server(copy_miniature(), "--api-key", key, *flags, env=environment))
        stranger = servers.enter_context(start_server(copy_miniature(), "--api-key", OTHER_KEY))
        occupy(server, key)
        yield Target(request.param, server, key, log_in(server, key), log_in(stranger, OTHER_KEY))
        assert key not in server.output


def start_real(base: Path, key: str, environment: dict[str, str], *flags: str) -> Any:
    """In memory: nothing is written into its folder."""
    package = base / "package"
    package.mkdir()
    (package / "comfy_auth_rs").symlink_to(Path(comfy_auth_rs.__file__).parent)
    tree = Path(os.environ["COMFYUI_DIR"]).resolve()
    return start_server(
        tree,
        "--cpu",
        "--database-url",
        "sqlite:///:memory:",
        "--api-key",
        key,
        *flags,
        env={**environment, "PYTHONPATH": str(package), "HF_HUB_OFFLINE": "1"},
        python=os.environ.get("COMFYUI_PYTHON", sys.executable),
        command=["-m", "comfy_auth_rs", "run", str(tree), "--"],
        timeout=STARTS_WITHIN,
    )


def log_in(server: Server, key: str) -> str:
    """`NAME=VALUE` of a session."""
    answer = ask(server, "/auth_session", bearer(key), method="POST", body=b"")
    assert answer.status == 204
    return answer.headers["Set-Cookie"].split(";")[0]
