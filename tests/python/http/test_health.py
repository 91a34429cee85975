"""`GET /health`: the guide's JSON, and an answer even if drivers hang."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from comfy_auth_rs import probe_device, setup
from comfy_auth_rs.health import QueueLength
from support.client import BEARER, bearer, fetch, log_in
from support.keys import KEY
from support.nvml import CARDS, FakeNvml, needs_linux, show_all_devices
from support.servers import start_server


@pytest.fixture
async def server(aiohttp_server):
    app = web.Application()
    setup(app, api_key=KEY)
    return await aiohttp_server(app)


async def test_the_guides_json(server):
    reply = await fetch(server, "/health")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["Cache-Control"] == "no-store"
    found = reply.json
    vram = found.pop("vram")
    device = probe_device()
    assert found == {
        "status": "ok",
        "queue": {"pending": 0, "running": 0},
        "device": {"name": device["name"], "type": device["type"]},
    }
    assert vram.keys() == {"total", "free"}
    assert vram["total"] == device["total"]
    assert 0 < vram["free"] <= vram["total"]
    assert all(type(size) is int for size in vram.values()), "whole bytes"


async def test_head(server):
    reply = await fetch(server, "/health", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(("target", "headers", "status"), [
    ("", {}, 200),
    ("?x=1", {"X-API-Key": ""}, 200),
    ("", BEARER, 200),
    (f"?api_key={KEY}", {}, 200),
    (f"?api_key={KEY}", bearer("wrong"), 200),
    ("", bearer("wrong"), 401),
    ("?api_key=wrong", {}, 401),
    ("", {"Authorization": "Basic !"}, 401),
    ("", {"Cookie": "comfyui_session=forged"}, 200),
])  # fmt: skip
async def test_tells_whether_a_credential_is_good(server, target, headers, status):
    """A login page can check a key this way."""
    reply = await fetch(server, f"/health{target}", headers)
    assert reply.status == status
    if status == 401:
        assert reply.json["cause"] == "invalid_credential"
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="ComfyUI", error="invalid_token"'


async def test_a_session_is_good_too(server):
    cookie = {"Cookie": await log_in(server)}
    assert (await fetch(server, "/health", cookie)).status == 200
    assert (await fetch(server, "/health", {**cookie, "Sec-Fetch-Site": "same-site"})).status == 403


async def test_such_tries_count_as_failed_attempts(server):
    for number in range(10):
        assert (await fetch(server, "/health", bearer(f"wrong-{number}"))).status == 401
    for number in range(10):
        assert (await fetch(server, "/health", bearer(f"more-{number}"))).status == 429
    assert (await fetch(server, "/health", BEARER)).status == 429, "the key is right, but during a lock nobody is told"
    assert (await fetch(server, "/health")).status == 200, "monitoring is not locked out"


async def test_writes_are_not_exempt(server):
    for method in ("POST", "PUT", "DELETE"):
        assert (await fetch(server, "/health", method=method)).status == 401
        assert (await fetch(server, "/health", BEARER, method=method)).status == 405


async def test_the_queue_is_asked_each_time(aiohttp_server):
    lengths = [QueueLength(pending=3, running=1), QueueLength(pending=0, running=2)]
    app = web.Application()
    setup(app, api_key=KEY, queue=lambda: lengths.pop(0))
    server = await aiohttp_server(app)
    assert (await fetch(server, "/health")).json["queue"] == {"pending": 3, "running": 1}
    assert (await fetch(server, "/health")).json["queue"] == {"pending": 0, "running": 2}


SERVER = f"""
import argparse
from aiohttp import web
from comfy_auth_rs import setup

async def ping(request):
    return web.Response(text="pong")

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
app = web.Application()
app.router.add_get("/ping", ping)
setup(app, api_key={KEY!r}, exempt=["/ping"])
web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, print=None)
"""


async def timed(awaitable):
    start = time.perf_counter()
    return await awaitable, time.perf_counter() - start


async def health(server):
    """The answer, and the seconds it took. Meanwhile, the server must answer others at once."""
    task = asyncio.create_task(timed(fetch(server, "/health")))
    while not task.done():
        reply, seconds = await timed(fetch(server, "/ping"))
        assert reply.text == "pong"
        assert seconds < 1
        await asyncio.sleep(0.02)
    reply, seconds = await task
    assert reply.status == 200
    return reply.json, seconds


@needs_linux
@pytest.mark.slow
async def test_answers_while_a_driver_hangs(tmp_path, monkeypatch):
    show_all_devices(monkeypatch)
    (tmp_path / "serve.py").write_text(SERVER)
    nvml = FakeNvml(tmp_path)
    nvml.answer(f"hang\n{CARDS}")
    with start_server(tmp_path, command=["serve.py"], env=nvml.environment) as server:
        found, seconds = await health(server)
        assert found["device"]["type"] == "cpu", "the driver has never answered"
        assert 1.5 < seconds < 4
        answers = await asyncio.gather(*(health(server) for _ in range(20)))
        assert max(seconds for _, seconds in answers) < 1.5, "nobody waits again for the query that hangs"

        nvml.answer(CARDS)
        for _ in range(200):
            found, _ = await health(server)
            if found["device"]["type"] == "cuda":
                break
        assert found["device"] == {"name": "NVIDIA GeForce RTX 4090", "type": "cuda"}
        assert found["vram"] == {"total": 24000, "free": 20000}

        nvml.answer("hang\ncard GPU-aa11 24000 1 0 0 A\n")
        found, seconds = await health(server)
        assert (found["vram"]["free"], seconds < 0.5) == (20000, True), "an answer stays fresh for a second"
        await asyncio.sleep(1.1)
        found, seconds = await health(server)
        assert (found["device"]["name"], found["vram"]["free"]) == ("NVIDIA GeForce RTX 4090", 20000), "the last answer"
        assert seconds < 4

        start = time.perf_counter()
        server.process.terminate()
        server.process.wait(10)
        assert time.perf_counter() - start < 5, "a hanging driver does not keep the server from stopping"
