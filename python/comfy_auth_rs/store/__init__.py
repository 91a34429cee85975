"""Stores for the state, with one small protocol."""

from __future__ import annotations

import sys
from pathlib import Path

from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.store.address import parse, without_credentials
from comfy_auth_rs.store.protocol import Read, Reader, Record, Store, StoreError, Writer

__all__ = ["Read", "Reader", "Record", "Store", "StoreError", "Writer", "make_store"]


def make_store(state: str, *, create: bool = True) -> Store | None:
    """The store that the setting names; None for `memory`. Nothing is opened yet. Raises `SettingError`.

    Without `create`, a file must exist already.
    """
    place = parse(state)
    if place is None:
        return None
    if isinstance(place, Path):
        from comfy_auth_rs.store.sqlite import Sqlite  # late, like the other, because it may not be installed

        return Sqlite(place.absolute(), create=create)
    shown = without_credentials(state)
    try:
        from comfy_auth_rs.store.valkey import Valkey
    except ImportError:
        raise SettingError(
            f'{shown}: the Valkey client is missing; run `{sys.executable} -m pip install "comfy-auth-rs[valkey]"`',
            "state",
        ) from None
    return Valkey(place, shown)
