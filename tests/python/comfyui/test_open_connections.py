"""Connections end with the key or session that admitted them: in the miniature, and in a real ComfyUI."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.client import bearer
from support.keys import KEY, OTHER_KEY
from support.servers import Server, start_real, start_server

#: Longer than the promised second, because other work may share this machine.
SOON = 10

#: As long as two checks of the files take.
A_WHILE = 1.3

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "test"}},
}


def replace(path: Path, *keys: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text("".join(f"{key}\n" for key in keys))
    beside.chmod(0o600)
    beside.replace(path)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    replace(path, KEY, OTHER_KEY)
    return path


@pytest.fixture(params=["miniature", "real"])
def server(request: pytest.FixtureRequest, copy_miniature: Any, key_file: Path, tmp_path: Path) -> Iterator[Server]:
    flags = ("--api-key-file", str(key_file))
    if request.param == "miniature":
        start = start_server(copy_miniature(), *flags)
    elif "COMFYUI_DIR" in os.environ:
        Path(tmp_path, "custom_nodes").mkdir()
        start = start_real(tmp_path, *flags)
    else:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    with start as started:
        said = len(started.output)  # a real ComfyUI prints a lot when it starts
        yield started
        assert "Traceback" not in started.output[said:]
        assert "exception" not in started.output[said:].lower()


async def close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async def ended() -> None:
        async for _ in socket:
            pass

    await asyncio.wait_for(ended(), SOON)
    return socket.close_code


async def is_alive(socket: aiohttp.ClientWebSocketResponse) -> bool:
    await socket.send_json({"type": "feature_flags", "data": {}})
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT and message.json()["type"] == "feature_flags":
            return True
    return False


async def test_a_removed_key_closes_its_sockets_though_no_request_comes_in(server: Server, key_file: Path) -> None:
    async with aiohttp.ClientSession(server.url) as session:
        gone = await session.ws_connect("/ws?clientId=mine", headers=bearer(KEY))
        stays = [await session.ws_connect("/ws?clientId=x", headers=bearer(OTHER_KEY)), await session.ws_connect("/ws")]
        replace(key_file, OTHER_KEY)
        assert await close_code(gone) == 1008
        prompt = {"prompt": GRAPH, "client_id": "mine"}
        async with session.post("/prompt", json=prompt, headers=bearer(OTHER_KEY)) as queued:
            assert queued.status == 200
        await asyncio.sleep(A_WHILE)
        assert all([await is_alive(socket) for socket in stays])


async def test_a_log_out_closes_the_sockets_of_its_session(server: Server) -> None:
    async with aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def tab() -> dict[str, str]:
            async with session.post("/auth_session", headers=bearer(KEY), json={"remember": False}) as answer:
                return {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "Origin": server.url}

        ended, other = await tab(), await tab()
        gone = await session.ws_connect("/ws?clientId=mine", headers=ended)
        stays = [await session.ws_connect(f"/ws?clientId={n}", headers=h) for n, h in enumerate((other, bearer(KEY)))]
        async with session.delete("/auth_session", headers=ended) as answer:
            assert answer.status == 204
        assert await close_code(gone) == 1008
        await asyncio.sleep(A_WHILE)
        assert all([await is_alive(socket) for socket in stays])
