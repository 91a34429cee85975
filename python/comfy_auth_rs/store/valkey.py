"""A Valkey or Redis, for the nodes of a fleet: a hash holds all facts, and a stream tells which are new.

Heartbeats have a hash of their own, which wakes nobody. The four keys are in one slot of a cluster, so that one
connection is enough. What is read may have been written by anybody. The hash's epoch is another one after a flush. A
stream that is too short, or has gone back, is no help: then everything is read again.
"""

from __future__ import annotations

import random
import re
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from valkey import exceptions
from valkey.connection import AbstractConnection

from comfy_auth_rs.store.address import Address
from comfy_auth_rs.store.connection import connect
from comfy_auth_rs.store.protocol import LARGEST_BATCH, LONGEST_NAME, LONGEST_VALUE, Read, Record, StoreError

__all__ = ["Valkey"]

_FACTS = b"{comfy-auth-rs}:facts"
_NEWS = b"{comfy-auth-rs}:news"
_NODES = b"{comfy-auth-rs}:nodes"
_EPOCH = b"{comfy-auth-rs}:epoch"

#: What an epoch of this format begins with.
_FORMAT = b"1-"

_READ_TIMEOUT = 1.0  # seconds, beyond those that a blocking read waits
_LONGEST_WAIT = 1.0  # seconds; then one looks whether it was flushed
_LONGEST_NEWS = 2000  # entries of the stream
_IN_ONE_ENTRY = 32  # records
#: Entries that are read at a time. If all are full, and as long as ours may be, that is 2 MB: half of what is read.
_ENTRIES_AT_ONCE = 250
_NODES_AFTER = 10.0  # seconds until the heartbeats are read again
#: However much somebody has put there, one answer is all that is read: a node counts no more.
_ASK_NODES: list[bytes | str | int] = ["HSCAN", _NODES, 0, "COUNT", 4096]
_TIDIES_AFTER = 600.0  # seconds
_TIDIES_FULL_AFTER = 5.0

_UNTIL = struct.Struct(">Q")

#: What is said of the client's errors, the more special ones first. Never what the server said: it repeats what it was
#: sent, and that may be a password.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "it does not take the user or password; look at the URL, and at its own settings"),
    (exceptions.NoPermissionError, "its user may not do this; see which commands docs/state.md names"),
    (exceptions.OutOfMemoryError, "its memory is full; raise its maxmemory"),
    (exceptions.ReadOnlyError, "it is a replica, which takes nothing; name the primary, or the sentinels"),
    (exceptions.BusyLoadingError, "it is reading what it had before it was restarted"),
    (exceptions.ClusterDownError, "its cluster is down"),
    (exceptions.TimeoutError, "it does not answer"),
    (exceptions.InvalidResponse, "what answers there is no Valkey or Redis"),
)


class Valkey:
    """The state in the Valkey or Redis at `address`, which people know as `place`."""

    kind = "valkey"
    place: str

    def __init__(self, address: Address, place: str) -> None:
        self.place = place
        self._address = address
        self._tidying = _Tidying()

    def reader(self) -> _Reader:
        return _Reader(self._connect(_LONGEST_WAIT + _READ_TIMEOUT), self.place)

    def writer(self) -> _Writer:
        return _Writer(self._connect(_READ_TIMEOUT), self.place, self._tidying)

    def _connect(self, timeout: float) -> AbstractConnection:
        with _faults(self.place):
            return connect(self._address, timeout, _EPOCH)


class _Tidying:
    """When it is time to remove what has expired. Nodes that start together don't do it together."""

    def __init__(self) -> None:
        self._at = time.monotonic() - random.uniform(0, _TIDIES_AFTER)  # noqa: S311

    def is_due(self, after: float = _TIDIES_AFTER) -> bool:
        now = time.monotonic()
        if now - self._at < after:
            return False
        self._at = now
        return True


class _FullError(StoreError):
    pass


class _Version(NamedTuple):
    #: None where there was no room for one.
    epoch: bytes | None
    #: The last entry of the stream.
    last: bytes


class _Connection:
    def __init__(self, connection: AbstractConnection, place: str) -> None:
        self._connection = connection
        self._place = place

    def _ask(self, *commands: Sequence[bytes | str | int]) -> list[Any]:
        """What each is answered. They go out together."""
        with _faults(self._place):
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            answers: list[Any] = []
            fault: Exception | None = None
            for _ in commands:
                try:
                    answers.append(self._connection.read_response())
                except exceptions.ResponseError as error:
                    fault = fault or error
            if fault is not None:
                raise fault
            return answers

    def _scan(self, key: bytes) -> Iterator[list[bytes]]:
        """Names and values in turn, some at a time."""
        cursor = b"0"
        while True:
            ((cursor, fields),) = self._ask(["HSCAN", key, cursor, "COUNT", LARGEST_BATCH])
            yield fields
            if cursor == b"0":
                return

    def _require_format(self, epoch: bytes | None) -> None:
        if epoch is not None and not epoch.startswith(_FORMAT):
            raise StoreError(
                f"{self._place}: a newer comfy-auth-rs writes there; update this one, or use another database"
            )

    def close(self) -> None:
        with suppress(Exception):
            self._connection.disconnect()


class _Reader(_Connection):
    _version = _Version(b"", b"0-0")
    _nodes_at = 0.0

    def about(self) -> str:
        with suppress(StoreError):
            match self._ask(["HELLO"])[0]:
                case [_, bytes(name), _, bytes(version), *_] if _is_word(name) and _is_word(version):
                    return f"{name.decode().capitalize()} {version.decode()}"
        return "its version is not known"

    def read(self, version: _Version | None) -> Read:
        records = None if version is None else self._news(version)
        if records is not None:
            return Read(_batches(records), self._version, False)
        self._version = self._begin()
        return Read(self._everything(), self._version, True)

    def _begin(self) -> _Version:
        """The epoch, which somebody has to begin, and how far the stream is."""
        epoch, last = self._ask(["GET", _EPOCH], ["XREVRANGE", _NEWS, "+", "-", "COUNT", 1])
        if epoch is None:
            began = _FORMAT + secrets.token_hex(8).encode()
            with suppress(StoreError):  # its memory is full; if it is something else, the next question hears it, too
                self._ask(["SET", _EPOCH, began, "NX"])
            (epoch,) = self._ask(["GET", _EPOCH])
        self._require_format(epoch)
        return _Version(epoch, last[0][0] if last else b"0-0")

    def _news(self, version: _Version) -> list[Record] | None:
        """What the stream has after this version; None where it doesn't tell everything."""
        epoch, first, last, found, *nodes = self._ask(
            ["GET", _EPOCH],
            ["XRANGE", _NEWS, "-", "+", "COUNT", 1],
            ["XREVRANGE", _NEWS, "+", "-", "COUNT", 1],
            ["XREAD", "COUNT", _ENTRIES_AT_ONCE, "STREAMS", _NEWS, version.last],
            *([_ASK_NODES] if time.monotonic() >= self._nodes_at else []),
        )
        self._require_format(epoch)
        is_trimmed = bool(first) and _place_of(first[0][0]) > _place_of(version.last)
        has_gone_back = _place_of(last[0][0] if last else b"0-0") < _place_of(version.last)
        if epoch != version.epoch or is_trimmed or has_gone_back:
            return None
        entries = found[0][1] if found else []
        self._version = _Version(epoch, entries[-1][0]) if entries else version
        if nodes:
            self._nodes_at = time.monotonic() + _NODES_AFTER
        return [record for _, fields in [*entries, *nodes] for record in _records(fields)]

    def _everything(self) -> Iterator[list[Record]]:
        for fields in self._scan(_FACTS):
            yield from _batches(_records(fields))
        self._nodes_at = time.monotonic() + _NODES_AFTER
        ((_, fields),) = self._ask(_ASK_NODES)
        yield from _batches(_records(fields))

    def wait(self, seconds: float) -> None:
        block = max(1, int(min(seconds, _LONGEST_WAIT) * 1000))
        self._ask(["XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", _NEWS, self._version.last])

    def interrupt(self) -> None:
        self.close()


class _Writer(_Connection):
    def __init__(self, connection: AbstractConnection, place: str, tidying: _Tidying) -> None:
        super().__init__(connection, place)
        self._tidying = tidying
        self._require_format(self._ask(["GET", _EPOCH])[0])

    def write(self, records: list[Record]) -> None:
        for batch in _batches(records):
            self._write(batch)

    def beat(self, record: Record) -> None:
        if self._tidying.is_due():
            self._tidy(int(time.time()))
        self._put(["HSET", _NODES, *_packed(record)])

    def _write(self, records: list[Record]) -> None:
        commands: list[list[bytes | str | int]] = []
        for entry in _batches([record for record in records if record.value], _IN_ONE_ENTRY):
            fields = [part for record in entry for part in _packed(record)]
            # In this order: who hears of it finds it.
            commands.append(["HSET", _FACTS, *fields])
            commands.append(["XADD", _NEWS, "MAXLEN", "~", _LONGEST_NEWS, "*", *fields])
        self._put(*commands)
        if covered := [record.name for record in records if not record.value]:
            self._ask(["HDEL", _FACTS, *covered])

    def _put(self, *commands: Sequence[bytes | str | int]) -> None:
        """Makes room first where there is none, if anything has expired: deleting needs no memory."""
        try:
            self._ask(*commands)
        except _FullError:
            if not self._tidying.is_due(_TIDIES_FULL_AFTER):
                raise
            self._tidy(int(time.time()))
            self._ask(*commands)

    def _tidy(self, now: int) -> None:
        """Removes what has expired. Nodes that do it at the same time don't disturb each other."""
        for key in (_FACTS, _NODES):
            for fields in self._scan(key):
                if expired := _expired(fields, now):
                    self._ask(["HDEL", key, *expired])


def _is_word(text: bytes) -> bool:
    """Whether it can be shown in a terminal, whoever wrote it."""
    return re.fullmatch(rb"[\w.-]{1,32}", text) is not None


def _batches(records: list[Record], size: int = LARGEST_BATCH) -> Iterator[list[Record]]:
    return (records[first : first + size] for first in range(0, len(records), size))


def _expired(fields: list[bytes], now: int) -> list[bytes]:
    """Names of what has expired, or is none of ours."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [name for name, value in pairs if len(value) < _UNTIL.size or _UNTIL.unpack_from(value)[0] < now]


def _packed(record: Record) -> tuple[bytes, bytes]:
    """A field of a hash or a stream: name and value."""
    return record.name, _UNTIL.pack(record.until) + record.value


def _records(fields: list[bytes]) -> list[Record]:
    """Of names and values in turn, those that may be ours."""
    found = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if len(name) <= LONGEST_NAME and _UNTIL.size <= len(value) <= _UNTIL.size + LONGEST_VALUE:
            found.append(Record(name, value[_UNTIL.size :], _UNTIL.unpack_from(value)[0]))
    return found


def _place_of(entry: bytes) -> tuple[int, int]:
    """The id of an entry of a stream, as something to compare."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


@contextmanager
def _faults(place: str) -> Iterator[None]:
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise _FullError(f"{place}: {_meaning(error)}") from None
    except (exceptions.ValkeyError, exceptions.ValkeyClusterException, OSError, ValueError) as error:
        raise StoreError(f"{place}: {_meaning(error)}") from None


def _meaning(error: Exception) -> str:
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return meaning
    if isinstance(error, exceptions.ResponseError):
        code = str(error).partition(" ")[0]
        return f"it answers with an error ({code if code.isupper() and code.isalpha() else 'of another kind'})"
    reason = error.__context__ if isinstance(error.__context__, OSError) else error
    said = getattr(reason, "strerror", None) or str(reason)
    return f"it cannot be reached ({said.rstrip('.')})"
