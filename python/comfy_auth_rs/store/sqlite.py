"""An SQLite file, for the ComfyUIs of one machine."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from comfy_auth_rs.store.protocol import LARGEST_BATCH, LONGEST_NAME, LONGEST_VALUE, Read, Record, StoreError

try:
    import sqlite3
except ImportError:  # a Python built without it
    HAS_SQLITE = False
else:
    HAS_SQLITE = True

__all__ = ["Sqlite"]

#: The version of the table below, in the file's header, and the mark that identifies our files.
_VERSION = 1
_APPLICATION = 0x63617273

#: For the threads of this process, one after the other: SQLite doesn't wait for a lock to change the journal's mode.
_preparing = threading.Lock()

_PATIENCE = 1.0  # seconds for another process to finish writing
_INTERVAL = 0.2  # seconds between two checks for writes of others
_TIDIES_AFTER = 600.0  # seconds
_LARGEST_LOG = 1 << 20  # bytes of the write-ahead log that stay

_TABLE = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- a new one for each write, even of the same name
    name BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    until INTEGER NOT NULL
)"""

# Other programs may have written anything there.
_PAGE = f"""
SELECT seq, name, value, until FROM facts
WHERE seq > ? AND typeof(name) = 'blob' AND length(name) <= {LONGEST_NAME}
    AND typeof(value) = 'blob' AND length(value) <= {LONGEST_VALUE} AND typeof(until) = 'integer' AND until > 0
ORDER BY seq LIMIT {LARGEST_BATCH}"""  # noqa: S608

#: Everything defined in the file: no view may replace the table, and no trigger may change what is written.
_SCHEMA = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

_LAST = "SELECT max(seq) FROM (SELECT seq FROM sqlite_sequence WHERE name = 'facts' UNION ALL SELECT 0)"

#: SQLite's messages, and what they mean here.
_MEANINGS = {
    "is full": "the disk is full; make room",
    "disk i/o": "the disk cannot be read or written; check whether it is full or broken",
    "readonly": "no permission to write there; change the owner or mode of the file and its folder",
    "unable to": "it cannot be opened; check that its folder exists and that you may write there",
    "is locked": "another program has locked it",
    "not a database": "it is damaged, or not a state of comfy-auth-rs; move it away to get a new one",
    "malformed": "it is damaged; move it away to get a new one",
}


class Sqlite:
    """The state in the file `path`, which is made if it is missing; its folder is not."""

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
            with self._faults(), _preparing:
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
        """SQLite would go on using a file that was removed or replaced."""
        with self._faults():
            if _identity(self._named, create=False) != self._file:
                raise StoreError(f"{self._named}: the file was replaced")

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
        # The file may have been overwritten with an older copy.
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
                time.sleep(_INTERVAL)
        # Not at each look: this takes several times as long.
        self._require_same_file()

    def _data_version(self) -> int:
        """Changes when another connection has written."""
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
    """Identifies the file, after making it if allowed, and making it private.

    Never opens the file while SQLite has it open: closing it would release SQLite's locks.
    """
    if create:
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            os.close(os.open(path, flags, 0o600))
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path}: not a regular file (a link or a folder, perhaps); name a file")
    for beside in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(Path(f"{path}{beside}").lstat().st_mode):
                raise StoreError(f"{path}{beside}: not a regular file (a link or a folder, perhaps); remove it")
    if sys.platform != "win32":
        if found.st_uid != os.geteuid():
            raise StoreError(f"{path}: it belongs to another user; change its owner, or name another file")
        if found.st_mode & 0o077:
            path.chmod(0o600)
    return found.st_dev, found.st_ino


def _prepare(path: Path, database: sqlite3.Connection) -> None:
    """Makes the table in an empty file; refuses a file that another program or version wrote."""
    database.execute("BEGIN")  # another connection may make it at this moment
    with database:
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
            raise StoreError(f"{path}: it is damaged; move it away to get a new one")
        return True
    if application == _APPLICATION:
        age = "a newer" if version > _VERSION else "an older"
        raise StoreError(f"{path}: {age} comfy-auth-rs made it; move it away to get a new one, or name another file")
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
