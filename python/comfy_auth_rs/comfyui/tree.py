"""Patches the files of a ComfyUI folder, and checks them."""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from comfy_auth_rs.comfyui.transform import CLI_ARGS, SERVER, insert, remove, same_but_for_version, version_of
from comfy_auth_rs.errors import PatchError
from comfy_auth_rs.folders import sync_folder
from comfy_auth_rs.ownership import as_owner

if sys.platform != "win32":
    import fcntl

__all__ = ["FileState", "diff", "patch", "read", "status", "unpatch"]


@dataclass(frozen=True)
class FileState:
    """One file of a tree: the `version` that patched it (None if not patched), and its `fault` if it has one."""

    name: str
    version: str | None
    fault: str | None = None


def patch(directory: str | os.PathLike[str]) -> list[Path]:
    """Patch a ComfyUI folder and return the files that changed: none if this version had patched it already.

    Each file is replaced atomically, so a kill leaves it old or new. `server.py` comes first: if only that one is
    patched, ComfyUI refuses to start. After a PatchError, nothing was written unless the disk failed between the two.
    """
    return _rewrite(directory, insert, (SERVER, CLI_ARGS))


def unpatch(directory: str | os.PathLike[str]) -> list[Path]:
    """Remove the patch and return the files that changed: none if there was no patch.

    `server.py` comes last, for the same reason that it comes first in `patch`. Raises PatchError.
    """
    return _rewrite(directory, remove, (CLI_ARGS, SERVER))


def diff(directory: str | os.PathLike[str]) -> bytes:
    """What `patch` would change, as a unified diff that `git apply` takes. Raises PatchError."""
    chunks: list[bytes] = []
    for name in (SERVER, CLI_ARGS):
        source = read(directory, name)
        chunks += difflib.diff_bytes(
            difflib.unified_diff,
            io.BytesIO(source).readlines(),
            io.BytesIO(insert(name, source)).readlines(),
            f"a/{name}".encode(),
            f"b/{name}".encode(),
        )
    return b"".join(chunk if chunk.endswith(b"\n") else chunk + b"\n\\ No newline at end of file\n" for chunk in chunks)


def status(directory: str | os.PathLike[str]) -> list[FileState]:
    """The state of each of the two files. Raises PatchError if the folder is not a ComfyUI."""
    states = []
    for name in (SERVER, CLI_ARGS):
        source = read(directory, name)
        version = fault = None
        try:
            version = version_of(name, source)
            fresh = insert(name, source)
            if version and not same_but_for_version(source, fresh):
                fault = f"{name}: the patch was edited, has moved or is outdated; run `comfy-auth-rs patch` again"
        except PatchError as error:
            fault = str(error)
        states.append(FileState(name, version, fault))
    return states


def read(directory: str | os.PathLike[str], name: str) -> bytes:
    """The contents of one of the two files. Raises PatchError."""
    path = _file(directory, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _fault(path, "read", error) from None


def _file(directory: str | os.PathLike[str], name: str) -> Path:
    """The file itself, symlinks followed."""
    path, inner = Path(directory, name), Path(directory, "ComfyUI")
    try:
        if path.is_file():
            return path.resolve()
        hint = f"did you mean {inner}?" if (inner / name).is_file() else "name the folder that holds its main.py"
    except OSError as error:
        raise _fault(path, "read", error) from None
    raise PatchError(f"{directory}: not a ComfyUI folder, it has no {name}; {hint}")


def _rewrite(
    directory: str | os.PathLike[str], change: Callable[[str, bytes], bytes], order: tuple[str, ...]
) -> list[Path]:
    paths = {name: _file(directory, name) for name in order}
    folders = [Path(directory), *(Path(directory, name).parent for name in order)]
    with as_owner(*folders, *(path.parent for path in paths.values())), _locked(directory):
        sources = {name: read(directory, name) for name in order}
        contents = {name: change(name, source) for name, source in sources.items()}
        changed = {paths[name]: new for name, new in contents.items() if new != sources[name]}
        try:
            for path in paths.values():
                _temporary(path).unlink(missing_ok=True)  # left by a process that was killed
            for path, new in changed.items():
                _stage(path, new)
            for path in changed:
                _temporary(path).replace(path)
                sync_folder(path.parent)
        except OSError as error:
            for leftover in changed:
                with suppress(OSError):
                    _temporary(leftover).unlink(missing_ok=True)
            raise _fault(path, "written", error) from None
    return list(changed)


def _fault(path: Path, done: str, error: OSError) -> PatchError:
    return PatchError(f"{path}: cannot be {done} ({error.strerror}); check permissions and space, then try again")


@contextmanager
def _locked(directory: str | os.PathLike[str]) -> Iterator[None]:
    """One process at a time per folder: they share the temporary file's name."""
    with ExitStack() as stack:
        if sys.platform != "win32":  # where a file that another process has open cannot be replaced
            with suppress(OSError):  # a file system without locks
                descriptor = os.open(directory, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.comfy-auth-rs.tmp")


def _stage(path: Path, content: bytes) -> None:
    """Write the new file beside the old one, synced to disk, with its mode and, if allowed, its owner."""
    old = path.stat()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(_temporary(path), flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        if sys.platform != "win32":
            with suppress(PermissionError):  # for root, unless it acts as the folder's owner
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), old.st_mode & 0o777)
        os.fsync(file.fileno())
