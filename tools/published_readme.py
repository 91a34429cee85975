"""Writes README.md for places where it stands alone, such as PyPI: each link leads to the repository, at this version's
tag. The workflow that builds wheels runs this first. The result is not committed.
"""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"

PAGES = "https://github.com/comfy-auth-rs/comfy-auth-rs/blob"
FILES = "https://raw.githubusercontent.com/comfy-auth-rs/comfy-auth-rs"

#: What a Markdown link, or an image in HTML, leads to.
LINK = re.compile(r'(?<=\]\()(?P<link>[^)\s]+)(?=\))|(?<=src=")(?P<image>[^"]+)(?=")')


def published(text: str, version: str) -> str:
    """The same with absolute links."""

    def absolute(found: re.Match[str]) -> str:
        target = found[0]
        if re.match(r"https?://|#", target):
            return target
        return f"{FILES if found['image'] else PAGES}/v{version}/{target}"

    return LINK.sub(absolute, text)


def version() -> str:
    (found,) = re.findall(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    return str(found)


if __name__ == "__main__":
    README.write_text(published(README.read_text(encoding="utf-8"), version()), encoding="utf-8", newline="\n")
