"""Browsers share cookies among the ports of a host; two servers there must not share a login."""

from __future__ import annotations

from login import expect_login_page, log_in
from playwright.sync_api import BrowserContext, expect
from sites import Serve, Site


def test_logged_in_to_two_servers_on_two_ports_at_once(site: Site, serve: Serve, context: BrowserContext) -> None:
    with serve() as other:
        first, second = context.new_page(), context.new_page()
        log_in(first, site.url, site.key)
        second.goto(f"{other.url}/api/queue")
        expect_login_page(second)
        log_in(second, other.url, other.key)
        for page, url in ((first, site.url), (second, other.url), (first, other.url), (second, site.url)):
            page.goto(f"{url}/api/queue")
            expect(page).to_have_url(f"{url}/api/queue")
        second.goto(f"{other.url}/auth_login.html?logout=true")
        second.wait_for_load_state("networkidle")
        first.goto(f"{site.url}/api/queue")
        expect(first).to_have_url(f"{site.url}/api/queue")
        first.goto(f"{other.url}/api/queue")
        expect_login_page(first)
