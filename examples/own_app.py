"""Your own aiohttp server behind an API key: `python3 examples/own_app.py`."""

import comfy_auth_rs
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """Answers only requests with the key."""
    return web.json_response({"hello": "world"})


def make_app() -> web.Application:
    """Everything but `/public/…` needs the key. Adds `/health` and the login page, which need none either."""
    app = web.Application()
    app.router.add_get("/hello", hello)
    app.router.add_get("/public/hello", hello)
    comfy_auth_rs.setup(app, api_key="your-secure-api-key-here", exempt=["/public/*"])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8080)
