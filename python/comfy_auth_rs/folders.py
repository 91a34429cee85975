"""Folders, as far as files are put into them that must be there after a power cut."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Waits until the names in it are on disk."""
    if sys.platform != "win32":
        with suppress(OSError):  # some network file systems cannot: the file is in its place all the same
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
