"""Keys at the start of the path: `/key/KEY/prompt` is `/prompt` with that key.

The router removes the prefix before any middleware or handler sees the request. From then on it is a request for the
remaining path, with the key kept separately: routes, exemptions, handlers and log lines know no other path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from yarl import URL

from comfy_auth_rs._core import REDACTED, AuthMiddleware, UrlKeys, split_url_keys
from comfy_auth_rs.aiohttp_internals import move, put_first, state

_PATH = "/key"

#: The name under which a request holds its keys. Before aiohttp 3.14 all names were strings.
_KEYS: Any = (
    web.RequestKey("comfy_auth_rs_url_keys", UrlKeys) if hasattr(web, "RequestKey") else "comfy_auth_rs_url_keys"
)


def accept_url_keys(app: web.Application, middleware: AuthMiddleware) -> None:
    """Makes `app` accept keys at the start of paths. Raises `ValueError` if a route is there already."""
    router = app.router
    for resource in router.resources():
        if resource.canonical == _PATH or resource.canonical.startswith(f"{_PATH}/"):
            raise ValueError(f"the server already has a route {resource.canonical}, which keys in the path need")
    middleware.accept_url_keys(_KEYS)
    router.register_resource(_UrlPrefix(router))
    put_first(router)


def url_depth(request: web.Request) -> int:
    """How many folders deeper the client's URL is than the request's path; 0 without a prefix."""
    keys = state(request).get(_KEYS)
    return keys.depth if isinstance(keys, UrlKeys) else 0


def address_without_key(request: web.Request) -> str:
    """The request's own path, relative to the client's URL."""
    path = request.rel_url.raw_path
    depth = url_depth(request)
    if not depth:
        return "./" + path.rsplit("/", 1)[-1]
    return "../" * (path.count("/") - 1 + depth) + path.lstrip("/")


def path_to_root(request: web.Request) -> str:
    """The root of this server's paths, which may be a proxy's folder, relative to the client's URL."""
    return "../" * (request.rel_url.raw_path.count("/") - 1 + url_depth(request))


def hide_refused_path(request: web.Request) -> None:
    """Removes the path from a refused request that had a key before it, so that nobody logs it.

    An invalid key may have had unencoded slashes: then the remaining path is part of the key.
    """
    if url_depth(request):
        move(request, f"{_PATH}/{REDACTED}")


class _UrlPrefix(web.AbstractResource):
    """Answers nothing itself: it passes requests on to the resource of the remaining path."""

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
        move(request, path)
        return await self._router.resolve(request), set()

    def url_for(self, **kwargs: str) -> URL:
        raise NotImplementedError("URLs are never built with a key in them")

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError("a key comes first in the path, so url_key needs the main application")

    def get_info(self) -> Any:
        return {"formatter": self.canonical}

    def raw_match(self, path: str) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
