"""What servers with the same keys tell each other."""

from __future__ import annotations

import threading
import time

import pytest
from comfy_auth_rs import KeyFileError, KeyStore
from comfy_auth_rs._core import SharedState, describe, key_file_entries, revocation_record
from support.keys import KEY, OTHER_KEY


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(f"{KEY} alice\n{OTHER_KEY} bob prompts=60/h\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def keys(key_file):
    return KeyStore(api_key_file=[key_file])


@pytest.fixture
def state(keys):
    return SharedState(keys)


def ids(key_file):
    return [entry.id for entry in key_file_entries("keys", key_file.read_bytes())[0]]


def lock(address=(192, 0, 2, 1), seconds=600):
    """The record of a lock. Anybody can write one: it isn't signed."""
    until = int(time.time()) + seconds
    value = bytes([1, ord("l"), *bytes(10), 255, 255, *address, 0]) + until.to_bytes(8, "big")
    return b"l" + value[2:-8], value, until + 60


def test_a_server_that_has_nothing_to_tell_says_that_it_is_there(state):
    version, records = state.all()
    assert (version, state.version, state.nodes) == (0, 0, 1)
    assert [describe(record)["kind"] for record in records] == ["node"]
    assert state.changes(0) == (0, [])
    name, _, until = state.heartbeat()
    assert name == records[0][0]
    assert 60 < until - time.time() < 120


def test_servers_count_each_other(state, keys):
    others = [SharedState(keys), SharedState(keys)]
    for other in others:
        assert state.merge([other.heartbeat()]) == 1
    assert (state.nodes, others[0].nodes) == (3, 1)
    assert state.merge([others[0].heartbeat()]) == 0  # already known
    assert state.merge([state.heartbeat()]) == 0  # its own heartbeat


def test_a_key_is_revoked_by_its_id(state, keys, key_file):
    alice, bob = ids(key_file)
    record = revocation_record(key_file, alice)
    told = describe(record)
    assert (told["kind"], told["key"]) == ("revocation", alice)
    assert abs(told["at"] - time.time()) < 60
    assert 365 < (told["until"] - time.time()) / 86400 < 373
    assert (state.merge([record]), state.merge([record, record])) == (1, 0)
    assert record in state.all()[1]
    assert keys.unheeded_revocations() == [(f"{key_file}:1", "alice", alice)]
    stranger = SharedState(KeyStore(api_key=[OTHER_KEY]))
    assert stranger.merge([record]) == 0  # it has no key to verify the record with
    assert revocation_record(key_file, bob) != record


def test_what_is_not_in_the_file_is_not_revoked(key_file, tmp_path):
    for key_id in ("0" * 32, ids(key_file)[0][:8], ""):
        with pytest.raises(KeyError):
            revocation_record(key_file, key_id)
    with pytest.raises(KeyFileError, match="does not exist"):
        revocation_record(tmp_path / "none", "0" * 32)


def test_what_others_tell_is_not_told_on_but_known(state):
    assert state.merge([lock(), lock((192, 0, 2, 2))]) == 2
    assert (state.version, state.changes(0)) == (0, (0, []))
    assert lock() in state.all()[1] or len(state.all()[1]) == 3


NONSENSE = [
    (b"", b"", 0),
    (b"l", b"\x01l", 2**63),
    (b"l" * 100_000, b"l" * 100_000, 2**64 - 1),
    (b"l", b"l", -1),
    (b"l", b"l", 10**40),
    (b"l", b"l", "soon"),
    (b"l", b"l", None),
]


@pytest.mark.parametrize("record", NONSENSE, ids=range(len(NONSENSE)))
def test_whatever_a_store_holds_is_taken_for_nothing(state, record):
    name, value, until = lock()
    assert state.merge([record, (name, value, record[2]), (record[0], value, until)]) == 0
    assert describe(record)["kind"] == "unknown"


def test_as_many_as_one_likes_at_a_time(state):
    records = [lock((10, 0, number // 256, number % 256)) for number in range(2500)]
    assert (state.merge(records), state.merge(records), state.merge([])) == (2500, 0, 0)
    _, told = state.all()
    assert set(records) < set(told)


def test_somebody_is_called_back_when_there_is_something_to_tell(state, key_file):
    called = threading.Event()
    state.wake(called.set)
    assert called.is_set()  # there may be older news
    called.clear()
    state.merge([revocation_record(key_file, ids(key_file)[0])])
    state.heartbeat()
    state.all()
    assert not called.is_set()


def test_what_fails_when_it_is_called_back_is_reported_and_harms_nobody(state, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    state.wake(lambda: 1 / 0)
    assert [type(error) for error in told] == [ZeroDivisionError]
    state.wake(lambda: None)


def test_what_is_stored_is_remembered(state):
    assert state.is_stored(0)
    assert not state.is_stored(1)
    state.stored(5)
    state.stored(3)
    assert state.is_stored(5)
    assert not state.is_stored(6)


def test_a_record_is_described(state):
    name, value, until = lock((192, 0, 2, 9))
    expected = {"kind": "lock", "until": until, "address": "192.0.2.9", "any_page": False}
    assert describe((name, value, until)) == expected
    told = describe(state.heartbeat())
    assert told.keys() == {"kind", "until", "node", "at"}
    key_id, moment = "01" * 16, int(time.time())
    of_a_key = bytes.fromhex(key_id) + moment.to_bytes(8, "big")
    day = (moment + 86400).to_bytes(8, "big")
    for kind, rest, until, expected in [
        (b"s", of_a_key[:16] + bytes(16) + of_a_key[16:] + day, moment + 86400 + 60, ("log_out", "issued", "expires")),
        (b"e", of_a_key, moment + 30 * 86400 + 60, ("earlier_sessions", "issued")),
        (b"p", of_a_key[:16] + (1000 * moment).to_bytes(8, "big") + bytes(8), moment + 86400 + 60, ("prompt", "at")),
    ]:
        told = describe((kind + bytes(16), b"\x01" + kind + rest + bytes(16), until))
        assert (told["kind"], told["key"], told.keys() - {"kind", "key", "until"}) == (
            expected[0],
            key_id,
            set(expected[1:]),
        )


def test_any_thread_may_use_it(state, key_file):
    record = revocation_record(key_file, ids(key_file)[0])
    news: list[int] = []

    def work(number):
        for turn in range(200):
            state.heartbeat()
            state.all()
            news.append(state.merge([record, lock((10, number, 0, turn % 250))]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.all()[1]) == 4 * 200 + 2
    assert sum(news) >= 4 * 200 + 1  # more, since a lock told a second later ends a second later
