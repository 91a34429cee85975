"""What custom nodes serve to everyone, found by reading their source."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfy_auth_rs.comfyui.web_directories import WebDirectory, find


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


HERE = "import os, pathlib, nodes\n"

OWN = {
    "a dot": {"node/__init__.py": "WEB_DIRECTORY = '.'"},
    "a dot and a slash": {"node/__init__.py": "if True:\n    WEB_DIRECTORY: str = './'"},
    "nothing": {"node/__init__.py": "WEB_DIRECTORY = ''"},
    "there and back": {"node/__init__.py": "WEB_DIRECTORY = 'web/..'", "node/web/x.js": ""},
    "all nodes": {"node/__init__.py": "WEB_DIRECTORY = '..'"},
    "dirname": {"node/__init__.py": HERE + "WEB_DIRECTORY = os.path.dirname(os.path.realpath(__file__))"},
    "pathlib": {"node/__init__.py": HERE + "here = pathlib.Path(__file__).resolve()\nWEB_DIRECTORY = str(here.parent)"},
    "a name": {"node/__init__.py": HERE + "D = os.path.dirname(__file__)\nWEB_DIRECTORY = os.path.join(D, '.')"},
    "imported": {"node/__init__.py": "from .a.b import *", "node/a/b.py": "WEB_DIRECTORY = './'"},
    "the table": {"node/__init__.py": HERE + "nodes.EXTENSION_WEB_DIRS['x'] = os.path.dirname(__file__)"},
    "pyproject": {"node/__init__.py": "", "node/pyproject.toml": '[project]\nname = "x"\n[tool.comfy]\nweb = "."\n'},
    "one file": {"node.py": "WEB_DIRECTORY = '.'"},
}


@pytest.mark.parametrize("files", OWN.values(), ids=OWN)
def test_nodes_that_serve_their_own_folder(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, files)
    node = tmp_path / next(iter(files)).removesuffix("/__init__.py")
    assert [(found.node, found.own) for found in find(tmp_path)] == [(node, True)]


def test_other_web_folders(tmp_path: Path) -> None:
    loop = "WEB_DIRECTORY = A\nA = WEB_DIRECTORY"
    itself = "from . import *\nfrom .x import WEB_DIRECTORY\nWEB_DIRECTORY = WEB_DIRECTORY + WEB_DIRECTORY"
    write(tmp_path, {
        "node/__init__.py": "WEB_DIRECTORY = './web'", "node/web/x.js": "", "node/pyproject.toml": '[x]\nweb = "."\n',
        "off.disabled/__init__.py": "WEB_DIRECTORY = '.'", "none/__init__.py": "WEB_DIRECTORY = None",
        "missing/__init__.py": "WEB_DIRECTORY = 'web'", "loop/__init__.py": loop, "itself/__init__.py": itself,
        "broken/__init__.py": "(" * 5000, "readme.txt": "WEB_DIRECTORY = '.'",
        "ran/__init__.py": "raise SystemExit('imported')", "empty/readme.txt": "",
    })  # fmt: skip
    assert list(find(tmp_path)) == [WebDirectory(tmp_path / "node", tmp_path / "node/web", False, None)]
    write(tmp_path, {"node/web/deep/tool.py": ""})
    assert [found.source for found in find(tmp_path)] == [tmp_path / "node/web/deep/tool.py"]
    assert list(find(tmp_path / "nowhere")) == []
