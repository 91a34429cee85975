"""`/auth_verify`: a proxy asks it whether a client may use another program next to ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from comfy_auth_rs import create_auth_middleware, setup
from support import apps
from support.client import BEARER, BROWSER, CHALLENGE, UPGRADE, Answer, basic, bearer, fetch, log_in
from support.keys import KEY

WHO = ("X-Auth-Key-Label", "X-Auth-User", "X-Auth-Scope", "X-Auth-Subject")
WRONG = bearer("wrong-key-of-the-neighbours-tests")
LABELS = [
    "alice", "Alice's laptop", "100% sure", "Zoë", "工作站", "🔑", "a, b; c:\"d\"", "#1 <b>&amp;</b>", "a\u2028b\u202e",
    "%0d%0aSet-Cookie: x=y", "\u00a0edges\u00a0", "x" * 256,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Asked directly


@pytest.fixture
async def server(aiohttp_server: Any, tmp_path: Path) -> Any:
    """It has a key for each label, one without a label, and alice's `KEY`."""
    lines = [
        f'key-of-{number} "{label}"' if "=" in label else f"key-of-{number} {label}"
        for number, label in enumerate(LABELS)
    ]
    (tmp_path / "keys").write_text("\n".join([*lines, "key-without-label", f"{KEY} alice"]), encoding="utf-8")
    app = apps.secret_app()
    setup(app, api_key_file=tmp_path / "keys")
    return await aiohttp_server(app)


async def verify(server: Any, headers: Any = (), method: str = "GET", target: str = "/auth_verify") -> Answer:
    return await fetch(server, target, headers, method=method)


async def test_a_valid_credential_is_verified(server: Any) -> None:
    cookie = {"Cookie": await log_in(server)}
    for headers in (BEARER, basic(KEY), {"X-API-Key": KEY}, cookie, {**cookie, **WRONG}, {**BEARER, **UPGRADE}):
        for method in ("GET", "HEAD"):
            reply = await verify(server, headers, method)
            assert (reply.status, reply.body, reply.headers["X-Auth-Key-Label"]) == (204, b"", "alice")
            assert reply.headers["Cache-Control"] == "no-store"
            assert "Set-Cookie" not in reply.headers
    for query in (f"api_key={KEY}", f"x=1&token={KEY}"):
        assert (await verify(server, target=f"/auth_verify?{query}")).status == 204


@pytest.mark.parametrize("accept", [{}, BROWSER], ids=["a program", "a browser"])
@pytest.mark.parametrize(("headers", "cause"), [({}, "missing_credential"), (WRONG, "invalid_credential")])
async def test_nothing_else_is_and_nobody_is_redirected(server: Any, accept: Any, headers: Any, cause: str) -> None:
    reply = await verify(server, {**accept, **headers})
    assert (reply.status, reply.json["cause"]) == (401, cause)
    assert reply.headers["WWW-Authenticate"].startswith(CHALLENGE)
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Location" not in reply.headers
    assert {reply.headers[name] for name in WHO} == {""}, "they replace what a client sent under these names"
    reply = await verify(server, {**accept, **headers}, "HEAD")
    assert (reply.status, reply.body) == (401, b"")


async def test_labels_go_through_headers_unharmed(server: Any) -> None:
    for number, label in enumerate(LABELS):
        reply = await verify(server, bearer(f"key-of-{number}"))
        sent = reply.headers["X-Auth-Key-Label"]
        assert sent.isascii()
        assert sent.isprintable()
        assert unquote(sent) == label
        assert sent == label or not label.isascii() or "%" in label
        assert "Set-Cookie" not in reply.headers


async def test_a_key_without_a_label_has_an_empty_one(server: Any) -> None:
    """The header is always there, so a proxy that copies it replaces the one a client sent."""
    reply = await verify(server, {**bearer("key-without-label"), "X-Auth-Key-Label": "alice"})
    assert (reply.status, reply.headers["X-Auth-Key-Label"]) == (204, "")


async def test_only_questions_are_answered(server: Any) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await verify(server, method=method)).status == 401
        assert (await verify(server, BEARER, method)).status == 405


async def test_a_session_alone_does_not_do_for_what_a_foreign_page_sent(server: Any) -> None:
    cookie = {"Cookie": await log_in(server)}
    ours, foreign = {"Origin": f"http://127.0.0.1:{server.port}"}, {"Origin": "http://evil.example"}
    socket = {name: value for name, value in UPGRADE.items() if name.startswith("Sec-")}
    for headers, status in [
        ({"X-Original-Method": "GET"}, 204),
        ({"X-Forwarded-Method": "HEAD"}, 204),
        ({**ours, "X-Original-Method": "POST"}, 204),
        ({"Sec-Fetch-Site": "same-origin", "X-Forwarded-Method": "POST"}, 204),
        ({**ours, **socket}, 204),
        ({"X-Original-Method": "POST"}, 401),
        ({"X-Forwarded-Method": "POST", "X-Original-Method": "GET"}, 401),
        ({**foreign, "X-Original-Method": "POST"}, 401),
        ({"Sec-Fetch-Site": "cross-site", "X-Forwarded-Method": "POST"}, 401),
        (foreign, 401),
        ({**foreign, **socket}, 401),
        (socket, 401),
    ]:
        reply = await verify(server, {**cookie, **headers})
        assert reply.status == status, headers
        if status == 401:
            assert reply.json["cause"] == "cross_origin"
            assert reply.headers["WWW-Authenticate"] == CHALLENGE
        assert (await verify(server, {**BEARER, **headers})).status == 204


async def test_what_a_proxy_tells_of_the_address_is_no_credential(server: Any) -> None:
    """Another program may have its own `token`, and a client that can't read answers may still send a header."""
    for name in ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri"):
        for number in range(12):
            assert (await verify(server, {name: f"/x?token=neighbours-own-{number}"})).status == 401
        reply = await verify(server, {name: f"/x?api_key={KEY}"})
        assert (reply.status, reply.json["cause"]) == (401, "missing_credential")


@pytest.mark.parametrize(
    ("told", "following"),
    [
        ("/neighbour/a%20b?x=1&y=2#?+", "/neighbour/a%20b?x=1&y=2#?+"),
        ("/x?a=1&api_key=secret&tok%65n=secret&b=2", "/x?a=1&b=2"),
        ("/x?token=secret", "/x"),
        ("", None),
        ("/" + "x" * 2000, "/" + "x" * 2000),
        ("/" + "&" * 1000, None),
    ],
)
async def test_a_refusal_says_how_the_address_is_written_after_next(server: Any, told: str, following: Any) -> None:
    """For nginx, which can't percent-encode it."""
    for headers in ({}, WRONG):
        reply = await verify(server, {**headers, "X-Original-URI": told})
        assert reply.status == 401
        found = reply.headers.get("X-Auth-Next")
        assert (found and unquote(found)) == following
        assert not set(found or "") & set("&?#+/=")
    assert "X-Auth-Next" not in (await verify(server, {**BEARER, "X-Original-URI": told})).headers


async def test_guesses_count_and_who_is_locked_gets_a_401(server: Any) -> None:
    """nginx would turn a 429 into a 500."""
    assert (await verify(server, BEARER)).status == 204
    for number in range(10):
        assert (await verify(server, bearer(f"guess-{number}"))).status == 401
    for headers in (*(bearer(f"more-{number}") for number in range(10)), bearer("key-of-1")):
        reply = await verify(server, headers)
        assert (reply.status, reply.json["cause"]) == (401, "locked")
        assert 0 < int(reply.headers["Retry-After"]) <= 60
        assert reply.headers["WWW-Authenticate"] == CHALLENGE
    assert (await verify(server, BEARER)).status == 204  # it was used from here before
    assert (await fetch(server, "/prompt", bearer("another guess"))).status == 429


async def test_a_middleware_without_setup_verifies_nothing(aiohttp_server: Any) -> None:
    server = await aiohttp_server(apps.secret_app(create_auth_middleware(api_key=KEY)))
    assert (await verify(server)).status == 401
    assert (await verify(server, BEARER)).status == 404
