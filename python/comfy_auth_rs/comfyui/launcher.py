"""`comfy-auth-rs run DIR`: patches ComfyUI as it is imported, without changing its files."""

from __future__ import annotations

import multiprocessing.spawn as spawn
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_auth_rs._import_path import SAFE
from comfy_auth_rs.comfyui.finder import Finder
from comfy_auth_rs.comfyui.redirection import redirect
from comfy_auth_rs.comfyui.transform import CLI_ARGS, SERVER, insert
from comfy_auth_rs.comfyui.tree import read
from comfy_auth_rs.errors import PatchError

__all__ = ["is_active", "run"]

_MODULES = {"server": SERVER, "comfy.cli_args": CLI_ARGS}
_MAIN = "COMFY_AUTH_RS_MAIN"  # tells workers which main.py they belong to
_finder: Finder | None = None


def is_active() -> bool:
    """Whether this process runs ComfyUI with the patch in memory."""
    return _finder is not None


def run(directory: str | os.PathLike[str], argv: Sequence[str]) -> None:
    """Does what `python3 main.py ARGV` would do with `directory` as the working directory, but patched.

    Returns or exits like main.py. Raises PatchError before anything has run if the folder cannot be patched.
    """
    root = Path(directory).absolute()
    for name in (SERVER, CLI_ARGS):
        insert(name, read(root, name))
    if not (main := root / "main.py").is_file():
        raise PatchError(f"{root}: not a ComfyUI folder, it has no main.py; name the folder that holds it")
    if early := sorted(_MODULES.keys() & sys.modules.keys()):
        raise PatchError(f"{early[0]}: imported before ComfyUI was started; start it in a new Python process")

    redirect(main)
    _patch_workers_too(main)
    os.chdir(root)
    if Path(sys.argv[0]).name != "__main__.py" and not SAFE:
        del sys.path[0]  # the command's own folder; `python -m comfy_auth_rs` has none
    sys.argv = [str(main), *argv]
    sys.path.insert(0, str(root))
    _run_patched(main, "__main__")


def _run_patched(main: Path, name: str) -> dict[str, Any]:
    global _finder
    _finder = Finder(main.parent, _MODULES)
    sys.meta_path.insert(0, _finder)
    return runpy.run_path(str(main), run_name=name)


def _patch_workers_too(main: Path) -> None:
    """Lets processes that `multiprocessing` spawns import a patched main.py: they parse our arguments too."""
    os.environ[_MAIN] = str(main)
    get_preparation_data = spawn.get_preparation_data

    def redirected(name: str) -> dict[str, Any]:
        data = get_preparation_data(name)
        if data.get("init_main_from_path") == str(main):
            data["init_main_from_path"] = __file__
        return data

    spawn.get_preparation_data = redirected


if __name__ == "__mp_main__":  # in such a process, in place of main.py
    from comfy_auth_rs.comfyui import launcher

    main: Path = Path(os.environ[_MAIN])
    redirect(main)
    launcher._patch_workers_too(main)
    globals().update(launcher._run_patched(main, "__mp_main__"))
