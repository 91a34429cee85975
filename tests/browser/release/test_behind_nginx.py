"""Under a folder of an HTTPS server: paths, cookies, redirects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from frontends import PICTURE, load, menu_entry, run, wait_for_preview, wait_until_up
from login import NOTHING, expect_comfyui, expect_login_page, log_in, stored, submit
from origins import Origin
from playwright.sync_api import Browser, BrowserContext, Page, expect
from proxy import nginx
from sites import Serve, Site
from support.keys import WRONG_KEY
from traffic import Traffic

#: Everything that the frontends request at the host's root, whatever folder they are in (docs/deployment.md).
ROOT_ABSOLUTE = re.compile(r"/assets/images/favicon_progress_16x16/frame_\d\.png")


@pytest.fixture(scope="module")
def other(serve: Serve) -> Iterator[Site]:
    with serve() as other:
        yield other


@pytest.fixture(scope="module")
def origin(site: Site, other: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """nginx's origin, with two ComfyUIs, each with its own key, below /comfy/ and /other/."""
    servers = {"/comfy/": site.url, "/other/": other.url}
    with nginx(tmp_path_factory.mktemp("nginx"), servers) as origin:
        yield origin


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that accepts our own certificate."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="dark", ignore_https_errors=True
    )
    yield context
    context.close()


@pytest.fixture
def base(comfyui: Site, tmp_path: Path) -> Iterator[str]:
    """ComfyUI's own folder, with each of the frontends in turn."""
    with nginx(tmp_path, {"/comfy/": comfyui.url}) as origin:
        yield f"{origin}/comfy/"


def test_comfyui_works_below_a_folder(comfyui: Site, base: str, page: Page, traffic: Traffic) -> None:
    origin = base.removesuffix("/comfy/")
    page.goto(base)
    expect(page).to_have_url(f"{base}auth_login.html?next=%2F")
    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text("Wrong key. Check it and try again.")
    traffic.mark()
    submit(page, comfyui.key)
    wait_until_up(page)
    expect(page).to_have_url(base)

    (cookie,) = page.context.cookies(base)
    assert (cookie["path"], cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (
        "/comfy",
        True,
        True,
        "Strict",
    )
    assert page.context.cookies(origin) == []
    assert str(urlsplit(origin).port) in cookie["name"]

    load(page, PICTURE)
    run(page)
    wait_for_preview(page)
    page.reload()
    wait_until_up(page)
    second = page.context.new_page()
    second.goto(f"{base}api/queue")
    expect(second).to_have_url(f"{base}api/queue")
    assert traffic.refused() == []
    outside = {urlsplit(url).path for _, _, url in traffic.responses if url.startswith(origin)}
    assert [path for path in outside if not path.startswith("/comfy/") and not ROOT_ABSOLUTE.fullmatch(path)] == []

    menu_entry(page, "Log out").click()
    expect_login_page(page)
    page.wait_for_load_state("networkidle")
    assert stored(page) == NOTHING
    assert page.url.startswith(f"{base}auth_login.html")
    page.go_back()
    expect_login_page(page)
    second.reload()
    expect(second).to_have_url(f"{base}auth_login.html?next=%2Fapi%2Fqueue")


def test_deep_addresses_lead_to_the_login_page_and_back(site: Site, origin: str, page: Page) -> None:
    log_in(page, f"{origin}/comfy", site.key, path="/api/history/none?x=1&y=%2F")


def test_a_link_with_the_key_logs_in_below_a_folder(site: Site, origin: str, page: Page) -> None:
    page.goto(f"{origin}/comfy/?api_key={site.key}", wait_until="commit")
    expect_comfyui(page, f"{origin}/comfy/")
    assert page.context.cookies(f"{origin}/comfy/")[0]["path"] == "/comfy"


def test_links_of_another_site_below_a_folder(site: Site, origin: str, page: Page, foreign: Origin) -> None:
    log_in(page, f"{origin}/comfy", site.key)
    for spelling in ("/witness/boom", "/../other/witness/boom", "//witness/boom"):
        foreign.pages["/"] = f'<script>location = "{origin}/comfy/auth_login.html?next={spelling}"</script>'
        page.goto(foreign.cross_site_url, wait_until="commit")
        page.wait_for_url(re.compile("^https:"))
        page.wait_for_load_state("networkidle")
        assert "[boom]" not in site.server.output
    foreign.pages["/"] = f'<script>location = "{origin}/comfy/witness/boom"</script>'
    page.goto(foreign.cross_site_url, wait_until="commit")
    expect(page.get_by_role("link", name="Continue to /comfy/witness/boom", exact=True)).to_be_visible()
    page.context.clear_cookies()
    foreign.pages["/"] = f'<script>location = "{origin}/comfy/?api_key={site.key}"</script>'
    page.goto(foreign.cross_site_url, wait_until="commit")
    page.get_by_role("button", name="Log in as browser").click()
    expect_comfyui(page, f"{origin}/comfy/")
    assert page.context.cookies(f"{origin}/comfy/")[0]["path"] == "/comfy"


def test_two_servers_below_two_folders_keep_their_logins_apart(
    site: Site, other: Site, origin: str, context: BrowserContext, page: Page, traffic: Traffic
) -> None:
    log_in(page, f"{origin}/comfy", site.key, remember=True)
    second = context.new_page()
    log_in(second, f"{origin}/other", other.key, remember=True)
    # An origin has only one storage: it now holds the key of the other server.
    traffic.mark()
    page.goto(f"{origin}/comfy/")
    wait_until_up(page)
    load(page, PICTURE)
    run(page)
    wait_for_preview(page)
    assert traffic.refused() == []
    for tab, folder in ((page, "comfy"), (second, "other"), (page, "other"), (second, "comfy")):
        tab.goto(f"{origin}/{folder}/api/queue")
        expect(tab).to_have_url(f"{origin}/{folder}/api/queue")
    second.goto(f"{origin}/other/auth_login.html?logout=true")
    second.wait_for_load_state("networkidle")
    second.goto(f"{origin}/other/api/queue")
    expect_login_page(second)
    page.goto(f"{origin}/comfy/api/queue")
    expect(page).to_have_url(f"{origin}/comfy/api/queue")


def test_the_form_works_below_a_folder_without_javascript(browser: Browser, site: Site, origin: str) -> None:
    with browser.new_context(java_script_enabled=False, ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(f"{origin}/comfy/")
        expect(page).to_have_url(f"{origin}/comfy/auth_login.html?next=%2F")
        submit(page, site.key)
        expect(page).to_have_url(f"{origin}/comfy/")
        assert context.cookies(f"{origin}/comfy/")[0]["secure"]
