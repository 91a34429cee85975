"""The page of `comfy-auth-rs usage --html`: small screens, dark and light, paper, and no requests to elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from screens import shoot
from support.command import run

#: What would run, load or cover something if it weren't shown as text.
HOSTILE = (
    "<script>document.title = 'canary'</script>",
    "<img src=http://canary.example/1 onerror=\"document.title='canary'\">",
    "</title></svg><style>*{display:none}</style>",
    "\u202e\x1b[2J" + "W" * 200,
)


def events() -> Iterator[dict[str, Any]]:
    for day in range(1, 31):
        for number, label in enumerate([*HOSTILE, "alice laptop", "Bob", "render farm", "東京の工房", "مرحبا"]):
            who = {"key": f"{number:032x}", "label": label, "time": f"2026-11-{day:02}T12:00:00.000Z"}
            who |= {"user": "alice"} if number == 4 else {}
            used = {"seconds": 40 * (number + day % 7), "outputs": 2, "status": ("success", "error")[day % 5 == number]}
            yield {**who, "event": "prompt_finished", **used}
        yield {"time": f"2026-11-{day:02}T12:00:00.000Z", "event": "refused", "count": day % 4 + 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usage")
    (folder / "audit.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events()))
    result = run("usage", folder / "audit.jsonl", "--html", folder / "usage.html")
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "usage.html"


@contextmanager
def shown(browser: Browser, written: Path, width: int, scheme: Any) -> Iterator[Page]:
    """Checks what it requests and writes to the console, in every test."""
    with browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme) as context:
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(written.as_uri(), wait_until="networkidle")
        yield page
        assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
        assert said == []
        assert page.title() == "ComfyUI usage, 1 Nov 2026 to 30 Nov 2026"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_and_axe_finds_nothing(browser: Browser, written: Path, width: int, scheme: str) -> None:
    with shown(browser, written, width, scheme) as page:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(244, 245, 247)", "dark": "rgb(27, 28, 30)"}[scheme]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for element in page.locator(
            "h1, h2, header p, .tiles > div, .plot, .plot svg, .bars li, .legend li, .scroll"
        ).all():
            box = element.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["height"] > 10
        found = Axe().run(page).response
        assert len(found["passes"]) > 15
        assert [f"{rule['id']}: {rule['nodes'][0]['html']}" for rule in found["violations"]] == []
        shoot(page, f"usage-{width}-{scheme}")


def test_bars_are_as_high_as_their_figures(browser: Browser, written: Path) -> None:
    with shown(browser, written, 1280, "light") as page:
        figure = page.locator("figure").filter(has_text="Refused requests per day")
        heights = [bar.bounding_box()["height"] for bar in figure.locator("rect").all()]  # type: ignore[index]
        unit = heights[0] / 2  # two on the first day
        assert unit > 10
        assert heights == pytest.approx([(day % 4 + 1) * unit for day in range(1, 31)], abs=1)
        figure.locator("summary").click()
        rows = figure.locator("tbody tr").all_inner_texts()
        assert [row.split() for row in rows] == [[f"2026-11-{day:02}", str(day % 4 + 1)] for day in range(1, 31)]
        expect(figure.get_by_role("img")).to_have_accessible_name("Refused requests per day. Most: 4, 2026-11-03.")


def test_the_keyboard_reaches_what_scrolls(browser: Browser, written: Path) -> None:
    with shown(browser, written, 320, "dark") as page:
        table = page.get_by_role("region", name="Table: Use by key")
        table.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("element => element.scrollLeft > 0", arg=table.element_handle())


def test_it_can_be_printed(browser: Browser, written: Path) -> None:
    """Dark ink on white, whatever the screen shows; nothing beyond the edge."""
    with shown(browser, written, 680, "dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 30, 33)"
        assert page.evaluate("document.documentElement.scrollWidth") == 680
        expect(page.locator("summary").first).to_be_hidden()
        shoot(page, "usage-print")
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_it_can_be_read_in_forced_colors(browser: Browser, written: Path) -> None:
    with shown(browser, written, 1280, "dark") as page:
        page.emulate_media(forced_colors="active")
        fills = {bar.evaluate("bar => getComputedStyle(bar).fill") for bar in page.locator(".plot rect").all()[:60]}
        assert len(fills) > 5
        shoot(page, "usage-forced-colors")
