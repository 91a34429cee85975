"""Puts the login script into the page at `/`, even if a custom node made that page."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.payload import Payload

from comfy_auth_rs._core import inject_script
from comfy_auth_rs.aiohttp_internals import file_of, set_length

_logger = logging.getLogger("comfy_auth_rs")

STATIC = Path(__file__).parent / "static"

_HTML = "text/html"

_TAG = inject_script(b"")

#: Headers that are only right for the page without the script.
_STALE = (hdrs.ETAG, hdrs.LAST_MODIFIED, hdrs.CONTENT_LENGTH)


class OwnPage(web.Response):
    """A page that needs no script, and that nothing may replace."""

    def __init__(self, page: str, headers: Mapping[str, str]) -> None:
        self.page: bytes = page.encode()
        super().__init__(body=self.page, content_type=_HTML, charset="utf-8", headers=headers)


async def with_script(response: web.StreamResponse) -> web.StreamResponse:
    """The response with the script in it, if it is a page and not being sent yet; otherwise unchanged."""
    if response.prepared:
        return response
    if isinstance(response, web.FileResponse):
        return await _from_file(response)
    if _is_page(response) and isinstance(response, web.Response):
        await _inject(response)
    return response


async def finish_page(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`, as its last receiver: another one may have replaced the page."""
    if isinstance(response, OwnPage):
        response.body = response.page
    elif not _is_page(response):
        return
    elif not isinstance(response, web.Response) or not await _inject(response):
        _say_once()
        return
    if isinstance(response.body, (bytes, bytearray)) and hdrs.CONTENT_ENCODING not in response.headers:
        set_length(request, response, len(response.body))


def _is_page(response: web.StreamResponse) -> bool:
    return response.status == 200 and response.content_type == _HTML


async def _inject(response: web.Response) -> bool:
    """Injects the script. Returns whether the page has it now, or has no content."""
    page = response.body
    packed = hdrs.CONTENT_ENCODING in response.headers
    if isinstance(page, Payload):
        if packed or page.size is None:  # generated while it is sent
            return False
        response.body = page = await _read(page)
    if page is None or _TAG in page:
        return True
    if packed:
        return False
    response.body = inject_script(bytes(page))
    for name in _STALE:
        response.headers.pop(name, None)
    return True


async def _from_file(response: web.FileResponse) -> web.StreamResponse:
    """Reads a file that is a page, because aiohttp would send it without the script."""
    file = file_of(response)
    kind = response.headers.get(hdrs.CONTENT_TYPE) or mimetypes.guess_type(file.name)[0] or ""
    if response.status != 200 or not kind.startswith(_HTML):
        return response
    try:
        page = await asyncio.to_thread(file.read_bytes)
    except OSError:
        return response  # aiohttp answers 404 or 403
    headers = response.headers.copy()
    for name in (*_STALE, hdrs.CONTENT_TYPE):
        headers.pop(name, None)
    if _TAG not in page:
        page = inject_script(page)
    read = web.Response(body=page, headers={**headers, hdrs.CONTENT_TYPE: kind})
    read.cookies.update(response.cookies)
    if response.compression:
        read.enable_compression()
    return read


class _Collected:
    """Collects what a payload writes."""

    def __init__(self) -> None:
        self.data = b""

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


async def _read(body: Payload) -> bytes:
    collected = _Collected()
    await body.write(collected)  # type: ignore[arg-type]
    return collected.data


_said: list[bool] = []


def _say_once() -> None:
    if not _said:
        _said.append(True)
        _logger.warning(
            "comfy-auth-rs: a custom node sends the page at / in pieces or compressed: the login script is not in it, "
            "and it works only if you log in at auth_login.html"
        )
