"""No browser runs a page or script that someone left on the server, however it is opened.

Tested in the miniature; what a key of `run` leaves is also tested in the real ComfyUI that `COMFYUI_DIR` names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.comfyui.tree import patch
from files import png, wav
from login import log_in
from playwright.sync_api import Error, Page, Request
from sites import Serve, Site
from support.client import BROWSER, Visitor, bearer, headers_of
from support.leaving import MARK, Leaver, urls_of
from support.scopes import write_keys
from support.servers import MINI_COMFYUI, Server, start_real, start_server

#: Reports that it ran: in storage that every page of this origin sees, and to the server.
SCRIPT = "try { localStorage.ran = location.href; } catch {} fetch('/api/queue?ran');"
XHTML = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><script>{SCRIPT}</script></body></html>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="{SCRIPT}"><script>{SCRIPT}</script></svg>'
LEFT = {
    "left.html": f'<!doctype html><body onload="{SCRIPT}"><script>{SCRIPT}</script>',
    "left.xhtml": XHTML,
    "left.xml": f'<?xml version="1.0"?>{XHTML}',
    "left.svg": SVG,
    "left.js": SCRIPT,
    "left.mjs": SCRIPT,
    "left.json": f"<script>{SCRIPT}</script>",
    "left.txt": f"<script>{SCRIPT}</script>",
    "left.bin": f"<!doctype html><script>{SCRIPT}</script>",
    "left": f"<!doctype html><script>{SCRIPT}</script>",
}

#: What a page of ours might do with it.
EMBED = {
    "iframe": "element('iframe', { src: url })",
    "object": "element('object', { data: url })",
    "embed": "element('embed', { src: url })",
    "typed embed": "element('embed', { src: url, type: 'image/svg+xml' })",
    "image": "element('img', { src: url })",
    "script": "element('script', { src: url })",
    "module": "element('script', { src: url, type: 'module' })",
    "import": "import(url)",
    "worker": "new Worker(url)",
    "module worker": "new Worker(url, { type: 'module' })",
    "service worker": "navigator.serviceWorker.register(url, { scope: '/' })",
}
ELEMENT = """(kind, attributes) => new Promise((done) => {
  const it = Object.assign(document.createElement(kind), attributes);
  it.onload = it.onerror = done; setTimeout(done, 300); document.body.append(it);
})"""


@pytest.fixture(scope="module")
def site(serve: Serve) -> Iterator[Site]:
    with serve() as site:
        (site.tree / "user" / "default" / "workflows").mkdir()
        yield site


@pytest.fixture
def owner(site: Site, page: Page) -> Page:
    """A page of ours that does nothing by itself, logged in with a session."""
    log_in(page, site.url, site.key)
    page.evaluate("localStorage.removeItem('ran')")
    return page


def places(site: Site, name: str, content: str) -> list[str]:
    return [
        site.output(name, content.encode()),
        site.userdata(f"workflows/{name}", content).replace("s/left", "s%2Fleft"),
    ]


def assert_nothing_ran(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/api/queue")
    assert page.evaluate("localStorage.ran") is None
    assert page.evaluate("navigator.serviceWorker.getRegistrations()") == []


@pytest.mark.parametrize("name", LEFT)
def test_nothing_that_was_left_runs_when_it_is_opened(site: Site, owner: Page, name: str) -> None:
    asked: list[str] = []
    owner.context.on("request", lambda request: asked.append(request.url))
    for path in places(site, name, LEFT[name]):
        try:
            owner.goto(f"{site.url}{path}")
        except Error as error:
            assert "Download is starting" in error.message
        owner.wait_for_timeout(100)
    assert any("left" in url for url in asked)
    assert not [url for url in asked if "?ran" in url]
    assert_nothing_ran(site, owner)


@pytest.mark.parametrize("how", EMBED)
def test_nothing_that_was_left_runs_in_a_page_of_ours(site: Site, owner: Page, how: str) -> None:
    asked: list[str] = []
    owner.context.on("request", lambda request: asked.append(request.url))
    paths = [path for name, content in LEFT.items() for path in places(site, name, content)]
    embed = f"async (url) => {{ const element = {ELEMENT}; try {{ await {EMBED[how]}; }} catch {{}} }}"
    owner.evaluate(f"(urls) => Promise.all(urls.map({embed}))", paths)
    owner.wait_for_timeout(300)
    assert sum("left" in url for url in asked) >= len(LEFT)
    assert not [url for url in asked if "?ran" in url]
    assert_nothing_ran(site, owner)


def test_what_people_look_at_is_shown(site: Site, owner: Page) -> None:
    picture = site.output("seen.png", png(32, 20, (9, 9, 9)))
    drawing = site.output("seen.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>')
    sound = site.output("seen.wav", wav())
    style = site.userdata("user.css", "body { color: rgb(1, 2, 3) }")
    load = """(kind, url) => new Promise((done, fail) => {
      const attributes = kind === 'link' ? { rel: 'stylesheet', href: url } : { src: url };
      const it = Object.assign(document.createElement(kind), attributes);
      it.onload = it.onloadedmetadata = () => done(it); it.onerror = () => fail(url); document.body.append(it);
    })"""
    for path, width in ((picture, 32), (drawing, 30)):
        assert owner.evaluate(f"async (url) => (await ({load})('img', url)).naturalWidth", path) == width
    assert owner.evaluate(f"async (url) => (await ({load})('audio', url)).duration", sound) == 0.25
    color = f"async (url) => {{ await ({load})('link', url); return getComputedStyle(document.body).color; }}"
    assert owner.evaluate(color, style) == "rgb(1, 2, 3)"
    assert owner.evaluate("async (url) => (await (await fetch(url)).text()).length", style) == 28
    # In a tab of their own.
    owner.goto(f"{site.url}{picture}")
    assert owner.evaluate("document.images[0].naturalWidth") == 32
    owner.goto(f"{site.url}{sound}")
    owner.wait_for_function("document.querySelector('video, audio').duration === 0.25")


# --- what a key of `run` leaves -----------------------------------------------------------------------------------

#: Loads something with the rights of the person who opens it, by a script or without one.
LOADS = (
    f'<script>{SCRIPT}</script><img src="/api/queue?ran"/><img src="x" onerror="{SCRIPT}"/>'
    '<iframe src="/api/queue?ran"></iframe><object data="/api/queue?ran"></object>'
    '<link rel="stylesheet" href="/api/queue?ran"/><meta http-equiv="refresh" content="0;url=/api/queue?ran"/>'
)
XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'
BY_RUN: dict[str, bytes] = {
    f"{MARK}{ending}": content.encode()
    for ending, content in {
        ".html": f"<!doctype html>{LOADS}",
        ".svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{SCRIPT}"><script>{SCRIPT}</script>'
        f'<image href="/api/queue?ran" width="9" height="9"/><foreignObject><div {XMLNS}>{LOADS}</div>'
        "</foreignObject></svg>",
        ".xhtml": f"<html {XMLNS}><body>{LOADS}</body></html>",
        ".HTM": f"<!doctype html>{LOADS}",
        ".xml": f'<?xml version="1.0"?><?xml-stylesheet href="/api/queue?ran"?><html {XMLNS}>{LOADS}</html>',
        ".css": "@import '/api/queue?ran'; body { background: url(/api/queue?ran) }",
        ".js": SCRIPT,
        ".json": LOADS,
        ".txt": LOADS,
        ".pdf": f"%PDF-1.4\n1 0 obj <</OpenAction <</S /JavaScript /JS (app.alert(1))>>>> endobj\n{LOADS}",
        ".mht": f"MIME-Version: 1.0\nContent-Type: text/html\n\n{LOADS}",
        "": f"<!doctype html>{LOADS}",
    }.items()
}

#: Settings, each with a value that may make a page load something or show it as HTML.
SETTINGS_BY_RUN: dict[str, Any] = {
    "Comfy.CustomColorPalettes": {
        "left": {
            "id": "left", "name": LOADS, "colors": {
                "node_slot": {}, "litegraph_base": {"BACKGROUND_IMAGE": "/api/queue?ran"},
                "comfy_base": {"bg-color": "url(/api/queue?ran)", "fg-color": "red; background: url(/api/queue?ran)"},
            },
        }
    },
    "Comfy.ColorPalette": "left",
    "Comfy.Extension.Disabled": [LOADS],
    "Comfy.Locale": "../../api/queue?ran=",
    "Comfy.Keybinding.NewBindings": [{"commandId": LOADS, "combo": {"key": LOADS}}],
    "Comfy.NodeLibrary.Bookmarks.V2": [LOADS, f"{LOADS}/"],
    "Comfy.NodeLibrary.BookmarksCustomization": {f"{LOADS}/": {"icon": LOADS, "color": "url(/api/queue?ran)"}},
    "Comfy.Server.ServerConfigValues": {"front-end-root": "/tmp"},
    "Comfy.Server.LaunchArgs": {"front-end-root": "/tmp"},
    "Comfy.Release.Version": LOADS,
    "Comfy.TutorialCompleted": True,
    "Comfy.ManagerURL": "/api/queue?ran",
    "left": LOADS,
}  # fmt: skip

#: A graph with HTML wherever it can have text.
GRAPH = {
    "last_node_id": 3, "last_link_id": 0, "links": [], "config": {}, "version": 0.4,
    "groups": [{"title": LOADS, "bounding": [0, 0, 400, 400], "color": "url(/api/queue?ran)"}],
    "extra": {"workflow": {"name": LOADS}, "info": {"description": LOADS}},
    "nodes": [
        {
            "id": number, "type": kind, "title": LOADS, "pos": [10, 200 * number], "size": [300, 150], "flags": {},
            "order": number, "mode": 0, "properties": {"text": LOADS}, "color": LOADS, "bgcolor": "url(/api/queue?ran)",
            "widgets_values": [f"{LOADS}\n\n[x](javascript:alert(1))"],
        }
        for number, kind in enumerate(("MarkdownNote", "Note", LOADS), 1)
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Left:
    """A server after a key of `run` tried to leave all of it; its keys; and where the files are served."""

    server: Server
    key: str
    run_key: str
    urls: list[str]

    @property
    def url(self) -> str:
        return self.server.url


def miniature_in(tree: Path) -> Path:
    ours = shutil.ignore_patterns("__pycache__", "user", "input", "output", "temp")
    shutil.copytree(MINI_COMFYUI, tree, ignore=ours, dirs_exist_ok=True)
    patch(tree)
    return tree


@pytest.fixture(scope="module", params=["miniature", "real"])
def by_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    base = tmp_path_factory.mktemp("base")
    for name in ("input", "output", "temp", "user/default/workflows", "models", "custom_nodes"):
        (base / name).mkdir(parents=True)
    keys = write_keys(base / "keys.txt")
    flags = ["--base-directory", str(base), "--api-key-file", str(base / "keys.txt"), "--auth-require-ws"]
    if request.param == "real":
        starting = start_real(base, *flags[2:])
    else:
        starting = start_server(miniature_in(tmp_path_factory.mktemp("tree")), *flags)
    with starting as server:
        leaver = Leaver(server, keys["run"])
        statuses = [
            answer.status
            for answers in (leaver.uploads(BY_RUN, png(8, 8, (1, 2, 3))), leaver.writes(BY_RUN))
            for answer in answers
        ]
        assert statuses.count(200) > 200
        settings = [answer.status for answer in leaver.settings(SETTINGS_BY_RUN)]
        assert settings[0] == 200
        workflow = leaver.ask("/userdata/workflows%2Fleft.json", "POST", json.dumps(GRAPH).encode())
        assert workflow.status == 200
        left = [file for file in base.rglob("*") if file.is_file() and file.relative_to(base).parts[0] != "package"]
        urls = urls_of([file for file in left if file.suffix != ".log"], base, base / "user" / "default")
        yield Left(server, keys["owner"], keys["run"], urls)


def opened(page: Page) -> list[Request]:
    """What the owner's browser asks for, from now on."""
    asked: list[Request] = []
    page.context.on("request", lambda request: asked.append(request))
    return asked


def log_in_to(page: Page, left: Left) -> None:
    log_in(page, left.url, left.key)
    page.evaluate("localStorage.removeItem('ran')")


def open_one(page: Page, url: str) -> str:
    """What the browser did with it."""
    while True:
        try:
            response = page.goto(url, wait_until="load")
        except Error as error:
            if "interrupted by another navigation" in error.message:
                continue  # to the browser's own page about the previous error
            if "ERR_HTTP_RESPONSE_CODE_FAILURE" in error.message:
                return "an error without a body"
            assert "Download is starting" in error.message, (url, error)
            return "downloaded"
        return str(response.status if response else None)


#: What a browser sends for a page that someone opens by its address.
OPENS = {**BROWSER, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def unlike(left: Left) -> list[str]:
    """Of the URLs with equal answers, only one: a browser treats them the same, whatever folder they name."""
    found: dict[tuple[object, ...], str] = {}
    with Visitor(left.server) as owner:
        for url in left.urls:
            answer = owner.ask(url, {**OPENS, **bearer(left.key)})
            found.setdefault((answer.status, *headers_of(answer), answer.body), url)
    return list(found.values())


def test_the_owner_opens_all_that_run_has_left(by_run: Left, page: Page) -> None:
    log_in_to(page, by_run)
    asked = opened(page)
    outcomes: list[str] = []
    urls = unlike(by_run)
    for url in urls:
        outcomes.append(open_one(page, f"{by_run.url}{url}"))
    page.wait_for_timeout(500)
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    print(f"\n{len(urls)} opened of {len(by_run.urls)}: {counts}")
    assert outcomes.count("200") > 10
    assert outcomes.count("downloaded") > 20
    others = {request.url.removeprefix(by_run.url) for request in asked} - set(urls)
    assert others <= {"/favicon.ico"}
    page.goto(f"{by_run.url}/api/queue")
    assert page.evaluate("localStorage.ran") is None


def open_page(page: Page, site: Left) -> None:
    page.goto(site.url)
    page.wait_for_function("window.app?.graph && window.app.canvas && !app.extensionManager?.spinner", timeout=60_000)
    page.wait_for_timeout(1_000)


def test_the_owners_page_loads_only_pictures_by_settings_and_graphs_of_run(by_run: Left, page: Page) -> None:
    log_in_to(page, by_run)
    asked = opened(page)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    open_page(page, by_run)
    assert page.evaluate("app.extensionManager.setting.get('Comfy.ColorPalette')") == "left"
    graph = page.evaluate("async () => (await fetch('/api/userdata/workflows%2Fleft.json')).json()")
    page.evaluate("(graph) => app.loadGraphData(graph)", graph)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, -100]; app.canvas.setDirty(true); }")
    page.wait_for_timeout(2_000)
    assert page.evaluate("app.graph._nodes?.length ?? app.graph.nodes.length") == 3
    told = [request for request in asked if request.url.startswith(f"{by_run.url}/") and "?ran" in request.url]
    # A palette and a setting may say which picture is in the background.
    assert {request.resource_type for request in told} <= {"image"}
    assert {request.method for request in told} <= {"GET"}
    assert page.evaluate("localStorage.ran ?? null") is None
    assert dialogs == []


#: Versions of the Manager that are in use restart and update the server by `GET`.
OF_THE_MANAGER = "/api/manager/reboot"


def test_a_setting_of_run_has_the_owners_page_ask_the_manager_for_nothing(by_run: Left, page: Page) -> None:
    leaver = Leaver(by_run.server, by_run.run_key)
    body = json.dumps({"Comfy.ColorPalette": "dark", "Comfy.Canvas.BackgroundImage": OF_THE_MANAGER}).encode()
    assert leaver.ask("/settings", "POST", body).status == 200
    log_in_to(page, by_run)
    found: list[tuple[int, str]] = []
    page.on("response", lambda got: found.append((got.status, got.url.removeprefix(by_run.url))))
    open_page(page, by_run)
    asked = {status for status, target in found if target == OF_THE_MANAGER}
    assert asked == {403}, "the page asks for it, as an element does"
    # A link in a workflow, and a frame.
    for how in (
        "location = url",
        "document.body.append(Object.assign(document.createElement('iframe'), { src: url }))",
    ):
        found.clear()
        page.evaluate(f"(url) => {{ {how}; }}", OF_THE_MANAGER)
        page.wait_for_timeout(500)
        assert {status for status, target in found if target == OF_THE_MANAGER} == {403}, how
    # The Manager's own scripts get an answer: here, that it is not installed.
    page.goto(f"{by_run.url}/api/queue")
    assert page.evaluate("async (url) => (await fetch(url)).status", OF_THE_MANAGER) == 404
