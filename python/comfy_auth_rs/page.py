"""The server's index page with the script tag in it."""

from __future__ import annotations

import asyncio
import hashlib
import html
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from aiohttp import ETag, hdrs, web

from comfy_auth_rs._core import AuthMiddleware, SessionCookie, inject_script, strip_credentials
from comfy_auth_rs.cookies import set_session
from comfy_auth_rs.script import OwnPage, with_script
from comfy_auth_rs.url_prefix import address_without_key, url_depth

#: What a browser shows for the moment between a link and the page. A page, not a 3xx: along a redirect that another
#: site began, a Strict cookie isn't sent, and ComfyUI answers 403.
_LOGGED_IN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>ComfyUI</title>
<meta http-equiv="refresh" content="0;url={target}"></head>
<body><p><a href="{target}">Logged in.</a></p></body></html>
"""


#: No page of another origin may frame it: what a person clicks in a frame comes from this origin, with the cookie.
_HEADERS = {"Cache-Control": "no-cache", "Accept-Ranges": "bytes", "X-Frame-Options": "SAMEORIGIN"}


#: What a browser sends that follows another site's link.
_LINK_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Version(NamedTuple):
    stamp: tuple[int, int, int]
    body: bytes
    etag: str


class IndexPage:
    """Serves `index.html` with the script injected, once for each version of the file."""

    def __init__(self, middleware: AuthMiddleware, path: Callable[[], Path]) -> None:
        self._middleware = middleware
        self._file = path
        self._version: _Version | None = None

    async def at_gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Logs in by a link with a key in it; else it is the page that `handler` makes, ours or another one."""
        if request.query_string or url_depth(request):
            outcome = self._middleware.log_in_by_link(request)
            if isinstance(outcome, SessionCookie):
                response = _go_on(request)
                set_session(request, response, outcome)
                return response
            # A bad key never vetoes what admitted the request.
        if all(request.headers.get(name) == value for name, value in _LINK_ELSEWHERE.items()):
            return _go_on(request)
        return await with_script(await handler(request))

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
            raise web.HTTPNotFound(text="index.html is not there") from None
        except OSError as error:
            raise web.HTTPServiceUnavailable(text=f"index.html cannot be read now: {error.strerror}") from None
        return self._version


def _go_on(request: web.Request) -> OwnPage:
    query = strip_credentials(request.rel_url.raw_query_string)
    target = html.escape(address_without_key(request) + (f"?{query}" if query else ""))
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return OwnPage(_LOGGED_IN.format(target=target), headers)


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
    """The bytes asked for, as a half-open range; empty where they lie outside; `None` for all of them."""
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
