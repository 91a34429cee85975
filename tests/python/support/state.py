"""Servers that share a state, and what clients see of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from comfy_auth_rs import setup

from support.apps import secret_app
from support.client import Answer, Listener, bearer, fetch, log_in
from support.keys import KEY

#: Every test has its own proxy, because locks of loopback aren't shared between servers.
PROXY = {"trusted_proxy": "127.0.0.1"}


def node(state: object, **settings: Any) -> Any:
    """An application that keeps its state in `state`."""
    app = secret_app()
    setup(app, state=state, **{"api_key": KEY, **PROXY, **settings})
    return app


async def log_out(server: Listener, cookie: str) -> Answer:
    return await fetch(server, "/auth_session", {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}, method="DELETE")


async def admits(server: Listener, cookie: str) -> bool:
    """Whether the cookie opens anything. Its name contains a port, which the other server takes from `Host`."""
    port = cookie.partition("=")[0].rpartition("_")[2]
    answer = await fetch(server, headers={"Cookie": cookie, "Host": f"127.0.0.1:{port}"})
    assert answer.status in (200, 401), answer
    return answer.status == 200


async def admits_from(server: Listener, client: str, key: str = KEY) -> int:
    """The status for a client behind the proxy."""
    return (await fetch(server, headers={**bearer(key), "X-Forwarded-For": client})).status


async def lock(server: Listener, client: str) -> None:
    for number in range(10):
        assert await admits_from(server, client, f"wrong-{number}") == 401
    assert await admits_from(server, client, "wrong") == 429


async def seconds_until(holds: Callable[[], Awaitable[bool]], longest: float = 10) -> float:
    """Waits until it is true. Returns how many seconds that took."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < longest, "it never became true"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def new_session_is_refused_after_log_out(server: Listener, *others: Listener) -> float:
    """Logs in and out at `server`. Returns for how long after that any other server still admits the session."""
    cookie = await log_in(server)
    for one in (server, *others):
        assert await admits(one, cookie)
    answer = await log_out(server, cookie)
    assert answer.status == 204, answer
    assert not await admits(server, cookie)

    async def all_refuse() -> bool:
        return not any([await admits(other, cookie) for other in others])

    return await seconds_until(all_refuse)
