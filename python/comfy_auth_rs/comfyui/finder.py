"""Imports ComfyUI's modules patched by `transform`, without changing the files."""

from __future__ import annotations

import io
import linecache
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from comfy_auth_rs.comfyui.transform import insert
from comfy_auth_rs.errors import end_process

__all__ = ["Finder"]


class Finder(MetaPathFinder):
    """Loads the `modules` (name to file) of one folder patched, and refuses any other module in their place."""

    def __init__(self, root: Path, modules: Mapping[str, str]) -> None:
        self._root = root
        self._modules = modules
        self._loaded: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for name in self._modules:
            if name in sys.modules and name not in self._loaded:  # another finder was faster
                self._refuse(name, getattr(sys.modules[name], "__file__", None))
        if fullname not in self._modules or (spec := PathFinder.find_spec(fullname, path, target)) is None:
            return None
        ours = os.path.realpath(self._root / self._modules[fullname])
        if spec.origin is None or os.path.realpath(spec.origin) != ours:
            self._refuse(fullname, spec.origin)
        self._loaded.add(fullname)
        loader = _Loader(fullname, spec.origin, self._modules[fullname])
        return spec_from_file_location(fullname, spec.origin, loader=loader)

    def _refuse(self, name: str, origin: str | None) -> NoReturn:
        end_process(
            f"Python found {name} at {origin}, not in {self._root}, so it would run without authentication; "
            "remove the other one, or use `comfy-auth-rs patch` on the folder that holds it"
        )


class _Loader(SourceFileLoader):
    """Loads a patched module from an unpatched file."""

    def __init__(self, fullname: str, path: str, file: str) -> None:
        super().__init__(fullname, path)
        self._file = file

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        return insert(self._file, data) if path == self.path else data

    def path_stats(self, path: str) -> NoReturn:
        # Without a time stamp, importlib neither reads nor writes a .pyc, so the unpatched one stays as it is.
        raise OSError(f"{path} differs from what runs")

    def exec_module(self, module: ModuleType) -> None:
        # Tracebacks and `inspect` take the lines from here. An entry without mtime is never compared with the file.
        source = decode_source(self.get_data(self.path))
        linecache.cache[self.path] = len(source), None, io.StringIO(source).readlines(), self.path
        super().exec_module(module)
