"""Show the state: log-outs, revoked keys, locks, prompts of limited keys, and the servers that share it.

STATE is the value of --auth-state (default: COMFYUI_AUTH_STATE).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from comfy_auth_rs import remembered
from comfy_auth_rs.cli.common import CommandError
from comfy_auth_rs.comfyui.state import VARIABLE
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.remembered import Entry, Remembered
from comfy_auth_rs.store import StoreError

EXAMPLES = (
    "~/ComfyUI/user/__comfy_auth_rs/comfy_auth_rs.sqlite3",
    "valkey://10.0.0.5/0",
    "valkey://10.0.0.5/0 --json",
)

_COLUMNS = ("WHAT", "KEY", "ABOUT", "SINCE", "UNTIL")
_NAMES = {
    "log_out": "log-out",
    "earlier_sessions": "sessions until",
    "revocation": "revoked key",
    "lock": "lock",
    "prompt": "prompts",
    "node": "server",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", metavar="STATE", nargs="?", help="a file, or the URL of a Valkey or Redis")
    parser.add_argument("--json", action="store_true", help="for programs: every entry, with whole ids")


def execute(options: argparse.Namespace) -> int:
    state = options.state if options.state is not None else os.environ.get(VARIABLE)
    if state is None:
        raise CommandError(f"no state; name a file or a URL, or set {VARIABLE}")
    try:
        found = remembered.look(state)
    except SettingError as fault:
        raise CommandError(fault.detail) from None
    except StoreError as fault:
        raise CommandError(str(fault)) from None
    if options.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print_table(found)
    return 0


def _as_json(found: Remembered) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "place": found.place,
        "about": found.about,
        "entries": [{name: _when(name, value) for name, value in entry.items()} for entry in found.entries],
        "unknown": found.unknown,
    }


def _when(name: str, value: object) -> object:
    return moment(value) if name in ("at", "issued", "expires", "until") and isinstance(value, int) else value


def moment(seconds: int) -> str:
    """RFC 3339 in UTC, as everywhere else."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "never"  # someone wrote an impossible time


def _print_table(found: Remembered) -> None:
    print(f"{found.place} ({found.about})")
    rows = [*map(_row, found.entries_but("prompt")), *_prompts(found.entries_of("prompt"))]
    if not rows:
        print("Nothing is remembered.")
    else:
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        for row in (_COLUMNS, *sorted(rows)):
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if found.unknown:
        print(f"Entries not written by this version of comfy-auth-rs: {found.unknown:,}")


def _row(entry: Entry) -> tuple[str, ...]:
    about = {"lock": entry.get("address"), "node": str(entry.get("node", ""))[:8]}.get(str(entry["kind"]))
    if entry.get("any_page"):
        about = f"{about} (any page)"
    since = entry.get("issued", entry.get("at"))
    return (
        _NAMES[str(entry["kind"])],
        str(entry.get("key", "-"))[:8],
        str(about or "-"),
        moment(since) if isinstance(since, int) else "-",
        moment(int(entry["until"])),
    )


def _prompts(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """One row per key, because there may be thousands of prompts."""
    counts = Counter(str(entry["key"]) for entry in entries)
    latest: dict[str, int] = {}
    for entry in entries:
        key = str(entry["key"])
        latest[key] = max(latest.get(key, 0), int(entry["until"]))
    return [(_NAMES["prompt"], key[:8], f"{count:,}", "-", moment(latest[key])) for key, count in counts.items()]
