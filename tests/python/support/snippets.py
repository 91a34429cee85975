"""The blocks of code in the documents.

A comment before a block says what it needs: `server` (a protected server in place of 127.0.0.1:8188; its key replaces
the example's), `with a key file` (a ComfyUI with an api_key.txt in it), `patched` (the same, patched, as the current
folder), or `not run: REASON`. Blocks of tutorials have needs of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    (REPOSITORY / "docs").rglob("*.md")
)

#: The blocks of these pages run one after the other: see `tutorials`.
TUTORIALS = REPOSITORY / "docs" / "tutorials"

_BLOCK = re.compile(r"^(?:<!-- (?P<needs>[^\n]*) -->\n)?```(?P<language>\S*)\n(?P<code>.*?)^```$", re.M | re.S)
_INCLUDE = re.compile(r'^--8<-- "(.+)"$', re.M)

#: Languages that are run, and languages that are only read, or checked where their file is.
RUN = {"sh", "python", "js"}
SHOWN = {"http", "ini", "json", "nginx", "yaml", "dockerfile", "text", "toml"}


@dataclass(frozen=True)
class Snippet:
    """One block. `code` has its includes filled in."""

    page: Path
    line: int
    language: str
    needs: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it isn't run, or None."""
        return self.needs.removeprefix("not run: ") if self.needs.startswith("not run: ") else None


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            code = _INCLUDE.sub(lambda include: (REPOSITORY / include[1]).read_text(encoding="utf-8"), match["code"])
            line = text.count("\n", 0, match.start("code")) + 1
            yield Snippet(page, line, match["language"], match["needs"] or "", code)
