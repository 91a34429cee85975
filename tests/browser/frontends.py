"""The real frontends, as a person uses them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from files import png
from playwright.sync_api import BrowserContext, Locator, Page, expect

#: `make test-browser` installs the newest frontend of PyPI here.
_NEWEST = Path(__file__).resolve().parents[2] / ".venv" / "frontends" / "newest" / "comfyui_frontend_package" / "static"

#: The node that makes a picture of one colour, and the one that saves it.
PICTURE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 320, "height": 200, "batch_size": 1, "color": 0x3399FF}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "picture"}},
}

#: Nothing covers the graph: no tour, no dialog about missing models, no map, no figures.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingNodesWarning": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}


@dataclass(frozen=True)
class Frontend:
    """A version of ComfyUI's frontend. `root` is its folder; None means the one that pip installed."""

    name: str
    root: Path | None
    #: The button of the panel that shows the results.
    panel: str
    #: How many clicks on a picture in that panel open it large.
    clicks: int

    @property
    def arguments(self) -> list[str]:
        """The flags that make a server serve it."""
        return [] if self.root is None else ["--front-end-root", str(self.root)]

    @property
    def is_missing(self) -> bool:
        """Whether it is not installed."""
        return self.root is not None and not self.root.is_dir()


PINNED = Frontend("pinned", None, "Queue (q)", 1)
NEWEST = Frontend("newest", _NEWEST, "Assets (a)", 2)

#: Each loaded graph has a number.
_NUMBERS = count(1)

_IS_UP = """() => {
  const manager = window.app?.vueAppReady && window.app.extensionManager;
  return manager && !manager.spinner && manager.workflow.activeWorkflow && app.graph && app.canvas;
}"""


def without_frontend(context: BrowserContext) -> None:
    """ComfyUI's page only, for tests that don't need its frontend, which takes seconds to load."""
    context.route(re.compile("/assets/"), lambda route: route.abort())


def wait_until_up(page: Page) -> None:
    """Wait for the frontend's own app: a workflow on its canvas."""
    page.wait_for_function(_IS_UP, timeout=90_000)  # milliseconds
    expect(page.locator("canvas.lgraphcanvas")).to_be_visible()


def load(page: Page, graph: dict[str, object]) -> None:
    """Open a graph (in the API's format) in its own tab, without pictures of an earlier run, and wait for the canvas.

    The name is new each time. If it were the open tab's name, the frontend would restore that tab's pictures and view.
    """
    name = f"graph-{next(_NUMBERS)}.json"
    page.evaluate("([graph, name]) => { app.clean(); return app.loadApiJson(graph, name); }", [graph, name])
    page.wait_for_function(
        "name => app.extensionManager.workflow.activeWorkflow.path.endsWith(`/${name}`)",
        arg=name,
    )
    # Opening a tab moves the view, in the next frame at the latest.
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def run(page: Page) -> None:
    """Press the Run button."""
    page.get_by_role("button", name="Run", exact=True).first.click()


def wait_for_preview(page: Page, width: int = 320, node: str = "SaveImage") -> None:
    """Wait until a node's preview shows a picture of this width, which means that it was decoded."""
    page.wait_for_function(
        """([type, width]) => {
          const node = (app.graph._nodes ?? app.graph.nodes).find((node) => node.type === type);
          return node?.imgs?.[0]?.naturalWidth === width;
        }""",
        arg=[node, width],
    )


def place(page: Page, node: str, dx: float = 60, dy: float = -12) -> tuple[float, float]:
    """Where on the screen a node's title (or what is `dx`, `dy` from its corner) is."""
    x, y = page.evaluate(
        """([type, dx, dy]) => {
          const { pos } = (app.graph._nodes ?? app.graph.nodes).find((node) => node.type === type);
          const [x, y] = app.canvas.ds.convertOffsetToCanvas([pos[0] + dx, pos[1] + dy]);
          const { left, top } = app.canvas.canvas.getBoundingClientRect();
          return [left + x, top + y];
        }""",
        [node, dx, dy],
    )
    return x, y


def node_menu(page: Page, node: str, entry: str) -> Locator:
    """Open a node's menu and return an entry."""
    page.mouse.click(*place(page, node), button="right")
    return page.locator("[role=menu], .litecontextmenu, .p-contextmenu").get_by_text(entry).last


def menu_entry(page: Page, entry: str) -> Locator:
    """Open ComfyUI's menu and return an entry."""
    page.locator("[data-testid=comfy-menu-button], .comfyui-logo-wrapper, .comfyui-logo").first.click()
    return page.get_by_role("menuitem", name=re.compile(entry)).first


def drop_picture(page: Page, tree: Path, folder: Path) -> None:
    """Drag a picture from `folder` onto a node, as a person does. It is shown, and ComfyUI, in `tree`, has it."""
    file = folder / "dropped.png"
    file.write_bytes(png(72, 48, (0x22, 0xAA, 0x55)))
    load(page, {"1": {"class_type": "LoadImage", "inputs": {}}})
    x, y = place(page, "LoadImage", dy=40)
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
    wait_for_preview(page, 72, "LoadImage")
    assert (tree / "input" / "dropped.png").read_bytes() == file.read_bytes()
