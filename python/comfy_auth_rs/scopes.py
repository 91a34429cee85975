"""What a route of an application of one's own needs, as its author writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from aiohttp import web


class RouteFacts(Protocol):
    """What ComfyUI's table of scopes asks about a request."""

    def origin_of(self, request: web.Request) -> Enum:
        """Whose code answers it: its value is `comfyui`, `node` or `unknown`."""

    def user_files(self, request: web.Request, user: str | None, scopes: tuple[str, ...]) -> list[str] | None:
        """The files that it names in the folder of the ComfyUI user that such a key is, as paths below that folder with
        every link followed; `None` where that cannot be told."""


#: `"run"`, `"run,nodes"` or `["run", "nodes"]`: all of them are needed. Nothing: any valid key will do.
Words = str | Iterable[str]

#: Patterns with what they need, of which the first that matches counts, or a function of the request.
GivenScopes = Mapping[str, Words] | Callable[[web.Request], Words]


#: The same as the core takes it, or what it asks where ComfyUI is protected.
CoreScopes = Sequence[tuple[str, list[str]]] | Callable[[web.Request], list[str]] | RouteFacts


def read(given: GivenScopes) -> CoreScopes:
    """The same as the core takes it."""
    if isinstance(given, Mapping):
        return [(pattern, _words(needed)) for pattern, needed in given.items()]
    return lambda request: _words(given(request))


def _words(needed: Words) -> list[str]:
    words = needed.split(",") if isinstance(needed, str) else list(needed)
    return [word.strip() for word in words if word.strip()]
