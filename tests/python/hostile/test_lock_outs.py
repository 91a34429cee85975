"""Lock-outs hold, and hurt only the guesser. Attackers found these cases; the tests use real sockets."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count, islice
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from comfy_auth_rs import setup
from support.apps import secret_app
from support.client import BEARER, BROWSER, FORM, JSON, UPGRADE, Answer, basic, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY, SHORT_KEY

#: Over plain HTTP and with a host name, browsers send no `Sec-Fetch-*`.
HOST = "comfy.example:8188"
OWN_PAGE = {"Host": HOST, "Origin": f"http://{HOST}", "Referer": f"http://{HOST}/auth_login.html"}

#: Requests that another site's page can make its visitor's browser send, with a key that the page chooses.
BY_OTHER_PAGES: dict[str, Callable[[str], dict[str, Any]]] = {
    "a picture": lambda key: {"target": f"/?api_key={key}", "headers": {"Host": HOST, "Accept": "image/*"}},
    "a picture by its other name": lambda key: {"target": f"/view?token={key}", "headers": {"Host": HOST}},
    "a picture below a key": lambda key: {"target": f"/key/{key}/view", "headers": {"Host": HOST}},
    "a link": lambda key: {"target": f"/?api_key={key}", "headers": {**BROWSER, "Host": HOST}},
    "a link in a new browser": lambda key: {
        "target": f"/?api_key={key}",
        "headers": {**BROWSER, "Host": HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    },
    "a link whose target sends one on": lambda key: {
        "target": f"/?token={key}",
        "headers": {**BROWSER, "Host": HOST, "Sec-Fetch-Site": "same-origin"},
    },
    "a WebSocket": lambda key: {
        "target": f"/ws?token={key}",
        "headers": {**UPGRADE, "Host": HOST, "Origin": "http://evil.example"},
    },
    "a form": lambda key: {
        "target": f"/prompt?token={key}",
        "method": "POST",
        "headers": {**FORM, "Host": HOST, "Origin": "http://evil.example"},
    },
    "a log-in": lambda key: {
        "target": "/auth_session",
        "method": "POST",
        "headers": {**FORM, "Host": HOST, "Origin": "http://evil.example"},
        "body": f"api_key={key}".encode(),
    },
    "a log-in by the address": lambda key: {
        "target": f"/auth_session?api_key={key}",
        "method": "POST",
        "headers": {"Host": HOST, "Origin": "null"},
        "body": b"",
    },
    "a script, where CORS lets it": lambda key: {
        "target": "/queue",
        "headers": {"Host": HOST, "X-API-Key": key, "Origin": "http://evil.example"},
    },
    "a script of another port": lambda key: {
        "target": "/queue",
        "headers": {"Host": HOST, **bearer(key), "Sec-Fetch-Site": "same-site"},
    },
    "a read that tells where it comes from": lambda key: {
        "target": "/queue",
        "headers": {"Host": HOST, **basic(key), "Referer": "http://evil.example/page"},
    },
}


@pytest.fixture
async def server(aiohttp_server: Callable[[web.Application], Awaitable[TestServer]]) -> TestServer:
    app = secret_app()
    setup(app, api_key=[KEY, OTHER_KEY, SHORT_KEY], url_key=True)
    return await aiohttp_server(app)


@pytest.fixture
async def guess(server: TestServer) -> AsyncIterator[Callable[..., Awaitable[list[int]]]]:
    """Sends this many guesses, no two alike, and returns the statuses."""
    numbers = count()
    async with aiohttp.ClientSession(server.make_url("/")) as session:

        async def guess(how_many: int, target: str = "/prompt", headers: Any = bearer) -> list[int]:
            statuses = []
            for number in islice(numbers, how_many):
                word = f"guess-{number}"
                async with session.get(target.format(word), headers=headers(word) if headers else None) as response:
                    statuses.append(response.status)
            return statuses

        yield guess


async def log_in_at_the_page(server: TestServer, key: str) -> Answer:
    """Logs in like the login page's script."""
    body = json.dumps({"api_key": key}).encode()
    return await fetch(server, "/auth_session", {**OWN_PAGE, **JSON}, method="POST", body=body)


async def status(server: TestServer, headers: dict[str, str], target: str = "/prompt") -> int:
    return (await fetch(server, target, headers)).status


@pytest.mark.parametrize("more", [10, 300])
async def test_a_lock_holds_for_what_can_be_guessed(server: TestServer, guess: Any, more: int) -> None:
    new_there = {"Cookie": await log_in(server, OTHER_KEY)}
    for key in (KEY, SHORT_KEY):
        assert await status(server, bearer(key)) == 200
    assert await guess(10) == [401] * 10
    assert await guess(more) == [429] * more
    for present in (bearer, basic, lambda key: {"X-API-Key": key}):
        assert await status(server, present(KEY)) == 200
        assert await status(server, present(SHORT_KEY)) == 429
    assert await status(server, new_there) == 200
    assert (await log_in_at_the_page(server, SHORT_KEY)).status == 429
    assert (await log_in_at_the_page(server, KEY)).status == 204


async def test_ten_keys_are_evaluated_in_all(server: TestServer, guess: Any) -> None:
    assert await guess(17) == [401] * 10 + [429] * 7
    assert [await status(server, bearer(SHORT_KEY)) for _ in range(4)] == [200] * 3 + [429]
    assert await status(server, bearer(OTHER_KEY)) == 429, "a right key, but new at this address"


async def test_nothing_tells_a_right_guess_from_a_wrong_one_in_a_lock(server: TestServer, guess: Any) -> None:
    await guess(20)
    foreign = {"Sec-Fetch-Site": "cross-site"}
    await guess(20, headers=lambda key: {**bearer(key), **foreign})
    for target, method, beside in [
        ("/prompt", "GET", {}), ("/prompt", "POST", {}), ("/health", "GET", {}), ("/nothing", "GET", {}),
        ("/auth_session", "GET", {}), ("/auth_session", "POST", {}), ("/auth_verify", "GET", {}),
        ("/prompt", "POST", foreign), ("/prompt", "GET", foreign), ("/auth_session", "POST", foreign),
        ("/prompt", "POST", {"Origin": "null"}), ("/", "GET", BROWSER), ("/", "GET", {**BROWSER, **foreign}),
    ]:  # fmt: skip
        for present in (bearer, basic, lambda key: {"X-API-Key": key}):
            right, wrong = [
                await fetch(server, target, {**present(key), **beside}, method=method) for key in (SHORT_KEY, "wrong")
            ]
            assert (right.status, right.body) == (wrong.status, wrong.body), (target, method, beside)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_all_of_loopback_is_one_address(server: TestServer) -> None:
    statuses = []
    for number in range(18):
        source = f"127.7.0.{number // 9 + 1}"
        statuses.append((await fetch(server, headers=bearer(f"guess-{number}"), source=source)).status)
    assert statuses == [401] * 10 + [429] * 8


@pytest.mark.parametrize("send", BY_OTHER_PAGES.values(), ids=BY_OTHER_PAGES)
async def test_no_page_locks_its_visitor_out(server: TestServer, guess: Any, send: Any) -> None:
    session = {"Cookie": (await log_in(server, OTHER_KEY)).replace(str(server.port), "8188"), "Host": HOST}
    replies = [await fetch(server, **send(f"guess-{number}")) for number in range(40)]
    evaluated = [reply.status for reply in replies if reply.status not in (403, 429)]
    assert len(evaluated) in (0, 10), "such guesses also have a limit"
    assert (await log_in_at_the_page(server, SHORT_KEY)).status == 204
    form = {**OWN_PAGE, **FORM}
    assert (await fetch(server, "/auth_session", form, method="POST", body=f"api_key={KEY}".encode())).status == 303
    for headers in (BEARER, {**bearer(SHORT_KEY), **OWN_PAGE}, session, {**session, **OWN_PAGE}):
        assert await status(server, headers) == 200
    assert await guess(11) == [401] * 10 + [429], "the page's guesses don't count as the visitor's"


async def test_guesses_in_addresses_are_not_for_free(server: TestServer, guess: Any) -> None:
    assert (await guess(400, "/prompt?api_key={}", None)) == [401] * 10 + [429] * 390
    for target in (f"/prompt?token={SHORT_KEY}", f"/?api_key={SHORT_KEY}", f"/key/{SHORT_KEY}/prompt"):
        assert await status(server, {}, target) == 429
    assert await status(server, {**bearer(SHORT_KEY), "Origin": "null"}) == 429
    assert await status(server, bearer(SHORT_KEY)) == 200
    assert await status(server, bearer(KEY)) == 200
    assert await status(server, {}, f"/prompt?token={KEY}") == 200, "a long key, and it was good from here before"


@pytest.mark.parametrize(
    "foreign",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://comfy.example:8247", "Host": HOST},
        {"Origin": "null"},
    ],
)
async def test_a_log_in_from_a_foreign_page_is_refused_wherever_the_key_is(
    server: TestServer, foreign: dict[str, str]
) -> None:
    def log_ins(key: str) -> Iterator[dict[str, Any]]:
        for headers in (bearer(key), basic(key), {"X-API-Key": key}):
            yield {"target": "/auth_session", "headers": headers}
            yield {"target": "/auth_session", "headers": {**headers, **FORM}}
        yield {"target": "/auth_session", "headers": FORM, "body": f"api_key={key}".encode()}
        yield {"target": "/auth_session", "headers": JSON, "body": json.dumps({"api_key": key}).encode()}
        yield {"target": f"/auth_session?api_key={key}"}
        yield {"target": f"/auth_session?token={key}", "headers": FORM}
        yield {"target": f"/key/{key}/auth_session"}

    for key in (KEY, *(f"guess-{number}" for number in range(12))):
        for sent in log_ins(key):
            sent = {"body": b"", **sent, "headers": {**sent.get("headers", {}), **foreign}}
            reply = await fetch(server, method="POST", **sent)
            assert (reply.status, reply.json["cause"], "Set-Cookie" in reply.headers) == (403, "cross_origin", False)
    assert (await log_in_at_the_page(server, KEY)).status == 204
    assert await status(server, {**bearer("wrong"), **foreign}) == 401, "keys that were not evaluated don't count"


async def test_a_session_is_no_way_to_guess_other_keys(server: TestServer) -> None:
    """`GET /auth_session` says which credential counts."""
    session = {"Cookie": await log_in(server)}
    replies = [await fetch(server, "/auth_session", {**session, **bearer(f"guess-{n}")}) for n in range(30)]
    assert {(reply.status, reply.json["source"]) for reply in replies} == {(200, "cookie")}
    assert (await fetch(server, "/auth_session", {**session, **bearer(SHORT_KEY)})).json["source"] == "cookie"
    assert await status(server, bearer(SHORT_KEY)) == 429
