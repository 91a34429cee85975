"""docs/guide-checked.md quotes the whole guide, and names a test for everything that can be tested."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from support.snippets import REPOSITORY

TESTS = REPOSITORY / "tests"
GUIDE = (TESTS / "fixtures" / "guide.txt").read_text(encoding="utf-8")
PAGE = (REPOSITORY / "docs" / "guide-checked.md").read_text(encoding="utf-8")
#: The part that goes through the guide. What comes before it is an introduction.
QUOTED = PAGE[PAGE.index("## ComfyUI API Authentication Guide") :]


def quotes() -> Iterator[str]:
    """What the page quotes, in order: headings, first cells of tables, blocks, and the lines that introduce them."""
    for part in re.split(r"^(```text\n.*?^```)$", QUOTED, flags=re.M | re.S):
        if part.startswith("```"):
            yield from part.splitlines()[1:-1]
            continue
        for line in part.splitlines():
            if found := re.match(r"#+ (.*)|\| ([^|]*[^|\s-][^|]*) \| |(.*:)$", line):
                yield next(filter(None, found.groups()))


def test_the_page_quotes_the_whole_guide_and_nothing_else() -> None:
    said = [words for line in GUIDE.splitlines() if (words := plain(line))]
    quoted = [words for line in quotes() if (words := plain(line)) and words != "the guide"]
    assert " ".join(quoted) == " ".join(said)


def plain(line: str) -> str:
    """Drops list marks and backticks, in which the two differ."""
    return re.sub(r"^(?:• |\d\. (?=[A-Z]))", "", line.strip()).replace("`", "").strip()


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`(test_\w+\.py::\w+|\w+\.test\.mjs: [^`]+)`", QUOTED)))


@pytest.mark.parametrize("name", named_tests())
def test_each_test_that_it_names_is_there(name: str) -> None:
    if ".mjs" in name:
        file, title = name.split(": ", 1)
        text = (TESTS / "js" / file).read_text(encoding="utf-8")
        # So the page can't name a test whose title is put together, such as `that ${name} holds`.
        assert f'test("{title}"' in text
        return
    file, function = name.split("::")
    (path,) = TESTS.rglob(file)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert function in functions


def test_it_says_how_it_is_tested() -> None:
    rows = re.findall(r"^\| .* \| (.*) \| (.*) \|$", QUOTED, re.M)
    rows = [row for row in rows if row not in (("---", "---"), ("here", "test"))]
    assert len(rows) > 50
    # Introductions, and advice to the reader: no test can check these.
    assert len([row for row in rows if not row[1]]) <= 8
    assert len(named_tests()) > 20


def test_the_tests_of_the_guide_type_what_it_says() -> None:
    """The commands and examples in test_guide.py are those of the guide."""
    lines = {plain(line) for line in GUIDE.splitlines()}
    tree = ast.parse((TESTS / "python" / "comfyui" / "test_guide.py").read_text(encoding="utf-8"))
    values = {
        ast.unparse(node.targets[0]): ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) in ("STARTS", "CURLS", "PYTHON_EXAMPLE", "JAVASCRIPT_EXAMPLE")
    }
    texts = [*values["STARTS"].values(), *values["CURLS"], values["PYTHON_EXAMPLE"], values["JAVASCRIPT_EXAMPLE"]]
    typed = {plain(line) for text in texts for line in text.splitlines() if line.strip()}
    assert len(typed) > 20
    assert typed - lines == set()
