"""Compares the server's decisions, over real sockets, with a model of the design. For any history of requests, the
server must admit what the model admits, and refuse what it refuses.

We also test that these tests can fail: they find servers with well-known flaws, and every mutant of the model. Each
mutant gets one sentence of the design wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import logging
import os
import random
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from comfy_auth_rs import setup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.apps import SECRET, install_as_comfyui
from support.client import UPGRADE, Connection, basic
from support.decision_model import (
    ADDRESS_REFUSED,
    ADMITTED,
    EXPIRED_KEY,
    FOREIGN,
    FULL,
    GONE_KEY,
    ILLEGIBLE,
    INVALID,
    KEY,
    KEYS,
    LAPTOP_KEY,
    LOCKED,
    LOGGED_IN,
    LOGIN,
    MALFORMED,
    MISSING,
    NEAR_KEY,
    OTHER_KEY,
    PHONE_KEY,
    QUOTA,
    RUN_KEY,
    SCOPE,
    SHORT_KEY,
    TAKEN,
    TOKEN,
    VIEW_KEY,
    Cookie,
    Credential,
    Model,
    Place,
    Policy,
    Request,
)

POLICIES = (
    Policy(),
    Policy(require_ws=True, exempt=("/public/*", r"^/view\d?", "/my_outputs/*.png"), trusted_proxy=True),
    Policy(url_key=True, trusted_proxy=True),
    Policy(in_comfyui=False),
    Policy(in_comfyui=False, exempt=("/public/*", "/docs/*", "/assets/*"), url_key=True),
)

READS = ("GET", "HEAD")
ALL = (*READS, "POST", "PUT", "PATCH", "DELETE")
WITH_OPTIONS = (*ALL, "OPTIONS")

#: Targets, and the routes they resolve to.
PLACES = (
    Place("/prompt", ALL, "/prompt", read="view", write="run"),
    Place("/api/prompt", ALL, "/api/prompt", read="view", write="run"),
    Place("/%70rompt", ALL, "/prompt", read="view", write="run"),
    Place("/prompt?file=a.png", ALL, "/prompt", read="view", write="run"),
    Place("/prompt?faulty=1", ALL, "/prompt", read="view", write="run", is_faulty=True),
    Place("/userdata/x.json", ALL, "/userdata/{file}"),
    Place("/extensions/node/api.js", ALL, "/extensions/node/api.js"),
    Place("/docs/api", ALL, "/docs/api"),
    Place("/public/x", ALL, "/public/{name}"),
    Place("/view", ALL, "/view", read="view"),
    Place("/view22", ALL, "/view22"),
    Place("/options", WITH_OPTIONS, "/options", for_options=True),
    Place("/all", WITH_OPTIONS, "/all"),
    Place("/userdata/x%0ay", ALL, "/userdata/{file}", illegible=True),
    Place("/extensions/%C2%85.js", READS, "/extensions/node", illegible=True),
    Place("/ws?clientId=%E2%80%A8", READS, "/ws", illegible=True),
    Place("/health", READS, "/health"),
    Place("/api/health", READS, "/api/health"),
    Place("/ws", READS, "/ws", read="view"),
    Place("/api/ws", READS, "/api/ws", read="view"),
    Place("/", READS, "/"),
    Place("/index.html", READS, "/index.html"),
    Place("/auth_login.html", READS, "/auth_login.html"),
    Place("/auth_inject.js", READS, "/auth_inject.js"),
    Place("/auth_login.html?logout=true", READS, "/auth_login.html"),
    Place("/auth_session", (*READS, "POST", "DELETE"), "/auth_session"),
    Place("/assets/app.js", READS, mount="", file="assets/app.js", read="view"),
    Place("/prompt/x.js", READS, mount="", file="prompt/x.js", read="view"),
    Place("/notes.txt", READS, mount="", file="notes.txt", read="view"),
    Place("/nothing", READS, mount="", file="nothing", read="view"),
    Place("/extensions/node/any.bin", READS, mount="/extensions/node", file="any.bin", read="view"),
    Place("/extensions/node/.env", READS, mount="/extensions/node", file=".env"),
    Place("/extensions/node/a/%2egit/config", READS, mount="/extensions/node", file="a/.git/config"),
    Place("/templates/.git/config", READS, mount="/templates", file=".git/config"),
    Place("/.git/x.js", READS, mount="", file=".git/x.js"),
    Place("/templates/any.bin", READS, mount="/templates", file="any.bin", read="view"),
    Place("/my_outputs/image.png", READS, mount="/my_outputs", file="image.png"),
    Place("/my_outputs/data.json", READS, mount="/my_outputs", file="data.json"),
)

HOSTS = ("127.0.0.1:8188", "comfy.example")


# ---------------------------------------------------------------------------------------------------------------------
# Histories


NEAR = (GONE_KEY, KEY[:-1], KEY + "x", KEY.upper(), "sha256:" + hashlib.sha256(KEY.encode()).hexdigest())
VALUES = (KEY, SHORT_KEY, OTHER_KEY, VIEW_KEY, RUN_KEY, NEAR_KEY, EXPIRED_KEY, LAPTOP_KEY, *NEAR, "", TOKEN)
SOURCES = ("x-api-key", "bearer", "basic", "api_key", "token", "url")

COOKIES = (
    Cookie(KEY), Cookie(OTHER_KEY), Cookie(GONE_KEY), Cookie(None), Cookie(KEY, expired=True),
    Cookie(KEY, changed=True), Cookie(KEY, named_for_another=True), Cookie(KEY, own=True),
    Cookie(VIEW_KEY), Cookie(NEAR_KEY), Cookie(EXPIRED_KEY),
)  # fmt: skip

CHAINS = ((), ("far",), ("spoof", "far"), ("spoof", "far", "proxy"), ("proxy",))

SOCKETS = tuple(place for place in PLACES if place.route.endswith("/ws"))
SESSIONS = tuple(place for place in PLACES if place.route == "/auth_session" or "logout" in place.target)


#: If a request has several valid keys, only the first in this order counts as used from that address.
ORDER = {"bearer": 0, "basic": 0, "x-api-key": 1, "api_key": 2, "token": 2, "url": 3}


class Choices:
    """Random bytes that each choose something. A zero chooses the first option, so histories can shrink."""

    def __init__(self, data):
        self._bytes = iter(data)

    def of(self, *options):
        return options[next(self._bytes) % len(options)]

    def some(self, options, most):
        return tuple(self.of(*options) for _ in range(self.of(*range(most + 1))))


def a_credential(choices, policy):
    source, value = choices.of(*SOURCES), choices.of(*VALUES)
    if source == "url" and not (policy.url_key and value):
        return Credential("bearer", MALFORMED)
    return Credential(source, value)


def a_request(choices, policy):
    several = [a_credential(choices, policy) for _ in range(choices.of(0, 0, 1, 1, 2, 3))]
    in_authorization = [pair for pair in several if pair.source in ("bearer", "basic")]
    host, place = choices.of(*HOSTS), choices.of(*PLACES)
    method = choices.of("GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return Request(
        method=method,
        place=place,
        credentials=tuple(
            pair for pair in sorted(several, key=lambda pair: ORDER[pair.source]) if pair not in in_authorization[1:]
        ),
        cookies=choices.some(COOKIES, 2),
        host=host,
        site=choices.of(None, None, "same-origin", "none", "same-site", "cross-site"),
        mode=choices.of(None, "navigate", "navigate", "no-cors"),
        destination=choices.of(None, "document", "document", "image"),
        origin=choices.of(
            None,
            f"http://{host}",
            f"https://{host}",
            f"http://{host.split(':')[0]}:8247",
            "http://evil.example",
            "null",
        ),
        referer=choices.of(None, None, f"http://{host}/", "http://evil.example/"),
        accept=choices.of(None, "*/*", "text/html,*/*;q=0.8", "application/json"),
        preflight=choices.of(False, False, True),
        upgrade=choices.of(False, False, True),
        client_id=choices.of(False, True),
        peer=choices.of("peer", "proxy"),
        forwarded_for=choices.of(*CHAINS),
    )


def sound(request):
    """Drops whatever would disturb other histories, or that no client sends."""
    if request.method == "DELETE" or "logout" in request.place.target:  # end no session that others use
        cookies = tuple(cookie._replace(own=True, key=KEY) for cookie in request.cookies)
        request = replace(request, cookies=cookies)
    if request.place.route == "/auth_login.html":  # with a key in its URL, it only redirects
        credentials = tuple(pair for pair in request.credentials if pair.source != "url")
        request = replace(request, credentials=credentials)
    if request.place not in SOCKETS or request.method != "GET":
        request = replace(request, client_id=False)
    return request


def any_requests(choices, policy):
    return [a_request(choices, policy) for _ in range(choices.of(1, 2, 3))]


#: How guesses are sent. No web page can send the first two.
GUESSERS = (
    {"source": "x-api-key"},
    {"source": "bearer"},
    {"source": "api_key"},
    {"source": "x-api-key", "site": "same-site"},
    {"source": "x-api-key", "origin": "http://evil.example"},
    {"source": "x-api-key", "referer": "http://evil.example/"},
    {"source": "x-api-key", "referer": f"http://{HOSTS[0]}/"},
)


def guesses(first, last, source="x-api-key", place=PLACES[0], **said):
    """Requests with guesses: one per request in `Authorization`, up to ten elsewhere."""
    values = [Credential(source, f"guess-{number}") for number in range(first, last)]
    each = 1 if source == "bearer" else 10
    return [
        Request("POST", place, tuple(values[at : at + each]), host=HOSTS[0], **said)
        for at in range(0, len(values), each)
    ]


def requests_of_a_guesser(choices, policy):
    """Somebody guesses nine times or more, among other requests that may use a key."""
    steps = [a_request(choices, policy) for _ in range(3)]
    guesser = choices.of(*GUESSERS)
    at = choices.of(0, 1, 2)
    steps[at:at] = guesses(0, choices.of(10, 9, 19, 20, 40), **guesser)
    peer, forwarded_for, same = choices.of("peer", "proxy"), choices.of(*CHAINS), choices.of(True, False)
    return [replace(step, peer=peer, forwarded_for=forwarded_for if same else choices.of(*CHAINS)) for step in steps]


def requests_with_keys_in_a_lock(choices, policy):
    """Somebody uses keys and sessions, first before a lock and then during it."""
    guesser, before, more = choices.of(*GUESSERS), choices.of(0, 1, 2), choices.of(0, 4, 9, 10, 30)
    owner = choices.of(*GUESSERS)
    steps = []
    for _ in range(before + 4):
        value, beside = (
            choices.of(SHORT_KEY, KEY, OTHER_KEY, "wrong"),
            choices.of((), (Cookie(KEY),), (Cookie(OTHER_KEY),)),
        )
        said = dict(choices.of(guesser, owner))
        place = choices.of(*(place for place in PLACES if place.target in ("/prompt", "/health", "/auth_session", "/")))
        method = "GET" if place.target != "/auth_session" else choices.of("GET", "POST")
        key = (Credential(said.pop("source"), value),)
        steps.append(Request(method, place, key, beside, host=HOSTS[0], accept=choices.of(None, "text/html"), **said))
    steps += [choices.of(*steps)] * choices.of(0, 12)
    session = next(place for place in PLACES if place.target == "/auth_session")
    steps[before:before] = guesses(0, 10 + more, place=choices.of(PLACES[0], PLACES[0], session), **guesser)
    return steps


def requests_with_a_session(choices, policy):
    """A session is used, perhaps logged out, and used again."""
    own = (Cookie(KEY, own=True),)
    steps = [replace(a_request(choices, policy), cookies=own, credentials=()) for _ in range(3)]
    steps[1] = replace(steps[1], place=choices.of(*SESSIONS), method=choices.of("DELETE", "GET", "POST"))
    return [replace(step, site=choices.of(None, "none", "same-origin", "cross-site")) for step in steps]


def requests_of_a_program(choices, policy):
    """Nothing in them marks a browser."""
    steps = [a_request(choices, policy) for _ in range(2)]
    bare = dict.fromkeys(("site", "mode", "destination", "origin", "referer"), None) | {"accept": "*/*", "cookies": ()}
    return [replace(step, **bare) for step in steps]


def requests_by_links(choices, policy):
    """Somebody with a session opens a link with a key, after nine guesses."""
    root = next(place for place in PLACES if place.target == "/")
    tried = (Credential("api_key", choices.of("guess", OTHER_KEY)),)
    link = Request("GET", root, tried, (Cookie(KEY),), host=HOSTS[0], site="same-origin", accept="text/html")
    right = replace(
        link,
        credentials=(Credential("api_key", KEY),),
        cookies=choices.of((), (Cookie(KEY),), (Cookie(OTHER_KEY),), (Cookie(KEY, expired=True),)),
        site=choices.of(None, "none", "same-origin", "same-site"),
        mode=choices.of(None, "navigate", "no-cors"),
        destination=choices.of(None, "document", "iframe"),
    )
    steps = [right, *guesses(0, 9, "api_key"), link, a_request(choices, policy)]
    return [replace(step, peer="peer", forwarded_for=()) for step in steps]


def log_ins(choices, policy):
    """From any page, with a key in any place."""
    place = next(place for place in PLACES if place.route == "/auth_session")
    return [replace(a_request(choices, policy), place=place, method="POST") for _ in range(2)]


def requests_that_ask_who_it_is(choices, policy):
    """Guesses beside a session, on the route that tells which of them counts."""
    route = next(place for place in PLACES if place.target == "/auth_session")
    tried = (Credential("x-api-key", choices.of("guess", SHORT_KEY)),)
    asking = Request("GET", route, tried, (Cookie(KEY),), host=HOSTS[0], site="same-origin")
    return [*guesses(0, 9), asking, replace(asking, cookies=()), a_request(choices, policy)]


def requests_for_a_socket(choices, policy):
    steps = [replace(a_request(choices, policy), place=choices.of(*SOCKETS)) for _ in range(2)]
    return [replace(step, method="GET", client_id=True, upgrade=True) for step in steps]


def prompts_of_a_user(choices, policy):
    """Prompts by two keys of one user, and by keys without limits."""
    places = [place for place in PLACES if place.route in ("/prompt", "/api/prompt")]
    steps = []
    for _ in range(8):
        key = choices.of(LAPTOP_KEY, LAPTOP_KEY, PHONE_KEY, RUN_KEY, KEY)
        method, upgrade = choices.of("POST", "POST", "POST", "GET", "PUT"), choices.of(False, False, True)
        credentials, cookies = choices.of(((Credential("bearer", key),), ()), ((), (Cookie(key),)))
        place = choices.of(*places)
        site = "same-origin" if cookies else None
        steps.append(Request(method, place, credentials, cookies, host=HOSTS[0], site=site, upgrade=upgrade))
    return steps


def a_history(data):
    """A policy, and a few requests."""
    choices = Choices(data)
    policy = choices.of(*POLICIES)
    kinds = (
        any_requests,
        requests_of_a_guesser,
        requests_with_keys_in_a_lock,
        requests_that_ask_who_it_is,
        requests_with_a_session,
        requests_for_a_socket,
        log_ins,
        requests_of_a_program,
        requests_by_links,
        prompts_of_a_user,
    )
    kind = choices.of(*kinds)
    return policy, [sound(step) for step in kind(choices, policy)]


HISTORIES = st.binary(min_size=160, max_size=160).map(a_history)


# ---------------------------------------------------------------------------------------------------------------------
# The server, and what it is sent


def plant(folder):
    """Writes the files that the servers have."""
    for name in (
        "web/assets/app.js",
        "web/index.html",
        "web/notes.txt",
        "node/any.bin",
        "out/image.png",
        "out/data.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)


#: The attributes of each key in the key file.
LINES = {
    **dict.fromkeys((KEY, OTHER_KEY, SHORT_KEY), ""),
    VIEW_KEY: "scope=view",
    RUN_KEY: "a label scope=run",
    NEAR_KEY: "from=127.0.0.0/8",
    EXPIRED_KEY: "expires=2020-02-29",
    LAPTOP_KEY: "laptop scope=run user=anna prompts=3/h",
    PHONE_KEY: "phone scope=run user=Anna prompts=2/d",
}


def make_app(folder, policy, flaw=None):
    """An application like ComfyUI. Its handlers note each request in `app[SERVED]`."""

    async def answer(request):
        request.app[SERVED].append(request.headers["X-Number"])
        return web.Response(text=SECRET)

    async def prompt(request):
        if request.method == "POST" and "faulty" in request.query:
            return web.Response(status=400)
        if request.method == "POST" and policy.in_comfyui:
            comfyui.prompt_queue.put((0, request.headers["X-Number"]))
        return await answer(request)

    async def socket(request):
        request.app[SERVED].append(request.headers["X-Number"])
        response = web.WebSocketResponse()
        if not response.can_prepare(request).ok:
            return web.Response(text=SECRET)
        await response.prepare(request)
        await response.receive()
        return response

    app = web.Application(middlewares=[flaw] if flaw else [])
    app[SERVED] = []
    app.router.add_route("*", "/all", answer)
    for path in ("/prompt", "/api/prompt"):
        for method in ALL[1:]:
            app.router.add_route(method, path, prompt)
        app.router.add_get(path, prompt, allow_head=False)
    for path in ("/options", "/userdata/{file}", "/extensions/node/api.js", "/docs/api",
                 "/public/{name}", "/view", "/view22"):  # fmt: skip
        for method in ALL[1:]:
            app.router.add_route(method, path, answer)
        app.router.add_get(path, answer, allow_head=False)
    app.router.add_options("/options", answer)
    for path in ("/ws", "/api/ws"):
        app.router.add_get(path, socket)
    (folder / "keys").write_text("\n".join(f"{key} {about}" for key, about in LINES.items()))
    given = {
        "api_key_file": folder / "keys",
        "exempt": policy.exempt,
        "require_ws": policy.require_ws,
        "trusted_proxy": "127.128.0.0/9" if policy.trusted_proxy else (),
        "url_key": policy.url_key,
    }
    if policy.in_comfyui:
        comfyui = install_as_comfyui(app, web_root=folder / "web", **given)
    else:
        setup(app, index=folder / "web/index.html", **given)
        app.router.add_get("/api/health", answer)
    for path, name in (("/extensions/node", "node"), ("/templates", "node"), ("/my_outputs", "out"), ("/", "web")):
        app.router.add_static(path, folder / name)
    return app


SERVED = web.AppKey("served", list)

#: Each history has its own addresses, so the locks of others don't affect it.
HISTORY = itertools.count(1)


class Client:
    """Turns the requests of one history into HTTP, sends them, and tells how each was decided."""

    def __init__(self, server, jar, number):
        self.server = server
        self.jar = jar
        self.number = number
        self.requests = itertools.count()
        self.own = {}

    def address(self, name):
        base = {"peer": "127.16.0.0", "proxy": "127.128.0.0", "far": "10.0.0.0", "spoof": "11.0.0.0"}[name]
        return str(IPv4Address(base) + self.number)

    async def prepare(self, history, replica):
        """Makes a session for this history alone."""
        if any(cookie.own for request in history for cookie in request.cookies):
            _, value = await log_in(replica, KEY, HOSTS[0])
            self.own = {host: (self.jar[KEY, host][0], value) for host in HOSTS}

    def cookie(self, cookie, host):
        name, value = self.own[host] if cookie.own else self.jar[cookie.key or KEY, host]
        if cookie.named_for_another:
            name = self.jar[KEY, next(other for other in HOSTS if other != host)][0]
        if cookie.expired:
            value = forge(cookie.key, int(time.time()) - 1)
        if cookie.key is None:
            value = "forged"
        if cookie.changed:
            value = value[:50] + ("A" if value[50] != "A" else "B") + value[51:]
        return f"{name}={value}"

    def written(self, request):
        fields = [("Host", request.host), ("X-Number", f"{self.number}.{next(self.requests)}")]
        path, _, query = request.place.target.partition("?")
        path = "".join(f"/key/{value}" for source, value in request.credentials if source == "url") + path
        pairs = [query] if query else []
        for source, value in request.credentials:
            if value == MALFORMED:
                fields.append(("Authorization", "Bearer two words"))
            elif source == "bearer":
                fields.append(("Authorization", f"bEARER {value}"))
            elif source == "basic":
                fields += basic(value).items()
            elif source == "x-api-key":
                fields.append(("X-API-Key", value))
            elif source != "url":
                pairs.append(f"{source}={value}")
        if request.client_id:
            pairs.append(f"clientId=client-{self.number}")
        if request.cookies:
            fields.append(("Cookie", "; ".join(self.cookie(cookie, request.host) for cookie in request.cookies)))
        for name, value in (
            ("Sec-Fetch-Site", request.site), ("Sec-Fetch-Mode", request.mode), ("Sec-Fetch-Dest", request.destination),
            ("Origin", request.origin), ("Referer", request.referer), ("Accept", request.accept),
            ("Access-Control-Request-Method", "POST" if request.preflight else None),
        ):  # fmt: skip
            if value is not None:
                fields.append((name, value))
        if request.upgrade:
            fields += UPGRADE.items()
        if request.forwarded_for:
            fields.append(("X-Forwarded-For", ", ".join(map(self.address, request.forwarded_for))))
        return path + ("?" + "&".join(pairs) if pairs else ""), fields

    async def send(self, request, connections):
        """The outcome, judged by the server's reply and by what reached its handlers."""
        source = self.address(request.peer)
        connection = await connections.enter_async_context(Connection(self.server, source))
        target, fields = self.written(request)
        body = None if request.method in (*READS, "OPTIONS") else b""
        reply = await connection.request(target, fields, method=request.method, body=body)
        outcome = outcome_of(reply, request.method)
        served = dict(fields)["X-Number"] in self.server.app[SERVED]
        assert not served or outcome == ADMITTED
        assert SECRET not in reply.text or outcome == ADMITTED
        assert "Set-Cookie" not in reply.headers or outcome == LOGGED_IN or "/auth_session" in target
        return outcome


def outcome_of(reply, method):
    challenge = reply.headers.get("WWW-Authenticate")
    if reply.status == 302 and "auth_login.html?next=" in reply.location:
        return LOGIN
    if reply.status == 429:
        if "Retry-After" not in reply.headers:
            return FULL
        if reply.json["cause"] == "quota":
            assert 3500 < int(reply.headers["Retry-After"]) <= 24 * 3600
            return QUOTA
        assert 0 < int(reply.headers["Retry-After"]) <= 60
        return LOCKED
    if reply.status == 400 and reply.headers.get("Cache-Control") == "no-store":
        return ILLEGIBLE
    if reply.status == 403 and reply.headers["Cache-Control"] == "no-store":
        if challenge is not None:
            assert 'error="insufficient_scope", scope="' in challenge
            return SCOPE
        return FOREIGN if method == "HEAD" or reply.json["cause"] == "cross_origin" else ADDRESS_REFUSED
    if reply.status == 401:
        assert challenge.startswith('Bearer realm="ComfyUI"')
        if method != "HEAD" and reply.json["cause"] == "client_id_taken":
            return TAKEN
        return INVALID if challenge.endswith(', error="invalid_token"') else MISSING
    assert challenge is None
    if "Set-Cookie" in reply.headers and "refresh" in reply.text:
        return LOGGED_IN
    assert reply.status in (101, 200, 204, 400, 404, 405)  # above 300: admitted, but nobody handles it
    return ADMITTED


async def log_in(server, key, host):
    """The name and value of a new session's cookie."""
    async with Connection(server) as connection:
        fields = [("Host", host), ("X-API-Key", key)]
        reply = await connection.request("/auth_session", fields, method="POST", body=b"")
    assert reply.status == 204, reply
    name, _, value = reply.headers["Set-Cookie"].partition(";")[0].partition("=")
    return name, value


def forge(key, expires):
    """A session as the server would sign it: anyone with the key can."""

    def mac(secret, *parts):
        return hmac.digest(secret, b"".join(parts), "sha256")

    digest = hashlib.sha256(key.encode()).digest()
    key_id = mac(digest, b"comfy-auth-rs key id v1")[:16]
    times = [int(time.time()).to_bytes(8, "big"), expires.to_bytes(8, "big")]
    fields = [b"\x02", key_id, b"any session id..", *times]
    framed = [part for field in fields for part in (len(field).to_bytes(1, "big"), field)]
    signature = mac(mac(digest, b"comfy-auth-rs session key v1"), *framed)
    return base64.urlsafe_b64encode(b"".join(fields) + signature).rstrip(b"=").decode()


class Servers:
    """A new server for each history, since to a server they all come from one address: loopback. Sessions are made by a
    replica, so making them changes nothing on the server that is tested."""

    def __init__(self, start, folder):
        self._start = start
        self._folder = folder
        self._replica = None
        self.jar = {}

    async def replica(self):
        if self._replica is None:
            self._replica = await self._start(make_app(self._folder, POLICIES[0]))
            valid = [key for key in KEYS if key != EXPIRED_KEY]
            self.jar = {(key, host): await log_in(self._replica, key, host) for key in valid for host in HOSTS}
            for key, host in itertools.product((GONE_KEY, EXPIRED_KEY), HOSTS):
                self.jar[key, host] = (self.jar[KEY, host][0], forge(key, int(time.time()) + 1000))
        return self._replica

    async def check(self, policy, steps, flaw=None):
        """Sends a history, and compares each outcome with the model's."""
        replica = await self.replica()
        async with TestServer(make_app(self._folder, policy, flaw)) as server, AsyncExitStack() as connections:
            client, model = Client(server, self.jar, next(HISTORY)), Model(policy)
            await client.prepare(steps, replica)
            for step in steps:
                expected = model.judge(step)
                if step.method == "HEAD" and expected == ADDRESS_REFUSED:
                    expected = FOREIGN  # without a body nothing tells them apart
                assert await client.send(step, connections) == expected, (step, model)


@pytest.fixture
def servers(aiohttp_server, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "comfy_auth_rs")  # thousands of lines would tell nothing new
    plant(tmp_path)
    return Servers(aiohttp_server, tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The tests


#: `make soak` runs more examples.
@settings(max_examples=int(os.environ.get("DECISIONS", "600")), suppress_health_check=list(HealthCheck), deadline=None)
@given(HISTORIES)
async def test_the_server_decides_as_the_model(servers, example):
    await servers.check(*example)


#: Two valid keys in one request: the model and the server once disagreed on which of them counts.
REMEMBERED = {
    "the first key before the path": (Credential("url", OTHER_KEY), Credential("url", KEY)),
    "the first in the query": (Credential("api_key", OTHER_KEY), Credential("token", KEY)),
    "a header's before the path's": (Credential("x-api-key", OTHER_KEY), Credential("url", KEY)),
}


@pytest.mark.parametrize("credentials", REMEMBERED.values(), ids=REMEMBERED)
async def test_the_first_valid_key_is_the_one_that_counts_as_used(servers, credentials):
    steps = [Request("GET", PLACES[0], credentials, host=HOSTS[0]), *guesses(0, 20)]
    for key, expected in ((OTHER_KEY, ADMITTED), (KEY, LOCKED)):
        later = Request("GET", PLACES[0], (Credential("bearer", key),), host=HOSTS[0])
        await servers.check(POLICIES[2], [*steps, later])
        model = Model(POLICIES[2])
        assert [model.judge(step) for step in (*steps, later)] == [ADMITTED, INVALID, LOCKED, expected]


async def test_strangers_open_only_so_many_sockets(servers):
    (place,) = (place for place in SOCKETS if place.target == "/ws")
    step = Request("GET", place, host=HOSTS[0], upgrade=True, peer="proxy", forwarded_for=("far",))
    with_key = replace(step, credentials=(Credential("bearer", KEY),))
    steps = [*[step] * 33, with_key, replace(step, forwarded_for=("spoof",)), replace(step, forwarded_for=())]
    await servers.check(POLICIES[2], steps)
    model = Model(POLICIES[2])
    assert [model.judge(step) for step in steps] == [*[ADMITTED] * 32, FULL, *[ADMITTED] * 3]


async def test_a_forged_session_would_be_taken_if_it_had_not_expired(servers):
    """Otherwise it could be refused because the test forged it badly."""
    server = await servers.replica()
    name, _ = servers.jar[KEY, HOSTS[0]]
    for left, status in ((1000, 200), (-1, 401)):
        fields = [("Host", HOSTS[0]), ("Cookie", f"{name}={forge(KEY, int(time.time()) + left)}")]
        async with Connection(server) as connection:
            assert (await connection.request("/auth_session", fields)).status == status


# ---------------------------------------------------------------------------------------------------------------------
# Can these tests fail?


def examples(count):
    """The same histories every time, of the same kinds as above."""
    numbers = random.Random(1)
    return [a_history(numbers.randbytes(160)) for _ in range(count)]


def let_through(is_open):
    """A middleware in front of ours that opens what it shouldn't."""

    @web.middleware
    async def flaw(request, handler):
        return await (request.match_info.handler(request) if is_open(request) else handler(request))

    return flaw


FLAWS = {
    "suffixes of paths": lambda request: request.path.endswith((".js", ".json", ".png")),
    "queries with a suffix": lambda request: request.path_qs.endswith(".png"),
    "a prefix, whatever is there": lambda request: request.path.startswith("/extensions/"),
    "OPTIONS": lambda request: request.method == "OPTIONS",
    "a cookie of that name": lambda request: "comfyui_session" in request.headers.get("Cookie", ""),
    "Basic with any password": lambda request: request.headers.get("Authorization", "").startswith("Basic"),
    "requests of our own pages": lambda request: request.headers.get("Sec-Fetch-Site") == "same-origin",
}


@pytest.mark.parametrize("is_open", FLAWS.values(), ids=FLAWS)
async def test_a_server_with_a_flaw_is_found(servers, is_open):
    flaw = let_through(is_open)
    for policy, steps in examples(300):
        try:
            await servers.check(policy, steps, flaw)
        except AssertionError:
            return
    pytest.fail("300 histories did not reveal the flaw")


class Mutant(Model):
    """Gets one sentence of the design wrong."""


class ForgetsExpiry(Mutant):
    def verifies(self, cookie):
        return super().verifies(cookie._replace(expired=False))


class ForgetsSignatures(Mutant):
    def verifies(self, cookie):
        return super().verifies(cookie._replace(changed=False))


class ForgetsRemovedKeys(Mutant):
    def verifies(self, cookie):
        return super().verifies(cookie._replace(key=KEY if cookie.key == GONE_KEY else cookie.key))


class ForgetsPortsOfCookies(Mutant):
    def verifies(self, cookie):
        return super().verifies(cookie._replace(named_for_another=False))


class ForgetsLogouts(Mutant):
    def verifies(self, cookie):
        return super().verifies(cookie._replace(own=False))


class TakesKeysThatAreNearlyRight(Mutant):
    def authenticate(self, request, client, **purpose):
        near = {KEY[:-1]: KEY, KEY.upper(): KEY, KEY + "x": KEY}
        values = tuple(Credential(source, near.get(value, value)) for source, value in request.credentials)
        return super().authenticate(replace(request, credentials=values), client, **purpose)


class LetsABadOneVeto(Mutant):
    def authenticate(self, request, client, **purpose):
        wrong = any(value and value not in KEYS for _, value in request.credentials)
        return INVALID if wrong else super().authenticate(request, client, **purpose)


class CallsAnEmptyOneWrong(Mutant):
    def authenticate(self, request, client, **purpose):
        values = tuple(Credential(source, value or "wrong") for source, value in request.credentials)
        return super().authenticate(replace(request, credentials=values), client, **purpose)


class CountsOneSourceOnly(Mutant):
    def authenticate(self, request, client, **purpose):
        return super().authenticate(replace(request, credentials=request.credentials[:1]), client, **purpose)


class LetsForeignPagesWrite(Mutant):
    def is_same_origin(self, request):
        return True


class ReadsOriginOnly(Mutant):
    def is_same_origin(self, request):
        return super().is_same_origin(replace(request, site=None))


class ReadsFetchMetadataOnly(Mutant):
    def is_same_origin(self, request):
        return request.site in ("same-origin", "none")


class LetsForeignPagesOpenSockets(Mutant):
    def may_use_the_cookie(self, request):
        return super().may_use_the_cookie(replace(request, upgrade=False))


class LetsForeignPagesEmbed(Mutant):
    def is_embedded(self, request):
        return False


class BelievesEverybodysForwardedFor(Mutant):
    def client(self, request):
        return request.forwarded_for[-1] if request.forwarded_for else request.peer


class BelievesTheFirstForwardedFor(Mutant):
    def client(self, request):
        return (request.forwarded_for or (request.peer,))[0] if self.policy.trusted_proxy else request.peer


class NeverLocks(Mutant):
    def failed(self, budget, wrong):
        return False


class LocksOneTooEarly(Mutant):
    def failed(self, budget, wrong):
        return super().failed(budget, [*wrong, "one more"])


class CountsWhatRepeats(Mutant):
    def failed(self, budget, wrong):
        return super().failed(budget, [f"{len(self.failures.get(budget, ()))} {value}" for value in wrong])


class CountsWhatIsNoKey(Mutant):
    def failed(self, budget, wrong):
        return super().failed(budget, [value.upper() for value in wrong])


class LocksKnownKeysOut(Mutant):
    def is_long(self, key):
        return False


class LetsKnownShortKeysPass(Mutant):
    def is_long(self, key):
        return True


class LetsUnknownLongKeysPass(Mutant):
    def passes(self, one, request, client):
        return self.is_long(one.value) or super().passes(one, request, client)


class LocksSessionsOutThatAreNewThere(Mutant):
    def passes(self, one, request, client):
        known = one.place != "cookie" or (client, one.value) in self.good
        locked = (client, False) in self.locked
        return super().passes(one, request, client) and (known or not locked)


class LocksNobodyWithAKey(Mutant):
    def passes(self, one, request, client):
        return True


class EvaluatesNothingInALock(Mutant):
    def evaluates(self, budget):
        return False


class EvaluatesEverythingInALock(Mutant):
    def evaluates(self, budget):
        return True


class EvaluatesOneTooMany(Mutant):
    def evaluates(self, budget):
        return super().evaluates(budget) or self.evaluated[budget] <= 11


class EvaluatesOneTooFew(Mutant):
    def evaluates(self, budget):
        return super().evaluates(budget) and self.evaluated[budget] <= 9


class CountsNoWrongKeysInALock(Mutant):
    def failed(self, budget, wrong):
        return super().failed(budget, [] if budget in self.locked else wrong)


class CountsNoRightKeysInALock(Mutant):
    def evaluates(self, budget):
        evaluates = super().evaluates(budget)
        self.evaluated[budget] -= 1
        return evaluates


class EvaluatesKeysBesideASession(Mutant):
    def counted(self, refused, presented, request, client):
        for one in presented if refused is None else ():
            if self.is_valid(one.value) and not self.passes(one, request, client):
                self.evaluates(self.budget(one, request, client))
        return super().counted(refused, presented, request, client)


class TellsMoreThanTheLock(Mutant):
    def first_valid(self, presented, request, client):
        refused = super().first_valid(presented, request, client)
        right = any(one.value in KEYS and one.by_itself for one in presented)
        return FOREIGN if refused == LOCKED and right and not self.may_use_the_cookie(request) else refused


class ForgetsScopes(Mutant):
    def may(self, key, request):
        return True


class TakesChangesForReads(Mutant):
    def needed(self, request):
        return super().needed(replace(request, method="GET") if request.method == "POST" else request)


class ForgetsThatRunIncludesView(Mutant):
    def may(self, key, request):
        return super().may(key, request) and not (key == RUN_KEY and self.needed(request) == "view")


class OpensWhatNobodyClassified(Mutant):
    def needed(self, request):
        return super().needed(request).replace("all", "view")


class WantsAScopeForOurOwnRoutes(Mutant):
    def needed(self, request):
        return super().needed(request) or "all"


class TakesComfyUIsTableForAnyApplications(Mutant):
    def needed(self, request):
        was, self.policy = self.policy, replace(self.policy, in_comfyui=True)
        needed = super().needed(request)
        self.policy = was
        return needed


class TakesExpiredKeys(Mutant):
    def is_valid(self, key):
        return key in KEYS


class TakesSessionsOfExpiredKeys(Mutant):
    def verifies(self, cookie):
        return super().verifies(self.of_another(cookie))

    def first_valid(self, presented, request, client):
        request = replace(request, cookies=tuple(map(self.of_another, request.cookies)))
        sessions = [one._replace(value=self.key(one.value)) if one.place == "cookie" else one for one in presented]
        return super().first_valid(sessions, request, client)

    def of_another(self, cookie):
        return cookie._replace(key=self.key(cookie.key))

    def key(self, key):
        return KEY if key == EXPIRED_KEY else key


class ForgetsAddresses(Mutant):
    def is_near(self, request):
        return True


class BelievesUnnamedProxies(Mutant):
    def is_by_an_unnamed_proxy(self, request):
        return False


class BelievesSilentProxies(Mutant):
    def is_near(self, request):
        return super().is_near(request) or (self.is_by_a_trusted_proxy(request) and not request.forwarded_for)


class TellsOfScopesInALock(Mutant):
    def passes(self, one, request, client):
        return super().passes(one, request, client) or not self.may(one.value, request)


class UsesKeysThatMayNot(Mutant):
    def refusal(self, one, request):
        refusal = super().refusal(one, request)
        if refusal == SCOPE:
            self.use(one, self.client(request))
        return refusal


class HasOneBudget(Mutant):
    def budget(self, one, request, client):
        return client, False


class TakesAddressesForHeaders(Mutant):
    def budget(self, one, request, client):
        return super().budget(one._replace(place="header"), request, client)


class BudgetsByAddressOnly(Mutant):
    def is_of_another_site(self, request):
        return False


class BudgetsWithoutReferers(Mutant):
    def is_of_another_site(self, request):
        return super().is_of_another_site(replace(request, referer=None))


class BudgetsWithoutOrigins(Mutant):
    def is_of_another_site(self, request):
        return super().is_of_another_site(replace(request, origin=None))


class BudgetsWithoutFetchMetadata(Mutant):
    def is_of_another_site(self, request):
        return super().is_of_another_site(replace(request, site=None))


class TakesEveryRefererForForeign(Mutant):
    def is_of_another_site(self, request):
        return request.referer is not None or super().is_of_another_site(request)


class CountsLoopbackApart(Mutant):
    def one_address(self, client):
        return client


class CountsNothingBesideAnotherRefusal(Mutant):
    def counted(self, refused, presented, request, client):
        return refused if refused == FOREIGN else super().counted(refused, presented, request, client)


class ForgetsGuessesWhereItTellsWhoItIs(Mutant):
    def introduce(self, presented, request, client):
        pass


class ExemptsUnknownPaths(Mutant):
    def exempt(self, request, resource, refused):
        return None if resource is None else super().exempt(request, resource, refused)


class ExemptsEveryMethod(Mutant):
    def exempt(self, request, resource, refused):
        method = request.method if request.method == "OPTIONS" else "GET"
        return super().exempt(replace(request, method=method), resource, refused)


class ForgetsControlCharacters(Mutant):
    def is_illegible(self, request):
        return False


class LetsKeysWriteControlCharacters(Mutant):
    def is_illegible(self, request):
        return super().is_illegible(request) and self.authenticate(request, self.client(request)) is not None


class ForgetsControlCharactersInQueries(Mutant):
    def is_illegible(self, request):
        return super().is_illegible(request) and "?" not in request.place.target


class TakesEveryApplicationForComfyUI(Mutant):
    def judge(self, request):
        self.policy = replace(self.policy, in_comfyui=True)
        return super().judge(request)


class TakesComfyUIForAnyApplication(Mutant):
    def judge(self, request):
        self.policy = replace(self.policy, in_comfyui=False)
        return super().judge(request)


class ExemptsComfyUIsFilesEverywhere(Mutant):
    def is_public(self, resource):
        self.policy = replace(self.policy, in_comfyui=True)
        return super().is_public(resource)


class ExemptsTwinsEverywhere(Mutant):
    def without_twin(self, route):
        return route.removeprefix("/api")


class LetsPreflightsReachAnyHandler(Mutant):
    def exempt(self, request, resource, refused):
        return None if resource and self.is_preflight(request) else super().exempt(request, resource, refused)


class ExemptsOptions(Mutant):
    def is_preflight(self, request):
        return request.method == "OPTIONS"


class ExemptsNoPreflight(Mutant):
    def is_preflight(self, request):
        return False


class ExemptsSuffixesOfRoutes(Mutant):
    def is_public(self, resource):
        return super().is_public(resource) or resource.target.endswith((".json", ".js"))


class ExemptsSuffixesOfEveryMount(Mutant):
    def is_public(self, resource):
        return super().is_public(resource._replace(mount="") if resource.mount == "/my_outputs" else resource)


class ExemptsRoutesBelowExtensions(Mutant):
    def is_public(self, resource):
        return super().is_public(resource) or resource.route.startswith("/extensions/")


class ExemptsHiddenFiles(Mutant):
    def is_hidden(self, resource):
        return False


class ExemptsWhatOperatorsDont(Mutant):
    def operator_exempts(self, resource):
        return super().operator_exempts(resource._replace(route=resource.route.rstrip("2")))


class ForgetsTheOperator(Mutant):
    def operator_exempts(self, resource):
        return False


class ForgetsRequireWs(Mutant):
    def exempt(self, request, resource, refused):
        self.policy = replace(self.policy, require_ws=False)
        return super().exempt(request, resource, refused)


class HandsSocketsOver(Mutant):
    def takes_over(self, request, key):
        return False


class HandsSocketsOverToAnyKey(Mutant):
    def takes_over(self, request, key):
        return key is None and super().takes_over(request, key)


class ValidatesNothingAtHealth(Mutant):
    def exempt(self, request, resource, refused):
        if resource and resource.route == "/health" and request.method in READS:
            return None
        return super().exempt(request, resource, refused)


class LeadsProgramsToTheLogin(Mutant):
    def leads_to_login(self, request, resource, refused):
        accept = "text/html" if request.accept == "*/*" else request.accept
        return super().leads_to_login(replace(request, accept=accept), resource, refused)


class LeadsSocketsToTheLogin(Mutant):
    def leads_to_login(self, request, resource, refused):
        return super().leads_to_login(replace(request, upgrade=False), resource, refused)


class RenewsSessions(Mutant):
    def log_in(self, request, client):
        session = any(self.verifies(cookie) for cookie in request.cookies) and self.may_use_the_cookie(request)
        return ADMITTED if session else super().log_in(request, client)


class ForgetsGuessesBesideASession(Mutant):
    def log_in(self, request, client):
        session = any(self.verifies(cookie) for cookie in request.cookies)
        return MISSING if session and not self.has_a_key(request) else super().log_in(request, client)

    def has_a_key(self, request):
        return any(value in KEYS for _, value in request.credentials)


class LetsForeignPagesLogIn(Mutant):
    def log_in(self, request, client):
        return super().log_in(replace(request, site=None, origin=None), client)


class LetsForeignPagesLogInByAHeader(Mutant):
    def log_in(self, request, client):
        if self.presented(request, "bearer", "basic", "x-api-key"):
            return super().log_in(replace(request, site=None, origin=None), client)
        return super().log_in(request, client)


class CountsLogInsOfForeignPages(Mutant):
    def log_in(self, request, client):
        if self.is_foreign(request):
            self.count(self.presented(request, *SOURCES), request, client)
        return super().log_in(request, client)


class TakesTheLastForUsed(Mutant):
    def first_valid(self, presented, request, client):
        return super().first_valid(presented[::-1], request, client)


class CountsTokensOfOtherLogins(Mutant):
    def presented(self, request, *sources):
        values = tuple(
            Credential(source, "wrong" if value == TOKEN else value) for source, value in request.credentials
        )
        return super().presented(replace(request, credentials=values), *sources)


class TrustsBasicOfAnyPage(Mutant):
    def is_by_a_browser(self, request):
        return False


class TakesProgramsForBrowsers(Mutant):
    def is_by_a_browser(self, request):
        return True


class LetsOtherHostsOpenSockets(Mutant):
    def is_of_another_host(self, request):
        return False


class LetsNoOtherPortOpenSockets(Mutant):
    def is_of_another_host(self, request):
        return self.is_foreign(request)


class FollowsLinksForFree(Mutant):
    def follow_link(self, request, client):
        pass


class FollowsLinksOfOtherPages(Mutant):
    def is_opened(self, request):
        return True


class ReplacesSessions(Mutant):
    def has_a_session(self, request):
        return False


class AsksPrograms(Mutant):
    def is_a_programs(self, request):
        return False


class ForgetsLimits(Mutant):
    def queue(self, key, resource):
        return True


class ForgetsLimitsOfTwins(Mutant):
    def is_a_prompt(self, request, resource):
        return super().is_a_prompt(request, resource) and resource.route == "/prompt"


class ForgetsLimitsWithAnUpgrade(Mutant):
    def is_a_prompt(self, request, resource):
        return super().is_a_prompt(request, resource) and not request.upgrade


class ForgetsLimitsOfSessions(Mutant):
    def is_a_prompt(self, request, resource):
        return super().is_a_prompt(request, resource) and not request.cookies


class LimitsEveryMethod(Mutant):
    def is_a_prompt(self, request, resource):
        return super().is_a_prompt(replace(request, method="POST"), resource)


class CountsWhatComfyUIRefuses(Mutant):
    def queue(self, key, resource):
        return super().queue(key, resource._replace(is_faulty=False))


class CountsKeysOfOneUserApart(Mutant):
    def user(self, key):
        return key


class LimitsAUserByTheirStrictestKey(Mutant):
    def queue(self, key, resource):
        return super().queue(PHONE_KEY if key == LAPTOP_KEY else key, resource)


class AdmitsOneMoreThanTheLimit(Mutant):
    def queue(self, key, resource):
        was = self.queued[self.user(key)]
        self.queued[self.user(key)] = max(0, was - 1)
        queued = super().queue(key, resource)
        self.queued[self.user(key)] += min(was, 1)
        return queued


class LogsOutByGet(Mutant):
    def judge(self, request):
        outcome = super().judge(request)
        if outcome == ADMITTED and request.place.target.endswith("?logout=true"):
            self.log_out(request)
        return outcome


class LetsForeignPagesLogOut(Mutant):
    def log_out(self, request):
        super().log_out(request)
        return ADMITTED


def test_every_mutant_of_the_model_is_told_from_it():
    """A server with the same mistake would be found, too."""

    def outcomes(kind, policy, steps):
        model = kind(policy)
        return [model.judge(step) for step in steps]

    histories = examples(4000)
    expected = [outcomes(Model, *history) for history in histories]
    assert {outcome for history in expected for outcome in history} == {
        ADMITTED, MISSING, INVALID, TAKEN, FOREIGN, LOCKED, LOGIN, LOGGED_IN, ILLEGIBLE, SCOPE, ADDRESS_REFUSED, QUOTA,
    }  # fmt: skip
    undetected = [
        mutant.__name__
        for mutant in Mutant.__subclasses__()
        if all(outcomes(mutant, *history) == found for history, found in zip(histories, expected, strict=True))
    ]
    assert len(Mutant.__subclasses__()) > 60
    assert undetected == []
