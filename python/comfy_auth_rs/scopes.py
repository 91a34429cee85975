"""The scopes that the routes of your own application need, as you write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from aiohttp import web


class RouteFacts(Protocol):
    """What ComfyUI's table of scopes asks about a request."""

    def origin_of(self, request: web.Request) -> Enum:
        """Whose code answers the request: `comfyui`, `node` or `unknown`."""

    def user_files(self, request: web.Request, user: str | None, scopes: tuple[str, ...]) -> list[str] | None:
        """The files that the request names in the folder of the key's ComfyUI user, as paths below that folder with all
        links resolved; `None` if that is unknown."""


#: `"run"`, `"run,nodes"` or `["run", "nodes"]`: all of them are needed. Empty: any valid key will do.
Words = str | Iterable[str]

#: Patterns with their scopes, of which the first match counts, or a function of the request.
GivenScopes = Mapping[str, Words] | Callable[[web.Request], Words]


#: The same in the core's form, or what the core asks about a ComfyUI.
CoreScopes = Sequence[tuple[str, list[str]]] | Callable[[web.Request], list[str]] | RouteFacts


def read(given: GivenScopes) -> CoreScopes:
    """Converts them to the core's form."""
    if isinstance(given, Mapping):
        return [(pattern, _words(needed)) for pattern, needed in given.items()]
    return lambda request: _words(given(request))


def _words(needed: Words) -> list[str]:
    words = needed.split(",") if isinstance(needed, str) else list(needed)
    return [word.strip() for word in words if word.strip()]
