"""`comfy-auth-rs run DIR`: ComfyUI with the lines of `patch` inserted at import, while the files stay as they are."""

from __future__ import annotations

import io
import linecache
import multiprocessing.spawn as spawn
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from comfy_auth_rs.comfyui.errors import PatchError
from comfy_auth_rs.comfyui.patch import CLI_ARGS, SERVER, insert, read

__all__ = ["is_active", "run"]

_MODULES = {"server": SERVER, "comfy.cli_args": CLI_ARGS}
_MAIN = "COMFY_AUTH_RS_MAIN"  # tells workers which main.py they belong to
_finder: _Finder | None = None


def is_active() -> bool:
    """Whether this process runs ComfyUI with the patch in memory."""
    return _finder is not None


def run(directory: str | os.PathLike[str], argv: Sequence[str]) -> None:
    """Do what `python3 main.py ARGV` would do in `directory`, this folder being the working directory, but patched.

    Returns or exits as main.py does. Raises PatchError before anything has run if the folder cannot be patched.
    """
    root = Path(directory).absolute()
    for name in (SERVER, CLI_ARGS):
        insert(name, read(root, name))
    if not (main := root / "main.py").is_file():
        raise PatchError(f"{root}: not a ComfyUI folder, it has no main.py; name the folder that holds it")
    if early := sorted(_MODULES.keys() & sys.modules.keys()):
        raise PatchError(f"{early[0]}: imported before ComfyUI was started; start it in a Python of its own")

    _come_back_from_restarts(main)
    _patch_workers_too(main)
    os.chdir(root)
    sys.argv = [str(main), *argv]
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the launcher's own folder
    sys.path.insert(0, str(root))
    _run_patched(main, "__main__")


def _run_patched(main: Path, name: str) -> dict[str, Any]:
    global _finder
    _finder = _Finder(main.parent)
    sys.meta_path.insert(0, _finder)
    return runpy.run_path(str(main), run_name=name)


class _Finder(MetaPathFinder):
    """Loads the two files of this folder through `_Loader`, and refuses any other module in their place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loaded: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for name in _MODULES:
            if name in sys.modules and name not in self.loaded:  # another finder was faster
                self.refuse(name, getattr(sys.modules[name], "__file__", None))
        if fullname not in _MODULES or (spec := PathFinder.find_spec(fullname, path, target)) is None:
            return None
        ours = os.path.realpath(self.root / _MODULES[fullname])
        if spec.origin is None or os.path.realpath(spec.origin) != ours:
            self.refuse(fullname, spec.origin)
        self.loaded.add(fullname)
        return spec_from_file_location(fullname, spec.origin, loader=_Loader(fullname, spec.origin))

    def refuse(self, name: str, origin: str | None) -> NoReturn:
        print(
            f"comfy-auth-rs: error: Python found {name} at {origin}, not in {self.root}, so it would run without "
            "authentication; remove the other one, or use `comfy-auth-rs patch` on the folder that holds it",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)  # SystemExit would end only this thread, and a bare `except:` would go on unprotected


class _Loader(SourceFileLoader):
    """Loads a patched module from an unpatched file."""

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        return insert(_MODULES[self.name], data) if path == self.path else data

    def path_stats(self, path: str) -> NoReturn:
        # Without a time stamp importlib neither reads nor writes a .pyc: the unpatched one stays as it is.
        raise OSError(f"{path} differs from what runs")

    def exec_module(self, module: ModuleType) -> None:
        # Tracebacks and `inspect` take the lines from here. An entry without mtime is never compared with the file.
        source = decode_source(self.get_data(self.path))
        linecache.cache[self.path] = len(source), None, io.StringIO(source).readlines(), self.path
        super().exec_module(module)


# --- what would start main.py anew, without the launcher --------------------------------------------------------


def _come_back_from_restarts(main: Path) -> None:
    """Let `os.execv(sys.executable, [sys.executable, main.py, …])`, ComfyUI-Manager's restart, come back through `run`.

    Whoever starts main.py by other means gets an unpatched ComfyUI, which refuses `--api-key` and `--api-key-file`.
    """
    execv = os.execv

    def restart(path: Any, args: Any) -> NoReturn:
        args = [os.fsdecode(arg) for arg in args]
        script = args[1].strip('"') if len(args) > 1 else ""  # the Manager quotes for Windows' sake
        if path == sys.executable and script == str(main):
            args = [sys.executable, "-m", "comfy_auth_rs", "run", str(main.parent), "--", *args[2:]]
            if os.name == "nt":
                args = [subprocess.list2cmdline([arg]) for arg in args]
        execv(path, args)

    os.execv = restart


def _patch_workers_too(main: Path) -> None:
    """Let processes that `multiprocessing` spawns import a patched main.py: they parse our arguments too."""
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

    main = Path(os.environ[_MAIN])
    launcher._patch_workers_too(main)
    globals().update(launcher._run_patched(main, "__mp_main__"))
