"""ComfyUI's WebSocket: who gets which messages, and what clients without a credential may send."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from aiohttp import web

from comfy_auth_rs import sockets
from comfy_auth_rs._core import FrameFilter
from comfy_auth_rs.aiohttp_internals import FilteredSocket

__all__ = ["adopt", "is_welcome", "tell_who_is_addressed"]

_PATHS: Final = frozenset({"/ws", "/api/ws"})

#: How long all clients wait if pictures come faster than one client can take them, in seconds.
_PATIENCE: Final = 0.25

#: How many messages are sent before other tasks run.
_BATCH: Final = 32

#: How many flags a client may send, and the characters of their names and texts: nothing that can fake a log line.
_MOST_FLAGS: Final = 64
_WORD: Final = re.compile(r"[A-Za-z0-9_.:+-]{0,64}")

#: Whether clients without a credential may get the message being sent.
_is_for_strangers: ContextVar[bool] = ContextVar("is_for_strangers", default=False)


class PromptOutbox(sockets.Outbox):
    """ComfyUI sends to one client after the other, so a slow one delays all others, and one that left fills the log."""

    is_lenient = True

    async def catches_up(self, is_large: bool) -> bool:
        return is_large and await self.takes(_PATIENCE, renewed=False)


class StrangersSocket(FilteredSocket, sockets.Socket):
    """A WebSocket that was opened without a credential."""

    end: Callable[[int], None]

    def is_meant(self) -> bool:
        return _is_for_strangers.get()

    async def send_json(self, data: Any, *args: Any, **more: Any) -> None:
        if self.is_meant():  # else it need not be written
            await super().send_json(data, *args, **more)

    def filtered(self, parser: Any) -> Any:
        return FrameFilter(parser, is_welcome=is_welcome, end=self.end, rest=self.outbox.rest)


def adopt(
    request: web.Request, response: web.WebSocketResponse, has_credential: bool | None, end: Callable[[int], None]
) -> None:
    """Like `comfy_auth_rs.sockets.adopt`, with ComfyUI's rules for its own WebSocket."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in _PATHS:
        sockets.adopt(request, response, has_credential, end)
    elif request.transport is not None:
        outbox = PromptOutbox(request.transport, sockets.most_unsent(has_credential))
        if has_credential is False:
            setattr(response, "end", end)  # noqa: B010 - it will be one
        sockets.become(response, StrangersSocket if has_credential is False else sockets.Socket, outbox)


def tell_who_is_addressed(server: Any) -> None:
    """Makes `server` record who a message is for while it sends it."""
    sent = itertools.count(1)
    for name in ("send_json", "send_bytes"):
        setattr(server, name, partial(_send, server, name, sent))


async def _send(server: Any, name: str, sent: Iterator[int], event: Any, data: Any, sid: str | None = None) -> None:
    token = _is_for_strangers.set(sid is not None or event == "status")
    try:
        # Custom nodes may have replaced it in the meantime.
        await getattr(type(server), name)(server, event, data, sid)
    finally:
        _is_for_strangers.reset(token)
    if next(sent) % _BATCH == 0 or name == "send_bytes":
        # Let transports run amid a thousand messages, or even clients that read fall behind.
        await asyncio.sleep(0)


def is_welcome(message: bytes) -> bool:
    """Whether it is a well-formed `feature_flags` message: an object of plain flags."""
    try:
        said = json.loads(message.decode())
    except (ValueError, RecursionError):
        return False
    if not isinstance(said, dict) or said.keys() != {"type", "data"} or said["type"] != "feature_flags":
        return False
    flags = said["data"]
    return isinstance(flags, dict) and len(flags) <= _MOST_FLAGS and all(map(_is_flag, flags, flags.values()))


def _is_flag(name: str, value: Any) -> bool:
    is_plain = value is None or isinstance(value, (bool, int, float))
    return _is_word(name) and (is_plain or _is_word(value))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
