"""`/auth_verify`: a proxy asks it whether somebody may use a neighbour of ComfyUI's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import apps
import pytest
from apps import BEARER, KEY, UPGRADE, basic, log_in
from client import BROWSER, CHALLENGE, Answer, ask, bearer
from comfy_auth_rs import create_auth_middleware, setup
from proxies import NGINX, Proxy, make_certificate, nginx, shipped
from servers import Server, free_port, start_server

WRONG = bearer("wrong-key-of-the-neighbours-tests")
LABELS = [
    "alice", "Alice's laptop", "100% sure", "Zoë", "工作站", "🔑", "a, b; c=\"d\"", "#1 <b>&amp;</b>", "a\u2028b\u202e",
    "%0d%0aSet-Cookie: x=y", "\u00a0edges\u00a0", "x" * 256,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Asked directly


@pytest.fixture
async def server(aiohttp_server: Any, tmp_path: Path) -> Any:
    """A key for each label, one without, and `KEY` of alice's."""
    lines = [f"key-of-{number} {label}" for number, label in enumerate(LABELS)]
    (tmp_path / "keys").write_text("\n".join([*lines, "key-without-label", f"{KEY} alice"]), encoding="utf-8")
    app = apps.secret_app()
    setup(app, api_key_file=tmp_path / "keys")
    return await aiohttp_server(app)


async def verify(server: Any, headers: Any = (), method: str = "GET", target: str = "/auth_verify") -> apps.Reply:
    return await apps.ask(server, target, headers, method=method)


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
    assert not {"Location", "X-Auth-Key-Label"} & set(reply.headers)
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
    """The header is there, so that a proxy which copies it replaces the one that a client sent."""
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
    """A neighbour may have a `token` of its own, and whoever can't read an answer may still send a header."""
    for name in ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri"):
        for number in range(12):
            assert (await verify(server, {name: f"/x?token=neighbours-own-{number}"})).status == 401
        reply = await verify(server, {name: f"/x?api_key={KEY}"})
        assert (reply.status, reply.json["cause"]) == (401, "missing_credential")


async def test_guesses_count_and_who_is_locked_gets_a_401(server: Any) -> None:
    """nginx would make a 500 of a 429."""
    assert (await verify(server, BEARER)).status == 204
    for number in range(10):
        assert (await verify(server, bearer(f"guess-{number}"))).status == 401
    for headers in (bearer("another guess"), bearer("key-of-1")):
        reply = await verify(server, headers)
        assert (reply.status, reply.json["cause"]) == (401, "locked")
        assert 0 < int(reply.headers["Retry-After"]) <= 60
        assert reply.headers["WWW-Authenticate"] == CHALLENGE
    assert (await verify(server, BEARER)).status == 204  # good from here before
    assert (await apps.ask(server, "/prompt", bearer("another guess"))).status == 429


async def test_a_middleware_without_setup_verifies_nothing(aiohttp_server: Any) -> None:
    server = await aiohttp_server(apps.secret_app(create_auth_middleware(api_key=KEY)))
    assert (await verify(server)).status == 401
    assert (await verify(server, BEARER)).status == 404


async def test_without_a_key_nothing_is_verified(unprotected: Server) -> None:
    """A proxy that asks a ComfyUI without protection lets nobody through."""
    assert (await apps.ask(unprotected, "/auth_verify", BEARER)).status == 404


# ---------------------------------------------------------------------------------------------------------------------
# Through nginx, as deploy/ has it


class Neighbour(BaseHTTPRequestHandler):
    """Answers with what reached it."""

    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        seen = {"method": self.command, "target": self.path, "headers": dict(self.headers.items()), "body": body}
        answer = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = handle_request

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def guarded(copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """nginx in front of ComfyUI and, below /neighbour/, of something else."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    make_certificate(folder)
    tree: Path = copy_miniature()
    keys = tree / "keys.txt"
    keys.write_text(f"{KEY} alice\n{apps.OTHER_KEY} Zoë's 100% laptop\nkey-without-label\n", encoding="utf-8")
    keys.chmod(0o600)
    with ExitStack() as running:
        neighbour = running.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Neighbour))
        Thread(target=neighbour.serve_forever, daemon=True).start()
        running.callback(neighbour.shutdown)
        flags = ["--api-key-file", str(keys), "--auth-require-ws", "--auth-trusted-proxy", "127.0.0.1"]
        comfyui = running.enter_context(start_server(tree, *flags))
        (folder / "neighbour.conf").write_text(
            shipped("nginx/neighbour.conf", {"127.0.0.1:9000": f"127.0.0.1:{neighbour.server_port}"})
        )
        proxy = Proxy(free_port())
        changes = {
            "# include /etc/nginx/comfyui-neighbour.conf;": f"include {folder}/neighbour.conf;",
            "127.0.0.1:8188": f"127.0.0.1:{comfyui.port}",
        }
        running.enter_context(nginx(folder, nginx_site(folder, proxy.port, changes)))
        yield proxy
        logs = "".join(file.read_text() for file in folder.glob("*.log"))
        assert "/neighbour/" in logs
        assert not any(key in logs for key in (KEY, apps.OTHER_KEY, "key-without-label"))


def nginx_site(folder: Path, port: int, changes: dict[str, str]) -> str:
    """deploy/nginx/comfyui.conf on a port of ours."""
    ours = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "listen [::]:443 ssl;": "",
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "listen [::]:80;": "",
        "/etc/ssl/comfyui/": f"{folder}/",
        "/var/log/nginx/": f"{folder}/",
    }
    return shipped("nginx/comfyui.conf", {**ours, **changes})


def through(proxy: Proxy, headers: Any = None, target: str = "/neighbour/x", **options: Any) -> Answer:
    return ask(proxy, target, headers, **options)


def cookie_of(proxy: Proxy) -> dict[str, str]:
    login = through(proxy, BEARER, "/auth_session", method="POST", body=b"")
    assert login.status == 204
    return {"Cookie": login.headers["Set-Cookie"].split(";")[0]}


def test_the_key_leads_to_the_neighbour_and_stays_behind(guarded: Proxy) -> None:
    for headers in (BEARER, basic(KEY), {"X-API-Key": KEY}, {**WRONG, "X-API-Key": KEY}):
        answer = through(guarded, {**headers, "X-Auth-Key-Label": "admin"})
        assert answer.status == 200
        seen = answer.json["headers"]
        assert seen["X-Auth-Key-Label"] == "alice"
        assert not {"Authorization", "X-API-Key", "X-Api-Key"} & set(seen)
        assert answer.json["target"] == "/x"


def test_labels_cannot_be_forged(guarded: Proxy) -> None:
    forged = {"X-Auth-Key-Label": "admin", "X-Original-Method": "GET"}
    seen = through(guarded, {**bearer(apps.OTHER_KEY), **forged}).json["headers"]
    assert seen["X-Auth-Key-Label"] == "Zo%C3%AB's 100%25 laptop"
    assert "X-Auth-Key-Label" not in through(guarded, {**bearer("key-without-label"), **forged}).json["headers"]


def test_nobody_else_gets_through(guarded: Proxy) -> None:
    for headers in ({}, WRONG, {"X-API-Key": ""}, {"X-Auth-Key-Label": "alice"}):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = through(guarded, headers, method=method)
            assert (answer.status, answer.headers["Location"]) == (401, None)
            assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)
    assert through(guarded, BEARER, "/auth_verify").status == 404  # the proxy's own question


def test_browsers_are_led_to_the_login_and_back(guarded: Proxy) -> None:
    answer = through(guarded, BROWSER, "/neighbour/a%20b?x=1")
    assert (answer.status, answer.headers["Location"]) == (302, "/auth_login.html?next=/neighbour/a%20b?x=1")
    assert through(guarded, target="/auth_login.html?next=/neighbour/").status == 200


def test_a_key_in_the_address(guarded: Proxy) -> None:
    assert through(guarded, target=f"/neighbour/x?a=1&api_key={KEY}&b=2").json["headers"]["X-Auth-Key-Label"] == "alice"
    for query in ("api_key=", "api_key=wrong", f"xapi_key={KEY}", f"token={KEY}", f"x=%26api_key={KEY}"):
        assert through(guarded, target=f"/neighbour/x?{query}").status == 401
    for number in range(12):
        assert through(guarded, target=f"/neighbour/x?token=neighbours-own-{number}", source="127.0.0.9").status == 401
    assert through(guarded, bearer("key-without-label"), source="127.0.0.9").status == 200


def test_a_session_leads_there_from_our_own_pages(guarded: Proxy) -> None:
    cookie = cookie_of(guarded)
    ours, foreign = {"Origin": guarded.url}, {"Origin": "https://evil.example"}
    for method, headers, status in [
        ("GET", {}, 200),
        ("HEAD", {}, 200),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("POST", ours, 200),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", {**ours, **UPGRADE}, 200),
        ("POST", {}, 401),
        ("POST", foreign, 401),
        ("POST", {"X-Original-Method": "GET", "X-Forwarded-Method": "GET"}, 401),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 401),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 401),
        ("GET", {**foreign, **UPGRADE}, 401),
        ("GET", UPGRADE, 401),
    ]:
        answer = through(guarded, {**cookie, **headers}, method=method)
        # At a loopback address ComfyUI itself answers 403 to a foreign Origin, to whatever it is asked.
        assert answer.status == (403 if "evil" in str(headers) else status), (method, headers)
        if status == 200 and method != "HEAD":
            assert answer.json["method"] == method
            assert answer.json["headers"]["X-Auth-Key-Label"] == "alice"


def test_bodies_go_to_the_neighbour(guarded: Proxy) -> None:
    body = b"x" * 200_000
    answer = through(guarded, BEARER, method="POST", body=body)
    assert (answer.status, answer.json["method"], answer.json["body"].encode()) == (200, "POST", body)


def test_who_guesses_is_locked_out_by_address(guarded: Proxy) -> None:
    attacker = "127.0.0.7"
    assert through(guarded, BEARER, source=attacker).status == 200
    for number in range(10):
        claimed = {"X-Forwarded-For": f"192.0.2.{number}"}
        assert through(guarded, {**bearer(f"guess-{number}"), **claimed}, source=attacker).status == 401
    for headers in (bearer("one more"), bearer("key-without-label")):
        answer = through(guarded, headers, source=attacker)
        assert answer.status == 401
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert through(guarded, BEARER, source=attacker).status == 200  # good from there before
    answer = through(guarded, bearer("key-without-label"), source="127.0.0.8")
    assert (answer.status, answer.headers["Retry-After"]) == (200, None)


def test_other_pages_of_comfyui_are_as_before(guarded: Proxy) -> None:
    assert through(guarded, target="/health").status == 200
    assert through(guarded, target="/queue").status == 401
    assert through(guarded, BEARER, "/queue").status == 200
