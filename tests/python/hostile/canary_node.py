"""A custom node for a ComfyUI under test: a route, a static folder and a graph node that nobody may reach.

None of them may give away the value of `CANARY` in the environment.
"""

import os
import time
from pathlib import Path
from typing import Any

import comfy.model_management
from aiohttp import web
from server import PromptServer

PLANTED = os.environ["CANARY"]
PICTURES = Path(os.environ["CANARY_PICTURES"])

app, routes = PromptServer.instance.app, PromptServer.instance.routes
reached = 0


@routes.route("*", "/canary/{name:.*}")
async def get_canary(request: web.Request) -> web.Response:
    global reached
    reached += 1
    return web.Response(text=PLANTED)


@routes.get("/times_reached")
async def get_times_reached(request: web.Request) -> web.Response:
    return web.json_response(reached)


app.add_routes([web.static("/canary_pictures", PICTURES)])


class Wait:
    """Runs until it is interrupted, so that the queue isn't empty."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "wait"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"default": ""})}}

    def wait(self, text: str) -> tuple[str]:
        while True:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.05)


NODE_CLASS_MAPPINGS = {"Wait": Wait}
