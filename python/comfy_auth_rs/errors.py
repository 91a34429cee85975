"""What can go wrong with a ComfyUI tree."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


class PatchError(ValueError):
    """A tree that cannot be patched or unpatched: one line that names the file, the fault and the remedy."""


def refuse_to_start(fault: object) -> NoReturn:
    """Ends the process with one line and exit code 2. A server that cannot ask for the key must not start."""
    print(f"comfy-auth-rs: error: {fault}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def end_process(fault: object) -> NoReturn:
    """`refuse_to_start` where the caller would catch SystemExit and go on unprotected, or isn't the main thread."""
    try:
        print(f"comfy-auth-rs: error: {fault}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    finally:  # whatever became of those streams
        os._exit(2)
