"""The session cookie, as HTTP writes it."""

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
    """Makes the browser forget the session's cookie, and the pages that its back button would bring from a cache."""
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

    Without one the browser takes the folder of the address it used (RFC 6265, section 5.1.4), which under a proxy's
    sub-path only it knows: so servers under different sub-paths of one host keep their own. But where a key stands in
    that address, the folder would be the key's, and no page of ours lies there.
    """
    return "/" if url_depth(request) else ""


def _browser_used_tls(request: web.Request) -> bool:
    """Whether TLS ends here or at a proxy. A client that lies only keeps its own cookie from plain HTTP."""
    return (
        request.secure
        or request.headers.get(hdrs.X_FORWARDED_PROTO, "").split(",")[0].strip().lower() == "https"
        or request.headers.get(hdrs.ORIGIN, "").lower().startswith("https://")
    )
