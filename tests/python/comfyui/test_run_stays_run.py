"""A key of `run` leaves files only where its scope says, and no browser takes one for a page or a script.

Tested on the miniature, and on the real ComfyUI that `COMFYUI_DIR` names.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.client import Answer, ask
from support.leaving import MARK, Leaver, urls_of
from support.scopes import write_keys
from support.servers import Server, start_real, start_server

SCRIPT = f"<script>{MARK}</script>"
FILES = {
    f"{MARK}.html": SCRIPT.encode(),
    f"{MARK}.svg": f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode(),
    f"{MARK}.js": MARK.encode(),
    f"{MARK}.HTML": SCRIPT.encode(),
    f"{MARK}.xhtml": SCRIPT.encode(),
    f"{MARK}.css": f"/* {MARK} */".encode(),
    f"{MARK}.json": f'{{"x": "{SCRIPT}"}}'.encode(),
    f"{MARK}.py": f'MARK = "{MARK}"'.encode(),
    f"{MARK}.png": base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    ),
    MARK: SCRIPT.encode(),
}

#: Where `run` may write, below the data folder.
ALLOWED = re.compile(
    r"(input|output|temp)/|user/default/((workflows|subgraphs|keybindings)/|comfy\.(settings|templates)\.json$)"
)

#: The owner's files and their contents. They must not change.
OWNERS = {
    "user/default/user.css": "/* the owner's */",
    "user/default/ComfyUI-Manager/config.ini": "[default]\nsecurity_level = normal\n",
    "user/__manager/config.ini": "[default]\nsecurity_level = normal\n",
    "user/default/scripts/x.js": "// the owner's",
    "models/checkpoints/x.txt": "the owner's",
    "custom_nodes/empty.py": "NODE_CLASS_MAPPINGS = {}\n",
}

#: Every folder that the page's files come from.
PAGE = ("", "extensions/", "extensions/core/", "templates/", "docs/", "assets/", "scripts/", "user/", "deep/")


@dataclass(frozen=True)
class Site:
    server: Server
    base: Path
    tree: Path
    keys: dict[str, str]
    before: dict[str, str]

    def left(self) -> list[Path]:
        """Files with the mark in their contents or names."""
        return [file for file in self.base.rglob("*") if file.is_file() and is_left(file)]


def is_left(file: Path) -> bool:
    return MARK in str(file) or (file.suffix not in (".log", ".db") and MARK.encode() in file.read_bytes())


def disk(base: Path) -> dict[str, str]:
    ours = {"__pycache__", "__comfy_auth_rs"}
    files = [file for file in base.rglob("*") if file.is_file() and not ours.intersection(file.parts)]
    return {
        file.relative_to(base).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if ".log" not in file.suffixes and ".db" not in file.suffixes
    }


@pytest.fixture(scope="module", params=["miniature", "real"])
def site(
    request: pytest.FixtureRequest, copy_miniature: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server with the owner's files, and a key of each scope."""
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    for name in ("input", "output", "user/default/workflows", "models", "custom_nodes"):
        (base / name).mkdir(parents=True)
    for name, content in OWNERS.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(content)
    # Links that the owner has made.
    (base / "user" / "default" / "workflows" / "up").symlink_to(base / "user" / "default")
    (base / "user" / "default" / "workflows" / "style.css").symlink_to(base / "user" / "default" / "user.css")
    keys = write_keys(base / "keys.txt")
    if request.param == "real":
        tree = Path(os.environ["COMFYUI_DIR"])
        starting = start_real(base, "--api-key-file", str(base / "keys.txt"))
    else:
        tree = copy_miniature()
        starting = start_server(tree, "--base-directory", str(base), "--api-key-file", str(base / "keys.txt"))
    with starting as server:
        before = disk(base)
        yield Site(server, base, tree, keys, before)


@pytest.fixture(scope="module")
def answers(site: Site) -> list[Answer]:
    found = []
    for label in ("run", "people"):
        leaver = Leaver(site.server, site.keys[label])
        found += [*leaver.uploads(FILES, FILES[f"{MARK}.png"]), *leaver.writes(FILES)]
        found += leaver.settings({"x": SCRIPT, "Comfy.Canvas.BackgroundImage": f"/{MARK}"})
    return found


def test_it_leaves_files_where_it_may(site: Site, answers: list[Answer]) -> None:
    statuses = [answer.status for answer in answers]
    print(f"\n{len(statuses)} requests, { ({status: statuses.count(status) for status in sorted(set(statuses))}) }")
    assert statuses.count(200) > 200
    assert statuses.count(403) > 50
    left = [file.relative_to(site.base).as_posix() for file in site.left()]
    assert len(left) > 30
    assert {folder for folder in ("input", "output", "temp", "user") if any(f.startswith(folder) for f in left)} == {
        "input", "output", "temp", "user",
    }  # fmt: skip


def test_it_leaves_nothing_anywhere_else(site: Site, answers: list[Answer]) -> None:
    after = disk(site.base)
    changed = {name for name in site.before.keys() | after.keys() if site.before.get(name) != after.get(name)}
    assert len(changed) > 30
    assert {name for name in changed if not ALLOWED.match(name)} == set()
    for name, content in OWNERS.items():
        assert (site.base / name).read_text() == content
    assert list(site.base.parent.glob(f"*{MARK}*")) == []
    assert list(site.tree.rglob(f"*{MARK}*")) == []
    assert list(Path("/tmp").glob(f"{MARK}*")) == []


def test_nothing_of_ours_fails(site: Site, answers: list[Answer]) -> None:
    assert site.server.own_faults == []


def test_a_link_cannot_be_turned_away(site: Site, answers: list[Answer]) -> None:
    workflows = site.base / "user" / "default" / "workflows"
    assert (workflows / "up").is_symlink()
    assert (workflows / "style.css").is_symlink()


def test_the_owner_gets_all_of_it_in_a_sandbox(site: Site, answers: list[Answer]) -> None:
    urls = urls_of(site.left(), site.base, site.base / "user" / "default")
    shown = 0
    for url in urls:
        for headers in ({}, {"Sec-Fetch-Dest": "document", "Accept": "text/html"}):
            answer = ask(site.server, url, {"X-API-Key": site.keys["owner"], **headers})
            assert answer.status < 500 or "preview" in url or "channel" in url, url
            if answer.status != 200:
                continue
            shown += 1
            policy, kind = answer.headers.get("Content-Security-Policy", ""), answer.headers["Content-Type"]
            assert policy.startswith("sandbox"), (url, policy)
            assert "allow-scripts" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff", url
            is_harmless = kind.partition(";")[0] in ("text/plain", "application/octet-stream", "application/json")
            is_download = answer.headers.get("Content-Disposition", "").startswith("attachment")
            assert is_harmless or is_download or re.match("image/(png|webp)", kind), (url, kind)
    assert shown > 100


def test_the_page_serves_none_of_it(site: Site, answers: list[Answer]) -> None:
    names = {file.name for file in site.left()}
    for folder in PAGE:
        for name in names:
            target = f"/{folder}{name}".replace(" ", "%20")
            answer = ask(site.server, target, {"X-API-Key": site.keys["owner"]})
            assert MARK.encode() not in answer.body or answer.status != 200, target


def test_the_key_has_no_more_than_before(site: Site, answers: list[Answer]) -> None:
    """No file that it left gives it more scopes or changes a key."""
    asked = [("POST", "/free"), ("GET", "/internal/logs"), ("GET", "/userdata/ComfyUI-Manager%2Fconfig.ini")]
    for label in ("run", "people"):
        key = {"X-API-Key": site.keys[label]}
        assert "all" not in ask(site.server, "/auth_session", key).json["scope"]
        for method, target in asked:
            answer = ask(site.server, target, key, method=method, body=b"{}" if method == "POST" else None)
            assert (answer.status, 'scope="all"' in answer.headers["WWW-Authenticate"]) == (403, True), target
