"""Screenshots for people to look at."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

_FOLDER = Path(__file__).parent / "screenshots"
_IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

#: The screenshots in the documents, with their names there. `make pictures` takes them again.
_DOCUMENTED = {
    "login-light": "login.png",
    "comfyui-newest": "comfyui.png",
    "may-only-look-newest": "may-only-look.png",
    "usage-1280-light": "usage.png",
    "doctor": "doctor.png",
}


def shoot(page: Page, name: str) -> None:
    """Save what `page` shows as NAME.png in a folder that is not committed."""
    file = _FOLDER / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    if "PICTURES" in os.environ and name in _DOCUMENTED:
        # Few colours keep the file small.
        small = Image.open(file).convert("RGB").quantize(64, dither=Image.Dither.NONE)
        small.save(_IMAGES / _DOCUMENTED[name], optimize=True)
