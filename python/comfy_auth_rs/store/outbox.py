"""What is still to be written, in the order in which it matters, and no faster than the others can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from comfy_auth_rs.store.protocol import LARGEST_BATCH, Record

__all__ = ["Outbox"]

#: Bytes a second on the way to the store, and bytes that may be saved up: no second has more than 1 MB.
_RATE = 700_000
_MOST_SAVED = 250_000

#: What a record costs besides its name and value, which go into the hash and the stream.
_AROUND = 200


class Outbox:
    """What happened here comes first, then what the store lacks, then locks. Used by one thread.

    `now` is a monotonic clock's.
    """

    def __init__(self, is_lock: Callable[[Record], bool]) -> None:
        self._is_lock = is_lock
        self._news: dict[bytes, Record] = {}
        self._lacking: dict[bytes, Record] = {}
        self._locks: dict[bytes, Record] = {}
        self._locks_cost = 0
        self._saved = float(_MOST_SAVED)
        self._at: float | None = None

    def add(self, records: Iterable[Record], *, are_news: bool = True) -> None:
        """Locks that couldn't leave within a second are dropped: they still hold where they were made."""
        for record in records:
            if not self._is_lock(record):
                (self._news if are_news else self._lacking)[record.name] = record
            elif record.name not in self._locks and self._locks_cost + _cost(record) <= _RATE:
                self._locks[record.name] = record
                self._locks_cost += _cost(record)

    def take(self, now: float) -> list[Record]:
        """What may leave now. It stays here until `written`."""
        self._earn(now)
        batch = _fitting(self._news.values(), self._saved, LARGEST_BATCH)
        left = self._saved - sum(map(_cost, batch))
        if left >= _MOST_SAVED / 2:  # not a few at a time
            rest = chain(self._lacking.values(), self._locks.values())
            batch += _fitting(rest, left, LARGEST_BATCH - len(batch))
        return batch

    def written(self, batch: list[Record]) -> None:
        """They are in the store."""
        for record in batch:
            self._saved -= _cost(record)
            if self._locks.pop(record.name, None) is not None:
                self._locks_cost -= _cost(record)
            for waiting in (self._news, self._lacking):
                if waiting.get(record.name) is record:
                    del waiting[record.name]

    def delay(self) -> float | None:
        """Seconds until more may leave; None where nothing waits."""
        return _MOST_SAVED / 2 / _RATE if self._news or self._lacking or self._locks else None

    @property
    def has_news(self) -> bool:
        """Whether something that happened here waits."""
        return bool(self._news)

    def _earn(self, now: float) -> None:
        if self._at is not None:
            self._saved = min(_MOST_SAVED, self._saved + (now - self._at) * _RATE)
        self._at = now


def _fitting(waiting: Iterable[Record], room: float, most: int) -> list[Record]:
    """The first ones, as many as fit into so many bytes."""
    found: list[Record] = []
    for record in waiting:
        room -= _cost(record)
        if room < 0 or len(found) == most:
            break
        found.append(record)
    return found


def _cost(record: Record) -> int:
    return 2 * (len(record.name) + len(record.value)) + _AROUND
