"""Sets and clears the session cookie."""

from __future__ import annotations

from aiohttp import hdrs, web

from comfy_auth_rs._core import SessionCookie
from comfy_auth_rs.url_prefix import url_depth


def set_session(request: web.Request, response: web.StreamResponse, cookie: SessionCookie) -> None:
    """Sets the session's cookie."""
    response.set_cookie(
        cookie.name,
        cookie.value,
        max_age=cookie.max_age,
        httponly=True,
        samesite="Strict",
        secure=_browser_used_tls(request),
        path=_path(request),
    )


def clear_session(request: web.Request, response: web.StreamResponse, name: str) -> None:
    """Makes the browser forget the session's cookie, and the cached pages that its back button would show."""
    response.headers["Clear-Site-Data"] = '"cache"'
    response.set_cookie(
        name,
        "",
        max_age=0,
        httponly=True,
        samesite="Strict",
        secure=_browser_used_tls(request),
        path=_path(request),
    )


def _path(request: web.Request) -> str:
    """The cookie's `Path` attribute; empty for none.

    Without it the browser uses the folder of the URL (RFC 6265, section 5.1.4), which only the browser knows under a
    proxy's sub-path. So servers under different sub-paths of one host have separate cookies. But with a key in the URL,
    that folder would be the key's, where none of our pages is.
    """
    return "/" if url_depth(request) else ""


def _browser_used_tls(request: web.Request) -> bool:
    """Whether the browser uses TLS, to us or to a proxy. A client that lies only keeps its cookie off plain HTTP."""
    return (
        request.secure
        or request.headers.get(hdrs.X_FORWARDED_PROTO, "").split(",")[0].strip().lower() == "https"
        or request.headers.get(hdrs.ORIGIN, "").lower().startswith("https://")
    )
