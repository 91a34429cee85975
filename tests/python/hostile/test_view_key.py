"""The same requests, each with a valid key that may only look.

Nothing changes, and nothing leaks that this key may not read.
"""

from __future__ import annotations

import pytest

from hostile import reading
from hostile.target import OF_THE_OWNER, Target, statuses, with_viewers_key
from hostile.test_hostile import ANSWERED_BY_OTHERS as WITHOUT_KEY_BY_OTHERS
from hostile.test_hostile import TABLES as WITHOUT_KEY

#: aiohttp fails if a name is longer than file systems allow, or if a handshake isn't text.
ANSWERED_BY_OTHERS = {
    *WITHOUT_KEY_BY_OTHERS["miniature"], "upgrade /ws with a key of rubbish", "upgrade /ws with a version of rubbish",
}  # fmt: skip
TOO_LONG = ("GET /aaaa", "GET /a/a/", "refused page '/a/a/")

TABLES = {**WITHOUT_KEY, "reading": reading.ATTACKS}


def test_nearly_all_hold_the_key() -> None:
    requests = [request for table in TABLES.values() for request in table.values()]
    assert len(requests) > 4000
    assert sum(with_viewers_key(request) != request for request in requests) > 0.98 * len(requests)


@pytest.mark.parametrize("group", TABLES)
def test_a_viewer_changes_nothing(target: Target, group: str) -> None:
    answers = target.answers_to_viewer(group, TABLES[group])
    assert target.faults[f"{group} with view"] == []
    first = [next(iter(statuses(answer)), 0) for answer in answers.values()]
    print(f"\n{group}: {len(first)} requests, { ({status: first.count(status) for status in sorted(set(first))}) }")


@pytest.mark.parametrize("group", TABLES)
def test_a_viewer_sees_nothing_of_the_owners(target: Target, group: str) -> None:
    answers = target.answers_to_viewer(group, TABLES[group])
    assert [name for name, answer in answers.items() if any(secret in answer for secret in OF_THE_OWNER)] == []


@pytest.mark.parametrize("group", TABLES)
def test_a_viewer_breaks_nothing(target: Target, group: str) -> None:
    answers = target.answers_to_viewer(group, TABLES[group])
    assert target.server.own_faults == []
    if target.name == "miniature":
        errors = {name for name, answer in answers.items() if any(status >= 500 for status in statuses(answer))}
        assert {name for name in errors if not name.startswith(TOO_LONG)} <= ANSWERED_BY_OTHERS


def test_a_viewer_is_let_in(target: Target) -> None:
    """If it weren't, the tests above would prove nothing."""
    answers = [answer for group in TABLES for answer in target.answers_to_viewer(group, TABLES[group]).values()]
    first = [next(iter(statuses(answer)), 0) for answer in answers]
    assert first.count(200) > 300
    assert sum(b'error="insufficient_scope"' in answer for answer in answers) > 300
    assert sum(b"401 Unauthorized" in answer for answer in answers) < 100
