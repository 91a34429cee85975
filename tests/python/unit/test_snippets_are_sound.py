"""Each block of code in the documents says what it needs, or why it is not run."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

from support.snippets import PAGES, RUN, SHOWN, TUTORIALS, snippets

ALL = list(snippets())
NEEDS = {"", "server", "with a key file", "patched"}
#: What the blocks of a tutorial may say instead.
OF_TUTORIALS = {"", "starts the server", "prints"}


def test_there_are_some_and_all_are_known() -> None:
    assert len(PAGES) > 10
    assert len([snippet for snippet in ALL if snippet.language in RUN and snippet.reason is None]) > 20
    assert [snippet.name for snippet in ALL if snippet.language not in RUN | SHOWN] == []
    for snippet in ALL:
        needs = OF_TUTORIALS if snippet.page.parent == TUTORIALS else NEEDS
        assert snippet.reason or snippet.needs in needs, snippet.name


def test_what_is_not_run_is_well_formed() -> None:
    for snippet in ALL:
        if snippet.reason is None:
            continue
        assert len(snippet.reason) > 8, snippet.name
        if snippet.language == "python":
            ast.parse(snippet.code)
        elif snippet.language == "sh" and sys.platform != "win32":
            subprocess.run(["bash", "-n"], input=snippet.code, text=True, check=True)
        elif snippet.language == "js":
            check = ["node", "--input-type=module", "--check"]
            subprocess.run(check, input=snippet.code, text=True, check=True)


def test_json_is_json() -> None:
    for snippet in ALL:
        if snippet.language == "json":
            json.loads(snippet.code)
