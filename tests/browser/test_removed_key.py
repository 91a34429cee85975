"""A key is removed from the key file while its holder works."""

from __future__ import annotations

import pytest
from frontends import PICTURE, load, run, wait_for_preview, wait_until_up
from login import expect_login_page, log_in, stored, submit
from playwright.sync_api import Page, expect
from screens import shoot
from sites import Serve
from support.keys import OTHER_KEY


@pytest.mark.parametrize("remember", [False, True], ids=["session", "remembered"])
def test_says_why_and_leads_back_after_a_login_with_another_key(serve: Serve, page: Page, remember: bool) -> None:
    with serve() as site:
        log_in(page, site.url, site.key, path="/", remember=remember)
        wait_until_up(page)
        load(page, PICTURE)
        page.evaluate("location.hash = '#here'")
        page.wait_for_load_state("networkidle")
        site.set_keys(OTHER_KEY)
        # Nobody does anything: the socket is closed, and the page's next request is refused.
        expect_login_page(page)
        expect(page.get_by_text("Your key is no longer accepted. Enter a valid key to continue.")).to_be_visible()
        shoot(page, "login-key-removed")
        assert stored(page)["local"] is None
        assert stored(page)["session"] is None

        submit(page, OTHER_KEY, remember=remember)
        wait_until_up(page)
        expect(page).to_have_url(f"{site.url}/#here")
        run(page)
        wait_for_preview(page)
