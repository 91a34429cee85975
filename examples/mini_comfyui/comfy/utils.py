"""How a node reports its progress."""

from collections.abc import Callable
from typing import Any

from PIL import Image

# (format, picture, longest side in pixels)
Preview = tuple[str, Image.Image, int | None]
Hook = Callable[[int, int, Preview | None], Any]

_hook: Hook | None = None


def set_progress_bar_global_hook(hook: Hook) -> None:
    """`hook(value, total, preview)` is called for every step of every node, and may raise to stop it."""
    global _hook
    _hook = hook


class ProgressBar:
    """Counts to `total`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.current = 0

    def update_absolute(self, value: int, total: int | None = None, preview: Preview | None = None) -> None:
        """Say that `value` steps are done."""
        self.total = total or self.total
        self.current = min(value, self.total)
        if _hook is not None:
            _hook(self.current, self.total, preview)

    def update(self, steps: int) -> None:
        """Say that this many more steps are done."""
        self.update_absolute(self.current + steps)
