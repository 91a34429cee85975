"""What the table of scopes asks about a request to ComfyUI."""

from __future__ import annotations

from aiohttp import web


class RouteFacts:
    """What is behind a route, and which files it names."""

    def is_of_node(self, request: web.Request) -> bool:
        """Whether a custom node answers it."""
        return False

    def user_files(self, request: web.Request) -> list[str] | None:
        """The files of a user's folder that it names, as paths below it; `None` where that cannot be told."""
        return None
