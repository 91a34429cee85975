"""The /internal app: for the frontend only, free to change."""

import shutil
from typing import TYPE_CHECKING

from aiohttp import web

import app.logger
import folder_paths

if TYPE_CHECKING:
    from server import PromptServer


class InternalRoutes:
    """Logs, and which files are in a folder."""

    def __init__(self, prompt_server: "PromptServer") -> None:
        self.prompt_server = prompt_server
        self.routes = web.RouteTableDef()
        self.subscribers: set[str] = set()
        app.logger.recent.listeners.append(self.send_log)

    def send_log(self, entry: app.logger.Entry) -> None:
        """Pass one log line to the clients that asked for them; a client that has gone is forgotten."""
        for client in [*self.subscribers]:
            if client not in self.prompt_server.sockets:
                self.subscribers.discard(client)
                continue
            self.prompt_server.send_sync("logs", {"entries": [entry], "size": terminal_size()}, client)

    def setup_routes(self) -> None:
        @self.routes.get("/logs")
        async def get_logs(request: web.Request) -> web.Response:
            return web.json_response("".join(f"{e['t']} - {e['m']}" for e in app.logger.recent.entries))

        @self.routes.get("/logs/raw")
        async def get_raw_logs(request: web.Request) -> web.Response:
            return web.json_response({"entries": list(app.logger.recent.entries), "size": terminal_size()})

        @self.routes.patch("/logs/subscribe")
        async def subscribe_logs(request: web.Request) -> web.Response:
            wish = await request.json()
            change = self.subscribers.add if wish["enabled"] else self.subscribers.discard
            change(wish["clientId"])
            return web.Response()

        @self.routes.get("/folder_paths")
        async def get_folder_paths(request: web.Request) -> web.Response:
            known = folder_paths.folder_names_and_paths.items()
            return web.json_response({kind: [str(path) for path in paths] for kind, (paths, _) in known})

        @self.routes.get("/files/{directory_type}")
        async def get_files(request: web.Request) -> web.Response:
            folder = folder_paths.get_directory_by_type(request.match_info["directory_type"])
            if folder is None:
                return web.json_response({"error": "Invalid directory type"}, status=400)
            files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
            files.sort(key=lambda file: -file.stat().st_mtime)
            return web.json_response([file.name for file in files])

    def get_app(self) -> web.Application:
        """Mounted as a sub-application, so it has no /api twins."""
        internal = web.Application()
        self.setup_routes()
        internal.add_routes(self.routes)
        return internal


def terminal_size() -> dict[str, int]:
    """The console panel draws with this size."""
    columns, lines = shutil.get_terminal_size()
    return {"cols": columns, "rows": lines}
