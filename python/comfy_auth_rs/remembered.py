"""Reads and writes a state from outside the server, for the commands `state`, `keys revoke` and `doctor`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from comfy_auth_rs._core import KeyStore, SharedState, describe
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.ownership import as_owner, foreign_part
from comfy_auth_rs.store import Record, Store, StoreError, make_store
from comfy_auth_rs.store.address import is_url

__all__ = ["Entry", "Remembered", "look", "tell"]

#: A record as `describe` returns it.
Entry = dict[str, str | int | bool]

#: A server counts as running if its last heartbeat is no older than this, in seconds.
_RECENT = 30


@dataclass
class Remembered:
    """What a store held when it was read, without secrets."""

    kind: str
    place: str
    #: The program that keeps it, and its version.
    about: str
    entries: list[Entry] = field(default_factory=list)
    #: How many entries are not ours.
    unknown: int = 0
    #: Revoked keys that are still in a key file: place, label and id.
    unheeded: Sequence[tuple[str, str | None, str]] = ()

    def entries_of(self, kind: str) -> list[Entry]:
        """The entries of one kind."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def entries_but(self, kind: str) -> list[Entry]:
        """The entries of all other kinds."""
        return [entry for entry in self.entries if entry["kind"] != kind]

    @property
    def servers(self) -> int:
        """How many servers share it now."""
        since = time.time() - _RECENT
        return sum(int(entry["at"]) >= since for entry in self.entries_of("node"))


def look(state: str, key_files: Sequence[Path] = ()) -> Remembered:
    """Reads everything; changes nothing. Raises `StoreError`, `SettingError`, and `KeyFileError` for bad key files."""
    store = _store(state)
    keys = [KeyStore(api_key_file=[file]) for file in key_files]  # separately: they may disagree about a key
    shared = [*map(SharedState, keys)]
    with _as_owner_of(state), closing(store.reader()) as reader:
        found = Remembered(store.kind, store.place, reader.about())
        for batch in reader.read(None).batches:
            for record in batch:
                _note(found, record)
            for one in shared:
                one.merge(list(batch))
    found.unheeded = [key for one in keys for key in one.unheeded_revocations()]
    return found


def tell(state: str, record: Record) -> None:
    """Writes one record. Raises `StoreError` and `SettingError`."""
    store = _store(state)
    with _as_owner_of(state), closing(store.writer()) as writer:
        writer.write([record])


def _note(found: Remembered, record: Record) -> None:
    entry = describe(record)
    if entry["kind"] == "unknown":
        found.unknown += 1
    elif record.until >= time.time():
        found.entries.append(entry)


def _store(state: str) -> Store:
    if (store := make_store(state, create=False)) is None:
        raise SettingError("a state in memory can only be seen by its own process; name a file or a URL", "state")
    return store


@contextmanager
def _as_owner_of(state: str) -> Iterator[None]:
    """For root, in another user's folder: use only that user's rights, so that their links lead no further."""
    path = None if is_url(state) or sys.platform == "win32" or os.geteuid() != 0 else Path(state)
    foreign = None if path is None else foreign_part(path)
    if foreign is None:
        yield
    elif foreign.owner is None:
        raise StoreError(f"{path}: other users can change {foreign.path}; run `chmod go-w {foreign.path}` first")
    else:
        with as_owner(foreign.path):
            yield
