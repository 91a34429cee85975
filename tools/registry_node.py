"""Writes what ComfyUI's registry gets: `make node`.

This is the custom node that `comfy-auth-rs install-node` writes, with requirements and metadata from this project's
pyproject.toml. The registry's own tools then publish the folder.
"""

import json
import shutil
import sys
from pathlib import Path

from comfy_auth_rs.comfyui import custom_node

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]

README = """\
# comfy-auth-rs

API keys and a login page for ComfyUI. Set `COMFYUI_API_KEY_FILE` to the path of a key file (`comfy-auth-rs keygen -o`
makes one), or `COMFYUI_API_KEY` to a key, and start ComfyUI; without a key, it does not start any more.
Started with `--disable-all-custom-nodes`, it asks for no key. All else: {repository}
"""


def metadata(manifest: dict) -> str:
    """The node's pyproject.toml (docs.comfy.org/registry/specifications)."""
    project = manifest["project"]
    fields = {
        "name": project["name"],
        "version": project["version"],
        "description": f"{project['description']}: as a custom node",
        "requires-python": project["requires-python"],
        "dependencies": [requirement(project)],
        "classifiers": [name for name in project["classifiers"] if name.startswith("Operating System ::")],
    }
    tables = {
        "project": fields,
        "project.license": {"file": "LICENSE"},
        "project.urls": project["urls"],
        "tool.comfy": manifest["tool"]["comfy"],
    }
    # JSON strings and lists are also TOML.
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def requirement(project: dict) -> str:
    """The package in the same version, because the node's files belong to that version."""
    return f"{project['name']}=={project['version']}"


def write(folder: Path) -> None:
    """Writes the folder from scratch."""
    manifest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = manifest["project"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    texts = {
        **custom_node.contents(),
        "pyproject.toml": metadata(manifest),
        "requirements.txt": f"{requirement(project)}\n",
        "README.md": README.format(repository=project["urls"]["Repository"]),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
