"""WebSockets that nobody waits for: what a client doesn't read waits in memory, and only so much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache, wraps
from typing import Any, Final

from aiohttp import WSCloseCode, web

#: What may wait for a client that was admitted by a credential, and for one that needed none, in bytes.
MOST_UNSENT: Final = 16 * 1024 * 1024
MOST_UNSENT_TO_STRANGERS: Final = 1024 * 1024

#: Messages longer than this may be longer than all that may wait: pictures.
LARGE: Final = 64 * 1024

#: More than ever waits: aiohttp, which waits for a client where more does, never does.
_NEVER: Final = 1 << 40

#: How much is read of a client that sends too much, in bytes a second.
_READ_A_SECOND: Final = 64 * 1024

#: How often a client is looked at that is waited for, in seconds.
_INTERVAL: Final = 0.01


class Outbox:
    """What waits for the client of one WebSocket, in its transport."""

    #: Whether what is sent to a client that has gone is dropped; else sending fails, as it always does.
    is_lenient = False

    def __init__(self, transport: asyncio.Transport, most: int) -> None:
        self._transport = transport
        self._most = most
        #: The last large message, which may wait on top of the others.
        self._large = 0
        transport.set_write_buffer_limits(_NEVER)

    async def has_room(self, size: int) -> bool:
        """Whether a message of `size` bytes is to be sent. Aborts the connection of a client that is too far behind."""
        if self._transport.is_closing():
            return not self.is_lenient
        unsent = self._transport.get_write_buffer_size()
        is_large = size > LARGE
        if unsent > self._most + (0 if is_large else self._large) and not await self.catches_up(is_large):
            self._transport.abort()
            return not self.is_lenient
        if is_large:
            self._large = size
        elif not unsent:
            self._large = 0
        return True

    async def catches_up(self, is_large: bool) -> bool:
        """Waits for a client as long as it takes anything: who sends more than it can take is slowed down."""
        return await self.takes(2.0, renewed=True)

    async def takes(self, patience: float, *, renewed: bool) -> bool:
        """Whether a client takes enough within `patience` seconds, which may begin again when it takes any."""
        clock = asyncio.get_running_loop().time
        unsent, deadline = self._unsent(), clock() + patience
        while unsent > self._most:
            if clock() >= deadline:
                return False
            await asyncio.sleep(_INTERVAL)
            before, unsent = unsent, self._unsent()
            if renewed and unsent < before:
                deadline = clock() + patience
        return True

    def rest(self, arrived: int) -> None:
        """Reads nothing for a while, because so many bytes arrived."""
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(arrived / _READ_A_SECOND, self._transport.resume_reading)

    def _unsent(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()


class Socket(web.WebSocketResponse):
    """A WebSocket that has an outbox."""

    outbox: Outbox

    #: The code and reason that it is to be closed with, whoever closes it: in aiohttp before 3.11 its handler is first.
    ends_with: tuple[int, bytes] | None = None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", **more: Any) -> bool:
        code, message = self.ends_with or (code, message)
        return await super().close(code=code, message=message, **more)

    def is_meant(self) -> bool:
        """Whether its client may have the message that is about to be sent."""
        return True


def _through_outbox(name: str, is_message: bool) -> Callable[..., Awaitable[None]]:
    original = getattr(web.WebSocketResponse, name)

    @wraps(original)
    async def send(self: Socket, data: Any = b"", *args: Any, **more: Any) -> None:
        if (not is_message or self.is_meant()) and await self.outbox.has_room(len(data)):
            await getattr(super(Socket, self), name)(data, *args, **more)

    return send


_SENDING = {"send_str": True, "send_bytes": True, "send_frame": True, "ping": False, "pong": False}
for _name, _is_message in _SENDING.items():
    if hasattr(web.WebSocketResponse, _name):  # `send_frame` came later
        setattr(Socket, _name, _through_outbox(_name, _is_message))


def become(response: web.WebSocketResponse, kind: type[Socket], outbox: Outbox) -> None:
    """Makes `response`, which is about to be sent, a socket of this kind."""
    object.__setattr__(response, "__class__", _kind(kind, type(response)))
    setattr(response, "outbox", outbox)  # noqa: B010 - it is one now


@cache
def _kind(kind: type[Socket], base: type[web.WebSocketResponse]) -> type:
    return type(base.__name__, (kind,) if base is web.WebSocketResponse else (kind, base), {})


def adopt(
    request: web.Request, response: web.WebSocketResponse, has_credential: bool | None, end: Callable[[int], None]
) -> None:
    """Makes a WebSocket that is about to be opened one that nobody waits for.

    `has_credential` is `None` where it was never asked for one; `end` closes it with a code.
    """
    if request.transport is not None:
        become(response, Socket, Outbox(request.transport, most_unsent(has_credential)))


def most_unsent(has_credential: bool | None) -> int:
    """What may wait for a client, in bytes."""
    return MOST_UNSENT if has_credential else MOST_UNSENT_TO_STRANGERS
