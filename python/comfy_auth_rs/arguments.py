"""Removes values from argparse's messages: one of them may be a key."""

from __future__ import annotations

import re
from collections.abc import Sequence

from comfy_auth_rs._core import REDACTED

__all__ = ["without_values"]

#: Nobody has a shorter key, and short values help to find the mistake: `--port 80800`.
_SHORTEST = 6

_OPTION = re.compile(r"--[a-z][a-z0-9_-]{0,40}|-[a-z]")


def without_values(message: str, words: Sequence[str]) -> str:
    """`message` about the command line `words`, with no values from there, only names of options."""
    hidden = message
    for value in sorted(map(_value, words), key=len, reverse=True):
        if len(value) >= _SHORTEST:
            for written in (value, repr(value)[1:-1]):
                hidden = hidden.replace(written, REDACTED)
    return hidden if hidden == message else f"{hidden} (values are not shown, because they may be keys)"


def _value(word: str) -> str:
    """The part of a word that isn't an option's name, as in `-kVALUE` and `--no option`."""
    name, separator, value = word.partition("=")
    return value if separator and _OPTION.fullmatch(name) else "" if _OPTION.fullmatch(word) else word
