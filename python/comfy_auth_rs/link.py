"""The pages that a browser shows between a link and the page it leads to."""

from __future__ import annotations

import html
from string import Template

from aiohttp import web

from comfy_auth_rs._core import LoginOffer, strip_credentials
from comfy_auth_rs.script import STATIC, OwnPage
from comfy_auth_rs.url_prefix import address_without_key, path_to_root

#: Shown for a moment. A page, not a 3xx: on a redirect that another site began, browsers don't send a Strict cookie,
#: and ComfyUI answers 403.
_NEXT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>ComfyUI</title>
<meta http-equiv="refresh" content="0;url={target}"></head>
<body><p><a href="{target}">Continue</a></p></body></html>
"""

_OFFER = Template((STATIC / "auth_link.html").read_text(encoding="utf-8"))

#: Not "no-referrer": that would make the form's Origin header "null".
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin",
}


def go_on(request: web.Request) -> OwnPage:
    """Continues to the page, from this origin and without the key."""
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return OwnPage(_NEXT.format(target=html.escape(address_without_key(request) + _query(request))), headers)


def ask(request: web.Request, offer: LoginOffer) -> OwnPage:
    """Asks whether to log in with the key in the link. The form's POST then logs in."""
    query = _query(request)
    page = _OFFER.substitute(
        root=path_to_root(request),
        target=html.escape(address_without_key(request) + query),
        next=html.escape(request.rel_url.raw_path + query),
        by_itself=" data-by-itself" if offer.by_itself else "",
        key=html.escape(offer.expose_secret()),
        button=html.escape("Log in with this link" if offer.label is None else f"Log in as {offer.label}"),
    )
    return OwnPage(page, _PAGE_HEADERS)


def _query(request: web.Request) -> str:
    query = strip_credentials(request.rel_url.raw_query_string)
    return f"?{query}" if query else ""
