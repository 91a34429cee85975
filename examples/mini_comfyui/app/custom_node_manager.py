"""What custom nodes bring besides nodes: example workflows, subgraphs, translations."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiohttp import web

import folder_paths

Json = dict[str, Any]
EXAMPLES = "example_workflows"


class CustomNodeManager:
    """Reads custom_nodes at each request: there are few folders, and authors edit them while it runs."""

    def add_routes(
        self, routes: web.RouteTableDef, webapp: web.Application, modules: Iterable[tuple[str, Path]]
    ) -> None:
        for name, folder in modules:
            if (folder / EXAMPLES).is_dir():
                webapp.add_routes([web.static(f"/api/workflow_templates/{name}", folder / EXAMPLES)])

        @routes.get("/workflow_templates")
        async def get_workflow_templates(request: web.Request) -> web.Response:
            found: dict[str, list[str]] = {}
            for file in _files(f"*/{EXAMPLES}/*.json"):
                found.setdefault(file.parents[1].name, []).append(file.stem)
            return web.json_response(found)

        @routes.get("/global_subgraphs")
        async def get_global_subgraphs(request: web.Request) -> web.Response:
            found = {key: _subgraph(file) for key, file in _subgraph_files().items()}
            return web.json_response(found)

        @routes.get("/global_subgraphs/{id}")
        async def get_global_subgraph(request: web.Request) -> web.Response:
            file = _subgraph_files().get(request.match_info["id"])
            data = {**_subgraph(file), "data": file.read_text(encoding="utf-8")} if file else None
            return web.json_response(data)

        @routes.get("/node_replacements")
        async def get_node_replacements(request: web.Request) -> web.Response:
            return web.json_response({})  # none of the nodes here ever had another name

        @routes.get("/i18n")
        async def get_i18n(request: web.Request) -> web.Response:
            languages: dict[str, Json] = {}
            for file in _files("*/locales/*/*.json"):
                words = json.loads(file.read_text(encoding="utf-8"))
                words = words if file.stem == "main" else {file.stem: words}
                _merge(languages.setdefault(file.parent.name, {}), words)
            return web.json_response(languages)


def _files(pattern: str) -> list[Path]:
    folders = folder_paths.get_folder_paths("custom_nodes")
    return [file for folder in folders for file in sorted(folder.glob(pattern))]


def _subgraph_files() -> dict[str, Path]:
    return {hashlib.sha256(str(file).encode()).hexdigest(): file for file in _files("*/subgraphs/*.json")}


def _subgraph(file: Path) -> Json:
    pack = f"custom_nodes.{file.parents[1].name}"
    return {"source": "custom_node", "name": file.stem, "info": {"node_pack": pack}}


def _merge(into: Json, more: Json) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
