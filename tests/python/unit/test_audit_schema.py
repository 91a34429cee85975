"""The schema of audit logs, and that docs/audit.md agrees with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.audit import EVENTS, ORDER, SCHEMA, STRICT, check_audit, faults, lines_of

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "audit.md").read_text(encoding="utf-8")

#: The examples in docs/audit.md.
EXAMPLES = {json.loads(line)["event"]: line for line in re.findall(r"```json\n(.*)\n```", PAGE)}

KEY = "3f2a9c01d4e85b7760c1f2a9e4b85d13"
FINISHED: dict[str, Any] = {
    "time": "2026-11-28T09:13:24.120Z", "event": "prompt_finished", "outcome": "success", "key": KEY,
    "prompt_id": "1", "seconds": 1.5, "status": "success", "outputs": 1,
}  # fmt: skip
LOCK: dict[str, Any] = {
    "time": "2026-11-28T09:13:24.120Z", "event": "lock", "outcome": "failure", "cause": "wrong_keys",
    "client": "192.0.2.7", "seconds": 60,
}  # fmt: skip
REFUSED: dict[str, Any] = {
    "time": "2026-11-28T09:13:24.120Z", "event": "refused", "outcome": "failure", "cause": "locked", "count": 1,
}  # fmt: skip


def line_of(event: dict[str, Any]) -> bytes:
    """Writes the fields in their fixed order; unknown ones come last."""
    known = {name: event[name] for name in ORDER if name in event}
    return json.dumps(known | event).encode() + b"\n"


def faults_of(event: dict[str, Any]) -> list[str]:
    return faults(line_of(event))


def fields(event: str) -> tuple[set[str], set[str]]:
    """The fields that are always there, and those that are there only if known."""
    schema = SCHEMA["$defs"][event]
    always = set(schema["required"])
    return always, set(schema["properties"]) - always - {"outcome"}


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator.check_schema(STRICT)


@pytest.mark.parametrize("event", EVENTS)
def test_each_event_has_a_section_with_its_fields_and_an_example(event: str) -> None:
    section = re.search(rf"^### {event}\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)
    assert section
    told = re.search(r"^Always: (.*?)\.(?:\s+Where\s+known: (.*?)\.)?$", section[1], re.M | re.S)
    assert told
    assert tuple(set(re.findall(r"`(\w+)`", part or "")) for part in told.groups()) == fields(event)
    assert EXAMPLES[event] in section[1]
    assert faults(EXAMPLES[event].encode() + b"\n") == []


def test_the_page_has_no_other_event() -> None:
    assert set(re.findall(r"^### (\w+)$", PAGE, re.M)) == set(EVENTS) == set(EXAMPLES)


def table(title: str) -> list[str]:
    """The first column of a section's table."""
    section = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert section
    return re.findall(r"^\| `(\w+)` \|", section[1], re.M)


def test_the_page_explains_each_field_once_and_in_order() -> None:
    assert tuple(table("Fields")) == ORDER
    assert set(ORDER) == {"time", "event", "outcome"}.union(*(set.union(*fields(event)) for event in EVENTS))


def test_each_cause_of_a_refusal_is_known_and_explained() -> None:
    known = SCHEMA["$defs"]["why_refused"]["enum"]
    assert sorted(table("refused")) == sorted(known)
    rust = (REPOSITORY / "src" / "decision.rs").read_text(encoding="utf-8")
    decided = re.findall(r'row\(\d{3}, "\w+", "(\w+)"', rust)
    assert len(decided) >= 10
    assert set(decided) <= set(known)


@pytest.mark.parametrize("event", ["lock", "keys_read", "key_gone"])
def test_the_causes_of_other_events_are_explained(event: str) -> None:
    told = re.search(rf"^### {event}\n(.*?)^Always", PAGE, re.M | re.S)
    assert told
    assert set(SCHEMA["$defs"][event]["properties"]["cause"]["enum"]) <= set(re.findall(r"`(\w+)`", told[1]))


@pytest.mark.parametrize("event", EVENTS)
def test_a_field_that_is_missing_or_unknown_is_a_fault(event: str) -> None:
    example = json.loads(EXAMPLES[event])
    for name in {"time", "event", "outcome"} | fields(event)[0]:
        assert faults_of({word: value for word, value in example.items() if word != name}), name
    assert faults_of({**example, "canary": 1})
    assert Draft202012Validator(SCHEMA).is_valid({**example, "canary": 1})  # readers ignore unknown fields
    assert faults_of({**example, "outcome": "canary"})


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (FINISHED, {"time": "2026-11-28T09:13:24Z"}),
        (FINISHED, {"time": "2026-11-28T09:13:24.120+00:00"}),
        (FINISHED, {"time": "2026-13-28T09:13:24.120Z"}),
        (FINISHED, {"time": "2026-11-28T24:13:24.120Z"}),
        (FINISHED, {"time": "2026-11-28T09:13:24.12\u0663Z"}),
        (FINISHED, {"seconds": -1}),
        (FINISHED, {"seconds": "1"}),
        (FINISHED, {"outputs": 1.5}),
        (FINISHED, {"status": "cancelled"}),
        (FINISHED, {"status": "error"}),  # doesn't fit the outcome
        (FINISHED, {"outcome": "failure"}),  # doesn't fit the status
        (FINISHED, {"key": KEY[:8]}),
        (FINISHED, {"key": KEY.upper()}),
        (FINISHED, {"by": "alice"}),
        (FINISHED, {"user": "../alice"}),
        (FINISHED, {"label": "a" * 257}),
        (FINISHED, {"prompt_id": "1" * 129}),
        (FINISHED, {"traceparent": "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"}),
        (FINISHED, {"client": "10.1.2.3"}),  # lines about a prompt's end have no address
        (REFUSED, {"count": 0}),
        (REFUSED, {"cause": "wrong_keys"}),
        (LOCK, {"cause": "locked"}),
        (LOCK, {"client": "192.0.2.7\n"}),
        (REFUSED, {"method": "GET\n"}),
        (REFUSED, {"route": "/prompt\n"}),
        (LOCK, {"seconds": None}),
        (LOCK, {"label": ["a"]}),
        (REFUSED, {"client": "example.com"}),
        (REFUSED, {"method": "GET /"}),
        (REFUSED, {"route": "/prompt?api_key=canary"}),
        (REFUSED, {"route": "prompt"}),
        (REFUSED, {"source": "cookies"}),
        (REFUSED, {"scope": "everything"}),
        (REFUSED, {"scope": ""}),
        (REFUSED, {"scope": "run, nodes"}),
        (REFUSED, {"user_agent": "a" * 257}),
        (REFUSED, {"path": "/prompt"}),
    ],
)
def test_a_value_of_another_form_is_a_fault(event: dict[str, Any], change: dict[str, Any]) -> None:
    assert faults_of(event) == []
    assert faults_of({**event, **change})


def test_a_route_may_need_several_scopes() -> None:
    assert faults_of({**REFUSED, "scope": "run nodes"}) == []


def test_a_line_that_ends_early_or_holds_a_control_character_is_a_fault() -> None:
    line = json.dumps(REFUSED).encode()
    assert faults(line + b"\n") == []
    for wrong in (
        line,
        line + b"\r\n",
        line.replace(b"locked", b"locked\x1b") + b"\n",
        line.replace(b"locked", b"locked\x7f") + b"\n",
        line.replace(b"locked", "\u0142".encode()) + b"\n",
    ):
        assert faults(wrong) == ["a line is printable ASCII and ends with a line feed"]
    assert faults(line[:-1] + b', "count": 2}\n') == ["count is given twice"]


def test_the_form_and_the_order_of_a_line_are_fixed() -> None:
    """fail2ban's filter matches the beginning of a line."""
    line = line_of(LOCK)
    assert faults(line) == []
    for wrong in (
        line.replace(b": ", b":"),
        line.replace(b", ", b","),
        b" " + line,
        line.replace(b"}", b" }"),
        line.replace(b"60", b'{"a": 60}'),
        json.dumps(dict(reversed(LOCK.items()))).encode() + b"\n",
    ):
        assert len(faults(wrong)) == 1
    for label in ('a "quoted" \\ label', "\x00\x1b[2J\u2028", "\U0001f600", '", "event": "lock'):
        assert faults_of({**REFUSED, "label": label}) == [], label


def test_a_log_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(line_of(LOCK) + line_of(REFUSED))
    assert lines_of(file) == [LOCK, REFUSED]
    file.write_bytes(line_of(LOCK) + b"{}\n" + line_of(REFUSED)[:-1])
    with pytest.raises(AssertionError, match=r"audit\.jsonl:2: .*\n.*\n.*audit\.jsonl:3: a line is printable ASCII"):
        check_audit(file)
