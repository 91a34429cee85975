"""The key as the beginning of the path: `/key/KEY/prompt` is `/prompt` with that key.

The router takes the prefix off, before any middleware or handler sees the request. From there on it is a request for
the path that is left, with the key beside it: routes, exemptions, handlers and log lines know no other path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from yarl import URL

from comfy_auth_rs._core import REDACTED, AuthMiddleware, UrlKeys, split_url_keys

_PATH = "/key"

#: Where a request's state holds its keys. Before aiohttp 3.14 all names there were strings.
_KEYS: Any = (
    web.RequestKey("comfy_auth_rs_url_keys", UrlKeys) if hasattr(web, "RequestKey") else "comfy_auth_rs_url_keys"
)


def accept_url_keys(app: web.Application, middleware: AuthMiddleware) -> None:
    """Has `app` take keys from the beginning of paths. Raises `ValueError` where a route is there already."""
    router = app.router
    for resource in router.resources():
        if resource.canonical == _PATH or resource.canonical.startswith(f"{_PATH}/"):
            raise ValueError(f"the server already has a route {resource.canonical}, where a key in the address stands")
    middleware.accept_url_keys(_KEYS)
    router.register_resource(_UrlPrefix(router))
    if not hasattr(router, "index_resource"):
        # aiohttp 3.9 asks one resource after the other, and a folder mounted at / would answer first.
        router._resources.insert(0, router._resources.pop())


def url_depth(request: web.Request) -> int:
    """How many folders deeper the address that the client used lies than the request's path; 0 without a prefix."""
    keys = request._state.get(_KEYS)  # a dictionary; the request's own `get` raises an exception to find nothing
    return keys.depth if isinstance(keys, UrlKeys) else 0


def address_without_key(request: web.Request) -> str:
    """A request's own path, relative to the address that the client used."""
    path = request.rel_url.raw_path
    depth = url_depth(request)
    if not depth:
        return "./" + path.rsplit("/", 1)[-1]
    return "../" * (path.count("/") - 1 + depth) + path.lstrip("/")


def hide_refused_path(request: web.Request) -> None:
    """Takes the path off a refused request that had a key before it, for all who log it.

    A key that isn't valid may be one whose slashes were not encoded: then what was left of the path is part of it.
    """
    if url_depth(request):
        _move(request, f"{_PATH}/{REDACTED}")


#: What a request remembers once it was asked for it.
_DERIVED = ("message", "rel_url", "url", "path", "path_qs", "raw_path", "query", "query_string")


class _UrlPrefix(web.AbstractResource):
    """Answers nothing itself: it hands over to the resource of the path that is left."""

    def __init__(self, router: web.UrlDispatcher) -> None:
        super().__init__()
        self._router = router

    @property
    def canonical(self) -> str:
        return f"{_PATH}/{{key}}/{{path}}"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        split = split_url_keys(request.rel_url.raw_path)
        if split is None or _KEYS in request:
            return None, set()
        request[_KEYS], path = split
        _move(request, path)
        return await self._router.resolve(request), set()

    def url_for(self, **kwargs: str) -> URL:
        raise NotImplementedError("no address is made with a key in it")

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError("keys stand at the beginning of the whole server's paths")

    def get_info(self) -> Any:
        return {"formatter": self.canonical}

    def raw_match(self, path: str) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())


def _move(request: web.Request, path: str) -> None:
    """Makes it a request for `path`, in place: aiohttp writes its access log from the object that it made itself.

    These are the attributes that `Request.clone(rel_url=…)` changes, and what aiohttp remembers of them.
    """
    old = request.rel_url
    new = URL.build(path=path, query_string=old.raw_query_string, fragment=old.raw_fragment, encoded=True)
    query = f"?{old.raw_query_string}" if old.raw_query_string else ""
    request._message = request._message._replace(path=path + query, url=new)
    request._rel_url = new
    for name in _DERIVED:
        request._cache.pop(name, None)
