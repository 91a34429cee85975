"""Screenshots, to be looked at."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

_FOLDER = Path(__file__).parent / "screenshots"


def shoot(page: Page, name: str) -> None:
    """Keep what `page` shows as NAME.png in a folder that is not committed."""
    page.screenshot(path=_FOLDER / f"{name}.png", animations="disabled")
