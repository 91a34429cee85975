"""A custom node with a route that leads to wherever it is told: what an open redirect in an extension would do."""

from aiohttp import web
from server import PromptServer


@PromptServer.instance.routes.get("/witness/redirect")
async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": request.query["to"]})


NODE_CLASS_MAPPINGS = {}
