"""ComfyUI's memory of the old addresses that it has named in its log, bounded: everybody may ask for new ones."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["bound"]

#: Where `server.py` keeps them, for as long as the process runs.
_NAME = "_deprecated_paths_warned"

#: Most that are named. Custom nodes load a few.
_MOST = 128


class _Few(set[str]):
    """Once it is full, every path counts as named."""

    def __contains__(self, path: object) -> bool:
        return len(self) >= _MOST or super().__contains__(path)


def bound(server: Any) -> None:
    """Bounds it, where this ComfyUI has such a memory."""
    module = sys.modules.get(type(server).__module__)
    if isinstance(known := getattr(module, _NAME, None), set):
        setattr(module, _NAME, _Few(known))
