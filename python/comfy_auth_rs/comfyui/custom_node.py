"""The folder that `comfy-auth-rs install-node` writes into ComfyUI's `custom_nodes`."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from comfy_auth_rs.comfyui import tree
from comfy_auth_rs.comfyui.transform import SERVER
from comfy_auth_rs.errors import PatchError
from comfy_auth_rs.ownership import as_owner

__all__ = ["NAME", "NodeState", "contents", "folder", "install", "state", "uninstall"]

#: The folder's name: what ComfyUI's `--whitelist-custom-nodes` takes.
NAME = "comfy-auth-rs"

# `finally`: even where nothing can be printed. There is no path and no key in here.
_FILE = """\
# Written by comfy-auth-rs {version}; `comfy-auth-rs uninstall-node DIR` removes this folder.
# {when} ComfyUI catches what this file raises and would go on without protection: so the process ends here.
import os
import sys

try:
    from comfy_auth_rs.comfyui import prestart

    prestart.{call}()
except BaseException as error:
    try:
        print(f"comfy-auth-rs: error: the custom node in {{os.path.dirname(__file__)}} cannot use comfy_auth_rs"
              f" ({{error!r}}); run `{{sys.executable}} -m pip install --upgrade comfy-auth-rs`, or remove that folder",
              file=sys.stderr, flush=True)
    finally:
        os._exit(2)
"""
_WRITTEN_BY = re.compile(r"# Written by comfy-auth-rs (\S+);")
_FILES = ("prestartup_script.py", "__init__.py")


class NodeState(NamedTuple):
    """The custom node of a ComfyUI: the `version` that wrote it and, if it is unsound, its `fault`."""

    version: str
    fault: str | None


def folder(directory: str | os.PathLike[str], base: str | os.PathLike[str] | None = None) -> Path:
    """The custom node's folder, in the ComfyUI folder or in ComfyUI's `--base-directory`."""
    return Path(directory if base is None else base, "custom_nodes", NAME)


def contents() -> dict[str, str]:
    """Its files, as this version writes them."""
    from comfy_auth_rs import __version__  # late: the package imports `comfyui` first

    before, after = _FILES
    return {
        before: _FILE.format(version=__version__, when="Runs before the server is made.", call="protect"),
        after: _FILE.format(version=__version__, when="Runs when nodes are loaded.", call="confirm")
        + "\nNODE_CLASS_MAPPINGS = {}\n",
    }


def state(node: Path) -> NodeState | None:
    """The custom node's state; None if there is no folder. Raises PatchError if it is not ours."""
    if not node.exists() and not node.is_symlink():
        return None
    found = _read(node)
    first = found[_FILES[0]] or found[_FILES[1]] or ""
    written_by = _WRITTEN_BY.match(first)
    version = written_by[1] if written_by else "unknown"
    sound = all(
        text is not None and _WRITTEN_BY.sub("", text) == _WRITTEN_BY.sub("", fresh)
        for text, fresh in zip(found.values(), contents().values(), strict=True)
    )
    remedy = "run `comfy-auth-rs install-node` again"
    return NodeState(version, None if sound else f"{node}: it was edited, is incomplete or is outdated; {remedy}")


def install(directory: str | os.PathLike[str], base: str | os.PathLike[str] | None = None) -> list[Path]:
    """Write the folder and return the files that changed: none if it was there already. Raises PatchError."""
    if any(file.version for file in tree.status(directory)):
        raise PatchError(
            f"{directory}: it is patched already, and one of the two is enough; run `comfy-auth-rs unpatch` first"
        )
    node = _folder(directory, base)
    with _as_owner(node):
        if node.exists() or node.is_symlink():
            _require_ours(node)
        try:
            node.mkdir(parents=True, exist_ok=True)
            return [node / name for name, text in contents().items() if _write(node, name, text)]
        except OSError as error:
            raise PatchError(
                f"{node}: cannot be written ({error.strerror}); check permissions and space, then try again"
            ) from None


def uninstall(directory: str | os.PathLike[str], base: str | os.PathLike[str] | None = None) -> Path | None:
    """Remove the folder and return it, or None if there was none. Raises PatchError if it holds anything else."""
    node = _folder(directory, base)
    if not node.exists() and not node.is_symlink():
        return None
    with _as_owner(node):
        _require_ours(node)
        if others := _others(node):
            raise PatchError(f"{node}: it holds {others[0]} too; remove it the way you installed it, or by hand")
        try:
            for name in _FILES:  # without the first one, the second one stops ComfyUI
                (node / name).unlink(missing_ok=True)
                (node / _temporary(name)).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(node / "__pycache__")
            node.rmdir()
        except OSError as error:
            raise PatchError(
                f"{node}: cannot be removed ({error.strerror}); check permissions, then try again"
            ) from None
    return node


def _as_owner(node: Path) -> AbstractContextManager[None]:
    folders = [folder for folder in (node, node.parent, node.parents[1]) if folder.is_dir()]
    return as_owner(folders[0], *filter(Path.is_symlink, folders))


def _write(node: Path, name: str, text: str) -> bool:
    """Writes the file if it differs, and returns whether it did. A link in its place is replaced, not followed."""
    file, temporary = node / name, node / _temporary(name)
    if not file.is_symlink() and file.exists() and file.read_bytes() == text.encode():
        return False
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as opened:
        opened.write(text.encode())
    temporary.replace(file)
    return True


def _folder(directory: str | os.PathLike[str], base: str | os.PathLike[str] | None) -> Path:
    tree.read(directory, SERVER)  # is it ComfyUI?
    node = folder(directory, base)
    if not node.parents[1].is_dir():
        raise PatchError(f"{node.parents[1]}: no such folder; name the one that ComfyUI's --base-directory names")
    return node


def _read(node: Path) -> dict[str, str | None]:
    try:
        return {
            name: (node / name).read_text("utf-8", "replace") if (node / name).is_file() else None for name in _FILES
        }
    except OSError as error:
        raise PatchError(f"{node}: cannot be read ({error.strerror}); check permissions, then try again") from None


def _require_ours(node: Path) -> None:
    """Raises PatchError rather than overwrite files of someone else."""
    if node.is_symlink() or not node.is_dir():
        raise PatchError(f"{node}: it exists and is not ours; move it away, then try again")
    found = {name: text for name, text in _read(node).items() if text is not None}
    foreign = [name for name, text in found.items() if not _WRITTEN_BY.match(text)]
    if not found:
        foreign = _others(node)
    if foreign:
        raise PatchError(f"{node}: it holds {foreign[0]}, which is not ours; move the folder away, then try again")


def _others(node: Path) -> list[str]:
    """The other files in the folder: ComfyUI's registry adds metadata, for example."""
    ours = {*_FILES, *map(_temporary, _FILES), "__pycache__"}
    return sorted({entry.name for entry in node.iterdir()} - ours)


def _temporary(name: str) -> str:
    return f".{name}.tmp"
