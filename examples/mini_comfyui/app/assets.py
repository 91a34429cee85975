"""Files of the input, output and model folders by id, with tags. Kept in memory, so a restart loses the tags."""

import hashlib
import json
import mimetypes
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

import folder_paths
from comfy.cli_args import args

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

# What a browser would run; only offered as a download.
ACTIVE_ENDINGS = ("html", "xml", "javascript", "css")


@dataclass
class Asset:
    """One name of a file."""

    file: Path
    name: str
    tags: list[str]
    metadata: Json = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)

    @property
    def hash(self) -> str:
        """A hash of the file's bytes."""
        return f"sha256:{hashlib.sha256(self.file.read_bytes()).hexdigest()}"

    def describe(self) -> Json:
        """As JSON for the frontend."""
        kind = mimetypes.guess_type(self.name)[0]
        size = self.file.stat().st_size
        about = {"id": self.id, "name": self.name, "tags": self.tags, "size": size, "mime_type": kind}
        return {**about, "user_metadata": self.metadata, "created_at": self.created}


class Assets:
    """Found by a scan, or uploaded."""

    def __init__(self) -> None:
        self.known: dict[str, Asset] = {}
        self.scanned = 0

    def scan(self, roots: tuple[str, ...] = ("models", "input", "output")) -> None:
        """Add what is new, with the folder's name as its tag."""
        taken = {asset.file for asset in self.known.values()}
        for root in roots:
            folder = folder_paths.models_dir if root == "models" else folder_paths.get_directory_by_type(root)
            files = sorted(folder.rglob("*")) if folder else []
            for file in (file for file in files if file.is_file()):
                self.scanned += 1
                if file not in taken:
                    self.add(Asset(file, file.name, [root]))

    def prune(self) -> int:
        """Forget files that are gone. Returns how many there were."""
        gone = [asset.id for asset in self.known.values() if not asset.file.is_file()]
        for asset_id in gone:
            del self.known[asset_id]
        return len(gone)

    def add(self, asset: Asset) -> Asset:
        self.known[asset.id] = asset
        return asset

    def find(self, request: web.Request) -> Asset:
        """The asset that the path names. Answers 404 if there is none."""
        asset = self.known.get(request.match_info["id"].lower())
        if asset is None or not asset.file.is_file():
            raise web.HTTPNotFound
        return asset

    def by_hash(self, value: str) -> Asset | None:
        present = (asset for asset in self.known.values() if asset.file.is_file())
        return next((asset for asset in present if asset.hash == value), None)

    def chosen(self, request: web.Request) -> list[Asset]:
        """The assets with all the tags and the part of a name that the query asks for."""
        self.scan()
        tags = [tag for text in request.query.getall("include_tags", []) for tag in text.split(",")]
        part = request.query.get("name_contains", "")
        return [a for a in self.known.values() if a.file.is_file() and {*tags} <= {*a.tags} and part in a.name]

    def store(self, form: Any) -> Asset:
        """Write an uploaded file where its tags say: into input, output, or the folder of one kind of model."""
        tags = json.loads(str(form.get("tags", "[]")))
        kinds = [tag.removeprefix("model_type:") for tag in tags if tag.startswith("model_type:")]
        places = [tag for tag in tags if tag in ("input", "output", "models")]
        upload = form.get("file")
        if not isinstance(upload, web.FileField) or len(places) != 1:
            raise web.HTTPBadRequest(text="a file, and one of the tags input, output and models, please")
        if places == ["models"]:
            if len(kinds) != 1 or kinds[0] not in folder_paths.MODEL_KINDS:
                raise web.HTTPBadRequest(text="a tag model_type:KIND, please")
            folder: Path | None = folder_paths.get_folder_paths(kinds[0])[0]
        else:
            folder = folder_paths.get_directory_by_type(places[0])
        assert folder is not None
        target = folder_paths.inside(folder, Path(upload.filename).name)
        if target is None or target == folder:
            raise web.HTTPBadRequest
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(upload.file.read())
        return self.add(Asset(target, str(form.get("name") or target.name), tags))

    def add_routes(self, app: web.Application) -> None:
        routes = web.RouteTableDef()

        @routes.head("/api/assets/hash/{hash}")
        async def head_hash(request: web.Request) -> web.Response:
            return web.Response(status=200 if self.by_hash(request.match_info["hash"]) else 404)

        @routes.get("/api/assets")
        async def list_assets(request: web.Request) -> web.Response:
            found = [asset.describe() for asset in self.chosen(request)]
            return web.json_response({"assets": found, "total": len(found), "has_more": False})

        @routes.get(f"/api/assets/{{id:{UUID}}}")
        async def get_asset(request: web.Request) -> web.Response:
            return web.json_response(self.find(request).describe())

        @routes.get(f"/api/assets/{{id:{UUID}}}/content")
        async def get_content(request: web.Request) -> web.StreamResponse:
            asset = self.find(request)
            kind = mimetypes.guess_type(asset.name)[0] or "application/octet-stream"
            shown = request.query.get("disposition") == "inline"
            if kind.partition(";")[0].endswith(ACTIVE_ENDINGS):
                kind, shown = "application/octet-stream", False
            headers = {"Content-Type": kind, "Content-Disposition": "inline" if shown else "attachment"}
            return web.FileResponse(asset.file, headers={**headers, "X-Content-Type-Options": "nosniff"})

        @routes.post("/api/assets/from-hash")
        async def post_from_hash(request: web.Request) -> web.Response:
            wish = await request.json()
            same = self.by_hash(wish["hash"])
            if same is None:
                raise web.HTTPNotFound
            asset = self.add(Asset(same.file, wish.get("name") or same.name, list(wish.get("tags", []))))
            return web.json_response({**asset.describe(), "created_new": False}, status=201)

        @routes.post("/api/assets")
        async def post_asset(request: web.Request) -> web.Response:
            asset = self.store(await request.post())
            return web.json_response({**asset.describe(), "created_new": True}, status=201)

        @routes.put(f"/api/assets/{{id:{UUID}}}")
        async def put_asset(request: web.Request) -> web.Response:
            asset, wish = self.find(request), await request.json()
            asset.name = wish.get("name") or asset.name
            asset.metadata = wish.get("user_metadata") or asset.metadata
            return web.json_response(asset.describe())

        @routes.delete(f"/api/assets/{{id:{UUID}}}")
        async def delete_asset(request: web.Request) -> web.Response:
            del self.known[self.find(request).id]  # the file stays
            return web.Response(status=204)

        @routes.get("/api/tags")
        async def get_tags(request: web.Request) -> web.Response:
            counted = Counter(tag for asset in self.known.values() for tag in asset.tags)
            found = [{"name": name, "count": count} for name, count in counted.most_common()]
            return web.json_response({"tags": found, "total": len(found), "has_more": False})

        @routes.post(f"/api/assets/{{id:{UUID}}}/tags")
        async def post_tags(request: web.Request) -> web.Response:
            asset, wish = self.find(request), await request.json()
            asset.tags = list(dict.fromkeys([*asset.tags, *wish["tags"]]))
            return web.json_response({"total_tags": asset.tags})

        @routes.delete(f"/api/assets/{{id:{UUID}}}/tags")
        async def delete_tags(request: web.Request) -> web.Response:
            asset, wish = self.find(request), await request.json()
            asset.tags = [tag for tag in asset.tags if tag not in wish["tags"]]
            return web.json_response({"total_tags": asset.tags})

        @routes.get("/api/assets/tags/refine")
        async def get_tags_refine(request: web.Request) -> web.Response:
            return web.json_response({"tag_counts": Counter(t for asset in self.chosen(request) for t in asset.tags)})

        @routes.post("/api/assets/seed")
        async def post_seed(request: web.Request) -> web.Response:
            wish = await request.json() if request.can_read_body else {}
            self.scan(tuple(wish.get("roots", ("models", "input", "output"))))
            return web.json_response({"status": "started"}, status=202)

        @routes.get("/api/assets/seed/status")
        async def get_seed_status(request: web.Request) -> web.Response:
            return web.json_response({"state": "IDLE", "progress": {"scanned": self.scanned}, "errors": []})

        @routes.post("/api/assets/seed/cancel")
        async def cancel_seed(request: web.Request) -> web.Response:
            return web.json_response({"status": "idle"})  # a scan is over before its answer is sent

        @routes.post("/api/assets/prune")
        async def post_prune(request: web.Request) -> web.Response:
            return web.json_response({"status": "completed", "marked": self.prune()})

        for route in routes:
            assert isinstance(route, web.RouteDef)
            app.add_routes([web.RouteDef(route.method, route.path, if_enabled(route.handler), route.kwargs)])


def if_enabled(handler: Any) -> Handler:
    """Answer 503 without --enable-assets."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if args.enable_assets:
            response: web.StreamResponse = await handler(request)
            return response
        error = {"code": "SERVICE_DISABLED", "message": "Start the server with --enable-assets.", "details": {}}
        return web.json_response({"error": error}, status=503)

    return answer
