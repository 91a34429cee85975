"""Two threads between what a server knows and a store: one carries what is new there, one brings what others wrote.

No request waits for them, but the answer to a log-out waits for `stored`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from comfy_auth_rs.store.link import Link, Status
from comfy_auth_rs.store.memory import Memory
from comfy_auth_rs.store.outbox import Outbox
from comfy_auth_rs.store.protocol import Reader, Record, Store, StoreError, Writer

if TYPE_CHECKING:
    from comfy_auth_rs._core import SharedState

__all__ = ["Exchange", "State"]

_logger = logging.getLogger("comfy_auth_rs")

_HEARTBEAT = 10.0  # seconds
_LONGEST_WAIT = 1.0  # seconds for others' news
#: Seconds after which everything is read again, whatever the store says is new: it may have lost something.
_EVERYTHING_AFTER = 600.0
_FIRST_PAUSE = 0.05  # seconds until a store that failed is tried again; then twice as long, and so on
_LONGEST_PAUSE = 1.0
_LAST_WORDS = 1.0  # seconds at the end
_LOOKS_EACH = 0.02  # seconds, while an answer waits until the store can be read

#: How long the reader rests, by the time that a read took: after one that brought news, and after the second in a row
#: that brought everything.
_REST = 1.0
_REST_AFTER_ALL = 5.0
_LONGEST_REST = 10.0  # seconds

#: The first byte of a record's name is its kind (src/state/fact.rs).
_LOCK = b"l"


class Exchange:
    """Between `shared` and `store`, from `start` to `end`."""

    def __init__(self, shared: SharedState, store: Store) -> None:
        self._shared = shared
        self._store = store
        self._link = Link(store.kind, store.place, shared.away)
        self._news = _Bell()  # something to carry
        self._stops = _Bell(), _Bell()  # of each thread
        self._is_ending = False
        self._tried = threading.Event()  # to read, with success or not
        self._doubts = threading.Event()  # everything must be read again
        self._lacking: deque[list[Record]] = deque(maxlen=1)  # what the store lacked when it was read last
        self._lacks_nothing = False  # since both ways to it were opened
        self._reader: Reader | None = None
        self._waiting = _Waiting()
        self._threads = [threading.Thread(target=run, daemon=True, name="comfy-auth-rs-state")
                         for run in (self._carry, self._bring)]  # fmt: skip

    def start(self, patience: float) -> None:
        """Begins, and waits so many seconds at most until what is in the store is known here, or cannot be read."""
        self._shared.wake(self._news.ring)
        for thread in self._threads:
            thread.start()
        self._tried.wait(patience)

    def let_go(self) -> None:
        """Ends when what is left was carried, if that is possible. Waits for nothing; a finalizer may call it."""
        self._is_ending = True
        for bell in (*self._stops, self._news):
            bell.ring()
        if (reader := self._reader) is not None:
            reader.interrupt()

    def end(self) -> None:
        """The same, and waits for it, a second at most. Safe to call twice."""
        self.let_go()
        until = time.monotonic() + _LAST_WORDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def status(self) -> Status:
        """How the store fares."""
        return self._link.status()._replace(nodes=self._shared.nodes)

    async def stored(self, seconds: float) -> bool:
        """Whether all that is known now is in a store that others can read, after so many seconds at most."""
        version, until = self._shared.version, time.monotonic() + seconds
        if not self._shared.is_stored(version):
            await self._waiting.until(version, self._shared.is_stored, seconds)
        while not self._link.may_read and time.monotonic() < until:
            await asyncio.sleep(_LOOKS_EACH)
        return self._shared.is_stored(version) and self._link.may_read

    # --- carrying -----------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        load = _Load(self._shared)
        pause = _Pause()
        is_again = was_ending = False
        while not was_ending:
            was_ending = self._is_ending
            try:
                writer = self._store.writer()
                with contextlib.closing(writer):
                    self._carry_by(writer, load, pause, is_again)
                    return
            except Exception as fault:
                self._link.fails("write", _told(fault, self._store))
            is_again = True
            self._stops[0].wait(pause.next())

    def _carry_by(self, writer: Writer, load: _Load, pause: _Pause, is_again: bool) -> None:
        next_beat = 0.0
        while True:
            is_last = self._is_ending
            now = time.monotonic()
            if now >= next_beat:
                writer.beat(Record(*self._shared.heartbeat()))
                next_beat = now + _HEARTBEAT
            if is_again:
                self._lacks_nothing = False
                self._doubts.set()
                is_again = False
            lacking = self._take_lacking(is_last)
            load.outbox.add(lacking, are_news=False)
            load.collect()
            while batch := load.outbox.take(time.monotonic(), gathers=not is_last):
                writer.write(batch)
                load.outbox.written(batch)
                self._tell_stored(load)
                load.collect()
            self._tell_stored(load)
            self._lacks_nothing |= bool(lacking)
            self._link.works("write")
            pause.reset()
            if is_last:
                return
            self._news.wait(min(load.outbox.delay() or _HEARTBEAT, next_beat - now))

    def _take_lacking(self, is_last: bool) -> list[Record]:
        with contextlib.suppress(IndexError):
            return self._lacking.pop()
        # A store that was just opened again may be another one.
        return self._known() if is_last and not self._lacks_nothing else []

    def _known(self) -> list[Record]:
        """Everything that this server knows."""
        return [Record(*record) for record in self._shared.all()[1]]

    def _tell_stored(self, load: _Load) -> None:
        if not load.outbox.has_news:
            self._shared.stored(load.version)
            self._waiting.tell(load.version)

    # --- bringing -----------------------------------------------------------------------------------------------

    def _bring(self) -> None:
        pause = _Pause()
        while not self._is_ending:
            try:
                reader = self._reader = self._store.reader()
                with contextlib.closing(reader):
                    self._bring_by(reader, pause)
            except Exception as fault:
                if not self._is_ending:
                    self._link.fails("read", _told(fault, self._store))
            self._tried.set()
            self._stops[1].wait(pause.next())

    def _bring_by(self, reader: Reader, pause: _Pause) -> None:
        version, everything_at, loaded, was_whole = None, 0.0, 0, False
        self._lacks_nothing = False
        while not self._is_ending:
            # What is said of a key counts as soon as the key is known.
            if self._doubts.is_set() or time.monotonic() >= everything_at or loaded != self._shared.keys_loaded:
                self._doubts.clear()
                version, loaded = None, self._shared.keys_loaded
            began = time.monotonic()
            read = reader.read(version)
            version = read.version
            if read.is_whole:
                self._bring_all(read.batches)
                everything_at = time.monotonic() + _EVERYTHING_AFTER * random.uniform(0.5, 1)  # noqa: S311
            else:
                for batch in read.batches:
                    self._shared.merge(list(batch))
            self._link.works("read")
            self._tried.set()
            pause.reset()
            # A store that is written to all the time, or must be read again and again, takes only a part of a core.
            took = time.monotonic() - began
            rest = _REST_AFTER_ALL * took if read.is_whole and was_whole else _REST * took
            was_whole = read.is_whole
            self._stops[1].wait(min(rest, _LONGEST_REST))
            if not self._is_ending:
                reader.wait(_LONGEST_WAIT)

    def _bring_all(self, batches: Iterator[list[Record]]) -> None:
        """Learns all that is there, and notes what isn't, or is there in another form."""
        missing = {record.name: record for record in self._known()}
        for batch in batches:
            self._shared.merge(list(batch))
            for record in batch:
                # Each node may have told another end of a lock.
                if record.name[:1] == _LOCK or missing.get(record.name) == record:
                    missing.pop(record.name, None)
        if missing:
            # Some of it may be covered by what was just learnt.
            still = {record.name for record in self._known()}
            self._lacking.append([record for record in missing.values() if record.name in still])
            self._news.ring()
        else:
            self._lacks_nothing = True


class _Bell:
    """Wakes one thread. An `Event` may not be set by a finalizer: that can run on the thread that waits for it."""

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Until it rings, or has rung since the last wait; at most so many seconds."""
        with contextlib.suppress(queue.Empty):
            self._rings.get(timeout=max(seconds, 0.0))


#: What an application has of its state.
State = Exchange | Memory


class _Load:
    """What is new here, on its way into the outbox."""

    def __init__(self, shared: SharedState) -> None:
        self.outbox = Outbox(lambda record: record.name[:1] == _LOCK)
        #: Up to which all is in the outbox, or was.
        self.version = 0
        self._shared = shared

    def collect(self) -> None:
        """Takes what is new. What cannot leave the outbox stays where it is: that is never more than is known."""
        if self.outbox.has_news:
            return
        self.version, records = self._shared.changes(self.version) or self._shared.all()
        self.outbox.add(Record(*record) for record in records)


class _Pause:
    """How long to wait until the next try: longer each time, and never as long as others do."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._longest = _FIRST_PAUSE

    def next(self) -> float:
        longest, self._longest = self._longest, min(_LONGEST_PAUSE, 2 * self._longest)
        return longest * random.uniform(0.5, 1)  # noqa: S311


class _Waiting:
    """Who waits until a version is stored, each in its event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[asyncio.Future[None], int] = {}

    async def until(self, version: int, is_stored: Callable[[int], bool], seconds: float) -> None:
        mine = asyncio.get_running_loop().create_future()
        with self._lock:
            self._all[mine] = version
        if not is_stored(version):  # it may have been meanwhile
            await asyncio.wait([mine], timeout=seconds)
        with self._lock:
            self._all.pop(mine, None)

    def tell(self, version: int) -> None:
        with self._lock:
            told = [future for future, waits_for in self._all.items() if waits_for <= version]
            for future in told:
                del self._all[future]
        for future in told:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                future.get_loop().call_soon_threadsafe(_end, future)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _told(fault: Exception, store: Store) -> str:
    if isinstance(fault, StoreError):
        return str(fault)
    _logger.debug("comfy-auth-rs: the exchange with %s failed", store.place, exc_info=fault)
    return f"{store.place}: {type(fault).__name__}"
