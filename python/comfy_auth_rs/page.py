"""The server's index page with the script tag in it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from aiohttp import ETag, hdrs, web

from comfy_auth_rs._core import AuthMiddleware, inject_script
from comfy_auth_rs.cookies import set_session
from comfy_auth_rs.link import ask, go_on
from comfy_auth_rs.script import with_script

#: Other origins must not frame it: a click in the frame would send requests from this origin, with the cookie.
_HEADERS = {"Cache-Control": "no-cache", "Accept-Ranges": "bytes", "X-Frame-Options": "SAMEORIGIN"}


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Version(NamedTuple):
    stamp: tuple[int, int, int]
    body: bytes
    etag: str


class IndexPage:
    """Serves `index.html` with the script injected, which is done once for each version of the file."""

    def __init__(self, middleware: AuthMiddleware, path: Callable[[], Path]) -> None:
        self._middleware = middleware
        self._file = path
        self._version: _Version | None = None

    async def at_gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handles a link with a key in it or on another site. Otherwise returns what `handler` answers."""
        link = self._middleware.follow_link(request)
        if link is None:
            return await with_script(await handler(request))
        if link.offer is not None:
            return ask(request, link.offer)
        response = go_on(request)
        if link.cookie is not None:
            set_session(request, response, link.cookie)
        return response

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answers GET and HEAD, with ETag, 304 and single ranges (RFC 9110, sections 13 and 14)."""
        version = await self._current()
        headers = {**_HEADERS, "ETag": f'"{version.etag}"'}
        if _matches(request, version.etag):
            return web.Response(status=304, headers=headers)
        body = version.body
        part = _range(request, version)
        if part is not None:
            start, stop = part
            if start >= stop:
                headers["Content-Range"] = f"bytes */{len(body)}"
                return web.Response(status=416, headers=headers)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body = body[start:stop]
        status = 200 if part is None else 206
        return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=headers)

    async def _current(self) -> _Version:
        path = self._file()
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._version is None or self._version.stamp != stamp:
                self._version = await asyncio.to_thread(_load, path, stamp)
        except (FileNotFoundError, IsADirectoryError):
            raise web.HTTPNotFound(text="index.html is missing") from None
        except OSError as error:
            raise web.HTTPServiceUnavailable(text=f"index.html cannot be read now: {error.strerror}") from None
        return self._version


def _load(path: Path, stamp: tuple[int, int, int]) -> _Version:
    body = inject_script(path.read_bytes())
    return _Version(stamp, body, hashlib.sha256(body).hexdigest()[:32])


def _matches(request: web.Request, etag: str) -> bool:
    try:
        known = request.if_none_match or ()
    except ValueError:
        return False
    return any(tag.value in (etag, "*") for tag in known if isinstance(tag, ETag))


def _range(request: web.Request, version: _Version) -> tuple[int, int] | None:
    """The requested bytes as a half-open range, which is empty if they are outside; `None` for all of them."""
    if_range = request.headers.get(hdrs.IF_RANGE)
    if request.method != "GET" or hdrs.RANGE not in request.headers:
        return None
    if if_range and if_range != f'"{version.etag}"':
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.start is None and asked.stop is None:
        return None
    start, stop, _ = asked.indices(len(version.body))
    return (start, stop)
