"""Checks audit logs: `faults(line)` is empty for a good line; `lines_of(path)` reads and checks a whole log."""

from __future__ import annotations

import copy
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from support.keys import CANARY

SCHEMA: dict[str, Any] = json.loads(files("comfy_auth_rs").joinpath("audit.schema.json").read_text(encoding="utf-8"))
EVENTS: list[str] = SCHEMA["properties"]["event"]["enum"]

#: The order of the fields is fixed, so that you can recognise a line by its beginning.
ORDER = (
    "time", "event", "outcome", "cause", "count", "key", "label", "user", "client", "method", "route", "scope",
    "source", "origin", "user_agent", "by", "prompt_id", "seconds", "status", "outputs", "traceparent", "file", "keys",
    "kind", "version",
)  # fmt: skip

#: Readers ignore fields that they don't know. Our own server writes only fields that the schema names.
STRICT = copy.deepcopy(SCHEMA) | {"unevaluatedProperties": False}

_VALIDATOR = Draft202012Validator(STRICT, format_checker=Draft202012Validator.FORMAT_CHECKER)

_FIELD = rb'"[a-z_]+": (?:"(?:[^"\\]|\\["\\bfnrt]|\\u[0-9a-f]{4})*"|[0-9]+(?:\.[0-9]+)?)'
_TIMED = re.compile(rb'\{"time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "event": [^\n]*\}\n')
_NUMBERS = re.compile(rb"\b[0-9a-f]{32}\b|[0-9]+")
_FORM = re.compile(rb"\{%b(?:, %b)*\}" % (_FIELD, _FIELD))


def faults(line: bytes) -> list[str]:
    """What is wrong with one line. `line` includes its end, as in the file."""
    if not re.fullmatch(rb"[ -~]*\n", line):
        return ["a line is printable ASCII and ends with a line feed"]
    if not _FORM.fullmatch(line[:-1]):
        return ["a line is one object of strings and numbers, with one space after each colon and comma"]
    pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    found = [f"{name} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if not found and names != [name for name in ORDER if name in names]:
        found = [f"the fields are not in their order: {', '.join(names)}"]
    return found + [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(dict(pairs))]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The events of an audit log. Every line must be valid."""
    check_audit(path)
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def check_audit(path: Path, *, was_killed: bool = False) -> None:
    """Fails if a line isn't what docs/audit.md says. If the server was killed, the last line may be cut off."""
    text = path.read_bytes()
    assert CANARY.encode() not in text, "the log contains a key"
    *lines, rest = text.split(b"\n")
    lines = [line + b"\n" for line in lines]
    if not was_killed:
        assert lines, f"{path} is empty"
        lines += [rest] if rest else []
    wrong, seen = [], set[bytes]()
    for number, line in enumerate(lines, 1):
        # Checking a line against the schema takes a millisecond. Lines that differ only in times, numbers and ids are
        # checked once.
        kind = _NUMBERS.sub(b"0", line)
        if kind not in seen or not _TIMED.match(line):
            seen.add(kind)
            wrong += [f"{path}:{number}: {fault}\n{line!r}" for fault in faults(line)]
    assert not wrong, "\n".join(wrong[:10])
