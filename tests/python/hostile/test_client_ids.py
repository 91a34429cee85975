"""Only clients with the key get messages for a WebSocket that was opened with it, however they spell the `clientId`."""

from __future__ import annotations

import asyncio

import aiohttp
from support.client import bearer

from hostile.target import Target, statuses
from hostile.websockets import UPGRADE, upgrade
from hostile.wire import exchange

#: What follows `/ws`. The thieves want the socket with the id `mine`.
SPELLINGS = (
    "?clientId=mine", "?clientId=mine&clientId=other", "?clientId=other&clientId=mine", "?clientId=&clientId=mine",
    "?%63lientId=mine", "?clientI%64=m%69ne", "?clientId=%6d%69%6e%65", "?clientId=mine#x", "?clientId=mine&",
    "?&clientId=mine", "?clientId=mine;x", "?x;clientId=mine", "?clientId[]=mine", "?clientId=mine%00",
    "?clientId=mine%20", "?clientId=+mine", "?clientId=MINE", "?clientid=mine", "?clientId=mine=", "?clientId==mine",
    "?clientId=%ff", "?clientId=\xff", "?clientId=m\xffine", "?clientId=%ed%a0%80", "?clientId=%C0%AD",
    "?clientId=mine%0d%0a", "??clientId=mine", "?a=b?clientId=mine", "?clientId=" + "mine" * 1500,
    "?clientId=mine&api_key=", "?clientId=mine&api_key=wrong", "?clientId=mine&token=x", "?clientId=mi&Id=ne",
    "#?clientId=mine", "?clientId", "?clientId=", "",
)  # fmt: skip

#: How many seconds each thief listens after its last message. The message that they want is sent halfway.
LISTEN = 4.0

PATHS = ("/ws", "/api/ws", "//ws", "/./ws", "/%77s", "/api/../ws", "http://@HOST@/ws")


async def test_nobody_steals_the_messages_of_a_socket(target: Target) -> None:
    attacks = [(path, upgrade(f"{path}{id}", *UPGRADE)) for path in PATHS for id in SPELLINGS]
    async with (
        aiohttp.ClientSession(target.server.url, headers=bearer(target.key)) as session,
        session.ws_connect("/ws?clientId=mine") as mine,
    ):
        await mine.receive_json(timeout=20)
        thieves = [
            asyncio.create_task(
                exchange(target.server.port, target.fill(data), f"127.200.0.{number % 250 + 1}", LISTEN)
            )
            for number, (_, data) in enumerate(attacks)
        ]
        await asyncio.sleep(LISTEN / 2)
        await mine.send_json({"type": "feature_flags", "data": {}})
        while (await mine.receive_json(timeout=20))["type"] != "feature_flags":
            pass  # messages to everybody
        answers = await asyncio.gather(*thieves)
    stolen = [attacks[number] for number, answer in enumerate(answers) if b'"feature_flags"' in answer]
    assert stolen == []
    assert [attacks[number] for number, answer in enumerate(answers) if any(s >= 500 for s in statuses(answer))] == []
    assert any(statuses(answer) == [101] for answer in answers)  # other ids aren't taken
    assert statuses(answers[0]) == [401]
