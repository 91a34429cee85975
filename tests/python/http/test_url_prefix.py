"""Keys at the beginning of the path: `/key/KEY/prompt` is `/prompt` with that key."""

from __future__ import annotations

import json
import logging
import re
from io import BytesIO
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import refusal, setup
from support.apps import SECRET, secret_app
from support.client import BEARER, BROWSER, FORM, JSON, UPGRADE, Connection, basic, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY

#: Has the characters of `openssl rand -base64 32`, and worse ones.
ODD_KEY = "canary+odd/key==%2F?#&;:@\"'<>\\~"
PREFIX = f"/key/{KEY}"
WRONG = "/key/canary-wrong"


@pytest.fixture(autouse=True)
def full_allowance(monkeypatch):
    """The limit on log lines is for the whole process, so each test gets a new one."""
    monkeypatch.setattr(refusal, "_allowance", refusal._Allowance())


async def describe(request: web.Request) -> web.Response:
    """Everything a handler can learn about its request's URL."""
    seen = {
        "path": request.path,
        "raw_path": request.raw_path,
        "path_qs": request.path_qs,
        "url": str(request.url),
        "rel_url": str(request.rel_url),
        "message": str(request._message),
        "headers": dict(request.headers),
        "state": {str(name): repr(value) for name, value in request.items()},
        "repr": repr(request),
        "name": request.match_info.get("name"),
        "resource": request.match_info.route.resource.canonical,
        "clone": str(request.clone().rel_url),
    }
    return web.json_response(seen)


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def echo_socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.path_qs)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for part in (b"a", b"b", b"c"):
        await response.write(part)
    return response


def make_app(tmp_path, *middlewares, **given) -> web.Application:
    app = secret_app(*middlewares)
    app.router.add_route("*", "/describe", describe)
    app.router.add_get("/user/{name:.*}", describe)
    app.router.add_get("/public/x", echo)
    app.router.add_post("/upload", echo)
    app.router.add_get("/ws", echo_socket)
    app.router.add_get("/stream", stream)
    inner = web.Application()
    inner.router.add_get("/describe", describe)
    app.add_subapp("/internal", inner)
    (tmp_path / "web").mkdir(exist_ok=True)
    (tmp_path / "web" / "index.html").write_text("<html><head></head></html>")
    (tmp_path / "web" / "x.js").write_text("1")
    given = {"api_key": [KEY, OTHER_KEY, ODD_KEY], "url_key": True, "exempt": "/public/*", **given}
    setup(app, index=tmp_path / "web" / "index.html", require_ws=True, **given)
    app.router.add_static("/", tmp_path / "web")
    return app


@pytest.fixture
async def server(aiohttp_server, tmp_path):
    return await aiohttp_server(make_app(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# What it admits


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_admits_every_method(server, method):
    assert (await fetch(server, f"{PREFIX}/prompt", method=method)).status == 200
    assert (await fetch(server, f"{WRONG}/prompt", method=method)).status == 401


@pytest.mark.parametrize("key", [KEY, OTHER_KEY, ODD_KEY])
async def test_decodes_the_key(server, key):
    for spelling in (quote(key, safe=""), "".join(f"%{byte:02x}" for byte in key.encode())):
        assert (await fetch(server, f"/key/{spelling}/prompt")).text == SECRET


async def test_a_handler_sees_the_path_that_is_left(server):
    base = f"http://127.0.0.1:{server.port}"
    for outer in (PREFIX, f"{base}{PREFIX}"):
        seen = (await fetch(server, f"{outer}/describe?a=%20b&c=/key/d")).json
        assert seen["path"] == "/describe"
        assert seen["path_qs"] == seen["raw_path"] == seen["rel_url"] == seen["clone"] == "/describe?a=%20b&c=/key/d"
        assert urlsplit(seen["url"])[2:] == ("/describe", "a=%20b&c=/key/d", "")
        assert KEY not in json.dumps(seen)
    assert (await fetch(server, f"{PREFIX}/describe")).json["url"] == f"{base}/describe"


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/user/a%2Fb%20c", "/user/{name}"),
        ("/user/%C3%A4", "/user/{name}"),
        ("/user/key/x", "/user/{name}"),
        ("/internal/describe", "/internal/describe"),
    ],
)
async def test_routes_and_their_parts_are_those_of_the_path(server, path, resource):
    seen, plain = (await fetch(server, PREFIX + path)).json, (await fetch(server, path, BEARER)).json
    assert seen["resource"] == resource
    for fact in ("path", "raw_path", "path_qs", "url", "name", "resource"):
        assert seen[fact] == plain[fact]


@pytest.mark.parametrize(("target", "status"), [("/nothing", 405), ("/upload", 405), ("/user/x", 405)])
async def test_faults_are_those_of_the_path(server, target, status):
    seen, plain = await fetch(server, PREFIX + target, method="PUT"), await fetch(server, target, BEARER, method="PUT")
    assert (seen.status, seen.body, seen.headers.get("Allow")) == (status, plain.body, plain.headers.get("Allow"))


async def test_bodies_arrive_whole(server):
    """As a form, in one piece, in chunks, and after `Expect`."""
    url = f"http://127.0.0.1:{server.port}{PREFIX}/upload"
    large = bytes(range(256)) * 4000

    async def chunks():
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=large) as response:
            assert await response.read() == large
        async with session.post(url, data=chunks(), expect100=True) as response:
            assert await response.read() == large
        async with session.post(url, data={"image": BytesIO(large)}) as response:
            assert large in await response.read()
        async with session.post(f"{url.replace(PREFIX, WRONG)}", data=chunks(), expect100=True) as response:
            assert response.status == 401


async def test_streams_and_pipelined_requests(server):
    async with Connection(server) as connection:
        for target, expected in ((f"{PREFIX}/stream", "abc"), ("/stream", None), (f"{PREFIX}/prompt", SECRET)):
            reply = await connection.request(target)
            assert reply.text == expected if expected else reply.status == 401


async def test_websockets(server):
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{base}{PREFIX}/ws?clientId=a") as socket:
            assert await socket.receive_str() == "/ws?clientId=a"
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await session.ws_connect(f"{base}{WRONG}/ws")
    reply = await fetch(server, f"{WRONG}/ws", {**UPGRADE, **BROWSER})
    assert (reply.status, "Location" in reply.headers) == (401, False)


async def test_several_keys_before_one_path(server):
    """Any valid one is enough."""
    for target in (f"{PREFIX}{PREFIX}/describe", f"{PREFIX}{WRONG}/describe", f"{WRONG}{PREFIX}/describe"):
        reply = await fetch(server, target)
        assert reply.json["path_qs"] == "/describe"
    assert (await fetch(server, f"{WRONG}{WRONG}2/prompt")).status == 401


async def test_a_bad_one_never_vetoes_a_good_one(server):
    for headers in (bearer("wrong"), basic("wrong"), {"Authorization": "Basic !"}, {"X-API-Key": "x"}):
        assert (await fetch(server, f"{PREFIX}/prompt", headers)).text == SECRET
    assert (await fetch(server, f"{WRONG}/prompt", BEARER)).text == SECRET
    assert (await fetch(server, f"{WRONG}/prompt?api_key={KEY}")).text == SECRET
    assert (await fetch(server, f"{WRONG}/prompt", {"Cookie": await log_in(server)})).text == SECRET
    foreign = {"Cookie": await log_in(server), "Sec-Fetch-Site": "cross-site"}
    assert (await fetch(server, f"{PREFIX}/prompt", foreign, method="POST")).text == SECRET
    assert (await fetch(server, f"{WRONG}/prompt", foreign, method="POST")).status == 403


async def test_middlewares_and_signals_see_each_request_once(aiohttp_server, tmp_path):
    seen = []

    @web.middleware
    async def outer(request, handler):
        seen.append(("middleware", request.path, request.match_info.route.resource.canonical))
        return await handler(request)

    async def on_prepare(request, response):
        seen.append(("signal", request.path, request.match_info.route.resource.canonical))

    app = make_app(tmp_path, outer)
    app.on_response_prepare.append(on_prepare)
    server = await aiohttp_server(app)
    for path in ("/prompt", "/stream"):
        seen.clear()
        reply = await fetch(server, PREFIX + path)
        assert seen == [("middleware", path, path), ("signal", path, path)]
        assert reply.headers["Cache-Control"] == "private"


# ---------------------------------------------------------------------------------------------------------------------
# What it does not admit


async def test_is_off_unless_asked_for(aiohttp_server, tmp_path):
    server = await aiohttp_server(make_app(tmp_path, url_key=False))
    for path in ("/prompt", "/public/x", "/", ""):
        reply = await fetch(server, PREFIX + path)
        assert (reply.status, reply.json["cause"]) == (401, "missing_credential")
        assert (await fetch(server, PREFIX + path, BEARER)).status == 404


async def test_exemptions_are_judged_by_the_path_that_is_left(aiohttp_server, tmp_path):
    server = await aiohttp_server(make_app(tmp_path, exempt=["/public/*", "/*x.js", "/y.js", "/key/*", "^/k.*"]))
    for path, status in (
        ("/public/x", 200), ("/x.js", 200), ("/auth_inject.js", 200), ("/health", 401), ("/prompt", 401),
        ("/nothing", 401), ("/nothing/x.js", 404), ("/y.js", 404), ("/z.js", 401), ("/..", 401),
    ):  # fmt: skip
        assert (await fetch(server, WRONG + path)).status == status, path
        assert (await fetch(server, path, bearer("canary-wrong"))).status == status, path
    assert (await fetch(server, f"{PREFIX}/health")).status == 200


@pytest.mark.parametrize(
    "target",
    [
        f"/{PREFIX}/prompt", f"/.{PREFIX}/prompt", f"/x/..{PREFIX}/prompt", f"/api{PREFIX}/prompt",
        f"/KEY/{KEY}/prompt", f"/%6bey/{KEY}/prompt", f"/key%2f{KEY}/prompt", f"/key/{KEY}%2fprompt/prompt",
        f"/key//{KEY}/prompt",
        f"/key/./{KEY}/prompt", f"/key/../key/{KEY}/prompt", f"/key/%2e/{KEY}/prompt", f"/key/{KEY};x/prompt",
        f"/key/{KEY}%00/prompt", f"/key/{KEY}%20/prompt", f"/key/ {KEY}/prompt", f"/key/{KEY.upper()}/prompt",
        f"/key/{KEY}%252F/prompt", f"/prompt{PREFIX}", f"/prompt;{PREFIX}", f"/user{PREFIX}/prompt",
        f"/key/{ODD_KEY.split('?')[0]}/prompt", "/key/", "/key", "/key//prompt", "/key/%/prompt", "/key/%ff/prompt",
        f"/key?{KEY}/prompt", f"/key#/{KEY}/prompt",
    ],
)  # fmt: skip
async def test_nothing_but_the_exact_form_admits(server, target):
    async with Connection(server) as connection:
        reply = await connection.request(target)
    assert reply.status in (400, 401)
    assert KEY not in str(reply.headers)


@pytest.mark.parametrize(
    "left",
    ["//prompt", "/./prompt", "/../prompt", "/x/../prompt", "/%2e%2e/prompt", "/key/", "/key", "//evil.example/x"],
)
async def test_what_is_left_is_read_as_if_it_had_been_sent(server, left):
    for headers in ({}, BROWSER):
        seen, plain = await fetch(server, WRONG + left, headers), await fetch(server, left, {**bearer("x"), **headers})
        assert seen.status == plain.status
        assert (await fetch(server, PREFIX + left, headers)).status == (
            await fetch(server, left, {**BEARER, **headers})
        ).status
        if "Location" in seen.headers:
            base = f"http://127.0.0.1:{server.port}"
            assert urljoin(base + WRONG + left, seen.location).startswith(f"{base}/auth_login.html?next=")


async def test_guesses_count(server):
    for number in range(10):
        reply = await fetch(server, f"/key/guess-{number}/prompt")
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm="ComfyUI", error="invalid_token"',
        )
    assert (await fetch(server, "/key/guess-11/prompt")).status == 429


async def test_one_wrong_key_that_is_repeated_is_no_attack(server):
    for _ in range(30):
        assert (await fetch(server, f"{WRONG}/prompt")).status == 401
    assert (await fetch(server, f"{PREFIX}/prompt")).status == 200


async def test_a_route_of_the_servers_own_is_not_shadowed_silently():
    app = web.Application()
    app.router.add_get("/key/{name}", echo)
    with pytest.raises(ValueError, match=re.escape("the server already has a route /key/{name}")):
        setup(app, api_key=KEY, url_key=True)
    setup(web.Application(), api_key=KEY, url_key=True)


async def test_a_folder_mounted_before_does_not_answer_first(aiohttp_server, tmp_path):
    app = web.Application()
    app.router.add_get("/prompt", describe)
    app.router.add_static("/", tmp_path)
    setup(app, api_key=KEY, url_key=True)
    assert (await fetch(await aiohttp_server(app), f"{PREFIX}/prompt")).status == 200


# ---------------------------------------------------------------------------------------------------------------------
# Browsers: no page keeps the key in its address


def lands_on(server, target, location):
    """The path and query that a browser at `target` goes to next."""
    base = f"http://127.0.0.1:{server.port}"
    found = urljoin(base + target, location)
    assert found.startswith(base)
    return found.removeprefix(base)


@pytest.mark.parametrize(
    ("target", "page"),
    [
        (f"{PREFIX}/", "/"),
        (PREFIX, "/"),
        (f"{PREFIX}?a=1&api_key={KEY}&b=%26", "/?a=1&b=%26"),
        (f"{PREFIX}/index.html?x=<", "/index.html?x=<"),
        (f"{PREFIX}{PREFIX}/", "/"),
    ],
)
async def test_the_index_page_logs_in_and_goes_to_the_clean_address(server, target, page):
    reply = await fetch(server, target, BROWSER)
    assert reply.status == 200
    assert KEY not in reply.text + str(reply.headers).replace(reply.headers["Set-Cookie"], "")
    target_in_page = re.search('content="0;url=([^"]*)"', reply.text)[1].replace("&amp;", "&").replace("&lt;", "<")
    assert lands_on(server, target, target_in_page) == page
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Cache-Control"] == "no-store"
    cookie = reply.headers["Set-Cookie"]
    assert KEY not in cookie
    assert {"Path=/", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert (await fetch(server, "/prompt", {"Cookie": cookie.split(";")[0]})).text == SECRET


async def test_programs_get_the_index_page_itself(server):
    assert "<html>" in (await fetch(server, f"{PREFIX}/")).text
    assert "Set-Cookie" not in (await fetch(server, f"{PREFIX}/")).headers


@pytest.mark.parametrize("path", ["/", "", "/prompt?a=b", "/user/a/b", "/nothing", "/api/deep/down/"])
@pytest.mark.parametrize("prefix", [WRONG, WRONG * 3])
async def test_a_wrong_key_leads_to_the_login_page_outside(server, prefix, path):
    reply = await fetch(server, prefix + path, BROWSER)
    assert reply.status == 302
    assert lands_on(server, prefix + path, reply.location) == f"/auth_login.html?next={quote(path or '/', safe='')}"


@pytest.mark.parametrize("prefix", [PREFIX, WRONG])
async def test_the_login_page_lies_outside(server, prefix):
    for query, left in (("", ""), ("?logout=true", "?logout=true"), (f"?api_key={KEY}&error=x", "?error=x")):
        target = f"{prefix}/auth_login.html{query}"
        reply = await fetch(server, target, BROWSER)
        assert (reply.status, lands_on(server, target, reply.location)) == (302, f"/auth_login.html{left}")
        assert KEY not in reply.location


async def test_sessions_that_are_made_and_ended_inside_belong_to_the_whole_server(server):
    made = await fetch(server, f"{PREFIX}/auth_session", JSON, method="POST", body=b'{"remember": true}')
    assert (made.status, "Path=/" in made.headers["Set-Cookie"].split("; ")) == (204, True)
    cookie = made.headers["Set-Cookie"].split(";")[0]
    body = f"api_key={KEY}&next=/user/x".encode()
    target = f"{WRONG}/auth_session"
    form = await fetch(server, target, FORM, method="POST", body=body)
    assert (form.status, lands_on(server, target, form.location)) == (303, "/user/x")
    assert "Path=/" in form.headers["Set-Cookie"].split("; ")
    ended = await fetch(server, target, {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}, method="DELETE")
    assert (ended.status, "Path=/" in ended.headers["Set-Cookie"].split("; ")) == (204, True)
    assert (await fetch(server, "/prompt", {"Cookie": cookie})).status == 401


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}]
)
async def test_a_foreign_page_logs_nobody_in_with_a_key_in_the_path(server, headers):
    """Any page can send a form to any URL."""
    for sent in ({"Content-Type": "text/plain"}, FORM, {}):
        reply = await fetch(server, f"{PREFIX}/auth_session", {**sent, **headers}, method="POST", body=b"")
        assert (reply.status, "Set-Cookie" in reply.headers) == (403, False)
        if sent != FORM:
            assert (await fetch(server, f"{PREFIX}/auth_session", sent, method="POST", body=b"")).status == 204


async def test_without_a_prefix_cookies_have_no_path(server):
    reply = await fetch(server, "/auth_session", BEARER, method="POST", body=b"")
    assert "Path" not in reply.headers["Set-Cookie"]


# ---------------------------------------------------------------------------------------------------------------------
# Logs


@pytest.mark.parametrize("url_key", [True, False])
async def test_no_log_line_shows_it(aiohttp_server, tmp_path, caplog, url_key):
    caplog.set_level(logging.DEBUG)
    server = await aiohttp_server(make_app(tmp_path, url_key=url_key))
    for prefix in (
        PREFIX,
        "/key/wrong/canary-its-slash-is-not-encoded",
        f"/{PREFIX}",
        f"/key/.{PREFIX}",
        f"/x{PREFIX}",
        f"{PREFIX}{PREFIX}",
    ):
        for path in ("/prompt", "/nothing", "/health", "/", "?api_key=canary"):
            for headers in ({}, {"Referer": f"http://h{PREFIX}/"}, bearer("canary-wrong")):
                await fetch(server, prefix + path, headers)
        await fetch(server, prefix, BROWSER)
    assert "aiohttp.access" in caplog.text
    assert "canary" not in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.name == "comfy_auth_rs"]
    assert "comfy-auth-rs: refused 127.0.0.1: GET /key/[redacted]: invalid_credential" in lines
    assert '"GET /key/[redacted] HTTP/1.1" 401' in caplog.text
