"""Keeping what needed a credential out of shared caches (RFC 9111, section 5.2.2.7)."""

from __future__ import annotations

from functools import partial

from aiohttp import hdrs, web

from comfy_auth_rs._core import AuthMiddleware


def keep_private(app: web.Application, middleware: AuthMiddleware) -> None:
    """Marks each such response of `app` as `private`, whatever else says how long it may be kept.

    ComfyUI marks pictures as `public`, which shared caches take for leave to give them to everybody; and many of them
    keep what isn't marked at all. `Vary` would not do: a key in the query is no header, and `private` says it shortly.
    It is done when a response's headers are about to be sent, behind every middleware.
    """
    app.on_response_prepare.append(partial(_mark, middleware))


async def _mark(middleware: AuthMiddleware, request: web.Request, response: web.StreamResponse) -> None:
    if request.method not in ("GET", "HEAD"):
        return  # caches keep no other answers
    control = response.headers.get(hdrs.CACHE_CONTROL, "")
    if "no-store" in control or "private" in control or middleware.is_public(request):
        return
    directives = [directive.strip() for directive in control.split(",")]
    kept = [directive for directive in directives if directive and directive.lower() != "public"]
    response.headers[hdrs.CACHE_CONTROL] = ", ".join(["private", *kept])
