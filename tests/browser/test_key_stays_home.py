"""The script in ComfyUI's page adds the key to requests for its own server, and to no others."""

from __future__ import annotations

import pytest
from login import log_in
from origins import Origin
from playwright.sync_api import BrowserContext, Page
from sites import Site
from traffic import Traffic

#: Each sends a request that ends at `other`, some by a redirect of our own server.
REQUESTS = {
    "fetch": "await fetch(other)",
    "fetch of a URL": "await fetch(new URL(other))",
    "fetch of a Request": "await fetch(new Request(other, { method: 'POST', body: 'x' }))",
    "fetch with credentials": "await fetch(other, { credentials: 'include' })",
    "fetch with options": "await fetch(other, { method: 'PUT', headers: { 'X-Mine': '1' }, body: 'x' })",
    "fetch without a scheme": "await fetch(other.replace('http:', ''))",
    "fetch of a look-alike": "await fetch(`${other}/?${location.origin}/`)",
    "fetch from another base": """
        const base = Object.assign(document.createElement("base"), { href: `${other}/folder/` });
        document.head.prepend(base); try { await fetch("queue"); } finally { base.remove(); }""",
    "fetch, redirected": "await fetch(`/witness/redirect?to=${other}`)",
    "fetch of a Request, redirected": "await fetch(new Request(`/api/witness/redirect?to=${other}`))",
    "fetch with POST, redirected": "await fetch(`/witness/redirect?to=${other}`, { method: 'POST', body: 'x' })",
    "fetch no-cors, redirected": "await fetch(`/witness/redirect?to=${other}`, { mode: 'no-cors' })",
    "XMLHttpRequest": "await send('GET', other)",
    "XMLHttpRequest with POST": "await send('POST', other, 'x')",
    "XMLHttpRequest with credentials": "await send('GET', other, null, { withCredentials: true })",
    "XMLHttpRequest, redirected": "await send('GET', `/witness/redirect?to=${other}`)",
    "XMLHttpRequest with POST, redirected": "await send('POST', `/api/witness/redirect?to=${other}`, 'x')",
    "synchronous XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("GET", other, false); request.send()""",
    "sendBeacon": "navigator.sendBeacon(other, 'x')",
    "img": "await new Promise((resolve) => { const i = new Image(); i.onload = i.onerror = resolve; i.src = other; })",
    "img, redirected": """
        await new Promise((resolve) => {
          const image = new Image(); image.onload = image.onerror = resolve;
          image.src = `/witness/redirect?to=${other}`;
        })""",
    "window.open": "window.open(other)",
}

_SEND = """
    const send = (method, address, body = null, properties = {}) => new Promise((resolve) => {
      const request = Object.assign(new XMLHttpRequest(), properties);
      request.open(method, address); request.onloadend = resolve; request.send(body);
    });
"""


@pytest.mark.parametrize("remember", [False, True], ids=["session", "remembered"])
def test_no_other_origin_ever_gets_the_key(
    context: BrowserContext, site: Site, foreign: Origin, traffic: Traffic, page: Page, remember: bool
) -> None:
    log_in(page, site.url, site.key, path="/", remember=remember)
    for kind, script in REQUESTS.items():
        foreign.received.clear()
        page.evaluate(f"async (other) => {{ {_SEND} {script} }}", foreign.url)
        for _ in range(400):
            if foreign.received:
                break
            page.wait_for_timeout(25)
        assert foreign.received, f"{kind}: it never came"
        assert site.key not in "".join(foreign.received), kind
        assert "authorization:" not in "".join(foreign.received).lower(), kind
    # The frontend asks its makers' servers for news.
    assert traffic.leaks([site.key], [site.url]) == []


def test_its_own_server_gets_the_key(site: Site, page: Page) -> None:
    log_in(page, site.url, site.key, path="/")
    page.context.clear_cookies()
    for address in ("'/api/queue'", "new URL('/api/queue', location)", "new Request('/api/queue')", "'api/queue?x'"):
        assert page.evaluate(f"async () => (await fetch({address}, {{ credentials: 'omit' }})).status") == 200
    assert (
        page.evaluate(
            """() => {
          const request = new XMLHttpRequest();
          request.open("GET", "/api/queue", false);
          request.send();
          return request.status;
        }"""
        )
        == 200
    )
