"""Which files a request to ComfyUI's `/userdata` names, as they are on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

__all__ = ["UserFiles"]


class UserFiles:
    """Asks ComfyUI itself how it decodes a name, and in whose folder it looks."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __call__(self, request: web.Request) -> list[str] | None:
        """The files and folders that the request reads, writes or lists.

        Each is relative to the user's folder, with `/` between names and links resolved; the folder itself is "".
        `None` if that is unknown, or if one is outside.
        """
        try:
            return self._named(request)
        except (ValueError, LookupError, OSError, RuntimeError, web.HTTPException):  # RuntimeError: links in a circle
            return None

    def _named(self, request: web.Request) -> list[str] | None:
        resource, query = request.match_info.route.resource, request.rel_url.query
        match (resource.canonical if resource else "").removeprefix("/api"):
            case "/userdata":
                recurses = query.get("recurse", "").lower() == "true"
                return self._listed(request, query.get("dir", ""), recurses=recurses)
            case "/v2/userdata":
                return self._listed(request, unquote(query.get("path", "")), recurses=True)
            case "/userdata/{file}":
                return [self._found(request, request.match_info["file"])]
            case "/userdata/{file}/move/{dest}":
                source, target = (self._on_disk(request, request.match_info[name]) for name in ("file", "dest"))
                # A file moved into a folder keeps its name.
                paths = [source, target, *([target / source.name] if target.is_dir() else [])]
                root = self._on_disk(request, None)
                return [_resolved(root, path) for path in paths]
            case _:
                return None

    def _listed(self, request: web.Request, folder: str, *, recurses: bool) -> list[str]:
        found = self._found(request, folder)
        root = self._on_disk(request, None)
        if found or not recurses or not root.is_dir():
            return [found]
        # This lists all of the user's folders, too.
        return ["", *(path.name for path in root.iterdir() if path.is_dir())]

    def _found(self, request: web.Request, name: str) -> str:
        return _resolved(self._on_disk(request, None), self._on_disk(request, name))

    def _on_disk(self, request: web.Request, name: str | None) -> Path:
        """The path that ComfyUI finds for a name, without making its folder. `None` and "" are the user's folder."""
        manager = self._server.user_manager
        if hasattr(manager, "get_request_user_filepath"):
            path = manager.get_request_user_filepath(request, name or None, create_dir=False)
            if path is None:
                raise ValueError(name)  # it is outside the user's folder
            return Path(os.path.abspath(path))  # noqa: PTH100 - links count after dots, as in ComfyUI
        folder = Path(sys.modules["folder_paths"].get_user_directory(), "default")
        return Path(os.path.abspath(folder / unquote(name or "")))  # noqa: PTH100


def _resolved(root: Path, path: Path) -> str:
    """`path` as it is on disk, below `root`. A link in `root` that leads elsewhere counts as being where the link is.

    Raises `ValueError` if it is outside.
    """
    real_root, real = root.resolve(), path.resolve()
    if real.is_relative_to(real_root):
        return _as_on_disk(real_root, real.relative_to(real_root))
    link = path.relative_to(root).parts[0]
    return _as_on_disk(real_root, Path(link, real.relative_to((root / link).resolve())))


def _as_on_disk(root: Path, path: Path) -> str:
    """`path` with its first name spelled as on disk, for file systems that ignore case, for example."""
    first, *rest = path.parts or [""]
    asked = root / first
    if first and asked.exists():
        names = [entry.name for entry in root.iterdir()]
        if first not in names:
            first = next((name for name in names if (root / name).exists() and asked.samefile(root / name)), first)
    return "/".join([first, *rest])
