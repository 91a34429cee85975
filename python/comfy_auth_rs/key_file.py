"""Reads key files for commands, and changes them: atomically, under a lock, and only the lines in question."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from comfy_auth_rs._core import KeyEntry, key_file_entries
from comfy_auth_rs.folders import sync_folder
from comfy_auth_rs.ownership import as_owner, foreign_part

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["KeyFile", "KeyFileFault", "change", "read"]

_PATIENCE = 10.0  # seconds for another process to finish
_MOST = 16 * 1024 * 1024  # bytes that a server reads
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
#: Don't follow a link that someone put there, and don't wait for the writer of a named pipe.
_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class KeyFileFault(Exception):
    """A key file cannot be read or changed; nothing was written. Each line says where, what, and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines: Sequence[str] = lines


@dataclass(frozen=True)
class KeyFile:
    """One version of a key file. Don't print it: it may hold keys."""

    path: Path
    text: bytes
    entries: Sequence[KeyEntry]

    def __repr__(self) -> str:
        return f"KeyFile({str(self.path)!r}, {len(self.entries)} entries)"

    def key_of(self, entry: KeyEntry) -> str:
        """The first word of the entry's line: a key, or `sha256:` and a digest."""
        return _core(self.text.split(b"\n")[entry.line - 1])[1].split()[0].decode("ascii")

    def with_line(self, entry: KeyEntry, line: str) -> bytes:
        """The text with an entry's line replaced; everything around it stays the same."""
        lines = self.text.split(b"\n")
        before, _, after = _core(lines[entry.line - 1])
        lines[entry.line - 1] = before + line.encode() + after
        return b"\n".join(lines)

    def with_added(self, line: str) -> bytes:
        """The text with one more line at its end."""
        end = b"\r\n" if self.text.partition(b"\n")[0].endswith(b"\r") else b"\n"
        gap = b"" if self.text in (b"", _BOM) or self.text.endswith(b"\n") else end
        return self.text + gap + line.encode() + end


def _core(line: bytes) -> tuple[bytes, bytes, bytes]:
    """What comes before the part of a line that the parser reads, that part, and what comes after it."""
    rest = line.removeprefix(_BOM).lstrip(_BLANKS)
    core = rest.rstrip(_BLANKS)
    return line[: len(line) - len(rest)], core, rest[len(core) :]


def read(path: Path) -> KeyFile:
    """The file as it is now. Raises KeyFileFault, with every fault of a bad one."""
    return _parsed(path, _contents(path, _target(path), may_be_missing=False)[0])


def change(path: Path, edit: Callable[[KeyFile], bytes], *, create: bool = False) -> KeyFile:
    """Replace the file's text with what `edit` makes of it, and return the new version.

    No other caller of this function can change it in between. A link stays a link: its target is replaced. With
    `create`, a missing file counts as empty. Raises KeyFileFault.
    """
    with _no_more_rights_than_its_owner(path):
        target = _target(path)
        if not create:
            _contents(path, target, may_be_missing=False)  # no lock beside what isn't there
        with _locked(target):
            text, state = _contents(path, target, may_be_missing=create)
            before = _parsed(path, text)
            changed = edit(before)
            if changed == text:
                return before
            after = _parsed(path, changed)
            _replace(target, changed, state)
            return after


def _parsed(path: Path, text: bytes) -> KeyFile:
    entries, faults = key_file_entries(str(path), text)
    if faults:
        raise KeyFileFault(*faults)
    return KeyFile(path, text, entries)


@contextmanager
def _no_more_rights_than_its_owner(path: Path) -> Iterator[None]:
    """For root, if another user can change part of the path: use that user's rights, which limit their links, too."""
    foreign = foreign_part(path) if sys.platform != "win32" and os.geteuid() == 0 else None
    if foreign is None or _is_the_file_alone(foreign.path):
        yield
    elif foreign.owner is None:
        raise KeyFileFault(f"{path}: other users can change {foreign.path}; run `chmod go-w {foreign.path}` first")
    else:
        with as_owner(foreign.path):
            yield


def _is_the_file_alone(path: Path) -> bool:
    """Whether only the file is another user's, in a folder of root's, where nobody can replace it with a link."""
    try:
        state, folder = path.lstat(), path.parent.stat()
    except OSError:
        return False
    return stat.S_ISREG(state.st_mode) and folder.st_uid == 0 and not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _target(path: Path) -> Path:
    with suppress(OSError, RuntimeError):
        if not (target := path.resolve()).is_symlink():
            return target
    raise KeyFileFault(f"{path}: a broken link; name the file itself")


def _contents(path: Path, target: Path, *, may_be_missing: bool) -> tuple[bytes, os.stat_result | None]:
    try:
        descriptor = os.open(target, os.O_RDONLY | _CAREFULLY)
    except FileNotFoundError:
        if may_be_missing:
            return b"", None
        raise KeyFileFault(
            f"{path}: the key file does not exist; make one with `comfy-auth-rs keys add FILE --label LABEL`"
        ) from None
    except OSError as error:
        raise _fault(path, error) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise KeyFileFault(f"{path}: not a regular file; name a text file with one key a line")
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(_MOST + 1)
    except OSError as error:
        raise _fault(path, error) from None
    finally:
        os.close(descriptor)
    if len(text) > _MOST:
        raise KeyFileFault(f"{path}: larger than {_MOST} bytes; is this a key file?")
    return text, state


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time, by a lock file: the key file is replaced, so it can't hold the lock itself."""
    lock = target.with_name(f".{target.name}.lock")
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o600)
        except FileNotFoundError:
            raise KeyFileFault(f"{target.parent}: this folder does not exist; make it first") from None
        except OSError as error:
            raise _fault(lock, error) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise KeyFileFault(f"{lock}: the key file's lock must be a regular file; remove this one")
            _take(descriptor, lock, until)
            if _is_still_there(descriptor, lock):
                yield
                return
        finally:
            os.close(descriptor)


def _is_still_there(descriptor: int, lock: Path) -> bool:
    """Whether nobody has removed the lock file: the next process would make a new one."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.lstat())
    except OSError:
        return False


def _take(descriptor: int, lock: Path, until: float) -> None:
    while True:
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= until:
                raise KeyFileFault(
                    f"{lock}: another process has held this lock for {_PATIENCE:.0f} s; try again"
                ) from None
            time.sleep(0.02)
        except OSError as error:
            raise _fault(lock, error) from None
        else:
            return


def _replace(target: Path, text: bytes, state: os.stat_result | None) -> None:
    """Replaces it with a file synced to disk, with the owner and mode of the file that was read."""
    temporary = target.with_name(f".{target.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o600)
        try:
            with open(descriptor, "wb") as file:
                if state is not None:
                    _give_to_owner(file.fileno(), target, state)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if _version(target) != (state and _version_of(state)):
                raise KeyFileFault(f"{target}: it has changed in the meantime (an editor, perhaps); try again")
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _fault(target, error) from None
    sync_folder(target.parent)


def _give_to_owner(descriptor: int, target: Path, state: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    own = os.fstat(descriptor)
    try:
        if (own.st_uid, own.st_gid) != (state.st_uid, state.st_gid):
            same_owner = own.st_uid == state.st_uid
            os.fchown(descriptor, -1 if same_owner else state.st_uid, state.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(state.st_mode))
    except PermissionError:
        raise KeyFileFault(
            f"{target}: only root or its owner can change it and keep its owner; run this as one of them"
        ) from None


def _version(target: Path) -> tuple[int, ...] | None:
    try:
        return _version_of(target.lstat())
    except FileNotFoundError:
        return None


def _version_of(state: os.stat_result) -> tuple[int, ...]:
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def _fault(path: Path, error: OSError) -> KeyFileFault:
    if error.errno == errno.EROFS:
        return KeyFileFault(
            f"{path}: the file system is read-only (a mounted secret of Kubernetes?); change it at its source"
        )
    if error.errno == errno.EBUSY:
        return KeyFileFault(
            f"{path}: only this file is mounted (into a container?); change it outside, or mount its folder"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return KeyFileFault(
            f"{path}: this user may not read or write it; run this as its owner, or change owner and mode"
        )
    if error.errno == errno.ELOOP:
        return KeyFileFault(f"{path}: a link is not allowed here; remove it")
    return KeyFileFault(
        f"{path}: cannot be read or written ({error.strerror}); check permissions and space, then try again"
    )
