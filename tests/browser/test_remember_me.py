"""What outlives the tab, and what outlives the browser."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from conftest import CHROMIUM
from login import expect_login_page, log_in, stored
from playwright.sync_api import BrowserContext, Page, Playwright, expect
from sites import Site

Open = Callable[[], AbstractContextManager[BrowserContext]]


@pytest.fixture
def open_browser(playwright: Playwright, tmp_path: Path) -> Open:
    """Starts a browser, each time with the same profile on disk."""
    return lambda: playwright.chromium.launch_persistent_context(tmp_path / "profile", **CHROMIUM)


def expect_to_be_in(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/api/queue")
    expect(page).to_have_url(f"{site.url}/api/queue")
    assert page.evaluate("JSON.parse(document.body.innerText).queue_pending.length") == 0


def test_remembers_the_login_when_the_browser_is_closed(open_browser: Open, site: Site) -> None:
    with open_browser() as context:
        page = context.new_page()
        log_in(page, site.url, site.key, remember=True)
        assert stored(page)["local"] == site.key
        assert stored(page)["session"] is None
        days = (context.cookies(site.url)[0]["expires"] - page.evaluate("Date.now() / 1000")) / 86400
        assert days == pytest.approx(30, abs=0.1)
    with open_browser() as context:
        expect_to_be_in(context.new_page(), site)


def test_remembers_the_key_when_the_session_has_ended(open_browser: Open, site: Site) -> None:
    with open_browser() as context:
        log_in(context.new_page(), site.url, site.key, remember=True)
    with open_browser() as context:
        context.clear_cookies()
        expect_to_be_in(context.new_page(), site)
        assert context.cookies(site.url)[0]["expires"] > 0


def test_forgets_the_login_when_the_browser_is_closed(open_browser: Open, site: Site) -> None:
    with open_browser() as context:
        page = context.new_page()
        log_in(page, site.url, site.key)
        assert stored(page)["session"] == site.key
        assert stored(page)["local"] is None
        assert context.cookies(site.url)[0]["expires"] == -1
        expect_to_be_in(context.new_page(), site)
    with open_browser() as context:
        page = context.new_page()
        page.goto(f"{site.url}/")
        expect_login_page(page)
        assert stored(page)["local"] is None


def test_logs_a_tab_in_that_waits_at_the_login_page(context: BrowserContext, site: Site) -> None:
    waiting = context.new_page()
    waiting.goto(f"{site.url}/api/queue")
    expect_login_page(waiting)
    log_in(context.new_page(), site.url, site.key)
    expect(waiting).to_have_url(f"{site.url}/api/queue")
