"""ComfyUI with keys that may not do everything: what they may see is there, and the page says what they may not do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from frontends import PICTURE, Frontend, drop_picture, load, menu_entry, run, wait_for_preview, wait_until_up
from login import expect_login_page, log_in, stored
from playwright.sync_api import Browser, expect
from screens import shoot
from sites import Serve, Site
from traffic import Traffic

LOOKS = "a-key-that-may-look-of-32-characters-or-more"
WORKS = "a-key-that-may-work-of-32-characters-or-more"


@pytest.fixture(scope="module")
def comfyui(serve: Serve, frontend: Frontend) -> Iterator[Site]:
    """The owner made a picture and saved a workflow. One key may look, and another may work.

    The second key's label contains what the frontend's menu takes for markup.
    """
    with serve(frontend=frontend) as site:
        site.set_keys(
            f"{site.key} owner",
            f"{LOOKS} Wall display scope=view",
            f"{WORKS} ann@example.com {{a|b}} scope=run,nodes",
        )
        ask_as_owner(site, "/api/prompt", {"prompt": PICTURE})
        workflow = {"version": 0.4, "last_node_id": 0, "last_link_id": 0, "nodes": [], "links": []}
        ask_as_owner(site, "/api/userdata/workflows%2Fwalk.json", workflow)
        yield site


def ask_as_owner(site: Site, path: str, body: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {site.key}", "Content-Type": "application/json"}
    urlopen(Request(site.url + path, json.dumps(body).encode(), headers)).close()


class Desk:
    """ComfyUI, opened with one of the keys."""

    def __init__(self, browser: Browser, site: Site, key: str) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
        self.traffic = Traffic(self.context)
        self.page = self.context.new_page()
        self.site = site
        self.key = key
        log_in(self.page, site.url, key, path="/")
        wait_until_up(self.page)
        self.traffic.mark()

    def expect_peace(self) -> None:
        """Nothing loops, opens again or logs out: within ten seconds, two are quiet."""
        for _ in range(5):
            before = len(self.traffic.requests)
            self.page.wait_for_timeout(2000)
            late = [request.url for request in self.traffic.requests[before:]]
            if not late:
                break
        assert late == []
        expect(self.page.get_by_role("dialog")).to_have_count(0)
        assert re.fullmatch(re.escape(self.site.url) + r"/(#.*)?", self.page.url)
        kept = stored(self.page)
        assert (kept["local"], kept["session"], len(kept["cookies"])) == (None, self.key, 1)

    def close(self) -> None:
        self.context.close()
        assert not self.traffic.own_errors()
        assert not self.traffic.dialogs()


@pytest.fixture(scope="module")
def wall(browser: Browser, comfyui: Site) -> Iterator[Desk]:
    """ComfyUI with the key that may look."""
    desk = Desk(browser, comfyui, LOOKS)
    yield desk
    desk.close()


def test_a_key_that_may_look_sees_pictures_queue_and_workflows(wall: Desk, frontend: Frontend) -> None:
    page = wall.page
    assert wall.traffic.refused() == [], "by opening ComfyUI"
    page.get_by_role("button", name=frontend.panel).click()
    thumbnail = page.get_by_alt_text("picture_0").first
    expect(thumbnail).to_be_visible()
    assert thumbnail.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 320
    page.get_by_role("button", name=frontend.panel).click()
    page.keyboard.press("w")
    page.get_by_text(re.compile(r"^\s*walk(\.json)?\s*$")).first.click()
    page.wait_for_function("app.extensionManager.workflow.activeWorkflow.path === 'workflows/walk.json'")
    shoot(page, f"may-look-{frontend.name}")
    page.keyboard.press("w")
    for path in ("/api/queue", "/api/history", "/api/object_info", "/api/settings", "/internal/files/output"):
        assert page.evaluate("async (path) => (await fetch(path)).status", path) == 200, path
    assert wall.traffic.refused() == []
    wall.expect_peace()


def test_a_setting_that_a_key_may_not_save_says_nothing(wall: Desk) -> None:
    """The frontend also saves settings by itself."""
    page, traffic = wall.page, wall.traffic
    traffic.mark()
    with page.expect_response(lambda it: "/api/settings/" in it.url and it.request.method == "POST") as answer:
        page.evaluate("() => void app.extensionManager.setting.set('Comfy.Minimap.Visible', true)")
    assert answer.value.status == 403
    wall.expect_peace()
    expect(page.get_by_role("alert").filter(has_text=re.compile(r"\S"))).to_have_count(0)
    assert [(status, method) for status, method, _ in traffic.refused()] == [(403, "POST")]


def test_a_key_that_may_look_is_told_at_run(wall: Desk, frontend: Frontend) -> None:
    page, traffic = wall.page, wall.traffic
    load(page, PICTURE)
    traffic.mark()
    run(page)
    dialog = page.get_by_role("dialog")
    told = dialog.get_by_text('The API key "Wall display" may only view: its scope is view, and this needs run')
    expect(told.first).to_be_visible()
    shoot(page, f"may-only-look-{frontend.name}")
    page.keyboard.press("Escape")
    wall.expect_peace()
    assert traffic.statuses("/api/prompt") == {403}
    assert traffic.statuses("/auth_session") == set(), "it asked whether the key is still valid"


def test_the_menu_names_the_key(wall: Desk, frontend: Frontend) -> None:
    expect(menu_entry(wall.page, "Log out")).to_have_text("Log out (\u2068Wall display\u2069)")
    shoot(wall.page, f"may-look-menu-{frontend.name}")
    wall.page.keyboard.press("Escape")


def test_a_key_that_may_work_works(browser: Browser, comfyui: Site, frontend: Frontend, tmp_path: Path) -> None:
    desk = Desk(browser, comfyui, WORKS)
    page = desk.page
    load(page, PICTURE)
    run(page)
    wait_for_preview(page)
    page.evaluate("() => app.extensionManager.workflow.saveWorkflow(app.extensionManager.workflow.activeWorkflow)")
    name = page.evaluate("app.extensionManager.workflow.activeWorkflow.path")
    assert (comfyui.tree / "user" / "default" / name).is_file()
    page.evaluate("() => app.extensionManager.setting.set('Comfy.Minimap.Visible', true)")

    drop_picture(page, comfyui.tree, tmp_path)

    ask = "async ([method, path]) => (await fetch(path, { method, body: method === 'POST' ? '{}' : null })).status"
    assert page.evaluate(ask, ["GET", "/witness/boom"]) == 200, "a route of a custom node"
    assert desk.traffic.refused() == []
    assert page.evaluate(ask, ["POST", "/api/free"]) == 403
    assert page.evaluate(ask, ["GET", "/internal/logs"]) == 403
    desk.expect_peace()

    log_out = menu_entry(page, "Log out")
    expect(log_out).to_have_text("Log out (\u2068ann\uff20example.com \uff5ba\uff5cb\uff5d\u2069)")
    shoot(page, f"may-work-menu-{frontend.name}")
    log_out.click()
    expect_login_page(page)
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    desk.close()
