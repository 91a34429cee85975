"""Finds out what custom nodes serve below `/extensions/` to everyone, by reading their source without running it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["WebDirectory", "find"]

_NAME = "WEB_DIRECTORY"
_TABLE = "EXTENSION_WEB_DIRS"  # where nodes register more folders
_MOST = 1 << 22  # bytes of a file that are read
_MOST_FILES = 20_000  # in a folder that is served
#: `[tool.comfy] web = "…"`. Python 3.10 has no parser for TOML.
_WEB = re.compile(r"""^\[tool\.comfy\]\s*?$(?:(?!^\[).)*?^web\s*=\s*["']([^"']+)["']""", re.M | re.S)
#: Functions and methods that return their path unchanged, near enough.
_SAME = {"realpath", "abspath", "normpath", "Path", "str", "fspath", "resolve", "absolute"}


class WebDirectory(NamedTuple):
    """A folder that `node` serves. `own` if the node itself is in it, with its source and settings."""

    node: Path
    folder: Path
    own: bool
    #: A file in the folder that is not meant for browsers.
    source: Path | None


def find(custom_nodes: Path) -> Iterator[WebDirectory]:
    """The folders that custom nodes serve, as far as their source shows."""
    for node in sorted(custom_nodes.iterdir()) if custom_nodes.is_dir() else ():
        if node.name.endswith(".disabled") or not (node.is_dir() or node.suffix == ".py"):
            continue
        # A node that is a single file is in the same folder as all the others.
        module = node / "__init__.py" if node.is_dir() else node
        home = module.parent.resolve()
        for value in dict.fromkeys([*_values(module), *_WEB.findall(_text(node / "pyproject.toml"))]):
            folder = Path(os.path.normpath(module.parent / value))
            if folder.is_dir():
                yield WebDirectory(node, folder, home.is_relative_to(folder.resolve()), _source_in(folder))


def _text(file: Path) -> str:
    with suppress(OSError):
        if file.is_file() and file.stat().st_size <= _MOST:
            return file.read_text("utf-8", "replace")
    return ""


def _values(module: Path, depth: int = 3) -> Iterator[str]:
    """What the module calls WEB_DIRECTORY, registers in ComfyUI's table, or imports by that name from beside it."""
    statements: list[ast.AST] = []
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        statements = list(ast.walk(ast.parse(_text(module))))
    assigned: dict[str, ast.expr] = {"__file__": ast.Constant(str(module))}
    for statement in statements:
        if isinstance(statement, ast.ImportFrom) and statement.level == 1 and depth:
            inner = module.parent.joinpath(*(statement.module or "").split("."))
            for beside in (inner.with_name(f"{inner.name}.py"), inner / "__init__.py"):
                if any(name.name in (_NAME, "*") for name in statement.names):
                    yield from _values(beside, depth - 1)
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                if isinstance(target, ast.Name):
                    assigned[target.id] = statement.value
                elif isinstance(target, ast.Subscript) and ast.unparse(target.value).endswith(_TABLE):
                    assigned[_TABLE + ast.unparse(target)] = statement.value
    for name, value in assigned.items():
        if name.startswith((_NAME, _TABLE)) and (path := _path(value, assigned)) is not None:
            yield path


def _path(value: ast.expr, assigned: Mapping[str, ast.expr], depth: int = 20) -> str | None:
    """A path that is a literal, or built from `__file__` with `os.path` or `pathlib`."""

    def parts(*values: ast.expr) -> list[str]:
        found = [_path(part, assigned, depth - 1) for part in values] if depth else []
        known = [part for part in found if part is not None]
        return known if len(known) == len(values) else []

    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in assigned and depth:
            return _path(assigned[name], assigned, depth - 1)
        case ast.Attribute(value=inner, attr="parent") | ast.Call(func=ast.Attribute(attr="dirname"), args=[inner]):
            return next(map(os.path.dirname, parts(inner)), None)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return str(Path(*found)) if (found := parts(left, right)) else None
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return "".join(found) if (found := parts(left, right)) else None
        case ast.Call(func=ast.Attribute(attr="join" | "joinpath"), args=given):
            return str(Path(*found)) if (found := parts(*given)) else None
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[inner]) if name in _SAME:
            return next(iter(parts(inner)), None)
        case ast.Call(func=ast.Attribute(attr=name, value=inner), args=[]) if name in _SAME:
            return next(iter(parts(inner)), None)
    return None


def _source_in(folder: Path) -> Path | None:
    seen = 0
    for parent, _, files in os.walk(folder):
        if found := next((name for name in files if name.endswith(".py")), None):
            return Path(parent, found)
        seen += len(files)
        if seen > _MOST_FILES:
            break
    return None
