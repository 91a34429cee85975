"""Bodies that nobody reads."""

from __future__ import annotations

from aiohttp import web

from comfy_auth_rs.aiohttp_internals import close_after_response

#: What may be unpacked, in bytes as they are sent: a thousand times as much takes no more than milliseconds.
_LITTLE = 16 * 1024


def leave_packed(request: web.Request) -> None:
    """Has the connection closed behind a compressed body that no handler has read, without unpacking it.

    aiohttp reads the rest of such a body for ten seconds, to keep the connection, and unpacks what it reads: two
    megabytes of a stranger's would keep the event loop busy for seconds. Other bodies are read and dropped as ever.
    To be called for a compressed body when the response's headers are about to be sent.
    """
    if request.content.is_eof():
        return
    if request.content_length is None or request.content_length > _LITTLE:
        close_after_response(request)
