"""The HTTP server: middlewares, routes with /api twins, static folders and the WebSocket."""

import asyncio
import ipaddress
import json
import logging
import mimetypes
import socket
import ssl
import struct
import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path, PurePath
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import web

import comfy.model_management
import execution
import folder_paths
import nodes
from api_server.routes.internal.internal_routes import InternalRoutes
from app import frontend_management, image_files
from app.assets import Assets
from app.custom_node_manager import CustomNodeManager
from app.job_manager import JobManager
from app.model_manager import ModelFileManager
from app.user_manager import UserManager
from comfy.cli_args import args
from comfyui_version import __version__
from middleware.cache_middleware import cache_control
from protocol import BinaryEventTypes

if args.enable_manager:
    import comfyui_manager

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

# What a browser would run if it were shown and not saved: uploads must not become pages of this origin.
ACTIVE_TYPES = {"text/html", "application/xhtml+xml", "text/javascript", "application/javascript", "text/css"}


# Old addresses that were already logged.
_deprecated_paths_warned: set[str] = set()


@web.middleware
async def deprecation_warning(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log each old address of a script once."""
    path = request.path
    if path.startswith(("/scripts/ui", "/extensions/core/")) and path not in _deprecated_paths_warned:
        _deprecated_paths_warned.add(path)
        logging.warning("[DEPRECATION WARNING] Detected import of deprecated legacy API: %s", path)
    return await handler(request)


@web.middleware
async def compress_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress JSON and text for clients that take gzip."""
    response = await handler(request)
    wanted = "gzip" in request.headers.get("Accept-Encoding", "")
    text = response.content_type in ("application/json", "text/plain")
    if wanted and text and isinstance(response, web.Response) and response.body:
        response.enable_compression()
    return response


def create_cors_middleware(allowed_origin: str) -> Middleware:
    """Let pages of another origin use the server."""

    @web.middleware
    async def cors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.Response() if request.method == "OPTIONS" else await handler(request)
        response.headers["Access-Control-Allow-Origin"] = allowed_origin
        response.headers["Access-Control-Allow-Methods"] = "POST, GET, DELETE, PUT, OPTIONS, PATCH"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        return response

    return cors_middleware


def create_origin_only_middleware() -> Middleware:
    """Keep foreign web pages from posting to a server on the same machine."""

    @web.middleware
    async def origin_only_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if host and origin and not same_origin(host, origin):
            logging.warning("WARNING: request with non matching host and origin %s != %s, returning 403", host, origin)
            return web.Response(status=403)
        return web.Response() if request.method == "OPTIONS" else await handler(request)

    return origin_only_middleware


def same_origin(host: str, origin: str) -> bool:
    """Whether the two headers agree. Ports count if both have one. Only asked for a loopback host."""
    try:
        ours, theirs = urlsplit(f"//{host.lower()}"), urlsplit(origin.lower())
        ports = ours.port, theirs.port
    except ValueError:
        return False
    if not ours.hostname or not theirs.hostname or not is_loopback(ours.hostname):
        return True
    return ours.hostname == theirs.hostname if None in ports else ours.netloc == theirs.netloc


def is_loopback(host: str) -> bool:
    """Whether the name or address leads to this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)


def create_block_external_middleware() -> Middleware:
    """Tell the browser to load nothing from elsewhere."""
    policy = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
        " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
        " font-src 'self'; connect-src 'self'; frame-src 'self'; object-src 'self';"
    )

    @web.middleware
    async def block_external_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = web.Response() if request.method == "OPTIONS" else await handler(request)
        response.headers["Content-Security-Policy"] = policy
        return response

    return block_external_middleware


class PromptServer:
    """The one server of this process; custom nodes reach it as PromptServer.instance."""

    instance: ClassVar["PromptServer"]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        PromptServer.instance = self

        mimetypes.init()
        mimetypes.add_type("application/javascript; charset=utf-8", ".js")
        mimetypes.add_type("image/webp", ".webp")

        self.user_manager = UserManager()
        self.model_file_manager = ModelFileManager()
        self.custom_node_manager = CustomNodeManager()
        self.internal_routes = InternalRoutes(self)
        self.prompt_queue = execution.PromptQueue(self)
        self.job_manager = JobManager(self)
        self.loop = loop
        self.messages: asyncio.Queue[tuple[Any, Any, str | None]] = asyncio.Queue()
        self.number = 0

        middlewares: list[Any] = [cache_control, deprecation_warning]
        if args.enable_compress_response_body:
            middlewares.append(compress_body)
        if args.enable_cors_header:
            middlewares.append(create_cors_middleware(args.enable_cors_header))
        else:
            middlewares.append(create_origin_only_middleware())
        if args.disable_api_nodes:
            middlewares.append(create_block_external_middleware())
        if args.enable_manager:
            middlewares.append(comfyui_manager.create_middleware())

        max_upload_size = round(args.max_upload_size * 1024 * 1024)
        self.app = web.Application(client_max_size=max_upload_size, middlewares=middlewares)
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.sockets_metadata: dict[str, Json] = {}
        self.web_root = frontend_management.init_frontend(args.front_end_root)
        logging.info("[Prompt Server] web root: %s", self.web_root)
        Assets().add_routes(self.app)
        routes = web.RouteTableDef()
        self.routes = routes
        self.last_node_id: str | None = None
        self.client_id: str | None = None
        self.on_prompt_handlers: list[Callable[[Json], Json]] = []

        @routes.get("/ws")
        async def websocket_handler(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            # A client that comes back gets its old name. Messages go to the newest socket with that name.
            sid = request.query.get("clientId") or uuid.uuid4().hex
            self.sockets[sid] = ws
            self.sockets_metadata[sid] = {"feature_flags": {}}
            try:
                await self.send("status", {"status": self.get_queue_info(), "sid": sid}, sid)
                if self.client_id == sid and self.last_node_id is not None:
                    await self.send("executing", {"node": self.last_node_id}, sid)
                first = True
                async for message in ws:
                    if message.type != aiohttp.WSMsgType.TEXT:
                        continue
                    try:
                        data = json.loads(message.data)
                    except ValueError:
                        logging.warning("Invalid JSON received from client %s", sid)
                        continue
                    if first and isinstance(data, dict) and data.get("type") == "feature_flags":
                        self.sockets_metadata[sid]["feature_flags"] = data.get("data", {})
                        await self.send("feature_flags", server_features(), sid)
                    first = False
            finally:
                # A newer socket under this name gets no more messages.
                self.sockets.pop(sid, None)
                self.sockets_metadata.pop(sid, None)
            return ws

        @routes.get("/")
        async def get_root(request: web.Request) -> web.StreamResponse:
            headers = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "0"}
            return web.FileResponse(self.web_root / "index.html", headers=headers)

        @routes.get("/embeddings")
        async def get_embeddings(request: web.Request) -> web.Response:
            names = folder_paths.get_filename_list("embeddings")
            return web.json_response([str(PurePath(name).with_suffix("")) for name in names])

        @routes.get("/models")
        async def list_model_types(request: web.Request) -> web.Response:
            return web.json_response(list(folder_paths.folder_names_and_paths))

        @routes.get("/models/{folder}")
        async def get_models(request: web.Request) -> web.Response:
            kind = request.match_info["folder"]
            if kind not in folder_paths.folder_names_and_paths:
                return web.Response(status=404)
            return web.json_response(folder_paths.get_filename_list(kind))

        @routes.get("/extensions")
        async def get_extensions(request: web.Request) -> web.Response:
            own = (self.web_root / "extensions").rglob("*.js")
            found = [f"/{file.relative_to(self.web_root).as_posix()}" for file in sorted(own)]
            for name, folder in nodes.EXTENSION_WEB_DIRS.items():
                for file in sorted(folder.rglob("*.js")):
                    found.append(f"/extensions/{quote(name)}/{file.relative_to(folder).as_posix()}")
            return web.json_response(found)

        @routes.post("/upload/image")
        async def upload_image(request: web.Request) -> web.Response:
            return image_files.store_upload(await request.post())

        @routes.post("/upload/mask")
        async def upload_mask(request: web.Request) -> web.Response:
            form = await request.post()
            source = json.loads(str(form["original_ref"]))
            original = image_files.file_to_view(source["filename"], source.get("type"), source.get("subfolder", ""))
            return image_files.store_upload(form, image_files.save_masked(original))

        @routes.get("/view")
        async def view_image(request: web.Request) -> web.StreamResponse:
            query = request.query
            if "filename" not in query:
                return web.Response(status=404)
            file = image_files.file_to_view(query["filename"], query.get("type"), query.get("subfolder", ""))
            headers = {"Content-Disposition": f'filename="{file.name}"'}
            channel = query.get("channel", "rgba")
            if "preview" in query:
                body, kind = image_files.preview(file, query["preview"], channel)
                return web.Response(body=body, content_type=kind, headers=headers)
            if channel in ("rgb", "a"):
                body = image_files.one_channel(file, channel)
                return web.Response(body=body, content_type="image/png", headers=headers)
            kind = (mimetypes.guess_type(file.name)[0] or "").partition(";")[0]
            if not kind or kind in ACTIVE_TYPES:
                kind = "application/octet-stream"
            return web.FileResponse(file, headers={**headers, "Content-Type": kind})

        @routes.get("/view_metadata/{folder_name}")
        async def view_metadata(request: web.Request) -> web.Response:
            name = request.query.get("filename", "")
            file = folder_paths.get_full_path(request.match_info["folder_name"], name)
            metadata = safetensors_metadata(file) if file and file.suffix == ".safetensors" else None
            return web.Response(status=404) if metadata is None else web.json_response(metadata)

        @routes.get("/system_stats")
        async def system_stats(request: web.Request) -> web.Response:
            device = comfy.model_management.get_torch_device()
            total = comfy.model_management.get_total_memory(device)
            free = comfy.model_management.get_free_memory(device)
            system = {
                "os": sys.platform,
                "ram_total": total,
                "ram_free": free,
                "comfyui_version": __version__,
                "required_frontend_version": None,
                "installed_templates_version": frontend_management.installed_version("comfyui-workflow-templates"),
                "required_templates_version": None,
                "python_version": sys.version,
                "pytorch_version": "none",
                "embedded_python": False,
                "argv": sys.argv,
            }
            gpu = {
                "name": comfy.model_management.get_torch_device_name(device),
                "type": device.type,
                "index": device.index,
                "vram_total": total,
                "vram_free": free,
                "torch_vram_total": total,
                "torch_vram_free": free,
            }
            return web.json_response({"system": system, "devices": [gpu]})

        @routes.get("/features")
        async def get_features(request: web.Request) -> web.Response:
            return web.json_response(server_features())

        @routes.get("/prompt")
        async def get_prompt(request: web.Request) -> web.Response:
            return web.json_response(self.get_queue_info())

        @routes.get("/object_info")
        async def get_object_info(request: web.Request) -> web.Response:
            found = {}
            for name in nodes.NODE_CLASS_MAPPINGS:
                try:
                    found[name] = node_info(name)
                except Exception:
                    logging.exception("[ERROR] An error occurred while retrieving information for the '%s' node.", name)
            return web.json_response(found)

        @routes.get("/object_info/{node_class}")
        async def get_object_info_node(request: web.Request) -> web.Response:
            name = request.match_info["node_class"]
            return web.json_response({name: node_info(name)} if name in nodes.NODE_CLASS_MAPPINGS else {})

        @routes.get("/history")
        async def get_history(request: web.Request) -> web.Response:
            most = int(request.query["max_items"]) if "max_items" in request.query else None
            offset = int(request.query.get("offset", -1))
            return web.json_response(self.prompt_queue.get_history(max_items=most, offset=offset))

        @routes.get("/history/{prompt_id}")
        async def get_history_prompt_id(request: web.Request) -> web.Response:
            return web.json_response(self.prompt_queue.get_history(prompt_id=request.match_info["prompt_id"]))

        @routes.post("/history")
        async def post_history(request: web.Request) -> web.Response:
            wish = await request.json()
            if wish.get("clear"):
                self.prompt_queue.wipe_history()
            for prompt_id in wish.get("delete", ()):
                self.prompt_queue.delete_history_item(prompt_id)
            return web.Response()

        @routes.get("/queue")
        async def get_queue(request: web.Request) -> web.Response:
            running, waiting = self.prompt_queue.get_current_queue_volatile()
            return web.json_response({"queue_running": running, "queue_pending": waiting})

        @routes.post("/queue")
        async def post_queue(request: web.Request) -> web.Response:
            wish = await request.json()
            if wish.get("clear"):
                self.prompt_queue.wipe_queue()
            for prompt_id in wish.get("delete", ()):
                self.prompt_queue.delete_prompt(prompt_id)
            return web.Response()

        @routes.post("/prompt")
        async def post_prompt(request: web.Request) -> web.Response:
            logging.info("got prompt")
            data = self.trigger_on_prompt(await request.json())
            if "number" in data:
                number = float(data["number"])
            else:
                number = -self.number if data.get("front") else self.number
                self.number += 1
            if not isinstance(data.get("prompt"), dict):
                error = execution.fault("no_prompt", "No prompt provided", "No prompt provided")
                return web.json_response({"error": error, "node_errors": {}}, status=400)
            prompt, prompt_id = data["prompt"], str(data.get("prompt_id") or uuid.uuid4())
            verdict = await execution.validate_prompt(prompt_id, prompt, data.get("partial_execution_targets"))
            if not verdict.valid:
                logging.warning("invalid prompt: %s", verdict.error)
                return web.json_response({"error": verdict.error, "node_errors": verdict.node_errors}, status=400)
            extra = {**data.get("extra_data", {}), "create_time": int(time.time() * 1000)}
            if "client_id" in data:
                extra["client_id"] = data["client_id"]
            self.prompt_queue.put((number, prompt_id, prompt, extra, verdict.outputs))
            return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

        @routes.post("/interrupt")
        async def post_interrupt(request: web.Request) -> web.Response:
            try:
                wanted = (await request.json()).get("prompt_id")
            except ValueError:
                wanted = None  # most clients send no body: stop whatever is running
            running, _ = self.prompt_queue.get_current_queue()
            if wanted is None or any(item[1] == wanted for item in running):
                nodes.interrupt_processing()
            return web.Response()

        @routes.post("/free")
        async def post_free(request: web.Request) -> web.Response:
            wish = await request.json()
            for name in ("unload_models", "free_memory"):
                if wish.get(name):
                    self.prompt_queue.set_flag(name, True)
            return web.Response()

    def add_routes(self) -> None:
        """Mount everything, after custom nodes have added their routes. The frontend's catch-all comes last."""
        self.user_manager.add_routes(self.routes)
        self.model_file_manager.add_routes(self.routes)
        self.job_manager.add_routes(self.routes)
        self.custom_node_manager.add_routes(self.routes, self.app, nodes.LOADED_MODULE_DIRS.items())
        self.app.add_subapp("/internal", self.internal_routes.get_app())

        api_routes = web.RouteTableDef()
        for route in self.routes:
            if isinstance(route, web.RouteDef):
                api_routes.route(route.method, f"/api{route.path}")(route.handler, **route.kwargs)
        self.app.add_routes(api_routes)
        self.app.add_routes(self.routes)

        for name, folder in nodes.EXTENSION_WEB_DIRS.items():
            self.app.add_routes([web.static(f"/extensions/{name}", folder)])
        self.app.add_routes([web.static("/templates", frontend_management.templates_path())])
        self.app.add_routes([web.static("/docs", frontend_management.embedded_docs_path())])
        self.app.add_routes([web.static("/", self.web_root)])

    def get_queue_info(self) -> Json:
        """How many prompts are left, in the form of the status message."""
        return {"exec_info": {"queue_remaining": self.prompt_queue.get_tasks_remaining()}}

    def client_supports(self, sid: str, feature: str) -> bool:
        """Whether the client said in its first message that it supports this."""
        flags = self.sockets_metadata.get(sid, {}).get("feature_flags", {})
        return flags.get(feature) is True

    async def send(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Send to one client, or to all. Numbers are binary messages, names are JSON."""
        if event == BinaryEventTypes.UNENCODED_PREVIEW_IMAGE:
            kind, picture = image_files.encode(data)
            number = struct.pack(">I", 1 if kind == "JPEG" else 2)
            await self.send_bytes(BinaryEventTypes.PREVIEW_IMAGE, number + picture, sid)
        elif event == BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA:
            preview, metadata = data
            kind, picture = image_files.encode(preview)
            about = json.dumps({**metadata, "image_type": f"image/{kind.lower()}"}).encode()
            await self.send_bytes(event, struct.pack(">I", len(about)) + about + picture, sid)
        elif isinstance(data, bytes | bytearray):
            await self.send_bytes(event, data, sid)
        else:
            await self.send_json(event, data, sid)

    async def send_bytes(self, event: int, data: bytes | bytearray, sid: str | None = None) -> None:
        """One binary message: the event's number, then the data."""
        for ws in self._receivers(sid):
            await send_or_forget(ws.send_bytes(struct.pack(">I", event) + data))

    async def send_json(self, event: str, data: Any, sid: str | None = None) -> None:
        """One text message."""
        for ws in self._receivers(sid):
            await send_or_forget(ws.send_json({"type": event, "data": data}))

    def _receivers(self, sid: str | None) -> list[web.WebSocketResponse]:
        if sid is None:
            return list(self.sockets.values())
        return [self.sockets[sid]] if sid in self.sockets else []

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Send from any thread, in order, without waiting."""
        self.loop.call_soon_threadsafe(self.messages.put_nowait, (event, data, sid))

    def queue_updated(self) -> None:
        """Tell every client how long the queue is."""
        self.send_sync("status", {"status": self.get_queue_info()})

    async def publish_loop(self) -> None:
        """Deliver what send_sync was given, forever."""
        while True:
            await self.send(*await self.messages.get())

    async def start_multi_address(
        self,
        addresses: list[tuple[str, int]],
        call_on_start: Callable[[str, str, int], None] | None = None,
        verbose: bool = True,
    ) -> None:
        """Listen; returns as soon as every address is open."""
        runner = web.AppRunner(self.app, access_log=None)
        await runner.setup()
        context, scheme = None, "http"
        if args.tls_keyfile and args.tls_certfile:
            context, scheme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "https"
            context.load_cert_chain(certfile=args.tls_certfile, keyfile=args.tls_keyfile)
        for address, port in addresses:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
            if verbose:
                host = f"[{address}]" if ":" in address else address
                logging.info("To see the GUI go to: %s://%s:%s", scheme, host, port)
        if call_on_start is not None:
            call_on_start(scheme, *addresses[0])

    def add_on_prompt_handler(self, handler: Callable[[Json], Json]) -> None:
        """Let `handler` change each prompt request before it is processed."""
        self.on_prompt_handlers.append(handler)

    def trigger_on_prompt(self, data: Json) -> Json:
        """The request after all handlers. A handler that fails is logged and skipped."""
        for handler in self.on_prompt_handlers:
            try:
                data = handler(data)
            except Exception:
                logging.warning("[ERROR] An error occurred during the on_prompt_handler processing")
                logging.warning(traceback.format_exc())
        return data


def server_features() -> Json:
    """What this server can do, for the frontend; sizes in bytes."""
    return {"supports_preview_metadata": True, "max_upload_size": round(args.max_upload_size * 1024 * 1024)}


def node_info(name: str) -> Json:
    """One node as /object_info describes it."""
    node = nodes.NODE_CLASS_MAPPINGS[name]
    inputs = node.INPUT_TYPES()
    info = {
        "input": inputs,
        "input_order": {group: list(names) for group, names in inputs.items()},
        "output": node.RETURN_TYPES,
        "output_is_list": getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)),
        "output_name": getattr(node, "RETURN_NAMES", node.RETURN_TYPES),
        "name": name,
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
        "description": getattr(node, "DESCRIPTION", ""),
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node, "CATEGORY", "sd"),
        "output_node": bool(getattr(node, "OUTPUT_NODE", False)),
    }
    flags = {flag.lower(): True for flag in ("DEPRECATED", "EXPERIMENTAL") if getattr(node, flag, False)}
    return {**info, **flags}


def safetensors_metadata(file: Path) -> Json | None:
    """The __metadata__ in the header of a model file, or None if there is none."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > 1024 * 1024:
            return None
        header: Json = json.loads(stream.read(length))
    return header.get("__metadata__")


async def send_or_forget(sending: Awaitable[None]) -> None:
    """A client that has gone is no reason to stop."""
    try:
        await sending
    except (aiohttp.ClientError, ConnectionError) as error:
        logging.warning("send error: %s", error)
