"""What the table of scopes asks about a request to ComfyUI."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from comfy_auth_rs.comfyui.node_routes import Origin, origin_of
from comfy_auth_rs.comfyui.profiles import judging
from comfy_auth_rs.comfyui.user_files import UserFiles

__all__ = ["RouteFacts"]


class RouteFacts:
    """What is behind a route of `server`, and which files a request names."""

    def __init__(self, server: Any) -> None:
        self._user_files = UserFiles(server)

    def origin_of(self, request: web.Request) -> Origin:
        """Whose code answers it."""
        return origin_of(request)

    def user_files(self, request: web.Request, user: str | None, scopes: tuple[str, ...]) -> list[str] | None:
        """The files that it names in the folder of the ComfyUI user that such a key is, as they are on disk.

        `None` where that cannot be told.
        """
        with judging(user, scopes):
            return self._user_files(request)
