"""Links with the key in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from frontends import without_frontend
from login import expect_comfyui, expect_login_page, stored, submit
from origins import Origin
from playwright.sync_api import Page, expect
from screens import shoot
from sites import Serve, Site
from support.keys import WRONG_KEY
from traffic import Traffic


@pytest.fixture(scope="module")
def site_with_url_keys(serve: Serve) -> Iterator[Site]:
    with serve("--auth-url-key") as site:
        yield site


def history(page: Page) -> list[str]:
    """The addresses behind the tab's back and forward buttons."""
    return [entry["url"] for entry in page.context.new_cdp_session(page).send("Page.getNavigationHistory")["entries"]]


@pytest.mark.parametrize("name", ["api_key", "token"])
@pytest.mark.parametrize("opened", ["address bar", "link", "link of another site"])
def test_a_link_logs_in_and_leaves_no_key_behind(
    site: Site, page: Page, traffic: Traffic, foreign: Origin, name: str, opened: str
) -> None:
    has_frontend = opened == "address bar"  # what it asks for is looked at once
    if not has_frontend:
        without_frontend(page.context)
    link = f"{site.url}/?{name}={site.key}&kept=yes"
    if opened == "address bar":
        page.goto(link, wait_until="commit")
    else:
        foreign.pages["/"] = f'<a href="{link}">ComfyUI</a>'
        page.goto(foreign.url if opened == "link" else foreign.cross_site_url)
        page.get_by_role("link").click()
        button = page.get_by_role("button", name="Log in as browser", exact=True)
        expect(button).to_be_visible()
        expect(page).to_have_url(f"{site.url}/?kept=yes")
        shoot(page, "log-in-offered")
        assert Axe().run(page).response["violations"] == []
        button.click()
    expect_comfyui(page, f"{site.url}/?kept=yes")
    page.wait_for_load_state("networkidle")
    assert len(stored(page)["cookies"]) == 1
    assert site.key not in page.evaluate("document.referrer")
    assert not [url for url in history(page) if site.key in url]
    later = [request for request in traffic.requests if f"{name}=" not in request.url]
    assert any(request.url.endswith("/auth_inject.js") for request in later)
    assert len(later) > 10 or not has_frontend
    assert not [request.url for request in later if site.key in str(request.all_headers())]
    assert page.evaluate("async () => (await fetch('/api/queue')).status") == 200


def test_a_link_with_a_wrong_key_leads_to_the_login_page_without_it(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/?api_key={WRONG_KEY}&kept=yes")
    expect_login_page(page)
    assert WRONG_KEY not in page.url
    assert not [url for url in history(page) if WRONG_KEY in url]


@pytest.mark.parametrize("end", ["/", "", "/index.html"])
def test_a_key_in_the_path_logs_in_and_stays_in_no_address(
    site_with_url_keys: Site, page: Page, traffic: Traffic, end: str
) -> None:
    site = site_with_url_keys
    has_frontend = end == "/"
    if not has_frontend:
        without_frontend(page.context)
    page.goto(f"{site.url}/key/{site.key}{end}?kept=yes", wait_until="commit")
    expect_comfyui(page, f"{site.url}{end or '/'}?kept=yes")
    page.wait_for_load_state("networkidle")
    assert [cookie["path"] for cookie in page.context.cookies()] == ["/"]
    assert not [url for url in history(page) if site.key in url]
    later = [request for request in traffic.requests if "/key/" not in request.url]
    assert any(request.url.endswith("/auth_inject.js") for request in later)
    assert len(later) > 10 or not has_frontend
    assert len(traffic.requests) == len(later) + 1
    assert not [request.url for request in later if site.key in str(request.all_headers())]
    assert page.evaluate("async () => (await fetch('/api/queue')).status") == 200


def test_a_wrong_key_in_the_path_leads_to_the_login_page_without_it(site_with_url_keys: Site, page: Page) -> None:
    site = site_with_url_keys
    page.goto(f"{site.url}/key/{WRONG_KEY}/?kept=yes")
    expect_login_page(page)
    assert WRONG_KEY not in page.url
    submit(page, site.key)
    expect_comfyui(page, f"{site.url}/?kept=yes")
