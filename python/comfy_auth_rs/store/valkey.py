"""A Valkey or Redis, for the nodes of a fleet: a hash holds all facts, and a stream says which are new.

The three keys are in one slot of a cluster, so one connection is enough. Anyone may have written what we read. After a
flush, the hash has a new epoch. If the stream is too short or has gone back, everything is read again.
"""

from __future__ import annotations

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
_EPOCH = b"{comfy-auth-rs}:epoch"

#: What an epoch of this format begins with.
_FORMAT = b"1-"

_READ_TIMEOUT = 1.0  # seconds, beyond those that a blocking read waits
_LONGEST_WAIT = 1.0  # seconds; then check for a flush
_LONGEST_NEWS = 2000  # entries of the stream
_IN_ONE_ENTRY = 32  # records
_TIDIES_AFTER = 600.0  # seconds

_UNTIL = struct.Struct(">Q")

#: Our messages for the client's errors, more specific ones first. Never the server's own message: it repeats what it
#: was sent, which may be a password.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "it rejects the user name or password; check the URL and its own settings"),
    (exceptions.NoPermissionError, "its user lacks a permission; docs/state.md lists the commands it needs"),
    (exceptions.OutOfMemoryError, "its memory is full; raise its maxmemory"),
    (exceptions.ReadOnlyError, "it is a read-only replica; name the primary or the Sentinels"),
    (exceptions.BusyLoadingError, "it is loading its data after a restart"),
    (exceptions.ClusterDownError, "its cluster is down"),
    (exceptions.TimeoutError, "it does not answer"),
    (exceptions.InvalidResponse, "the server there is not Valkey or Redis"),
)


class Valkey:
    """The state in the Valkey or Redis at `address`, which messages call `place`."""

    kind = "valkey"
    place: str

    def __init__(self, address: Address, place: str) -> None:
        self.place = place
        self._address = address

    def reader(self) -> _Reader:
        return _Reader(self._connect(_LONGEST_WAIT + _READ_TIMEOUT), self.place)

    def writer(self) -> _Writer:
        return _Writer(self._connect(_READ_TIMEOUT), self.place)

    def _connect(self, timeout: float) -> AbstractConnection:
        with _faults(self.place):
            return connect(self._address, timeout, _EPOCH)


class _Version(NamedTuple):
    #: None if there was no room for one.
    epoch: bytes | None
    #: The last entry of the stream.
    last: bytes


class _Connection:
    def __init__(self, connection: AbstractConnection, place: str) -> None:
        self._connection = connection
        self._place = place

    def _ask(self, *commands: Sequence[bytes | str | int]) -> list[Any]:
        """The reply to each command. All are sent together."""
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

    def close(self) -> None:
        with suppress(Exception):
            self._connection.disconnect()


class _Reader(_Connection):
    _version = _Version(b"", b"0-0")

    def about(self) -> str:
        try:
            (told,) = self._ask(["HELLO"])  # server, NAME, version, NUMBER, …
        except StoreError:
            return "its version is not known"
        return f"{told[1].decode().capitalize()} {told[3].decode()}"

    def read(self, version: _Version | None) -> Read:
        batches = None if version is None else self._news(version)
        if batches is not None:
            return Read(iter(batches), self._version, False)
        self._version = self._begin()
        return Read(self._everything(), self._version, True)

    def _begin(self) -> _Version:
        """The epoch, made if there is none, and the end of the stream."""
        epoch, last = self._ask(["GET", _EPOCH], ["XREVRANGE", _NEWS, "+", "-", "COUNT", 1])
        if epoch is None:
            began = _FORMAT + secrets.token_hex(8).encode()
            with suppress(StoreError):  # its memory is full; the next command fails with any other error
                self._ask(["SET", _EPOCH, began, "NX"])
            (epoch,) = self._ask(["GET", _EPOCH])
        self._require_format(epoch)
        return _Version(epoch, last[0][0] if last else b"0-0")

    def _news(self, version: _Version) -> list[list[Record]] | None:
        """What the stream has after this version; None if it doesn't have everything."""
        epoch, first, last, found = self._ask(
            ["GET", _EPOCH],
            ["XRANGE", _NEWS, "-", "+", "COUNT", 1],
            ["XREVRANGE", _NEWS, "+", "-", "COUNT", 1],
            ["XREAD", "COUNT", LARGEST_BATCH // _IN_ONE_ENTRY, "STREAMS", _NEWS, version.last],
        )
        self._require_format(epoch)
        is_trimmed = bool(first) and _place_of(first[0][0]) > _place_of(version.last)
        has_gone_back = _place_of(last[0][0] if last else b"0-0") < _place_of(version.last)
        if epoch != version.epoch or is_trimmed or has_gone_back:
            return None
        entries = found[0][1] if found else []
        self._version = _Version(epoch, entries[-1][0]) if entries else version
        return [_records(fields) for _, fields in entries]

    def _everything(self) -> Iterator[list[Record]]:
        cursor = b"0"
        while True:
            ((cursor, fields),) = self._ask(["HSCAN", _FACTS, cursor, "COUNT", LARGEST_BATCH])
            records = _records(fields)
            for first in range(0, len(records), LARGEST_BATCH):
                yield records[first : first + LARGEST_BATCH]
            if cursor == b"0":
                return

    def wait(self, seconds: float) -> None:
        block = max(1, int(min(seconds, _LONGEST_WAIT) * 1000))
        self._ask(["XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", _NEWS, self._version.last])

    def interrupt(self) -> None:
        self.close()

    def _require_format(self, epoch: bytes | None) -> None:
        if epoch is not None and not epoch.startswith(_FORMAT):
            raise StoreError(
                f"{self._place}: a newer comfy-auth-rs writes there; update this one, or use another database"
            )


class _Writer(_Connection):
    _tidied = time.monotonic()

    def write(self, records: list[Record], *, durable: bool = True) -> None:
        for first in range(0, len(records), LARGEST_BATCH):
            self._write(records[first : first + LARGEST_BATCH])
        if time.monotonic() - self._tidied >= _TIDIES_AFTER:
            self._tidied = time.monotonic()
            self._tidy(int(time.time()))

    def _write(self, records: list[Record]) -> None:
        pairs = [(name, _UNTIL.pack(until) + value) for name, value, until in records]
        commands: list[list[bytes | str | int]] = []
        for first in range(0, len(pairs), _IN_ONE_ENTRY):
            fields = [part for pair in pairs[first : first + _IN_ONE_ENTRY] for part in pair]
            # In this order, so that readers of the stream find the facts.
            commands.append(["HSET", _FACTS, *fields])
            commands.append(["XADD", _NEWS, "MAXLEN", "~", _LONGEST_NEWS, "*", *fields])
        self._ask(*commands)

    def _tidy(self, now: int) -> None:
        """Removes what has expired. Nodes that do it at the same time don't disturb each other."""
        cursor = b"0"
        while True:
            ((cursor, fields),) = self._ask(["HSCAN", _FACTS, cursor, "COUNT", LARGEST_BATCH])
            pairs = zip(fields[::2], fields[1::2], strict=True)
            expired = [name for name, value in pairs if len(value) < _UNTIL.size or _UNTIL.unpack_from(value)[0] < now]
            if expired:
                self._ask(["HDEL", _FACTS, *expired])
            if cursor == b"0":
                return


def _records(fields: list[bytes]) -> list[Record]:
    """The records that may be ours, from alternating names and values."""
    found = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if len(name) <= LONGEST_NAME and _UNTIL.size <= len(value) <= _UNTIL.size + LONGEST_VALUE:
            found.append(Record(name, value[_UNTIL.size :], _UNTIL.unpack_from(value)[0]))
    return found


def _place_of(entry: bytes) -> tuple[int, int]:
    """The id of a stream's entry, for comparing."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


@contextmanager
def _faults(place: str) -> Iterator[None]:
    try:
        yield
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
