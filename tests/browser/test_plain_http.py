"""Over plain HTTP at an address that isn't loopback, as in many a home: no secure context, no `Sec-Fetch-Site`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from frontends import PICTURE, load, menu_entry, run, wait_for_preview, wait_until_up
from login import NOTHING, expect_login_page, log_in, stored, submit
from origins import listening
from playwright.sync_api import Page, expect
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
