"""A handler that knows who asks: `python3 examples/who_is_it.py`, then `curl -H "X-API-Key: KEY" http://127.0.0.1:8080/`."""

from pathlib import Path

import comfy_auth_rs
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """Greets the holder of a key by its label, and everybody else as a stranger."""
    who = comfy_auth_rs.identity(request)
    if who is None:
        return web.json_response({"hello": "stranger"})
    return web.json_response({"hello": who.label, "key_id": who.key_id, "source": who.source})


def make_app(key_file: Path) -> web.Application:
    """`/` is for everybody; the keys and their labels are in `key_file`."""
    app = web.Application()
    app.router.add_get("/", hello)
    comfy_auth_rs.setup(app, api_key_file=key_file, exempt="/")
    return app


if __name__ == "__main__":
    path = Path("keys.txt")
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"{comfy_auth_rs.generate_key()} alice\n", encoding="ascii")
    print("The key is in", path)
    web.run_app(make_app(path), host="127.0.0.1", port=8080)
