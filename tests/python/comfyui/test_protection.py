"""The patched miniature as a real process: what needs the key, what doesn't, and that nothing else has changed."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest
from support import network
from support.client import BROWSER, CHALLENGE, JSON, Answer, Visitor, ask, bearer, headers_of, is_refusal
from support.keys import WRONG_KEY
from support.servers import Server, start_server
from support.sweep import METHODS, OURS, Route, is_exempt, odd_targets, read_routes, targets

#: These answers contain the time, the memory or the log, so only their status can be compared.
VOLATILE = ("/system_stats", "/internal/logs", "/internal/logs/raw")


# --- every route, every method, every spelling ------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """One request, and its four answers from three servers."""

    method: str
    target: str
    route: Route
    unpatched: Answer
    unprotected: Answer
    without_key: Answer
    with_key: Answer

    @property
    def name(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def is_ours(self) -> bool:
        return self.target.removeprefix("/api") in OURS or (
            self.route.plain in OURS and self.route.kind == "PlainResource"
        )

    @property
    def exempt(self) -> bool:
        return is_exempt(self.method, self.route, self.target)


@pytest.fixture(scope="module")
def visits(copy_miniature: Any, key: str, tmp_path_factory: pytest.TempPathFactory) -> list[Visit]:
    """Sends the same requests, in the same order, to three servers."""
    routes_file = tmp_path_factory.mktemp("routes") / "routes.json"
    found = []
    with ExitStack() as stack:

        def start(*args: str, patched: bool = True) -> tuple[Visitor, str, str]:
            tree = copy_miniature(patched=patched)
            env = {"WITNESS_ROUTES": str(routes_file)}
            server = stack.enter_context(start_server(tree, *args, env=env))
            return stack.enter_context(Visitor(server)), str(tree), str(server.port)

        def send(
            to: tuple[Visitor, str, str], method: str, target: str, headers: dict[str, str] | None = None
        ) -> Answer:
            """Sends a request. Masks what differs between any servers: the port, the folder and the times of files."""
            visitor, tree, port = to
            body = b"{}" if method in ("POST", "PUT", "PATCH") else None
            answer = visitor.ask(target, {**(headers or {}), **(JSON if body else {})}, method=method, body=body)
            plain = answer.body.replace(tree.encode(), b"TREE").replace(port.encode(), b"PORT")
            return Answer(
                answer.status, answer.headers, re.sub(rb'("modified"|"created"): [\d.]+', rb"\1: TIME", plain)
            )

        unpatched, unprotected = start(patched=False), start()
        protected = start("--api-key", key)
        routes = read_routes(routes_file)
        wanted = [(method, target) for target in targets(routes) for method in METHODS]
        wanted += [("GET", target) for target in odd_targets(routes)]
        for method, target in wanted:
            without_key = send(protected, method, target)
            with_key = send(protected, method, target, bearer(key))
            answers = send(unpatched, method, target), send(unprotected, method, target), without_key, with_key
            # Only the patched server knows the package's own routes and their twins.
            ours = Route.parse(with_key.headers["X-Route"])
            route = ours if ours.plain in OURS else Route.parse(answers[0].headers["X-Route"])
            found.append(Visit(method, target, route, *answers))
    return found


def differences(one: Answer, other: Answer, route: Route) -> list[str]:
    """Describes the differences, for the message of a failed test."""
    found = []
    if one.status != other.status:
        found.append(f"{one.status} != {other.status}")
    if route.plain not in VOLATILE:
        if headers_of(one) != headers_of(other):
            found.append(f"{headers_of(one)} != {headers_of(other)}")
        if one.body != other.body:
            found.append(f"{one.body[:200]!r} != {other.body[:200]!r}")
    return found


def test_finds_routes_of_every_kind(visits: list[Visit]) -> None:
    """If it didn't, the tests below would prove nothing."""
    assert len(visits) > 2000
    reached = {visit.route for visit in visits}
    assert len(reached) > 100
    for route in (
        "PlainResource /prompt", "PlainResource /api/prompt", "DynamicResource /userdata/{file}",
        "DynamicResource /api/userdata/{file}", "PlainResource /internal/logs", "StaticResource /my_outputs/",
        "StaticResource /extensions/witness/", "StaticResource /", "None -", "PlainResource /auth_session",
    ):  # fmt: skip
        assert Route.parse(route) in reached, route
    assert sum(visit.unpatched.status == 200 for visit in visits) > 200


def test_without_the_key_every_route_is_refused_alike(visits: list[Visit]) -> None:
    closed = [visit for visit in visits if not visit.exempt and not leads_to_root(visit) and not is_illegible(visit)]
    assert len(closed) > 1500
    wrong = [visit.name for visit in closed if not is_refusal(visit.without_key, visit.method)]
    assert wrong == []
    bodies = {visit.without_key.body for visit in closed if visit.method != "HEAD" and not queues(visit)}
    assert len(bodies) == 1
    assert len({visit.without_key.body for visit in closed if queues(visit)}) == 1


def queues(visit: Visit) -> bool:
    return visit.method == "POST" and visit.route.plain in ("/prompt", "/api/prompt")


def is_illegible(visit: Visit) -> bool:
    return "%00" in visit.target.partition("?")[0]


def test_control_characters_are_refused_with_the_key_too(visits: list[Visit]) -> None:
    illegible = [visit for visit in visits if is_illegible(visit)]
    assert len(illegible) > 100
    assert {answer.status for visit in illegible for answer in (visit.without_key, visit.with_key)} == {400}


def leads_to_root(visit: Visit) -> bool:
    return visit.route.plain == "/" and visit.route.kind == "PlainResource" and visit.method in ("GET", "HEAD")


def test_the_root_leads_to_the_login_page(visits: list[Visit]) -> None:
    at_root = [visit for visit in visits if leads_to_root(visit)]
    assert {"GET /", "HEAD /", "GET /api/", "HEAD /api/"} <= {visit.name for visit in at_root}
    for visit in at_root:
        assert visit.without_key.status == 302, visit.name
        assert urlsplit(visit.without_key.headers["Location"]).path.endswith("auth_login.html")


def test_exempt_routes_answer_as_before_the_patch(visits: list[Visit]) -> None:
    """Refusals are fine for targets that were errors before, and for dot segments, which others read differently."""
    open_to_all = [visit for visit in visits if visit.exempt and not visit.is_ours and not is_illegible(visit)]
    assert len(open_to_all) > 100
    wrong = [
        (visit.name, found)
        for visit in open_to_all
        if (found := differences(visit.without_key, visit.unpatched, visit.route))
        and not (
            is_refusal(visit.without_key, visit.method) and (visit.unpatched.status >= 400 or "/." in visit.target)
        )
    ]
    assert wrong == []


def test_with_the_key_everything_answers_as_before_the_patch(visits: list[Visit]) -> None:
    """Except that shared caches must not keep it, and that browsers must not run what clients can write."""
    wrong = [
        (visit.name, found)
        for visit in visits
        if not visit.is_ours
        and not is_illegible(visit)
        and (found := differences(plain(visit.with_key, visit.route), plain(visit.unpatched, visit.route), visit.route))
    ]
    assert wrong == []


def for_any_cache(answer: Answer) -> Answer:
    """The answer without the directive that says whose cache may keep it."""
    headers = copy.copy(answer.headers)
    directives = headers.get("Cache-Control", "").split(", ")
    headers.popall("Cache-Control", None)
    if kept := [directive for directive in directives if directive not in ("", "private", "public")]:
        headers["Cache-Control"] = ", ".join(kept)
    return Answer(answer.status, headers, answer.body)


def plain(answer: Answer, route: Route) -> Answer:
    """The same, also without the headers that tell browsers what to do with files of clients."""
    answer = for_any_cache(answer)
    if route.plain.startswith(("/view", "/userdata", "/v2/userdata")):
        for name in ("Content-Security-Policy", "X-Content-Type-Options", "Content-Disposition"):
            answer.headers.popall(name, None)
    return answer


def test_without_a_key_flag_everything_answers_as_before_the_patch(visits: list[Visit]) -> None:
    """Except `/health`, which is always there."""
    health = [visit for visit in visits if visit.route.plain == "/health" and visit.method in ("GET", "HEAD")]
    assert {visit.unprotected.status for visit in health} == {200}
    wrong = [
        (visit.name, found)
        for visit in visits
        if visit.route.plain != "/health" and (found := differences(visit.unprotected, visit.unpatched, visit.route))
    ]
    assert wrong == []


# --- custom nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/extensions/witness/x.js", 200),
        ("/extensions/frame/frame.js", 200),
        ("/extensions/witness/secret.js", 401),  # a route, even if its name looks like a file
        ("/api/extensions/witness/secret.js", 401),
        ("/extensions", 401),
        ("/my_outputs/x.png", 401),
        ("/my_outputs/x.json", 401),
        ("/my_outputs/../my_outputs/x.png", 401),
        ("/witness/x.js", 401),
        ("/frame/colors", 401),
    ],
)
def test_what_custom_nodes_bring(protected: Server, key: str, target: str, status: int) -> None:
    assert ask(protected, target).status == status
    assert ask(protected, target, bearer(key)).status == (200 if ".." not in target else 404)


#: The important part of ComfyUI-Manager: it recognises a route by the handler object that its middleware gets.
MANAGER = """\
from aiohttp import web

banned_handlers = set()

def prestartup(): pass

def start():
    from server import PromptServer

    @PromptServer.instance.routes.get("/manager/banned")
    async def banned(request):
        return web.Response(text="not banned")

    banned_handlers.add(banned)

def create_middleware():
    @web.middleware
    async def manager_middleware(request, handler):
        if handler in banned_handlers:
            return web.Response(text="banned", status=403)
        return await handler(request)

    return manager_middleware
"""


@pytest.mark.parametrize("protected", [False, True])
def test_the_managers_policy_sees_its_handlers(copy_miniature: Any, key: str, protected: bool) -> None:
    tree: Path = copy_miniature()
    (tree / "comfyui_manager.py").write_text(MANAGER)
    flags = ["--enable-manager", *(["--api-key", key] if protected else [])]
    with start_server(tree, *flags) as server:
        for target in ("/manager/banned", "/api/manager/banned"):
            answer = ask(server, target, bearer(key))
            assert (answer.status, answer.text) == (403, "banned")
            assert is_refusal(ask(server, target)) == protected


def test_a_refused_request_does_nothing(protected: Server, key: str) -> None:
    graph = json.dumps({"prompt": picture_graph(), "prompt_id": "refused"}).encode()
    for method, target, body in (
        ("POST", "/userdata/refused.json", b"{}"),
        ("POST", "/api/userdata/refused.json", b"{}"),
        ("POST", "/settings/refused", b"1"),
        ("POST", "/prompt", graph),
        ("POST", "/api/prompt", graph),
    ):
        assert is_refusal(ask(protected, target, JSON, method=method, body=body)), target
    assert ask(protected, "/userdata/refused.json", bearer(key)).status == 404
    assert ask(protected, "/settings/refused", bearer(key)).json is None
    assert ask(protected, "/history/refused", bearer(key)).json == {}
    assert ask(protected, "/api/jobs/refused", bearer(key)).status == 404


def picture_graph() -> dict[str, Any]:
    """EmptyImage -> SaveImage."""
    empty = {"width": 16, "height": 16, "batch_size": 1, "color": 0}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "e2e"}},
    }


async def test_runs_a_graph_with_the_key_and_shows_the_picture(protected: Server, key: str) -> None:
    async with (
        aiohttp.ClientSession(protected.url, headers=bearer(key)) as session,
        session.ws_connect("/ws", params={"clientId": "painter"}) as ws,
    ):
        body = {"prompt": picture_graph(), "client_id": "painter"}
        async with session.post("/prompt", json=body) as response:
            assert response.status == 200
        picture = None
        while picture is None:
            message = await ws.receive_json(timeout=20)
            if message["type"] == "executed":
                (picture,) = message["data"]["output"]["images"]
        for prefix in ("", "/api"):
            async with session.get(f"{prefix}/view", params=picture) as response:
                assert (await response.read()).startswith(b"\x89PNG")
    target = f"/view?filename={picture['filename']}&type=output"
    assert is_refusal(ask(protected, target))
    assert ask(protected, f"{target}&token={key}").status == 200


# --- credentials and refusals -----------------------------------------------------------------------------------


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"Authorization": "Bearer KEY"}, 200),
        ("", {"Authorization": "bearer KEY"}, 200),
        ("", basic("anybody", "KEY"), 200),
        ("", {"X-API-Key": "KEY"}, 200),
        ("", {"x-api-key": "KEY"}, 200),
        ("?api_key=KEY", {}, 200),
        ("?token=KEY", {}, 200),
        ("?api_key=WRONG", {"Authorization": "Bearer KEY"}, 200),
        ("?api_key=KEY", {"Authorization": "Bearer WRONG"}, 200),
        ("?api_key=WRONG&api_key=KEY", {"X-API-Key": "WRONG"}, 200),
        ("", {"Authorization": "Bearer WRONG"}, 401),
        ("", basic("KEY", "WRONG"), 401),
        ("", {"Authorization": "KEY"}, 401),
        ("", {"X-API-Key": ""}, 401),
        ("?api_key=", {}, 401),
        ("?API_KEY=KEY", {}, 401),
    ],
)
def test_where_a_key_may_stand(protected: Server, key: str, query: str, headers: dict[str, str], status: int) -> None:
    def real(text: str) -> str:
        if text.startswith("Basic "):
            user, _, password = base64.b64decode(text[6:]).decode().partition(":")
            return basic(real(user), real(password))["Authorization"]
        return text.replace("KEY", key).replace("WRONG", WRONG_KEY) if "API_KEY" not in text else text

    answer = ask(protected, "/queue" + real(query), {name: real(value) for name, value in headers.items()})
    assert answer.status == status
    if status == 401:
        presented = "WRONG" in query or any("WRONG" in value or value.startswith("Basic") for value in headers.values())
        assert answer.headers["WWW-Authenticate"] == CHALLENGE + (', error="invalid_token"' if presented else "")
        assert set(answer.json) >= {"error", "message"}
        assert key not in answer.text
        assert WRONG_KEY not in answer.text


@pytest.mark.parametrize(
    ("target", "next_page"),
    [
        ("/", "/"),
        ("/?workflow=a%20b", "/?workflow=a%20b"),
        ("/queue", "/queue"),
        ("/api/history/abc?x=1", "/api/history/abc?x=1"),
        ("/no/such/page", "/no/such/page"),
        ("/view?filename=x.png&api_key=WRONG&type=output", "/view?filename=x.png&type=output"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_browsers_are_led_to_the_login_page(protected: Server, method: str, target: str, next_page: str) -> None:
    answer = ask(protected, target.replace("WRONG", WRONG_KEY), BROWSER, method=method)
    assert answer.status == 302
    location = answer.headers["Location"]
    assert not location.startswith(("/", "http"))  # a proxy may serve ComfyUI below another path
    for mounted in ("https://example.org", "https://example.org/comfy"):
        login = urlsplit(urljoin(mounted + target, location))
        assert login.geturl().startswith(f"{mounted}/auth_login.html?")
        assert parse_qs(login.query) == {"next": [next_page]}
    assert ask(protected, f"/{location.lstrip('./')}", BROWSER).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_only_page_loads_are_led_to_the_login_page(protected: Server, method: str) -> None:
    assert is_refusal(ask(protected, "/queue", BROWSER, method=method))


def test_fetch_and_images_of_a_browser_get_401(protected: Server) -> None:
    for accept in ("*/*", "application/json", "image/avif,image/webp,*/*;q=0.8"):
        assert is_refusal(ask(protected, "/api/queue", {"Accept": accept}))


# --- CORS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_cors(copy_miniature: Any, key: str) -> Iterator[Server]:
    with start_server(copy_miniature(), "--api-key", key, "--enable-cors-header", APP) as server:
        yield server


APP = "https://app.example"


def allowed(answer: Answer) -> set[str]:
    return {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}


@pytest.mark.parametrize("credentials", [{}, {"X-API-Key": WRONG_KEY}, {"X-API-Key": "KEY"}])
def test_every_answer_bears_cors_headers(with_cors: Server, key: str, credentials: dict[str, str]) -> None:
    sent = {name: value.replace("KEY", key) for name, value in credentials.items()}
    answer = ask(with_cors, "/queue", {"Origin": APP, **sent})
    assert answer.status == (200 if key in sent.values() else 401)
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize("target", ["/prompt", "/api/prompt", "/health", "/no/such/path"])
def test_preflights_pass_and_name_the_key_header(with_cors: Server, target: str) -> None:
    asked = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    answer = ask(with_cors, target, asked, method="OPTIONS")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert allowed(answer) == {"content-type", "authorization", "x-api-key"}


# --- the operator's flags ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_flags(copy_miniature: Any, key: str) -> Iterator[Server]:
    flags = ["--auth-exempt", "/frame/*", "--auth-exempt", r"^/my_outputs/.*\.png", "--auth-require-ws"]
    with start_server(copy_miniature(), "--api-key", key, *flags) as server:
        yield server


@pytest.fixture
def behind_proxies(copy_miniature: Any, key: str) -> Iterator[Server]:
    """A separate server, because tests lock loopback here, and all of loopback is one address."""
    with start_server(copy_miniature(), "--api-key", key, "--auth-trusted-proxy", "127.0.0.0/30") as server:
        yield server


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/frame/colors", 200),
        ("/api/frame/colors", 401),  # a pattern names one path, not its twin
        ("/my_outputs/x.png", 200),
        ("/my_outputs/x.json", 401),
        ("/my_outputs/x.json?x.png", 401),
        ("/queue", 401),
        ("/frame/../queue", 401),
    ],
)
def test_auth_exempt_opens_what_it_matches(with_flags: Server, target: str, status: int) -> None:
    assert ask(with_flags, target).status == status


def test_trusted_proxies_say_who_fails(behind_proxies: Server, key: str) -> None:
    def guess(number: int, client: str, source: str = "127.0.0.1") -> Answer:
        sent = {"X-API-Key": f"guess-{number}", "X-Forwarded-For": f"198.51.100.9, {client}"}
        return ask(behind_proxies, "/queue", sent, source=source)

    assert [guess(number, "203.0.113.7").status for number in range(10)] == [401] * 10
    locked = guess(11, "203.0.113.7")
    assert locked.status == 429
    assert 0 < int(locked.headers["Retry-After"]) <= 60
    assert locked.json["error"] == "too_many_requests"
    assert guess(11, "203.0.113.8").status == 401
    assert [guess(number, "203.0.113.7").status for number in range(12, 21)] == [429] * 9
    for client, status in (("203.0.113.7", 429), ("203.0.113.8", 200)):
        assert ask(behind_proxies, "/queue", {**bearer(key), "X-Forwarded-For": client}).status == status
    # 127.0.0.9 is not a trusted proxy, so what it says about clients is ignored.
    assert [guess(number, f"203.0.113.{number}", "127.0.0.9").status for number in range(11)] == [401] * 10 + [429]
    assert "comfy-auth-rs: refused 203.0.113.7: GET /queue: invalid_credential" in behind_proxies.output
    assert "comfy-auth-rs: refused 127.0.0.9: GET /queue: locked" in behind_proxies.output
    assert "guess-" not in behind_proxies.output


def test_without_a_trusted_proxy_nobody_speaks_for_others(copy_miniature: Any, key: str) -> None:
    with start_server(copy_miniature(), "--api-key", key) as server:
        for number in range(10):
            sent = {"X-API-Key": f"guess-{number}", "X-Forwarded-For": f"203.0.113.{number}"}
            assert ask(server, "/queue", sent, source="127.0.0.9").status == 401
        for source in ("127.0.0.9", "127.0.0.1"):  # all of loopback is one address
            assert ask(server, "/queue", {"X-API-Key": "guess"}, source=source).status == 429
        if own := network.address():
            assert ask(server, "/queue", {"X-API-Key": "guess"}, source=own).status == 401


# --- the WebSocket ----------------------------------------------------------------------------------------------


async def handshake(server: Server, target: str = "/ws", headers: dict[str, str] | None = None) -> int:
    """The status of the answer to a WebSocket handshake: 101 if it opens."""
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        try:
            async with session.ws_connect(target) as ws:
                assert (await ws.receive_json(timeout=10))["type"] == "status"
                return 101
        except aiohttp.WSServerHandshakeError as refused:
            return refused.status


@pytest.mark.parametrize("target", ["/ws", "/api/ws", "/ws?clientId=nobody-yet", "/ws?api_key=WRONG"])
async def test_the_websocket_is_exempt(protected: Server, target: str) -> None:
    assert await handshake(protected, target.replace("WRONG", WRONG_KEY)) == 101


async def test_nobody_without_a_key_takes_over_a_socket_opened_with_one(protected: Server, key: str) -> None:
    target = "/ws?clientId=mine"
    async with aiohttp.ClientSession(protected.url) as session:
        async with session.ws_connect(target, headers=bearer(key)) as ws:
            await ws.receive_json()
            assert await handshake(protected, target) == 401
            assert await handshake(protected, "/api" + target) == 401
            assert await handshake(protected, target, {"X-API-Key": WRONG_KEY}) == 401
            assert await handshake(protected, "/ws?clientId=another") == 101
            refused = await asyncio.to_thread(ask, protected, target, {"Upgrade": "websocket", "Connection": "Upgrade"})
            assert refused.json["cause"] == "client_id_taken"
            await ws.send_json({"type": "feature_flags", "data": {}})
            assert (await ws.receive_json(timeout=10))["type"] == "feature_flags"  # it is still open
            assert await handshake(protected, target, bearer(key)) == 101  # as if the page was loaded again
        deadline = time.monotonic() + 10
        while await handshake(protected, target) != 101:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def session_cookie(server: Server, key: str) -> str:
    answer = ask(server, "/auth_session", {**bearer(key), **JSON}, method="POST", body=b'{"remember": false}')
    assert answer.status == 204
    return answer.headers["Set-Cookie"].split(";")[0]


async def test_auth_require_ws_closes_the_websocket(with_flags: Server, key: str) -> None:
    cookie = {"Cookie": session_cookie(with_flags, key)}
    for target, headers, status in (
        ("/ws", {}, 401),
        ("/api/ws", {}, 401),
        ("/ws", bearer(WRONG_KEY), 401),
        ("/ws", cookie | {"Origin": "http://127.0.0.1"}, 403),  # another port is another origin
        ("/ws", cookie, 403),
        ("/ws", bearer(key), 101),
        ("/api/ws", {"X-API-Key": key}, 101),
        (f"/ws?api_key={key}", {}, 101),
        (f"/ws?token={key}&clientId=a", {}, 101),
        ("/ws", cookie | {"Origin": with_flags.url}, 101),
        ("/ws", cookie | {"Sec-Fetch-Site": "same-origin", "Origin": with_flags.url}, 101),
        ("/ws", bearer(key) | {"Origin": with_flags.url}, 101),
    ):
        assert await handshake(with_flags, target, headers) == status, (target, headers)


@pytest.mark.parametrize(
    ("origin", "socket"),
    [
        ("https://evil.example", 403),
        ("http://localhost:8188", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 101),  # counts as one without a cookie: a proxy may drop the port of the host
    ],
)
async def test_a_foreign_page_cannot_use_the_cookie(with_cors: Server, key: str, origin: str, socket: int) -> None:
    """With `--enable-cors-header`, ComfyUI itself no longer compares origins."""
    cookie = {"Cookie": session_cookie(with_cors, key), "Origin": origin}
    for headers in (cookie, {"Origin": origin}, {"Origin": origin, **bearer(WRONG_KEY)}):
        assert await handshake(with_cors, "/ws", headers) == socket
        assert await handshake(with_cors, "/api/ws", headers) == socket
    assert await handshake(with_cors, "/ws", {"Origin": origin, **bearer(key)}) == 101
    answer = await asyncio.to_thread(ask, with_cors, "/interrupt", cookie, method="POST")
    assert (answer.status, answer.json["cause"]) == (403, "cross_origin")


# --- assets, index, health --------------------------------------------------------------------------------------


def test_files_in_the_root_of_comfyui_replace_our_pages(copy_miniature: Any, key: str) -> None:
    tree: Path = copy_miniature()
    for name in ("auth_login.html", "auth_inject.js"):
        (tree / name).write_text(f"our own {name}")
    with start_server(tree, "--api-key", key) as server:
        for prefix in ("", "/api"):
            for name in ("auth_login.html", "auth_inject.js", "auth_login.html?logout=true"):
                assert ask(server, f"{prefix}/{name}").text == f"our own {name.partition('?')[0]}"
            assert "comfyui_api_key" in ask(server, f"{prefix}/auth_login.js").text


def test_the_frontend_loads_our_script_first(protected: Server, key: str) -> None:
    for target in ("/", "/api/", "/index.html"):
        page = ask(protected, target, bearer(key))
        assert page.status == 200
        head = page.text[page.text.index("<head>") :]
        assert head.startswith('<head><script src="auth_inject.js"></script>')
        assert ask(protected, target, {**bearer(key), "If-None-Match": page.headers["ETag"]}).status == 304


def test_health_asks_for_no_key_but_refuses_a_wrong_one(protected: Server, key: str) -> None:
    for target in ("/health", "/api/health"):
        assert ask(protected, target).status == 200
        assert ask(protected, target, bearer(key)).status == 200
        assert ask(protected, target, bearer(WRONG_KEY)).status == 401
        assert ask(protected, f"{target}?api_key={WRONG_KEY}").status == 401


def test_without_a_key_flag_a_custom_nodes_own_health_stays(copy_miniature: Any, key: str) -> None:
    tree: Path = copy_miniature()
    (tree / "custom_nodes" / "monitor.py").write_text(
        "from aiohttp import web\n"
        "from server import PromptServer\n"
        "@PromptServer.instance.routes.get('/health')\n"
        "async def health(request):\n"
        "    return web.json_response('as ever')\n"
        "NODE_CLASS_MAPPINGS = {}\n"
    )
    for flags, expected in (((), "as ever"), (("--api-key", key), "ok")):
        with start_server(tree, *flags) as server:
            for target in ("/health", "/api/health"):
                found = ask(server, target).json
                assert (found if isinstance(found, str) else found["status"]) == expected


# --- secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", [("--api-key", "{}"), ("--api-key={}",)])
def test_the_key_is_nowhere_to_be_seen(copy_miniature: Any, spelling: tuple[str, ...]) -> None:
    canary, other = "canary-1-abcdefghijklmnopqrstuvwxyz", "canary-2-abcdefghijklmnopqrstuvwxyz"
    flags = [flag.format(secret) for secret in (canary, other) for flag in spelling]
    with start_server(copy_miniature(), *flags, "--verbose", "DEBUG") as server:
        for secret in (canary, other):
            for target in (
                f"/queue?api_key={secret}",
                f"/no/such/path?token={secret}",
                "/witness/x",
                f"/?api_key={secret}",
            ):
                assert ask(server, target, {**BROWSER, "X-API-Key": secret}).status in (200, 404)
            argv = ask(server, "/system_stats", bearer(secret)).json["system"]["argv"]
            assert sum("[redacted]" in argument for argument in argv) == 2
            for target in ("/system_stats", "/internal/logs", "/internal/logs/raw", "/object_info", "/settings"):
                assert "canary" not in ask(server, target, bearer(secret)).text
        ask(server, "/queue?api_key=canary-3", {"Cookie": "comfyui_session=canary-4"})
        ask(server, "/prompt?x=canary-5")
        for line in ("GET /queue: invalid_credential", "GET /prompt: missing_credential"):  # the second only with DEBUG
            assert f"comfy-auth-rs: refused 127.0.0.1: {line}" in server.output
        assert "canary" not in server.output


def test_without_a_key_nothing_is_verified(unprotected: Server, key: str) -> None:
    """A proxy that asks a ComfyUI without protection must let nobody through."""
    assert ask(unprotected, "/auth_verify", bearer(key)).status == 404


# --- names of hosts ---------------------------------------------------------------------------------------------

LISTENER = """
import sys

def hear(event, about):
    if event == "socket.getaddrinfo":
        print("the resolver was asked for", about[0], flush=True)

sys.addaudithook(hear)
NODE_CLASS_MAPPINGS = {}
"""


def test_nobody_has_the_event_loop_wait_for_a_name(copy_miniature: Any, key: str) -> None:
    tree: Path = copy_miniature()
    (tree / "custom_nodes" / "listener.py").write_text(LISTENER)
    preflight = {"Access-Control-Request-Method": "POST"}
    with start_server(tree, "--api-key", key) as server:
        for method, target, more in (
            ("GET", "/templates/index.json", {}),
            ("GET", "/ws", {}),
            ("GET", "/queue", bearer(key)),
            ("OPTIONS", "/queue", preflight),
        ):
            named = {"Host": "name.invalid", "Origin": "http://name.invalid", **more}
            assert ask(server, target, named, method=method).status in (200, 400)
        for host, origin, expected in (
            ("localhost", "http://other.example", 403),
            ("127.0.0.1", "http://other.example", 403),
            ("localhost", "http://localhost", 200),
        ):
            assert ask(server, "/queue", {"Host": host, "Origin": origin, **bearer(key)}).status == expected
        assert "name.invalid" not in server.output
