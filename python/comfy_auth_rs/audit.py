"""Refuses to put the audit log where the server would serve it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from comfy_auth_rs.errors import SettingError


async def require_unserved(path: Path, app: web.Application) -> None:
    """Raises `SettingError` if a static resource of `app` would serve the file."""
    require_outside(path, static_folders(app))


def static_folders(app: web.Application) -> list[Path]:
    """The folders that the static resources of `app` serve."""
    static = [resource for resource in app.router.resources() if isinstance(resource, web.StaticResource)]
    return [Path(resource.get_info()["directory"]) for resource in static]


def require_outside(path: Path, folders: Iterable[Path]) -> None:
    """Raises `SettingError` if the file is in one of the folders, following every link."""
    file = path.resolve()
    for folder in folders:
        if file.is_relative_to(folder.resolve()):
            raise SettingError(f"{path}: this server serves the folder {folder}; name a file elsewhere", "audit")
