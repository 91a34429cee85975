"""Which of its user's files a request to ComfyUI's `/userdata` names, as they are on disk."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import unquote

from aiohttp import web

__all__ = ["UserFiles"]


class UserFiles:
    """Asks ComfyUI itself what it takes a name for: how it decodes one, and whose folder it is in."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __call__(self, request: web.Request) -> list[str] | None:
        """The files and folders that it reads, writes or lists.

        Each is relative to the user's folder, with `/` between names and without links; the folder itself is "". `None`
        where nobody can tell, or where one is outside.
        """
        try:
            return self._named(request)
        except (ValueError, LookupError, OSError, web.HTTPException):
            return None

    def _named(self, request: web.Request) -> list[str] | None:
        resource = request.match_info.route.resource
        match (resource.canonical if resource else "").removeprefix("/api"):
            case "/userdata":
                recurses = request.rel_url.query.get("recurse", "").lower() == "true"
                return self._listed(request, request.rel_url.query.get("dir", ""), recurses=recurses)
            case "/v2/userdata":
                return self._listed(request, unquote(request.rel_url.query.get("path", "")), recurses=True)
            case "/userdata/{file}":
                return [self._found(request, request.match_info["file"])]
            case "/userdata/{file}/move/{dest}":
                source, target = (self._path(request, request.match_info[name]) for name in ("file", "dest"))
                # Into a folder, it is moved under its own name.
                inside = [os.path.join(target, os.path.basename(source))] if os.path.isdir(target) else []
                root = self._path(request, None)
                return [_resolved(root, path) for path in (source, target, *inside)]
            case _:
                return None

    def _listed(self, request: web.Request, folder: str, *, recurses: bool) -> list[str]:
        found = self._found(request, folder)
        if found or not recurses:
            return [found]
        # All that is in the user's folder is told, too.
        with os.scandir(self._path(request, None)) as entries:
            return ["", *(entry.name for entry in entries if entry.is_dir())]

    def _found(self, request: web.Request, name: str) -> str:
        return _resolved(self._path(request, None), self._path(request, name))

    def _path(self, request: web.Request, name: str | None) -> str:
        """What ComfyUI makes of a name, but without making its folder."""
        manager = self._server.user_manager
        if hasattr(manager, "get_request_user_filepath"):
            path = manager.get_request_user_filepath(request, name or None, create_dir=False)
        else:
            root = os.path.join(sys.modules["folder_paths"].get_user_directory(), "default")
            path = os.path.abspath(os.path.join(root, unquote(name or "")))
        if path is None:
            raise ValueError("outside of the user's folder")
        return os.path.abspath(path)


def _resolved(root: str, path: str) -> str:
    """`path` as it is on disk, below `root`. What the owner put elsewhere by a link in `root` is where the link is."""
    real_root, real = os.path.realpath(root), os.path.realpath(path)
    below = _below(real_root, real)
    if below is not None:
        return _as_on_disk(real_root, below)
    first = (_below(root, path) or "").partition("/")[0]
    below = _below(os.path.realpath(os.path.join(root, first)), real) if first else None
    if below is None:
        raise ValueError("outside of the user's folder")
    return _as_on_disk(real_root, f"{first}/{below}" if below else first)


def _below(folder: str, path: str) -> str | None:
    if os.path.commonpath((folder, path)) != folder:
        return None
    relative = os.path.relpath(path, folder)
    return "" if relative == os.curdir else relative.replace(os.sep, "/")


def _as_on_disk(root: str, path: str) -> str:
    """With the first name as it is in the folder, where the file system takes others for the same."""
    first, *rest = path.split("/", 1)
    asked = os.path.join(root, first)
    if not first or not os.path.lexists(asked):
        return path
    names = os.listdir(root)
    if first not in names:
        first = next((name for name in names if os.path.samefile(os.path.join(root, name), asked)), first)
    return "/".join([first, *rest])
