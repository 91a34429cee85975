"""A real browser, real frontends, patched miniatures, and a witness of everything that goes over the wire."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from frontends import NEWEST, PINNED, Frontend
from origins import Origin, listening
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from sites import Serve, Site, running
from traffic import Traffic

#: Headless Chromium takes half the time. `make test-release` uses the whole one for what a window may change.
CHROMIUM = {
    "executable_path": os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell"),
    "headless": True,
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
}

#: Each request of a page takes so many milliseconds longer. This finds tests that don't wait for what they rely on.
LATENCY = float(os.environ.get("LATENCY", "0"))

#: The browser, the servers and whatever else runs here share two cores.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


def _slow_down(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    unlimited = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", {**unlimited, "latency": LATENCY})


def _launch(playwright: Playwright, *arguments: str) -> Browser:
    browser = playwright.chromium.launch(**{**CHROMIUM, "args": [*CHROMIUM["args"], *arguments]})
    if LATENCY:
        browser.on("context", lambda context: context.on("page", _slow_down))
    return browser


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with _launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def named(playwright: Playwright) -> Iterator[Browser]:
    """A browser that reaches this machine under names, where it sends no `Sec-Fetch-*` over plain HTTP."""
    with _launch(playwright, "--host-resolver-rules=MAP *.example 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts a server with a key of its own: `with serve("--flag", frontend=NEWEST) as site`."""

    def serve(*arguments: str, frontend: Frontend = PINNED) -> AbstractContextManager[Site]:
        return running(tmp_path_factory.mktemp("site"), secrets.token_urlsafe(32), *arguments, frontend=frontend)

    return serve


@pytest.fixture(scope="session", params=[PINNED, NEWEST], ids=lambda frontend: frontend.name)
def frontend(request: pytest.FixtureRequest) -> Frontend:
    """Each of the frontends in turn."""
    if request.param.is_missing:
        pytest.skip(f"{request.param.root} is missing: `make test-browser` installs it")
    return request.param


@pytest.fixture(scope="session")
def comfyui(serve: Serve, frontend: Frontend) -> Iterator[Site]:
    """A server with each of the frontends in turn."""
    with serve(frontend=frontend) as site:
        yield site


@pytest.fixture(scope="session")
def site(serve: Serve) -> Iterator[Site]:
    """A server for tests in which the frontend's version doesn't matter."""
    with serve() as site:
        yield site


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser context of its own: no cookies, nothing stored."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    yield context
    context.close()


@pytest.fixture
def traffic(context: BrowserContext) -> Iterator[Traffic]:
    """What `context` sends and gets. After every test: our scripts threw nothing, and no dialog opened."""
    traffic = Traffic(context)
    yield traffic
    assert not traffic.own_errors()
    assert not traffic.dialogs()


@pytest.fixture
def page(context: BrowserContext, traffic: Traffic) -> Page:
    return context.new_page()


@pytest.fixture
def foreign() -> Iterator[Origin]:
    """Another origin."""
    with listening() as origin:
        yield origin
