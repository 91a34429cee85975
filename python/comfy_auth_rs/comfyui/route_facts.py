"""Answers what the table of scopes asks about a request to ComfyUI."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from comfy_auth_rs.comfyui.node_routes import Origin, origin_of
from comfy_auth_rs.comfyui.profiles import judging
from comfy_auth_rs.comfyui.user_files import UserFiles

__all__ = ["RouteFacts"]


class RouteFacts:
    """Whose code a route of `server` is, and which files a request names."""

    def __init__(self, server: Any) -> None:
        self._user_files = UserFiles(server)

    def origin_of(self, request: web.Request) -> Origin:
        """Whose code answers the request."""
        return origin_of(request)

    def user_files(self, request: web.Request, user: str | None, scopes: tuple[str, ...]) -> list[str] | None:
        """The files that the request names in the folder of the key's ComfyUI user, as they are on disk.

        `None` if that is unknown.
        """
        with judging(user, scopes):
            return self._user_files(request)
