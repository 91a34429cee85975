"""What is private in aiohttp, each name beside the public one: for what only these can do, or do at a fair price."""

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

#: What a request remembers once it was asked for it.
_DERIVED = ("message", "rel_url", "url", "path", "path_qs", "raw_path", "query", "query_string")


#: What a task runs from a request's beginning until its response was sent.
_HANDLE: Final = getattr(getattr(web.RequestHandler, "_handle_request", None), "__code__", object())


def requests_in_flight(loop: asyncio.AbstractEventLoop) -> list[web.BaseRequest]:
    """The requests that are being handled, or whose responses are being sent, by any server in this event loop.

    In public, a server tells its connections but not their requests.
    """
    handling = (task.get_coro() for task in asyncio.all_tasks(loop))
    return [
        inspect.getcoroutinelocals(coroutine)["request"]  # type: ignore[arg-type]
        for coroutine in handling
        if getattr(coroutine, "cr_code", None) is _HANDLE
    ]


def applications_of(request: web.BaseRequest) -> tuple[web.Application, ...]:
    """What `request.match_info.apps` says, and none where the request was not resolved yet."""
    match = getattr(request, "_match_info", None)
    return () if match is None else match.apps


def state(request: web.Request) -> MutableMapping[Any, Any]:
    """The mapping that a request is: its own `get` raises an exception inside to find nothing."""
    return getattr(request, "_state", request)


def drop_fields(request: web.BaseRequest, names: Iterable[str]) -> None:
    """Makes it a request without these header fields, as `request.clone(headers=…)` does, but in place."""
    headers = CIMultiDict(request.headers)
    for name in names:
        headers.popall(name, None)
    request._headers = CIMultiDictProxy(headers)
    request._cache.pop("headers", None)


class FilteredSocket(web.WebSocketResponse):
    """A WebSocket on which what arrives is filtered before it is parsed."""

    def filtered(self, parser: Any) -> Any:
        """What is fed in place of `parser`."""
        raise NotImplementedError

    def _post_start(self, request: web.BaseRequest, *about: Any) -> None:
        # What arrived with the handshake would be parsed at once.
        connection = request.protocol
        arrived, connection._message_tail = connection._message_tail, b""
        super()._post_start(request, *about)
        connection._payload_parser = self.filtered(connection._payload_parser)
        connection.data_received(arrived)


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


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp discourages subclasses of its request

    class MarkedRequest(web.Request):
        """A request that one of our resources resolved: it is told by its class, which costs nothing to look at."""

        __slots__ = ()


def mark_requests(resource: web.AbstractResource) -> None:
    """Has requests that `resource` resolves become marked ones."""
    resolve = resource.resolve

    async def resolve_and_mark(request: web.Request) -> Any:
        found, allowed = await resolve(request)
        if found is not None:
            object.__setattr__(request, "__class__", MarkedRequest)
        return found, allowed

    setattr(resource, "resolve", resolve_and_mark)  # noqa: B010 - a method


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


def hang_up(transport: asyncio.Transport) -> None:
    """Ends a connection as its client would: aiohttp and asyncio go on as they always do then.

    `transport.abort()` leaves `loop.sendfile`, which sends a `FileResponse`, waiting forever for a socket that is gone.
    """
    try:
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except (AttributeError, OSError, TypeError):  # no socket, or one that is closed, or uvloop's
        transport.abort()


def file_of(response: web.FileResponse) -> Path:
    """The file that is to be sent."""
    return response._path


def set_length(request: web.Request, response: web.Response, length: int) -> None:
    """Corrects the length of a response whose headers are about to be sent: its body was replaced since they were made.

    The writer cuts off what is longer.
    """
    if hdrs.TRANSFER_ENCODING in response.headers:
        return
    response.headers[hdrs.CONTENT_LENGTH] = str(length)
    if getattr(request.writer, "length", None) is not None:
        request.writer.length = length


def send_directly(signal: Any) -> None:
    """Has `signal.send` be the one receiver of a frozen signal itself: aiosignal runs a coroutine that awaits it."""
    (receiver,) = signal
    # A receiver that is an instance becomes no method.
    signal.__class__ = type("Signal", (type(signal),), {"__slots__": (), "send": receiver})


def set_middlewares(app: web.Application, middlewares: Iterable[Any]) -> Any:
    """Puts another list in the place of `app.middlewares`."""
    app._middlewares = FrozenList(middlewares)
    return app._middlewares
