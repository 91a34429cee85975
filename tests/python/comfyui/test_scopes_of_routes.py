"""Every route of a ComfyUI is in the table of scopes: tested on the miniature, and on the one that `COMFYUI_DIR` names.

With `COMFYUI_MANAGER`, a folder that `pip install --target FOLDER comfyui-manager` filled, also the package's routes.
With `COMFYUI_MANAGER_NODE`, a folder with the sources of the custom node, also the routes in these sources: the node
isn't started, because it would run pip.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from comfy_auth_rs._core import scope_of
from support.keys import KEY
from support.servers import WITNESS, start_real, start_server
from support.sweep import OURS

MANAGER = os.environ.get("COMFYUI_MANAGER")
MANAGER_NODE = os.environ.get("COMFYUI_MANAGER_NODE")

#: A custom node that writes down all routes, and where they come from, when the server starts.
SCRIBE = """\
import json
import os
from aiohttp import web
from comfy_auth_rs.comfyui.node_routes import origin_of_route
from server import PromptServer

async def write(app):
    found = [
        [
            route.method,
            route.resource.canonical,
            isinstance(route.resource, web.StaticResource),
            origin_of_route(app, route).value,
        ]
        for route in app.router.routes()
    ]
    with open(os.environ["SCRIBE"], "w") as file:
        json.dump(found, file)

PromptServer.instance.app.on_startup.append(write)
NODE_CLASS_MAPPINGS = {}
"""

#: Routes that the witness, a custom node, adds.
OF_THE_WITNESS = {"/my_outputs", "/extensions/witness/secret.js", "/witness/{name}"}

#: A row of the table in the Rust source.
ROW = re.compile(r'^    \("([A-Z]+)", *"([^"]+)", *\w+\),', re.MULTILINE)

#: A route that a Python source adds to ComfyUI's list.
ADDED = re.compile(r"routes\.(get|post|put|patch|delete)\([\"']([^\"']+)")


class Route(NamedTuple):
    """A route of a running ComfyUI."""

    method: str
    path: str
    is_folder: bool
    origin: str

    @property
    def plain(self) -> str:
        """The path without the prefix of the `/api` twin."""
        return self.path.removeprefix("/api")

    @property
    def scope(self) -> str | None:
        return scope_of(self.path, self.method, is_folder=self.is_folder)


def routes_of(kind: str, base: Path, *flags: str, path: str = "") -> list[Route]:
    """The routes of a protected server with the witness, without our own routes."""
    shutil.copytree(WITNESS, base / "custom_nodes" / "witness", ignore=shutil.ignore_patterns("__pycache__"))
    (base / "custom_nodes" / "scribe.py").write_text(SCRIBE)
    for name in ("input", "output", "user", "models"):
        (base / name).mkdir()
    # The Manager must not install anything into anyone's Python.
    offline = {"PIP_NO_INDEX": "1", "PIP_DRY_RUN": "1", "UV_OFFLINE": "1"}
    env = {"SCRIBE": str(base / "routes.json"), "PYTHONPATH": path, **offline}
    if kind == "real":
        starting = start_real(base, "--api-key", KEY, *flags, env=env)
    else:
        starting = start_server(base / "tree", "--base-directory", str(base), "--api-key", KEY, *flags, env=env)
    with starting:
        found = [Route(*route) for route in json.loads((base / "routes.json").read_text())]
    return [route for route in found if route.plain == "/" or route.plain not in OURS]


def set_up(kind: str, request: pytest.FixtureRequest, base: Path) -> Path:
    if kind == "miniature":
        tree = request.getfixturevalue("copy_miniature")()
        (base / "tree").symlink_to(tree, target_is_directory=True)
    elif "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    return base


KINDS = ("miniature", "real")


@pytest.fixture(scope="module")
def miniature(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    return routes_of("miniature", set_up("miniature", request, tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module", params=KINDS)
def routes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    if request.param == "miniature":
        return list(request.getfixturevalue("miniature"))
    return routes_of(request.param, set_up(request.param, request, tmp_path_factory.mktemp("base")))


def test_the_table_names_every_route(routes: list[Route]) -> None:
    unnamed = [route for route in routes if route.scope is None and route.plain not in OF_THE_WITNESS]
    assert unnamed == [], "src/scope.rs doesn't name these routes of ComfyUI"
    words = {route.scope for route in routes}
    assert words == {"view", "run", "all", None}
    print(f"\n{len(routes)} routes, {len({route.plain for route in routes})} paths, all named")


def test_whose_they_are(routes: list[Route]) -> None:
    of_the_node = {route.plain for route in routes if route.origin == "node"}
    assert of_the_node == OF_THE_WITNESS
    assert [route for route in routes if route.origin == "unknown"] == []


def test_a_twin_needs_what_its_route_needs(routes: list[Route]) -> None:
    needed = {(route.method, route.path): route.scope for route in routes}
    twins = {(method, path) for method, path in needed if (method, f"/api{path}") in needed}
    assert len(twins) > 50
    unequal = {one for one in twins if needed[one] != needed[one[0], f"/api{one[1]}"]}
    # Routes that ComfyUI itself registers below `/api` have a twin below `/api/api`.
    assert all(path.startswith("/api/jobs") for _, path in unequal)


def test_the_miniature_has_the_same_routes(routes: list[Route], miniature: list[Route]) -> None:
    def own(found: list[Route]) -> set[tuple[str, str]]:
        return {(route.method, route.plain) for route in found if route.plain not in OF_THE_WITNESS}

    # Newer versions serve templates with a route, older ones from a folder.
    missing = own(routes) - own(miniature) - {("GET", "/templates/{path}"), ("HEAD", "/templates/{path}")}
    assert missing == set()


def test_the_table_names_nothing_else(miniature: list[Route]) -> None:
    table = set(ROW.findall(Path(__file__).parents[3].joinpath("src", "scope.rs").read_text()))
    assert len(table) > 60
    has = {("GET" if route.method == "HEAD" else route.method, route.plain) for route in miniature}
    assert table - has == {("GET", "/templates/{path}")}


@pytest.mark.skipif(MANAGER is None, reason="COMFYUI_MANAGER names no folder that holds comfyui-manager")
@pytest.mark.parametrize("flags", [(), ("--enable-manager-legacy-ui",)], ids=["new", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_routes_of_the_package_manager(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, flags: tuple[str, ...]
) -> None:
    base = set_up(kind, request, tmp_path)
    tree = Path(os.environ["COMFYUI_DIR"]) if kind == "real" else base / "tree"
    if "--enable-manager" not in (tree / "comfy" / "cli_args.py").read_text():
        pytest.skip("this ComfyUI has no --enable-manager")
    found = routes_of(kind, base, "--enable-manager", *flags, path=str(MANAGER))
    # It is neither in a folder of custom nodes nor part of ComfyUI.
    of_the_manager = [route for route in found if route.origin == "unknown"]
    assert len(of_the_manager) > 40
    assert [route for route in of_the_manager if route.scope != "all"] == []
    assert [route for route in found if route.scope is None and route.plain not in OF_THE_WITNESS] == []


@pytest.mark.skipif(MANAGER_NODE is None, reason="COMFYUI_MANAGER_NODE names no ComfyUI-Manager")
def test_routes_of_the_manager_as_a_node() -> None:
    sources = [file.read_text("utf-8") for file in Path(str(MANAGER_NODE)).rglob("*.py")]
    found = {(method.upper(), path) for source in sources for method, path in ADDED.findall(source)}
    assert len(found) > 40
    assert {(method, path) for method, path in found if scope_of(path, method) != "all"} == set()
    assert {path for method, path in found if scope_of(f"/api{path}", method) != "all"} == set()
