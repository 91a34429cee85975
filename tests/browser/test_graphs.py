"""Working with ComfyUI behind the login: run, look, save, upload, paint. No script can add a header to most of this.

The tab under test holds no key, only the session's cookie, like any second tab.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from files import png, wav
from frontends import PICTURE, Frontend, drop_picture, load, node_menu, run, wait_for_preview, wait_until_up
from login import log_in, stored
from playwright.sync_api import Browser, BrowserContext, Page, expect
from screens import shoot
from sites import Site
from traffic import Traffic

#: The colour of PICTURE, and another one.
BLUE = (0x33, 0x99, 0xFF)
GREEN = (0x22, 0xAA, 0x55)


@pytest.fixture(scope="module")
def context(browser: Browser, comfyui: Site) -> Iterator[BrowserContext]:
    """Logged in."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    first = context.new_page()
    log_in(first, comfyui.url, comfyui.key)
    first.close()
    yield context
    context.close()


@pytest.fixture(scope="module")
def traffic(context: BrowserContext) -> Traffic:
    return Traffic(context)


@pytest.fixture(scope="module")
def studio(context: BrowserContext, traffic: Traffic, comfyui: Site) -> Page:
    """ComfyUI, started once, because that takes longer than everything else."""
    page = context.new_page()
    page.goto(f"{comfyui.url}/")
    wait_until_up(page)
    kept = stored(page)
    assert (kept["local"], kept["session"], len(kept["cookies"])) == (None, None, 1)
    return page


@pytest.fixture
def page(studio: Page, traffic: Traffic) -> Iterator[Page]:
    """ComfyUI with a picture made and shown in its node. Nothing that happens here may ask for the key."""
    load(studio, PICTURE)
    run(studio)
    wait_for_preview(studio)
    yield studio
    studio.keyboard.press("Escape")
    assert traffic.refused() == []
    assert not traffic.own_errors()


def test_the_picture_is_shown_in_the_panel_and_large(page: Page, frontend: Frontend) -> None:
    page.get_by_role("button", name=frontend.panel).click()
    thumbnail = page.get_by_alt_text("picture_0").first
    expect(thumbnail).to_be_visible()
    shoot(page, f"panel-{frontend.name}")
    thumbnail.click(click_count=frontend.clicks)
    large = page.locator(".galleria-image, [role=dialog] img").last
    expect(large).to_be_visible()
    assert large.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 320
    shoot(page, f"lightbox-{frontend.name}")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    page.get_by_role("button", name=frontend.panel).click()


def test_the_picture_is_downloaded(page: Page, comfyui: Site) -> None:
    entry = node_menu(page, "SaveImage", "Save Image")
    with page.expect_download() as download:
        entry.click()
    saved = Path(download.value.path()).read_bytes()
    assert saved in [file.read_bytes() for file in (comfyui.tree / "output").glob("picture_*.png")]


def test_the_picture_opens_in_a_window_of_its_own(page: Page) -> None:
    entry = node_menu(page, "SaveImage", "Open Image")
    with page.expect_popup() as popup:
        entry.click()
    popup.value.wait_for_function("() => document.images[0]?.naturalWidth === 320")
    popup.value.close()


def test_a_picture_dropped_on_a_node_is_uploaded_and_shown(page: Page, comfyui: Site, tmp_path: Path) -> None:
    drop_picture(page, comfyui.tree, tmp_path)


def test_the_mask_editor_opens_paints_and_saves(page: Page, comfyui: Site, frontend: Frontend) -> None:
    (comfyui.tree / "input" / "to_paint.png").write_bytes(png(64, 48, GREEN))
    page.evaluate("() => app.refreshComboInNodes()")
    load(page, {"1": {"class_type": "LoadImage", "inputs": {"image": "to_paint.png"}}})
    wait_for_preview(page, 64, "LoadImage")
    node_menu(page, "LoadImage", "Open in MaskEditor").click()
    canvas = page.locator("#imageCanvas, #maskEditorCanvasContainer canvas").first
    expect(canvas).to_be_visible()
    page.wait_for_function(
        "([canvas, color]) => `${canvas.getContext('2d').getImageData(30, 20, 1, 1).data}` === color",
        arg=[canvas.element_handle(), ",".join(map(str, (*GREEN, 255)))],
    )
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3, steps=5)
    page.mouse.up()
    shoot(page, f"mask-editor-{frontend.name}")
    with page.expect_response(lambda it: "/upload/" in it.url and it.request.method == "POST") as saved:
        page.locator("button:visible", has_text=re.compile(r"^\s*Save\s*$")).last.click()
    assert saved.value.status == 200
    page.wait_for_function(
        """() => {
          const image = (app.graph._nodes ?? app.graph.nodes)[0].imgs?.[0];
          return image?.src.includes("clipspace") && image.naturalWidth === 64;
        }"""
    )
    expect(canvas).to_be_hidden()


#: Each loads something that needs the key, and says whether it got it. `blue` tells whether a canvas, or its context,
#: shows the picture.
LOADS = {
    "img": "const image = new Image(); image.src = picture; await image.decode(); return image.naturalWidth === 320",
    "img srcset": """
        const image = new Image(); image.srcset = `${picture} 1x`; await image.decode();
        return image.naturalWidth === 320""",
    "svg image": """
        const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
        image.setAttribute("href", picture);
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        svg.append(image); document.body.append(svg); return loaded(image)""",
    "video": """
        const video = document.createElement("video");
        video.src = clip; await loaded(video, "loadeddata"); return video.videoWidth === 64""",
    "video poster": """
        const video = document.createElement("video"); document.body.append(video);
        video.poster = picture; return fetched(picture)""",
    "audio": """
        const audio = new Audio(sound); await loaded(audio, "loadeddata"); return audio.duration > 0.2""",
    "css url()": """
        const box = document.createElement("div"); document.body.append(box);
        box.style.cssText = `width: 9px; height: 9px; background: url("${picture}")`; return fetched(picture)""",
    "link stylesheet": """
        const link = document.createElement("link"); link.rel = "stylesheet"; link.href = style;
        document.head.append(link); await loaded(link);
        return getComputedStyle(document.body).getPropertyValue("--from-link") === "yes" """,
    "css @import": """
        const style_ = document.createElement("style"); style_.textContent = `@import url("${style}");`;
        document.head.append(style_); await loaded(style_); return style_.sheet.cssRules[0].styleSheet !== null""",
    "link preload": """
        const link = document.createElement("link"); link.rel = "preload"; link.as = "image"; link.href = picture;
        document.head.append(link); return loaded(link)""",
    "import()": "return (await import(module)).answer === 42",
    "script": """
        const script = document.createElement("script"); script.type = "module"; script.src = module;
        document.head.append(script); return loaded(script)""",
    "worker": """
        const worker = new Worker(module, { type: "module" });
        return new Promise((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data === 42); worker.onerror = reject;
        })""",
    "iframe": """
        const frame = document.createElement("iframe"); frame.src = picture; document.body.append(frame);
        await loaded(frame); return fetched(picture)""",  # sandboxed: no other page can look into it
    "object": """
        const object = document.createElement("object"); object.type = "image/png"; object.data = picture;
        document.body.append(object); return loaded(object)""",
    "canvas": """
        const image = new Image(); image.crossOrigin = "anonymous"; image.src = picture; await image.decode();
        const context = canvas("2d"); context.drawImage(image, 0, 0);
        return isBlue(context.getImageData(0, 0, 1, 1).data)""",
    "createImageBitmap": """
        const bitmap = await createImageBitmap(await (await fetch(picture)).blob());
        const context = canvas("2d"); context.drawImage(bitmap, 0, 0);
        return isBlue(context.getImageData(0, 0, 1, 1).data)""",
    "texture": """
        const image = new Image(); image.crossOrigin = "anonymous"; image.src = picture; await image.decode();
        const gl = canvas("webgl"); const pixel = new Uint8Array(4);
        gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
        gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D,
          gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel); return isBlue(pixel)""",
    "XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("GET", picture); request.responseType = "blob";
        request.send(); await loaded(request); return request.response.type === "image/png" """,
    "sendBeacon": "return navigator.sendBeacon(free, '{}') && fetched(free)",
}

_HELPERS = """
    // Each load has an address of its own, so that no cache answers.
    const once = (path) => `${path}${path.includes("?") ? "&" : "?"}once=${Math.random()}`;
    const [picture, clip, sound, style, module, free] = paths.map(once);
    const loaded = (target, event = "load") => new Promise((resolve, reject) => {
      target.addEventListener(event, () => resolve(true));
      target.addEventListener("error", () => reject(new Error("it was not loaded")));
    });
    const fetched = async (path) => {
      const address = new URL(path, location.href).href;
      for (;;) {
        const [entry] = performance.getEntriesByName(address);
        if (entry) return entry.responseStatus === 200;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const canvas = (kind) => document.createElement("canvas").getContext(kind);
    const isBlue = (pixel) => `${Array.from(pixel)}` === "51,153,255,255";
    performance.setResourceTimingBufferSize(10000);
"""

_RECORD = """async () => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 64, height: 48 });
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  for (let frame = 0; frame < 10; frame++) {
    context.fillStyle = frame % 2 ? "red" : "blue";
    context.fillRect(0, 0, 64, 48);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  recorder.stop();
  await stopped;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""


@pytest.fixture(scope="module")
def paths(studio: Page, comfyui: Site) -> list[str]:
    """A picture, a film, a sound, a style sheet, a module, and a route that takes a POST: all behind the key."""
    return [
        comfyui.output("blue.png", png(320, 200, BLUE)),
        comfyui.output("clip.webm", base64.b64decode(studio.evaluate(_RECORD))),
        comfyui.output("sound.wav", wav()),
        comfyui.userdata("probe.css", "body { --from-link: yes; }"),
        "/api/witness/probe.js",
        "/api/free",
    ]


@pytest.mark.parametrize("kind", LOADS)
def test_what_no_script_can_add_a_header_to_loads_by_the_cookie(
    studio: Page, traffic: Traffic, paths: list[str], kind: str
) -> None:
    assert studio.evaluate(f"async (paths) => {{ {_HELPERS} {LOADS[kind]} }}", paths) is True
    assert traffic.refused() == []


def test_without_the_cookie_none_of_it_loads(browser: Browser, comfyui: Site, paths: list[str]) -> None:
    with browser.new_context() as stranger:
        page = stranger.new_page()
        page.goto(f"{comfyui.url}/auth_login.html")
        for kind, load_it in LOADS.items():
            script = f"async (paths) => {{ {_HELPERS} {load_it} }}"
            assert page.evaluate(f"(paths) => ({script})(paths).catch(() => false)", paths) is False, kind
