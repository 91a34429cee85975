"""From `/` to ComfyUI: a wrong key, then the right one."""

from __future__ import annotations

from frontends import Frontend, wait_until_up
from login import NOTHING, expect_login_page, key_field, stored, submit
from playwright.sync_api import Page, expect
from sites import WRONG_KEY, Site
from traffic import Traffic


def test_a_wrong_key_is_refused_and_the_right_one_opens_comfyui(
    comfyui: Site, frontend: Frontend, page: Page, traffic: Traffic
) -> None:
    page.goto(f"{comfyui.url}/")
    expect_login_page(page)
    expect(key_field(page)).to_be_focused()

    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text("Wrong key. Check it and try again.")
    expect(key_field(page)).to_be_focused()
    assert stored(page) == NOTHING

    traffic.mark()
    submit(page, comfyui.key)
    wait_until_up(page)
    expect(page).to_have_url(f"{comfyui.url}/")
    assert traffic.statuses("/api/settings") == {200}
    assert traffic.statuses("/api/object_info") == {200}
    page.wait_for_function("() => comfyAPI.api.api.socket?.readyState === WebSocket.OPEN")
    assert any('"status"' in str(frame) for frame in traffic.frames), "its WebSocket told nothing"

    page.reload()
    wait_until_up(page)
    assert traffic.refused() == []
