"""What the table of scopes asks about a request to ComfyUI."""

from __future__ import annotations

from aiohttp import web

from comfy_auth_rs.comfyui.node_routes import Origin, origin_of


class RouteFacts:
    """What is behind a route, and which files it names."""

    def origin_of(self, request: web.Request) -> Origin:
        """Whose code answers it."""
        return origin_of(request)

    def user_files(self, request: web.Request) -> list[str] | None:
        """The files of a user's folder that it names, as paths below it; `None` where that cannot be told."""
        return None
