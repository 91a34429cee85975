"""`comfy-auth-rs usage`: what audit logs add up to, whatever they contain."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs import usage, usage_page
from comfy_auth_rs.cli.usage import _table
from comfy_auth_rs.usage import DamagedError, Row, Sums, Tally, Window
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audit import EVENTS, ORDER, faults
from support.command import run

ALICE, BOB = "a" * 32, "b" * 32
KEYS = {
    ALICE: {"key": ALICE, "label": "Alice's laptop", "user": "alice"},
    BOB: {"key": BOB, "label": "Bob"},
}


def moment(day: int, time: str = "12:00:00.000") -> str:
    return f"2026-11-{day:02}T{time}Z"


def line(event: str, time: str = moment(2), key: str | None = ALICE, **more: Any) -> bytes:
    fields = {"time": time, "event": event, **(KEYS[key] if key else {}), **more}
    return json.dumps({name: fields[name] for name in ORDER if name in fields} | fields).encode() + b"\n"


def finished(time: str = moment(2), key: str = ALICE, **more: Any) -> bytes:
    values = {"outcome": "success", "prompt_id": "1", "seconds": 1.5, "status": "success", "outputs": 2}
    return line("prompt_finished", time, key, **{**values, **more})


def refused(time: str = moment(2), key: str | None = None, count: int = 1) -> bytes:
    return line("refused", time, key, outcome="failure", cause="invalid_credential", count=count)


def changed(data: bytes, **change: Any) -> bytes:
    return json.dumps({**json.loads(data), **change}).encode() + b"\n"


def read(data: bytes | Iterable[bytes], window: Window = Window()) -> Tally:  # noqa: B008
    text = data if isinstance(data, bytes) else b"".join(data)
    return usage.read(io.BufferedReader(io.BytesIO(text)), window)


def prompts(data: bytes | Iterable[bytes], window: Window = Window()) -> int:  # noqa: B008
    return usage.total(read(data, window)).prompts


def in_json(*arguments: object) -> dict[str, Any]:
    result = run("usage", *arguments, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


# --- what counts ------------------------------------------------------------------------------------------------


def test_the_lines_of_these_tests_are_lines_of_an_audit_log() -> None:
    for one in (finished(), refused(), refused(key=BOB)):
        assert faults(one) == []


@pytest.mark.parametrize(
    ("lines", "sums"),
    [
        ([finished()], {"prompts": 1, "seconds": 1.5, "outputs": 2}),
        ([finished(seconds=0.1)] * 10, {"prompts": 10, "seconds": 1.0, "outputs": 20}),
        ([finished(status="error", outputs=0)], {"prompts": 1, "failed": 1, "seconds": 1.5}),
        ([finished(status="interrupted", outputs=0)], {"prompts": 1, "interrupted": 1, "seconds": 1.5}),
        ([line("prompt_queued"), line("prompt_started")], {"queued": 1}),
        ([line("prompt_queued"), line("prompt_cancelled")], {"queued": 1, "cancelled": 1}),
        ([line("prompt_unfinished", seconds=4)], {"unfinished": 1, "seconds": 4.0}),
        ([line("prompt_unfinished")], {"unfinished": 1}),
        ([refused(key=ALICE, count=7), refused(key=ALICE)], {"refusals": 8}),
        ([line("refused_foreign", count=2)], {"refusals": 2}),
        ([line("log_in"), line("log_out"), line("admitted")], {}),
    ],
)
def test_what_counts(lines: list[bytes], sums: dict[str, float]) -> None:
    [row] = usage.rows(read(lines), "key")
    assert (row.key, row.label, row.user) == (ALICE, "Alice's laptop", "alice")
    for name in (
        "prompts",
        "failed",
        "interrupted",
        "queued",
        "cancelled",
        "unfinished",
        "seconds",
        "outputs",
        "refusals",
    ):
        assert getattr(row.sums, name) == sums.get(name, 0), name


@pytest.mark.parametrize("event", ["started", "lock", "keys_read", "key_gone", "dropped", "a_later_event"])
def test_what_is_nobodys_use(event: str) -> None:
    tally = read(line(event))
    assert usage.rows(tally, "key") == []
    assert (tally.lines, tally.no_json, tally.no_event) == (1, 0, 0)


def test_each_event_is_known() -> None:
    assert usage._COUNTED.keys() | {"started", "lock", "keys_read", "key_gone", "dropped"} == set(EVENTS)


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert prompts(finished(color="red", more={"a": [1]})) == 1


@pytest.mark.parametrize("value", [True, -1, "1.5", None, [], "NaN", float("nan"), float("inf"), 10**12, 10**400])
@pytest.mark.parametrize("field", ["seconds", "outputs"])
def test_a_figure_that_is_none_counts_as_nothing(field: str, value: Any) -> None:
    [row] = usage.rows(read(finished(**{field: value})), "key")
    assert row.sums.prompts == 1
    assert (row.sums.seconds, row.sums.outputs) == ((0, 2) if field == "seconds" else (1.5, 0))


@pytest.mark.parametrize("field", ["key", "label", "user"])
@pytest.mark.parametrize("value", [None, 1, [], {}, ""])
def test_a_name_that_is_none_is_nobodys(field: str, value: Any) -> None:
    [row] = usage.rows(read(changed(finished(), **{field: value})), "key")
    assert getattr(row, field) is None
    assert row.sums.prompts == 1


def test_first_and_last_seen() -> None:
    gone = line("key_gone", moment(30)), line("prompt_unfinished", moment(29))
    tally = read([finished(moment(5)), line("log_in", moment(3)), line("admitted", moment(9)), *gone])
    [row] = usage.rows(tally, "key")
    assert (row.sums.first, row.sums.last) == (moment(3), moment(9))


def test_a_prompt_that_only_a_restart_tells_of_has_its_name() -> None:
    [row] = usage.rows(read(line("prompt_unfinished")), "key")
    assert (row.label, row.user, row.sums.first, row.sums.last) == ("Alice's laptop", "alice", "", "")


# --- rows -------------------------------------------------------------------------------------------------------


def test_a_key_is_called_what_it_was_called_last() -> None:
    lines = [finished(moment(3), label="new"), finished(moment(4), label="newest"), finished(moment(2), label="old")]
    for order in (lines, lines[::-1]):
        [row] = usage.rows(read(order), "key")
        assert row.label == "newest"


def test_rows_by_key_are_those_that_used_most_first() -> None:
    lines = [refused(count=100), finished(seconds=1), finished(key=BOB, seconds=9)]
    assert [row.key for row in usage.rows(read(lines), "key")] == [BOB, ALICE, None]


def test_rows_by_user_join_keys_whatever_the_case_and_a_key_without_one_is_its_own() -> None:
    lines = [finished(), finished(key=BOB), changed(finished(moment(3)), key="c" * 32, user="ALICE"), refused()]
    found = [(row.user, row.key, row.label, row.sums.prompts) for row in usage.rows(read(lines), "user")]
    assert found == [("ALICE", None, None, 2), (None, BOB, "Bob", 1), (None, None, None, 0)]


def test_rows_by_day_are_in_order_and_of_utc() -> None:
    lines = [
        finished(moment(3, "00:00:00.000")),
        finished(moment(2, "23:59:59.999")),
        finished("2026-11-03T01:00:00+02:00"),
    ]
    assert [(row.day, row.sums.prompts) for row in usage.rows(read(lines), "day")] == [
        ("2026-11-02", 2),
        ("2026-11-03", 1),
    ]


EVENT = st.builds(
    lambda make, day, key: make(moment(day), key),
    st.sampled_from([finished, refused, lambda time, key: line("admitted", time, key)]),
    st.integers(1, 30),
    st.sampled_from([ALICE, BOB]),
)


@given(
    st.lists(st.lists(EVENT, max_size=8), max_size=4).flatmap(
        lambda files: st.tuples(st.just(files), st.permutations(files))
    )
)
def test_the_order_of_files_is_all_the_same_and_rows_are_the_whole(
    files: tuple[list[list[bytes]], list[list[bytes]]],
) -> None:
    sums = []
    for order in files:
        everything = Tally()
        for file in order:
            everything.add(read(file))
        sums.append(everything)
    together = read(part for file in files[0] for part in file)
    for by in ("key", "user", "day"):
        found = [usage.rows(one, by) for one in (*sums, together)]
        assert found[0] == found[1] == found[2]
        again = Sums()
        for row in found[0]:
            again.add(row.sums)
        assert again == usage.total(together)


# --- times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "counted"),
    [
        (None, None, [1, 2, 3, 4]),
        ("2026-11-02", None, [2, 3, 4]),
        (None, "2026-11-02", [1, 2, 3]),
        ("2026-11-02", "2026-11-02", [2, 3]),
        ("2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z", [2, 3]),
        ("2026-11-02T00:00:00.001Z", None, [3, 4]),
        ("2026-11-02T00:00:00.0001Z", None, [3, 4]),
        ("2026-11-02T23:59:59.999Z", "2026-11-03T00:00:00.001Z", [3, 4]),
        ("2026-11-02T23:59:59.9991Z", None, [4]),
        (None, "2026-11-02T23:59:59.999Z", [1, 2]),
        ("2026-11-02T02:00:00+02:00", "2026-11-02t19:00:00-05:00", [2, 3]),
        ("0001-01-01", "9999-12-30", [1, 2, 3, 4]),
    ],
)
def test_since_is_included_and_so_is_the_day_of_until(
    tmp_path: Path, since: str | None, until: str | None, counted: list[int]
) -> None:
    times = [moment(1, "23:59:59.999"), moment(2, "00:00:00.000"), moment(2, "23:59:59.999"), moment(3, "00:00:00.000")]
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(finished(time, outputs=10**number) for number, time in enumerate(times)))
    arguments = [f"--since={since}"] * bool(since) + [f"--until={until}"] * bool(until)
    found = in_json(file, *arguments)
    assert found["total"]["outputs"] == sum(10 ** (number - 1) for number in counted)
    assert found["lines"] == {
        "read": 4, "outside": 4 - len(counted), "not_json": 0, "no_event": 0, "broken_off": 0
    }  # fmt: skip


def test_a_prompt_counts_when_it_ends() -> None:
    lines = [line("prompt_queued", moment(1)), line("prompt_started", moment(2)), finished(moment(3), seconds=90_000)]
    before, after = Window(until=moment(3)), Window(since=moment(3))
    assert [usage.total(read(lines, window)).prompts for window in (before, after)] == [0, 1]
    assert [usage.total(read(lines, window)).queued for window in (before, after)] == [1, 0]
    assert [usage.total(read(lines, window)).seconds for window in (before, after)] == [0, 90_000]


@pytest.mark.parametrize(
    "when",
    ["yesterday", "2026-11-31", "2026-1-1", "2026-11-01T08:00", "2026-11-01T08:00:00", "2026-11-01T24:00:00Z",
     "٢٠٢٦-11-01", "", "9999-12-31T23:59:59.9999Z", "0001-01-01T00:00:00+01:00"],
)  # fmt: skip
def test_what_is_no_time(when: str) -> None:
    result = run("usage", "audit.jsonl", f"--since={when}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "is not a time; write a day, 2026-11-01, or a moment with its zone" in result.stderr


@pytest.mark.parametrize("until", ["2026-11-01", "2026-11-02T00:00:00Z"])
def test_since_must_be_before_until(until: str) -> None:
    result = run("usage", "audit.jsonl", "--since", "2026-11-02", "--until", until)
    assert (result.returncode, result.stderr) == (
        2, "comfy-auth-rs: error: --since is not before --until; give an earlier --since\n"
    )  # fmt: skip


# --- lines that are not events ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        b"comfy-auth-rs: refused 10.0.0.1: GET /: locked",
        b'{"time": "2026-11-02T12:00:00.000Z", "event": "prompt_fin',
        finished()[:-1] + finished()[:-1],
        b"[]",
        b'"prompt_finished"',
        b"1",
        b"null",
        b"\x00" * 400,
        b"\xff\xfe",
        b'{"event": "\xff"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        finished(more="a" * (1 << 16))[:-1],
        b"a" * (3 << 20),
    ],
    ids=range(15),
)
def test_a_line_that_is_no_json_is_skipped_and_counted(broken: bytes) -> None:
    tally = read([finished(), broken + b"\n", finished()])
    assert (tally.lines, tally.no_json, tally.halves, usage.total(tally).prompts) == (3, 1, 0, 2)
    tally = read([finished(), broken])
    # A line that is too long is known to be bad before it ends.
    assert (tally.lines, tally.no_json + tally.halves, usage.total(tally).prompts) == (2, 1, 1)


@pytest.mark.parametrize(
    "change",
    [{"event": None}, {"event": 1}, {"time": None}, {"time": 1}, {"time": "now"}, {"time": "2026-11-31T00:00:00.000Z"},
     {"time": "0000-11-01T00:00:00.000Z"}, {"time": "2026-11-02"}],
)  # fmt: skip
def test_json_that_is_no_event_is_skipped_and_counted(change: dict[str, Any]) -> None:
    tally = read([line(**{"event": "log_in", **change}), finished()])
    assert (tally.lines, tally.no_json, tally.no_event, usage.total(tally).prompts) == (2, 0, 1, 1)


def test_half_a_line_at_the_end_is_one_that_is_being_written() -> None:
    whole = finished()
    for length in range(1, len(whole) - 1):
        tally = read(whole + whole[:length])
        assert (tally.lines, tally.no_json, tally.halves, usage.total(tally).prompts) == (2, 0, 1, 1)
    for end in (b"", b"\n", b"\r\n", b"\n\n  \n"):
        tally = read(whole + whole[:-1] + end)
        assert (tally.lines, tally.no_json, tally.halves, usage.total(tally).prompts) == (2, 0, 0, 2)


def test_lines_may_lie_across_blocks_of_any_size() -> None:
    class Slow(io.RawIOBase):
        """Returns a few bytes at a time."""

        def __init__(self, data: bytes) -> None:
            self.rest = data

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self.rest = self.rest[:7], self.rest[7:]
            buffer[: len(part)] = part
            return len(part)

    lines = [finished(), b"broken\n", refused(), b"a" * 70_000 + b"\n", finished()]
    tally = usage.read(io.BufferedReader(Slow(b"".join(lines)), 16), Window())
    assert (tally.lines, tally.no_json, usage.total(tally).prompts) == (5, 2, 2)


@given(st.binary(max_size=200))
def test_whatever_is_in_a_file_it_is_read(data: bytes) -> None:
    try:
        tally = read(data)
    except DamagedError:
        assert data[:2] == b"\x1f\x8b"
    else:
        assert tally.no_json + tally.halves + tally.no_event <= tally.lines
    assert prompts(finished() + data.replace(b"\n", b" ") + b"\n" + finished()) == 2


# --- files ------------------------------------------------------------------------------------------------------


def test_rotated_and_gzipped_files_in_any_order(tmp_path: Path) -> None:
    contents = {
        "audit.jsonl": finished(moment(4)),
        "audit.jsonl.1": finished(moment(3)),
        "audit.jsonl.2.gz": gzip.compress(finished(moment(2))),
        "audit-20261101": gzip.compress(finished(moment(1))) + gzip.compress(finished(moment(1), key=BOB)),
    }
    files = [tmp_path / name for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        file.write_bytes(content)
    found = in_json(*files)
    assert found == in_json(*files[::-1])
    assert [(row["label"], row["prompts"], row["first_seen"], row["last_seen"]) for row in found["rows"]] == [
        ("Alice's laptop", 4, moment(1), moment(4)), ("Bob", 1, moment(1), moment(1)),
    ]  # fmt: skip


def test_a_file_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(finished())
    (tmp_path / "hard").hardlink_to(file)
    names = [file, file, tmp_path / "hard"]
    if os.name == "posix":
        (tmp_path / "soft").symlink_to(file)
        names.append(tmp_path / "soft")
    assert in_json(*names)["total"]["prompts"] == 1


def test_a_copy_counts_once_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl.1").write_bytes(finished())
    (tmp_path / "audit.jsonl.1.gz").write_bytes(gzip.compress(finished()))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "empty.1").write_bytes(b"")
    names = sorted(tmp_path.iterdir())
    result = run("usage", *names, "--json")
    assert json.loads(result.stdout)["total"]["prompts"] == 1
    assert result.stderr == f"comfy-auth-rs: {names[1]}: counted once (it has the same content as {names[0]})\n"


def test_what_was_skipped_is_said(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    dropped = line("dropped", key=None, kind="refused", count=1200), line("dropped", key=None, kind="\x1b[2J", count=3)
    file.write_bytes(b"".join([b"broken\n" * 1000, b"{}\n", *dropped, finished(), b'{"time"']))
    result = run("usage", file)
    assert result.stderr.splitlines() == [
        f"comfy-auth-rs: {file}: skipped 1,000 of 1,005 lines (not JSON)",
        f"comfy-auth-rs: {file}: skipped 1 of 1,005 lines (no event with a time)",
        f"comfy-auth-rs: {file}: skipped its last line (it is incomplete)",
        "comfy-auth-rs: the server could not write 1,203 lines (\\x1b[2J: 3, refused: 1,200); "
        "their figures are missing",
    ]
    assert result.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="it is read through a pipe")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "audit.gz").write_bytes(gzip.compress(finished()))
    for command in ("cat", "zcat"):
        shell = f"{sys.executable} -m comfy_auth_rs usage <({command} audit.gz) --by day"
        result = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[1].split()[:2] == ["2026-11-02", "1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "missing: cannot be read (No such file or directory); name a file"),
        (".", ": cannot be read ("),
        ("cut.gz", "cut.gz: cannot be unpacked (it ends early); nothing was counted"),
        ("damaged.gz", "damaged.gz: cannot be unpacked ("),
        ("no.gz", "no.gz: cannot be unpacked ("),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str, words: str) -> None:
    packed = gzip.compress(b"".join(finished(outputs=number) for number in range(100)))
    (tmp_path / "good").write_bytes(finished())
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    (tmp_path / "damaged.gz").write_bytes(packed[:30] + b"\x00" * 30 + packed[60:])
    (tmp_path / "no.gz").write_bytes(b"\x1f\x8bno")
    result = run("usage", tmp_path / "good", tmp_path / name, "--html", tmp_path / "page.html")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("comfy-auth-rs: error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not (tmp_path / "page.html").exists()


# --- what is shown ----------------------------------------------------------------------------------------------


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    file = tmp_path / "audit.jsonl"
    lines = [finished(moment(2), seconds=3661.5), finished(moment(3), BOB, seconds=0.4), refused(moment(4), count=1200)]
    file.write_bytes(b"".join(lines))
    return file


def test_tables(audit: Path) -> None:
    assert run("usage", audit).stdout == (
        "KEY             ID        USER   PROMPTS  GPU TIME  OUTPUTS  REFUSED  FIRST SEEN        LAST SEEN\n"
        "Alice's laptop  aaaaaaaa  alice        1   1:01:02        2        0  2026-11-02 12:00  2026-11-02 12:00\n"
        "Bob             bbbbbbbb               1   0:00:00        2        0  2026-11-03 12:00  2026-11-03 12:00\n"
        "(no valid key)                         0   0:00:00        0    1,200  2026-11-04 12:00  2026-11-04 12:00\n"
        "total                                  2   1:01:02        4    1,200  2026-11-02 12:00  2026-11-04 12:00\n"
    )
    assert [row.split("  ")[0] for row in run("usage", audit, "--by", "user").stdout.splitlines()] == [
        "USER", "alice", "Bob (bbbbbbbb)", "(no valid key)", "total",
    ]  # fmt: skip
    assert [row.split("  ")[0] for row in run("usage", audit, "--by=day").stdout.splitlines()] == [
        "DAY", "2026-11-02", "2026-11-03", "2026-11-04", "total",
    ]  # fmt: skip
    assert run("usage", audit, "--since", "2026-11-05").stdout == "Nothing was used.\n"


def test_json(audit: Path) -> None:
    found = in_json(audit, "--by", "user", "--since", "2026-11-03")
    zero = dict.fromkeys(("failed", "interrupted", "queued", "cancelled", "unfinished"), 0)
    bob = {"prompts": 1, **zero, "seconds": 0.4, "outputs": 2, "refusals": 0}
    nobody = {"prompts": 0, **zero, "seconds": 0.0, "outputs": 0, "refusals": 1200}
    assert found == {
        "since": moment(3, "00:00:00.000"),
        "until": None,
        "by": "user",
        "rows": [
            {"key": BOB, "label": "Bob", "user": None, **bob, "first_seen": moment(3), "last_seen": moment(3)},
            {"key": None, "label": None, "user": None, **nobody, "first_seen": moment(4), "last_seen": moment(4)},
        ],
        "total": {**bob, "refusals": 1200, "first_seen": moment(3), "last_seen": moment(4)},
        "lines": {"read": 3, "outside": 1, "not_json": 0, "no_event": 0, "broken_off": 0},
        "dropped": {},
    }
    assert [row["day"] for row in in_json(audit, "--by", "day")["rows"]] == ["2026-11-02", "2026-11-03", "2026-11-04"]
    empty = in_json(audit, "--since", "2027-01-01")
    assert (empty["rows"], empty["total"]["first_seen"]) == ([], None)


HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("<>&\"'`$${}\x1b\x07\x7f\x9b\r\n\t\u2028\u202e\u200b\ud800\x00"),
    ),
    max_size=40,
)


@given(label=HOSTILE, user=HOSTILE, key=HOSTILE)
def test_no_name_controls_a_terminal(label: str, user: str, key: str) -> None:
    event = {"time": moment(2), "event": "prompt_finished", "seconds": 1, "label": label, "user": user, "key": key}
    tally = read(json.dumps(event).encode())
    assert tally.lines == 1
    for by in ("key", "user", "day"):
        table = _table(tally, by)
        assert len(table) == 3
        assert all(text.isprintable() for text in table)


def test_json_and_notes_hold_no_control_character(tmp_path: Path) -> None:
    file = tmp_path / ("audit\x1b[2J\x7f\n" if os.name == "posix" else "audit")
    file.write_bytes(finished(label="\x1b[2J\x7f\x9b\u202e<b>", user="\x1b]0;x\x07") + b"broken")
    for arguments in ((), ("--json",), ("--by", "user")):
        result = run("usage", file, *arguments, "--until", "2026-11-30")
        assert result.returncode == 0
        assert all(letter.isprintable() or letter == "\n" for letter in result.stdout + result.stderr)
        assert result.stderr.count("\n") == 1
    assert json.loads(run("usage", file, "--json").stdout)["rows"][0]["label"] == "\x1b[2J\x7f\x9b\u202e<b>"
    result = run("usage", tmp_path / "no\x1b[2J\n")
    assert all(letter.isprintable() for letter in result.stderr.removesuffix("\n"))


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(finished(label="Zoë 東京"))
    result = run("usage", file, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert r"Zo\xeb \u6771\u4eac" in result.stdout


def test_columns_are_aligned_whatever_the_script(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(finished(label="東京の工房", seconds=9) + finished(key=BOB, label="e\u0301" * 50))
    wide, long = run("usage", file, PYTHONIOENCODING="utf-8").stdout.splitlines()[1:3]
    assert wide.index(ALICE[:8]) + len("東京の工房") == 32 + 2
    assert long.startswith("e\u0301" * 31 + "… ")


def test_a_long_label_takes_no_time() -> None:
    tally = read(finished(label="a\u0301" * 30_000) + finished(key=BOB, label="\u6771" * 30_000))
    assert max(map(len, _table(tally, "key"))) < 250


def test_prompts_that_a_restart_lost_are_told(tmp_path: Path) -> None:
    file, page = tmp_path / "audit.jsonl", tmp_path / "usage.html"
    file.write_bytes(finished() + line("prompt_unfinished") * 3)
    assert run("usage", file).stdout.splitlines()[-1] == "prompts that were lost when the server stopped: 3"
    assert in_json(file)["total"]["unfinished"] == 3
    run("usage", file, "--html", page)
    assert "Not counted as prompts: 3 that were lost when the server stopped." in page.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="terminals are POSIX")
def test_a_bar_is_drawn_on_a_terminal_and_cleared(tmp_path: Path) -> None:
    import pty

    file = tmp_path / "audit.jsonl"
    file.write_bytes(finished() * 40_000)  # several blocks
    file.with_suffix(".gz").write_bytes(gzip.compress(finished(outputs=7) * 40_000))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "comfy_auth_rs", "usage", str(file), str(file.with_suffix(".gz")), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdout
        shown = process.stdout.read()
        assert process.wait(60) == 0
    drawn = b"".join(blocks(ours)).decode()
    os.close(ours)
    assert json.loads(shown)["total"]["prompts"] == 80_000
    percents = [int(text) for text in re.findall(r"(\d+) %", drawn)]
    assert len(percents) > 5
    assert percents == sorted(percents)
    assert max(percents) == 100
    assert drawn.endswith(f"\r{' ' * 38}\r")
    assert "\x1b" not in drawn


def blocks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            return


# --- the page ---------------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """A page's elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(lines: Iterable[bytes], window: Window = Window()) -> str:  # noqa: B008
    return usage_page.render(read(lines), window)


PLAIN = Parsed(page_of([finished(), finished(status="error"), finished(key=BOB), refused()]))


@settings(max_examples=60)
@given(label=HOSTILE, user=HOSTILE, key=HOSTILE)
def test_no_name_becomes_an_element_of_the_page(label: str, user: str, key: str) -> None:
    event = {"time": moment(2), "event": "prompt_finished", "seconds": 1, "label": label, "user": user, "key": key}
    page = page_of(
        [json.dumps(event).encode() + b"\n", finished(), finished(status="error"), finished(key=BOB), refused()]
    )
    page.encode()
    assert all(letter.isprintable() or letter == "\n" for letter in page)
    parsed = Parsed(page)
    assert parsed.elements == PLAIN.elements
    assert parsed.attributes == PLAIN.attributes
    if key and label:
        assert usage.legible(label) in parsed.texts


def test_the_page_loads_nothing_and_has_no_script() -> None:
    page = page_of([finished(), refused()])
    assert "script" not in PLAIN.elements
    assert {name for _, name in PLAIN.attributes} & {"src", "srcset", "onload", "onerror", "action"} == set()
    assert re.findall(r"(?:href|url|xlink:href)[=(]\S*", page) == ['href="data:,">']
    assert "Content-Security-Policy" in page
    assert "default-src 'none'" in page
    assert "$" not in page


def test_the_page_tells_the_figures(audit: Path, tmp_path: Path) -> None:
    page = tmp_path / "usage.html"
    result = run("usage", audit, "--html", page)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"The page is in {page}.\n", "")
    text = " ".join(Parsed(page.read_text(encoding="utf-8")).texts)
    for words in (
        "2 Nov 2026 to 4 Nov 2026", "1.0 h", "1 h 1 min", "1:01:02", "1,200", "Alice's laptop",
        "GPU time per day, by key", "Prompts per day", "Refused requests per day", "By user", "from 3 lines",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    ("first", "last", "unit", "bars"),
    [
        ("2026-11-01", "2026-11-01", "day", 1),
        ("2026-11-01", "2027-01-01", "day", 62),
        ("2026-11-01", "2027-01-02", "week", 10),
        ("2026-01-01", "2026-12-31", "week", 53),
        ("2026-01-01", "2028-01-01", "month", 25),
        ("2020-01-01", "2029-12-31", "year", 10),
        ("0001-01-01", "0001-01-02", "day", 2),
        ("9999-12-30", "9999-12-31", "day", 2),
        ("9999-09-01", "9999-12-31", "week", 18),
        ("0001-01-01", "9999-12-31", "year", 9999),
    ],
)
def test_bars_are_of_days_weeks_months_or_years(first: str, last: str, unit: str, bars: int) -> None:
    page = page_of([finished(f"{day}T00:00:00.000Z") for day in (first, last)])
    assert f"<h2>Prompts per {unit}</h2>" in page
    assert f'viewBox="0 0 {bars} 100"' in page


def test_the_page_shows_the_whole_time_that_was_asked_for() -> None:
    window = Window(since=usage.as_day("2026-11-01"), until=usage.as_day("2026-11-30", days_later=1))
    page = page_of([finished(moment(5))], window)
    assert 'viewBox="0 0 30 100"' in page
    assert "1 Nov 2026 to 30 Nov 2026" in page


def test_the_page_of_nothing() -> None:
    page = page_of([], Window(since=moment(1)))
    assert f"since {moment(1)}" in page
    assert "<svg" not in page
    assert "all times" in page_of([])


def test_many_keys_share_a_colour() -> None:
    keys = [f"{number:032x}" for number in range(40)]
    lines = [changed(finished(), key=key, label=f"key {key[-2:]}", user=None) for key in keys]
    page = page_of(lines)
    assert "34 others" in page  # six have a colour of their own
    assert "25 others" in page  # fifteen have a bar
    assert len(re.findall(r'<th scope="row"><bdi>key ..</bdi>', page)) == 40


@pytest.mark.parametrize(
    ("milliseconds", "said", "shown"),
    [
        (0, "0 s", "0:00:00"),
        (400, "0.4 s", "0:00:00"),
        (59_949, "59.9 s", "0:01:00"),
        (59_951, "1 min 0 s", "0:01:00"),
        (535_400, "8 min 55 s", "0:08:55"),
        (599_499, "9 min 59 s", "0:09:59"),
        (599_500, "10 min", "0:10:00"),
        (3_569_999, "59 min", "0:59:30"),
        (3_570_000, "1 h 0 min", "0:59:30"),
        (3_600_000, "1 h 0 min", "1:00:00"),
        (10**10, "2,777 h 47 min", "2,777:46:40"),
    ],
)
def test_how_time_is_said(milliseconds: int, said: str, shown: str) -> None:
    assert usage_page._Time().say(milliseconds) == said
    assert usage_page.clock(milliseconds) == shown


@given(st.integers(1, 10**13))
def test_scales_reach_the_most_in_a_few_round_steps(most: int) -> None:
    for scale in (usage_page._Scale(), usage_page._Time()):
        ticks, marks = zip(*scale.axis(most), strict=True)
        assert ticks[0] == 0
        assert most <= ticks[-1]
        assert ticks[-2] < most
        assert 2 <= len(ticks) <= 8
        assert len(set(marks)) == len(ticks)
        assert len({mark.partition(" ")[2] for mark in marks[1:]}) == 1


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (1, "0|0.1 s"),
        (900, "0|0.2 s|0.4 s|0.6 s|0.8 s|1 s"),
        (59_999, "0|10 s|20 s|30 s|40 s|50 s|60 s"),
        (60_000, "0|0.2 min|0.4 min|0.6 min|0.8 min|1 min"),
        (6_900_000, "0|0.5 h|1 h|1.5 h|2 h"),
        (3_600_000 * 11_500, "0|2,000 h|4,000 h|6,000 h|8,000 h|10,000 h|12,000 h"),
    ],
)
def test_what_is_beside_an_axis(most: int, marks: str) -> None:
    assert [mark for _, mark in usage_page._Time().axis(most)] == marks.split("|")


def test_a_page_is_written_over_a_page_and_nothing_else(audit: Path, tmp_path: Path) -> None:
    page, log = tmp_path / "usage.html", tmp_path / "audit.jsonl.1"
    page.write_bytes(b"")
    assert run("usage", audit, "--html", page).returncode == 0
    first = page.read_bytes()
    assert run("usage", audit, "--html", page, "--since", "2026-11-03").returncode == 0
    assert page.read_bytes() not in (first, b"")
    log.write_bytes(refused())
    for target in (log, audit):
        before = target.read_bytes()
        result = run("usage", audit, "--html", target)
        assert result.returncode == 2
        assert "exists and is not a usage page; choose another name for the page" in result.stderr
        assert target.read_bytes() == before
    for target in (tmp_path, tmp_path / "missing" / "usage.html"):
        result = run("usage", audit, "--html", target)
        assert (result.returncode, result.stdout) == (2, "")
        assert "cannot be written" in result.stderr


def test_a_row_without_a_key_has_no_label() -> None:
    assert (Row(Sums(label="Bob", user="bob")).label, Row(Sums(user="bob"), day="2026-11-02").user) == (None, None)
