"""Protecting an aiohttp application."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aiohttp import web

from comfy_auth_rs._core import AuthMiddleware, BeforeSending, Denial, KeyStore
from comfy_auth_rs.access_log import install_filters
from comfy_auth_rs.aiohttp_internals import send_directly
from comfy_auth_rs.audit import require_unserved
from comfy_auth_rs.bodies import leave_packed
from comfy_auth_rs.connections import Adopt, Watch
from comfy_auth_rs.health import Health, QueueLength, first_device, no_queue
from comfy_auth_rs.metrics import add_metrics
from comfy_auth_rs.page import Handler, IndexPage
from comfy_auth_rs.refusal import answer_preflight, refuse
from comfy_auth_rs.routes import add_routes
from comfy_auth_rs.scopes import CoreScopes, GivenScopes
from comfy_auth_rs.scopes import read as read_scopes
from comfy_auth_rs.script import finish_page
from comfy_auth_rs.settings import PathLike, Settings
from comfy_auth_rs.sockets import adopt
from comfy_auth_rs.store import Store, make_store
from comfy_auth_rs.store.address import MEMORY
from comfy_auth_rs.store.exchange import Exchange, State
from comfy_auth_rs.store.memory import Memory
from comfy_auth_rs.url_prefix import accept_url_keys

#: How long a start waits for the store, in seconds.
_STORE_ANSWERS_WITHIN = 2.0

#: Where `setup` keeps the middleware of an application.
AUTH: Final = web.AppKey("comfy_auth_rs", AuthMiddleware)


def create_auth_middleware(
    keys: KeyStore | None = None,
    *,
    api_key: str | Iterable[str] = (),
    api_key_file: PathLike | Iterable[PathLike] = (),
    exempt: str | Iterable[str] = (),
    require_ws: bool = False,
    trusted_proxy: str | Iterable[str] = (),
    client_field: str = "X-Forwarded-For",
    origin: str | Iterable[str] = (),
    scopes: GivenScopes = MappingProxyType({}),
    audit: PathLike | None = None,
    state: PathLike = MEMORY,
) -> AuthMiddleware:
    """A middleware that admits only requests with a valid key.

    Give either a `KeyStore` or keys and key files. `exempt` takes patterns of routes that need no key (`/public/*`, or
    a regular expression that begins with `^`). Apart from these, only `/health`, the login page and CORS preflights
    with a handler registered for `OPTIONS` need no key. So `/ws` needs one, and `require_ws` changes nothing.
    `trusted_proxy` takes the networks (CIDR) of trusted proxies: their `client_field`, and no other header, names the
    client, and their `X-Forwarded-Host` and `X-Forwarded-Proto` say what the browser used. Pages of each `origin`
    (`https://example.com`) count as this server's own. `scopes` says which scopes a route needs: patterns of routes
    with scopes (`{"/queue": "view", "/jobs/*": "run"}`), of which the first match counts, or a function of the request
    that returns scopes. Routes that it doesn't name need `all`; an empty scope admits any valid key. `audit` is the
    file of the audit log (docs/audit.md). `setup` adds the login page and `/health`.

    Raises `KeyFileError` for keys that cannot be used, and `ValueError` for other bad settings.
    """
    settings = Settings.of(
        api_key=api_key,
        api_key_file=api_key_file,
        exempt=exempt,
        require_ws=require_ws,
        trusted_proxy=trusted_proxy,
        client_field=client_field,
        origin=origin,
        audit=audit,
        state=os.fspath(state),
    )
    store = make_store(os.fspath(state))
    middleware = make_middleware(settings, _key_store(settings, keys), scopes=read_scopes(scopes))
    remember(middleware, store)
    return middleware


def setup(
    app: web.Application,
    *,
    keys: KeyStore | None = None,
    api_key: str | Iterable[str] = (),
    api_key_file: PathLike | Iterable[PathLike] = (),
    exempt: str | Iterable[str] = (),
    require_ws: bool = False,
    trusted_proxy: str | Iterable[str] = (),
    client_field: str = "X-Forwarded-For",
    origin: str | Iterable[str] = (),
    url_key: bool = False,
    scopes: GivenScopes = MappingProxyType({}),
    audit: PathLike | None = None,
    state: PathLike = MEMORY,
    index: PathLike | None = None,
    overrides: PathLike | None = None,
    queue: Callable[[], QueueLength] = no_queue,
) -> AuthMiddleware:
    """Protects `app`: adds the middleware, `/health`, the login page with sessions, and `/metrics` unless it is taken.

    All other routes need a key with the scopes that `scopes` names, unless `exempt` matches them. It also keeps
    responses that needed a credential out of shared caches, and credentials out of aiohttp's log lines.
    `audit` is the file of the audit log (docs/audit.md); the application must not serve it.
    With `url_key`, `/key/KEY/prompt` is `/prompt` with that key, for clients that only let you set a URL.

    Call it before the application starts, and after adding middlewares that must see refused requests too (CORS). With
    `index`, the path of a page, `/` and `/index.html` serve that page with the login script in it. Files in the folder
    `overrides` replace the packaged login page and scripts of the same name. `queue` returns the length of the queue
    for `/health`.

    Raises what `create_auth_middleware` raises, `ValueError` if a route is taken, and `RuntimeError` if `app` was set
    up before or has started.
    """
    if AUTH in app:
        raise RuntimeError("comfy_auth_rs.setup() was called for this application before; call it once")
    if app.frozen:
        raise RuntimeError("comfy_auth_rs.setup() must be called before the application starts")
    settings = Settings.of(
        api_key=api_key,
        api_key_file=api_key_file,
        exempt=exempt,
        require_ws=require_ws,
        trusted_proxy=trusted_proxy,
        client_field=client_field,
        origin=origin,
        url_key=url_key,
        audit=audit,
        state=os.fspath(state),
    )
    store = make_store(os.fspath(state))
    middleware = make_middleware(settings, _key_store(settings, keys), scopes=read_scopes(scopes))
    remembered = remember(middleware, store)
    page = None
    if index is not None:
        path = Path(index)
        page = IndexPage(middleware, lambda: path)
    health = Health(queue, first_device)
    added = add_routes(
        app,
        middleware,
        health,
        state=remembered,
        index=page,
        overrides=None if overrides is None else Path(overrides),
    )
    add_metrics(app, middleware, health)
    app.middlewares.append(middleware)
    app.on_response_prepare.append(before_sending(middleware, added.pages))
    wire(app, middleware, settings, remembered)
    if audit is not None:
        app.on_startup.append(partial(require_unserved, Path(audit)))
    return middleware


def make_middleware(
    settings: Settings,
    keys: KeyStore,
    *,
    refuse: Callable[[web.Request, Denial], Awaitable[web.StreamResponse]] = refuse,
    answer_preflight: Handler = answer_preflight,
    scopes: CoreScopes = (),
    adopt: Adopt = adopt,
) -> AuthMiddleware:
    """The middleware that requires one of `keys`, with its watch over connections.

    With `RouteFacts` as `scopes`, ComfyUI's own tables say which routes need no key, and which scope the others need.
    """
    middleware = AuthMiddleware(keys, settings, refuse=refuse, answer_preflight=answer_preflight, scopes=scopes)
    middleware.watch_with(Watch(middleware, adopt))
    if settings.audit is not None:
        atexit.register(_end, weakref.ref(middleware))
    return middleware


def remember(middleware: AuthMiddleware, store: Store | None) -> State:
    """Synchronizes the state with the store for as long as the middleware lives.

    Waits until the store has been read, but not for too long.
    """
    if store is None:
        return Memory()
    exchange = Exchange(middleware.shared, store)
    exchange.start(_STORE_ANSWERS_WITHIN)
    # Any thread may collect the garbage and call this, even those of the exchange.
    weakref.finalize(middleware, exchange.let_go).atexit = False
    atexit.register(_end, weakref.ref(exchange))
    return exchange


async def _end_with(middleware: AuthMiddleware, app: web.Application) -> None:
    await asyncio.to_thread(middleware.end)


async def _end_state(exchange: Exchange, app: web.Application) -> None:
    await asyncio.to_thread(exchange.end)


def _end(what: weakref.ref[AuthMiddleware] | weakref.ref[Exchange]) -> None:
    if (one := what()) is not None:
        one.end()


def before_sending(middleware: AuthMiddleware, pages: set[web.AbstractResource]) -> BeforeSending:
    """The last receiver of `on_response_prepare`, for every response."""
    return BeforeSending(middleware, leave_packed=leave_packed, pages=pages, finish_page=finish_page)


def wire(app: web.Application, middleware: AuthMiddleware, settings: Settings, state: State) -> None:
    """Adds what the middleware needs, wherever it is in the list of `app`."""
    if settings.url_key:
        accept_url_keys(app, middleware)
    if settings.audit is not None:
        app.on_cleanup.append(partial(_end_with, middleware))
    if isinstance(state, Exchange):
        app.on_cleanup.append(partial(_end_state, state))
    install_filters()
    send_directly(app.on_response_prepare, BeforeSending)
    app[AUTH] = middleware


def _key_store(settings: Settings, keys: KeyStore | None) -> KeyStore:
    if keys is None:
        return KeyStore(settings.api_key, settings.api_key_file)
    if settings.has_keys:
        raise ValueError("give either keys or api_key and api_key_file, not both")
    return keys
