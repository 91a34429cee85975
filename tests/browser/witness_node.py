"""A custom node that prints what the server answers, and has a route that redirects wherever it is told."""

import asyncio

from aiohttp import web
from server import PromptServer


async def say(request: web.Request, response: web.StreamResponse) -> None:
    print(f"[answered {response.status} {request.method} {request.rel_url.raw_path}]", flush=True)


PromptServer.instance.app.on_response_prepare.append(say)


@PromptServer.instance.routes.get("/witness/redirect")
@PromptServer.instance.routes.post("/witness/redirect")
async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": request.query["to"]})


@PromptServer.instance.routes.get("/witness/boom")
async def boom(request: web.Request) -> web.Response:
    """Has an effect, as no GET should."""
    print("[boom]", flush=True)
    return web.Response(text="boom")


@PromptServer.instance.routes.get("/witness/slow")
async def wait(request: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.Response()


@PromptServer.instance.routes.get("/witness/challenge")
async def challenge(request: web.Request) -> web.Response:
    return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="a custom node"'})


#: What needs the key and runs in browsers. Nothing that clients can write does.
SCRIPTS = {
    "probe": "export const answer = 42; globalThis.document ?? postMessage(answer);",
    "worker": "addEventListener('fetch', () => {});",
}


@PromptServer.instance.routes.get("/witness/{name}.js")
async def script(request: web.Request) -> web.Response:
    return web.Response(text=SCRIPTS[request.match_info["name"]], content_type="text/javascript")


NODE_CLASS_MAPPINGS = {}
