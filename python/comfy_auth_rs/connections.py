"""Ending connections: none lives longer than what admitted it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from aiohttp import WSCloseCode, web

from comfy_auth_rs._core import AuthMiddleware
from comfy_auth_rs.aiohttp_internals import applications_of, hang_up, requests_in_flight

_logger = logging.getLogger("comfy_auth_rs")

#: How often what is in flight is looked at, in seconds.
_INTERVAL = 0.5

#: How long a connection may take to close, in seconds.
_PATIENCE = 0.5

#: How many connections are ended before everything else has its turn: a thousand must not hold it up.
_BATCH = 2

_REASON = b"the API key or session is no longer valid"


class Watch:
    """The timer of one middleware: it runs on while a request that needed a credential is in flight."""

    def __init__(self, middleware: AuthMiddleware) -> None:
        self._middleware = weakref.ref(middleware)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Starts the timer of this event loop, unless it runs."""
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
        """Whether it has got as far as this middleware: another server in this event loop is none of its business."""
        middleware = self._middleware()
        return any(middleware is one for app in applications_of(request) for one in app.middlewares)

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
        loop = asyncio.get_running_loop()
        for first in range(0, len(ended), _BATCH):
            for request, socket in ended[first : first + _BATCH]:
                if (transport := request.transport) is None:
                    continue
                if socket is None:
                    hang_up(transport)
                else:
                    self._run(loop, _close(socket))
                loop.call_later(_PATIENCE, transport.abort)
            await asyncio.sleep(0)

    def _run(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[None, None, None]) -> None:
        task = loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _close(socket: web.WebSocketResponse) -> None:
    # It may be closed already, or not yet open: in any case its transport is aborted in a moment.
    with suppress(Exception):
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=_REASON)
