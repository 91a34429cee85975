"""What is private in aiohttp, each name beside the public one: for what only these can do, or do at a fair price."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from aiohttp import web
from yarl import URL

#: What a request remembers once it was asked for it.
_DERIVED = ("message", "rel_url", "url", "path", "path_qs", "raw_path", "query", "query_string")


def state(request: web.Request) -> MutableMapping[Any, Any]:
    """The mapping that a request is: its own `get` raises an exception inside to find nothing."""
    return getattr(request, "_state", request)


def move(request: web.Request, path: str) -> None:
    """Makes it a request for `path`, as `request.clone(rel_url=…)` does, but in place.

    aiohttp writes its access log from the object that it made itself.
    """
    old = request.rel_url
    new = URL.build(path=path, query_string=old.raw_query_string, fragment=old.raw_fragment, encoded=True)
    query = f"?{old.raw_query_string}" if old.raw_query_string else ""
    request._message = request._message._replace(path=path + query, url=new)
    request._rel_url = new
    for name in _DERIVED:
        request._cache.pop(name, None)


def put_first(router: web.UrlDispatcher) -> None:
    """Makes the resource that was added last the first to be asked: what `router.resources()` begins with.

    Only aiohttp 3.9 asks one after the other, where a folder mounted at / would answer first.
    """
    if not hasattr(router, "index_resource"):
        router._resources.insert(0, router._resources.pop())


def close_after_response(request: web.Request) -> None:
    """Has the connection closed without reading the rest of the request's body.

    In public, `lingering_time` is an argument of `web.AppRunner`, for all connections. It is looked at when the handler
    is done.
    """
    request.protocol._lingering_time = 0.0
