"""What survives a restart, and what two servers with the same keys tell each other through one file."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs import create_auth_middleware
from comfy_auth_rs.errors import SettingError
from support.apps import secret_app
from support.client import BEARER, BROWSER, FORM, bearer, fetch, log_in
from support.keys import CANARY, KEY, OTHER_KEY
from support.state import (
    admits,
    admits_from,
    lock,
    log_out,
    new_session_is_refused_after_log_out,
    node,
    seconds_until,
)

Serve = Callable[..., Awaitable[Any]]

AWAY = r"the state is unavailable: (.*)\. What this server knows still counts; until the state is"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
def serve(aiohttp_server: Any) -> Serve:
    async def serve(state: object, **settings: Any) -> Any:
        return await aiohttp_server(node(state, **settings))

    return serve


# --- one server -------------------------------------------------------------------------------------------------


async def test_a_log_out_outlasts_a_restart(serve: Serve, file: Path) -> None:
    before = await serve(file)
    kept, ended = await log_in(before), await log_in(before)
    assert (await log_out(before, ended)).status == 204
    await before.close()
    after = await serve(file)
    assert await admits(after, kept)
    assert not await admits(after, ended)


async def test_in_memory_it_does_not(serve: Serve) -> None:
    before = await serve("memory")
    ended = await log_in(before)
    assert (await log_out(before, ended)).status == 204
    assert not await admits(before, ended)
    await before.close()
    assert await admits(await serve("memory"), ended)


async def test_a_lock_outlasts_a_restart(serve: Serve, file: Path) -> None:
    before = await serve(file)
    await lock(before, "203.0.113.7")
    await before.close()
    after = await serve(file)
    assert await admits_from(after, "203.0.113.7", "wrong") == 429
    assert await admits_from(after, "203.0.113.8", "wrong") == 401


async def test_the_form_logs_out_for_good_too(serve: Serve, file: Path) -> None:
    before = await serve(file)
    cookie = await log_in(before)
    own = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin", **FORM, **BROWSER}
    answer = await fetch(before, "/auth_session", own, method="POST", body=b"logout=1")
    assert answer.status == 303
    await before.close()
    assert not await admits(await serve(file), cookie)


async def test_a_middleware_alone_knows_what_the_state_says(serve: Serve, file: Path, aiohttp_server: Any) -> None:
    server = await serve(file)
    cookie = await log_in(server)
    alone = await aiohttp_server(secret_app(create_auth_middleware(api_key=KEY, state=file)))
    assert await admits(alone, cookie)
    assert (await log_out(server, cookie)).status == 204
    await seconds_until(lambda: _negated(admits(alone, cookie)), 3)


async def _negated(answer: Awaitable[bool]) -> bool:
    return not await answer


# --- two servers ------------------------------------------------------------------------------------------------


async def test_a_log_out_ends_the_session_on_the_other_one(serve: Serve, file: Path) -> None:
    one, two = await serve(file), await serve(file)
    waits = [await new_session_is_refused_after_log_out(one, two) for _ in range(10)]
    assert max(waits) < 1


async def test_a_lock_holds_on_the_other_one(serve: Serve, file: Path) -> None:
    one, two = await serve(file), await serve(file)
    await lock(one, "203.0.113.7")

    async def is_locked() -> bool:
        return await admits_from(two, "203.0.113.7", "wrong") == 429

    assert await seconds_until(is_locked) < 1
    assert await admits_from(two, "203.0.113.8", "wrong") == 401


async def test_keys_that_come_later_know_what_was_said_of_them(serve: Serve, file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{OTHER_KEY}\n")
    keys.chmod(0o600)
    one, late = await serve(file), await serve(file, api_key=(), api_key_file=keys)
    cookie = await log_in(one)
    assert (await log_out(one, cookie)).status == 204
    await asyncio.sleep(0.5)
    keys.write_text(f"{OTHER_KEY}\n{KEY}\n")
    await seconds_until(lambda: _admits_key(late), 5)
    await asyncio.sleep(1.5)
    assert not await admits(late, cookie)
    assert await admits(late, await log_in(late))


async def _admits_key(server: Any) -> bool:
    return (await fetch(server, headers=BEARER)).status == 200


# --- a store that fails -----------------------------------------------------------------------------------------


@pytest.fixture
def damaged(file: Path) -> Path:
    file.write_bytes(os.urandom(10_000))
    return file


async def test_a_server_starts_whatever_became_of_its_file(
    serve: Serve, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(damaged)
    assert (await fetch(server, headers=BEARER)).status == 200
    assert (await fetch(server)).status == 401
    assert (await fetch(server, "/health")).status == 200
    await asyncio.sleep(1)
    [line] = [record for record in caplog.records if "state" in record.message]
    assert line.levelno == logging.WARNING
    told = re.search(AWAY, line.message)
    assert told
    assert told[1].startswith(f"{damaged}: it is damaged")


async def test_a_log_out_that_cannot_be_stored_is_not_called_done(serve: Serve, damaged: Path) -> None:
    server = await serve(damaged)
    cookie = await log_in(server)
    began = time.monotonic()
    answer = await log_out(server, cookie)
    assert time.monotonic() - began < 2
    assert (answer.status, answer.json["error"], answer.json["cause"]) == (503, "service_unavailable", "store")
    assert not await admits(server, cookie), "the session is logged out here all the same"
    name = cookie.partition("=")[0]
    cleared = answer.headers["Set-Cookie"]
    assert cleared.startswith(f'{name}=""; ')
    assert "Max-Age=0" in cleared
    own = {"Cookie": await log_in(server), "Sec-Fetch-Site": "same-origin", **FORM, **BROWSER}
    answer = await fetch(server, "/auth_session", own, method="POST", body=b"logout=1")
    assert (answer.status, answer.json["cause"]) == (503, "store")
    assert "Set-Cookie" in answer.headers


async def test_when_the_file_can_be_used_again_nothing_is_lost(
    serve: Serve, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(damaged)
    cookie = await log_in(server)
    assert (await log_out(server, cookie)).status == 503
    damaged.rename(damaged.with_name("away"))

    async def is_done() -> bool:
        return (await log_out(server, cookie)).status == 204

    async def is_told() -> bool:
        return f"the state is available again: {damaged}" in caplog.text

    assert await seconds_until(is_done) < 5
    assert await seconds_until(is_told) < 5
    await server.close()
    assert not await admits(await serve(damaged), cookie)


async def test_a_file_that_is_removed_is_written_again(serve: Serve, file: Path) -> None:
    one, two = await serve(file), await serve(file)
    cookies = [await log_in(one), await log_in(two)]
    assert [(await log_out(server, cookie)).status for server, cookie in zip((one, two), cookies, strict=True)] == [
        204
    ] * 2
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    assert await new_session_is_refused_after_log_out(one, two) < 5
    await one.close()
    await two.close()
    after = await serve(file)
    assert not any([await admits(after, cookie) for cookie in cookies])


async def test_another_program_that_holds_the_file_delays_no_request(serve: Serve, file: Path) -> None:
    server = await serve(file)
    cookie = await log_in(server)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        logging_out = asyncio.create_task(log_out(server, cookie))
        longest = 0.0
        while not logging_out.done():
            began = time.monotonic()
            assert (await fetch(server, headers=BEARER)).status == 200
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.01)
        assert (await logging_out).status == 503
        assert longest < 0.5
        other.execute("ROLLBACK")

    async def is_done() -> bool:
        return (await log_out(server, cookie)).status == 204

    assert await seconds_until(is_done) < 5


# --- what is told -----------------------------------------------------------------------------------------------


async def test_an_owner_is_told_how_the_state_fares(serve: Serve, file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n{OTHER_KEY} other scope=view\n")
    keys.chmod(0o600)
    server = await serve(file, api_key=(), api_key_file=keys)

    async def told() -> dict[str, object]:
        state: dict[str, object] = (await fetch(server, "/auth_session", BEARER)).json["state"]
        return state

    async def is_reached() -> bool:
        return (await told())["fault"] is None

    await seconds_until(is_reached)
    assert await told() == {"kind": "sqlite", "place": str(file), "fault": None, "away_since": None, "nodes": 1}
    assert "state" not in (await fetch(server, "/auth_session", bearer(OTHER_KEY))).json
    memory = await serve("memory")
    told = (await fetch(memory, "/auth_session", BEARER)).json["state"]
    assert told == {"kind": "memory", "place": "memory", "fault": None, "away_since": None, "nodes": 1}
    file.unlink()
    file.mkdir()

    async def is_away() -> bool:
        told = (await fetch(server, "/auth_session", BEARER)).json["state"]
        return told["fault"] is not None and abs(told["away_since"] - time.time()) < 20

    await seconds_until(is_away)


async def test_nothing_in_the_file_tells_of_keys_or_cookies(serve: Serve, file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY} {CANARY}-label user={CANARY}.user prompts=3/m\n")
    keys.chmod(0o600)
    server = await serve(file, api_key=(), api_key_file=keys)
    cookie = await log_in(server)
    assert (await log_out(server, cookie)).status == 204
    await lock(server, "203.0.113.7")
    await admits_from(server, "203.0.113.9", f"{CANARY}-guess")
    await server.close()
    content = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    assert b"facts" in content
    assert CANARY.encode() not in content
    session = cookie.partition("=")[2]
    for part in (session, session[:40], session[-40:], "wrong-", "127.0.0.1"):
        assert part.encode() not in content


@pytest.mark.parametrize("state", ["", "http://canary@h", "valkey://:canary@h/x"])
def test_what_names_no_state_is_a_bad_setting(state: str) -> None:
    for make in (lambda: node(state), lambda: create_auth_middleware(api_key=KEY, state=state)):
        with pytest.raises(SettingError) as refused:
            make()
        assert refused.value.setting == "state"
        assert "canary" not in str(refused.value)
