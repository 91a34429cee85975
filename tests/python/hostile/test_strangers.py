"""WebSockets without a key: they hear only what is for them, may send almost nothing, and delay nobody."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.client import bearer
from support.keys import KEY
from support.servers import Server, start_real, start_server

from hostile.sockets import BINARY, NODE, PING, Raw, frame

#: Far longer than it takes, because other work may share this machine.
SOON = 20

MIB = 1024 * 1024

FLAGS = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}

CANARY = "canary-of-a-stranger"

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "test"}},
}


@pytest.fixture(scope="module", params=["miniature", "real"])
def server(
    request: pytest.FixtureRequest, copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("base")
    (base / "custom_nodes").mkdir()
    Path(base / "custom_nodes" / "test_node.py").write_text(NODE)
    flags = ("--api-key", KEY, "--auth-trusted-proxy", "127.0.0.1", "--verbose", "DEBUG")
    if request.param == "miniature":
        start = start_server(copy_miniature(), "--base-directory", str(base), *flags)
    elif "COMFYUI_DIR" in os.environ:
        start = start_real(base, *flags)
    else:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    with start as started:
        yield started
        assert CANARY not in started.output
        assert "Traceback" not in started.output


@pytest.fixture
async def session(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def send(session: aiohttp.ClientSession, event: str | int, count: int = 1, size: int = 0, sid: str | None = None):
    asked = {"event": event, "count": count, "size": size, "sid": sid}
    async with session.post("/test/send", json=asked, headers=bearer(KEY)) as answer:
        assert answer.status == 200, await answer.text()


async def flags_of(session: aiohttp.ClientSession, sid: str) -> Any:
    """The feature flags that ComfyUI has from a client."""
    async with session.get("/test/flags", headers=bearer(KEY)) as answer:
        return (await answer.json()).get(sid, {}).get("feature_flags")


async def heard_until(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[Any]:
    """The types of the messages up to the first of type `last`. Binary messages are numbers."""
    kinds: list[Any] = []
    while not kinds or kinds[-1] != last:
        message = await socket.receive(timeout=SOON)
        if message.type is aiohttp.WSMsgType.BINARY:
            kinds.append(int.from_bytes(message.data[:4], "big"))
        else:
            assert message.type is aiohttp.WSMsgType.TEXT, (message, kinds[-3:])
            kinds.append(message.json()["type"])
    return kinds


# ---------------------------------------------------------------------------------------------------------------------
# What they hear


async def test_of_what_goes_to_everybody_they_hear_the_status_only(session: aiohttp.ClientSession) -> None:
    async with (
        session.ws_connect("/ws?clientId=stranger-1") as stranger,
        session.ws_connect("/api/ws") as nameless,
        session.ws_connect("/ws?clientId=mine-1", headers=bearer(KEY)) as mine,
    ):
        for event in ("executing", "progress", "progress_state", "executed", "logs", 1, 3, "status", "test_end"):
            await send(session, event, size=10)
        everything = await heard_until(mine, "test_end")
        assert {"executing", "progress_state", "executed", "logs", 1, 3, "status"} <= set(everything)
        await send(session, "status", size=1)
        for socket in (stranger, nameless):
            await asyncio.sleep(0.2)
            assert set(await heard_until(socket, "status")) == {"status"}
            with pytest.raises(asyncio.TimeoutError):
                while (await socket.receive_json(timeout=0.5))["type"] == "status":
                    pass


async def test_what_is_addressed_to_them_they_hear(session: aiohttp.ClientSession) -> None:
    async with (
        session.ws_connect("/ws?clientId=stranger-2") as stranger,
        session.ws_connect("/ws?clientId=stranger-3") as other,
    ):
        for event in ("executing", 1, "executed", "test_end"):
            await send(session, event, size=10, sid="stranger-2")
        assert set(await heard_until(stranger, "test_end")) - {"status"} == {"executing", 1, "executed", "test_end"}
        await send(session, "test_end", sid="stranger-3")
        assert set(await heard_until(other, "test_end")) <= {"status", "test_end"}


async def test_who_queues_with_a_key_may_listen_without(session: aiohttp.ClientSession) -> None:
    """ComfyUI's own examples work this way once they send the key with the prompt."""
    async with session.ws_connect("/ws?clientId=example") as stranger:
        async with session.post(
            "/prompt", json={"prompt": GRAPH, "client_id": "example"}, headers=bearer(KEY)
        ) as queued:
            prompt = (await queued.json())["prompt_id"]
        while True:
            message = await stranger.receive_json(timeout=SOON)
            if message["type"] == "executing" and message["data"]["node"] is None:
                assert message["data"]["prompt_id"] == prompt
                break


async def test_pictures_come_through(session: aiohttp.ClientSession) -> None:
    """They are larger than the limit of unsent bytes, and come faster than they can be sent."""
    async with (
        session.ws_connect("/ws?clientId=pictures", max_msg_size=0) as stranger,
        session.ws_connect("/ws?clientId=pictures-2", headers=bearer(KEY), max_msg_size=0) as mine,
    ):
        for socket, sid, size in ((stranger, "pictures", 4 * MIB), (mine, "pictures-2", 24 * MIB)):
            await send(session, 1, count=4, size=size, sid=sid)
            await send(session, "test_end", sid=sid)
            assert (await heard_until(socket, "test_end")).count(1) == 4


# ---------------------------------------------------------------------------------------------------------------------
# What they say


async def test_well_formed_flags_reach_comfyui(server: Server, session: aiohttp.ClientSession) -> None:
    async with session.ws_connect("/ws?clientId=flags") as stranger:
        await stranger.send_str("no JSON")
        await stranger.send_json(FLAGS)
        assert "feature_flags" in await heard_until(stranger, "feature_flags")
        assert await flags_of(session, "flags") == FLAGS["data"]
    after = frame(json.dumps(FLAGS).encode())
    async with Raw(server, "/ws?clientId=at-once", after=after) as stranger:
        while b'"feature_flags"' not in (await asyncio.wait_for(stranger.message(), SOON))[1]:
            pass
        assert await flags_of(session, "at-once") == FLAGS["data"]


@pytest.mark.parametrize(
    "message",
    [
        f"no JSON {CANARY}",
        f'"{CANARY}"',
        json.dumps([FLAGS]),
        json.dumps({"type": CANARY, "data": {}}),
        json.dumps({"type": "feature_flags"}),
        json.dumps({"type": "feature_flags", "data": [{}, {}]}),
        json.dumps({"type": "feature_flags", "data": [{}] * 10_000}),
        json.dumps({"type": "feature_flags", "data": CANARY}),
        json.dumps({"type": "feature_flags", "data": {"x": {}}}),
        json.dumps({"type": "feature_flags", "data": {"x": [1]}}),
        json.dumps({"type": "feature_flags", "data": {"x": f"\n{CANARY}"}}),
        json.dumps({"type": "feature_flags", "data": {f"{CANARY} refused": True}}),
        json.dumps({"type": "feature_flags", "data": {f"flag-{number}": True for number in range(65)}}),
        json.dumps({"type": "feature_flags", "data": {"x": "x" * 1000}}),
        json.dumps({**FLAGS, CANARY: 1}),
        '{"type": "feature_flags", "data": ' + "[" * 2000 + "]" * 2000 + "}",
        '{"type": "feature_flags", "data": {"x": ' + "[" * 1500 + "]" * 1500 + "}}",
        json.dumps(FLAGS).encode("utf-16"),
        b"\xff\xfe" + CANARY.encode(),
    ],
)
async def test_nothing_else_does(server: Server, session: aiohttp.ClientSession, message: str | bytes) -> None:
    data = message.encode() if isinstance(message, str) else message
    async with Raw(server, "/ws?clientId=nothing") as stranger:
        stranger.writer.write(frame(data) + frame(data, BINARY) + frame(b"ping", PING))
        while await asyncio.wait_for(stranger.message(), SOON) != (0x8A, b"ping"):
            pass
        assert await flags_of(session, "nothing") == {}


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("too long", frame(b"[" * (65_536 + 1)), 1009),
        ("too long, in pieces", frame(b"x" * 60_000, 1) + frame(b"x" * 6_000, 0x80), 1009),
        ("too long, binary", frame(b"x" * 65_537, BINARY), 1009),
        ("a length of 2^63 and a little of it", b"\x81\xff" + b"\x7f" + b"\xff" * 7 + bytes(4) + b"x" * 1000, 1009),
        ("compressed", frame(b"x", 0xC1), 1002),
        ("no frame", b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_no_message_ends_it(server: Server, name: str, data: bytes, code: int, at_once: bool) -> None:
    async with Raw(server, "/ws", after=data if at_once else b"") as stranger:
        if not at_once:
            stranger.writer.write(data)
        assert await asyncio.wait_for(stranger.close_code(), SOON) == code


async def test_the_longest_message_does_not(server: Server) -> None:
    async with Raw(server) as stranger:
        stranger.writer.write(frame(b"x" * 65_536) + frame(b"ping", PING))
        while await asyncio.wait_for(stranger.message(), SOON) != (0x8A, b"ping"):
            pass


async def test_compression_is_for_those_with_a_key(server: Server) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with Raw(server, "/ws", offer) as stranger, Raw(server, "/ws", offer, f"Authorization: Bearer {KEY}") as mine:
        assert (stranger.status, mine.status) == (101, 101)
        assert b"permessage-deflate" not in stranger.head
        assert b"permessage-deflate" in mine.head


# ---------------------------------------------------------------------------------------------------------------------
# Who doesn't read


async def test_a_stranger_that_does_not_read_delays_nobody_and_is_aborted(
    server: Server, session: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as open_ones:
        deaf = [await open_ones.enter_async_context(Raw(server, buffer=4096)) for _ in range(3)]
        others = [
            await open_ones.enter_async_context(session.ws_connect("/ws", headers=headers))
            for headers in ({}, bearer(KEY))
        ]
        await send(session, "status", size=1)
        await asyncio.sleep(0.5)
        started = time.monotonic()
        for _ in range(30):
            await send(session, "status", count=1000, size=100)
        for socket in others:
            heard = 0
            while heard < 30_000:
                message = await socket.receive_json(timeout=SOON)
                heard += message["data"].get("number") is not None
        assert time.monotonic() - started < SOON
        for socket in deaf:
            assert await asyncio.wait_for(socket.close_code(), SOON) is None


async def test_with_a_key_too(server: Server, session: aiohttp.ClientSession) -> None:
    authorized = f"Authorization: Bearer {KEY}"
    async with (
        Raw(server, "/ws?clientId=deaf", authorized, buffer=4096) as deaf,
        session.ws_connect("/ws", headers=bearer(KEY), max_msg_size=0) as other,
    ):
        started = time.monotonic()
        for _ in range(60):
            await send(session, 1, count=1, size=MIB // 2)
        await send(session, "test_end")
        assert (await heard_until(other, "test_end")).count(1) == 60
        assert time.monotonic() - started < SOON
        assert await asyncio.wait_for(deaf.close_code(), SOON) is None


# ---------------------------------------------------------------------------------------------------------------------
# How many, and whose


async def test_so_many_of_one_address(server: Server, session: aiohttp.ClientSession) -> None:
    async def refused(address: str, **more: str) -> dict[str, Any] | None:
        headers = {"X-Forwarded-For": address, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 22 + "==",
                   "Connection": "Upgrade", "Upgrade": "websocket", **more}  # fmt: skip
        async with session.get("/ws", headers=headers) as answer:
            return None if answer.status == 101 else {"status": answer.status, **await answer.json()}

    async with AsyncExitStack() as open_ones:
        sockets = [
            await open_ones.enter_async_context(session.ws_connect("/ws", headers={"X-Forwarded-For": "192.0.2.1"}))
            for _ in range(32)
        ]
        told = await refused("192.0.2.1")
        assert told is not None
        assert (told["status"], told["cause"]) == (429, "sockets")
        assert await refused("192.0.2.2") is None
        assert await refused("192.0.2.1", **bearer(KEY)) is None
        await sockets[0].close()
        await asyncio.sleep(0.5)
        assert await refused("192.0.2.1") is None


async def test_who_has_a_key_takes_a_client_id_from_who_has_none(session: aiohttp.ClientSession) -> None:
    async with session.ws_connect("/ws?clientId=wanted", autoclose=False) as stranger:
        await stranger.receive_json(timeout=SOON)
        async with session.ws_connect("/ws?clientId=wanted", headers=bearer(KEY)) as mine:
            while (message := await stranger.receive(timeout=SOON)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
            await asyncio.sleep(1.5)  # until the other socket is aborted
            await send(session, "test_end", sid="wanted")
            assert "test_end" in await heard_until(mine, "test_end")
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                await session.ws_connect("/ws?clientId=wanted")


async def test_a_long_header_is_not_kept(server: Server) -> None:
    fields = [f"X-Field-{number}: {'x' * 4000}" for number in range(5)]
    async with Raw(server, "/ws", *fields) as stranger, Raw(server, "/ws", *fields, f"X-API-Key: {KEY}") as mine:
        assert (stranger.status, mine.status) == (431, 101)


async def test_a_page_of_another_host_is_refused(server: Server) -> None:
    async with Raw(server, "/ws", "Origin: https://evil.example") as stranger:
        assert stranger.status == 403
