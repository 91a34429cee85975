"""Nothing from elsewhere, nothing inline: under the policy that ComfyUI sets with `--disable-api-nodes`."""

from __future__ import annotations

from urllib.parse import urlsplit

from frontends import Frontend, wait_until_up
from login import expect_login_page, submit
from playwright.sync_api import Page, expect
from sites import Serve, Site
from support.keys import WRONG_KEY
from traffic import Traffic


def complaints(traffic: Traffic) -> list[str]:
    return [message.text for message in traffic.console if "Content Security Policy" in message.text]


#: The inline handlers of the page, and its scripts.
_INLINE = """() => [...document.querySelectorAll("*")].flatMap((element) => [
  ...element.getAttributeNames().filter((name) => name.startsWith("on")),
  ...(element.matches("script:not([src])") ? ["script"] : []),
])"""


def test_works_under_the_policy_of_comfyui(serve: Serve, frontend: Frontend, page: Page, traffic: Traffic) -> None:
    with serve("--disable-api-nodes", frontend=frontend) as site:
        page.goto(f"{site.url}/")
        expect_login_page(page)
        submit(page, WRONG_KEY)
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate(_INLINE) == []
        paths = {urlsplit(url).path for _, _, url in traffic.responses}
        assert paths == {"/", "/auth_login.html", "/auth_login.js", "/auth_session", "/health"}
        assert traffic.foreign(site.url) == []
        assert complaints(traffic) == []

        submit(page, site.key)
        wait_until_up(page)
        # ComfyUI's own policy keeps its frontend from asking its makers for news, which the browser reports.
        assert [text for text in complaints(traffic) if "api.comfy.org" not in text] == []


def test_the_login_page_has_a_policy_of_its_own(site: Site, page: Page, traffic: Traffic) -> None:
    answer = page.goto(f"{site.url}/auth_login.html")
    assert answer
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert traffic.foreign(site.url) == []
    assert complaints(traffic) == []
