"""Handlers that know who is asking: `python3 examples/who_is_it.py`, then `curl -H "X-API-Key: KEY" 127.0.0.1:8080`."""

from pathlib import Path

import comfy_auth_rs
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """Greets the holder of a key by its label, and everyone else as a stranger."""
    who = comfy_auth_rs.identity(request)
    if who is None:
        return web.json_response({"hello": "stranger"})
    return web.json_response({"hello": who.label, "scopes": who.scopes, "subject": who.subject, "source": who.source})


async def paint(request: web.Request) -> web.Response:
    """Only keys with the scope `run` get here."""
    who = comfy_auth_rs.identity(request)
    return web.json_response({"painted for": who and who.subject})


def make_app(key_file: Path) -> web.Application:
    """`/` is for everyone, `/paint` for keys that may run something. The keys are in `key_file`."""
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_post("/paint", paint)
    comfy_auth_rs.setup(app, api_key_file=key_file, exempt="/", scopes={"/": "", "/paint": "run"})
    return app


if __name__ == "__main__":
    path = Path("keys.txt")
    if not path.exists():
        path.touch(mode=0o600)
        alice, wall = comfy_auth_rs.generate_key(), comfy_auth_rs.generate_key()
        path.write_text(f"{alice} alice scope=run user=alice\n{wall} wall display scope=view\n", encoding="ascii")
    print("The keys are in", path)
    web.run_app(make_app(path), host="127.0.0.1", port=8080)
