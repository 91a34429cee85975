"""What the device probe returns."""

from __future__ import annotations

from typing import TypedDict


class Device(TypedDict):
    """One device and its memory."""

    name: str
    """The driver's product name; `cpu` and `mps` for those two."""
    type: str
    """`cuda`, `rocm`, `mps` or `cpu`."""
    index: int | None
    """The index among the visible cards, from 0."""
    uuid: str | None
    """The UUID as the driver's own tools print it."""
    total: int
    """Bytes installed."""
    free: int
    """Bytes that could be allocated now."""
