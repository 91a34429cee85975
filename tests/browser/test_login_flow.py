"""From `/` to ComfyUI: a wrong key, then the right one."""

from __future__ import annotations

from frontends import Frontend, load, menu_entry, run, wait_for_preview, wait_until_up
from login import NOTHING, expect_login_page, key_field, stored, submit
from playwright.sync_api import Page, expect
from screens import shoot
from sites import Site
from support.keys import WRONG_KEY
from traffic import Traffic

#: One picture with a frame, saved, and its negative, shown as a preview.
FRAMED = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 320, "height": 200, "batch_size": 1, "color": 0x2F6FB3}},
    "2": {"class_type": "Frame", "inputs": {"image": ["1", 0], "width": 16, "color": "goldenrod"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "framed"}},
    "4": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
}

#: For the screenshot: beside the menu, and side by side.
ARRANGE = """() => {
  const places = {
    EmptyImage: [240, 180, 270, 150], Frame: [560, 180, 270, 100], SaveImage: [880, 180, 270, 250],
    ImageInvert: [560, 490, 270, 30], PreviewImage: [880, 490, 270, 210],
  };
  for (const node of app.graph._nodes ?? app.graph.nodes) {
    const [x, y, width, height] = places[node.type];
    node.pos = [x, y];
    node.setSize([width, height]);
  }
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  app.graph.setDirtyCanvas(true, true);
}"""


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

    load(page, FRAMED)
    run(page)
    wait_for_preview(page, 352)
    wait_for_preview(page, 320, "PreviewImage")
    page.evaluate(ARRANGE)
    expect(menu_entry(page, "Log out")).to_be_visible()
    shoot(page, f"comfyui-{frontend.name}")

    page.reload()
    wait_until_up(page)
    assert traffic.refused() == []
