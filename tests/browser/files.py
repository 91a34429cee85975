"""Small files of the kinds that ComfyUI makes."""

from __future__ import annotations

import wave
from io import BytesIO

from PIL import Image


def png(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""
    buffer = BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, "PNG")
    return buffer.getvalue()


def wav() -> bytes:
    """A quarter of a second of silence."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    return buffer.getvalue()
