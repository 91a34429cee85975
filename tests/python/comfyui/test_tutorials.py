"""Follows each tutorial word for word, from an empty folder with an unprotected ComfyUI."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.snippets import TUTORIALS
from support.tutorials import blocks, follow, is_in, reader

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are commands for a POSIX shell")

#: The tutorial for a fleet needs nginx and Valkey: release/test_fleet_tutorial.py follows it.
PAGES = sorted(page for page in TUTORIALS.glob("*.md") if page.stem != "fleet")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_it_can_be_followed(page: Path, copy_miniature: Callable[..., Path], tmp_path: Path) -> None:
    for folder in ("home", "workspace"):
        shutil.copytree(copy_miniature(patched=False), tmp_path / folder / "ComfyUI")
    with reader(tmp_path) as someone:
        assert follow(page, someone) >= 2


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_it_has_all_it_needs(page: Path) -> None:
    found = blocks(page)
    assert [block.needs for block in found].count("starts the server") == 1
    assert {block.needs for block in found} <= {"", "starts the server", "prints"}
    assert {block.language for block in found if block.needs != "prints"} == {"sh"}


def test_there_are_three() -> None:
    assert [page.stem for page in PAGES] == ["home", "rented-gpu", "team"]


@pytest.mark.parametrize(
    ("shown", "printed", "holds"),
    [
        ("a\nb", "x\na\nb\ny\n", True),
        ("a … c", "a b c d\n", True),
        ("a\nb", "a\nx\nb\n", False),
        ("a … c", "a b\nc\n", False),
        ("a", "b\n", False),
    ],
)
def test_what_a_page_shows_is_compared(shown: str, printed: str, holds: bool) -> None:
    assert is_in(shown, printed) == holds
