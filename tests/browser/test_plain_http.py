"""Over plain HTTP at an address that isn't loopback, as in many homes: no secure context, no `Sec-Fetch-Site`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from frontends import PICTURE, load, menu_entry, run, wait_for_preview, wait_until_up
from login import LOGIN_PAGE, NOTHING, expect_comfyui, expect_login_page, log_in, stored, submit
from origins import listening
from playwright.sync_api import Browser, Page, expect
from sites import Serve, Site
from support import network
from support.keys import WRONG_KEY
from traffic import Traffic


@pytest.fixture(scope="module")
def host() -> str:
    """This machine's address in its network."""
    address = network.address()
    if address is None:
        pytest.skip("this machine is in no network")
    return address


@pytest.fixture(scope="module")
def neighbour(serve: Serve, host: str) -> Iterator[Site]:
    """A server that listens there too."""
    with serve("--listen", f"127.0.0.1,{host}") as site:
        yield site


@pytest.fixture
def address(neighbour: Site, host: str) -> str:
    return f"http://{host}:{neighbour.server.port}"


def test_comfyui_works(neighbour: Site, address: str, page: Page, traffic: Traffic) -> None:
    page.goto(f"{address}/")
    expect_login_page(page)
    assert page.evaluate("isSecureContext") is False
    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text("Wrong key. Check it and try again.")
    traffic.mark()
    submit(page, neighbour.key)
    wait_until_up(page)
    load(page, PICTURE)
    run(page)
    wait_for_preview(page)
    assert not any("sec-fetch-site" in request.all_headers() for request in traffic.requests[-5:])
    assert page.context.cookies()[0]["secure"] is False
    assert traffic.refused() == []
    menu_entry(page, "Log out").click()
    expect_login_page(page)
    page.wait_for_load_state("networkidle")
    assert stored(page) == NOTHING
    page.go_back()
    expect_login_page(page)


#: Everything that a page can request, with and without its credentials.
ASK = """async () => {
  const done = (element, ...events) => new Promise((resolve) => {
    for (const event of events) element.addEventListener(event, resolve);
    document.body?.append(element);
  });
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  for (const credentials of ["include", "omit"]) {
    for (const path of ["/api/queue", "/health", "/auth_session", "/nothing"]) {
      for (const headers of [{}, { Authorization: "Bearer wrong" }, { Authorization: "Basic OndYb25n" }]) {
        await fetch(path, { credentials, headers });
      }
    }
  }
  await fetch("/api/prompt", { method: "POST", credentials: "omit", body: "{}" });
  const request = new XMLHttpRequest();
  request.open("GET", "/api/queue");
  await new Promise((resolve) => { request.onloadend = resolve; request.send(); });
  await done(make("img", { src: "/api/view?filename=x.png" }), "load", "error");
  await done(make("script", { src: "/api/userdata/x.js" }), "load", "error");
  await done(make("link", { rel: "stylesheet", href: "/api/userdata/x.css" }), "load", "error");
  await done(make("video", { src: "/api/view?filename=x.mp4" }), "error");
  await done(make("iframe", { src: "/api/queue" }), "load");
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws`);
  await new Promise((resolve) => { socket.onopen = socket.onerror = resolve; });
  socket.close();
}"""


def test_no_dialog_of_the_browser_opens(serve: Serve, named: Browser) -> None:
    with serve() as site, named.new_context() as context:
        url = f"http://comfy.example:{site.server.port}"
        traffic = Traffic(context)
        page = context.new_page()
        opened = watch_dialogs(page)
        page.goto(f"{url}/")
        expect_login_page(page)
        assert page.evaluate("isSecureContext") is False
        page.evaluate(ASK)
        submit(page, site.key)
        expect_comfyui(page, f"{url}/")
        page.evaluate(ASK)
        page.goto(f"{url}/auth_login.html?logout=true")
        expect(page.get_by_text("You are logged out.")).to_be_visible()
        assert stored(page) == NOTHING
        page.evaluate(ASK)
        for path in ("/", "/api/queue", "/api/view?filename=x.png", f"/api/queue?token={WRONG_KEY}", "/nothing"):
            page.goto(url + path)
            expect_login_page(page)
        page.go_back()
        page.reload()
        expect_login_page(page)
        assert len([status for status, _, _ in traffic.responses if status == 401]) > 40
        assert opened == traffic.dialogs() == []
        submit(page, site.key)
        expect(page).not_to_have_url(LOGIN_PAGE)
        assert page.evaluate("async () => (await fetch('/witness/challenge')).status") == 401
        assert opened == ["a custom node"], "the test would see such a dialog"


def watch_dialogs(page: Page) -> list[str]:
    """The realms for which the browser asks for a password, from now on."""
    realms: list[str] = []
    session = page.context.new_cdp_session(page)

    def on_auth(event: dict[str, Any]) -> None:
        realms.append(event["authChallenge"]["realm"])
        cancel = {"response": "CancelAuth"}
        session.send("Fetch.continueWithAuth", {"requestId": event["requestId"], "authChallengeResponse": cancel})

    def on_request(event: dict[str, Any]) -> None:
        session.send("Fetch.continueRequest", {"requestId": event["requestId"]})

    session.on("Fetch.authRequired", on_auth)
    session.on("Fetch.requestPaused", on_request)
    # Without the frontend's hundreds of modules, each of which would wait for this process.
    kinds = ("Document", "Fetch", "XHR", "Image", "Media", "Stylesheet", "Other")
    patterns = [*({"resourceType": kind} for kind in kinds), {"urlPattern": "*/api/*"}]
    session.send("Fetch.enable", {"handleAuthRequests": True, "patterns": patterns})
    return realms


def test_a_foreign_page_can_neither_write_nor_listen(neighbour: Site, host: str, address: str, page: Page) -> None:
    log_in(page, address, neighbour.key)
    opened = """(url) => new Promise((resolve) => {
      const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
      socket.onopen = () => resolve(true);
      socket.onerror = () => resolve(false);
    })"""
    post = "(url) => fetch(`${url}/api/free`, { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}' })"
    with listening(host) as foreign:
        foreign.pages["/"] = "<body></body>"
        page.goto(f"http://{host}:{foreign.port}/")
        before = len(neighbour.answers())
        page.evaluate(f"(url) => ({post})(url).then(() => null)", address)
        assert page.evaluate(opened, address) is False
        assert neighbour.answers()[before:] == [(403, "POST", "/api/free"), (403, "GET", "/ws")]
    page.goto(f"{address}/api/queue")
    assert page.evaluate(opened, address) is True
    page.evaluate(f"(url) => ({post})(url).then(() => null)", address)
    assert neighbour.answers()[-1] == (200, "POST", "/api/free")
