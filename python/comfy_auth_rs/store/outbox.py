"""What is still to be written, in the order in which it matters, and no faster than the others can read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from comfy_auth_rs.store.protocol import LARGEST_BATCH, Record

__all__ = ["Outbox"]

#: Bytes a second on the way to the store, and bytes that may be saved up: no second has more than 1 MB.
_RATE = 700_000
_MOST_SAVED = 250_000

#: Seconds between two batches of locks. Each goes to every node, so a flood of them must not go one by one.
_GATHER = 0.2

#: Seconds, so that it is surely time when one has waited.
_ROUNDED = 0.001

#: Most locks that leave in a quarter of an hour, in which they all end: no node remembers more. So a flood from however
#: many addresses takes no more room in the store.
_MOST_LOCKS = 16_384
_LOCKS_LAST = 900  # seconds

#: What a record costs besides its name and value, which go into the hash and the stream.
_AROUND = 200


class Outbox:
    """What happened here comes first, then what the store lacks, then locks, which are gathered. Used by one thread.

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
        self._locks_at = 0.0  # when the next ones may leave
        self._locks_saved = float(_MOST_LOCKS)

    def add(self, records: Iterable[Record], *, are_news: bool = True) -> None:
        """Locks that couldn't leave within a second are dropped: they still hold where they were made."""
        for record in records:
            if not self._is_lock(record):
                waiting = self._news if are_news else self._lacking
                waiting.pop(record.name, None)  # the later one comes later
                waiting[record.name] = record
            elif record.name in self._locks:
                self._locks[record.name] = record
            elif self._locks_cost + _cost(record) <= _RATE and self._locks_saved >= 1:
                self._locks[record.name] = record
                self._locks_cost += _cost(record)
                self._locks_saved -= 1

    def take(self, now: float, *, gathers: bool = True) -> list[Record]:
        """What may leave now. It stays here until `written`. Unless it `gathers`, locks don't wait for more of them."""
        self._earn(now)
        batch = _fitting(self._news.values(), self._saved, LARGEST_BATCH)
        left = self._saved - sum(map(_cost, batch))
        if left >= _MOST_SAVED / 2:  # not a few at a time
            rest = [*self._lacking.values()]
            if now >= self._locks_at or not gathers:
                rest += self._locks.values()
            batch += _fitting(rest, left, LARGEST_BATCH - len(batch))
        return batch

    def written(self, batch: list[Record]) -> None:
        """They are in the store."""
        for record in batch:
            self._saved -= _cost(record)
            if self._locks.get(record.name) is record:
                del self._locks[record.name]
                self._locks_cost -= _cost(record)
                self._locks_at = (self._at or 0.0) + _GATHER
            for waiting in (self._news, self._lacking):
                if waiting.get(record.name) is record:
                    del waiting[record.name]

    def delay(self) -> float | None:
        """Seconds from the last `take` until more may leave; None where nothing waits."""
        if self._news or self._lacking:
            return _MOST_SAVED / 2 / _RATE
        if self._locks:
            saving = (_MOST_SAVED / 2 - self._saved) / _RATE
            return max(saving, self._locks_at - (self._at or 0.0), 0.0) + _ROUNDED
        return None

    @property
    def has_news(self) -> bool:
        """Whether something that happened here waits."""
        return bool(self._news)

    def _earn(self, now: float) -> None:
        if self._at is not None:
            passed = now - self._at
            self._saved = min(_MOST_SAVED, self._saved + passed * _RATE)
            self._locks_saved = min(_MOST_LOCKS, self._locks_saved + passed * _MOST_LOCKS / _LOCKS_LAST)
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
    if not record.value:
        return len(record.name)
    return 2 * (len(record.name) + len(record.value)) + _AROUND
