"""Finds out who else can change a file, which must not be run or written through with more rights than theirs."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Foreign", "as_owner", "foreign_part", "foreign_part_of_python"]

_MOST_LINKS = 40  # on the way to one file, as Linux has it


class Foreign(NamedTuple):
    """A file or folder that another user can change. `owner` is None if its mode allows that."""

    path: Path
    owner: int | None

    @property
    def who(self) -> str:
        """The user, as `sudo -u` accepts it."""
        if self.owner is None:
            return "others"
        with suppress(ImportError, KeyError):
            import pwd

            return pwd.getpwuid(self.owner).pw_name
        return f"#{self.owner}"


def foreign_part(path: Path) -> Foreign | None:
    """The part of `path`, following links, that users other than root and this one can change."""
    if sys.platform == "win32":
        return None
    names, here, links = list(path.absolute().parts[1:]), Path("/"), 0
    while True:
        try:
            state = here.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None  # there is nothing to run, or to write to
        except OSError:
            return Foreign(here, None)  # who knows: others may mount what root may not see
        if stat.S_ISLNK(state.st_mode):
            target = here.readlink()
            names, here, links = [*target.parts, *names], here.parent, links + 1
            if state.st_uid not in (0, os.geteuid()) or links > _MOST_LINKS:
                return Foreign(here, state.st_uid)
        elif found := _foreign(here, state):
            return found
        if not names:
            return None
        name = names.pop(0)
        here = Path("/") if name == "/" else here.parent if name == ".." else here / name


def _foreign(path: Path, state: os.stat_result) -> Foreign | None:
    if state.st_uid not in (0, os.geteuid()):
        return Foreign(path, state.st_uid)
    by_group = state.st_mode & stat.S_IWGRP and state.st_gid not in (0, os.getegid())
    # In a folder such as /tmp, nobody can replace another user's files.
    sticky = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
    return Foreign(path, None) if (by_group or state.st_mode & stat.S_IWOTH) and not sticky else None


def foreign_part_of_python(python: Path) -> Foreign | None:
    """The same for everything that an interpreter runs at startup and imports, including its environment's packages."""
    if sys.platform == "win32":
        return None
    for program in (python, python.resolve()):
        prefix = program.parent.parent
        packages = list(prefix.glob("lib*/python3*"))
        for path in (program, prefix / "pyvenv.cfg", *packages, *_added_to(packages)):
            if found := foreign_part(path) or next(filter(None, map(foreign_part, _changed_below(path))), None):
                return found
    return None


def _added_to(packages: Sequence[Path]) -> Iterator[Path]:
    """More folders that Python imports from: `pip install --editable` names them in files."""
    for file in (file for folder in packages for file in folder.glob("*-packages/*.pth")):
        with suppress(OSError):
            for line in file.read_text("utf-8", "replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    yield file.parent / line.rstrip()


def _changed_below(folder: Path) -> Iterator[Path]:
    """Everything in a folder, at any depth, that is a link, can be changed by others, or can't be checked."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            try:
                state = path.lstat()
                if not stat.S_ISLNK(state.st_mode) and not _foreign(path, state):
                    continue
            except OSError:
                pass  # the next check says why
            yield path


@contextmanager
def as_owner(*folders: Path) -> Iterator[None]:
    """For root, in another user's folders: use only that user's rights, so that their links lead no further."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    states = [state for folder in folders for state in (folder.lstat(), folder.stat())]
    if (foreign := next((state for state in states if state.st_uid != 0), None)) is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(foreign.st_gid)
    os.seteuid(foreign.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
