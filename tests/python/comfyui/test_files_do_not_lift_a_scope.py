"""Browsers run no file that clients can write, and we know which of a user's files a request names.

Tested on the miniature, and on the real ComfyUI that `COMFYUI_DIR` names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from support.client import Answer, ask, bearer, is_refusal
from support.keys import KEY, OTHER_KEY
from support.servers import Server, start_real, start_server

#: A custom node that adds a header with the files that a request names.
TELLING_NODE = """\
import json
from aiohttp import web
from server import PromptServer
from comfy_auth_rs.comfyui.user_files import UserFiles

files = UserFiles(PromptServer.instance)

@web.middleware
async def tell(request, handler):
    named = json.dumps(files(request)) if "userdata" in request.path else None
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = error
    except Exception:
        response = web.Response(status=500)
    if named is not None:
        response.headers["X-Files"] = named
    if "own-policy" in request.query:
        response.headers["Content-Security-Policy"] = "default-src 'self'"
    return response

PromptServer.instance.app.middlewares.append(tell)
NODE_CLASS_MAPPINGS = {}
"""

RUN_KEY = OTHER_KEY
VIEW_KEY = OTHER_KEY.replace("another", "viewing")
KEYS = f"{KEY} owner\n{RUN_KEY} run scope=run,nodes\n{VIEW_KEY} view scope=view\n"

SCRIPT = "<script>alert(1)</script>"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'

#: Endings that make browsers run a file, and endings that make them show it.
ACTIVE = [
    "x.html", "x.htm", "x.HTML", "x.xhtml", "x.svg", "x.xml", "x.js", "x.mjs", "x.css", "x.pdf", "x.mht", "x.swf",
    "x.html.gz",
]  # fmt: skip
SHOWN = {"x.png": "image/png", "x.webm": "video/webm", "x.mp4": "video/mp4", "x.txt": "text/plain"}


@dataclass(frozen=True)
class Site:
    server: Server
    base: Path

    @property
    def user(self) -> Path:
        return self.base / "user" / "default"

    def ask(self, target: str, headers: dict[str, str] | None = None, method: str = "GET", body: str = "") -> Answer:
        data = body.encode() if method in ("POST", "PUT") else None
        return ask(self.server, target, {**bearer(KEY), **(headers or {})}, method=method, body=data)


def write_keys(base: Path) -> str:
    file = base / "keys.txt"
    file.write_text(KEYS)
    file.chmod(0o600)
    return str(file)


@pytest.fixture(scope="module", params=["miniature", "real"])
def site(
    request: pytest.FixtureRequest, copy_miniature: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    if request.param == "miniature":
        base = copy_miniature()
        (base / "custom_nodes" / "telling.py").write_text(TELLING_NODE)
        with start_server(base, "--api-key-file", write_keys(base)) as server:
            yield Site(server, base)
        return
    if "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    for name in ("custom_nodes", "input", "output", "user", "models"):
        (base / name).mkdir()
    (base / "custom_nodes" / "telling.py").write_text(TELLING_NODE)
    with start_real(base, "--api-key-file", write_keys(base)) as server:
        yield Site(server, base)


@pytest.fixture
def left(site: Site) -> Iterator[Callable[[str, str], list[str]]]:
    """Puts a file of this name into each folder that clients write to. Returns the targets that serve it."""
    made: list[Path] = []

    def leave(name: str, content: str = SCRIPT) -> list[str]:
        folders = [site.base / "output", site.base / "input", site.user / "workflows"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            made.append(folder / name)
            made[-1].write_text(content)
        views = [f"{api}/view?filename={name}&type={kind}" for api in ("", "/api") for kind in ("output", "input")]
        return [*views, *(f"{api}/userdata/workflows%2F{name}" for api in ("", "/api"))]

    yield leave
    for file in made:
        file.unlink(missing_ok=True)


def policies(answer: Answer) -> list[str]:
    return answer.headers.getall("Content-Security-Policy", [])


@pytest.mark.parametrize("name", ACTIVE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_browser_would_run_is_sandboxed_and_downloaded(
    site: Site, left: Callable[[str], list[str]], name: str, method: str
) -> None:
    for target in left(name):
        for headers in ({}, {"Range": "bytes=0-3"}, {"Sec-Fetch-Dest": "document"}, {"Sec-Fetch-Dest": "image"}):
            answer = site.ask(target, headers, method)
            assert answer.status in (200, 206), target
            assert policies(answer) == ["sandbox"], target
            assert answer.headers["X-Content-Type-Options"] == "nosniff", target
            kind = answer.headers["Content-Type"].partition(";")[0]
            disposition = answer.headers.get("Content-Disposition", "")
            # Browsers don't show bytes without a type.
            assert disposition.startswith("attachment") or kind == "application/octet-stream", (target, kind)
            assert "javascript" not in kind, target
            if "/view" in target:
                assert disposition.endswith(f'filename="{name}"'), target


@pytest.mark.parametrize(("name", "kind"), SHOWN.items())
def test_pictures_and_films_are_shown_as_before(
    site: Site, left: Callable[[str], list[str]], name: str, kind: str
) -> None:
    for target in left(name):
        answer = site.ask(target)
        assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, kind), target
        assert policies(answer) == ["sandbox allow-same-origin" if kind.startswith("video/") else "sandbox"], target
        if "/view" in target:
            assert answer.headers["Content-Disposition"] == f'filename="{name}"', target


def test_a_cached_page_is_put_into_the_sandbox_when_it_is_validated(
    site: Site, left: Callable[[str], list[str]]
) -> None:
    for target in left("x.html"):
        first = site.ask(target)
        answer = site.ask(target, {"If-Modified-Since": first.headers["Last-Modified"]})
        assert (answer.status, policies(answer)) == (304, ["sandbox"]), target
        assert answer.headers["X-Content-Type-Options"] == "nosniff", target


def test_another_policy_stays(site: Site, left: Callable[[str], list[str]]) -> None:
    for target in left("x.html"):
        answer = site.ask(f"{target}{'&' if '?' in target else '?'}own-policy")
        assert sorted(policies(answer)) == ["default-src 'self'", "sandbox"], target


def test_the_owners_style_sheet_is_still_one(site: Site) -> None:
    site.user.mkdir(parents=True, exist_ok=True)
    (site.user / "user.css").write_text("body { color: red }")
    answer = site.ask("/api/userdata/user.css", {"Sec-Fetch-Dest": "style"})
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/css")


def test_refusals_and_errors_are_as_they_were(site: Site) -> None:
    for target in ("/view?filename=x.html", "/userdata/x.html", "/api/userdata?dir=x"):
        assert is_refusal(ask(site.server, target)), target
    assert policies(site.ask("/view?filename=nothing.html")) == []


def test_other_routes_are_as_they_were(site: Site) -> None:
    for target in ("/queue", "/object_info", "/settings", "/api/history"):
        answer = site.ask(target)
        assert (answer.status, policies(answer)) == (200, []), target
        assert "X-Content-Type-Options" not in answer.headers, target


# --- which files a request names --------------------------------------------------------------------------------


def named(answer: Answer) -> list[str] | None:
    found: list[str] | None = json.loads(answer.headers["X-Files"])
    return found


@pytest.fixture
def folder(site: Site) -> Iterator[Path]:
    """The user's folder, with a Manager's folder and a style sheet in it."""
    shutil.rmtree(site.user, ignore_errors=True)
    for name in ("workflows", "ComfyUI-Manager"):
        (site.user / name).mkdir(parents=True)
    (site.user / "user.css").write_text("owner's")
    (site.user / "ComfyUI-Manager" / "config.ini").write_text("owner's")
    yield site.user
    shutil.rmtree(site.user, ignore_errors=True)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


#: Names as clients may send them.
NAMES = [
    "workflows%2Fa.json", "workflows%252Fa.json", "workflows%25252Fa.json", "workflows%2F..%2Fuser.css", "user.css",
    "%75ser.css", "%2575ser.css", "workflows%252F..%252Fuser.css", ".%2Fuser.css", "workflows%2F.%2Fa.json",
    "workflows%2F%2Fa.json", "workflows%5C..%5Cuser.css", "workflows%2F..%2F..%2Fdefault%2Fuser.css",
    "a%2F..%2Fuser.css", "workflows%2Fa.json%20", "workflows%2Fa%2B%20b.json", "comfy.settings.json",
    "ComfyUI-Manager%2Fconfig.ini", "workflows%2F..%2FComfyUI-Manager%2Fconfig.ini",
    "workflows%2Fx%2F..%2F..%2Fuser.css", "workflows%2Fa%3Fb.json", "workflows%2FGr%C3%B6%C3%9Fe.json", "a%25zz",
    "workflows%2F%25", "workflows%2F100%2525.json",
]  # fmt: skip


@pytest.mark.parametrize("api", ["", "/api"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_was_named(site: Site, folder: Path, name: str, api: str) -> None:
    before = files(folder)
    answer = site.ask(f"{api}/userdata/{name}", method="POST", body="mine")
    changed = [path for path, content in files(folder).items() if before.get(path) != content]
    if answer.status == 200:
        assert named(answer) == changed
    else:
        assert changed == [], "nothing is written if ComfyUI refuses"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_moved_is_what_was_named(site: Site, folder: Path, name: str) -> None:
    (folder / "workflows" / "from.json").write_text("mine")
    before = files(folder)
    answer = site.ask(f"/userdata/workflows%2Ffrom.json/move/{name}", method="POST")
    after = files(folder)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    if answer.status == 200:
        assert changed <= set(named(answer) or ())


def test_what_is_moved_into_a_folder_gets_its_own_name(site: Site, folder: Path) -> None:
    (folder / "user.css").rename(folder / "workflows" / "user.css")
    answer = site.ask("/userdata/workflows%2Fuser.css/move/.", method="POST")
    assert named(answer) == ["workflows/user.css", "", "user.css"]


def test_links_are_followed(site: Site, folder: Path, tmp_path: Path) -> None:
    (folder / "workflows" / "style.json").symlink_to(folder / "user.css")
    (folder / "workflows" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "workflows" / "out").symlink_to(tmp_path, target_is_directory=True)
    (folder / "workflows" / "circle").symlink_to(folder / "workflows" / "circle")
    for name, expected in [
        ("style.json", ["user.css"]),
        ("up%2Fuser.css", ["user.css"]),
        ("up%2FComfyUI-Manager%2Fconfig.ini", ["ComfyUI-Manager/config.ini"]),
        ("up%2Fworkflows%2Fa.json", ["workflows/a.json"]),
        ("out%2Fa.json", None),
    ]:
        assert named(site.ask(f"/userdata/workflows%2F{name}")) == expected, name


def test_a_folder_that_the_owner_keeps_elsewhere(site: Site, folder: Path, tmp_path: Path) -> None:
    (folder / "workflows").rmdir()
    (folder / "workflows").symlink_to(tmp_path, target_is_directory=True)
    assert named(site.ask("/userdata/workflows%2Fdeep%2Fa.json")) == ["workflows/deep/a.json"]
    (tmp_path / "back").symlink_to(folder, target_is_directory=True)
    assert named(site.ask("/userdata/workflows%2Fback%2Fuser.css")) == ["user.css"]


def test_what_is_outside_is_not_told(site: Site, folder: Path) -> None:
    for name in ("..%2Fother%2Fuser.css", "..%252Fother%252Fuser.css", "%2Fetc%2Fpasswd", "..", "a%00b"):
        answer = site.ask(f"/userdata/{name}")
        assert answer.status >= 400, name
        assert "X-Files" not in answer.headers or named(answer) is None, name


def test_listings(site: Site, folder: Path) -> None:
    (folder / "workflows" / "deep").mkdir()
    for query, expected in [
        ("?dir=workflows", {"workflows"}),
        ("?dir=workflows&recurse=true", {"workflows"}),
        ("?dir=workflows%252Fdeep", {"workflows/deep"}),
        ("?dir=ComfyUI-Manager", {"ComfyUI-Manager"}),
        ("?dir=workflows/../ComfyUI-Manager", {"ComfyUI-Manager"}),
        ("?dir=.", {""}),
        ("?dir=.&recurse=TRUE", {"", "workflows", "ComfyUI-Manager"}),
        ("?dir=workflows/..&recurse=true", {"", "workflows", "ComfyUI-Manager"}),
    ]:
        answer = site.ask(f"/userdata{query}")
        assert (answer.status, set(named(answer) or ())) == (200, expected), query
    for query, expected in [
        ("", {"", "workflows", "ComfyUI-Manager"}),
        ("?path=workflows", {"workflows"}),
        ("?path=" + quote(quote("workflows/../ComfyUI-Manager", safe=""), safe=""), {"ComfyUI-Manager"}),
    ]:
        answer = site.ask(f"/v2/userdata{query}")
        assert set(named(answer) or ()) == expected, query


# --- who may ----------------------------------------------------------------------------------------------------


def status(site: Site, key: str, target: str, method: str = "GET") -> int:
    return site.ask(target, bearer(key), method, "mine").status


@pytest.mark.parametrize("api", ["", "/api"])
@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_runs_writes_only_what_people_make(site: Site, folder: Path, name: str, api: str) -> None:
    """No spelling helps, for writing, deleting or moving. A key of `view` can't change anything at all."""
    before = files(folder)
    sent = [(f"{api}/userdata/{name}", method) for method in ("POST", "DELETE")]
    sent += [(f"{api}/userdata/{name}/move/workflows%2Fto.json", "POST")]
    for target, method in sent:
        status(site, RUN_KEY, target, method)
        after = files(folder)
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert all(path.startswith("workflows/") or path == "comfy.settings.json" for path in changed), target
        assert status(site, VIEW_KEY, target, method) in (400, 403), target
        assert files(folder) == after, target
    assert (folder / "user.css").read_text() == (folder / "ComfyUI-Manager" / "config.ini").read_text() == "owner's"


def test_what_the_page_does_goes_on(site: Site, folder: Path) -> None:
    for name in ("workflows%2Fa.json", "workflows%2F.index.json", "subgraphs%2Fa.json", "keybindings%2Fa.json"):
        assert status(site, VIEW_KEY, f"/api/userdata/{name}") == 404, name
        assert status(site, RUN_KEY, f"/api/userdata/{name}", "POST") == 200, name
        assert status(site, VIEW_KEY, f"/api/userdata/{name}") == 200, name
    for name in ("comfy.templates.json", "comfy.settings.json"):
        assert status(site, RUN_KEY, f"/api/userdata/{name}", "POST") == 200, name
    assert status(site, RUN_KEY, "/api/userdata/workflows%2Fa.json/move/workflows%2Fb.json", "POST") == 200
    assert status(site, RUN_KEY, "/api/userdata/workflows%2Fb.json", "DELETE") == 204
    for directory in ("workflows", "subgraphs", "keybindings"):
        assert status(site, VIEW_KEY, f"/api/userdata?dir={directory}&recurse=true&split=false&full_info=true") == 200
    assert status(site, VIEW_KEY, "/api/userdata/user.css") == 200


def test_the_managers_folder_is_for_the_owner(site: Site, folder: Path) -> None:
    for target in (
        "/userdata/ComfyUI-Manager%2Fconfig.ini",
        "/userdata/workflows%252F..%252FComfyUI-Manager%252Fconfig.ini",
        "/userdata?dir=ComfyUI-Manager",
        "/userdata?dir=.&recurse=true",
        "/v2/userdata",
        "/v2/userdata?path=ComfyUI-Manager",
    ):
        for key, expected in ((RUN_KEY, 403), (VIEW_KEY, 403), (KEY, 200)):
            assert status(site, key, target) == status(site, key, f"/api{target}") == expected, (target, expected)
    shutil.rmtree(folder / "ComfyUI-Manager")
    assert status(site, VIEW_KEY, "/v2/userdata") == 200


def test_a_style_sheet_is_put_there_by_no_other_way(site: Site, folder: Path) -> None:
    (folder / "user.css").unlink()
    status(site, RUN_KEY, "/userdata/workflows%2Fuser.css", "POST")
    for target in ("user.css", ".", "%2E", "workflows%2F..", "user.css%2F", "USER.CSS"):
        assert status(site, RUN_KEY, f"/userdata/workflows%2Fuser.css/move/{target}", "POST") in (403, 404), target
    assert "user.css" not in files(folder)
    assert "workflows/user.css" in files(folder)
