"""Where a ComfyUI keeps its state, and how it passes that on to the ComfyUIs that it starts."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.settings import Settings
from comfy_auth_rs.store import Store, make_store
from comfy_auth_rs.store.address import MEMORY, has_credentials, is_url

__all__ = ["VARIABLE", "absolute", "choose", "default_file", "leave", "store_of"]

VARIABLE = "COMFYUI_AUTH_STATE"

_NAME = "comfy_auth_rs"
_FILE = "comfy_auth_rs.sqlite3"


def choose(own: Settings, settings: Settings) -> Settings:
    """`settings` with the state in force: from our `own` flags, the environment, the parent, or ComfyUI's own file."""
    state = os.environ.get(VARIABLE, settings.state) if own.state is None else own.state
    return replace(settings, state=_default() if state is None else absolute(os.fspath(state)))


def store_of(own: Settings, settings: Settings) -> Store | None:
    """The store that the setting names. Raises `SettingError` with the name of the flag or variable."""
    try:
        return make_store(os.fspath(settings.state or MEMORY))
    except SettingError as fault:
        if own.state is None and VARIABLE in os.environ:
            raise SettingError(fault.detail, place=VARIABLE) from None
        raise


def absolute(state: str) -> str:
    """The setting with an absolute path."""
    return state if state in ("", MEMORY) or is_url(state) else str(Path(state).absolute())


def leave(state: str) -> None:
    """Passes it to child processes, and to this process when it restarts: arguments must not hold credentials."""
    if VARIABLE in os.environ or has_credentials(state):
        os.environ[VARIABLE] = state


def default_file(user_directory: Path) -> Path:
    """The default file, for a ComfyUI that doesn't name a folder for it."""
    return user_directory / f"__{_NAME}" / _FILE


def _default() -> str:
    folders: Any = sys.modules.get("folder_paths")
    if hasattr(folders, "get_system_user_directory"):
        file = Path(folders.get_system_user_directory(_NAME), _FILE)
    elif hasattr(folders, "get_user_directory"):
        file = default_file(Path(folders.get_user_directory()))
    else:
        return MEMORY
    with suppress(OSError):  # the store says why the file cannot be made
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(file.absolute())
