"""Limits ComfyUI's set of the deprecated paths that it has logged: anyone may request new ones."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["bound"]

#: Where `server.py` keeps them, until the process ends.
_NAME = "_deprecated_paths_warned"

#: How many are logged at most. Custom nodes load a few.
_MOST = 128


class _Few(set[str]):
    """Once the set is full, every path counts as logged."""

    def __contains__(self, path: object) -> bool:
        return len(self) >= _MOST or super().__contains__(path)


def bound(server: Any) -> None:
    """Limits the set, if this ComfyUI has it."""
    module = sys.modules.get(type(server).__module__)
    if isinstance(known := getattr(module, _NAME, None), set):
        setattr(module, _NAME, _Few(known))
