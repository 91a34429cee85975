"""What a store is: a few methods between this package and whatever keeps the state."""

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

#: Bytes. What is longer is none of ours, and is not read.
LONGEST_NAME = 64
LONGEST_VALUE = 160

#: How many records are handed on at a time.
LARGEST_BATCH = 1000


class Record(NamedTuple):
    """One fact: its name in the store, what it says, and the second (Unix) from which on anyone may delete it.

    Without a value it says to a writer: something that was written before says the same, so delete it.
    """

    name: bytes
    value: bytes
    until: int


class Read(NamedTuple):
    """What was read, up to which version, and whether it is all that there is or what came after another version."""

    batches: Iterator[list[Record]]
    version: Any
    is_whole: bool


class StoreError(Exception):
    """Why a store cannot be used just now: one line that says where, what and what to do, without a password."""


class Reader(Protocol):
    """One connection, used by one thread. After a `StoreError` it is of no more use."""

    def about(self) -> str:
        """Which program keeps it, and its version."""

    def read(self, version: Any) -> Read:
        """What came after `version`; everything where it is None, or where the store doesn't know it any more.

        The batches, too, raise `StoreError`.
        """

    def wait(self, seconds: float) -> None:
        """Returns when somebody may have written something, at the latest after `seconds`."""

    def interrupt(self) -> None:
        """Ends a `wait`. Another thread may call it."""

    def close(self) -> None:
        """Lets go of it."""


class Writer(Protocol):
    """One connection, used by one thread. After a `StoreError` it is of no more use."""

    def write(self, records: list[Record]) -> None:
        """Returns when they are there, as safe as the store makes anything. Who waits is woken."""

    def beat(self, record: Record) -> None:
        """Writes a heartbeat, as is cheapest: others may read it ten seconds later."""

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
