"""Logging out, here and in all tabs."""

from __future__ import annotations

from contextlib import suppress

from axe_playwright_python.sync_playwright import Axe
from frontends import PICTURE, load, menu_entry, run, wait_until_up
from login import LOGIN_PAGE, NOTHING, expect_login_page, log_in, stored
from origins import Origin
from playwright.sync_api import BrowserContext, Error, Page, expect
from screens import shoot
from sites import Site
from traffic import Traffic

LOGGED_OUT = "You are logged out."


def open_comfyui(page: Page, site: Site) -> None:
    log_in(page, site.url, site.key, path="/")
    wait_until_up(page)


def expect_no_data(page: Page) -> None:
    """Neither the page nor the server reveals anything."""
    expect(page).to_have_url(LOGIN_PAGE)
    expect(page.locator("canvas.lgraphcanvas")).to_have_count(0)
    assert page.evaluate("async () => (await fetch('api/queue')).status") == 401


def test_logs_out_from_the_menu(comfyui: Site, page: Page) -> None:
    open_comfyui(page, comfyui)
    menu_entry(page, "Log out").click()
    expect_login_page(page)
    expect(page.get_by_role("status").filter(has_text=LOGGED_OUT)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert stored(page) == NOTHING
    page.go_back()
    expect_login_page(page)
    expect_no_data(page)


def test_logs_out_by_address(site: Site, context: BrowserContext, page: Page) -> None:
    log_in(page, site.url, site.key, remember=True)
    cookies = context.cookies()
    page.goto(f"{site.url}/auth_login.html?logout=true")
    expect(page.get_by_role("status").filter(has_text=LOGGED_OUT)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert stored(page) == NOTHING
    page.go_back()
    expect_login_page(page)
    expect_no_data(page)
    context.add_cookies([{key: cookie[key] for key in ("name", "value", "domain", "path")} for cookie in cookies])
    page.goto(f"{site.url}/api/queue")
    expect_login_page(page)


def test_a_log_out_ends_what_a_tab_keeps_that_shows_no_page_of_ours(site: Site, context: BrowserContext) -> None:
    first, second = context.new_page(), context.new_page()
    log_in(first, site.url, site.key)
    first.goto(f"{site.url}/health")
    assert stored(first)["session"] == site.key
    second.goto(f"{site.url}/auth_login.html?logout=true")
    expect(second.get_by_role("status").filter(has_text=LOGGED_OUT)).to_be_visible()
    first.goto(f"{site.url}/")
    expect_login_page(first)
    first.wait_for_load_state("networkidle")
    expect_login_page(first)
    assert stored(first) == NOTHING
    second.goto(f"{site.url}/api/queue")
    expect_login_page(second)
    assert stored(second) == NOTHING
    log_in(first, site.url, site.key)
    assert stored(first)["session"] == site.key, "the new log-in is valid"


def test_another_site_offers_a_log_out_and_a_click_makes_it(
    site: Site, page: Page, foreign: Origin, traffic: Traffic
) -> None:
    log_in(page, site.url, site.key)
    foreign.pages["/"] = f'<a href="{site.url}/auth_login.html?logout=true">Out</a>'
    page.goto(foreign.cross_site_url)
    page.get_by_role("link").click()
    button = page.get_by_role("button", name="Log out")
    expect(button).to_be_visible()
    shoot(page, "logout-offered")
    assert Axe().run(page).response["violations"] == []
    assert stored(page)["session"] == site.key
    button.click()
    expect(page.get_by_role("status").filter(has_text=LOGGED_OUT)).to_be_visible()
    expect(button).to_be_hidden()
    assert stored(page) == NOTHING
    assert site.answers()[-1] == (204, "DELETE", "/auth_session")


def test_other_tabs_are_led_to_the_login_page_at_once(site: Site, context: BrowserContext, page: Page) -> None:
    open_comfyui(page, site)
    second = context.new_page()
    second.goto(f"{site.url}/")
    wait_until_up(second)
    third = context.new_page()
    third.goto(f"{site.url}/auth_login.html?logout=true")
    for tab in (page, second):
        expect_login_page(tab)
        expect(tab.get_by_role("status").filter(has_text=LOGGED_OUT)).to_be_visible()
        assert stored(tab) == NOTHING


def test_other_tabs_are_led_to_the_login_page_at_their_next_request(site: Site, context: BrowserContext) -> None:
    first = context.new_page()
    log_in(first, site.url, site.key)
    second = context.new_page()
    second.goto(f"{site.url}/")
    wait_until_up(second)
    load(second, PICTURE)
    second.wait_for_load_state("networkidle")
    # Not by the page, so that nothing tells the other tabs.
    assert first.evaluate("async () => (await fetch('/auth_session', { method: 'DELETE' })).status") == 204
    with suppress(Error):  # its WebSocket ends within a second, which may lead it there first
        run(second)
    expect_login_page(second)
    expect(second.get_by_role("status").filter(has_text="Your session has ended.")).to_be_visible()
