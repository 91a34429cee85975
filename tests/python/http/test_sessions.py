"""`/auth_session`, the cookie, and the login and logout pages, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import shutil
import ssl
import subprocess
from html import unescape
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, quote, urlencode, urljoin, urlsplit

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import create_auth_middleware, routes, setup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.apps import SECRET, secret_app
from support.client import BEARER, BROWSER, FORM, JSON, Connection, basic, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY

DAY = 24 * 60 * 60
#: A gateway's token.
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
CHUNKED = "Transfer-Encoding: chunked"


def app_with(**settings):
    app = secret_app()
    setup(app, **settings)
    return app


@pytest.fixture
async def server(aiohttp_server):
    return await aiohttp_server(app_with(api_key=[KEY, OTHER_KEY]))


async def post(server, headers=BEARER, body=b"", target="/auth_session"):
    return await fetch(server, target, {**JSON, **headers}, method="POST", body=body)


async def post_form(server, headers=(), target="/auth_session", **fields):
    return await fetch(server, target, {**FORM, **dict(headers)}, method="POST", body=urlencode(fields).encode())


def cookie_of(reply):
    """The one cookie that a reply sets, with the names of its attributes in lower case."""
    [line] = reply.headers.getall("Set-Cookie")
    pair, *attributes = line.split("; ")
    name, _, value = pair.partition("=")
    return name, value, {key.lower(): value for key, _, value in (attribute.partition("=") for attribute in attributes)}


# ---------------------------------------------------------------------------------------------------------------------
# Making a session


@pytest.mark.parametrize(("body", "remembered"), [
    (b"", False),
    (b"  ", False),
    (b"{}", False),
    (b'{"remember": false}', False),
    (b'{"remember": true}', True),
    (b'{"remember": "yes"}', False),
    (b'{"remember": 1, "more": null}', False),
])  # fmt: skip
async def test_a_key_becomes_a_cookie(server, body, remembered):
    reply = await post(server, body=body)
    assert (reply.status, reply.body, reply.headers["Cache-Control"]) == (204, b"", "no-store")
    name, value, attributes = cookie_of(reply)
    assert name == f"comfyui_session_{server.port}"
    assert re.fullmatch(r"[A-Za-z0-9_-]{108}", value)
    assert attributes == {"httponly": "", "samesite": "Strict"} | ({"max-age": str(30 * DAY)} if remembered else {})
    assert (await fetch(server, headers={"Cookie": f"{name}={value}"})).text == SECRET
    assert (await fetch(server, "/auth_session", {"Cookie": f"{name}={value}"})).status == 200


@pytest.mark.parametrize(("target", "headers", "status"), [
    ("", BEARER, 204),
    ("", bearer(OTHER_KEY), 204),
    ("", basic(KEY), 204),
    ("", {"X-API-Key": KEY}, 204),
    (f"?api_key={KEY}", {}, 204),
    ("", {"X-API-Key": KEY, **bearer("wrong")}, 204),
    ("", {}, 401),
    ("", {"X-API-Key": ""}, 401),
    ("", bearer("wrong"), 401),
])  # fmt: skip
async def test_only_a_key_becomes_a_cookie(server, target, headers, status):
    reply = await post(server, headers, target=f"/auth_session{target}")
    assert reply.status == status
    assert ("Set-Cookie" in reply.headers) == (status == 204)
    if status == 401:
        assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="ComfyUI"')
        assert reply.json["cause"] == ("invalid_credential" if "wrong" in str(headers) else "missing_credential")


async def test_a_session_cannot_renew_itself(server):
    """Otherwise it would never end."""
    ours = {"Cookie": await log_in(server), "Sec-Fetch-Site": "same-origin"}
    for send in (post, post_form):
        reply = await send(server, ours)
        assert "Set-Cookie" not in reply.headers
        assert reply.status == 401 or "error=invalid" in reply.location
    assert (await post(server, {**ours, **BEARER})).status == 204


async def test_every_session_is_another(server):
    assert len({await log_in(server) for _ in range(20)}) == 20


@pytest.mark.parametrize("body", [
    b"{", b"[]", b"null", b"1", b'"remember"', b"remember=true", b"\xff", b'{"remember": tru', b"[" * 10_000,
    b'{"a":' * 2_000,
])  # fmt: skip
async def test_a_malformed_body_is_refused(server, body):
    reply = await post(server, body=body)
    assert (reply.status, "Set-Cookie" in reply.headers) == (400, False)
    assert "remember" in reply.text


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content_type", [JSON, FORM])
async def test_a_large_body_is_refused(server, chunked, content_type):
    """The body is read before anybody is authenticated."""
    size = 20_000
    headers = {**BEARER, **content_type}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        async with Connection(server) as connection:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            await connection.send("\r\n".join(["POST /auth_session HTTP/1.1", "Host: x", *lines, "", ""]).encode())
            await connection.send(f"{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n")
            reply = await connection.reply()
    else:
        reply = await fetch(server, "/auth_session", headers, method="POST", body=b" " * size)
    assert reply.status == 413
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data; boundary=x", "text/plain", "application/octet-stream", ""]
)
async def test_no_other_kind_of_form_logs_in(server, content_type):
    """Another site's page can send these without a CORS preflight."""
    body = f'--x\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n{KEY}\r\n--x--\r\n'.encode()
    for text in (body, f"api_key={KEY}".encode()):
        reply = await fetch(server, "/auth_session", {"Content-Type": content_type}, method="POST", body=text)
        assert (reply.status, "Set-Cookie" in reply.headers) == (400, False)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_a_key_in_a_json_body_becomes_a_cookie(server, content_type):
    for remember in (False, True):
        body = json.dumps({"api_key": KEY, "remember": remember}).encode()
        reply = await post(server, {"Content-Type": content_type}, body)
        assert (reply.status, "X-Auth-Authorization-Seen" in reply.headers) == (204, False)
        name, value, attributes = cookie_of(reply)
        assert ("max-age" in attributes) is remember
        assert (await fetch(server, headers={"Cookie": f"{name}={value}"})).text == SECRET


@pytest.mark.parametrize("content_type", [
    "", "text/plain", "text/plain; application/json", "application/octet-stream", "application/jsonx",
    "multipart/form-data; boundary=x",
])  # fmt: skip
async def test_a_key_in_a_body_of_another_type_is_none(server, content_type):
    """Another site's page can send these without a CORS preflight."""
    body = json.dumps({"api_key": KEY}).encode()
    reply = await fetch(server, "/auth_session", {"Content-Type": content_type}, method="POST", body=body)
    assert (reply.status, reply.json["cause"], "Set-Cookie" in reply.headers) == (401, "missing_credential", False)


@pytest.mark.parametrize("key", [
    b"1", b"null", b"true", b"[]", b"{}", b'["' + KEY.encode() + b'"]', b'"\\ud800"', b'"' + KEY.encode(),
])  # fmt: skip
async def test_a_key_in_a_json_body_is_a_text(server, key):
    reply = await post(server, {}, b'{"api_key": ' + key + b"}")
    assert (reply.status, "Set-Cookie" in reply.headers) == (400, False)
    assert "api_key" in reply.text


async def test_a_wrong_key_in_a_json_body(server):
    for key in ("wrong", " ", f" {KEY}", KEY + "\n", "é", "\0"):
        reply = await post(server, {}, json.dumps({"api_key": key}).encode())
        assert (reply.status, reply.json["cause"], "Set-Cookie" in reply.headers) == (401, "invalid_credential", False)
    assert (await post(server, {}, b'{"api_key": ""}')).json["cause"] == "missing_credential"
    assert (await post(server, BEARER, b'{"api_key": "wrong"}')).status == 204, "a bad one never vetoes a good one"


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
])  # fmt: skip
async def test_a_foreign_page_cannot_log_somebody_in_by_json(server, headers):
    for number in range(12):
        for key in (KEY, f"wrong-{number}"):
            reply = await post(server, headers, json.dumps({"api_key": key}).encode())
            assert (reply.status, reply.json["cause"], "Set-Cookie" in reply.headers) == (403, "cross_origin", False)
    assert (await post(server, {}, json.dumps({"api_key": KEY}).encode())).status == 204, "nor lock them out"


@pytest.mark.parametrize(
    "authorization", [basic("hunter2", "me"), bearer("a.b.c"), bearer(JWT), {"Authorization": "x"}]
)
async def test_a_log_in_hears_that_something_in_front_uses_authorization(server, authorization):
    reply = await post(server, authorization, json.dumps({"api_key": KEY}).encode())
    assert (reply.status, reply.headers["X-Auth-Authorization-Seen"]) == (204, "true")
    cookie = {"Cookie": cookie_of(reply)[0] + "=" + cookie_of(reply)[1]}
    for path in ("/prompt", "/auth_session"):
        assert (await fetch(server, path, {**cookie, **authorization})).status in (200, 204)
    assert (await post_form(server, authorization, api_key=KEY)).location == "./", "without JavaScript, too"


async def test_somebody_elses_tokens_lock_nobody_out(server):
    """A gateway renews its tokens all the time."""
    tokens = [bearer(f"{JWT}{number}") for number in range(40)]
    for token in tokens:
        reply = await fetch(server, headers=token)
        assert (reply.status, reply.json["cause"]) == (401, "missing_credential")
        assert (await fetch(server, "/health", token)).status == 200
        assert (await post(server, token, json.dumps({"api_key": OTHER_KEY}).encode())).status == 204
    assert (await fetch(server, headers=BEARER)).status == 200
    for number in range(10):
        password = basic(f"password-{number}")
        assert (await post(server, password, json.dumps({"api_key": OTHER_KEY}).encode())).status == 204
    assert (await fetch(server, headers=bearer("wrong"))).json["cause"] == "invalid_credential"


# ---------------------------------------------------------------------------------------------------------------------
# The cookie's name and attributes


@pytest.mark.parametrize(("host", "name"), [
    ("example.org:8188", "comfyui_session_8188"),
    ("[::1]:9000", "comfyui_session_9000"),
    ("example.org", "comfyui_session"),
    ("[::1]", "comfyui_session"),
    ("example.org:evil; Path=/", "comfyui_session"),
    ("", "comfyui_session"),
])  # fmt: skip
async def test_the_name_carries_the_port_that_the_browser_used(server, host, name):
    reply = await post(server, {**BEARER, "Host": host})
    found, value, attributes = cookie_of(reply)
    assert found == name
    assert attributes.keys() == {"httponly", "samesite"}
    assert (await fetch(server, headers={"Host": host, "Cookie": f"{name}={value}"})).status == 200
    assert (await fetch(server, headers={"Host": "other:1", "Cookie": f"{name}={value}"})).status == 401


async def test_what_a_cookie_tells_of_its_key(aiohttp_server):
    """It contains the key's id, so guesses can be checked offline, whatever the server does against them. That finds
    a word, but not 32 random characters."""
    word = "canary"
    server = await aiohttp_server(app_with(api_key=[KEY, word]))
    for key in (KEY, word):
        digest = hashlib.sha256(key.encode()).digest()
        value = (await log_in(server, key)).partition("=")[2]
        token = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        key_id = hmac.digest(digest, b"comfy-auth-rs key id v1", "sha256")[:16]
        assert token[1:17] == key_id, "as the documents say"
        assert not any(part in token for secret in (key.encode(), digest) for part in (secret[:6], secret[-6:]))


@pytest.mark.parametrize(("fields", "secure"), [
    ({}, False),
    ({"X-Forwarded-Proto": "https"}, True),
    ({"X-Forwarded-Proto": "HTTPS, http"}, True),
    ({"X-Forwarded-Proto": "http"}, False),
    ({"X-Forwarded-Proto": "http, https"}, False),
    ({"Origin": "https://comfy.example"}, True),
    ({"Origin": "http://comfy.example"}, False),
    ({"Forwarded": "proto=https"}, False),
])  # fmt: skip
async def test_secure_where_the_browser_used_tls(server, fields, secure):
    for reply in (
        await post(server, {**BEARER, **fields, "Sec-Fetch-Site": "same-origin"}),
        await fetch(server, "/auth_session", {**fields, "Sec-Fetch-Site": "same-origin"}, method="DELETE"),
        await post_form(server, fields | {"Sec-Fetch-Site": "same-origin"}, logout="Log out"),
    ):
        assert ("secure" in cookie_of(reply)[2]) is secure


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_secure_over_tls_itself(aiohttp_server, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = await aiohttp_server(app_with(api_key=KEY), ssl=context)
    async with (
        aiohttp.ClientSession(headers=BEARER) as session,
        session.post(f"https://127.0.0.1:{server.port}/auth_session", ssl=False) as response,
    ):
        assert "Secure" in response.headers["Set-Cookie"]


async def test_a_browser_keeps_the_cookies_of_two_servers_on_one_host(aiohttp_server):
    """Browsers share a host's cookies among its ports."""
    servers = [await aiohttp_server(app_with(api_key=key)) for key in (KEY, OTHER_KEY)]
    cookies = "; ".join([await log_in(servers[0]), await log_in(servers[1], OTHER_KEY)])
    for server in servers:
        assert (await fetch(server, headers={"Cookie": cookies})).status == 200


async def test_the_session_of_another_servers_key_is_refused(aiohttp_server):
    ours, theirs = [await aiohttp_server(app_with(api_key=key)) for key in (KEY, OTHER_KEY)]
    value = (await log_in(theirs, OTHER_KEY)).split("=")[1]
    reply = await fetch(ours, headers={"Cookie": f"comfyui_session_{ours.port}={value}"})
    assert (reply.status, reply.json["cause"]) == (401, "missing_credential")


async def test_a_session_survives_a_restart_and_works_on_every_replica(aiohttp_server):
    first, second = [await aiohttp_server(app_with(api_key=keys)) for keys in ([KEY], [OTHER_KEY, KEY])]
    value = (await log_in(first)).split("=")[1]
    assert (await fetch(second, headers={"Cookie": f"comfyui_session_{second.port}={value}"})).status == 200


async def test_forged_cookies_are_refused(server):
    name, value = (await log_in(server)).split("=")
    flipped = value[:-1] + ("A" if value[-1] != "A" else "Q")
    for forged in (flipped, value[:-1], value + "A", "A" + value[:-1], value.swapcase(), value + "=", f'"{value}"'):
        assert (await fetch(server, headers={"Cookie": f"{name}={forged}"})).status == 401, forged
    assert (await fetch(server, headers={"Cookie": f"{name}={flipped}; a=b;{name}={value}"})).status == 200


# ---------------------------------------------------------------------------------------------------------------------
# Ending a session


async def test_delete_ends_the_session_on_the_server_too(server):
    mine, others = {"Cookie": await log_in(server)}, {"Cookie": await log_in(server)}
    reply = await fetch(server, "/auth_session", {**mine, "Sec-Fetch-Site": "same-origin"}, method="DELETE")
    assert (reply.status, reply.headers["Cache-Control"]) == (204, "no-store")
    name, value, attributes = cookie_of(reply)
    assert (name, value.strip('"')) == (f"comfyui_session_{server.port}", "")
    assert attributes == {"httponly": "", "samesite": "Strict", "max-age": "0"}
    for path in ("/prompt", "/auth_session"):
        assert (await fetch(server, path, mine)).status == 401, "a copy of the cookie is worth nothing"
        assert (await fetch(server, path, others)).status in (200, 204)


@pytest.mark.parametrize("target", ["/auth_login.html?logout=true", "/auth_session?logout=true", "/auth_session"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [
    {},
    BROWSER,
    {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-User": "?1"},
    {"Sec-Fetch-Site": "same-origin", "Sec-Purpose": "prefetch"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"},
])  # fmt: skip
async def test_no_get_logs_anybody_out(server, target, method, headers):
    """Only the page's script or its button does."""
    mine = {"Cookie": await log_in(server)}
    reply = await fetch(server, target, {**mine, **headers}, method=method)
    assert "Set-Cookie" not in reply.headers
    assert "Clear-Site-Data" not in reply.headers
    assert (await fetch(server, headers=mine)).status == 200


async def test_the_button_logs_out_without_javascript(server):
    page = (await fetch(server, "/auth_login.html?logout=true")).text
    assert re.search(r'<input [^>]*type="submit" name="logout" value="Log out"', page)
    mine = {"Cookie": await log_in(server)}
    reply = await post_form(server, {**mine, "Sec-Fetch-Site": "same-origin"}, api_key="", logout="Log out", next="/")
    assert (reply.status, reply.location) == (303, "auth_login.html?reason=logout#ended")
    assert (reply.headers["Cache-Control"], reply.headers["Clear-Site-Data"]) == ("no-store", '"cache"')
    assert cookie_of(reply)[2]["max-age"] == "0"
    assert '<p id="ended"' in page, "what the page shows without JavaScript"
    assert (await fetch(server, headers=mine)).status == 401


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {},
])  # fmt: skip
async def test_a_foreign_page_cannot_press_it(server, headers):
    mine = {"Cookie": await log_in(server)}
    for reply in (
        await post_form(server, {**mine, **headers}, logout="Log out"),
        await post_form(server, {**mine, **headers}, logout="Log out", api_key=KEY),
        await fetch(server, "/auth_session", {**mine, **headers}, method="DELETE"),
    ):
        assert (reply.status, reply.json["cause"], "Set-Cookie" in reply.headers) == (403, "cross_origin", False)
    assert (await fetch(server, headers=mine)).status == 200
    if headers:  # browsers send no Strict cookie here, but would obey an answer that clears it
        reply = await post_form(server, headers, logout="Log out")
        assert (reply.status, "Set-Cookie" in reply.headers) == (403, False)


async def test_the_login_page_hears_who_led_to_it(server):
    """Its script cannot see `Sec-Fetch-Site`."""
    cookie = await log_in(server)
    for headers, site in [
        ({}, ""),
        ({"Sec-Fetch-Site": "none"}, "none"),
        ({"Sec-Fetch-Site": "same-origin"}, "same-origin"),
        ({"Sec-Fetch-Site": "same-site"}, "same-site"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross-site"),
        ({"Sec-Fetch-Site": 'x", other;desc="y'}, ""),
        # With a link on another site, browsers send no Strict cookie.
        ({"Cookie": cookie}, "session"),
        ({"Cookie": f"{cookie}x"}, ""),
        ({"Cookie": cookie, "Referer": "http://evil.example/"}, ""),
        ({"Cookie": cookie, "Sec-Fetch-Site": "same-site"}, "same-site"),
    ]:
        reply = await fetch(server, "/auth_login.html?logout=true", headers)
        assert reply.headers["Server-Timing"] == f'site;desc="{site}"'
        again = await fetch(server, "/auth_login.html", {**headers, "If-None-Match": reply.headers["ETag"]})
        assert (again.status, again.headers["Server-Timing"]) == (304, f'site;desc="{site}"')


async def test_logging_out_without_a_session_only_clears_the_cookie(server):
    for cookie in ("", f"comfyui_session_{server.port}=forged", "other=1"):
        reply = await fetch(server, "/auth_session", {"Cookie": cookie}, method="DELETE")
        assert (reply.status, cookie_of(reply)[2]["max-age"]) == (204, "0")


async def test_other_methods_are_no_session_routes(server):
    for method in ("PUT", "PATCH"):
        assert (await fetch(server, "/auth_session", BEARER, method=method)).status == 405


async def test_asking_for_the_session(server):
    """The login page asks this after a link on another site, because browsers then withhold Strict cookies."""
    cookie = {"Cookie": await log_in(server)}
    for headers, status, cause in [
        ({}, 401, "missing_credential"),
        (bearer("wrong"), 401, "invalid_credential"),
        (BEARER, 200, None),
        (cookie, 200, None),
        ({**cookie, **bearer("wrong")}, 200, None),
        ({**cookie, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 200, None),
        (
            {**cookie, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            403,
            "cross_origin",
        ),
    ]:
        reply = await fetch(server, "/auth_session", headers)
        assert (reply.status, reply.headers["Cache-Control"]) == (status, "no-store")
        assert "Set-Cookie" not in reply.headers
        if cause:
            assert reply.json["cause"] == cause
    assert (await fetch(server, "/auth_session", BROWSER)).status in (302, 401)


async def until(condition, seconds=5):
    for _ in range(int(seconds / 0.05)):
        if await condition():
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_session_dies_with_its_key(aiohttp_server, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY} mine\n{OTHER_KEY} theirs\n")
    server = await aiohttp_server(app_with(api_key_file=file))
    mine, theirs = {"Cookie": await log_in(server)}, {"Cookie": await log_in(server, OTHER_KEY)}

    def replace(text):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    async def status(headers):
        return (await fetch(server, headers=headers)).status

    assert [await status(headers) for headers in (mine, theirs, BEARER)] == [200, 200, 200]
    replace(f"{OTHER_KEY} theirs\n")
    assert await until(lambda: _is(status(mine), 401))
    assert [await status(headers) for headers in (mine, theirs, BEARER)] == [401, 200, 401]
    replace("not a key\x07\n")
    await asyncio.sleep(1.1)
    assert [await status(headers) for headers in (mine, theirs)] == [401, 200], "a bad version keeps the last good keys"
    replace(f"{KEY}\n")
    assert await until(lambda: _is(status(theirs), 401))
    assert await status(mine) == 200, "the key is back, and its session had not been logged out"


async def _is(awaitable, expected):
    return await awaitable == expected


# ---------------------------------------------------------------------------------------------------------------------
# The login form, without JavaScript


async def test_the_form_logs_in(server):
    for fields, remembered in (({}, False), ({"remember": "on"}, True)):
        reply = await post_form(server, {"Sec-Fetch-Site": "same-origin"}, api_key=KEY, next="/view?x=1&y", **fields)
        assert (reply.status, reply.location, reply.headers["Cache-Control"]) == (303, "./view?x=1&y", "no-store")
        name, value, attributes = cookie_of(reply)
        assert ("max-age" in attributes) is remembered
        assert (await fetch(server, headers={"Cookie": f"{name}={value}"})).status == 200


async def test_the_form_of_the_page_is_the_form_that_is_understood(server):
    page = (await fetch(server, "/auth_login.html")).text
    [form] = re.findall(r"<form\b.*?</form>", page, re.DOTALL)
    assert 'method="post"' in form
    assert 'action="auth_session"' in form
    assert {"api_key", "remember", "next", "logout"} <= set(re.findall(r'name="(\w+)"', form))


@pytest.mark.parametrize("key", ["wrong", "", " ", KEY[:-1], KEY + "x", "é", "\0"])
async def test_the_form_with_a_wrong_key_leads_back_to_the_page(server, key):
    reply = await post_form(server, api_key=key, next="/view?x=1")
    assert (reply.status, "Set-Cookie" in reply.headers) == (303, False)
    page = urlsplit(reply.location)
    assert (page.path, parse_qs(page.query)) == ("auth_login.html", {"error": ["invalid"], "next": ["/view?x=1"]})
    assert page.fragment == "invalid", "what the page shows without JavaScript"
    assert "wrong" not in reply.location


async def test_the_form_forgives_spaces_around_a_pasted_key(server):
    assert (await post_form(server, api_key=f" {KEY}\t\n")).location == "./"


async def test_the_form_of_a_locked_address(server):
    for number in range(10):
        assert "error=invalid" in (await post_form(server, api_key=f"wrong-{number}")).location
    for key in (*(f"more-{number}" for number in range(10)), KEY):
        reply = await post_form(server, api_key=key, next="/x")
        assert (reply.status, reply.location) == (303, "auth_login.html?error=locked&next=%2Fx#locked")
        assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
])  # fmt: skip
@pytest.mark.parametrize("key", [KEY, "wrong"])
async def test_a_foreign_page_cannot_log_somebody_in(server, headers, key):
    """With the attacker's own key, the attacker would see what that person does."""
    for number in range(12):
        reply = await post_form(server, headers, api_key=key if key == KEY else f"{key}-{number}", next="/")
        assert (reply.status, reply.json["cause"]) == (403, "cross_origin")
        assert "Set-Cookie" not in reply.headers
    assert (await post_form(server, api_key=KEY)).location == "./", "nor lock them out"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "multipart/form-data; boundary=b", ""])
async def test_nor_with_a_key_in_the_address(server, content_type):
    """Any page can send a form to any URL."""
    for name in ("api_key", "token"):
        target, sent = f"/auth_session?{name}={KEY}", {"Content-Type": content_type}
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
            reply = await fetch(server, target, {**sent, **headers}, method="POST", body=b"")
            assert (reply.status, reply.json["cause"]) == (403, "cross_origin")
            assert "Set-Cookie" not in reply.headers
        assert (await fetch(server, target, sent, method="POST", body=b"")).status == 204, "a program may"
        assert (await fetch(server, target, {"Sec-Fetch-Site": "same-origin"}, method="POST")).status == 204


async def test_a_body_that_trickles_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(routes, "_LOGIN_TIMEOUT", 0.3)
    for framing, first, more in (("Content-Length: 9000", b"api_key=", b"x"), (CHUNKED, b"1\r\na\r\n", b"1\r\nx\r\n")):
        async with Connection(server) as connection:
            head = (
                f"POST /auth_session HTTP/1.1\r\nHost: x\r\n{framing}\r\nContent-Type: {FORM['Content-Type']}\r\n\r\n"
            )
            await connection.send(head.encode() + first)
            for _ in range(10):
                await asyncio.sleep(0.05)
                await connection.send(more)
            reply = await connection.reply()
            assert (reply.status, reply.text) == (408, "the body did not arrive in time")
    assert (await post_form(server, api_key=KEY)).status == 303


async def test_a_form_with_too_many_or_repeated_fields(server):
    many = urlencode({f"field-{number}": "x" for number in range(500)})
    assert (await fetch(server, "/auth_session", FORM, method="POST", body=many.encode())).status == 400
    twice = f"api_key={KEY}&api_key=wrong&next=/a&next=/b"
    assert (await fetch(server, "/auth_session", FORM, method="POST", body=twice.encode())).location == "./a"
    for body in (b"", b"&&&", b"=", b"api_key", b"%ff=%ff", b"\xff\xfe"):
        reply = await fetch(server, "/auth_session", FORM, method="POST", body=body)
        assert (reply.status, "Set-Cookie" in reply.headers) == (303, False)


HOSTILE_NEXT = [
    "", "http://evil.example", "https://evil.example/", "//evil.example", "///evil.example", "////evil.example/..",
    "/\\evil.example", "\\\\evil.example", "/\\/evil.example", "http:evil.example", "http:/evil.example",
    "javascript:alert(1)", "data:text/html,x", "evil.example", "./x", "../x", "?x", "#x", "@evil.example",
    ":@evil.example", "/@evil.example", ".evil.example", "x", "/\tevil", "/\nevil", "\n/evil", "\t//evil.example",
    "/\r\nSet-Cookie: a=b", "/%0d%0aSet-Cookie:a=b", "/\x00", "/é", "/ x", '/"x', "/<x>", "/..//evil.example",
    "/.//evil.example", "/../../evil", "/%2e%2e//evil.example", "/%2f%2fevil.example", "/;//evil.example",
    "/?//evil.example", "/#//evil.example", "/?next=http://evil.example", "/http://evil.example", "/x:y",
    "/auth_login.html?logout=true",
]  # fmt: skip
NEXT_PIECES = [
    "/",
    "/",
    "\\",
    ":",
    "@",
    ".",
    "?",
    "#",
    "%2f",
    "http:",
    "evil.example",
    "\t",
    "\n",
    "\r",
    "\0",
    "é",
    "<",
    '"',
]


@pytest.mark.parametrize("target", HOSTILE_NEXT)
async def test_next_never_leaves_the_origin(server, target):
    for key in (KEY, "wrong"):
        reply = await post_form(server, api_key=key, next=target)
        check_location(server, reply)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(target=st.lists(st.sampled_from(NEXT_PIECES), max_size=6).map("".join))
async def test_made_up_next_never_leaves_the_origin(server, target):
    check_location(server, await post_form(server, api_key=KEY, next=target))


def check_location(server, reply):
    assert reply.status == 303
    assert reply.location.startswith(("./", "auth_login.html?error=invalid&next=%2F"))
    assert reply.location.isascii()
    assert reply.location.isprintable()
    assert not set(reply.location) & set(' \\"<>')
    base = f"http://127.0.0.1:{server.port}"
    resolved = urlsplit(urljoin(f"{base}/auth_session", reply.location))
    assert f"{resolved.scheme}://{resolved.netloc}" == base
    assert set(reply.headers) <= {
        "Location",
        "Set-Cookie",
        "Cache-Control",
        "Content-Length",
        "Content-Type",
        "Date",
        "Server",
    }


# ---------------------------------------------------------------------------------------------------------------------
# A link with the key in it


#: What browsers send over TLS and on loopback.
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
#: What they send anywhere else.
PLAIN = {"User-Agent": "Mozilla/5.0"}
NO_CORS = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}


@pytest.fixture
async def with_index(aiohttp_server, tmp_path):
    (tmp_path / "index.html").write_text("<html><head></head>the page")
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY} <Ann&co>\n{OTHER_KEY}\n")
    keys.chmod(0o600)
    return await aiohttp_server(app_with(api_key_file=keys, index=tmp_path / "index.html", url_key=True))


def the_form(reply):
    """Its address, its fields, and the text of its button."""
    [action] = re.findall(r'<form method="post" action="([^"]*)"', reply.text)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', reply.text))
    [button] = re.findall(r"<button>(.*)</button>", reply.text)
    return action, {name: unescape(value) for name, value in fields.items()}, unescape(button)


@pytest.mark.parametrize(("target", "followed"), [
    (f"/?api_key={KEY}", "./"),
    (f"/?token={KEY}", "./"),
    (f"/?a=1&api_key={KEY}&b=%20x&c", "./?a=1&b=%20x&c"),
    (f"/?%61pi_key={KEY}&x=1", "./?x=1"),
    (f"/index.html?api_key={KEY}&x=1", "./index.html?x=1"),
    (f"/?x=%22%3E%3Cscript%3E&api_key={KEY}", "./?x=%22%3E%3Cscript%3E"),
    (f"/?x='\"><script>&api_key={KEY}", None),
])  # fmt: skip
async def test_a_link_with_the_key_logs_in_and_forgets_it(with_index, target, followed):
    reply = await fetch(with_index, target, {**BROWSER, **TYPED})
    assert reply.status == 200, "browsers send no Strict cookie after a redirect that another site began"
    assert KEY not in reply.text
    assert KEY not in str(reply.headers)
    assert (reply.headers["Referrer-Policy"], reply.headers["Cache-Control"]) == ("no-referrer", "no-store")
    [refresh] = re.findall(r'<meta http-equiv="refresh" content="0;url=([^"]*)">', reply.text)
    assert "<script" not in reply.text
    if followed is not None:
        assert refresh.replace("&amp;", "&") == followed
    name, value, attributes = cookie_of(reply)
    assert attributes == {"httponly": "", "samesite": "Strict"}
    page = await fetch(with_index, "/", {**BROWSER, "Cookie": f"{name}={value}"})
    assert (page.status, "the page" in page.text, "Set-Cookie" in page.headers) == (200, True, False)


@pytest.mark.parametrize(("headers", "by_itself"), [
    ({**TYPED, "Sec-Fetch-Site": "cross-site"}, False),
    ({**TYPED, "Sec-Fetch-Site": "same-site"}, False),
    ({**NO_CORS, "Sec-Fetch-Site": "same-site"}, False),
    ({**NO_CORS, "Sec-Fetch-Site": "cross-site"}, False),
    ({**TYPED, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"}, False),
    ({**TYPED, "Sec-Purpose": "prefetch;prerender"}, True),
    (PLAIN, True),
    ({**PLAIN, "Referer": "http://evil.example/"}, True),
    ({"Referer": "http://evil.example/"}, True),
    ({"Accept-Language": "en"}, True),
])  # fmt: skip
async def test_a_link_with_the_key_asks_where_another_page_may_have_sent_it(with_index, headers, by_itself):
    for cookies, may_answer in (
        ({}, by_itself),
        ({"Cookie": await log_in(with_index, OTHER_KEY)}, False),
    ):
        reply = await fetch(with_index, f"/?api_key=wrong&a=1&api_key={KEY}", {**BROWSER, **headers, **cookies})
        assert (reply.status, "Set-Cookie" in reply.headers, "the page" in reply.text) == (200, False, False)
        expected = {"Cache-Control": "no-store", "Referrer-Policy": "strict-origin", "X-Frame-Options": "DENY"}
        assert expected.items() <= reply.headers.items()
        assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert ("data-by-itself" in reply.text) is may_answer
        action, fields, button = the_form(reply)
        assert (action, fields, button) == ("auth_session", {"api_key": KEY, "next": "/?a=1"}, "Log in as <Ann&co>")
        assert 'data-target="./?a=1"' in reply.text
        sent = await post_form(with_index, {"Sec-Fetch-Site": "same-origin", **cookies}, **fields)
        assert (sent.status, sent.location, "Set-Cookie" in sent.headers) == (303, "./?a=1", True)


@pytest.mark.parametrize(("target", "action", "shown"), [
    (f"/index.html?token={OTHER_KEY}&x=%22'&y", "auth_session", "./index.html?x=%22&#x27;&amp;y"),
    (f"/key/{OTHER_KEY}/?x", "../../auth_session", "../../?x"),
    (f"/key/{OTHER_KEY}", "../auth_session", "../"),
])  # fmt: skip
async def test_an_offer_at_any_address(with_index, target, action, shown):
    reply = await fetch(with_index, target, {**BROWSER, **PLAIN})
    at, fields, button = the_form(reply)
    assert (at, fields["api_key"], button) == (action, OTHER_KEY, "Log in with this link")
    assert f'data-target="{shown}"' in reply.text
    assert f'<script src="{action.replace("auth_session", "auth_link.js")}" defer>' in reply.text
    assert f'<a href="{shown}">' in reply.text


async def test_a_link_with_the_key_of_the_session_changes_nothing(with_index):
    cookie = {"Cookie": await log_in(with_index)}
    for headers in (TYPED, PLAIN, {**TYPED, "Sec-Fetch-Site": "same-site"}, {**NO_CORS, "Sec-Fetch-Site": "same-site"}):
        reply = await fetch(with_index, f"/?api_key={KEY}", {**BROWSER, **headers, **cookie})
        assert (reply.status, "Set-Cookie" in reply.headers, "refresh" in reply.text) == (200, False, True)


async def test_a_link_with_the_key_does_nothing_by_head(with_index):
    reply = await fetch(with_index, f"/?api_key={KEY}", {**BROWSER, **TYPED}, method="HEAD")
    assert (reply.status, "Set-Cookie" in reply.headers) == (200, False)


async def test_a_program_with_the_key_in_the_query_just_gets_the_page(with_index):
    reply = await fetch(with_index, f"/?api_key={KEY}")
    assert (reply.status, "the page" in reply.text, "Set-Cookie" in reply.headers) == (200, True, False)


async def test_a_link_with_a_wrong_key_leads_to_the_login_page(with_index):
    reply = await fetch(with_index, "/?api_key=wrong&x=1", BROWSER)
    assert (reply.status, reply.location, "Set-Cookie" in reply.headers) == (
        302,
        "auth_login.html?next=%2F%3Fx%3D1",
        False,
    )


async def test_a_link_with_a_wrong_key_does_not_veto_a_session(with_index):
    cookie = {"Cookie": await log_in(with_index)}
    reply = await fetch(with_index, "/?api_key=wrong&x=1", {**BROWSER, **cookie})
    assert (reply.status, "the page" in reply.text, "Set-Cookie" in reply.headers) == (200, True, False)
    assert "wrong" not in str(reply)


# ---------------------------------------------------------------------------------------------------------------------
# The page and the scripts


async def test_the_assets(server):
    for name, kind in (
        ("auth_login.html", "text/html"),
        ("auth_login.js", "javascript"),
        ("auth_link.js", "javascript"),
        ("auth_inject.js", "javascript"),
    ):
        for method in ("GET", "HEAD"):
            reply = await fetch(server, f"/{name}", method=method)
            assert reply.status == 200
            assert kind in reply.headers["Content-Type"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert reply.headers["Referrer-Policy"] == "same-origin"
        assert reply.headers["Cache-Control"] == "no-cache"
        etag = reply.headers["ETag"]
        assert (await fetch(server, f"/{name}", {"If-None-Match": etag})).status == 304


async def test_files_of_the_same_name_brand_the_login_page(aiohttp_server, tmp_path):
    (tmp_path / "auth_login.html").write_text("our own page")
    (tmp_path / "auth_inject.js").mkdir()
    server = await aiohttp_server(app_with(api_key=KEY, overrides=tmp_path))
    assert (await fetch(server, "/auth_login.html")).text == "our own page"
    assert (await fetch(server, "/auth_login.html?logout=true")).text == "our own page"
    assert "use strict" in (await fetch(server, "/auth_inject.js")).text
    assert "use strict" in (await fetch(server, "/auth_login.js")).text
    (tmp_path / "auth_login.html").unlink()
    assert "<form" in (await fetch(server, "/auth_login.html")).text


async def test_a_middleware_without_setup_takes_no_notice_of_sessions(aiohttp_server):
    """`create_auth_middleware` alone adds no route."""
    server = await aiohttp_server(secret_app(create_auth_middleware(api_key=KEY)))
    for method in ("GET", "POST", "DELETE"):
        assert (await fetch(server, "/auth_session", method=method)).status == 401
        assert (await fetch(server, "/auth_session", BEARER, method=method)).status == 404


async def test_cookies_are_well_formed(server):
    """Python's own parser can read them."""
    for reply in (
        await post(server, body=b'{"remember": true}'),
        await fetch(server, "/auth_session", method="DELETE"),
    ):
        cookies = SimpleCookie(reply.headers["Set-Cookie"])
        [morsel] = cookies.values()
        assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (True, "Strict", "", "")


async def test_next_is_quoted_once(server):
    reply = await post_form(server, api_key="wrong", next="/a%20b?x=%26&y=1")
    assert reply.location == "auth_login.html?error=invalid&next=" + quote("/a%20b?x=%26&y=1", safe="") + "#invalid"


async def test_in_a_sub_application_everything_needs_the_key(aiohttp_server):
    """Only the paths of a whole server are exempt; below a prefix, they are somebody else's."""
    inner = secret_app()
    setup(inner, api_key=KEY)
    app = web.Application()
    app.add_subapp("/below", inner)
    server = await aiohttp_server(app)
    for path in ("/below/prompt", "/below/auth_login.html", "/below/health", "/below/auth_session"):
        assert (await fetch(server, path)).status == 401
        assert (await fetch(server, path, BEARER)).status in (200, 204)
