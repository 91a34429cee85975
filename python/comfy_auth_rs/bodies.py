"""Compressed request bodies that no handler reads."""

from __future__ import annotations

from aiohttp import web

from comfy_auth_rs.aiohttp_internals import close_after_response

#: Compressed bytes that may be unpacked: even at a ratio of 1 to 1000 that takes only milliseconds.
_LITTLE = 16 * 1024


def leave_packed(request: web.Request) -> None:
    """Closes the connection after a compressed body that no handler has read, without unpacking it.

    To keep the connection, aiohttp reads the rest of such a body for ten seconds and unpacks it: two megabytes from an
    unauthenticated client would block the event loop for seconds. Other bodies are read and dropped as usual.
    Call it for a compressed body just before the response's headers are sent.
    """
    if request.content.is_eof():
        return
    if request.content_length is None or request.content_length > _LITTLE:
        close_after_response(request)
