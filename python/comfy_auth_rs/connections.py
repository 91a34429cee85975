"""Ends open connections when the key or session that admitted them ends."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial

from aiohttp import WSCloseCode, hdrs, web

from comfy_auth_rs._core import AuthMiddleware
from comfy_auth_rs.aiohttp_internals import applications_of, drop_fields, hang_up, requests_in_flight
from comfy_auth_rs.sockets import Socket

_logger = logging.getLogger("comfy_auth_rs")

#: How often the requests in flight are checked, in seconds.
_INTERVAL = 0.5

#: How long a connection may take to close, in seconds.
_PATIENCE = 0.5

#: How many connections are ended before other tasks run: a thousand must not block the event loop.
_BATCH = 2

_NOT_VALID = b"the API key or session is no longer valid"
_TAKEN_OVER = b"a connection with an API key has this clientId now"

#: Refused to a WebSocket without a credential: compression, because small messages expand a lot, and subprotocols,
#: because aiohttp logs them.
_REFUSED_TO_STRANGERS = (hdrs.SEC_WEBSOCKET_EXTENSIONS, hdrs.SEC_WEBSOCKET_PROTOCOL)

#: Turns a WebSocket's response into one of ours: see `comfy_auth_rs.sockets.adopt`.
Adopt = Callable[[web.Request, web.WebSocketResponse, bool | None, Callable[[int], None]], None]


class Watch:
    """The WebSockets of one middleware, and its timer, which runs while requests with a credential are in flight."""

    def __init__(self, middleware: AuthMiddleware, adopt: Adopt) -> None:
        self._middleware = weakref.ref(middleware)
        self._adopt = adopt
        #: Futures that are done when the handler of a WebSocket ends, by the id of its request.
        self._open: dict[int, asyncio.Future[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Starts the timer of this event loop if it doesn't run yet."""
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_INTERVAL, self._tick, loop)

    def in_flight(self) -> list[web.BaseRequest]:
        """The requests that are being handled in this event loop."""
        try:
            return requests_in_flight(asyncio.get_running_loop())
        except RuntimeError:
            return []

    def is_ours(self, request: web.BaseRequest) -> bool:
        """Whether the request has reached this middleware, and isn't another server's in this event loop."""
        middleware = self._middleware()
        return any(middleware is one for app in applications_of(request) for one in app.middlewares)

    async def open(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        has_credential: bool,
        displaced: Sequence[tuple[web.BaseRequest, web.WebSocketResponse | None]],
    ) -> web.StreamResponse:
        """Runs the handler of a WebSocket once the handlers of the ones that it displaces have ended."""
        loop = asyncio.get_running_loop()
        ended = self._open[id(request)] = loop.create_future()
        try:
            for other, socket in displaced:
                if (is_gone := self._open.get(id(other))) is not None:
                    self._close(other, socket, WSCloseCode.POLICY_VIOLATION, _TAKEN_OVER)
                    await asyncio.wait([is_gone])
            if not has_credential:
                drop_fields(request, _REFUSED_TO_STRANGERS)
            return await handler(request)
        finally:
            del self._open[id(request)]
            ended.set_result(None)
            if (middleware := self._middleware()) is not None:
                middleware.closed(request)

    def prepared(self, request: web.Request, response: web.WebSocketResponse, has_credential: bool | None) -> None:
        """Changes the response of a WebSocket that is about to be opened."""
        self._adopt(request, response, has_credential, partial(self._close, request, response))

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        middleware = self._middleware()
        if middleware is None or loop is not self._loop:
            return
        others = True
        try:
            ended, others = middleware.look_again()
            if ended:
                _logger.info(
                    "comfy-auth-rs: %d connections were ended: their key or session is no longer valid", len(ended)
                )
                self._run(loop, self._end(ended))
        finally:
            if others:
                loop.call_later(_INTERVAL, self._tick, loop)
            else:
                self._loop = None

    async def _end(self, ended: Sequence[tuple[web.BaseRequest, web.WebSocketResponse | None]]) -> None:
        for first in range(0, len(ended), _BATCH):
            for request, socket in ended[first : first + _BATCH]:
                self._close(request, socket, WSCloseCode.POLICY_VIOLATION, _NOT_VALID)
            await asyncio.sleep(0)

    def _close(
        self, request: web.BaseRequest, socket: web.WebSocketResponse | None, code: int, reason: bytes = b""
    ) -> None:
        if (transport := request.transport) is None:
            return
        loop = asyncio.get_running_loop()
        if socket is None:
            hang_up(transport)
        else:
            if isinstance(socket, Socket):
                socket.ends_with = (code, reason)
            self._run(loop, _close(socket, code, reason))
        loop.call_later(_PATIENCE, transport.abort)

    def _run(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[None, None, None]) -> None:
        task = loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _close(socket: web.WebSocketResponse, code: int, reason: bytes) -> None:
    # It may be closed already, or not yet open: in any case its transport is aborted in a moment.
    with suppress(Exception):
        await socket.close(code=code, message=reason)
