"""ComfyUI and another application (its neighbour) behind nginx, Caddy and Traefik, set up as under deploy/."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from multidict import CIMultiDict
from support import network, proxies
from support.client import BEARER, BROWSER, CHALLENGE, UPGRADE, Answer, ask, basic, bearer, connect
from support.keys import KEY, OTHER_KEY
from support.proxies import Proxy, Upstreams, deployed
from support.servers import Server, free_port, start_server

IN_PATH = "key-in-a-path-of-32-characters-or-more"  # proxies log paths
NO_LABEL = "canary-key-without-label-of-32-characters"
VIEWER = "canary-key-that-may-look-of-32-characters"
RUNNER = "canary-key-that-may-run-of-32-characters-too"
ELSEWHERE = "canary-key-for-another-address-of-32-characters"
WRONG = bearer("wrong-key-behind-the-proxies")
MEGABYTE = 1024 * 1024


class Neighbour(BaseHTTPRequestHandler):
    """Answers with the request that reached it. /socket is a WebSocket that sends one greeting and closes."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        if self.path == "/socket" and "Upgrade" in self.headers:
            return self.greet()
        fields = self.headers.items()
        seen = {"method": self.command, "target": self.path, "headers": dict(fields), "fields": fields}
        answer = json.dumps({**seen, "body": self.body().decode()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def body(self) -> bytes:
        """All of it: a proxy that still sends the rest of a body when it gets the answer may answer 502 itself."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def greet(self) -> None:
        """Does the handshake, sends one text message, and closes (RFC 6455)."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.write(b"\x81\x05hello\x88\x00")
        self.close_connection = True

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def neighbour() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Neighbour) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module", params=["nginx", "caddy", "traefik"])
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    if getattr(proxies, found.upper()) is None:
        pytest.skip(f"{found} is not installed")
    return found


@pytest.fixture(scope="module")
def comfyui(copy_miniature: Any, name: str) -> Iterator[Server]:
    """A separate server for each proxy, because clients have the same addresses."""
    tree: Path = copy_miniature()
    keys = tree / "keys.txt"
    lines = [f"{KEY} alice", f"{OTHER_KEY} Zoë's 100% laptop", NO_LABEL, IN_PATH, f"{VIEWER} wall display scope=view"]
    lines += [f"{RUNNER} bot scope=run,metrics user=Bob", f"{ELSEWHERE} from=192.0.2.0/24"]
    keys.write_text("\n".join(lines), encoding="utf-8")
    keys.chmod(0o600)
    flags = ["--api-key-file", str(keys), "--auth-require-ws", "--auth-trusted-proxy", "127.0.0.1"]
    if own := network.address():
        flags += ["--listen", f"127.0.0.1,{own}", "--auth-trusted-proxy", own]
    with start_server(tree, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(name: str, comfyui: Server, neighbour: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    # Traefik sends its questions with this address as the host, and ComfyUI refuses foreign pages at loopback
    # addresses.
    address = (network.address() if name == "traefik" else None) or "127.0.0.1"
    upstreams = Upstreams(f"{address}:{comfyui.port}", neighbour)
    with deployed(name, tmp_path_factory.mktemp(name), upstreams) as proxy:
        yield proxy
        assert len(proxy.logs.splitlines()) > 50
        assert "canary" not in proxy.logs, "the proxy logged a key"


def through(proxy: Proxy, headers: Any = None, target: str = "/neighbour/x", **options: Any) -> Answer:
    return ask(proxy, target, headers, **options)


def log_in(proxy: Proxy, key: str = KEY) -> dict[str, str]:
    login = through(proxy, bearer(key), "/auth_session", method="POST", body=b"")
    assert login.status == 204
    assert "; Secure" in login.headers["Set-Cookie"]
    return {"Cookie": login.headers["Set-Cookie"].split(";")[0]}


# ---------------------------------------------------------------------------------------------------------------------
# ComfyUI


def test_the_key_is_asked_for(proxy: Proxy) -> None:
    assert through(proxy, target="/health").status == 200
    for headers in ({}, WRONG):
        answer = through(proxy, headers, "/queue")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)
    for headers in (BEARER, basic(KEY), {"X-API-Key": KEY}):
        assert through(proxy, headers, "/queue").status == 200
    assert through(proxy, target=f"/queue?api_key={KEY}").status == 200
    answer = through(proxy, BROWSER, "/")
    assert (answer.status, answer.headers["Location"]) == (302, "auth_login.html?next=%2F")


def test_sessions_belong_to_the_name_that_the_browser_used(proxy: Proxy) -> None:
    cookie = log_in(proxy)
    assert str(proxy.port) in cookie["Cookie"]
    assert through(proxy, cookie, "/queue").status == 200
    headers = {**cookie, "Origin": proxy.url, "Content-Type": "application/json"}
    assert through(proxy, headers, "/interrupt", method="POST", body=b"{}").status == 200
    foreign = {**headers, "Origin": "https://evil.example"}
    assert through(proxy, foreign, "/interrupt", method="POST", body=b"{}").status == 403


async def test_websockets_go_through(proxy: Proxy) -> None:
    context = ssl._create_unverified_context()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{proxy.url}/ws", ssl=context)
        assert refused.value.status == 401
        for headers in (BEARER, {**log_in(proxy), "Origin": proxy.url}):
            async with session.ws_connect(f"{proxy.url}/ws?clientId=behind", headers=headers, ssl=context) as socket:
                greeting = await socket.receive_json(timeout=10)
                assert (greeting["type"], greeting["data"]["sid"]) == ("status", "behind")
    await asyncio.sleep(0.25)  # time to close TLS: see "Graceful Shutdown" in aiohttp's documentation


def upload(proxy: Proxy, headers: dict[str, str], content: bytes, name: str) -> int | None:
    """Uploads a file. Returns the status, or `None` if a refusal ended the connection before everything was sent."""
    head = f'--edge\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=edge", **headers}
    body = head.encode() + content + b"\r\n--edge--\r\n"
    try:
        return through(proxy, form, "/upload/image", method="POST", body=body).status
    except OSError:
        return None


def test_uploads_go_through(proxy: Proxy) -> None:
    """Far more than the megabyte that nginx allows by default."""
    content = bytes(range(256)) * (20 * MEGABYTE // 256)
    target = f"/view?type=input&filename={proxy.name}.bin"
    assert upload(proxy, {}, b"small", f"{proxy.name}.bin") == 401
    assert upload(proxy, {}, content, f"{proxy.name}.bin") in (401, None)
    assert through(proxy, BEARER, target).status == 404
    assert upload(proxy, BEARER, content, f"{proxy.name}.bin") == 200
    stored = through(proxy, BEARER, target)
    assert (stored.status, stored.body == content) == (200, True)


def test_uploads_have_their_limit(proxy: Proxy) -> None:
    assert upload(proxy, BEARER, b"x" * (101 * MEGABYTE), f"{proxy.name}-large.bin") in (413, None)
    assert through(proxy, BEARER, f"/view?type=input&filename={proxy.name}-large.bin").status == 404


def test_who_guesses_is_locked_out_alone(proxy: Proxy) -> None:
    """The proxy's view of the address counts, not what a client claims."""
    attacker = network.address()
    if attacker is None:
        pytest.skip("this machine has no address but loopback, all of which is one")
    assert through(proxy, BEARER, source=attacker).status == 200
    for number in range(10):
        claims = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP"), f"192.0.2.{number}")
        headers = {**bearer(f"guess-{number}"), **claims, "Forwarded": f"for=192.0.2.{number}"}
        target = ("/queue", "/neighbour/x")[number % 2]
        assert through(proxy, headers, target, source=attacker).status == 401
    for number in range(10):
        assert through(proxy, bearer(f"more-{number}"), "/queue", source=attacker).status == 429
    for headers in (bearer("one-more"), bearer(NO_LABEL)):
        assert through(proxy, headers, "/queue", source=attacker).status == 429
        answer = through(proxy, headers, source=attacker)
        assert answer.status == 401  # nginx accepts only this status as a refusal
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert through(proxy, BEARER, source=attacker).status == 200  # it was good from here before
    answer = through(proxy, bearer(NO_LABEL), source="127.0.3.1")
    assert (answer.status, answer.headers.get("Retry-After")) == (200, None)


def test_logs_hold_no_key(proxy: Proxy) -> None:
    """Even if the proxy has something to complain about. (The fixture `proxy` checks the logs at the end.)"""
    secret = "canary-0123456789-abcdefghijklmnopqrstuvwxyz"
    for headers in (bearer(secret), {"X-API-Key": secret}, {"Cookie": f"comfyui_session_{proxy.port}={secret}"}):
        for target in (f"/queue?api_key={secret}", f"/neighbour/x?token={secret}&x=1", f"/no/such?x=1&token={secret}"):
            referer = {"Referer": f"{proxy.url}/?api_key={secret}"}
            through(proxy, {**headers, **referer}, target, source="127.0.3.2")
    for target in (f"/key/{secret}/prompt", f"/key/{secret}", f"/x/key/{secret}?x=/key/{secret}/"):
        through(proxy, target=target, source="127.0.3.2")
    through(proxy, {"Host": f"x y?api_key={secret}"}, f"/%?api_key={secret}")


# ---------------------------------------------------------------------------------------------------------------------
# Its neighbour


WHO = ("X-Auth-Key-Label", "X-Auth-User", "X-Auth-Scope", "X-Auth-Subject")


def who(answer: Answer) -> list[str]:
    """What the neighbour was told, each field once. Some proxies drop empty fields."""
    assert answer.status == 200
    told = CIMultiDict(answer.json["fields"])
    values = [told.getall(name, [""]) for name in WHO]
    assert {len(value) for value in values} == {1}
    return [value for [value] in values]


def label(answer: Answer) -> str:
    return who(answer)[0]


def test_the_key_leads_to_the_neighbour_and_stays_behind(proxy: Proxy) -> None:
    for headers in (BEARER, basic(KEY), {"X-API-Key": KEY}, {**WRONG, "X-API-Key": KEY}):
        answer = through(proxy, {**headers, "X-Auth-Key-Label": "admin"})
        assert label(answer) == "alice"
        assert not {"authorization", "x-api-key"} & {name.lower() for name in answer.json["headers"]}
        assert answer.json["target"] == "/x"


#: Keys in every place and spelling of a query, and the queries that the neighbour may see instead.
QUERIES = {
    f"api_key={KEY}": {"", "&"},
    f"x=1&api_key={KEY}&y=%26%3D+2": {"x=1&y=%26%3D+2"},
    f"x=1&token={KEY}": {"x=1", "x=1&"},
    f"token={KEY}&x=1&x=2": {"x=1&x=2"},
    f"api_key={KEY}&x=1&token={KEY}": {"x=1", "x=1&"},
    f"api_key={KEY}&api_key={KEY}&api_key={KEY}&token={KEY}&token={KEY}&x=1": {"x=1", ""},
    f"x=1&api%5Fkey={KEY}": {"x=1", "x=1&", ""},
    f"x=1&%61p%69_key={KEY}&tok%65n={KEY}": {"x=1", "x=1&", ""},
    f"x={{http.request.header.Cookie}}&y=$http_cookie&z=${{1}}&api_key={KEY}": {
        "x={http.request.header.Cookie}&y=$http_cookie&z=${1}",
        "x={http.request.header.Cookie}&y=$http_cookie&z=${1}&",
    },
    f"x=1&&api_key={KEY}": {"x=1", "x=1&", "x=1&&"},
    "x=1&my_api_key=2&tokens=3": {"x=1&my_api_key=2&tokens=3"},
    "a=/b?c": {"a=/b?c"},
}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("by", ["a session", "a header"])
def test_no_key_reaches_the_neighbour(proxy: Proxy, query: str, by: str) -> None:
    """Neither the credential that admits nor others beside it."""
    own = "theme=dark; x=comfyui_session"
    headers = {**BEARER, "Cookie": own}
    if by == "a session":
        session = log_in(proxy)["Cookie"]
        headers = {
            "Cookie": f"theme=dark; {session}; comfyui_session_1={KEY}; comfyui_session={KEY}; x=comfyui_session"
        }
    headers |= {"X-API-Key": KEY, "Referer": f"{proxy.url}/neighbour/z?api_key={KEY}"}
    answer = through(proxy, headers, f"/neighbour/z?{query}")
    if proxy.name == "traefik" and KEY in query:  # Traefik can't change an address
        assert answer.status == 403
        assert KEY not in answer.text
        return
    assert answer.status == 200
    assert "canary" not in answer.text
    assert answer.json["target"].partition("?")[0] == "/z"
    assert answer.json["target"].partition("?")[2] in QUERIES[query]
    cookies = {pair.strip() for pair in answer.json["headers"].get("Cookie", "").split(";") if pair.strip()}
    # Nor can it remove a single cookie.
    assert cookies == (set() if proxy.name == "traefik" else {"theme=dark", "x=comfyui_session"})
    assert f"{proxy.url}/neighbour/z" == answer.json["headers"].get("Referer", f"{proxy.url}/neighbour/z")


@pytest.mark.parametrize(
    "cookies",
    [
        "comfyui_session=x",
        "comfyui_session_1=x",
        "a=1;comfyui_session=x;comfyui_session_2=x;b=2",
        "comfyui_session=x; a=1",
        "a=1; comfyui_session_9=x; comfyui_session_8=x; comfyui_session_7=x; comfyui_session_6=x",
    ],
)
def test_no_session_reaches_the_neighbour(proxy: Proxy, cookies: str) -> None:
    answer = through(proxy, {**BEARER, "Cookie": cookies})
    assert answer.status == 200
    assert "comfyui_session" not in answer.text


def test_a_path_is_no_query(proxy: Proxy) -> None:
    assert through(proxy, target=f"/neighbour/x&api_key={IN_PATH}").status == 401


#: As the design says: it is derived from the key, and the same everywhere.
KEY_ID = hmac.digest(hashlib.sha256(NO_LABEL.encode()).digest(), b"comfy-auth-rs key id v1", "sha256")[:16].hex()


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper])
def test_who_it_is_cannot_be_forged(proxy: Proxy, spelled: Callable[[str], str]) -> None:
    forged = {"X-Original-Method": "GET", **{spelled(name): "admin" for name in WHO}}
    assert label(through(proxy, {**bearer(OTHER_KEY), **forged})) == "Zo%C3%AB's 100%25 laptop"
    assert who(through(proxy, {**bearer(NO_LABEL), **forged})) == ["", "", "all", KEY_ID]
    for headers in (bearer(RUNNER), log_in(proxy, RUNNER)):
        answer = through(proxy, {**headers, **forged})
        assert who(answer) == ["bot", "Bob", "run metrics", "bob"]
        assert "admin" not in answer.text
    for headers in ({}, WRONG):
        assert through(proxy, {**headers, **forged}).status == 401


def test_nor_by_names_with_underscores(proxy: Proxy) -> None:
    """CGI and WSGI turn hyphens into underscores, so both names are the same there."""
    if proxy.name == "traefik":
        pytest.skip("it passes such names on, as docs/neighbours.md says")
    names = ("X_Auth_User", "x_auth-user", "X-Auth_Subject", "X_AUTH_SCOPE", "X-Auth-Key_Label")
    answer = through(proxy, {**bearer(RUNNER), **dict.fromkeys(names, "admin")})
    assert who(answer) == ["bot", "Bob", "run metrics", "bob"]
    assert "admin" not in answer.text


@pytest.mark.parametrize("query", [
    "", "scope=view", "scope=run&scope=view", "x=1&scope=", f"api_key={VIEWER}", f"api_key={VIEWER}&scope=view",
    f"scope=view&api_key={VIEWER}", f"api_key={VIEWER}%26scope=view", f"api_key={VIEWER}%26scope%3Dview&x=1",
    f"api_key={VIEWER};scope=view", f"api_key={VIEWER}%23&scope=view", "api_key=%26scope=view", "%73cope=view",
])  # fmt: skip
@pytest.mark.parametrize("accept", [{}, BROWSER], ids=["a program", "a browser"])
def test_a_key_without_the_scope_does_not_get_through(proxy: Proxy, query: str, accept: dict[str, str]) -> None:
    """Whatever scope the client names. It isn't led to the login page, because logging in again wouldn't help."""
    for headers in (bearer(VIEWER), log_in(proxy, VIEWER)):
        answer = through(proxy, {**headers, **accept}, f"/neighbour/x?{query}", source="127.0.3.4")
        assert (answer.status, answer.headers.get("Location")) == (403, None)
        assert "WWW-Authenticate" not in answer.headers or "insufficient_scope" in answer.headers["WWW-Authenticate"]
    answer = through(proxy, accept, f"/neighbour/x?{query}", source="127.0.3.4")
    assert answer.status in (302, 401, 403)
    if proxy.name != "traefik" and query.endswith(VIEWER):
        assert (answer.status, answer.headers.get("Location")) == (403, None)


def test_a_key_for_other_addresses_does_not_get_through(proxy: Proxy) -> None:
    for accept in ({}, BROWSER):
        forged = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
        answer = through(proxy, {**bearer(ELSEWHERE), **forged, **accept})
        assert (answer.status, answer.headers.get("Location")) == (403, None)


def test_a_scope_of_the_neighbours_own_is_let_through(proxy: Proxy) -> None:
    answer = through(proxy, bearer(RUNNER), "/neighbour/x?scope=view&y=1")
    assert (label(answer), answer.json["target"]) == ("bot", "/x?scope=view&y=1")


def test_nobody_else_gets_through(proxy: Proxy) -> None:
    for headers in ({}, WRONG, {"X-API-Key": ""}, {"X-Auth-Key-Label": "alice"}):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            answer = through(proxy, headers, method=method)
            assert (answer.status, answer.headers.get("Location")) == (401, None)
            assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)


NEXT = (
    "/neighbour/a%20b?x=1", "/neighbour/a&b?x=1&y=2&next=//evil.example", "/neighbour/a%26b%3Fc%23d?x=%26",
    "/neighbour/", "/neighbour/%25?%25=+", "/neighbour//evil.example/", "/neighbour/a+b?a+b",
    "/neighbour/%0d%0aSet-Cookie:%20a=b?%0d%0a",
)  # fmt: skip


def test_browsers_at_the_neighbour(proxy: Proxy) -> None:
    for target in NEXT:
        answer = through(proxy, BROWSER, target)
        if proxy.name == "nginx":
            assert answer.status == 302
            page, _, query = answer.headers["Location"].partition("?")
            assert (page, parse_qs(query, strict_parsing=True)) == ("/auth_login.html", {"next": [target]})
        else:
            assert (answer.status, answer.json["cause"]) == (401, "missing_credential")
    if proxy.name == "nginx":
        answer = through(proxy, BROWSER, "/neighbour/x?api_key=canary-wrong&y=1&token=canary")
        assert answer.headers["Location"] == "/auth_login.html?next=%2Fneighbour%2Fx%3Fy%3D1"
        answer = through(proxy, BROWSER, f"/neighbour/{'x' * 3000}")
        assert (answer.status, answer.headers["Location"]) == (302, "/auth_login.html?next=")
        claims = {"X-Original-URI": "/evil", "X-Auth-Next": "%2Fevil"}
        assert through(proxy, {**BROWSER, **claims}).headers["Location"] == "/auth_login.html?next=%2Fneighbour%2Fx"


def test_a_key_in_the_neighbours_address(proxy: Proxy) -> None:
    """`token` often belongs to the neighbour, so it must not count as a guess."""
    if proxy.name != "traefik":  # Traefik doesn't pass the query on
        assert label(through(proxy, target=f"/neighbour/x?a=1&api_key={KEY}&b=2")) == "alice"
    for query in ("api_key=", "api_key=wrong", f"xapi_key={KEY}", f"token={KEY}", f"x=%26api_key={KEY}"):
        assert through(proxy, target=f"/neighbour/x?{query}").status == 401
    for number in range(12):
        assert through(proxy, target=f"/neighbour/x?token=own-{number}", source="127.0.3.3").status == 401
    assert through(proxy, bearer(NO_LABEL), source="127.0.3.3").status == 200


@pytest.mark.parametrize(("method", "headers", "passes"), [
    ("GET", {}, True),
    ("HEAD", {}, True),
    ("GET", {"X-Forwarded-Host": "another.example:9"}, True),
    ("GET", {"Sec-Fetch-Site": "same-origin"}, True),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
    ("POST", {"Origin": "ours"}, True),
    ("POST", {"Sec-Fetch-Site": "same-origin"}, True),
    ("GET", {"Origin": "ours", **UPGRADE}, True),
    ("POST", {}, False),
    ("POST", {"Origin": "https://evil.example"}, False),
    ("POST", {"X-Original-Method": "GET", "X-Forwarded-Method": "GET", "X-Forwarded-Host": "evil.example"}, False),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
    ("GET", {"Origin": "https://evil.example", **UPGRADE}, False),
    ("GET", UPGRADE, False),
])  # fmt: skip
def test_a_session_leads_there_from_our_own_pages(
    proxy: Proxy, method: str, headers: dict[str, str], passes: bool
) -> None:
    if proxy.name == "traefik" and "Origin" in headers and network.address() is None:
        pytest.skip("this machine is in no network")
    sent = {**headers, **({"Origin": proxy.url} if headers.get("Origin") == "ours" else {})}
    answer = through(proxy, {**log_in(proxy), **sent}, method=method)
    if not passes:
        # At a loopback address, ComfyUI itself answers 403 to any request with a foreign Origin.
        assert answer.status in ((401, 403) if "evil" in str(headers) else (401,))
    elif method == "HEAD":
        assert answer.status == 200
    else:
        assert (label(answer), answer.json["method"]) == ("alice", method)


def test_bodies_go_to_the_neighbour(proxy: Proxy) -> None:
    body = b"x" * 200_000
    answer = through(proxy, BEARER, method="POST", body=body)
    assert (answer.status, answer.json["method"], answer.json["body"].encode()) == (200, "POST", body)


def test_bodies_without_a_length_go_to_the_neighbour_too(proxy: Proxy) -> None:
    """The proxy's question to ComfyUI has no body, so nobody must wait for one."""
    connection = connect(proxy)
    try:
        connection.request("POST", "/neighbour/x", iter([b"one", b"two"]), BEARER, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["body"] == "onetwo"
    finally:
        connection.close()


async def test_websockets_go_to_the_neighbour(proxy: Proxy) -> None:
    context = ssl._create_unverified_context()
    url = f"{proxy.url}/neighbour/socket"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, ssl=context)
        assert refused.value.status == 401
        async with session.ws_connect(url, headers=BEARER, ssl=context) as socket:
            assert await socket.receive_str(timeout=10) == "hello"
    await asyncio.sleep(0.25)  # time to close TLS


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_nobody_passes_while_comfyui_is_down(name: str, neighbour: str, tmp_path: Path) -> None:
    if getattr(proxies, name.upper()) is None:
        pytest.skip(f"{name} is not installed")
    with deployed(name, tmp_path, Upstreams(f"127.0.0.1:{free_port()}", neighbour)) as proxy:
        for target in (f"/neighbour/x?api_key={KEY}", f"/queue?api_key={KEY}"):
            answer = through(proxy, {**BEARER, "X-API-Key": KEY}, target)
            assert answer.status >= 500
        assert "canary" not in proxy.logs, "the proxy logged a key"
