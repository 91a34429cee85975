"""What can go wrong with a ComfyUI tree."""

from __future__ import annotations

import sys
from typing import NoReturn


class PatchError(ValueError):
    """A tree that cannot be patched or unpatched: one line that names the file, the fault and the remedy."""


def refuse_to_start(fault: object) -> NoReturn:
    """Ends the process with one line and exit code 2. A server that cannot ask for the key must not start."""
    print(f"comfy-auth-rs: error: {fault}", file=sys.stderr, flush=True)
    raise SystemExit(2)
