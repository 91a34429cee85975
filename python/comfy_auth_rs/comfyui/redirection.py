"""Under `comfy-auth-rs run`, makes code that starts the same main.py with this Python go through `run`, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from comfy_auth_rs.comfyui.inheritance import VARIABLE

__all__ = ["redirect"]

#: The functions of `os` that take a program followed by its arguments, and its position. All others call these.
_STARTS = {"execv": 0, "execve": 0, "posix_spawn": 0, "posix_spawnp": 0}
_STARTS_ON_WINDOWS = {"execv": 0, "execve": 0, "spawnv": 1, "spawnve": 1}

#: Python's options that take a value.
_WITH_VALUE = "WX"
#: With these it runs no script.
_NO_SCRIPT = "cm"


def redirect(main: Path) -> None:
    """For ComfyUI-Manager's restart, and for custom nodes that start more ComfyUIs.

    Other ways, such as a shell, start an unpatched ComfyUI, which rejects `--api-key` and `--api-key-file`.
    """
    windows = os.name == "nt"
    for name, place in (_STARTS_ON_WINDOWS if windows else _STARTS).items():
        if start := getattr(os, name, None):
            setattr(os, name, _redirected(start, place, main, quoted=windows))
    _redirect_subprocess(main)


def _redirected(start: Callable[..., Any], place: int, main: Path, *, quoted: bool) -> Callable[..., Any]:
    def redirected(*given: Any, **named: Any) -> Any:
        if len(given) > place + 1 and (words := _by_run(given[place], given[place + 1], main, os.curdir)):
            if quoted:
                words = [subprocess.list2cmdline([word]) for word in words]
            given = (*given[: place + 1], words, *map(_handing_on, given[place + 2 :]))
        return start(*given, **named)

    return redirected


def _redirect_subprocess(main: Path) -> None:
    """Patches the class `Popen` itself: others subclass it or import it by name, and asyncio uses it, too."""
    start = subprocess.Popen.__init__

    def redirected(self: Any, args: Any, bufsize: int = -1, executable: Any = None, *rest: Any, **named: Any) -> None:
        if not (named.get("shell") or isinstance(args, (str, bytes, os.PathLike))) and (args := list(args)):
            folder = os.fsdecode(named.get("cwd") or os.curdir)
            if words := _by_run(args[0] if executable is None else executable, args, main, folder):
                args, named["env"] = words, _handing_on(named.get("env"))
        start(self, args, bufsize, executable, *rest, **named)

    setattr(subprocess.Popen, "__init__", redirected)  # noqa: B010  mypy lets nobody assign to it


def _handing_on(environment: Any) -> Any:
    """Adds what the child must inherit to an environment made for it."""
    if isinstance(environment, Mapping) and VARIABLE in os.environ:
        return {**environment, VARIABLE: os.environ[VARIABLE]}
    return environment


def _by_run(program: Any, words: Sequence[Any], main: Path, folder: str) -> list[str] | None:
    """What to start instead of `program` with `words` in `folder`; None if that doesn't start this main.py.

    Another program may start it, such as `nice` or a script that restarts it. Then this Python must be given as a path:
    a mere `python` before `main.py` may be anything.
    """
    try:
        program, words = os.fsdecode(program), [os.fsdecode(word) for word in words]
    except TypeError:  # not a sequence: starting it will fail
        return None
    for first in range(len(words)):
        if first > 0:
            program = words[first]
            if Path(program).name == program:
                continue
        at = _place_of_script(words, first)
        # ComfyUI-Manager quotes for Windows' sake.
        script = "" if at is None else words[at].strip('"') + ".py" * (words[at - 1] == "-m")
        if at and _same(Path(folder, script), main) and _is_this_python(program, folder):
            options = [word for word in words[first + 1 : at] if word not in ("--", "-m")]
            run = [sys.executable, *options, "-m", "comfy_auth_rs", "run", str(main.parent), "--"]
            return [*words[:first], *run, *words[at + 1 :]]
    return None


def _is_this_python(program: str, folder: str) -> bool:
    """By any name in the same folder: a venv's Python is the same file as the system's, but another Python."""
    ours = Path(sys.executable)
    found = Path(folder, program) if Path(program).name != program else Path(shutil.which(program) or os.devnull)
    return _same(found, ours) and _same(found.parent, ours.parent)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _place_of_script(words: Sequence[str], first: int) -> int | None:
    """Where a Python command line that begins at `first` names the script or `-m main`; None if it doesn't."""
    at = first + 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word == "--":
            at += 1
            break
        letters = "" if word.startswith("--") else word[1:]
        value = next((place for place, letter in enumerate(letters) if letter in _WITH_VALUE + _NO_SCRIPT), None)
        if word == "-m" and words[at + 1 : at + 2] == ["main"]:
            return at + 1
        if word == "-" or (value is not None and letters[value] in _NO_SCRIPT):
            return None
        separate = word == "--check-hash-based-pycs" or value == len(letters) - 1
        at += 2 if separate else 1
    return at if at < len(words) else None
