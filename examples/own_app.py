"""An aiohttp server of one's own behind an API key: `python3 examples/own_app.py`."""

import comfy_auth_rs
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """Answers only those who hold the key."""
    return web.json_response({"hello": "world"})


def make_app() -> web.Application:
    """Everything needs the key but `/public/…`; `/health` and the login page, which don't either, are added."""
    app = web.Application()
    app.router.add_get("/hello", hello)
    app.router.add_get("/public/hello", hello)
    comfy_auth_rs.setup(app, api_key="your-secure-api-key-here", exempt=["/public/*"])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8080)
