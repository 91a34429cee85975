"""How long browsers may keep a response, by its path."""

from collections.abc import Awaitable, Callable

from aiohttp import web

HOUR, DAY = 3600, 86400  # seconds
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@web.middleware
async def cache_control(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Scripts and styles are requested again each time, pictures are kept. A header set by the handler wins."""
    response = await handler(request)
    name = request.path.rpartition("/")[2]
    if name.endswith((".js", ".css")) or (name.startswith("index") and name.endswith(".json")):
        response.headers.setdefault("Cache-Control", "no-cache")
    elif name.lower().endswith(IMAGES):
        if response.status in (302, 303, 307):
            response.headers.setdefault("Cache-Control", "no-cache")
        elif response.status == 404:
            response.headers.setdefault("Cache-Control", f"public, max-age={HOUR}")
        elif response.status < 400 and response.status != 304:
            response.headers.setdefault("Cache-Control", f"public, max-age={DAY}")
    return response
