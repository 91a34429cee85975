"""Passes settings to ComfyUIs that custom nodes start, and to this one when it restarts.

They go through the environment, which all child processes see and other programs may keep. So they name the process
that they come from, and count only for that process and its descendants.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from comfy_auth_rs.comfyui import processes, state
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.settings import KEYS, Settings
from comfy_auth_rs.store.address import has_credentials

__all__ = ["VARIABLE", "digest_of", "hand_on", "inherited_keys", "is_offered", "take_over"]

VARIABLE = "COMFY_AUTH_RS_PARENT"

#: The variable as this process found it, before setting its own.
_offered = os.environ.get(VARIABLE)

#: The format of the variable. Anything that this version doesn't understand is refused: it may restrict a key.
_FORMAT = 1

_REMEDY = f"give --api-key-file FILE (with the custom node, COMFYUI_API_KEY_FILE), or unset {VARIABLE}"

_DEFAULTS = Settings()


@dataclass(frozen=True)
class _Record:
    """The variable's content: the process and its settings, with the digest of each key as in a key file."""

    pid: int
    started: str | None
    settings: Settings

    def is_of(self, process: processes.Process) -> bool:
        return (process.pid, process.started) == (self.pid, self.started)


def is_offered() -> bool:
    """Whether this process was started with settings to inherit, even if they are for another process."""
    return _offered is not None


def inherited_keys() -> tuple[str, ...]:
    """The digests of the `--api-key`s of the ComfyUI that started this one, or of this one before it restarted."""
    with suppress(SettingError):
        return _verified(_offered).settings.api_key
    return ()


def take_over(own: Settings) -> tuple[Settings, int | None]:
    """The settings in force, which are passed on, and the process id of the ComfyUI that their keys come from, if any.

    If this ComfyUI has keys of its own, only those count. Otherwise it takes the keys of the ComfyUI that started it,
    and those of its settings that are at their default here. Raises `SettingError` if they are not for this process.
    """
    record, settings = None, own
    if not own.has_keys:
        if not is_offered():
            return own, None
        record = _verified(_offered)
        settings = replace(own, **_beside(own, record.settings))
    else:
        with suppress(SettingError):
            record = _verified(_offered)
    hand_on(settings)
    theirs = record is not None and not _is_this(record) and _keys(record.settings) == _keys(settings)
    return settings, record.pid if record and theirs else None


def hand_on(settings: Settings) -> None:
    """Passes them to child processes, and to this process when it restarts."""
    process = processes.this()
    os.environ[VARIABLE] = json.dumps(
        {
            "format": _FORMAT,
            # Without a start time nothing can be inherited. Children then refuse to start without keys.
            "pid": process.pid if process else os.getpid(),
            "started": process.started if process else None,
            "settings": _portable(settings),
        }
    )


def digest_of(key: str) -> str:
    """The digest of a key, which can be given in its place."""
    return key if key.startswith("sha256:") else f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _portable(settings: Settings) -> dict[str, Any]:
    """The settings that were set, with digests for keys and absolute paths."""
    found = {}
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        if value == setting.default:
            continue
        if setting.name == "api_key":
            value = [digest_of(key) for key in value]
        elif setting.name == "state":
            value = state.absolute(os.fspath(value))
            if has_credentials(value):
                continue
        elif setting.metadata.get("metavar") == "PATH":
            value = (
                str(Path(value).absolute())
                if isinstance(value, (str, os.PathLike))
                else [str(Path(path).absolute()) for path in value]
            )
        found[setting.name] = value
    return found


def _keys(settings: Settings) -> list[Any]:
    portable = _portable(settings)
    return [sorted(portable.get(name, ())) for name in KEYS]


def _beside(own: Settings, theirs: Settings) -> dict[str, Any]:
    """Those of `theirs` that are at their default in `own`."""
    names = [setting.name for setting in fields(Settings)]
    return {name: getattr(theirs, name) for name in names if getattr(own, name) == getattr(_DEFAULTS, name)}


def _verified(text: str | None) -> _Record:
    """The record if it is for this process: from itself before it restarted, or from an ancestor that still runs."""
    record = _parse(text or "")
    this = processes.this()
    if this is None or record.started is None:
        raise _fault(f"this system doesn't say whether process {record.pid}, whose keys it holds, started this one")
    if not any(record.is_of(process) for process in (this, *processes.ancestors())):
        raise _fault(f"process {record.pid}, whose keys it holds, has ended or did not start this one")
    return record


def _is_this(record: _Record) -> bool:
    process = processes.this()
    return process is not None and record.is_of(process)


def _parse(text: str) -> _Record:
    try:
        found = json.loads(text)
        pid, started, given = found["pid"], found["started"], found["settings"]
        settings = Settings(**{name: _of_its_type(name, value) for name, value in given.items()})
        if (
            found["format"] == _FORMAT
            and settings.has_keys
            and type(pid) is int
            and isinstance(started, (str, NoneType))
        ):
            return _Record(pid, started, settings)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        pass
    raise _fault("it cannot be read; another version of comfy-auth-rs may have written it")


def _of_its_type(name: str, value: Any) -> Any:
    default = getattr(_DEFAULTS, name)
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, str if default is None else type(default)):
        return value
    raise TypeError(name)


def _fault(detail: str) -> SettingError:
    return SettingError(f"{detail}; {_REMEDY}", place=VARIABLE)
