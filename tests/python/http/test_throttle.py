"""Failed attempts: what locks an address, what passes a lock, and what is logged."""

from __future__ import annotations

import logging
import re
import socket
import sys

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import refusal, setup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.apps import secret_app
from support.client import BEARER, BROWSER, UPGRADE, basic, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY, SHORT_KEY

#: Other clients, at loopback addresses that only Linux has from the start.
SECOND, THIRD = "127.0.0.2", "127.0.0.3"
several_addresses = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


@pytest.fixture(autouse=True)
def full_allowance(monkeypatch):
    """The limit on log lines is for the whole process, so each test gets a new one."""
    for name in ("_allowance", "_quiet_allowance"):
        monkeypatch.setattr(refusal, name, refusal._Allowance())


@pytest.fixture
def start(aiohttp_server):
    async def start(**given):
        app = secret_app()
        setup(app, **{"api_key": [KEY, OTHER_KEY, SHORT_KEY], **given})
        return await aiohttp_server(app)

    return start


@pytest.fixture
async def server(start):
    return await start()


async def guess(server, number, **request):
    return await fetch(server, headers=bearer(f"wrong-{number}"), **request)


async def lock(server, **request):
    for number in range(10):
        assert (await guess(server, number, **request)).status == 401, number


async def use_up(server, **request):
    """Uses up the ten keys that are evaluated while an address is locked."""
    for number in range(10):
        assert is_locked(await guess(server, f"more-{number}", **request))


def is_locked(reply, seconds=60):
    assert reply.status == 429
    assert (reply.json["error"], reply.json["cause"]) == ("too_many_requests", "locked")
    assert seconds - 5 <= int(reply.headers["Retry-After"]) <= seconds
    assert reply.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in reply.headers
    return True


# ---------------------------------------------------------------------------------------------------------------------
# What locks


async def test_ten_distinct_guesses_lock(server):
    await lock(server)
    for headers in (
        bearer("wrong-11"),
        bearer("wrong-1"),
        {"X-API-Key": "wrong-12"},
        basic("wrong-13"),
        {"Authorization": "Basic !"},
    ):
        assert is_locked(await fetch(server, headers=headers))


async def test_guesses_count_wherever_they_are(server):
    for number in range(10):
        target, headers = [
            ("/prompt", bearer(f"wrong-{number}")),
            ("/prompt", {"X-API-Key": f"wrong-{number}"}),
            ("/health", basic(f"wrong-{number}")),
            ("/auth_session", bearer(f"wrong-{number}")),
        ][number % 4]
        assert (await fetch(server, target, headers)).status == 401
    assert is_locked(await guess(server, "one more"))
    assert is_locked(await fetch(server, "/auth_session", bearer("wrong"), method="POST"))


async def test_guesses_in_addresses_count_wherever_they_are(start):
    server = await start(url_key=True)
    for number in range(10):
        target = [
            f"/prompt?api_key=wrong-{number}",
            f"/nothing?token=wrong-{number}",
            f"/health?token=wrong-{number}",
            f"/key/wrong-{number}/prompt",
        ][number % 4]
        assert (await fetch(server, target)).status == 401
    assert is_locked(await fetch(server, "/prompt?token=one-more"))
    assert is_locked(await fetch(server, "/key/one-more/prompt"))
    assert (await guess(server, "in a header")).status == 401


async def test_one_value_at_two_places_is_one_guess(server):
    for number in range(5):
        both = {**bearer(f"wrong-{number}"), "X-API-Key": f"wrong-{number}"}
        assert (await fetch(server, headers=both)).status == 401
    for number in range(5, 10):
        assert (await guess(server, number)).status == 401
    assert is_locked(await guess(server, "one more"))


async def test_guesses_of_one_request_count_each(server):
    many = [("X-API-Key", f"wrong-{number}") for number in range(10)]
    assert (await fetch(server, headers=many)).status == 401
    assert is_locked(await guess(server, "one more"))


async def test_what_is_no_attack_never_locks(server):
    for number in range(40):
        assert (await guess(server, "the same")).status == 401, "a client with an old key"
        assert (await fetch(server)).status == 401, "a client without one"
        assert (await fetch(server, headers={"Authorization": f"Digest {number}"})).status == 401
        assert (await fetch(server, headers={"Authorization": f"Basic !{number}"})).status == 401
        assert (await fetch(server, headers={"Cookie": f"comfyui_session_{server.port}={number}"})).status == 401
        assert (await fetch(server, headers={**bearer(f"wrong-{number}"), "X-API-Key": KEY})).status == 200
    assert (await guess(server, "another")).status == 401


# ---------------------------------------------------------------------------------------------------------------------
# What a lock lets through


async def test_sessions_and_long_keys_that_were_good_before_pass_a_lock(server):
    for key in (KEY, SHORT_KEY):
        assert (await fetch(server, headers=bearer(key))).status == 200
    session = {"Cookie": await log_in(server)}
    await lock(server)
    await use_up(server)
    for headers in (BEARER, session, {**session, **bearer("wrong")}, {"X-API-Key": KEY}, basic(KEY)):
        assert (await fetch(server, headers=headers)).status == 200
    assert (await fetch(server, f"/prompt?token={KEY}")).status == 200
    assert (await fetch(server, "/auth_session", BEARER, method="POST")).status == 204
    for headers in (bearer(SHORT_KEY), {"X-API-Key": SHORT_KEY}, basic(SHORT_KEY)):
        assert is_locked(await fetch(server, headers=headers)), "somebody could guess a short key"
    assert (await fetch(server, headers={**bearer(SHORT_KEY), **session})).status == 200
    for key in (SHORT_KEY, OTHER_KEY):
        assert is_locked(await fetch(server, headers=bearer(key))), "the key is right, but during a lock nobody is told"
        assert is_locked(await fetch(server, "/auth_session", bearer(key), method="POST"))


@pytest.mark.parametrize("key", [SHORT_KEY, OTHER_KEY], ids=["a short key", "one that is new there"])
async def test_ten_keys_are_evaluated_in_a_lock(server, key):
    await lock(server)
    for number in range(4):
        assert is_locked(await guess(server, f"more-{number}"))
    for _ in range(5):
        assert (await fetch(server, headers=bearer(SHORT_KEY))).status == 200
    reply = await fetch(server, "/auth_session", bearer(key), method="POST")
    assert reply.status == 204, "a log-in counts as one evaluation"
    session = {"Cookie": reply.headers["Set-Cookie"].split(";")[0]}
    assert is_locked(await fetch(server, headers=bearer(SHORT_KEY)))
    assert (await fetch(server, headers={**bearer(SHORT_KEY), **session})).status == 200, "its session still works"


async def test_what_needs_no_key_passes_a_lock(server):
    await lock(server)
    for target in ("/auth_login.html", "/auth_inject.js", "/health"):
        assert (await fetch(server, target)).status == 200
    assert (await fetch(server)).status == 401
    assert (await fetch(server, headers=BROWSER)).status == 302
    assert is_locked(await fetch(server, "/health", bearer("wrong")))
    assert is_locked(await fetch(server, headers={**BROWSER, **bearer("wrong")})), "a browser is not sent in a loop"


@several_addresses
async def test_all_of_loopback_is_one_address(server):
    session = {"Cookie": await log_in(server, OTHER_KEY)}
    for number in range(10):
        assert (await guess(server, number, source=f"127.7.0.{number + 1}")).status == 401
    for source in ("127.0.0.1", SECOND, "127.255.255.254"):
        assert is_locked(await guess(server, "one more", source=source))
        assert (await fetch(server, headers=session, source=source)).status == 200, "a session may be new there"


async def test_a_lock_is_for_one_address(start):
    server = await start(trusted_proxy="127.0.0.1")
    first, second = ({"X-Forwarded-For": address} for address in ("192.0.2.1", "192.0.2.2"))
    for number in range(20):
        await fetch(server, headers={**first, **bearer(f"wrong-{number}")})
    assert is_locked(await fetch(server, headers={**first, **BEARER}))
    assert (await fetch(server, headers={**second, **BEARER})).status == 200
    assert is_locked(await fetch(server, headers={**first, **BEARER})), "the key was used before, but not from there"
    assert (await guess(server, 1)).status == 401
    session = {"Cookie": await log_in(server)}
    assert (await fetch(server, headers={**first, **session})).status == 200, "a session may come from another address"


# ---------------------------------------------------------------------------------------------------------------------
# X-Forwarded-For


def from_client(address, key):
    return {"X-Forwarded-For": address, **bearer(key)}


async def test_forwarded_for_is_ignored_where_no_proxy_is_trusted(server):
    for number in range(10):
        assert (await fetch(server, headers=from_client(f"192.0.2.{number}", f"wrong-{number}"))).status == 401
    assert is_locked(await fetch(server, headers=from_client("192.0.2.99", "wrong")))


@several_addresses
async def test_forwarded_for_is_believed_from_a_trusted_proxy_only(start):
    server = await start(trusted_proxy=["127.0.0.2/32", "10.0.0.0/8"])

    async def status(address, key, source=SECOND):
        return (await fetch(server, headers=from_client(address, key), source=source)).status

    for number in range(20):
        # What comes before 192.0.2.1 was written by the client.
        expected = 401 if number < 10 else 429
        assert await status(f"198.51.100.{number}, 192.0.2.1, 10.1.1.1", f"wrong-{number}") == expected
    assert await status("192.0.2.1", KEY) == 429
    assert await status("192.0.2.1:4711", KEY) == 429
    assert await status("::ffff:192.0.2.1", KEY) == 429
    assert await status("192.0.2.1, 192.0.2.2", KEY) == 200
    assert await status("192.0.2.2, 192.0.2.1", OTHER_KEY) == 429
    assert await status("192.0.2.1, junk", KEY) == 200, "after junk, the proxy that passed it on counts as the client"
    assert await status("192.0.2.1", KEY, source=THIRD) == 200, "this proxy is not trusted"


@several_addresses
async def test_forwarded_for_in_several_fields(start):
    server = await start(trusted_proxy=SECOND)
    for number in range(20):
        fields = [
            ("X-Forwarded-For", "198.51.100.1"),
            ("X-Forwarded-For", "192.0.2.1"),
            *bearer(f"wrong-{number}").items(),
        ]
        assert (await fetch(server, headers=fields, source=SECOND)).status == (401 if number < 10 else 429)
    assert (await fetch(server, headers=from_client("192.0.2.1", KEY), source=SECOND)).status == 429
    assert (await fetch(server, headers=from_client("198.51.100.1", KEY), source=SECOND)).status == 200


# ---------------------------------------------------------------------------------------------------------------------
# Log lines

LINE = re.compile(r"comfy-auth-rs: refused (\S+): ([A-Z]+) (/[!-~]*): ([a-z_]+)")


@pytest.fixture
def lines(caplog):
    """What was logged since the last call, checked line by line against the fixed form."""
    caplog.set_level(logging.DEBUG, "comfy_auth_rs")

    def take(suppressed=False):
        texts = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "comfy_auth_rs"]
        caplog.clear()
        if suppressed:
            texts = [(level, text) for level, text in texts if "were suppressed" not in text]
        for _, text in texts:
            assert LINE.fullmatch(text), text
            assert "canary" not in text
        return [(level, *LINE.fullmatch(text).groups()) for level, text in texts]

    return take


async def test_one_line_a_failure(server, lines):
    session = {"Cookie": await log_in(server)}
    here = "127.0.0.1"
    for target, request, expected in [
        ("/prompt", {}, ("DEBUG", here, "GET", "/prompt", "missing_credential")),
        ("/prompt", {"headers": bearer("canary")}, ("WARNING", here, "GET", "/prompt", "invalid_credential")),
        ("/a/b?api_key=canary&x=1", {"method": "POST"}, ("WARNING", here, "POST", "/a/b", "invalid_credential")),
        ("/prompt", {"headers": session, "method": "POST"}, ("WARNING", here, "POST", "/prompt", "cross_origin")),
        (
            "/prompt",
            {"headers": {**BROWSER, **bearer("canary")}},
            ("WARNING", here, "GET", "/prompt", "invalid_credential"),
        ),
        ("/health", {"headers": bearer("canary")}, ("WARNING", here, "GET", "/health", "invalid_credential")),
    ]:
        await fetch(server, target, **request)
        assert lines() == [expected]
    for target in ("/auth_login.html", "/health", "/auth_login.html?api_key=canary"):
        await fetch(server, target)
    await fetch(server, headers=BEARER)
    await fetch(server, "/prompt?api_key=wrong", BEARER)
    assert lines() == [], "an admitted request is no failure"


async def test_a_failed_log_in_is_one_line(server, lines):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for number in range(10):
        await fetch(server, "/auth_session", form, method="POST", body=f"api_key=canary-{number}&next=/secret".encode())
    assert lines() == [("WARNING", "127.0.0.1", "POST", "/auth_session", "invalid_credential")] * 10
    await fetch(server, "/auth_session", form, method="POST", body=b"api_key=canary&next=/secret")
    assert lines() == [("WARNING", "127.0.0.1", "POST", "/auth_session", "locked")]


async def test_a_line_names_the_client_behind_the_proxy(start, lines):
    server = await start(trusted_proxy=["127.0.0.1"])
    for forwarded, client in [
        ("192.0.2.1", "192.0.2.1"),
        ("junk, 2001:db8::1", "2001:db8::1"),
        ("192.0.2.1\x0b\x1b[31m", "127.0.0.1"),
        ("192.0.2.1 forged", "127.0.0.1"),
    ]:
        reply = await fetch(server, headers=from_client(forwarded, "canary"))
        if reply.status == 400:
            continue  # aiohttp rejects control characters in a header
        assert lines() == [("WARNING", client, "GET", "/prompt", "invalid_credential")]


HOSTILE_PATHS = [
    "/x\tcomfy-auth-rs:",
    "/x%0acomfy-auth-rs:%20refused%20192.0.2.1:%20GET%20/:%20invalid_credential",
    "/x%0d%0acomfy-auth-rs:",
    "/%1b[31mred",
    "/%00",
    "/\x7f\x1b",
    "/é%c3%a9\udcff",
    "/%ff%fe",
    '/"quoted"\'\\',
    "/a: invalid_credential",
    "/%s%(x)s{0}{x}%d",
    "/" + "x" * 5000,
    "/" + "%0a" * 1000,
    "//x@192.0.2.1:8188/",
    "http://192.0.2.1/x",
    "/x?canary=%0a",
    "/x#canary",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
async def test_no_path_can_forge_a_line(server, lines, path):
    reply = await fetch(server, path, bearer("canary"))
    if reply.status == 400:
        return  # aiohttp rejects it
    [(level, client, method, logged, cause)] = lines()
    assert (level, client, method, cause) == ("WARNING", "127.0.0.1", "GET", "invalid_credential")
    assert len(logged) <= 3 * 256
    assert not set(logged) & set('"\\<>`{}^| #?')


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    path=st.binary(max_size=40).map(lambda data: "/" + data.translate(None, b"\r\n ").decode(errors="surrogateescape"))
)
async def test_no_made_up_path_can_forge_a_line(server, lines, path):
    reply = await fetch(server, path, {"X-API-Key": "canary"})
    assert reply.status in (400, 401)
    assert len(lines()) == (reply.status == 401)


async def test_lines_are_limited(server, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "comfy_auth_rs")
    for _ in range(refusal._Allowance.RESERVE + 150):
        await guess(server, "the same")
    logged = [record for record in caplog.records if record.name == "comfy_auth_rs"]
    assert refusal._Allowance.RESERVE <= len(logged) <= refusal._Allowance.RESERVE + 100
    monkeypatch.setattr(refusal._Allowance, "PER_SECOND", 0)
    monkeypatch.setattr(refusal._allowance, "left", 0.0)
    assert (await guess(server, "the same")).status == 401, "the answer does not depend on the log line"
    monkeypatch.setattr(refusal._allowance, "left", 5.0)
    caplog.clear()
    await guess(server, "the same")
    told, line = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(r"comfy-auth-rs: \d+ log lines were suppressed", told)
    assert LINE.fullmatch(line)


async def test_nobody_hides_guesses_behind_requests_without_a_key(server, lines):
    for _ in range(refusal._Allowance.RESERVE + 50):
        await fetch(server)
    assert {level for level, *_ in lines(suppressed=True)} == {"DEBUG"}
    await guess(server, 1)
    assert lines() == [("WARNING", "127.0.0.1", "GET", "/prompt", "invalid_credential")]


async def test_no_method_makes_a_line_long(server, caplog):
    caplog.set_level(logging.DEBUG, "comfy_auth_rs")
    await fetch(server, method="X" * 300)
    assert [record for record in caplog.records if record.name == "comfy_auth_rs" and "X" * 33 in record.msg] == []


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
async def test_a_client_without_an_address(tmp_path, caplog):
    """Clients on a Unix socket can't be told apart, so nobody is locked out for another's guesses."""
    caplog.set_level(logging.WARNING, "comfy_auth_rs")
    app = secret_app()
    setup(app, api_key=KEY)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "socket")).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "socket"))) as session:
            for number in range(20):
                async with session.get("http://x/prompt", headers=bearer(f"canary-{number}")) as response:
                    assert response.status == 401
            async with session.get("http://x/prompt", headers=BEARER) as response:
                assert response.status == 200
    finally:
        await runner.cleanup()
    logged = {record.getMessage() for record in caplog.records}
    assert logged == {"comfy-auth-rs: refused unknown: GET /prompt: invalid_credential"}


async def test_a_failed_handshake_is_a_line_too(start, lines):
    server = await start(require_ws=True)
    await fetch(server, "/ws?api_key=canary", UPGRADE)
    assert lines() == [("WARNING", "127.0.0.1", "GET", "/ws", "invalid_credential")]


async def test_missing_credentials_are_quiet_by_default(server, caplog):
    """Every browser's first visit lacks one."""
    caplog.set_level(logging.INFO, "comfy_auth_rs")
    await fetch(server)
    assert [record for record in caplog.records if record.name == "comfy_auth_rs"] == []
