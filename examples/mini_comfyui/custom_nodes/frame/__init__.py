"""A custom node with everything that a custom node may bring: a node, a web extension and a route."""

from typing import Any

from aiohttp import web
from PIL import ImageColor, ImageOps

from server import PromptServer

COLORS = ["white", "black", "goldenrod"]


class Frame:
    """Puts a frame around each picture."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "width": ("INT", {"default": 16, "min": 1, "max": 256}),
                "color": (COLORS,),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "frame"
    CATEGORY = "image"

    def frame(self, image: list[Any], width: int, color: str) -> tuple[list[Any]]:
        return ([ImageOps.expand(picture, width, ImageColor.getrgb(color)) for picture in image],)


@PromptServer.instance.routes.get("/frame/colors")
async def get_colors(request: web.Request) -> web.Response:
    return web.json_response(COLORS)


NODE_CLASS_MAPPINGS = {"Frame": Frame}
NODE_DISPLAY_NAME_MAPPINGS = {"Frame": "Frame"}
WEB_DIRECTORY = "web"
