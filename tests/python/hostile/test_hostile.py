"""Every request of every table: nothing protected leaks, nothing changes, no 5xx, and the server stays healthy."""

from __future__ import annotations

import pytest

from hostile import bodies, cookies, headers, methods, paths, prefixes, queries, suffixes, url_keys, websockets
from hostile.target import SECRETS, Target, statuses

TABLES = {
    module.__name__.rsplit(".", 1)[-1]: module.ATTACKS
    for module in (paths, suffixes, prefixes, methods, headers, queries, url_keys, cookies, websockets, bodies)
}


#: These requests never reach us. aiohttp looks at `Expect` before any middleware runs, and fails to put bytes that
#: aren't text into its answer. The router of aiohttp 3.9 fails over such a `Host`. ComfyUI compares `Origin` with
#: `Host` before us, and fails if one of them is malformed.
ANSWERED_BY_OTHERS = {
    "miniature": {"Expect: rubbish", "Host not UTF-8"},
    "real": {
        "Expect: rubbish",
        "Host not UTF-8",
        "Host an open bracket",
        "clear the queue from elsewhere, 'Origin: http://@HOST@.evil.example'",
    },
}


def test_there_are_many() -> None:
    sent = [request for table in TABLES.values() for request in table.values()]
    assert len(set(sent)) > 1000


@pytest.mark.parametrize("group", TABLES)
def test_gives_nothing_away(target: Target, group: str) -> None:
    answers = target.answers(group, TABLES[group])
    leaks = {name: answer for name, answer in answers.items() if any(secret in answer for secret in SECRETS)}
    assert leaks == {}
    print(f"\n{group}: {len(answers)} requests, {_summary(answers)}")


@pytest.mark.parametrize("group", TABLES)
def test_breaks_nothing(target: Target, group: str) -> None:
    answers = target.answers(group, TABLES[group])
    errors = {
        name: answer[:300] for name, answer in answers.items() if any(status >= 500 for status in statuses(answer))
    }
    assert not errors.keys() - ANSWERED_BY_OTHERS[target.name], errors
    assert "/comfy_auth_rs/" not in target.server.output, "the log has a traceback of ours"


@pytest.mark.parametrize("group", TABLES)
def test_changes_nothing(target: Target, group: str) -> None:
    target.answers(group, TABLES[group])
    assert target.faults[group] == []


@pytest.mark.parametrize("group", TABLES)
def test_puts_nothing_into_headers(target: Target, group: str) -> None:
    heads = {name: answer.split(b"\r\n\r\n")[0] for name, answer in target.answers(group, TABLES[group]).items()}
    assert [name for name, head in heads.items() if b"\nX-Injected:" in head] == []
    assert [
        name for name, head in heads.items() if b"\nLocation: //" in head or b"evil.example" in head.split(b"?")[0]
    ] == []


def _summary(answers: dict[str, bytes]) -> str:
    first = [next(iter(statuses(answer)), None) for answer in answers.values()]
    counts = {status: first.count(status) for status in dict.fromkeys(first)}
    return ", ".join(
        f"{count} x {status or 'no answer'}" for status, count in sorted(counts.items(), key=lambda item: item[0] or 0)
    )
