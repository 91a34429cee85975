"""WebSockets that never block the sender: what a client doesn't read waits in memory, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache, wraps
from typing import Any, Final

from aiohttp import WSCloseCode, web

#: How much may wait for a client with a credential, and for one that needed none, in bytes.
MOST_UNSENT: Final = 16 * 1024 * 1024
MOST_UNSENT_TO_STRANGERS: Final = 1024 * 1024

#: Messages longer than this, such as pictures, may exceed that limit.
LARGE: Final = 64 * 1024

#: More than can ever wait, so that aiohttp itself never waits for a client.
_NEVER: Final = 1 << 40

#: How fast to read from a client that sends too much, in bytes a second.
_READ_A_SECOND: Final = 64 * 1024

#: How often to check a client that we wait for, in seconds.
_INTERVAL: Final = 0.01


class Outbox:
    """The data waiting in the transport for one WebSocket's client."""

    #: Whether to drop messages to a client that has gone; otherwise sending fails as usual.
    is_lenient = False

    def __init__(self, transport: asyncio.Transport, most: int) -> None:
        self._transport = transport
        self._most = most
        #: The size of the last large message, which may wait on top of the others.
        self._large = 0
        transport.set_write_buffer_limits(_NEVER)

    async def has_room(self, size: int) -> bool:
        """Whether to send a message of `size` bytes. Aborts the connection of a client that is too far behind."""
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
        """Waits as long as the client reads anything, which slows down a sender that is too fast for it."""
        return await self.takes(2.0, renewed=True)

    async def takes(self, patience: float, *, renewed: bool) -> bool:
        """Whether a client reads enough within `patience` seconds, which start again if `renewed` when it reads any."""
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
        """Reads nothing for a while, depending on how many bytes arrived."""
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(arrived / _READ_A_SECOND, self._transport.resume_reading)

    def _unsent(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()


class Socket(web.WebSocketResponse):
    """A WebSocket that has an outbox."""

    outbox: Outbox

    #: The close code and reason, even if the handler closes it, which in aiohttp before 3.11 comes first.
    ends_with: tuple[int, bytes] | None = None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", **more: Any) -> bool:
        code, message = self.ends_with or (code, message)
        return await super().close(code=code, message=message, **more)

    def is_meant(self) -> bool:
        """Whether the client may get the message that is about to be sent."""
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
    """Turns `response`, which is about to be sent, into a socket of this kind."""
    object.__setattr__(response, "__class__", _kind(kind, type(response)))
    setattr(response, "outbox", outbox)  # noqa: B010 - it is one now


@cache
def _kind(kind: type[Socket], base: type[web.WebSocketResponse]) -> type:
    return type(base.__name__, (kind,) if base is web.WebSocketResponse else (kind, base), {})


def adopt(
    request: web.Request, response: web.WebSocketResponse, has_credential: bool | None, end: Callable[[int], None]
) -> None:
    """Turns a WebSocket that is about to be opened into one that never blocks the sender.

    `has_credential` is `None` if it needed no credential; `end` closes it with a code.
    """
    if request.transport is not None:
        become(response, Socket, Outbox(request.transport, most_unsent(has_credential)))


def most_unsent(has_credential: bool | None) -> int:
    """How much may wait for a client, in bytes."""
    return MOST_UNSENT if has_credential else MOST_UNSENT_TO_STRANGERS
