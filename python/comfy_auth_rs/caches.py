"""Keeping what needed a credential out of shared caches (RFC 9111, section 5.2.2.7)."""

from __future__ import annotations

from aiohttp import hdrs, web

from comfy_auth_rs._core import AuthMiddleware


class PrivateMarker:
    """Marks each such response as `private`, whatever else says how long it may be kept.

    ComfyUI marks pictures as `public`, which shared caches take for leave to give them to everybody; and many of them
    keep what isn't marked at all. `Vary` would not do: it names header fields, and a key may stand in the query.
    """

    def __init__(self, middleware: AuthMiddleware) -> None:
        self._middleware = middleware
        #: Whether everybody may have what a resource answers, for those whose every answer is alike.
        self._known: dict[web.AbstractResource | None, bool] = {}

    def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """To be called when the headers are about to be sent, behind every middleware."""
        reads = request.method in ("GET", "HEAD")
        control = response.headers.get(hdrs.CACHE_CONTROL)
        if control is None:
            # Answers to other methods are kept only where they say so (RFC 9110, section 9.2.3).
            if reads and not self._is_public(request):
                response.headers[hdrs.CACHE_CONTROL] = "private"
        elif not _is_private(control) and not (reads and self._is_public(request)):
            directives = [directive.strip() for directive in control.split(",")]
            kept = [directive for directive in directives if directive and directive.lower() != "public"]
            response.headers[hdrs.CACHE_CONTROL] = ", ".join(["private", *kept])

    def _is_public(self, request: web.Request) -> bool:
        resource = request.match_info.route.resource
        public = self._known.get(resource)
        if public is None:
            public = self._middleware.is_public(request)
            if not isinstance(resource, web.StaticResource):
                self._known[resource] = public
        return public


def _is_private(control: str) -> bool:
    """`private="Field"` is not: it is about that field only."""
    return any(directive.strip().lower() in ("no-store", "private") for directive in control.split(","))
