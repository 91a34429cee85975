"""The login page, as a person uses it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

LOGIN_PAGE = re.compile(r"/auth_login\.html(\?|$)")


def key_field(page: Page) -> Locator:
    return page.get_by_label("API key", exact=True)


def expect_page(page: Page, url: str) -> None:
    """The page at `url` is shown, and its scripts have run. A browser shows the address before it has read them."""
    expect(page).to_have_url(url)
    page.wait_for_load_state("domcontentloaded")


def expect_comfyui(page: Page, url: str) -> None:
    """ComfyUI's page is at `url`, not one of ours that logs in at the same address and would leave no key there."""
    expect(page).to_have_url(url)
    expect(page.locator("script[src$='auth_inject.js']")).to_be_attached()
    expect_page(page, url)  # again: a page of ours may have been at this address, and have led to another one


def expect_login_page(page: Page) -> None:
    """The login page is shown, and not what it protects."""
    expect(page).to_have_url(LOGIN_PAGE)
    expect(key_field(page)).to_be_visible()


def submit(page: Page, key: str, *, remember: bool = False) -> None:
    """Fill in the form and send it."""
    key_field(page).fill(key)
    page.get_by_label("Remember me").set_checked(remember)
    page.get_by_role("button", name="Login").click()


def log_in(page: Page, url: str, key: str, *, path: str = "/api/queue", remember: bool = False) -> None:
    """Open `path` of the server at `url`, be led to the login page, and be led back. The default needs no frontend."""
    page.goto(url + path)
    expect_login_page(page)
    submit(page, key, remember=remember)
    expect_page(page, url + path)


def stored(page: Page) -> dict[str, Any]:
    """What the browser keeps after a login on this page."""
    return {
        "local": page.evaluate("localStorage.getItem('comfyui_api_key')"),
        "session": page.evaluate("sessionStorage.getItem('comfyui_api_key')"),
        "cookies": [cookie["name"] for cookie in page.context.cookies(page.url)],
    }


NOTHING: dict[str, Any] = {"local": None, "session": None, "cookies": []}
