"""The interface of a store: a few methods between this package and whatever keeps the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

__all__ = [
    "LARGEST_BATCH",
    "LONGEST_NAME",
    "LONGEST_VALUE",
    "Read",
    "Reader",
    "Record",
    "Store",
    "StoreError",
    "Writer",
]

#: In bytes. Longer ones are not ours, and are not read.
LONGEST_NAME = 64
LONGEST_VALUE = 160

#: How many records are passed on at a time.
LARGEST_BATCH = 1000


class Record(NamedTuple):
    """One fact: its name in the store, its content, and the Unix time in seconds after which anyone may delete it.

    Without a value it tells a writer to delete it, because an earlier record says the same.
    """

    name: bytes
    value: bytes
    until: int


class Read(NamedTuple):
    """The records read, up to which version, and whether that is everything or only what came after another version."""

    batches: Iterator[list[Record]]
    version: Any
    is_whole: bool


class StoreError(Exception):
    """A store cannot be used just now: one line that says where, what and what to do, without a password."""


class Reader(Protocol):
    """One connection, used by one thread. After a `StoreError` it is of no more use."""

    def about(self) -> str:
        """The program that keeps it, and its version."""

    def read(self, version: Any) -> Read:
        """What came after `version`, or everything if it is None or the store no longer knows it.

        Iterating over the batches may raise `StoreError`, too.
        """

    def wait(self, seconds: float) -> None:
        """Returns when something may have been written, at the latest after `seconds`."""

    def interrupt(self) -> None:
        """Ends a `wait`. Another thread may call it."""

    def close(self) -> None:
        """Lets go of it."""


class Writer(Protocol):
    """One connection, used by one thread. After a `StoreError` it is of no more use."""

    def write(self, records: list[Record]) -> None:
        """Returns when they are written, as safely as the store can. Wakes waiting readers."""

    def beat(self, record: Record) -> None:
        """Writes a heartbeat as cheaply as possible: others may read it ten seconds later."""

    def close(self) -> None:
        """Lets go of it."""


class Store(Protocol):
    """Where the state is kept."""

    #: `sqlite` or `valkey`.
    kind: str
    #: The path or the URL, for people: without credentials.
    place: str

    def reader(self) -> Reader:
        """A new connection. Raises `StoreError`."""

    def writer(self) -> Writer:
        """A new connection. Raises `StoreError`."""
