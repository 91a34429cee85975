"""A custom node of a real ComfyUI starts another one: with the patch, with `run` and with our custom node."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import comfy_auth_rs
import pytest
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.tree import patch
from support.children import NODE, child_of
from support.client import ask, bearer
from support.keys import KEY, OTHER_KEY
from support.servers import REAL_STARTS_WITHIN, start_server

pytestmark = pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no real ComfyUI")

TREE = Path(os.environ.get("COMFYUI_DIR", ".")).resolve()


def data_of_the_tree(folder: str, names: list[str]) -> set[str]:
    """What the copy leaves out."""
    return {"__pycache__"} | ({".git", "models", "input", "output", "user", "temp"} if Path(folder) == TREE else set())


@pytest.mark.parametrize("way", ["patch", "run", "custom node"])
def test_its_child_asks_for_the_same_key(tmp_path: Path, way: str) -> None:
    tree, base, package, file = (tmp_path / name for name in ("ComfyUI", "base", "package", "api_key.txt"))
    shutil.copytree(TREE, tree, ignore=data_of_the_tree)
    for folder in ("custom_nodes", "input", "output", "user", "models"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / "starting.py").write_text(NODE)
    package.mkdir()
    (package / "comfy_auth_rs").symlink_to(Path(comfy_auth_rs.__file__).parent)
    file.write_text(KEY)

    data = ["--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    env = {"PYTHONPATH": str(package), "HF_HUB_OFFLINE": "1"}
    command, flags = ["main.py"], ["--api-key-file", str(file)]
    if way == "patch":
        patch(tree)
    elif way == "run":
        command = ["-m", "comfy_auth_rs", "run", str(tree), "--"]
    else:
        custom_node.install(tree, base)
        flags, env["COMFYUI_API_KEY_FILE"] = [], str(file)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    with (
        start_server(
            tree, *data, *flags, env=env, python=python, command=command, timeout=REAL_STARTS_WITHIN
        ) as server,
        child_of(server, tmp_path, "--enable-cors-header", *data, timeout=REAL_STARTS_WITHIN) as child,
    ):
        assert ask(child, "/queue").status == 401
        assert ask(child, "/queue", bearer(OTHER_KEY)).status == 401
        assert ask(child, "/queue", bearer(KEY)).status == 200
        whose = f"using the keys of the ComfyUI that started this one, process {server.process.pid}"
        assert whose in child.output
        assert whose not in server.output
