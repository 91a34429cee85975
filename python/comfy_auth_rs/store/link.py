"""Whether a store can be used, and telling the operator when that changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = ["Link", "Status"]

_logger = logging.getLogger("comfy_auth_rs")

Way = Literal["read", "write"]

#: Seconds between two lines that say that it is away.
_QUIET = 60.0


class Status(NamedTuple):
    """A store, for people and `doctor`."""

    kind: str
    #: The path or the URL, without credentials.
    place: str
    #: Why it cannot be used, and since when (Unix seconds); None where it can.
    fault: str | None = None
    away_since: float | None = None
    #: How many servers share it, as far as this one knows.
    nodes: int = 1


class Link:
    """Both ways to one store. Any thread may tell how one fares; `changed(is_away)` is called when that matters."""

    def __init__(self, kind: str, place: str, changed: Callable[[bool], None]) -> None:
        self._kind = kind
        self._place = place
        self._changed = changed
        self._lock = threading.Lock()
        self._works: dict[Way, bool] = {"read": False, "write": False}
        self._faults: dict[Way, str] = {}
        self._away_since = time.time()
        self._told = False
        self._told_at = -_QUIET
        changed(True)

    def works(self, way: Way) -> None:
        """It was used."""
        with self._lock:
            was_away = not all(self._works.values())
            self._works[way] = True
            self._faults.pop(way, None)
            is_back = was_away and all(self._works.values())
            if is_back:
                self._changed(False)
            is_told, self._told = self._told, self._told and not is_back
        if is_back and is_told:
            _logger.warning("comfy-auth-rs: the state is back: %s", self._place)

    def fails(self, way: Way, fault: str) -> None:
        """It could not be used."""
        with self._lock:
            if all(self._works.values()):
                self._away_since = time.time()
                self._changed(True)
            self._works[way] = False
            self._faults[way] = fault
            if self._told or time.monotonic() - self._told_at < _QUIET:
                return
            self._told, self._told_at = True, time.monotonic()
        _logger.warning(
            "comfy-auth-rs: the state is away: %s. What is known so far holds; what happens from now on, only this "
            "process knows until it is back",
            fault,
        )

    @property
    def may_read(self) -> bool:
        """Whether the last read worked."""
        with self._lock:
            return self._works["read"]

    def status(self) -> Status:
        """How it fares now."""
        with self._lock:
            if all(self._works.values()):
                return Status(self._kind, self._place)
            fault = next(iter(self._faults.values()), f"{self._place}: not reached yet")
            return Status(self._kind, self._place, fault, self._away_since)
