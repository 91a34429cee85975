"""Adds up audit logs: who used how much, and when.

docs/audit.md describes the lines. Every figure belongs to the time of its line: a prompt counts when it ends, with all
its seconds.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from hashlib import blake2b
from io import BufferedReader
from typing import Any, Literal

__all__ = [
    "By", "DamagedError", "Row", "Sums", "Tally", "Window", "as_day", "as_moment", "legible", "merged", "read", "rows",
    "total",
]  # fmt: skip

By = Literal["key", "user", "day"]

#: No line of an audit log is longer. Longer ones are skipped without being kept in memory.
_LONGEST = 1 << 16
_BLOCK = 1 << 20

#: Times as the server writes them. They sort as text.
_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z", re.ASCII)

#: All times that RFC 3339 allows: other programs may have rewritten them.
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

#: Larger figures are invalid: a billion seconds are thirty years.
_LARGEST = 10**9


class DamagedError(Exception):
    """A file that ends early, or that gzip didn't write."""


@dataclass
class Sums:
    """The sums. `prompts` are those that ended, including `failed` and `interrupted` ones."""

    prompts: int = 0
    failed: int = 0
    interrupted: int = 0
    queued: int = 0
    cancelled: int = 0
    unfinished: int = 0
    milliseconds: int = 0
    outputs: int = 0
    refusals: int = 0
    #: The times of the first and last lines about something done; empty if there are none.
    first: str = ""
    last: str = ""
    #: The key's label and user in the last of these lines.
    label: str = ""
    user: str = ""

    @property
    def seconds(self) -> float:
        return self.milliseconds / 1000

    def see(self, first: str, last: str, label: str, user: str) -> None:
        if last >= self.last and (last > self.last or (label, user) > (self.label, self.user)):
            self.last, self.label, self.user = last, label, user
        if first and (first < self.first or not self.first):
            self.first = first

    def add(self, other: Sums) -> None:
        self.prompts += other.prompts
        self.failed += other.failed
        self.interrupted += other.interrupted
        self.queued += other.queued
        self.cancelled += other.cancelled
        self.unfinished += other.unfinished
        self.milliseconds += other.milliseconds
        self.outputs += other.outputs
        self.refusals += other.refusals
        self.see(other.first, other.last, other.label, other.user)


@dataclass(frozen=True)
class Window:
    """Since when, and until when, exclusive. Times are in the server's format."""

    since: str | None = None
    until: str | None = None


@dataclass
class Tally:
    """The sums of one file or several."""

    #: By day, key (`None` without one) and user (empty without one).
    cells: dict[tuple[str, str | None, str], Sums] = field(default_factory=dict)
    #: Lines that aren't empty; and how many of them are outside the window, are not JSON, or are not an event.
    lines: int = 0
    outside: int = 0
    no_json: int = 0
    no_event: int = 0
    #: Files whose last line is incomplete.
    halves: int = 0
    #: How many lines of each event the server could not write.
    dropped: dict[str, int] = field(default_factory=dict)
    #: The digest of everything that was read, to recognize copies.
    digest: bytes = b""

    def add(self, other: Tally) -> None:
        for place, sums in other.cells.items():
            self.cells.setdefault(place, Sums()).add(sums)
        for kind, count in other.dropped.items():
            self.dropped[kind] = self.dropped.get(kind, 0) + count
        self.lines += other.lines
        self.outside += other.outside
        self.no_json += other.no_json
        self.no_event += other.no_event
        self.halves += other.halves


@dataclass(frozen=True)
class Row:
    """One key, user or day. A key without a user is its own user."""

    sums: Sums
    key: str | None = None
    day: str | None = None

    @property
    def label(self) -> str | None:
        return (self.sums.label or None) if self.key else None

    @property
    def user(self) -> str | None:
        return (self.sums.user or None) if self.day is None else None


def read(file: BufferedReader, window: Window, tick: Callable[[], object] = lambda: None) -> Tally:
    """Adds up one file, which may be compressed by gzip. `tick()` is called now and then.

    Raises:
        DamagedError: it can't be unpacked to its end.
        OSError: it can't be read.
    """
    tally = Tally()
    digest = blake2b(digest_size=16)
    rest, too_long = b"", False
    take = _taker(tally, window)
    for block in _blocks(file):
        tick()
        digest.update(block)
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if too_long and lines:
            del lines[0]
            too_long = False
        for line in lines:
            if not take(line):
                tally.no_json += 1
        if too_long or len(rest) > _LONGEST:
            if not too_long:
                tally.lines += 1
                tally.no_json += 1
            rest, too_long = b"", True
    if not too_long and not take(rest):
        tally.halves += 1
    tally.digest = digest.digest()
    return tally


def merged(tallies: Iterable[Tally]) -> Tally:
    """The sum of all of them. Copies count once."""
    everything = Tally()
    for tally in {tally.digest: tally for tally in tallies}.values():
        everything.add(tally)
    return everything


def total(tally: Tally) -> Sums:
    everything = Sums()
    for sums in tally.cells.values():
        everything.add(sums)
    return everything


def rows(tally: Tally, by: By) -> list[Row]:
    """One row for each key, user or day: days in order, others by what they used, most first."""
    folded: dict[tuple[str | None, str | None, str | None], Sums] = {}
    for (day, key, user), sums in tally.cells.items():
        by_key = by == "key" or not user
        # User names ignore case.
        place = (day, None, None) if by == "day" else (None, key, None) if by_key else (None, None, user.lower())
        folded.setdefault(place, Sums()).add(sums)
    if by == "day":
        return [Row(sums, day=day) for (day, _, _), sums in sorted(folded.items(), key=lambda item: item[0][0] or "")]
    return sorted((Row(sums, key) for (_, key, _), sums in folded.items()), key=_most_first)


def as_moment(text: str) -> str | None:
    """An RFC 3339 time in the server's format, rounded up to milliseconds; `None` if it is invalid."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}").astimezone(timezone.utc)
        moment += timedelta(milliseconds=-(-int((fraction or "0").ljust(9, "0")) // 10**6))
    except (ValueError, OverflowError):
        return None
    return _written(moment)


def as_day(text: str, days_later: int = 0) -> str | None:
    """When a day, or the one `days_later`, begins in UTC; `None` if it is invalid."""
    if not _DAY.fullmatch(text):
        return None
    try:
        day = date.fromisoformat(text) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        return None
    return f"{day.isoformat()}T00:00:00.000Z"


def legible(text: str) -> str:
    """Text for terminals and pages, with escapes for control characters and those that reverse text."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _written(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _most_first(row: Row) -> tuple[Any, ...]:
    sums = row.sums
    return (-sums.milliseconds, -sums.prompts, -sums.refusals, sums.label, sums.user, row.key or "")


def _blocks(file: BufferedReader) -> Iterator[bytes]:
    """The file's content, unpacked if necessary."""
    source: Any = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
    try:
        while block := source.read(_BLOCK):
            yield block
    except EOFError:
        raise DamagedError("it ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DamagedError(str(error)) from None


def _taker(tally: Tally, window: Window) -> Callable[[bytes], bool]:
    """Makes a function that adds one line to `tally` and returns whether the line is JSON or empty.

    The function runs a million times, so it looks nothing up twice.
    """
    parse = json.JSONDecoder().raw_decode
    since, until = window.since or "", window.until or "~"
    days: dict[str, str | None] = {}
    cells = tally.cells

    def take(line: bytes) -> bool:
        if not line or line.isspace():
            return True
        tally.lines += 1
        if len(line) > _LONGEST:
            return False
        try:
            text = line.decode()
            event, end = parse(text)
            if end != len(text) and not text[end:].isspace():
                return False
        except (ValueError, RecursionError):
            return False
        if event.__class__ is not dict:
            return False
        time = event.get("time")
        kind = event.get("event")
        if time.__class__ is not str or kind.__class__ is not str:
            tally.no_event += 1
            return True
        if _WRITTEN.fullmatch(time) is None:
            time = as_moment(time) or ""
        day = time[:10]
        if day not in days:
            days[day] = as_day(day)
        if days[day] is None:
            tally.no_event += 1
        elif since <= time < until:
            count = _COUNTED.get(kind)
            if count is not None:
                key, user, label = event.get("key"), event.get("user"), event.get("label")
                key = key if key.__class__ is str and key else None
                user = user if user.__class__ is str else ""
                sums = cells.get((day, key, user))
                if sums is None:
                    sums = cells[day, key, user] = Sums()
                # Nobody did anything when the server started again.
                seen = time if kind != "prompt_unfinished" else ""
                sums.see(seen, seen, label if label.__class__ is str else "", user)
                count(sums, event)
            elif kind == "dropped":
                what = event.get("kind")
                what = what if what.__class__ is str else "?"
                tally.dropped[what] = tally.dropped.get(what, 0) + _whole(event.get("count"), 1)
        else:
            tally.outside += 1
        return True

    return take


def _whole(value: Any, otherwise: int = 0) -> int:
    return value if value.__class__ is int and 0 <= value < _LARGEST else otherwise


def _milliseconds(value: Any) -> int:
    # Neither true nor NaN is one.
    return int(value * 1000 + 0.5) if value.__class__ in (int, float) and 0 <= value < _LARGEST else 0


def _is_seen(sums: Sums, event: dict[str, Any]) -> None:
    """Adds nothing up: the line only shows that someone was there."""


def _is_refused(sums: Sums, event: dict[str, Any]) -> None:
    sums.refusals += _whole(event.get("count"), 1)


def _is_queued(sums: Sums, event: dict[str, Any]) -> None:
    sums.queued += 1


def _is_finished(sums: Sums, event: dict[str, Any]) -> None:
    sums.prompts += 1
    sums.outputs += _whole(event.get("outputs"))
    sums.milliseconds += _milliseconds(event.get("seconds"))
    status = event.get("status")
    if status == "interrupted":
        sums.interrupted += 1
    elif status != "success":
        sums.failed += 1


def _is_cancelled(sums: Sums, event: dict[str, Any]) -> None:
    sums.cancelled += 1


def _is_unfinished(sums: Sums, event: dict[str, Any]) -> None:
    sums.unfinished += 1
    sums.milliseconds += _milliseconds(event.get("seconds"))


_COUNTED: dict[str, Callable[[Sums, dict[str, Any]], None]] = {
    "log_in": _is_seen,
    "log_out": _is_seen,
    "admitted": _is_seen,
    "prompt_started": _is_seen,
    "refused": _is_refused,
    "refused_foreign": _is_refused,
    "prompt_queued": _is_queued,
    "prompt_finished": _is_finished,
    "prompt_cancelled": _is_cancelled,
    "prompt_unfinished": _is_unfinished,
}
