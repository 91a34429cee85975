"""Everything we use of aiohttp's private API, each name beside its public fallback, which is missing or too slow."""

from __future__ import annotations

import asyncio
import inspect
import socket
import warnings
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from frozenlist import FrozenList
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

#: What a request caches.
_DERIVED = ("message", "rel_url", "url", "path", "path_qs", "raw_path", "query", "query_string")


#: What a task runs from the start of a request until its response is sent.
_HANDLE: Final = getattr(getattr(web.RequestHandler, "_handle_request", None), "__code__", object())


def requests_in_flight(loop: asyncio.AbstractEventLoop) -> list[web.BaseRequest]:
    """The requests that are being handled, or whose responses are being sent, by any server in this event loop.

    aiohttp's public API lists connections, but not their requests.
    """
    handling = (task.get_coro() for task in asyncio.all_tasks(loop))
    return [
        inspect.getcoroutinelocals(coroutine)["request"]  # type: ignore[arg-type]
        for coroutine in handling
        if getattr(coroutine, "cr_code", None) is _HANDLE
    ]


def applications_of(request: web.BaseRequest) -> tuple[web.Application, ...]:
    """`request.match_info.apps`, or nothing if the request has not been resolved yet."""
    match = getattr(request, "_match_info", None)
    return () if match is None else match.apps


def state(request: web.Request) -> MutableMapping[Any, Any]:
    """The request as a mapping. Its own `get` is slow for missing names, because it raises an exception inside."""
    return getattr(request, "_state", request)


def drop_fields(request: web.BaseRequest, names: Iterable[str]) -> None:
    """Removes these header fields, like `request.clone(headers=…)`, but in place."""
    headers = CIMultiDict(request.headers)
    for name in names:
        headers.popall(name, None)
    request._headers = CIMultiDictProxy(headers)
    request._cache.pop("headers", None)


class FilteredSocket(web.WebSocketResponse):
    """A WebSocket whose incoming data is filtered before it is parsed."""

    def filtered(self, parser: Any) -> Any:
        """The object that gets the data in place of `parser`."""
        raise NotImplementedError

    def _post_start(self, request: web.BaseRequest, *about: Any) -> None:
        # What arrived with the handshake would be parsed at once.
        connection = request.protocol
        arrived, connection._message_tail = connection._message_tail, b""
        super()._post_start(request, *about)
        connection._payload_parser = self.filtered(connection._payload_parser)
        connection.data_received(arrived)


def move(request: web.Request, path: str) -> None:
    """Changes the request's path, like `request.clone(rel_url=…)`, but in place.

    aiohttp writes its access log from its own request object, so a clone would not change the log.
    """
    old = request.rel_url
    new = URL.build(path=path, query_string=old.raw_query_string, fragment=old.raw_fragment, encoded=True)
    query = f"?{old.raw_query_string}" if old.raw_query_string else ""
    request._message = request._message._replace(path=path + query, url=new)
    request._rel_url = new
    for name in _DERIVED:
        request._cache.pop(name, None)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp discourages subclasses of its request

    class MarkedRequest(web.Request):
        """A request that one of our resources resolved. Checking its class costs nothing."""

        __slots__ = ()


def mark_requests(resource: web.AbstractResource) -> None:
    """Turns requests that `resource` resolves into `MarkedRequest`s."""
    resolve = resource.resolve

    async def resolve_and_mark(request: web.Request) -> Any:
        found, allowed = await resolve(request)
        if found is not None:
            object.__setattr__(request, "__class__", MarkedRequest)
        return found, allowed

    setattr(resource, "resolve", resolve_and_mark)  # noqa: B010 - a method


def put_first(router: web.UrlDispatcher) -> None:
    """Moves the resource that was added last to the front of `router.resources()`.

    Only aiohttp 3.9 tries resources one after the other, so that a folder mounted at / would answer first.
    """
    if not hasattr(router, "index_resource"):
        router._resources.insert(0, router._resources.pop())


def close_after_response(request: web.Request) -> None:
    """Closes the connection after the response, without reading the rest of the request's body.

    The public `lingering_time` is an argument of `web.AppRunner`, for all connections. aiohttp reads it when the
    handler is done.
    """
    request.protocol._lingering_time = 0.0


def hang_up(transport: asyncio.Transport) -> None:
    """Ends a connection as if the client had, so that aiohttp and asyncio clean up as usual.

    After `transport.abort()`, `loop.sendfile`, which sends a `FileResponse`, would wait forever for a closed socket.
    """
    try:
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except (AttributeError, OSError, TypeError):  # no socket, or one that is closed, or uvloop's
        transport.abort()


def file_of(response: web.FileResponse) -> Path:
    """The file that a `FileResponse` will send."""
    return response._path


def set_length(request: web.Request, response: web.Response, length: int) -> None:
    """Corrects the length of a response whose body was replaced after its headers were made.

    Otherwise the writer cuts off a longer body.
    """
    if hdrs.TRANSFER_ENCODING in response.headers:
        return
    response.headers[hdrs.CONTENT_LENGTH] = str(length)
    if getattr(request.writer, "length", None) is not None:
        request.writer.length = length


def send_directly(signal: Any, to: type) -> None:
    """Once `signal` is frozen with one receiver, an instance of `to`, that is its `send`: aiosignal's is a coroutine.

    Nothing can be added to a frozen signal. aiohttp freezes its signals after `on_startup`.
    """
    base: Any = type(signal)

    def freeze(self: Any) -> None:
        base.freeze(self)
        if len(self) == 1 and isinstance(self[0], to):
            # An instance becomes no method.
            self.__class__ = type("Signal", (base,), {"__slots__": (), "send": self[0]})

    signal.__class__ = type("Signal", (base,), {"__slots__": (), "freeze": freeze})


def set_middlewares(app: web.Application, middlewares: Iterable[Any]) -> Any:
    """Replaces the list `app.middlewares`."""
    app._middlewares = FrozenList(middlewares)
    return app._middlewares
