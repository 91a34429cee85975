"""ComfyUI with a key that may queue one prompt an hour: the page tells the person when they may go on."""

from __future__ import annotations

import re

from frontends import PICTURE, Frontend, load, run, wait_for_preview, wait_until_up
from login import log_in
from playwright.sync_api import Browser, expect
from screens import shoot
from sites import Serve
from traffic import Traffic

GUEST = "a-key-of-a-guest-of-32-characters-or-more"


def test_a_person_reads_when_they_may_go_on(browser: Browser, serve: Serve, frontend: Frontend) -> None:
    with serve(frontend=frontend) as site:
        site.set_keys(f"{site.key} owner", f"{GUEST} guest scope=run,nodes prompts=1/h queued=2")
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
        traffic, page = Traffic(context), context.new_page()
        log_in(page, site.url, GUEST, path="/")
        wait_until_up(page)
        traffic.mark()
        load(page, PICTURE)
        run(page)
        wait_for_preview(page)
        expect(page.get_by_role("dialog")).to_have_count(0)

        page.evaluate("() => { (app.graph._nodes ?? app.graph.nodes)[0].widgets[0].value = 640; }")
        run(page)
        told = page.get_by_text(re.compile(r"Your limit is 1 prompt an hour; you may go on in (59|60) minutes")).first
        expect(told).to_be_visible()
        shoot(page, f"limit-{frontend.name}")
        assert traffic.statuses("/api/prompt") == {200, 429}
        assert traffic.statuses("/auth_session") == set(), "it asked whether the key is still valid"
        page.get_by_role("button", name="Close").last.click()
        expect(told).to_be_hidden()
        assert page.url.startswith(site.url) and "auth_login" not in page.url
        context.close()
        assert not traffic.own_errors()
        assert not traffic.dialogs()
