"""Keeps our middleware first, although custom nodes insert theirs at position 0."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from aiohttp import web
from frozenlist import FrozenList

from comfy_auth_rs.aiohttp_internals import set_middlewares
from comfy_auth_rs.comfyui.classes import give_class

__all__ = ["name_of", "stay_first"]


def stay_first(
    app: web.Application, middleware: Any, displaced: list[str], before_freezing: Callable[[], None]
) -> None:
    """Keeps `middleware` first in the list of `app`, both for code that reads the list and when it is frozen.

    It also moves before middlewares that were inserted before it, whose names `displaced` collects, and into a list
    that replaces the original one. `before_freezing` is called while signals and routes can still be changed.
    """
    base: Any = type(app)
    were_there = list(app.middlewares)

    def middlewares(self: Any) -> Any:
        found = base.middlewares.fget(self)
        can_change = isinstance(found, FrozenList) and not found.frozen
        if self.pre_frozen or (can_change and found and found[0] is middleware):
            return found
        before = takewhile(lambda other: other is not middleware, found)
        names = [name_of(other) for other in before if other not in were_there]
        displaced.extend(name for name in names if name not in displaced)
        in_order = [middleware, *(other for other in found if other is not middleware)]
        if can_change:
            found[:] = in_order
            return found
        return set_middlewares(self, in_order)

    def pre_freeze(self: Any) -> None:
        if not self.pre_frozen:
            others = self.middlewares
            others[:] = [other if _is_new_style(other) else _in_new_style(self, other) for other in others]
            before_freezing()
        base.pre_freeze(self)

    attributes = {"__slots__": (), "middlewares": property(middlewares), "pre_freeze": pre_freeze}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp discourages subclasses of its application
        first = type(base.__name__, (base,), attributes)
    give_class(app, first)
    _ = app.middlewares


def _is_new_style(middleware: Any) -> bool:
    return getattr(middleware, "__middleware_version__", None) == 1


def _in_new_style(app: web.Application, factory: Any) -> Any:
    """Wraps an old-style middleware, a factory of handlers: aiohttp would call the factory before any other runs."""

    @web.middleware
    async def made_when_it_is_its_turn(request: web.Request, handler: Any) -> Any:
        return await (await factory(app, handler))(request)

    return made_when_it_is_its_turn


def name_of(callable: Any) -> str:
    """The module and name of a middleware or handler."""
    named = callable if hasattr(callable, "__qualname__") else getattr(callable, "func", type(callable))
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"
