"""The login page is a plain form first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from login import expect_login_page, submit
from origins import Origin
from playwright.sync_api import Browser, BrowserContext, expect
from screens import shoot
from sites import Serve, Site
from support.keys import WRONG_KEY


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """JavaScript is off."""
    with browser.new_context(java_script_enabled=False, color_scheme="dark") as context:
        yield context


def test_the_form_logs_in_and_its_button_logs_out(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/")
    expect_login_page(page)

    submit(page, WRONG_KEY)
    expect_login_page(page)
    expect(page.get_by_text("Wrong key. Check it and try again.")).to_be_visible()
    shoot(page, "login-without-javascript")
    assert context.cookies() == []

    submit(page, site.key)
    expect(page).to_have_url(f"{site.url}/")
    (cookie,) = context.cookies()
    assert (cookie["expires"], cookie["httpOnly"], cookie["sameSite"]) == (-1, True, "Strict")
    page.goto(f"{site.url}/api/queue")
    expect(page).to_have_url(f"{site.url}/api/queue")

    page.goto(f"{site.url}/auth_login.html?logout=true")
    expect_login_page(page)
    expect(page.get_by_text("You are logged out.")).to_be_hidden()
    assert context.cookies() == [cookie]
    page.get_by_role("button", name="Log out").click()
    expect_login_page(page)
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    assert context.cookies() == []
    page.goto(f"{site.url}/")
    expect_login_page(page)


def test_the_form_remembers(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/")
    submit(page, site.key, remember=True)
    expect(page).to_have_url(f"{site.url}/")
    assert context.cookies()[0]["expires"] > 0


def test_the_form_says_when_there_were_too_many_wrong_keys(serve: Serve, context: BrowserContext) -> None:
    with serve() as site:
        page = context.new_page()
        page.goto(f"{site.url}/")
        for number in range(11):
            submit(page, f"{WRONG_KEY}-{number}")
        expect(page.get_by_text("Too many wrong keys from this address.")).to_be_visible()


def test_a_link_with_the_key_logs_in(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{site.url}/?api_key={site.key}", wait_until="commit")
    expect(page).to_have_url(f"{site.url}/")
    assert len(context.cookies()) == 1


def test_a_link_with_the_key_on_another_page_has_a_button(site: Site, context: BrowserContext, foreign: Origin) -> None:
    page = context.new_page()
    foreign.pages["/"] = f'<a href="{site.url}/?api_key={site.key}&kept">ComfyUI</a>'
    for at in (foreign.url, foreign.cross_site_url):
        page.goto(at)
        page.get_by_role("link").click()
        assert context.cookies() == []
        page.get_by_role("button", name="Log in as browser").click()
        expect(page).to_have_url(f"{site.url}/?kept")
        assert len(context.cookies()) == 1
        context.clear_cookies()
