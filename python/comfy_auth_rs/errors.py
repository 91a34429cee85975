"""Errors at the start, and ending a process that must not serve."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Literal, NoReturn


class _Fault(Exception):
    """A fault in a setting. One line: where, what, and what to do; never a key."""

    def __init__(self, detail: str, setting: str | None = None, place: str | None = None) -> None:
        super().__init__(detail, setting, place)
        self.detail = detail
        #: The setting's name in `Settings`.
        self.setting = setting
        #: `FILE` or `FILE:LINE`, if the value came from a file.
        self.place = place

    def spelled(self, spell: Callable[[str], str]) -> str:
        """The line, with the setting spelled as its user wrote it: `spell("exempt")` is `--auth-exempt`."""
        where = self.place or (self.setting and spell(self.setting))
        return f"{where}: {self.detail}" if where else self.detail

    def __str__(self) -> str:
        return self.spelled(str)


class SettingError(_Fault, ValueError):
    """A setting that cannot be used."""


class KeyFileError(SettingError):
    """Keys that cannot be used. One line: where, what, and what to do; never the key."""


class KeyWarning(_Fault, UserWarning):
    """Something to fix about the keys, although the server can start."""

    def __init__(
        self, detail: str, setting: str, place: str | None, kind: Literal["short_key", "readable_by_others"]
    ) -> None:
        super().__init__(detail, setting, place)
        self.kind = kind


class PatchError(ValueError):
    """A tree that cannot be patched or unpatched: one line that names the file, the fault and the remedy."""


def refuse_to_start(fault: object) -> NoReturn:
    """Ends the process with one line and exit status 2. A server that cannot ask for the key must not start."""
    print(f"comfy-auth-rs: error: {fault}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def end_process(fault: object) -> NoReturn:
    """Like `refuse_to_start`, for callers that would catch SystemExit and go on unprotected, and for other threads."""
    try:
        print(f"comfy-auth-rs: error: {fault}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    finally:  # even if the streams are broken
        os._exit(2)
