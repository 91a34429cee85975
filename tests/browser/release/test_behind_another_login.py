"""Behind something that uses `Authorization` for itself: nginx with `auth_basic`, or nginx that sets a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from frontends import PICTURE, load, menu_entry, run, wait_for_preview, wait_until_up
from login import LOGIN_PAGE, NOTHING, expect_login_page, stored, submit
from playwright.sync_api import Browser, Page, expect
from sites import Serve, Site
from support import proxies
from support.client import ask
from support.keys import WRONG_KEY
from support.servers import free_port
from traffic import Traffic

_SITE = """
map $http_upgrade $connection_upgrade {{
    default upgrade;
    "" close;
}}
server {{
    listen 127.0.0.1:{port};
    {rules}
    location / {{
        proxy_pass {url};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        {fields}
    }}
}}
"""

_BASIC = 'auth_basic "in front"; auth_basic_user_file {folder}/users;'

#: What is in the `server` block, and what in its `location`. A renewed token is different in each request.
FRONTS = {
    "auth_basic": (_BASIC, ""),
    "auth_basic that keeps the field to itself": (_BASIC, 'proxy_set_header Authorization "";'),
    "a token": ("", 'proxy_set_header Authorization "Bearer a.b.c";'),
    "a token that is renewed": (
        "",
        'proxy_set_header Authorization "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.$request_id";',
    ),
}


@contextmanager
def front(name: str, folder: Path, url: str) -> Iterator[str]:
    """nginx in front of `url`; yields its origin."""
    rules, fields = FRONTS[name]
    port = free_port()
    (folder / "users").write_text("me:{PLAIN}hunter2\n")
    rules = rules.format(folder=folder)
    with proxies.nginx(folder, _SITE.format(port=port, url=url, rules=rules, fields=fields)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def own(serve: Serve) -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture(params=FRONTS)
def origin(request: pytest.FixtureRequest, own: Site, tmp_path: Path) -> Iterator[str]:
    with front(request.param, tmp_path, own.url) as origin:
        yield origin


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The page of a person who knows the password of the login in front."""
    credentials = {"username": "me", "password": "hunter2"}
    with browser.new_context(viewport={"width": 1280, "height": 800}, http_credentials=credentials) as context:  # type: ignore[arg-type]
        yield context.new_page()


def test_the_login_page_and_comfyui_work(own: Site, origin: str, page: Page) -> None:
    traffic = Traffic(page.context)
    page.goto(f"{origin}/")
    expect_login_page(page)
    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text("Wrong key. Check it and try again.")
    submit(page, own.key)
    wait_until_up(page)
    page.wait_for_function("() => comfyAPI.api.api.socket?.readyState === WebSocket.OPEN")
    load(page, PICTURE)
    run(page)
    wait_for_preview(page)
    assert stored(page)["session"] == own.key, "as the guide says"

    # A request that reaches the login in front with our header is asked again. From then on, the cookie does the work.
    status = """async () => {
      const request = new XMLHttpRequest();
      request.open("GET", "/api/queue");
      await new Promise((resolve) => { request.onloadend = resolve; request.send(); });
      const posted = await fetch("/api/free", { method: "POST", body: "{}" });
      return [request.status, (await fetch("/api/queue")).status, posted.status];
    }"""
    assert page.evaluate(status) == [200, 200, 200]
    assert page.evaluate("localStorage.getItem('comfyui_by_cookie')") == "true"
    traffic.mark()
    page.reload()
    wait_until_up(page)
    assert page.evaluate(status) == [200, 200, 200]
    assert traffic.refused() == []

    menu_entry(page, "Log out").click()
    expect_login_page(page)
    expect(page.get_by_role("status").filter(has_text="You are logged out.")).to_be_visible()
    assert stored(page) == NOTHING
    page.goto(f"{origin}/")
    expect_login_page(page)
    assert not traffic.dialogs()
    assert not traffic.own_errors()


def test_nobody_is_locked_out(own: Site, origin: str, page: Page) -> None:
    for _ in range(15):
        page.goto(f"{origin}/api/queue")
        expect(page).to_have_url(LOGIN_PAGE)
    submit(page, own.key)
    expect(page).to_have_url(f"{origin}/api/queue")
    assert ask(own.server, "/queue", {"X-API-Key": WRONG_KEY}).json["cause"] == "invalid_credential"


def test_an_xml_http_request_is_sent_again_in_every_way(own: Site, tmp_path: Path, page: Page) -> None:
    """The page sees one answer. The frontend has already sent a request, so each time we forget what it led to."""
    with front("auth_basic that keeps the field to itself", tmp_path, own.url) as origin:
        page.goto(f"{origin}/")
        submit(page, own.key)
        wait_until_up(page)
        once = """async ([asynchronous, early]) => {
          localStorage.removeItem("comfyui_by_cookie");
          const request = new XMLHttpRequest();
          const seen = [];
          const listen = () => {
            request.onreadystatechange = () => seen.push([request.readyState, request.status]);
            request.onload = () => seen.push("load");
          };
          if (early) listen();
          request.open("POST", "/api/free", asynchronous);
          if (!early) listen();
          request.setRequestHeader("Content-Type", "application/json");
          const done = new Promise((resolve) => { request.onloadend = resolve; });
          request.send("{}");
          if (asynchronous) await done;
          return [seen.filter((it) => it[0] !== 3), request.status, localStorage.getItem("comfyui_by_cookie")];
        }"""
        for asynchronous in (True, False):
            for early in (True, False):
                seen, status, marker = page.evaluate(once, [asynchronous, early])
                assert (status, marker) == (200, "true"), (asynchronous, early)
                states = [it for it in seen if it != "load"]
                assert seen.count("load") == 1
                assert all(status in (0, 200) for _, status in states), seen
                assert [state for state, _ in states].count(4) == 1
