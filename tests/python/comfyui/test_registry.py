"""What we publish in ComfyUI's registry: valid metadata, and the custom node that `install-node` writes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from comfy_auth_rs.comfyui import custom_node
from support.client import ask, bearer
from support.keys import KEY
from support.servers import start_server

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry") / "comfy-auth-rs"
    subprocess.run([sys.executable, ROOT / "tools" / "registry_node.py", folder], check=True)
    return folder


def test_metadata_is_by_the_specification(folder: Path) -> None:
    """See docs.comfy.org/registry/specifications."""
    node = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = node["project"], node["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z]([-_.]?[A-Za-z0-9]){0,98}", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["version"] == ours["project"]["version"]
    assert project["license"] == {"file": "LICENSE"}
    assert (folder / "LICENSE").is_file()
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert project["dependencies"] == [f"comfy-auth-rs=={project['version']}"]
    assert (folder / "requirements.txt").read_text() == f"comfy-auth-rs=={project['version']}\n"
    systems = [name for name in project["classifiers"] if name.startswith("Operating System ::")]
    assert systems == project["classifiers"]
    assert len(systems) == 3
    assert comfy == ours["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.3.0"


def test_the_icon_is_there_and_small_enough(folder: Path) -> None:
    comfy = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]
    path = comfy["Icon"].split("/main/")[1]
    icon = ElementTree.fromstring((ROOT / path).read_text(encoding="utf-8"))
    assert icon.tag == "{http://www.w3.org/2000/svg}svg"
    assert int(icon.attrib["width"]) <= 800
    assert int(icon.attrib["height"]) <= 400


def test_what_is_published_protects(folder: Path, copy_miniature: Callable[..., Path]) -> None:
    assert {name: (folder / name).read_text() for name in custom_node.contents()} == custom_node.contents()
    tree = copy_miniature(patched=False)
    shutil.copytree(folder, tree / "custom_nodes" / "comfy-auth-rs")
    with start_server(tree, env={"COMFYUI_API_KEY": KEY}) as server:
        assert ask(server, "/queue").status == 401
        assert ask(server, "/queue", bearer(KEY)).status == 200
