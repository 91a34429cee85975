"""The routes that this package adds to a server: health, the login page and its script, sessions, verification."""

from __future__ import annotations

import asyncio
import json
import string
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote

from aiohttp import hdrs, web

from comfy_auth_rs._core import AuthMiddleware, Denial, SessionCookie, strip_credentials
from comfy_auth_rs.aiohttp_internals import mark_requests
from comfy_auth_rs.cookies import clear_session, set_session
from comfy_auth_rs.health import Health
from comfy_auth_rs.page import Handler, IndexPage
from comfy_auth_rs.refusal import LOGIN_PAGE, encoded_next, refuse
from comfy_auth_rs.script import STATIC
from comfy_auth_rs.store.exchange import State
from comfy_auth_rs.url_prefix import address_without_key, url_depth

ASSETS = (LOGIN_PAGE, "auth_login.js", "auth_link.js", "auth_inject.js")

#: Largest body of a log-in, in bytes. It is read before anybody is authenticated.
_MAX_LOGIN_BODY = 16 * 1024

#: How long it may take to arrive, in seconds. Whoever sends it byte by byte is not waited for.
_LOGIN_TIMEOUT = 10.0

#: How long the answer to a log-out waits until the store has it, in seconds.
_STORED_WITHIN = 1.0

_FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPE = "application/json"

#: Tells a log-in whose key is in its body that something in front of this server uses `Authorization` for itself.
_AUTHORIZATION_SEEN = "X-Auth-Authorization-Seen"

#: What tells a proxy who it is. They are there even where they are empty: a proxy that copies them then replaces those
#: that a client sent.
_WHO = ("X-Auth-Key-Label", "X-Auth-User", "X-Auth-Scope", "X-Auth-Subject")

#: Longest `X-Auth-Next`: proxies have little room for an answer's header.
_MAX_NEXT = 2048

#: What stays as it is in a header field: visible ASCII and the space, but not the percent sign, which begins all else.
_PLAIN = string.punctuation.replace("%", "") + " "

#: The login page is not to be framed, and keeps its address to this origin: with `no-referrer`, browsers would send
#: `Origin: null` with the form, which a server cannot tell from a foreign page's.
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


class Assets:
    """The login page and the scripts: files of the same name in `overrides` win, so that people can brand them."""

    def __init__(self, middleware: AuthMiddleware, overrides: Path | None) -> None:
        self._middleware = middleware
        self._overrides = overrides

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serves one asset."""
        name = request.path.rsplit("/", 1)[-1]
        if name == LOGIN_PAGE and url_depth(request):
            query = strip_credentials(request.rel_url.raw_query_string)
            location = address_without_key(request) + (f"?{query}" if query else "")
            return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
        headers = dict(_PAGE_HEADERS)
        if name == LOGIN_PAGE:
            # The page's script cannot see `Sec-Fetch-Site`, but it can read this.
            headers["Server-Timing"] = f'site;desc="{self._middleware.site(request)}"'
        return web.FileResponse(self._find(name), headers=headers)

    def _find(self, name: str) -> Path:
        if self._overrides is not None and (self._overrides / name).is_file():
            return self._overrides / name
        return STATIC / name


class SessionRoute:
    """`/auth_session`: POST makes a session of a key, GET tells whose it is, DELETE ends it."""

    def __init__(self, middleware: AuthMiddleware, state: State, displaced: Sequence[str]) -> None:
        self._middleware = middleware
        self._remembered = state
        self._displaced = displaced

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Tells who asks. This route is not exempt for reads, so the request has a valid credential."""
        who = self._middleware.introduce(request)
        told: dict[str, object] = dict.fromkeys(("label", "user", "scope", "expires", "source", "limits"))
        if who is not None:
            told = {
                "label": who.label,
                "user": who.user,
                "scope": " ".join(who.scopes),
                "expires": who.expires_at,
                "source": who.source,
                "limits": self._middleware.limits(request),
            }
            if "all" in who.scopes:
                told["displaced_middlewares"] = list(self._displaced)
                told["state"] = self._remembered.status()._asdict()
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Sets the cookie for the key in the request's header, JSON body or form. The form also logs out."""
        body = await _read_body(request)
        if request.content_type == _FORM_TYPE:
            return await self._post_form(request, body)
        try:
            options = json.loads(body) if body.strip() else {}
            remember = options.get("remember", False) is True
            # Any page can send other types without asking first (CORS).
            key = options.get("api_key", "") if request.content_type == _JSON_TYPE else ""
            key.encode()
        except (ValueError, AttributeError, RecursionError):
            raise web.HTTPBadRequest(text='expected {"api_key": "KEY", "remember": true} or less') from None
        outcome = self._middleware.log_in(request, remember=remember, key=key)
        if isinstance(outcome, Denial):
            return await refuse(request, outcome)
        response = web.Response(status=204, headers={"Cache-Control": "no-store"})
        if key and hdrs.AUTHORIZATION in request.headers:
            response.headers[_AUTHORIZATION_SEEN] = "true"
        set_session(request, response, outcome)
        return response

    async def _post_form(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=16)
        except ValueError:
            raise web.HTTPBadRequest(text="too many fields") from None
        if "logout" in fields:
            location = f"{LOGIN_PAGE}?reason=logout#ended"
            return await self._log_out(request, web.Response(status=303, headers={"Location": location}))
        key = fields.get("api_key", [""])[0].strip()
        target = _safe_next(fields.get("next", ["/"])[0])
        outcome = self._middleware.log_in(request, remember="remember" in fields, key=key)
        if isinstance(outcome, SessionCookie):
            here = "/".join([".."] * url_depth(request)) or "."
            response: web.StreamResponse = web.Response(status=303, headers={"Location": here + target})
            set_session(request, response, outcome)
        else:
            response = await refuse(request, outcome)
            if reason := outcome.login_error:
                location = f"{LOGIN_PAGE}?error={reason}&next={quote(target, safe='')}#{reason}"
                response = web.Response(status=303, headers={"Location": location})
        response.headers["Cache-Control"] = "no-store"
        return response

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Ends the session, if there is one; the cookie is cleared in any case."""
        return await self._log_out(request, web.Response(status=204))

    async def _log_out(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        outcome = self._middleware.log_out(request)
        if isinstance(outcome, Denial):
            return await refuse(request, outcome)
        if outcome in request.cookies and not await self._remembered.stored(_STORED_WITHIN):
            response = await refuse(request, self._middleware.deny_unstored(request))
        response.headers["Cache-Control"] = "no-store"
        clear_session(request, response, outcome)
        return response


class VerifyRoute:
    """`/auth_verify`: a proxy asks it whether a request to one of our neighbours has a valid credential."""

    def __init__(self, middleware: AuthMiddleware) -> None:
        self._middleware = middleware

    async def get(self, request: web.Request) -> web.StreamResponse:
        """204 with who it is, else 401; 403 where the key lacks the scope that is asked for."""
        outcome = self._middleware.forward_auth(request, request.query.getall("scope", []))
        if isinstance(outcome, Denial):
            response = await refuse(request, outcome)
            response.headers.update(dict.fromkeys(_WHO, ""))
            path, _, query = request.headers.get("X-Original-URI", "").partition("?")
            if 0 < len(following := encoded_next(path, query)) <= _MAX_NEXT:
                response.headers["X-Auth-Next"] = following  # nginx cannot percent-encode
            return response
        label = quote(outcome.label or "", safe=_PLAIN)
        who = (label, outcome.user or "", " ".join(outcome.scopes), outcome.subject)
        headers = {**dict(zip(_WHO, who, strict=True)), "Cache-Control": "no-store"}
        return web.Response(status=204, headers=headers)


async def _read_body(request: web.Request) -> bytes:
    if (request.content_length or 0) <= _MAX_LOGIN_BODY:
        try:
            body = await asyncio.wait_for(_read_a_little_more_than_the_most(request), _LOGIN_TIMEOUT)
        except (web.RequestPayloadError, ConnectionError):
            raise web.HTTPBadRequest(text="the body is malformed, or not whole") from None
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(text="the body did not arrive in time") from None
        if len(body) <= _MAX_LOGIN_BODY:
            return body
    raise web.HTTPRequestEntityTooLarge(max_size=_MAX_LOGIN_BODY, actual_size=_MAX_LOGIN_BODY + 1)


async def _read_a_little_more_than_the_most(request: web.Request) -> bytes:
    body = b""
    while len(body) <= _MAX_LOGIN_BODY and (chunk := await request.content.read(_MAX_LOGIN_BODY)):
        body += chunk
    return body


def _safe_next(target: str) -> str:
    """A path on this server as it came, anything else as `/`. It is followed as a path relative to our own folder."""
    plain = target.startswith("/") and target.isascii() and target.isprintable() and not set(target) & set(' \\"<>')
    return target if plain else "/"


class Added(NamedTuple):
    """What was added to a router; `pages` are those that answer with the server's page."""

    resources: set[web.AbstractResource]
    pages: set[web.AbstractResource]


def add_routes(
    app: web.Application,
    middleware: AuthMiddleware,
    health: Health,
    *,
    state: State,
    index: IndexPage | None = None,
    overrides: Path | None = None,
    prefixes: Sequence[str] = ("",),
    around: Callable[[Handler], Handler] = lambda handler: handler,
    displaced: Sequence[str] = (),
) -> Added:
    """Adds all routes, which `middleware` answers itself. Raises `ValueError` where one of them is taken.

    `around` is done to their handlers. `displaced` names the middlewares that were put before this one.
    """
    assets = Assets(middleware, overrides)
    session = SessionRoute(middleware, state, displaced)
    routes: list[web.RouteDef] = [
        web.get("/auth_session", session.get),
        web.post("/auth_session", session.post),
        web.delete("/auth_session", session.delete),
        web.get("/auth_verify", VerifyRoute(middleware).get),
    ]
    for prefix in prefixes:
        routes.append(web.get(f"{prefix}/health", health.get))
        routes += [web.get(f"{prefix}/{name}", assets.get) for name in ASSETS]
        if index is not None:
            routes.append(web.get(f"{prefix}/", index.get))
    if index is not None:
        routes.append(web.get("/index.html", index.get))
    taken = {resource.canonical for resource in app.router.resources()} & {route.path for route in routes}
    if taken:
        raise ValueError(f"the server already has a route {min(taken)}; comfy-auth-rs needs it for itself")
    resources = {route.resource for route in app.add_routes(routes) if route.resource is not None}
    pages = set()
    for resource in resources:
        mark_requests(resource)
        for route in resource:
            if index is not None and route.handler == index.get:
                middleware.answer_at_gate(route, index.at_gate)
                pages.add(resource)
            else:
                middleware.answer_at_gate(route, _instead(around(route.handler)))
    return Added(resources, pages)


def _instead(handler: Handler) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    return lambda request, _: handler(request)
