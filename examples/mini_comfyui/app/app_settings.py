"""The frontend's settings, in user/default/comfy.settings.json."""

import json
import logging
from pathlib import Path
from typing import Any

from aiohttp import web

import folder_paths

Settings = dict[str, Any]


class AppSettings:
    """Reads and writes the whole file each time: it is small, and people edit it by hand."""

    @property
    def _file(self) -> Path:
        return folder_paths.get_user_directory() / "default" / "comfy.settings.json"

    def get_settings(self) -> Settings:
        """All settings; none when the file is missing or broken."""
        try:
            settings: Settings = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            logging.error("The user settings file is corrupted: %s", self._file)
            return {}
        return settings

    def save_settings(self, changes: Settings) -> None:
        """Change some settings, keep the others."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({**self.get_settings(), **changes}, indent=4), encoding="utf-8")

    def add_routes(self, routes: web.RouteTableDef) -> None:
        @routes.get("/settings")
        async def get_settings(request: web.Request) -> web.Response:
            return web.json_response(self.get_settings())

        @routes.get("/settings/{id}")
        async def get_setting(request: web.Request) -> web.Response:
            return web.json_response(self.get_settings().get(request.match_info["id"]))

        @routes.post("/settings")
        async def post_settings(request: web.Request) -> web.Response:
            self.save_settings(await request.json())
            return web.Response()

        @routes.post("/settings/{id}")
        async def post_setting(request: web.Request) -> web.Response:
            self.save_settings({request.match_info["id"]: await request.json()})
            return web.Response()
