"""What the documents show is what really runs."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[3]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 600


def test_the_readme_begins_with_what_it_is_and_how_to_start_it() -> None:
    headings = re.findall(r"^## (.*)$", README, re.M)
    assert headings == ["Quick start", "Three ways to install", "How it differs", "For developers", "More"]
    first = re.search(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert first
    assert len(first[1].splitlines()) == 5
    differences = README.split("## How it differs")[1].split("\n\n")[1]
    assert 2 < len(differences.splitlines()) <= 2 + 8


def dependencies() -> set[str]:
    """All dependencies in the manifests: those we ship, those we build with, and those only developers need."""

    def names(needs: list[str]) -> set[str]:
        return {re.split(r"[<>=;\[\s]", need)[0] for need in needs}

    found: set[str] = set()
    for manifest in ("Cargo.toml", "fuzz/Cargo.toml"):
        tables = tomllib.loads((REPOSITORY / manifest).read_text(encoding="utf-8"))
        for part in [tables, *tables.get("target", {}).values()]:
            for table in ("dependencies", "dev-dependencies", "build-dependencies"):
                found |= part.get(table, {}).keys()
    python = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    found |= names(python["build-system"]["requires"]) | names(python["project"]["dependencies"])
    for group in python["dependency-groups"].values():
        found |= names(group)
    return found - {"comfy-auth-rs"}


def test_every_dependency_has_its_reason_and_no_other_is_named() -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named: dict[str, str] = {}
    for cells, reason in re.findall(r"^\| (\[.*\)) \| (.*) \|$", page, re.M):
        named.update(dict.fromkeys(re.findall(r"\[([^\]]+)\]\(", cells), reason))
    assert len(named) > 20
    assert {name for name, reason in named.items() if len(reason) < 10} == set()
    # The Makefile installs these two.
    assert named.keys() == dependencies() | {"cargo-deny", "actionlint"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/installing.md"])
def test_documents_name_the_rust_that_is_needed(name: str) -> None:
    manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))["package"]["rust-version"]
    named = re.findall(r"Rust(?:\]\([^)]*\))? (1\.\d+)", (REPOSITORY / name).read_text(encoding="utf-8"))
    assert named == [manifest]


def test_versions_agree() -> None:
    manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    package = re.search(r'__version__ = "(.*)"', (REPOSITORY / "python/comfy_auth_rs/__init__.py").read_text())
    assert package
    assert manifest == project == package[1]
