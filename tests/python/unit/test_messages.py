"""docs/troubleshooting.md has an entry for every message of this software, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.messages import Message, causes, collect, one_line

PAGE = Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md"

#: The collector misses these: they are too short to recognise, or come from aiohttp or argparse.
UNCOLLECTED = {
    "FIRST FAULT (and N more)",
    "NVML: WHAT: REASON",
    "Maximum request body size N exceeded, actual body size N",
    "COMFYUI_AUTH_FLAGS: argument FLAG: REASON",
}

MESSAGES = collect()


def entries() -> dict[str, str]:
    """Each message, and its whole entry."""
    found = re.findall(r"^(`.+)\n:   ((?:.*\n)(?:    .*\n)*)", PAGE.read_text(encoding="utf-8"), re.M)
    return {one_line(said): one_line(f"{said} {meaning}") for said, meaning in found}


def test_the_collector_finds_messages_of_every_kind() -> None:
    texts = [message.text for message in MESSAGES]
    for text in (
        "the same key as on line {}; remove one of the two",  # Rust, formatted
        "must begin with / (a path, {} for any characters) or with ^ (a regular expression)".format("*"),  # Rust, plain
        "comfy_auth_rs.setup() must be called before the application starts",  # Python, raised
        "comfy-auth-rs: refused {}: {} {}: {}",  # Python, logged
        "Too many wrong keys from this address. Try again in {}.",  # JavaScript
    ):
        assert text in texts
    assert any("cannot import comfy_auth_rs" in text for text in texts)  # inserted by the patch
    assert len(MESSAGES) > 130
    assert len(causes()) == 14


@pytest.mark.parametrize("message", MESSAGES, ids=[message.place for message in MESSAGES])
def test_every_message_has_an_entry(message: Message) -> None:
    assert any(message.pattern.search(entry) for entry in entries().values()), message.text


def test_every_cause_has_an_entry() -> None:
    said = entries()
    for cause in causes():
        assert any(text.startswith(f"{cause} · ") for text in said), cause


def test_every_entry_is_about_a_message() -> None:
    telling = [message for message in MESSAGES if len(message.text.replace("{}", "")) >= 12]
    stale = {said for said in entries() if not any(message.pattern.search(said) for message in telling)}
    assert stale == UNCOLLECTED
