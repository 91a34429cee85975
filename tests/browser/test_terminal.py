"""What `comfy-auth-rs doctor` shows in a terminal, as a picture for the documents."""

from __future__ import annotations

import os
import re
import sys
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from screens import shoot
from sites import Serve
from support.command import run_in_terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")

PAGE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; padding: 16px; background: #1b1c1e; color: #d8dade }
pre { margin: 0; font: 14px/1.45 "DejaVu Sans Mono", monospace; white-space: pre }
.c31 { color: #ff7b72; font-weight: bold } .c32 { color: #63c174 } .c33 { color: #e5c07b }
</style><pre>"""


def as_page(written: str) -> str:
    """HTML, with the terminal's colours."""
    text = escape(written.replace("\r", "")).replace("\033[0m", "</span>")
    return PAGE + re.sub(r"\033\[(?:\d+;)*(\d+)m", r'<span class="c\1">', text)


def test_doctor_fits_into_a_terminal(serve: Serve, browser: Browser, tmp_path: Path) -> None:
    with serve() as site:
        (tmp_path / "ComfyUI").symlink_to(site.tree)
        arguments = ["ComfyUI", "--port", str(site.server.port), "--api-key-file", "ComfyUI/keys.txt"]
        result = run_in_terminal("doctor", *arguments, cwd=tmp_path, COLUMNS="120", TERM="xterm", NO_COLOR="")
        written = result.stdout.decode()
        # Show the paths that a reader's machine would have.
        for ours, theirs in (
            (re.escape(f"{tmp_path}/"), ""),
            (re.escape(sys.executable), "/opt/comfyui/venv/bin/python"),
            (r"Linux-\S+", "Linux-6.1.0-x86_64-with-glibc2.36"),
            (rf"Port {site.server.port}\b *", "Port 8188    "),
        ):
            written = re.sub(ours, theirs, written)
        page = browser.new_page(viewport={"width": 1060, "height": 340})
        page.set_content(as_page("$ comfy-auth-rs doctor ComfyUI --api-key-file ComfyUI/keys.txt\n" + written))
        shown = page.locator("pre")
        expect(shown).to_contain_text("/ws asks for the key")
        assert shown.locator("span").count() >= 5
        assert page.evaluate("document.documentElement.scrollWidth") <= 1060
        shoot(page, "doctor")
        page.close()
