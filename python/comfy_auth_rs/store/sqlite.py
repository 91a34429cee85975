"""A file of SQLite's, for the ComfyUIs of one machine."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from comfy_auth_rs.store.protocol import LARGEST_BATCH, LONGEST_NAME, LONGEST_VALUE, Read, Record, StoreError

try:
    import sqlite3
except ImportError:  # a Python that somebody built without it
    HAS_SQLITE = False
else:
    HAS_SQLITE = True

__all__ = ["Sqlite"]

#: Of the table below, in the file's header; and the mark by which a file of ours is known.
_VERSION = 1
_APPLICATION = 0x63617273

_PATIENCE = 1.0  # seconds for another process to finish writing
_INTERVAL = 0.2  # seconds between two looks whether somebody wrote
_TIDIES_AFTER = 600.0  # seconds
_LARGEST_LOG = 1 << 20  # bytes of the write-ahead log that stay

_TABLE = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- a later one for each writing, even of the same name
    name BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    until INTEGER NOT NULL
)"""

# Somebody else may have written there whatever they like.
_PAGE = f"""
SELECT seq, name, value, until FROM facts
WHERE seq > ? AND typeof(name) = 'blob' AND length(name) <= {LONGEST_NAME}
    AND typeof(value) = 'blob' AND length(value) <= {LONGEST_VALUE} AND typeof(until) = 'integer' AND until > 0
ORDER BY seq LIMIT {LARGEST_BATCH}"""  # noqa: S608

#: All that somebody made there: no view takes the place of the table, and no trigger changes what is written.
_SCHEMA = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

_LAST = "SELECT max(seq) FROM (SELECT seq FROM sqlite_sequence WHERE name = 'facts' UNION ALL SELECT 0)"

#: What SQLite says, and what that means here.
_MEANINGS = {
    "is full": "the disk is full; make room",
    "disk i/o": "the disk cannot be read or written; look whether it is full or broken",
    "readonly": "this user must not write there; change the owner or mode of the file and its folder",
    "unable to": "it cannot be opened; look whether its folder exists, and who may write there",
    "is locked": "another program holds it locked",
    "not a database": "it is damaged, or no state of comfy-auth-rs; move it away, and a new one is made",
    "malformed": "it is damaged; move it away, and a new one is made",
}


class Sqlite:
    """The state in the file `path`, which is made where it is missing; its folder is not."""

    kind = "sqlite"

    place: str

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.place = str(path)
        self._named = path
        self._may_create = create

    def reader(self) -> _Reader:
        return _Reader(self._named, self._may_create)

    def writer(self) -> _Writer:
        return _Writer(self._named, self._may_create)


class _Connection:
    def __init__(self, path: Path, create: bool) -> None:
        self._named = path
        if not HAS_SQLITE:
            raise StoreError(f"{path}: this Python has no sqlite3; use another Python, or another state")
        with self._faults():
            self._file = _identity(path, create)
            uri = f"file:{quote(str(path.absolute()))}?mode=rw"
            self._database = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
        try:
            with self._faults():
                _prepare(path, self._database)
                self._database.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")
            self._require_same_file()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._database.close()

    def _require_same_file(self) -> None:
        """SQLite would go on with a file that nobody else finds any more."""
        with self._faults():
            if _identity(self._named, create=False) != self._file:
                raise StoreError(f"{self._named}: another file is in its place")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _fault(self._named, str(error)) from None
        except OSError as error:
            raise _fault_of_system(self._named, error) from None


class _Reader(_Connection):
    _is_interrupted = False
    _seen = -1

    def about(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def read(self, version: int | None) -> Read:
        self._require_same_file()
        with self._faults():
            self._seen = self._data_version()
            (last,) = self._database.execute(_LAST).fetchone()
        # An older copy of the file may have been written over it.
        is_whole = version is None or last < version
        return Read(self._pages(0 if version is None or is_whole else version), last, is_whole)

    def _pages(self, after: int) -> Iterator[list[Record]]:
        while True:
            with self._faults():
                rows = self._database.execute(_PAGE, (after,)).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield [Record(*row[1:]) for row in rows]

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._faults():
            while not self._is_interrupted and time.monotonic() < until and self._data_version() == self._seen:
                self._require_same_file()
                time.sleep(_INTERVAL)
        self._require_same_file()

    def _data_version(self) -> int:
        """Another number when another connection has written."""
        number: int = self._database.execute("PRAGMA data_version").fetchone()[0]
        return number

    def interrupt(self) -> None:
        self._is_interrupted = True


class _Writer(_Connection):
    _tidied = -_TIDIES_AFTER

    def write(self, records: list[Record]) -> None:
        self._write(records, "FULL")

    def beat(self, record: Record) -> None:
        self._write([record], "NORMAL")

    def _write(self, records: list[Record], synchronous: str) -> None:
        self._require_same_file()
        with self._faults():
            self._database.execute(f"PRAGMA synchronous = {synchronous}")
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                kept = [record for record in records if record.value]
                self._database.executemany("REPLACE INTO facts (name, value, until) VALUES (?, ?, ?)", kept)
                covered = [(record.name,) for record in records if not record.value]
                self._database.executemany("DELETE FROM facts WHERE name = ?", covered)
                if time.monotonic() - self._tidied >= _TIDIES_AFTER:
                    self._tidied = time.monotonic()
                    self._database.execute("DELETE FROM facts WHERE until < ?", (int(time.time()),))


def _identity(path: Path, create: bool) -> tuple[int, int]:
    """Which file it is, once it is there and nobody else may read it.

    The file is never opened here while SQLite has it open: closing it would end the locks that SQLite holds.
    """
    if create:
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            os.close(os.open(path, flags, 0o600))
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path}: it is a link, a folder or another thing that is no file; name a file")
    for beside in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(Path(f"{path}{beside}").lstat().st_mode):
                raise StoreError(f"{path}{beside}: it is a link, a folder or another thing that is no file; remove it")
    if sys.platform != "win32":
        if found.st_uid != os.geteuid():
            raise StoreError(f"{path}: it belongs to another user; change its owner, or name another file")
        if found.st_mode & 0o077:
            path.chmod(0o600)
    return found.st_dev, found.st_ino


def _prepare(path: Path, database: sqlite3.Connection) -> None:
    """Makes the table where there is nothing yet; refuses what another program or version wrote."""
    if _has_our_table(path, database):
        return
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    with database:
        if not _has_our_table(path, database):
            database.execute(_TABLE)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_VERSION}")


def _has_our_table(path: Path, database: sqlite3.Connection) -> bool:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    found = database.execute(_SCHEMA).fetchall()
    if application == _APPLICATION and version == _VERSION:
        if found != [("facts", _TABLE.strip())]:
            raise StoreError(f"{path}: it is damaged; move it away, and a new one is made")
        return True
    if application == _APPLICATION:
        age = "a newer" if version > _VERSION else "an older"
        raise StoreError(
            f"{path}: {age} comfy-auth-rs made it; move it away, and a new one is made, or name another file"
        )
    if application or version or found:
        raise StoreError(f"{path}: another program made it; name another file")
    return False


def _fault(path: Path, said: str) -> StoreError:
    meaning = next((meaning for words, meaning in _MEANINGS.items() if words in said.lower()), said)
    return StoreError(f"{path}: {meaning}")


def _fault_of_system(path: Path, error: OSError) -> StoreError:
    if isinstance(error, FileNotFoundError):
        missing = "it is not there" if path.parent.is_dir() else "its folder does not exist; make it, or name another"
        return StoreError(f"{path}: {missing}")
    return StoreError(f"{path}: it cannot be opened: {error.strerror}")
