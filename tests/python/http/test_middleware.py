"""The middleware in our own test applications: the design's four rules, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import tracemalloc
from functools import partial
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs import KeyFileError, KeyStore, create_auth_middleware, setup
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.apps import SECRET, install_as_comfyui, secret, secret_app
from support.client import BASIC, BEARER, BROWSER, CHALLENGE, UPGRADE, Connection, basic, bearer, fetch, log_in
from support.keys import KEY, OTHER_KEY

# ---------------------------------------------------------------------------------------------------------------------
# What our middleware always promises


@pytest.fixture
def middleware():
    return create_auth_middleware(api_key=[KEY, OTHER_KEY])


@pytest.fixture
async def server(aiohttp_server, middleware):
    return await aiohttp_server(secret_app(middleware))


@pytest.fixture
def running(aiohttp_server):
    """Starts a server at the first of many calls, since hypothesis calls a test's body again and again."""
    servers = []

    async def start(make):
        if not servers:
            servers.append(await aiohttp_server(make()))
        return servers[0]

    return start


async def on_a_real_request(aiohttp_server, judge, headers=BEARER):
    """Calls `judge(request)` inside a server, and returns what it returned or raised."""
    outcome = []

    @web.middleware
    async def outer(request, handler):
        try:
            outcome.append(judge(request))
        except Exception as error:
            outcome.append(error)
        return web.Response()

    await fetch(await aiohttp_server(secret_app(outer)), headers=headers)
    return outcome[0]


async def test_it_takes_what_aiohttp_gives_a_middleware_and_nothing_else(aiohttp_server, middleware):
    async def handler(request):
        return web.Response()

    def judge(request):
        middleware(request, handler=handler).close()
        middleware(request, handler).close()
        for args, named in [
            ((), {}),
            ((request,), {}),
            ((request,), {"other": handler}),
            ((request,), {"handler": handler, "other": handler}),
            ((request, handler), {"handler": handler}),
            ((request, handler, handler), {}),
        ]:
            with pytest.raises(TypeError, match="a middleware takes a request and a handler"):
                middleware(*args, **named)
        return "all were refused"

    assert await on_a_real_request(aiohttp_server, judge) == "all were refused"


def test_is_a_new_style_middleware(middleware):
    assert middleware.__middleware_version__ == 1
    assert not inspect.iscoroutinefunction(middleware)


async def test_returns_what_the_handler_returns_with_nothing_in_between(aiohttp_server, middleware):
    class Awaitable:
        def __await__(self):
            raise AssertionError("nobody awaits it here")

    untouched, seen = Awaitable(), []

    def handler(request):
        seen.append(request)
        return untouched

    def judge(request):
        return request, middleware(request, handler)

    request, result = await on_a_real_request(aiohttp_server, judge)
    assert result is untouched
    assert seen == [request]
    assert seen[0] is request


async def test_gives_the_next_middleware_the_handler_itself(aiohttp_server, middleware):
    """ComfyUI-Manager looks up its policy by the identity of the handler it gets."""
    seen = []

    @web.middleware
    async def inner(request, handler):
        seen.append(handler)
        return await handler(request)

    reply = await fetch(await aiohttp_server(secret_app(middleware, inner)), headers=BEARER)
    assert reply.text == SECRET
    assert getattr(seen[0], "__wrapped__", seen[0]) is secret


async def test_exceptions_of_handlers_pass_through(aiohttp_server, middleware):
    class OwnError(Exception):
        pass

    errors = [OwnError("from a coroutine"), web.HTTPConflict(text="busy")]

    @web.middleware
    async def outer(request, handler):
        try:
            return await handler(request)
        except (OwnError, web.HTTPConflict) as error:
            return web.json_response(errors.index(error))

    async def fail(request):
        raise errors[int(request.query["which"])]

    app = web.Application(middlewares=[outer, middleware])
    app.router.add_get("/fail", fail)
    server = await aiohttp_server(app)
    for which in (0, 1):
        assert (await fetch(server, f"/fail?which={which}", BEARER)).json == which

    def raise_at_once(request):
        raise errors[0]

    assert await on_a_real_request(aiohttp_server, lambda request: middleware(request, raise_at_once)) is errors[0]


#: Where else the middleware can read a fact. The test breaks these names, too.
OTHERWISE = {
    "headers": ("_headers",),
    "match_info": ("_match_info",),
    "method": ("_method",),
    "rel_url": ("_message", "raw_path"),
    "remote": ("_transport_peername", "transport"),
}


@pytest.mark.parametrize("broken", ["headers", "rel_url", "match_info", "method", "remote"])
@pytest.mark.parametrize("headers", [{}, BEARER, bearer("wrong")], ids=["nothing", "right", "wrong"])
async def test_admits_nobody_when_a_fact_cannot_be_read(aiohttp_server, middleware, broken, headers):
    class Faulty:
        def __init__(self, request):
            self._request = request

        def __getattr__(self, name):
            if name == broken or name in OTHERWISE[broken]:
                raise OSError("cannot be read")
            return getattr(self._request, name)

    calls = []

    def judge(request):
        answer = middleware(Faulty(request), calls.append)
        if asyncio.iscoroutine(answer):
            answer.close()
        return answer

    outcome = await on_a_real_request(aiohttp_server, judge, headers)
    unread = (broken in ("match_info", "method") and headers is BEARER) or (broken == "remote" and headers == {})
    if headers is BEARER and unread:
        assert len(calls) == 1, "a fact that is not needed is not read"
    else:
        assert calls == []
        assert unread or isinstance(outcome, OSError)


def test_never_prints_a_key(middleware):
    store = KeyStore([KEY])
    for thing in (middleware, store, store.warnings()):
        assert KEY not in repr(thing)
    assert repr(store) == "KeyStore(1 keys)"


# ---------------------------------------------------------------------------------------------------------------------
# Rule 1: credentials

X_KEY, X_WRONG = {"X-API-Key": KEY}, {"X-API-Key": "wrong"}
MANY_WRONG = [("X-API-Key", f"wrong-{number}") for number in range(17)]

RULE_1 = {
    "nothing": ("", {}, "missing_credential"),
    "Bearer": ("", BEARER, "admitted"),
    "the other key": ("", bearer(OTHER_KEY), "admitted"),
    "bearer": ("", {"Authorization": f"bearer {KEY}"}, "admitted"),
    "BEARER, spaces": ("", {"Authorization": f"BEARER   {KEY}"}, "admitted"),
    "Basic": ("", basic(KEY), "admitted"),
    "Basic, no user": ("", basic(KEY, user=""), "admitted"),
    "X-API-Key": ("", X_KEY, "admitted"),
    "x-api-key": ("", {"x-api-key": KEY}, "admitted"),
    "api_key": (f"?api_key={KEY}", {}, "admitted"),
    "token": (f"?x=1&token={KEY}&y", {}, "admitted"),
    "an encoded key": ("?api_key=" + "".join(f"%{ord(character):02x}" for character in KEY), {}, "admitted"),
    "wrong Bearer": ("", bearer("wrong"), "invalid_credential"),
    "wrong Basic": ("", basic("wrong", user=KEY), "invalid_credential"),
    "wrong X-API-Key": ("", X_WRONG, "invalid_credential"),
    "wrong api_key": ("?api_key=wrong", {}, "invalid_credential"),
    "wrong token": ("?token=wrong", {}, "invalid_credential"),
    "a part of the key": ("", bearer(KEY[:-1]), "invalid_credential"),
    "more than the key": ("", bearer(KEY + "x"), "invalid_credential"),
    "both keys as one": ("", bearer(f"{KEY} {OTHER_KEY}"), "invalid_credential"),
    "empty Authorization": ("", {"Authorization": ""}, "missing_credential"),
    "empty Bearer": ("", {"Authorization": "Bearer "}, "missing_credential"),
    "empty Basic": ("", basic(""), "missing_credential"),
    "empty X-API-Key": ("", {"X-API-Key": ""}, "missing_credential"),
    "empty query": ("?api_key=&token=", {}, "missing_credential"),
    "another scheme": ("", {"Authorization": f"Digest {KEY}"}, "missing_credential"),
    "no scheme": ("", {"Authorization": KEY}, "missing_credential"),
    "another header": ("", {"X-Key": KEY, "Api-Key": KEY}, "missing_credential"),
    "another parameter": (f"?key={KEY}&API_KEY={KEY}&api_key[]={KEY}", {}, "missing_credential"),
    "a key in the fragment": (f"#api_key={KEY}", {}, "missing_credential"),
    "a cookie that does not verify": ("", {"Cookie": f"comfyui_session={KEY}"}, "missing_credential"),
    "wrong first, right second": ("", [("X-API-Key", "wrong"), ("X-API-Key", KEY)], "admitted"),
    "right first, wrong second": ("", [("X-API-Key", KEY), ("X-API-Key", "wrong")], "admitted"),
    "two Authorization fields": ("", [*bearer("wrong").items(), *BEARER.items()], "admitted"),
    "wrong Bearer, right X-API-Key": ("", {**bearer("wrong"), **X_KEY}, "admitted"),
    "right Bearer, wrong X-API-Key": ("", {**BEARER, **X_WRONG}, "admitted"),
    "wrong headers, right query": (f"?api_key={KEY}", {**bearer("wrong"), **X_WRONG}, "admitted"),
    "right header, wrong query": ("?api_key=wrong&token=wrong", X_KEY, "admitted"),
    "wrong api_key, right token": (f"?api_key=wrong&token={KEY}", {}, "admitted"),
    "the same name twice": (f"?api_key=wrong&api_key={KEY}", {}, "admitted"),
    "junk Authorization, right X-API-Key": ("", {"Authorization": "Basic %%%", **X_KEY}, "admitted"),
    "junk Authorization alone": ("", {"Authorization": "Basic %%%"}, "invalid_credential"),
    "empty Bearer, right X-API-Key": ("", {"Authorization": "Bearer", **X_KEY}, "admitted"),
    "a proxy's own Basic, right X-API-Key": ("", {**basic("of the proxy"), **X_KEY}, "admitted"),
    "bytes that are not UTF-8": ("", bearer("\udcff\udcfe"), "invalid_credential"),
    "not UTF-8, beside a right one": ("", {"Authorization": "\udcff", **X_KEY}, "admitted"),
    "a key and a byte that is not UTF-8": ("", {"X-API-Key": KEY + "\udcff"}, "invalid_credential"),
    "UTF-8": ("", {"X-API-Key": KEY + "é"}, "invalid_credential"),
    "not UTF-8 in the query": ("?api_key=%ff%fe", {}, "invalid_credential"),
    "a null byte in the query": (f"?api_key={KEY}%00", {}, "invalid_credential"),
    "15 wrong ones, then a right one": ("", [*MANY_WRONG[:15], *X_KEY.items()], "admitted"),
    "17 wrong ones, then a right one: too many guesses": ("", [*MANY_WRONG, *X_KEY.items()], "invalid_credential"),
    "the key as long as a header can be": ("", bearer("x" * 8000), "invalid_credential"),
}


@pytest.mark.parametrize(("query", "headers", "expected"), RULE_1.values(), ids=RULE_1)
async def test_rule_1(server, query, headers, expected):
    reply = await fetch(server, f"/prompt{query}", headers)
    if expected == "admitted":
        assert (reply.status, reply.text) == (200, SECRET)
        return
    assert reply.status == 401
    assert reply.json["cause"] == expected
    assert reply.json["error"] == "unauthorized"
    assert reply.json["message"]
    challenge = 'Bearer realm="ComfyUI"' + (', error="invalid_token"' if expected == "invalid_credential" else "")
    assert reply.headers.getall("WWW-Authenticate") == [challenge, *([] if "Cookie" in headers else [BASIC])]
    assert reply.headers["Cache-Control"] == "no-store"
    assert SECRET not in reply.text
    assert KEY not in str(reply)


@pytest.mark.parametrize("target", ["/prompt", "/nothing", "/auth_session", "/health"])
@pytest.mark.parametrize("headers", [{}, bearer("wrong"), basic("wrong"), UPGRADE])
async def test_rule_4_programs_are_asked_for_basic_and_browsers_never(server, target, headers):
    """A browser would open its own password dialog."""
    programs = [
        {},
        {"User-Agent": "Wget/1.21.3", "Accept": "*/*"},
        {"User-Agent": "Lavf/59.27.100", "Range": "bytes=0-"},
    ]
    browsers = [
        {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        {"Accept-Language": "en"},
        {"Referer": "http://evil.example/"},
        {"Origin": "null"},
        {"Cookie": "a=b"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Dest": "image"},
        {"Accept": "text/html"},
    ]
    for extra in programs + browsers:
        for method in ("GET", "POST", "DELETE"):
            reply = await fetch(server, target, {**headers, **extra}, method=method)
            if reply.status != 401:
                assert "WWW-Authenticate" not in reply.headers
                continue
            bearer_challenge, *others = reply.headers.getall("WWW-Authenticate")
            assert bearer_challenge.startswith(CHALLENGE)
            assert others == ([BASIC] if extra in programs else []), (extra, method)


async def test_rule_1_what_real_clients_send(aiohttp_server, middleware):
    server = await aiohttp_server(secret_app(middleware))
    async with aiohttp.ClientSession() as session:
        url = server.make_url("/prompt")
        for authenticated in (url.with_user("any").with_password(KEY), url.with_query(api_key=KEY)):
            async with session.get(authenticated) as response:
                assert await response.text() == SECRET


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.sampled_from(
        ["Authorization", "X-API-Key", "Cookie", "Accept", "Sec-Fetch-Site", "Origin", "X-Forwarded-For"]
    ),
    value=st.binary(max_size=60).map(
        lambda data: data.translate(None, b"\r\n\0").strip().decode(errors="surrogateescape")
    ),
    prefix=st.sampled_from(["", "Bearer ", "Basic "]),
)
async def test_rule_1_no_header_value_gets_in_or_breaks_anything(running, name, value, prefix):
    server = await running(lambda: secret_app(create_auth_middleware(api_key=KEY)))
    reply = await fetch(server, headers=[(name, prefix + value)])
    assert reply.status in (400, 401, 302, 429)  # 400: aiohttp's own parser rejects some control characters
    assert (await fetch(server, headers=BEARER)).status == 200


# ---------------------------------------------------------------------------------------------------------------------
# Rule 2: the cookie alone


@pytest.fixture
async def ours(aiohttp_server):
    """A server with sessions."""
    app = secret_app()
    app.router.add_get("/socket", secret)
    setup(app, api_key=KEY)
    return await aiohttp_server(app)


SITES = {
    "our page": ({"Sec-Fetch-Site": "same-origin"}, True),
    "the address bar": ({"Sec-Fetch-Site": "none"}, True),
    "our page, older browser": ({"Origin": "http://127.0.0.1:{port}"}, True),
    "our page behind TLS": ({"Origin": "https://127.0.0.1:{port}"}, True),
    "another port": ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, False),
    "another port, older browser": ({"Origin": "http://127.0.0.1:1"}, False),
    "another site": ({"Sec-Fetch-Site": "cross-site"}, False),
    "another site that forges Origin, which browsers don't let it": (
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"},
        False,
    ),
    "another host's name for us": ({"Origin": "http://localhost:{port}"}, False),
    "a sandboxed page": ({"Origin": "null"}, False),
    "a file": ({"Origin": "file://"}, False),
    "a name that begins like ours": ({"Origin": "http://127.0.0.1:{port}.evil.example"}, False),
    "a user name like ours": ({"Origin": "http://127.0.0.1:{port}@evil.example"}, False),
    "an empty origin": ({"Origin": ""}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("fields", "admitted"), SITES.values(), ids=SITES)
async def test_rule_2_writes(ours, fields, admitted):
    headers = {name: value.format(port=ours.port) for name, value in fields.items()}
    headers["Cookie"] = await log_in(ours)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = await fetch(ours, headers=headers, method=method)
        assert reply.status == (200 if admitted else 403), method
        if not admitted:
            assert reply.json["error"] == "forbidden"
            assert reply.json["cause"] == "cross_origin"
            assert "WWW-Authenticate" not in reply.headers, "what is missing is not a key"
    reply = await fetch(ours, "/socket", {**headers, **UPGRADE})
    assert reply.status == (200 if admitted else 403), "WebSocket"
    assert (await fetch(ours, headers={**headers, **BEARER}, method="POST")).status == 200, "a key beside the cookie"


def load(site, mode, destination):
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}


LOADS = {
    "a program": ({}, True),
    "our <img>": (load("same-origin", "no-cors", "image"), True),
    "our <iframe>": (load("same-origin", "navigate", "iframe"), True),
    "the address bar": (load("none", "navigate", "document"), True),
    "a link on another port's page": (load("same-site", "navigate", "document"), True),
    "a link on another site": (load("cross-site", "navigate", "document"), True),
    "another port's <img>": (load("same-site", "no-cors", "image"), False),
    "another port's <script>": (load("same-site", "no-cors", "script"), False),
    "another port's fetch()": (load("same-site", "cors", "empty"), False),
    "another port's <iframe>": (load("same-site", "navigate", "iframe"), False),
    "another port's <object>": (load("same-site", "navigate", "object"), False),
    "only Sec-Fetch-Site": ({"Sec-Fetch-Site": "cross-site"}, False),
}


@pytest.mark.parametrize(("fields", "admitted"), LOADS.values(), ids=LOADS)
async def test_rule_2_reads(ours, fields, admitted):
    headers = {**fields, "Cookie": await log_in(ours)}
    for method in ("GET", "HEAD"):
        assert (await fetch(ours, headers=headers, method=method)).status == (200 if admitted else 403), method
    assert (await fetch(ours, headers={**headers, **BEARER})).status == 200


async def test_rule_2_a_refusal_is_never_a_redirect(ours):
    headers = {**BROWSER, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe", "Cookie": await log_in(ours)}
    assert (await fetch(ours, headers=headers)).status == 403


# ---------------------------------------------------------------------------------------------------------------------
# Rule 3: exempt routes, resolved


def answer(text):
    async def handler(request):
        return web.Response(text=text)

    return handler


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "web/index.html": "open",
        "web/assets/app.js": "open",
        "web/assets/Font.WOFF2": "open",
        "web/extensions/core/any.thing": "open",
        "web/notes.txt": SECRET,
        "web/no_suffix": SECRET,
        "web/folder.js/data": SECRET,
        "node/node.js": "open",
        "node/data.bin": "open",
        "node/.env": SECRET,
        "node/a/.git/config": SECRET,
        "web/.git/x.js": SECRET,
        "web/.env.json": SECRET,
        "outputs/image.png": SECRET,
        "outputs/data.json": SECRET,
        "secret.js": SECRET,
        "node_secret.js": SECRET,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def comfyui_like(tree, **settings):
    """Routes of all kinds, in ComfyUI's order: its own, its sub-application, custom nodes' folders, the frontend's."""
    app = secret_app()
    for prefix in ("", "/api"):
        app.router.add_route("*", f"{prefix}/userdata/{{file}}", secret)
        app.router.add_route("*", f"{prefix}/ws", answer("open"))
        app.router.add_get(f"{prefix}/extensions", secret)
        app.router.add_get(f"{prefix}/docs/{{page:.*}}", answer("open"))
        app.router.add_get(f"{prefix}/templates/{{name}}", answer("open"))
        app.router.add_get(f"{prefix}/health_of_others", secret)
    app.router.add_get("/files/{path:.*}", secret)
    internal = web.Application()
    for path in ("/health", "/ws", "/logs", "/auth_login.html", "/x.js"):
        internal.router.add_get(path, secret)
    internal.router.add_get("/files/{directory}", secret)
    internal.router.add_static("/static", tree / "outputs")
    app.add_subapp("/internal", internal)
    app.router.add_static("/extensions/node", tree / "node")
    app.router.add_static("/my_outputs", tree / "outputs")
    install_as_comfyui(app, web_root=tree / "web", api_key=KEY, **settings)
    app.router.add_static("/", tree / "web")
    return app


@pytest.fixture
async def comfyui(aiohttp_server, tree):
    return await aiohttp_server(comfyui_like(tree))


RULE_3 = {
    "/ws": "open",
    "/api/ws": "open",
    "/auth_login.html": "open",
    "/auth_inject.js": "open",
    "/health": "open",
    "/docs/nodes/x.md": "open",
    "/templates/x.json": "open",
    "/extensions/node/node.js": "open",
    "/extensions/node/data.bin": "open",
    "/extensions/core/any.thing": "open",
    "/index.html": "open",
    "/assets/app.js": "open",
    "/assets/Font.WOFF2": "open",
    "/assets/app.js?x=1": "open",
    "/prompt": "closed",
    "/api/userdata/x.json": "closed",
    "/userdata/x.json": "closed",
    "/userdata/x.js": "closed",
    "/userdata/ws": "closed",
    "/files/assets/app.js": "closed",
    "/files/auth_login.html": "closed",
    "/extensions": "closed",
    "/api/extensions": "closed",
    "/health_of_others": "closed",
    "/internal/health": "closed",
    "/internal/ws": "closed",
    "/internal/auth_login.html": "closed",
    "/internal/x.js": "closed",
    "/internal/files/x.js": "closed",
    "/internal/static/data.json": "closed",
    "/my_outputs/image.png": "closed",
    "/my_outputs/data.json": "closed",
    "/notes.txt": "closed",
    "/no_suffix": "closed",
    "/folder.js/data": "closed",
    "/nothing/here": "closed",
    "/extensions/node/.env": "closed",
    "/extensions/node/%2eenv": "closed",
    "/extensions/node/a/.git/config": "closed",
    "/extensions/node/a%2F%2Egit%2Fconfig": "closed",
    "/extensions/node/./.env": "closed",
    "/api/extensions/node/.env": "closed",
    "/.git/x.js": "closed",
    "/.env.json": "closed",
}


@pytest.mark.parametrize(("path", "expected"), RULE_3.items())
async def test_rule_3(comfyui, path, expected):
    for method in ("GET", "HEAD"):
        reply = await fetch(comfyui, path, method=method)
        assert reply.status == (200 if expected == "open" else 401), method
        assert SECRET not in reply.text
    for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND"):
        assert (await fetch(comfyui, path, method=method)).status == 401, method
    assert (await fetch(comfyui, path, BEARER)).status in (200, 404)


async def test_rule_3_missing_files_are_not_told_from_existing_ones(comfyui):
    existing, missing = await fetch(comfyui, "/notes.txt"), await fetch(comfyui, "/notes2.txt")
    assert (existing.status, existing.body) == (missing.status, missing.body) == (401, missing.body)
    assert (await fetch(comfyui, "/assets/none.js")).status == 404, "only an open path may tell that a file is missing"


# Whatever these resolve to, none of them reveals a secret.
SPELLINGS = """
/%77s /api/%77s /%2577s /ws/ //ws /./ws /prompt/../ws /prompt/%2e%2e/ws /ws%2f /ws%00 /ws; /WS
/prompt%00.js /prompt%23.js /prompt%3f.js /prompt%3F/x.js /prompt;.js /prompt;/ws /prompt/.js /prompt.js /prompt/
//prompt /%70rompt /prompt%2f..%2fws /prompt?/ws /prompt?x=/auth_login.html /prompt#/auth_login.html /prompt?x=.js
/prompt%3fx=.js /userdata/..%2fauth_login.html /userdata/%2e%2e%2fws /userdata/x%2f..%2f..%2fassets%2fapp.js
/userdata/x.json%00.js
/assets/../notes.txt /assets/..%2fnotes.txt /assets/%2e%2e/notes.txt /assets/..%5cnotes.txt /assets/../../secret.js
/assets/..%2f..%2fsecret.js /..%2fsecret.js /../secret.js /%2e%2e/secret.js /%2e%2e%2fsecret.js /..%5csecret.js
/extensions/node/../node_secret.js /extensions/node/..%2fnode_secret.js /extensions/node/%2e%2e/node_secret.js
/extensions/node/../../prompt /extensions/node%2f..%2f..%2fprompt /extensions/../prompt /extensions/..%2fprompt
/extensions/node/.env%20 /extensions/node//.env /extensions/node/.//.env /extensions/node/.env/ /extensions/node/.ENV
/extensions/node/.env. /extensions/node/x/../.env /extensions/node/a/..%2f.env /extensions/node/%2e/%2eenv
/extensions//node/.env /extensions/node/.env%00 /extensions/node/.env?x.js /extensions/node/.env;.js /%2egit/x.js
/extensions/node%2f.env /extensions%2fnode/.env /extensions/node/%252eenv /extensions/node/a/.git/x/../config
/docs/../prompt /docs/..%2fprompt /docs/%2e%2e/prompt /templates/../prompt /templates/..%2fprompt
/notes.txt%00.js /notes.txt%2f.js /notes.txt/.js /notes.txt;.js /notes.txt?.js /notes.txt#.js /notes%2etxt
/my_outputs/image.png?.js /my_outputs/x/../image.png /assets/../my_outputs/image.png
/assets/..%2fmy_outputs%2fimage.png
http://127.0.0.1/prompt http://127.0.0.1/ws/../prompt http://auth_login.html/prompt https://evil.example/prompt
""".split()  # noqa: SIM905


@pytest.mark.parametrize("target", SPELLINGS)
async def test_rule_3_no_spelling_opens_a_route(comfyui, target):
    for method in ("GET", "POST"):
        reply = await fetch(comfyui, target, method=method)
        assert SECRET not in reply.text
        assert reply.status in (200, 400, 401, 403, 404)
        if reply.status == 200:
            assert method == "GET"
            assert reply.text == "open" or target == "http://auth_login.html/", target


PIECES = """
/ / / // . .. %2e%2e %2f %5c %00 %25 ; ? # .js .json ws api prompt userdata internal health files assets app.js
.env %2eenv .git/config a .git/x.js .env.json
my_outputs image.png extensions node docs templates auth_login.html notes.txt %70rompt secret.js x
""".split()  # noqa: SIM905


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(target=st.lists(st.sampled_from(PIECES), max_size=7).map(lambda pieces: "/" + "".join(pieces)))
@example(target="/assets/..%2f..%2fsecret.js")
async def test_rule_3_no_made_up_spelling_opens_a_route(running, tree, target):
    server = await running(lambda: comfyui_like(tree))
    reply = await fetch(server, target)
    assert SECRET not in reply.text
    assert reply.status != 500


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    target=st.lists(st.sampled_from([piece for piece in PIECES if piece not in "?#"]), max_size=7).map(
        lambda pieces: "/" + "".join(pieces)
    ),
    query=st.sampled_from(["", "?a=1", "?api_key=canary", "?a=1&tok%65n=canary&b=%2F%2Fcanary.example"]),
)
async def test_rule_4_the_way_to_the_login_page_stays_on_this_server(running, tree, target, query):
    server = await running(lambda: comfyui_like(tree))
    reply = await fetch(server, target + query, {"Accept": "text/html"})
    assume(reply.status == 302 and "auth_login.html" in reply.location)
    assert reply.location.isascii() and reply.location.isprintable()
    there = urlsplit(urljoin(f"http://here.example{target}", reply.location))
    assert (there.scheme, there.netloc, there.path) == ("http", "here.example", "/auth_login.html")
    (back,) = parse_qs(there.query)["next"]
    assert back.startswith("/")
    assert "=canary" not in back


async def test_rule_3_sub_applications_that_are_frontends_of_their_own(aiohttp_server, tree):
    """Only the application's own static mount is the frontend; below a prefix, a mount has somebody's files."""
    inner = web.Application()
    inner.router.add_static("/", tree / "outputs")
    app = web.Application(middlewares=[create_auth_middleware(api_key=KEY)])
    app.add_subapp("/sub", inner)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/sub/data.json")).status == 401
    assert (await fetch(server, "/sub/data.json", BEARER)).text == SECRET


async def test_rule_3_the_operators_own_patterns(aiohttp_server, tree):
    exempt = ["/userdata/*", r"^/internal/(logs|health)", "/my_outputs/*.png", "/api/docs"]
    server = await aiohttp_server(comfyui_like(tree, exempt=exempt))
    for target, method, status in [
        ("/userdata/x", "GET", 200),
        ("/userdata/x", "DELETE", 200),
        ("/api/userdata/x", "GET", 401),
        ("/internal/logs", "GET", 200),
        ("/internal/health", "GET", 200),
        ("/internal/health2", "GET", 401),
        ("/internal/ws", "GET", 401),
        ("/my_outputs/image.png", "GET", 200),
        ("/my_outputs/data.json", "GET", 401),
        ("/my_outputs/..%2fnode_secret.js%2f..%2foutputs%2fimage.png", "GET", 401),
        ("/prompt", "GET", 401),
        ("/nothing", "GET", 401),
    ]:
        assert (await fetch(server, target, method=method)).status == status, (method, target)


class ByMethod(web.View):
    async def get(self):
        return web.Response(text=SECRET)

    async def options(self):
        return web.Response(text="allowed")


class ByReading(web.View):
    async def get(self):
        return web.Response(text=SECRET)


async def test_rule_3_preflights_pass_to_what_was_made_for_them(aiohttp_server, middleware):
    """A handler for every method would answer OPTIONS the same as GET."""
    app = secret_app(middleware)
    app.router.add_route("OPTIONS", "/own", secret)
    app.router.add_view("/view", ByMethod)
    app.router.add_view("/reading", ByReading)
    app.router.add_get("/get", secret)
    inner = web.Application()
    inner.router.add_route("*", "/{tail:.*}", secret)
    app.add_subapp("/sub", inner)
    server = await aiohttp_server(app)
    preflight = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for target, text in [("/own", SECRET), ("/view", "allowed")]:
        for headers in (preflight, {**preflight, **bearer("wrong")}):
            reply = await fetch(server, target, headers, method="OPTIONS")
            assert (reply.status, reply.text) == (200, text), target
        assert (await fetch(server, target, method="OPTIONS")).status == 401
        for method in ("GET", "POST", "HEAD"):
            assert (await fetch(server, target, preflight, method=method)).status == 401
    for target, with_key in [("/prompt", 200), ("/sub/x", 200), ("/reading", 405), ("/get", 405), ("/nothing", 404)]:
        assert (await fetch(server, target, preflight, method="OPTIONS")).status == 401, target
        assert (await fetch(server, target, {**preflight, **BEARER}, method="OPTIONS")).status == with_key, target


async def test_rule_0_every_preflight_is_answered_in_comfyui(comfyui):
    preflight = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for target in ("/prompt", "/extensions", "/nothing", "/health", "/assets/app.js"):
        for headers in ({}, bearer("wrong"), BEARER):
            reply = await fetch(comfyui, target, {**preflight, **headers}, method="OPTIONS")
            assert (reply.status, reply.text, reply.headers["Cache-Control"]) == (200, "", "no-store"), target
        assert (await fetch(comfyui, target, method="OPTIONS")).status == 401, target


#: ComfyUI's table opens these, but in your own application they may be secret.
NOT_OURS = """
/ /index.html /ws /api/ws /docs/1 /docs/nodes/x.md /templates/x /templates/x.json /report.json /assets/app.js /x.html
/extensions/node/node.js /extensions/node/data.bin /extensions/core/any.thing /api/health /api/auth_login.html
""".split()  # noqa: SIM905


@pytest.mark.parametrize("with_setup", [True, False])
async def test_rule_3_applications_of_ones_own_open_nothing_else(aiohttp_server, tree, with_setup):
    app = web.Application() if with_setup else web.Application(middlewares=[create_auth_middleware(api_key=KEY)])
    for path in ("/", "/ws", "/api/ws", "/docs/{id:.*}", "/templates/{name}", "/api/health", "/api/auth_login.html"):
        app.router.add_get(path, secret)
    if with_setup:
        setup(app, api_key=KEY)
    else:
        app.router.add_get("/health", answer("open"))
    app.router.add_static("/extensions/node", tree / "node")
    for name in ("report.json", "x.html"):
        (tree / "web" / name).write_text(SECRET)
    app.router.add_static("/", tree / "web")
    server = await aiohttp_server(app)
    for target in NOT_OURS:
        for headers in ({}, UPGRADE, bearer("wrong"), {"Sec-Fetch-Site": "same-origin"}):
            for method in ("GET", "HEAD", "POST"):
                reply = await fetch(server, target, headers, method=method)
                expected = (
                    302 if (target, method) in (("/", "GET"), ("/", "HEAD")) and "Upgrade" not in headers else 401
                )
                assert reply.status == expected, (method, target, headers)
        assert (await fetch(server, target, BEARER)).status == 200, target
    assert (await fetch(server, "/health")).status == 200
    assert (await fetch(server, "/auth_login.html")).status == (200 if with_setup else 401)


async def test_rule_3_what_an_application_of_ones_own_exempts(aiohttp_server, tree):
    app = web.Application()
    app.router.add_get("/docs/{id}", answer("open"))
    setup(app, api_key=KEY, exempt=["/docs/*", "/assets/*.js"])
    app.router.add_static("/", tree / "web")
    server = await aiohttp_server(app)
    for target, status in (("/docs/1", 200), ("/assets/app.js", 200), ("/assets/Font.WOFF2", 401), ("/docs", 401)):
        assert (await fetch(server, target)).status == status, target


async def test_rule_3_an_exempt_handler_of_every_method_runs(aiohttp_server):
    server = await aiohttp_server(secret_app(create_auth_middleware(api_key=KEY, exempt="/prompt")))
    for headers in ({}, {"Access-Control-Request-Method": "GET"}):
        assert (await fetch(server, "/prompt", headers, method="OPTIONS")).text == SECRET


async def echo_socket(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest.fixture
async def sockets(aiohttp_client):
    async def start(**settings):
        app = web.Application()
        app.router.add_get("/ws", echo_socket)
        app.router.add_get("/other", echo_socket)
        install_as_comfyui(app, api_key=[KEY, OTHER_KEY], **settings)
        return await aiohttp_client(app)

    return start


async def refusal(opening):
    """The status of a handshake that fails."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await opening
    return caught.value.status


async def test_rule_3_sockets(sockets):
    client = await sockets()
    async with client.ws_connect("/ws"):
        pass  # hostile/test_strangers.py tests what strangers may send and receive
    assert await refusal(client.ws_connect("/other")) == 401
    async with client.ws_connect("/other", headers=BEARER) as socket:
        await socket.send_str("with the key")
        assert await socket.receive_str() == "with the key"


async def test_rule_3_required_sockets(sockets):
    client = await sockets(require_ws=True)
    assert await refusal(client.ws_connect("/ws")) == 401
    assert await refusal(client.ws_connect("/ws?api_key=wrong")) == 401
    for target, headers in (("/ws", BEARER), (f"/ws?clientId=x&api_key={KEY}", {}), (f"/ws?token={KEY}", {})):
        async with client.ws_connect(target, headers=headers) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
    origin = str(client.make_url("")).rstrip("/")
    cookie = {"Cookie": await log_in(client.server)}
    assert await refusal(client.ws_connect("/ws", headers={**cookie, "Origin": "http://evil.example"})) == 403
    async with client.ws_connect("/ws", headers={**cookie, "Origin": origin}) as socket:
        await socket.send_str("a browser")
        assert await socket.receive_str() == "a browser"


async def test_rule_3_none_of_our_own_routes_opens_a_socket(sockets):
    client = await sockets()
    async with client.get("/health?clientId=mine", headers={**BEARER, **UPGRADE}) as answer:
        assert answer.status == 200
        async with client.ws_connect("/ws?clientId=mine"):
            pass


async def test_rule_3_nobody_takes_over_a_socket_that_was_opened_with_a_key(sockets):
    client = await sockets()
    owner = await client.ws_connect("/ws?clientId=mine", headers=BEARER)
    for target in (
        "/ws?clientId=mine",
        "/ws?clientId=mine&clientId=x",
        "/ws?x=1&client%49d=mine",
        "/ws?clientId=m%69ne",
    ):
        assert await refusal(client.ws_connect(target)) == 401
        assert await refusal(client.ws_connect(target, headers=bearer("wrong"))) == 401
    refused = await fetch(client.server, "/ws?clientId=mine", UPGRADE)
    assert refused.json["cause"] == "client_id_taken"
    for target in ("/ws", "/ws?clientId=other", "/ws?clientId=other&clientId=mine", "/ws?clientid=mine"):
        async with client.ws_connect(target):
            pass
    assert await refusal(client.ws_connect("/ws?clientId=mine", headers=bearer(OTHER_KEY))) == 401
    async with client.ws_connect("/ws?clientId=mine", headers=BEARER):  # the page was reloaded
        pass
    await owner.send_str("still mine")
    assert await owner.receive_str() == "still mine"
    await owner.close()


async def test_rule_3_a_client_id_is_free_again_when_its_socket_is_closed(sockets):
    client = await sockets()
    for _ in range(3):
        async with client.ws_connect("/ws?clientId=mine", headers=BEARER):
            assert await refusal(client.ws_connect("/ws?clientId=mine")) == 401
        async with asyncio.timeout(5) if hasattr(asyncio, "timeout") else contextlib.AsyncExitStack():
            while (await fetch(client.server, "/ws?clientId=mine", UPGRADE)).status == 401:
                await asyncio.sleep(0.01)
    # An anonymous socket doesn't own its clientId.
    async with client.ws_connect("/ws?clientId=theirs"), client.ws_connect("/ws?clientId=theirs"):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# Rule 4: how a request is refused

ACCEPTS = {
    "nothing": (None, False),
    "*/*": ("*/*", False),
    "JSON": ("application/json", False),
    "an <img>": ("image/avif,image/webp,image/*,*/*;q=0.8", False),
    "a browser": (BROWSER["Accept"], True),
    "in capitals": ("TEXT/HTML", True),
    "HTML at last": ("application/json, text/html;q=0.1", True),
    "XHTML": ("application/xhtml+xml", True),
    "no HTML": ("text/html;q=0, */*", False),
    "text": ("text/plain", False),
    "text/*": ("text/*", False),
    "junk": ("text/html5;;,,/=", False),
}


@pytest.mark.parametrize(("accept", "redirected"), ACCEPTS.values(), ids=ACCEPTS)
async def test_rule_4_by_what_is_accepted(server, accept, redirected):
    headers = {} if accept is None else {"Accept": accept}
    for target in ("/prompt", "/nothing/here"):
        for method in ("GET", "HEAD"):
            reply = await fetch(server, target, headers, method=method)
            assert reply.status == (302 if redirected else 401), method
            assert ("Location" in reply.headers) is redirected
            assert ("WWW-Authenticate" in reply.headers) is not redirected
            assert reply.headers["Cache-Control"] == "no-store"
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert (await fetch(server, target, headers, method=method)).status == 401
    reply = await fetch(server, headers={**headers, **UPGRADE})
    assert reply.status == 401, "a WebSocket is never redirected"


async def test_rule_4_the_root_always_leads_to_the_login_page(aiohttp_server, tree):
    index = tree / "web" / "index.html"
    index_of_its_own = secret_app()
    index_of_its_own.router.add_get("/", secret)
    static = secret_app()
    static.router.add_static("/", tree / "web")
    for app, page in ((secret_app(), index), (index_of_its_own, None), (static, None)):
        setup(app, api_key=KEY, index=page)
        server = await aiohttp_server(app)
        for method in ("GET", "HEAD"):
            for accept in ("*/*", "application/json", BROWSER["Accept"]):
                reply = await fetch(server, "/", {"Accept": accept}, method=method)
                assert (reply.status, reply.location) == (302, "auth_login.html?next=%2F")
        assert (await fetch(server, "/", method="POST")).status == 401
        assert (await fetch(server, "/", UPGRADE)).status == 401
        assert (await fetch(server, "/", bearer("wrong"))).status == 302
        assert (await fetch(server, "/", BEARER)).status != 302


NEXT = {
    "/prompt": "/prompt",
    "/a/b/c": "/a/b/c",
    "/view?filename=a%20b.png&type=output": "/view?filename=a%20b.png&type=output",
    "/view?x=1&api_key=wrong": "/view?x=1",
    "/view?api_key=wrong": "/view",
    "/view?token=wrong&x=1&api_key=wrong": "/view?x=1",
    "/view?%61pi_key=wrong&x": "/view?x",
    "/a/?b": "/a/?b",
    "//evil.example/x": "//evil.example/x",
    "/%2f%2fevil.example": "/%2f%2fevil.example",
    '/"><script>': '/"><script>',
    "/ä?ö": None,
    "/x%20Set-Cookie:%20a=b?c=%0d%0ad": "/x%20Set-Cookie:%20a=b?c=%0d%0ad",
    "/" * 40 + "deep": "/" * 40 + "deep",
}


def resolve(base, location):
    """Resolves a relative path as browsers do (WHATWG URL): empty segments count, unlike in `urljoin`."""
    segments = base.split("/")[1:-1]
    for segment in location.split("/"):
        segments = segments[:-1] if segment == ".." else [*segments, segment]
    return "/" + "/".join(segments)


@pytest.mark.parametrize(("target", "expected"), NEXT.items())
async def test_rule_4_where_the_browser_goes_on_after_the_login(server, target, expected):
    reply = await fetch(server, target, BROWSER)
    if reply.status == 400 and not target.isascii():
        return  # one of aiohttp's two parsers rejects it
    assert reply.status == 302
    assert reply.location.isascii()
    location, query = reply.location.split("?")
    for folder in ("", "/below/a/proxy"):
        if target.count("/") > 32:
            assert location == "/auth_login.html"
        else:
            assert resolve(folder + target.split("?")[0], location) == f"{folder}/auth_login.html"
    [followed] = parse_qs(query)["next"]
    assert followed.startswith("/")
    assert "wrong" not in followed
    if expected is not None:
        assert followed == expected
    assert set(reply.headers) <= {"Location", "Cache-Control", "Content-Length", "Content-Type", "Date", "Server"}


async def test_rule_4_refusals_are_seen_by_middlewares_in_front(aiohttp_server, middleware):
    @web.middleware
    async def cors(request, handler):
        response = await handler(request)
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    reply = await fetch(await aiohttp_server(secret_app(cors, middleware)))
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (401, "*")


async def test_rule_4_routes_cannot_be_enumerated(server):
    existing, missing = await fetch(server, "/prompt"), await fetch(server, "/nothing")
    assert existing.body == missing.body
    assert existing.headers.keys() == missing.headers.keys()
    wrong_method = await fetch(server, "/prompt", method="BREW")
    assert wrong_method.status in (400, 401)  # 400: one of the parsers rejects this method


# ---------------------------------------------------------------------------------------------------------------------
# Refused requests with bodies


async def test_a_refused_upload_is_answered_before_it_arrives(server):
    for framing in ("Content-Length: 5000000000", "Transfer-Encoding: chunked"):
        async with Connection(server) as connection:
            await connection.send(f"POST /prompt HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
            reply = await connection.reply()
            assert (reply.status, reply.json["cause"]) == (401, "missing_credential")


async def test_a_refused_upload_is_not_kept_in_memory(server):
    size, piece = 64 * 2**20, b"x" * 2**18
    async with Connection(server) as connection:
        await connection.send(f"POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        assert (await connection.reply()).status == 401
        tracemalloc.start()
        try:
            with contextlib.suppress(ConnectionError):
                for _ in range(size // len(piece)):
                    await connection.send(piece)
            assert tracemalloc.get_traced_memory()[1] < size / 8
        finally:
            tracemalloc.stop()


SMUGGLED = f"GET /prompt HTTP/1.1\r\nHost: x\r\nX-Smuggled: yes\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


@pytest.mark.parametrize("size", [1, 1000, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_refused_body_is_never_taken_for_a_request(server, size, chunked):
    """The connection goes on with the request after the body, or ends."""
    if size > 2**16 and aiohttp.__version__.startswith("3.9."):
        pytest.skip("aiohttp 3.9 falls silent after a large body that no handler reads")
    body = SMUGGLED * (size // len(SMUGGLED) + 1)
    if chunked:
        framing, data = "Transfer-Encoding: chunked", f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    else:
        framing, data = f"Content-Length: {len(body)}", body
    async with Connection(server) as connection:
        await connection.send(f"POST /prompt HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        await connection.send(data)
        assert (await connection.reply()).status == 401
        try:
            reply = await connection.request("/prompt?second")
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        assert reply.status == 401
        assert (await connection.request("/prompt?third", BEARER)).text == SECRET


async def test_an_admitted_body_arrives_whole(aiohttp_server, middleware):
    async def upload(request):
        return web.json_response(len(await request.read()))

    app = web.Application(middlewares=[middleware], client_max_size=2**24)
    app.router.add_post("/upload", upload)
    server = await aiohttp_server(app)
    for query, headers in (("", BEARER), (f"?api_key={KEY}", {})):
        assert (await fetch(server, f"/upload{query}", headers, method="POST", body=b"x" * 3_000_000)).json == 3_000_000


# ---------------------------------------------------------------------------------------------------------------------
# Setting it up


def test_setup_twice():
    app = web.Application()
    setup(app, api_key=KEY)
    with pytest.raises(RuntimeError, match="before; call it once"):
        setup(app, api_key=KEY)


async def test_setup_of_a_running_application(aiohttp_server):
    app = web.Application()
    await aiohttp_server(app)
    with pytest.raises(RuntimeError, match="before the application starts"):
        setup(app, api_key=KEY)


@pytest.mark.parametrize(
    "path", ["/health", "/auth_session", "/auth_verify", "/auth_login.html", "/auth_inject.js", "/", "/index.html"]
)
def test_setup_where_a_route_is_taken(tmp_path, path):
    """The first of two routes would win: the application's own /health would not check a key."""
    app = web.Application()
    app.router.add_get(path, secret)
    with pytest.raises(ValueError, match=f"already has a route {path},"):
        setup(app, api_key=KEY, index=tmp_path / "index.html")
    assert len(app.middlewares) == 0
    assert len(app.router.resources()) == 1


BAD_SETTINGS = {
    "no key": ({}, KeyFileError, "api_key: no key given; give a key or a key file"),
    "an empty key": ({"api_key": ""}, KeyFileError, "the key is empty"),
    "one empty key": ({"api_key": [KEY, ""]}, KeyFileError, "the key is empty"),
    "a key with a space": ({"api_key": "a b"}, KeyFileError, "character 2 of the key"),
    "a missing file": ({"api_key_file": "/nothing/here"}, KeyFileError, "/nothing/here: the key file does not exist"),
    "a folder": ({"api_key_file": "/"}, KeyFileError, "/: not a regular file"),
    "keys twice": ({"keys": KeyStore([KEY]), "api_key": KEY}, ValueError, "either keys or api_key"),
    "a pattern without a slash": (
        {"api_key": KEY, "exempt": ["public/*"]},
        ValueError,
        'exempt: "public/\\*" must begin with /',
    ),
    "a pattern as text": ({"api_key": KEY, "exempt": "public"}, ValueError, 'exempt: "public" must begin with /'),
    "a bad expression": ({"api_key": KEY, "exempt": ["^("]}, ValueError, r'"\^\(" is not a regular expression'),
    "a bad network": ({"api_key": KEY, "trusted_proxy": ["10.0.0.0/99"]}, ValueError, '"10.0.0.0/99" is not a network'),
    "a bad field": (
        {"api_key": KEY, "client_field": "X Real"},
        ValueError,
        'client_field: "X Real" is not a header name',
    ),
    "a bad origin": ({"api_key": KEY, "origin": ["https://a", "b"]}, ValueError, 'origin: "b" is not an origin'),
    "a bad network as text": ({"api_key": KEY, "trusted_proxy": "proxy"}, ValueError, '"proxy" is not a network'),
}


@pytest.mark.parametrize(("given", "error", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings_are_named_in_one_line(given, error, message):
    for function in (create_auth_middleware, partial(setup, web.Application())):
        with pytest.raises(error, match=message) as caught:
            function(**given)
        assert "\n" not in str(caught.value)
        assert KEY not in str(caught.value)


def test_settings_may_be_given_one_by_one(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OTHER_KEY}\n")
    for values in (
        {"api_key": KEY, "exempt": "/public/*", "trusted_proxy": "10.0.0.0/8", "client_field": "Forwarded"},
        {"api_key": KEY, "origin": "https://comfy.example"},
        {"api_key": (key for key in [KEY]), "exempt": ("/a", "/b"), "trusted_proxy": {"10.0.0.1", "::1"}},
        {"api_key_file": str(file)},
        {"api_key_file": file},
        {"api_key_file": [file, str(file)], "api_key": [KEY]},
        {"keys": KeyStore([KEY], [file])},
    ):
        create_auth_middleware(**values)


async def test_one_key_store_serves_several_applications(aiohttp_server):
    keys = KeyStore([KEY])
    for _ in range(2):
        server = await aiohttp_server(secret_app(create_auth_middleware(keys)))
        assert (await fetch(server, headers=BEARER)).status == 200


async def test_a_protected_application_from_end_to_end(aiohttp_client):
    """What a reader of the documentation would write, and everything they then get."""
    app = web.Application()

    async def jobs(request: web.Request) -> web.Response:
        return web.json_response(["one", "two"])

    app.router.add_get("/jobs", jobs)
    setup(app, api_key=KEY)
    client = await aiohttp_client(app)
    async with client.get("/jobs") as response:
        assert response.status == 401
        assert json.loads(await response.read())["error"] == "unauthorized"
    async with client.get("/jobs", headers=BEARER) as response:
        assert await response.json() == ["one", "two"]
    async with client.get("/jobs", headers=BROWSER) as response:
        assert response.url.path == "/auth_login.html"
        assert "API key" in await response.text()
    async with client.get("/health") as response:
        assert (await response.json())["status"] == "ok"
