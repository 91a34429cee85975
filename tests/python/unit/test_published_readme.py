"""The README on PyPI, where relative links lead nowhere."""

from __future__ import annotations

import re
import runpy

import pytest
from support.messages import REPOSITORY

TOOL = runpy.run_path(str(REPOSITORY / "tools" / "published_readme.py"))
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_link_leads_to_a_file_of_the_repository() -> None:
    published = TOOL["published"](README, "1.2.3")
    targets = re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', published)
    found = [link or image for link, image in targets]
    assert len(found) > 30
    assert all(target.startswith("https://") for target in found)
    ours = [target for target in found if "/v1.2.3/" in target]
    assert len(ours) > 25
    for target in ours:
        assert (REPOSITORY / target.split("/v1.2.3/")[1].partition("#")[0]).exists(), target


def test_pictures_come_as_files() -> None:
    published = TOOL["published"](README, TOOL["version"]())
    pictures = re.findall(r'src="(.+?)"', published)
    assert len(pictures) >= 2
    assert all(picture.startswith(f"{TOOL['FILES']}/v{TOOL['version']()}/docs/images/") for picture in pictures)


@pytest.mark.parametrize("link", ["https://example.com/a", "http://127.0.0.1:8188/", "#more"])
def test_what_is_absolute_stays(link: str) -> None:
    assert TOOL["published"](f"[x]({link})", "1") == f"[x]({link})"


def test_every_job_that_builds_does_it_first() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")
    steps = re.findall(r"make published-readme|PyO3/maturin-action|wheel smoke|sdist PYTHON", workflow)
    assert steps[::2] == ["make published-readme"] * 3
    assert len(steps) == 6
