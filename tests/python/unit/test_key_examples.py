"""A server can read the key files that docs/keys-and-scopes.md shows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from comfy_auth_rs import KeyFileError, KeyStore
from support.snippets import REPOSITORY, Snippet, snippets

PAGE = REPOSITORY / "docs" / "keys-and-scopes.md"
BLOCKS = [snippet for snippet in snippets() if snippet.page == PAGE and snippet.language == "text"]
ATTRIBUTES = re.findall(r"^\| `([a-z]+=[^`]*)` \|", PAGE.read_text(encoding="utf-8"), re.M)


def read(folder: Path, text: str) -> KeyStore:
    path = folder / "keys.txt"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return KeyStore(api_key_file=[path])


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_each_block_is_a_key_file(tmp_path: Path, block: Snippet) -> None:
    lines = [line for line in block.code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(read(tmp_path, block.code)) == len(lines) > 0


def test_all_blocks_together_are_one(tmp_path: Path) -> None:
    """You can copy several blocks into one file: no two have a line in common."""
    assert len(BLOCKS) >= 4
    assert len(read(tmp_path, "".join(block.code for block in BLOCKS))) >= 10


def test_it_begins_with_five_lines_for_five_people() -> None:
    lines = BLOCKS[0].code.splitlines()
    assert [line.split()[1] for line in lines] == ["owner", "anna", "bot", "wall", "prometheus"]
    assert [re.findall(r"scope=(\S+)", line) for line in lines] == [[], ["run,nodes"], ["run"], ["view"], ["metrics"]]


def test_nobody_is_shown_a_key_that_may_be_copied() -> None:
    """Placeholders are short, so a server started with one warns about it. No digest is that of a common word."""
    words = {hashlib.sha256(word.encode()).hexdigest() for word in ("", "key", "test", "secret", "password", "KEY")}
    for block in BLOCKS:
        for line in block.code.splitlines():
            key = line.split()[0]
            assert len(key) < 32 or key.startswith("sha256:"), line
            assert key.removeprefix("sha256:") not in words, line


def test_each_attribute_of_the_table_is_one(tmp_path: Path) -> None:
    assert {attribute.split("=")[0] for attribute in ATTRIBUTES} == {
        "scope",
        "expires",
        "from",
        "user",
        "prompts",
        "queued",
    }
    for attribute in ATTRIBUTES:
        assert len(read(tmp_path, f"NEW-KEY label {attribute}\n")) == 1
        with pytest.raises(KeyFileError):
            read(tmp_path, f"NEW-KEY label {attribute} {attribute}\n")
