"""What the frontend keeps for its user: workflows, templates, settings; real files in user/default."""

import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

import folder_paths
from app.app_settings import AppSettings


class UserManager:
    """One user, "default", as ComfyUI without --multi-user."""

    def __init__(self) -> None:
        self.settings = AppSettings()
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def root(self) -> Path:
        """The user's folder."""
        return folder_paths.get_user_directory() / "default"

    def path(self, name: str) -> Path:
        """A file of the user's. Answers 403 for one outside the folder."""
        found = folder_paths.inside(self.root, unquote(name))
        if found is None:
            raise web.HTTPForbidden
        return found

    def existing(self, name: str) -> Path:
        """The same for a file that must exist; otherwise answers 404."""
        path = self.path(name)
        if not path.is_file():
            raise web.HTTPNotFound
        return path

    def describe(self, path: Path, request: web.Request) -> web.Response:
        """The file's name, or more if the query says ?full_info=true."""
        full = flag(request, "full_info")
        return web.json_response(file_info(path, self.root) if full else relative(path, self.root))

    def target(self, name: str, request: web.Request) -> Path:
        """A file to be written. Answers 409 if it exists and the query says ?overwrite=false."""
        path = self.path(name)
        if path.exists() and request.query.get("overwrite") == "false":
            raise web.HTTPConflict(text="File already exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add_routes(self, routes: web.RouteTableDef) -> None:
        self.settings.add_routes(routes)

        @routes.get("/users")
        async def get_users(request: web.Request) -> web.Response:
            return web.json_response({"storage": "server", "migrated": self.root.exists()})

        @routes.post("/users")
        async def post_users(request: web.Request) -> web.Response:
            """Remember the name, for a ComfyUI that is started with --multi-user in the same folders."""
            name = (await request.json())["username"].strip()
            file = folder_paths.get_user_directory() / "users.json"
            users = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            if not name or name in users.values():
                return web.json_response({"error": "Duplicate username." if name else "No name."}, status=400)
            user_id = f"{re.sub('[^a-zA-Z0-9-_]+', '-', name)}_{uuid.uuid4()}"
            file.write_text(json.dumps({**users, user_id: name}), encoding="utf-8")
            return web.json_response(user_id)

        @routes.get("/userdata")
        async def list_userdata(request: web.Request) -> web.Response:
            if not request.query.get("dir"):
                raise web.HTTPBadRequest(text="Directory not provided")
            folder = self.path(request.query["dir"])
            if not folder.is_dir():
                raise web.HTTPNotFound(text="Directory not found")
            found = folder.rglob("*") if flag(request, "recurse") else folder.iterdir()
            files = sorted(path for path in found if path.is_file())
            if flag(request, "full_info"):
                return web.json_response([file_info(path, folder) for path in files])
            names = [relative(path, folder) for path in files]
            return web.json_response([[n, *n.split("/")] for n in names] if flag(request, "split") else names)

        @routes.get("/v2/userdata")
        async def list_userdata_v2(request: web.Request) -> web.Response:
            folder = self.path(request.query.get("path", ""))
            if not folder.is_dir():
                raise web.HTTPNotFound(text="Requested path not found")
            return web.json_response([entry(path, self.root) for path in sorted(folder.rglob("*"))])

        @routes.get("/userdata/{file}")
        async def get_userdata(request: web.Request) -> web.StreamResponse:
            return web.FileResponse(self.existing(request.match_info["file"]))

        @routes.post("/userdata/{file}")
        async def post_userdata(request: web.Request) -> web.Response:
            path = self.target(request.match_info["file"], request)
            path.write_bytes(await request.read())
            return self.describe(path, request)

        @routes.delete("/userdata/{file}")
        async def delete_userdata(request: web.Request) -> web.Response:
            self.existing(request.match_info["file"]).unlink()
            return web.Response(status=204)

        @routes.post("/userdata/{file}/move/{dest}")
        async def move_userdata(request: web.Request) -> web.Response:
            source = self.existing(request.match_info["file"])
            target = self.target(request.match_info["dest"], request)
            shutil.move(source, target)
            return self.describe(target, request)


def flag(request: web.Request, name: str) -> bool:
    """Whether the query says NAME=true."""
    return request.query.get(name, "").lower() == "true"


def relative(path: Path, root: Path) -> str:
    """The path with forward slashes on every system."""
    return path.relative_to(root).as_posix()


def file_info(path: Path, root: Path) -> dict[str, Any]:
    """Sizes in bytes, times in seconds since 1970."""
    stat = path.stat()
    return {
        "path": relative(path, root),
        "size": stat.st_size,
        "modified": stat.st_mtime,
        "created": stat.st_ctime,
    }


def entry(path: Path, root: Path) -> dict[str, Any]:
    """A file or a folder in /v2/userdata."""
    about: dict[str, Any] = {"name": path.name, "path": relative(path, root)}
    if path.is_dir():
        return {**about, "type": "directory"}
    return {**about, "type": "file", "size": path.stat().st_size, "modified": path.stat().st_mtime}
