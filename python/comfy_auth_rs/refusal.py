"""Refused requests: their responses and their log lines."""

from __future__ import annotations

import json
import logging
import time
from functools import lru_cache
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict

from comfy_auth_rs._core import Denial, strip_credentials
from comfy_auth_rs.access_log import without_url_keys
from comfy_auth_rs.url_prefix import hide_refused_path, url_depth

LOGIN_PAGE = "auth_login.html"

#: Deeper paths get an absolute path to the login page.
_MAX_DEPTH = 32

_logger = logging.getLogger("comfy_auth_rs")


async def refuse(request: web.Request, denial: Denial) -> web.StreamResponse:
    """The response to a refused request: 302 to the login page for browsers loading a page, else JSON."""
    location = _login_location(request) if denial.leads_to_login else None
    hide_refused_path(request)
    _log(request, denial)
    if location is not None:
        return web.Response(status=302, headers={"Cache-Control": "no-store", "Location": location})
    body, headers = _answer(denial.error, denial.cause, denial.message, denial.challenges, denial.is_of_a_prompt)
    response = web.Response(status=denial.status, body=body, headers=headers.copy())
    if denial.retry_after is not None:
        response.headers["Retry-After"] = str(denial.retry_after)
    response.headers.update(denial.limits)
    return response


@lru_cache(1024)
def _answer(
    error: str, cause: str, message: str, challenges: tuple[str, ...], is_of_a_prompt: bool
) -> tuple[bytes, CIMultiDict[str]]:
    """Body and headers of such refusals, made only once: a client that guesses must cost the server little."""
    content_type = "application/json; charset=utf-8"
    headers = CIMultiDict({"Cache-Control": "no-store", "Content-Type": content_type})
    for challenge in challenges:
        headers.add("WWW-Authenticate", challenge)
    body: dict[str, object] = {"error": error, "cause": cause, "message": message}
    if is_of_a_prompt:  # so that ComfyUI's page shows it: as MESSAGE: DETAILS
        what, _, why = message.partition(": ")
        body["error"] = {"type": error, "message": what.rstrip("."), "details": why or cause, "extra_info": {}}
        body["node_errors"] = {}
    return json.dumps(body).encode(), headers


async def answer_preflight(request: web.Request) -> web.StreamResponse:
    """Answers a CORS preflight instead of a handler that would treat `OPTIONS` like `GET`.

    CORS middlewares in front add their headers to it, as to every response.
    """
    return web.Response(headers={"Cache-Control": "no-store"})


def _login_location(request: web.Request) -> str:
    """Relative, so that it works under a proxy's sub-path."""
    url = request.rel_url
    depth = url.raw_path.count("/") - 1 + url_depth(request)
    prefix = "../" * depth if depth <= _MAX_DEPTH else "/"
    return f"{prefix}{LOGIN_PAGE}?next={encoded_next(url.raw_path, url.raw_query_string)}"


def encoded_next(path: str, query: str) -> str:
    """Where the login page leads to after the log-in: percent-encoded, and without keys."""
    query = strip_credentials(query)
    return quote(path + (f"?{query}" if query else ""), safe="", errors="replace")


class _Allowance:
    """How many lines may still be logged: a rate per second, with a reserve."""

    RESERVE = 100
    PER_SECOND = 10

    def __init__(self) -> None:
        self.left = float(self.RESERVE)
        self.at = time.monotonic()
        self.suppressed = 0

    def take(self) -> bool:
        now = time.monotonic()
        left = self.left + (now - self.at) * self.PER_SECOND
        self.at = now
        if left < 1:
            self.left = left
            self.suppressed += 1
            return False
        self.left = min(self.RESERVE, left) - 1
        return True


_allowance = _Allowance()

#: Lines at the level DEBUG have their own: a client could use up the other one without a key, and then guess unseen.
_quiet_allowance = _Allowance()


def _log(request: web.Request, denial: Denial) -> None:
    """Logs one line per refusal; never the key or the query string."""
    level = denial.level
    allowance = _quiet_allowance if level == logging.DEBUG else _allowance
    if not _logger.isEnabledFor(level) or not allowance.take():
        return
    if allowance.suppressed:
        _logger.log(level, "comfy-auth-rs: %d log lines were suppressed", allowance.suppressed)
        allowance.suppressed = 0
    path = quote(request.rel_url.raw_path[:256], safe="/%:@!$&'()*+,;=-._~", errors="replace")
    path = without_url_keys(path)
    client = denial.client or "unknown"
    _logger.log(level, "comfy-auth-rs: refused %s: %s %s: %s", client, request.method[:32], path, denial.cause)
