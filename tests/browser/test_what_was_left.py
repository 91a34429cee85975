"""A page or a script that somebody left on the server runs in no browser, whoever opens it, wherever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from files import png, wav
from login import log_in
from playwright.sync_api import Error, Page
from sites import Serve, Site

#: Tells that it ran: in storage that every page of this origin sees, and to the server.
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
    """A page of ours that does nothing by itself, logged in by a session."""
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
