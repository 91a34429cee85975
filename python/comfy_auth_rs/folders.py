"""Makes sure that new files are still there after a power cut."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Waits until the folder's names are on disk."""
    if sys.platform != "win32":
        with suppress(OSError):  # some network file systems can't; the file is in place anyway
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
