"""Add up an audit log: who used how much, and when.

A prompt counts when it ends, with all its seconds. All days and times are UTC.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any

from comfy_auth_rs import usage, usage_page
from comfy_auth_rs.cli.common import CommandError
from comfy_auth_rs.usage import By, Row, Sums, Tally, Window, legible

EXAMPLES = (
    "audit.jsonl",
    "audit.jsonl* --since 2026-11-01 --until 2026-11-30 --by user",
    "audit.jsonl* --html usage.html",
)

#: The first bytes of a page, which a new page may overwrite.
_PAGE = b"<!doctype html>"

_WIDEST = 32
#: Longer text contains characters without a width.
_LONGEST = 4 * _WIDEST

_NOBODY = "(no valid key)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "audit",
        metavar="AUDIT",
        type=Path,
        nargs="+",
        help="files written by --auth-audit, rotated and gzipped ones too, in any order",
    )
    parser.add_argument(
        "--since", metavar="WHEN", type=_since, help="from this day or time on: 2026-11-01 or 2026-11-01T08:00:00Z"
    )
    parser.add_argument("--until", metavar="WHEN", type=_until, help="to the end of this day, or until this time")
    parser.add_argument("--by", choices=("key", "user", "day"), default="key", help="one row for each (default: key)")
    parser.add_argument("--json", action="store_true", help="for programs: more figures, and full times")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with plots, for a report")


def execute(options: argparse.Namespace) -> int:
    window = Window(options.since, options.until)
    if window.since and window.until and window.since >= window.until:
        raise CommandError("--since is not before --until; give an earlier --since")
    if options.html is not None:
        _check_page(options.html)
    tally = _read(options.audit, window)
    if options.html is not None:
        _write_page(options.html, usage_page.render(tally, window))
    if options.json:
        text = json.dumps(_as_json(tally, window, options.by), indent=2)
        _print(text.replace("\x7f", "\\u007f"))  # the one control character that is left as it is
    elif options.html is not None:
        _print(f"The page is in {legible(str(options.html))}.")
    else:
        for line in _table(tally, options.by):
            _print(line)
    return 0


def _since(text: str) -> str:
    return _when(text, usage.as_day(text))


def _until(text: str) -> str:
    return _when(text, usage.as_day(text, days_later=1))


def _when(text: str, day: str | None) -> str:
    when = day or usage.as_moment(text)
    if when is None:
        raise argparse.ArgumentTypeError(
            f"{text} is not a time; write a day, 2026-11-01, or a moment with its zone, 2026-11-01T08:00:00Z"
        )
    return when


# --- reading ----------------------------------------------------------------------------------------------------


def _read(paths: Sequence[Path], window: Window) -> Tally:
    tallies: dict[bytes, tuple[Path, Tally]] = {}
    with ExitStack() as stack:
        files = _open(paths, stack)
        progress = _Progress(sum(size for _, _, size in files)) if sys.stderr.isatty() else None
        notes = []
        for path, file, size in files:
            tally = _read_one(path, file, window, progress)
            if progress:
                progress.done += size
            notes += _notes(path, tally)
            first, _ = tallies.setdefault(tally.digest, (path, tally))
            if first is not path and tally.lines:
                notes.append(f"{path}: counted once (it has the same content as {first})")
        if progress:
            progress.clear()
    everything = usage.merged(tally for _, tally in tallies.values())
    if everything.dropped:
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(everything.dropped.items()))
        lost = sum(everything.dropped.values())
        notes.append(f"the server could not write {lost:,} lines ({kinds}); their figures are missing")
    for note in notes:
        print(f"comfy-auth-rs: {_printable(legible(note), sys.stderr)}", file=sys.stderr)
    return everything


def _open(paths: Sequence[Path], stack: ExitStack) -> list[tuple[Path, BufferedReader, int]]:
    """Opens all files before the first is read, each once, with its size if it has one."""
    found: dict[tuple[int, int], tuple[Path, BufferedReader, int]] = {}
    for path in paths:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise _unreadable(path, error.strerror) from None
        status = os.fstat(file.fileno())
        regular = stat.S_ISREG(status.st_mode)
        found.setdefault((status.st_dev, status.st_ino), (path, file, status.st_size if regular else 0))
    return list(found.values())


def _read_one(path: Path, file: BufferedReader, window: Window, progress: _Progress | None) -> Tally:
    def tick() -> None:
        if progress and file.seekable():
            progress.show(file.raw.tell())

    try:
        return usage.read(file, window, tick)
    except usage.DamagedError as error:
        raise CommandError(
            f"{legible(str(path))}: cannot be unpacked ({legible(str(error))}); nothing was counted; leave it out or "
            "restore it"
        ) from None
    except OSError as error:
        raise _unreadable(path, error.strerror) from None


def _unreadable(path: Path, reason: str | None) -> CommandError:
    return CommandError(
        f"{legible(str(path))}: cannot be read ({reason}); name a file that --auth-audit has written and you may read"
    )


def _notes(path: Path, tally: Tally) -> list[str]:
    notes = []
    if tally.no_json:
        notes.append(f"{path}: skipped {tally.no_json:,} of {tally.lines:,} lines (not JSON)")
    if tally.no_event:
        notes.append(f"{path}: skipped {tally.no_event:,} of {tally.lines:,} lines (no event with a time)")
    if tally.halves:
        notes.append(f"{path}: skipped its last line (it is incomplete)")
    return notes


class _Progress:
    """A bar on the terminal, in one line that is cleared at the end."""

    _WIDTH = 30

    def __init__(self, size: int) -> None:
        self.done = 0
        self._size = max(size, 1)
        self._shown = -1

    def show(self, read: int) -> None:
        percent = min(100 * (self.done + read) // self._size, 100)
        if percent != self._shown:
            self._shown = percent
            bar = "#" * (percent * self._WIDTH // 100)
            print(f"\r[{bar:{self._WIDTH}}] {percent:3} %", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        print(f"\r{'':{self._WIDTH + 8}}\r", end="", file=sys.stderr, flush=True)


# --- showing ----------------------------------------------------------------------------------------------------


def _as_json(tally: Tally, window: Window, by: By) -> dict[str, Any]:
    return {
        "since": window.since,
        "until": window.until,
        "by": by,
        "rows": [{**_names(row, by), **_figures(row.sums)} for row in usage.rows(tally, by)],
        "total": _figures(usage.total(tally)),
        "lines": {
            "read": tally.lines,
            "outside": tally.outside,
            "not_json": tally.no_json,
            "no_event": tally.no_event,
            "broken_off": tally.halves,
        },
        "dropped": tally.dropped,
    }


def _names(row: Row, by: By) -> dict[str, str | None]:
    return {"day": row.day} if by == "day" else {"key": row.key, "label": row.label, "user": row.user}


def _figures(sums: Sums) -> dict[str, Any]:
    return {
        "prompts": sums.prompts,
        "failed": sums.failed,
        "interrupted": sums.interrupted,
        "queued": sums.queued,
        "cancelled": sums.cancelled,
        "unfinished": sums.unfinished,
        "seconds": sums.seconds,
        "outputs": sums.outputs,
        "refusals": sums.refusals,
        "first_seen": sums.first or None,
        "last_seen": sums.last or None,
    }


def _table(tally: Tally, by: By) -> list[str]:
    names = {"key": ["KEY", "ID", "USER"], "user": ["USER"], "day": ["DAY"]}[by]
    head = [*names, "PROMPTS", "GPU TIME", "OUTPUTS", "REFUSED", "FIRST SEEN", "LAST SEEN"]
    lines = [[*_called(row, by), *_cells(row.sums)] for row in usage.rows(tally, by)]
    if not lines:
        return ["Nothing was used."]
    lines.append(["total", *[""] * (len(names) - 1), *_cells(usage.total(tally))])
    widths = [max(map(_width, column)) for column in zip(head, *lines, strict=True)]
    figures = range(len(names), len(names) + 4)
    table = ["  ".join(_aligned(line, widths, figures)).rstrip() for line in (head, *lines)]
    lost = usage.total(tally).unfinished
    return [*table, *([f"prompts that were lost when the server stopped: {lost:,}"] if lost else [])]


def _called(row: Row, by: By) -> list[str]:
    if by == "day":
        return [row.day or ""]
    key = row.key[:8] if row.key else ""
    if by == "user":
        return [_short(row.user or (f"{row.label or 'key'} ({key})" if key else _NOBODY))]
    return [_short(row.label or ("" if key else _NOBODY)), _short(key), _short(row.user or "")]


def _cells(sums: Sums) -> list[str]:
    def minute(time: str) -> str:
        return time[:16].replace("T", " ")

    return [
        f"{sums.prompts:,}", usage_page.clock(sums.milliseconds), f"{sums.outputs:,}", f"{sums.refusals:,}",
        minute(sums.first), minute(sums.last),
    ]  # fmt: skip


def _aligned(line: Sequence[str], widths: Sequence[int], right: range) -> list[str]:
    return [
        f"{' ' * (width - _width(cell))}{cell}" if place in right else f"{cell}{' ' * (width - _width(cell))}"
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _short(text: str) -> str:
    """As much of a label as fits into a column."""
    text = legible(text)
    if len(text) > _LONGEST or _width(text) > _WIDEST:
        text = text[:_LONGEST]
        while _width(text) >= _WIDEST:
            text = text[:-1]
        text += "…"
    return text


def _width(text: str) -> int:
    """How many columns the text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _printable(text: str, stream: Any) -> str:
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _print(text: str) -> None:
    print(_printable(text, sys.stdout))


# --- the page ---------------------------------------------------------------------------------------------------


def _check_page(file: Path) -> None:
    """Checks, before reading the logs, that a page may be written there. `--html audit.jsonl` is an easy mistake."""
    try:
        if file.is_file() and file.stat().st_size:
            with file.open("rb") as opened:
                if opened.read(len(_PAGE)).lower() != _PAGE:
                    raise CommandError(
                        f"{legible(str(file))} exists and is not a usage page; choose another name for the page"
                    )
    except OSError as error:
        raise _unwritable(file, error.strerror) from None


def _write_page(file: Path, page: str) -> None:
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, error.strerror) from None


def _unwritable(file: Path, reason: str | None) -> CommandError:
    return CommandError(f"{legible(str(file))} cannot be written ({reason}); choose another place for the page")
