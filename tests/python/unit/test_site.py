"""`make docs`: the site builds without a warning, has no broken links and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Page(HTMLParser):
    """The links, loaded files, anchors and text of a built page."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loads.append(values.get("href", ""))
        elif "src" in values:
            self.loads.append(values["src"])

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (pip install --group docs)")
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    yield folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {}
    for file in site.rglob("*.html"):
        page = Page()
        page.feed(file.read_text(encoding="utf-8"))
        found[file.relative_to(site).as_posix()] = page
    return found


def test_all_pages_are_there(pages: dict[str, Page]) -> None:
    docs = REPOSITORY / "docs"
    sources = {file.relative_to(docs).with_suffix(".html").as_posix() for file in docs.rglob("*.md")}
    assert sources | {"404.html"} == set(pages)


def test_links_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        if name == "404.html":  # its links start at the server's root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            target = name if not parts.path else "index.html" if path == "." else path
            anchors = pages[target].anchors if target in pages else set()
            if not (site / target).is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append((name, link))
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 300


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    loads = [(name, url) for name, page in pages.items() for url in page.loads]
    assert len(loads) > 50
    assert [load for load in loads if urlsplit(load[1]).scheme not in ("", "data") or load[1].startswith("//")] == []
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", text), sheet.name
    # For a diagram, the theme's script would fetch a renderer from elsewhere.
    assert not any("mermaid" in file.read_text(encoding="utf-8") for file in site.rglob("*.html"))


def test_the_pages_show_every_file_of_deploy(pages: dict[str, Page]) -> None:
    shown = " ".join("".join(page.text for page in pages.values()).split())
    # You import dashboards instead of reading them, so the page only has a picture.
    files = [file for file in (REPOSITORY / "deploy").rglob("*") if file.is_file() and file.suffix != ".json"]
    assert len(files) >= 10
    for file in files:
        assert " ".join(file.read_text(encoding="utf-8").split()) in shown, file


def test_the_reference_has_what_the_package_exports(pages: dict[str, Page]) -> None:
    import comfy_auth_rs

    for name in comfy_auth_rs.__all__:
        if name != "__version__":
            assert f"comfy_auth_rs.{name}" in pages["reference.html"].anchors, name
    assert "Ends the session of a request" in pages["reference.html"].text  # from the stub of the compiled core


def test_the_flags_page_has_every_flag() -> None:
    page = (REPOSITORY / "docs" / "flags.md").read_text(encoding="utf-8")
    flags = (REPOSITORY / "python/comfy_auth_rs/settings.py").read_text(encoding="utf-8")
    for flag in re.findall(r'"(--[a-z-]+)"', flags):
        assert f"| `{flag}" in page, flag
    for help_text in (REPOSITORY / "tests" / "fixtures" / "help").iterdir():
        assert f'--8<-- "tests/fixtures/help/{help_text.name}"' in page


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_the_repositorys_own_pages(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", (REPOSITORY / name).read_text(encoding="utf-8")):
        link = next(filter(None, target))
        if not urlsplit(link).scheme:
            assert (REPOSITORY / urlsplit(link).path).exists(), link
