"""The exchange with a store that answers late, not at all or incompletely, or forgets everything."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from comfy_auth_rs import KeyStore, create_auth_middleware
from comfy_auth_rs._core import SharedState, describe
from comfy_auth_rs.app import remember
from comfy_auth_rs.store import Read, Record, StoreError
from comfy_auth_rs.store.exchange import Exchange
from comfy_auth_rs.store.outbox import Outbox
from hypothesis import given
from hypothesis import strategies as st
from support.client import log_in
from support.keys import KEY
from support.state import admits, lock, log_out, new_session_is_refused_after_log_out, node, seconds_until


class Scripted:
    """A store in this process that fails when a test tells it to."""

    kind = "scripted"
    place = "scripted:"

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self.log: list[Record] = []
        self.epoch = 0
        self.wholes = 0
        #: What was written, and when.
        self.writes: list[tuple[float, list[Record]]] = []
        self.changed = threading.Condition()
        #: What reading and writing raise.
        self.read_fault: Exception | None = None
        self.write_fault: Exception | None = None
        #: Called before each write and before each full read, to delay it.
        self.before_writing: Callable[[], object] = lambda: None
        self.before_reading_all: Callable[[], object] = lambda: None

    def reader(self) -> _Reader:
        return _Reader(self)

    def writer(self) -> _Writer:
        return _Writer(self)

    def flush(self) -> None:
        with self.changed:
            self.records.clear()
            self.log.clear()
            self.epoch += 1
            self.changed.notify_all()

    def kinds(self) -> list[str]:
        return sorted(str(describe(record)["kind"]) for record in [*self.records.values()])


class _Reader:
    def __init__(self, store: Scripted) -> None:
        self._store = store
        self._is_interrupted = False
        self._check()

    def _check(self) -> None:
        if self._store.read_fault is not None:
            raise self._store.read_fault

    def read(self, version: Any) -> Read:
        self._check()
        store = self._store
        with store.changed:
            self._seen = now = (store.epoch, len(store.log))
            if version is None or version[0] != store.epoch:
                store.wholes += 1
                store.before_reading_all()
                return Read(iter([[*store.records.values()]]), now, True)
            return Read(iter([store.log[version[1] :]]), now, False)

    def wait(self, seconds: float) -> None:
        with self._store.changed:
            if not self._is_interrupted and self._seen == (self._store.epoch, len(self._store.log)):
                self._store.changed.wait(seconds)
        self._check()

    def interrupt(self) -> None:
        self._is_interrupted = True
        with self._store.changed:
            self._store.changed.notify_all()

    def close(self) -> None:
        pass


class _Writer:
    def __init__(self, store: Scripted) -> None:
        self._store = store

    def beat(self, record: Record) -> None:
        self.write([record])

    def write(self, records: list[Record]) -> None:
        assert 0 < len(records) <= 1000
        self._store.before_writing()
        if self._store.write_fault is not None:
            raise self._store.write_fault
        with self._store.changed:
            kept = [record for record in records if record.value]
            self._store.records.update((record.name, record) for record in kept)
            for covered in records:
                if not covered.value:
                    self._store.records.pop(covered.name, None)
            self._store.log += kept
            self._store.writes.append((time.monotonic(), records))
            self._store.changed.notify_all()

    def close(self) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    scripted = Scripted()
    monkeypatch.setattr("comfy_auth_rs.app.make_store", lambda state: scripted if state == "scripted" else None)
    return scripted


@pytest.fixture
def serve(aiohttp_server: Any, store: Scripted) -> Callable[[], Any]:
    async def serve(**settings: Any) -> TestServer:
        server: TestServer = await aiohttp_server(node("scripted", **settings))
        return server

    return serve


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "the state is" in record.message]


async def soon(holds: Callable[[], bool], longest: float = 5) -> float:
    async def now() -> bool:
        return holds()

    return await seconds_until(now, longest)


# --- while all is well ------------------------------------------------------------------------------------------


async def test_a_log_out_is_there_when_it_is_answered(serve: Any, store: Scripted) -> None:
    one, two = await serve(), await serve()
    for number in range(1, 21):
        assert await new_session_is_refused_after_log_out(one, two) < 1
        assert store.kinds().count("log_out") == number
    assert store.kinds().count("node") == 2


async def test_nothing_is_written_again_that_the_store_has(serve: Any, store: Scripted) -> None:
    one, two = await serve(), await serve()
    await new_session_is_refused_after_log_out(one, two)
    third = await serve()
    await soon(lambda: store.kinds().count("node") == 3)
    await asyncio.sleep(1.5)
    assert [str(describe(record)["kind"]) for record in store.log].count("log_out") == 1
    assert third is not None


async def test_the_answer_waits_for_a_slow_store_and_delays_nobody(serve: Any, store: Scripted) -> None:
    server = await serve()
    store.before_writing = lambda: time.sleep(0.4)
    cookies = [await log_in(server) for _ in range(5)]
    began = time.monotonic()
    answers = asyncio.gather(*[log_out(server, cookie) for cookie in cookies])
    longest = 0.0
    while not answers.done():
        before = time.monotonic()
        assert await admits(server, "other_1=x") is False
        longest = max(longest, time.monotonic() - before)
    assert [answer.status for answer in await answers] == [204] * 5
    assert time.monotonic() - began >= 0.4
    assert longest < 0.3


async def test_the_answer_waits_a_second_and_no_longer(serve: Any, store: Scripted) -> None:
    server = await serve()
    go_on = threading.Event()
    store.before_writing = lambda: go_on.wait(30)
    cookie = await log_in(server)
    began = time.monotonic()
    assert (await log_out(server, cookie)).status == 503
    assert 0.9 < time.monotonic() - began < 2
    go_on.set()

    async def is_done() -> bool:
        return (await log_out(server, cookie)).status == 204

    await seconds_until(is_done)


async def test_the_last_words_are_carried(serve: Any, store: Scripted) -> None:
    server = await serve()
    await soon(lambda: store.kinds() == ["node"])
    store.before_writing = lambda: time.sleep(0.15)
    await lock(server, "203.0.113.7")
    await soon(lambda: store.kinds() == ["lock", "node"])
    await lock(server, "203.0.113.8")  # the outbox is still collecting
    await server.close()
    assert store.kinds() == ["lock", "lock", "node"]


async def test_locks_are_gathered_and_a_log_out_does_not_wait_for_them(serve: Any, store: Scripted) -> None:
    server = await serve()
    await soon(lambda: store.kinds() == ["node"])
    waits, first = [], time.monotonic()
    for number in range(40):
        await lock(server, f"203.0.113.{number}")
        if number % 4 == 0:
            cookie = await log_in(server)
            began = time.monotonic()
            assert (await log_out(server, cookie)).status == 204
            waits.append(time.monotonic() - began)
    await soon(lambda: store.kinds() == ["lock"] * 40 + ["log_out"] * 10 + ["node"])
    times = [at for at, records in store.writes if any(record.name[:1] == b"l" for record in records)]
    assert len(times) <= (times[-1] - first) / 0.2 + 1
    assert sorted(waits)[5] < 0.1


def test_threads_end_with_their_middleware(store: Scripted) -> None:
    def ours() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "comfy-auth-rs-state"}

    before = ours()
    app = node("scripted")
    started = ours() - before
    assert len(started) == 2
    del app
    import gc

    gc.collect()
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


# --- a store that fails -----------------------------------------------------------------------------------------


async def test_a_start_waits_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch, store: Scripted) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(store, "reader", lambda: go_on.wait(30) and _Reader(store))
    began = time.monotonic()
    middleware = create_auth_middleware(api_key=KEY, state="memory")
    exchange = remember(middleware, store)
    assert 1.5 < time.monotonic() - began < 4
    go_on.set()
    exchange.end()


@pytest.mark.parametrize("fault", [StoreError("scripted: WHY"), ValueError("canary"), OSError("canary"), KeyError()])
@pytest.mark.parametrize("ways", [("read",), ("write",), ("read", "write")])
async def test_what_fails_is_tried_again_and_told_once(
    serve: Any, store: Scripted, caplog: pytest.LogCaptureFixture, fault: Exception, ways: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO)
    one, two = await serve(), await serve()
    await new_session_is_refused_after_log_out(one, two)
    for way in ways:
        setattr(store, f"{way}_fault", fault)
    if "write" in ways:
        for server in (one, two):
            assert (await log_out(server, await log_in(server))).status == 503
    await soon(lambda: len(lines(caplog)) == 2)
    await asyncio.sleep(1.2)
    assert len(lines(caplog)) == 2, "one from each server"
    for line in lines(caplog):
        words = "scripted: WHY" if isinstance(fault, StoreError) else f"scripted:: {type(fault).__name__}"
        assert line.startswith(f"comfy-auth-rs: the state is unavailable: {words}. ")
    cookie = await log_in(one)
    assert (await log_out(one, cookie)).status == 503, "the store doesn't have it, or nobody can read it there"
    assert not await admits(one, cookie)
    assert await admits(two, cookie)
    store.read_fault = store.write_fault = None

    async def is_known() -> bool:
        return not await admits(two, cookie)

    assert await seconds_until(is_known) < 5
    await soon(lambda: len(lines(caplog)) == 4)
    assert lines(caplog)[2:] == ["comfy-auth-rs: the state is available again: scripted:"] * 2
    assert "canary" not in caplog.text
    assert (await log_out(one, cookie)).status == 204


async def test_a_store_that_comes_and_goes_fills_no_log(
    serve: Any, store: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    await serve()
    for _ in range(20):
        store.write_fault = StoreError("scripted: WHY")
        await asyncio.sleep(0.05)
        store.write_fault = None
        await asyncio.sleep(0.05)
    assert len(lines(caplog)) <= 2


async def test_a_flush_forgets_nothing(serve: Any, store: Scripted) -> None:
    one, two = await serve(), await serve()
    cookies = []
    for server in (one, two):
        cookies.append(await log_in(server))
        assert (await log_out(server, cookies[-1])).status == 204
    await lock(one, "203.0.113.7")
    await soon(lambda: store.kinds() == ["lock", "log_out", "log_out", "node", "node"])
    for _ in range(3):
        store.flush()
        await soon(lambda: store.kinds() == ["lock", "log_out", "log_out", "node", "node"])
    assert not any([await admits(one, cookie) or await admits(two, cookie) for cookie in cookies])


async def test_what_was_lost_while_writing_failed_is_written_again(serve: Any, store: Scripted) -> None:
    server = await serve()
    cookie = await log_in(server)
    assert (await log_out(server, cookie)).status == 204
    store.write_fault = StoreError("scripted: its memory is full")
    store.records = {name: record for name, record in store.records.items() if name[:1] != b"s"}  # evicted
    assert (await log_out(server, await log_in(server))).status == 503
    store.write_fault = None
    await soon(lambda: store.kinds().count("log_out") == 2)


async def test_an_outage_is_answered_by_as_many_reads_as_it_needs(serve: Any, store: Scripted) -> None:
    await serve()
    await soon(lambda: store.kinds() == ["node"])
    store.write_fault = StoreError("scripted: its memory is full")
    before = store.wholes
    await asyncio.sleep(3)
    assert store.wholes - before <= 1


async def test_limits_are_divided_while_it_is_away() -> None:
    """The core divides them; the exchange tells it when."""
    told: list[bool] = []

    class Told:
        def __init__(self) -> None:
            self._shared = SharedState(KeyStore([KEY]))

        def __getattr__(self, name: str) -> Any:
            return told.append if name == "away" else getattr(self._shared, name)

    store = Scripted()
    exchange = Exchange(Told(), store)  # type: ignore[arg-type]
    exchange.start(1)
    with suppress(AssertionError):
        await soon(lambda: told == [True, False], 2)
    assert told == [True, False]
    store.read_fault = StoreError("scripted: WHY")
    await soon(lambda: told == [True, False, True])
    assert exchange.status().fault == "scripted: WHY"
    store.read_fault = None
    await soon(lambda: told == [True, False, True, False])
    assert exchange.status().fault is None
    exchange.end()


@pytest.mark.parametrize("spoil", [lambda value: b"\1s" + bytes(8), lambda value: value[:-1] + b"x"])
async def test_what_somebody_wrote_over_an_entry_is_written_again(serve: Any, store: Scripted, spoil: Any) -> None:
    one = await serve()
    cookie = await log_in(one)
    assert (await log_out(one, cookie)).status == 204
    [known] = [record for record in store.records.values() if describe(record)["kind"] == "log_out"]
    with store.changed:
        store.records[known.name] = known._replace(value=spoil(known.value))
        store.log.append(store.records[known.name])
        store.epoch += 1  # everything is read again
        store.changed.notify_all()
    await soon(lambda: store.records[known.name] == known)
    assert not await admits(await serve(), cookie)


async def test_news_that_cannot_be_read_are_not_called_stored(serve: Any, store: Scripted) -> None:
    """Somebody wrote something into the store that no server can read."""
    server = await serve()
    cookie = await log_in(server)
    store.read_fault = StoreError("scripted: a reply is too long to be ours")
    await asyncio.sleep(1.2)
    assert (await log_out(server, cookie)).status == 503
    store.read_fault = None

    async def is_stored() -> bool:
        return (await log_out(server, cookie)).status == 204

    await seconds_until(is_stored)


async def test_a_log_out_without_a_session_waits_for_nothing(serve: Any, store: Scripted) -> None:
    server = await serve()
    store.write_fault = StoreError("scripted: its memory is full")
    assert (await log_out(server, await log_in(server))).status == 503
    began = time.monotonic()
    for _ in range(5):
        assert (await log_out(server, "unrelated=x")).status == 204
    assert time.monotonic() - began < 0.9


async def test_what_the_store_lacks_is_kept_once(store: Scripted) -> None:
    """No matter how often everything is read while nothing can be written."""
    shared = SharedState(KeyStore([KEY]))
    exchange = Exchange(shared, store)
    shared.merge([(record.name, record.value, record.until) for record in map(real_lock, range(500))])
    store.write_fault = StoreError("scripted: its memory is full")
    exchange.start(1)
    for _ in range(5):
        wholes = store.wholes
        store.flush()
        await soon(lambda before=wholes: store.wholes > before, 15)  # type: ignore[misc]
    assert len(exchange._lacking) <= 1
    store.write_fault = None
    await soon(lambda: store.kinds().count("lock") == 500)
    exchange.end()


def real_lock(number: int) -> Record:
    until = int(time.time()) + 600
    place = bytes([*bytes(10), 255, 255, 198, 51, number // 256, number % 256, 0])
    return Record(b"l" + place, b"\1l" + place + until.to_bytes(8, "big"), until + 60)


async def test_everything_is_not_read_all_the_time(serve: Any, store: Scripted) -> None:
    """Not even if somebody keeps starting a new epoch and there is a lot to read."""
    await serve()
    await soon(lambda: store.kinds() == ["node"])
    before, began = store.wholes, time.monotonic()
    store.before_reading_all = lambda: time.sleep(0.1)
    while time.monotonic() - began < 3:
        with store.changed:
            store.epoch += 1
            store.changed.notify_all()
        await asyncio.sleep(0.01)
    assert 2 <= store.wholes - before <= 8


# --- what leaves, and how fast ----------------------------------------------------------------------------------

LATER = int(time.time()) + 600


def outbox() -> Outbox:
    return Outbox(lambda record: record.name[:1] == b"l")


def fact(number: int) -> Record:
    return Record(b"s%016d" % number, bytes(64), LATER)


def a_lock(number: int) -> Record:
    return Record(b"l%024d" % number, bytes(28), LATER)


def bytes_of(batch: list[Record]) -> int:
    """The bytes sent for a batch: each record goes into a hash and a stream, with some overhead."""
    return sum(2 * (len(record.name) + len(record.value) + 8) + 80 for record in batch)


def test_a_flood_of_locks_sends_no_more_than_a_megabyte_a_second() -> None:
    box, sent, now = outbox(), [], 0.0
    for number in range(100_000):
        box.add([a_lock(number)])
        if number % 1000 == 0:
            now += 0.02
            while batch := box.take(now):
                box.written(batch)
                sent.append((now, bytes_of(batch)))
    assert sum(size for _, size in sent) > 300_000
    for begin, _ in sent:
        assert sum(size for at, size in sent if begin <= at < begin + 1) <= 1_000_000


def test_no_flood_of_locks_fills_the_store() -> None:
    box, sent = outbox(), 0
    for number in range(300_000):
        box.add([a_lock(number)])
        if number % 100 == 0:
            sent += len(carry(box, number / 1000))
    sent += len(carry(box, 301.0))
    assert 16_384 < sent <= 16_384 * (1 + 301 / 900)
    box.add([a_lock(-1)])
    assert carry(box, 310.0)[-1] == a_lock(-1), "later locks are sent, too"


def test_the_later_one_of_a_name_leaves() -> None:
    box = outbox()
    first, later = a_lock(1), a_lock(1)._replace(value=b"later")
    box.add([first, fact(1), later])
    box.add([Record(fact(1).name, b"", 0)])
    assert carry(box, 0.0) == [Record(fact(1).name, b"", 0), later]
    box.add([first])
    batch = box.take(1.0)
    box.add([later])  # while the batch is being written
    box.written(batch)
    assert carry(box, 2.0) == [later]


def carry(box: Outbox, now: float) -> list[Record]:
    """Everything that is sent now."""
    left: list[Record] = []
    while batch := box.take(now):
        box.written(batch)
        left += batch
    return left


def test_a_lock_alone_leaves_at_once_and_later_ones_together() -> None:
    box = outbox()
    box.add([a_lock(1)])
    assert carry(box, 100.0) == [a_lock(1)]
    assert box.delay() is None
    box.add([a_lock(2)])
    assert carry(box, 100.05) == []
    assert box.delay() == pytest.approx(0.151)
    box.add([a_lock(3)])
    assert carry(box, 100.15) == []
    assert box.delay() == pytest.approx(0.051)
    assert carry(box, 100.15 + 0.051) == [a_lock(2), a_lock(3)]
    box.add([a_lock(4)])
    assert carry(box, 100.45) == [a_lock(4)]


@pytest.mark.parametrize("each_second", [10, 100, 1000])
def test_locks_leave_at_most_five_times_a_second_and_soon(each_second: int) -> None:
    box, left, made, times, wakes = outbox(), [], {}, [], 0.0
    for number in range(3 * each_second):
        now = number / each_second
        while wakes is not None and wakes < now:  # the writer slept as long as it was told to
            if found := carry(box, wakes):
                times.append(wakes)
                left += [(wakes, record) for record in found]
            delay = box.delay()
            wakes = None if delay is None else wakes + delay
        box.add([a_lock(number)])
        made[a_lock(number)] = now
        wakes = now if wakes is None else min(now, wakes)  # each lock wakes it
    for begin in times:
        assert sum(begin <= at < begin + 0.999 for at in times) <= 5
    assert len(left) > 2 * each_second
    assert max(at - made[record] for at, record in left) < 0.25


def test_news_do_not_wait_for_locks_that_are_gathered_and_do_not_take_them_along() -> None:
    box = outbox()
    box.add([a_lock(0)])
    assert carry(box, 0.0) == [a_lock(0)]
    for number in range(1, 20):
        box.add([a_lock(number), fact(number)])
        assert box.take(number / 100) == [fact(number)]
        assert box.delay() is not None
        assert carry(box, number / 100) == [fact(number)]
        assert box.delay() == pytest.approx(0.201 - number / 100)
    assert carry(box, 0.201) == [a_lock(number) for number in range(1, 20)]


def test_what_the_store_lacks_does_not_wait_for_locks_either() -> None:
    box = outbox()
    box.add([a_lock(0)])
    carry(box, 0.0)
    box.add([fact(1)], are_news=False)
    box.add([a_lock(1)])
    assert carry(box, 0.01) == [fact(1)]


def test_at_the_end_nothing_is_gathered() -> None:
    box = outbox()
    box.add([a_lock(1)])
    carry(box, 0.0)
    box.add([a_lock(2), fact(3)])
    assert box.take(0.01, gathers=False) == [fact(3), a_lock(2)]


def test_a_log_out_overtakes_a_flood_of_locks_and_what_the_store_lacks() -> None:
    box = outbox()
    box.add(map(fact, range(10_000, 40_000)), are_news=False)
    box.add(map(a_lock, range(50_000)))
    now = 0.0
    for number in range(20):
        box.add([fact(number)])
        assert box.has_news
        now += 0.01
        batch = box.take(now)
        assert fact(number) in batch
        box.written(batch)
        assert not box.has_news


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 50)), max_size=60), st.floats(0.01, 1))
def test_everything_but_locks_leaves_in_the_end(added: list[tuple[bool, bool, int]], step: float) -> None:
    box, left, now = outbox(), set(), 0.0
    for is_lock, are_news, number in added:
        box.add([(a_lock if is_lock else fact)(number)], are_news=are_news)
    while (delay := box.delay()) is not None:
        now += max(delay, step)
        batch = box.take(now)
        assert batch, "after the wait it asked for, there is something to send"
        assert len(batch) <= 1000
        box.written(batch)
        left.update(batch)
    assert left >= {fact(number) for is_lock, _, number in added if not is_lock}


def test_what_was_not_written_is_taken_again() -> None:
    box = outbox()
    box.add([fact(1), fact(2)])
    first = box.take(0)
    assert first == [fact(1), fact(2)] == box.take(0)
    box.add([a_lock(3)])
    assert box.take(0.01) == box.take(0.02) == [*first, a_lock(3)], "the wait starts only when something was written"
    box.add([newer := fact(1)._replace(value=b"newer")])
    box.written(first)
    assert box.take(1) == [newer, a_lock(3)]
