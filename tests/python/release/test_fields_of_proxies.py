"""What nginx tells about a request: the guide's example, another port, and each field that names a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import network, proxies
from support.client import BEARER, BROWSER, FORM, UPGRADE, Answer, ask, bearer, connect
from support.keys import KEY, OTHER_KEY
from support.proxies import Proxy, make_certificate, nginx
from support.servers import Server, free_port, start_server

pytestmark = pytest.mark.skipif(proxies.NGINX is None, reason="nginx is not installed")

#: Copied from the guide. nginx sets `X-Real-IP`, and passes other fields on as the client sent them.
GUIDE = """
server {
    listen 443 ssl;
    server_name your-domain.com;

    ssl_certificate /path/to/cert.pem;
    ssl_certificate_key /path/to/key.pem;

    location / {
        proxy_pass http://127.0.0.1:8188;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
    }
}
"""

#: nginx on another port, which passes the host without it, like many examples on the web.
PORT = """
server {
    listen 127.0.0.1:8247;
    location / {
        proxy_pass http://127.0.0.1:8188;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
    }
}
"""

FIELD = """
server {
    listen 127.0.0.1:8247;
    location / {
        proxy_pass http://127.0.0.1:8188;
        proxy_set_header Host $http_host;
        proxy_set_header NAME VALUE;
    }
}
"""

#: nginx's value for each field that may name the client. Two of them keep the client's own value in front.
VALUES = {
    "X-Forwarded-For": "$proxy_add_x_forwarded_for",
    "Forwarded": '"$http_forwarded, for=$remote_addr"',
    "X-Real-IP": "$remote_addr",
    "CF-Connecting-IP": "$remote_addr",
}

BY_GUIDE = ("--auth-trusted-proxy", "127.0.0.1", "--auth-client-field", "X-Real-IP")
#: All of loopback is one address, so one of the two must be in another network.
ATTACKER, SOMEBODY = "127.0.5.1", network.address()

pytestmark = pytest.mark.skipif(SOMEBODY is None, reason="this machine has no address but loopback")
Behind = Callable[..., AbstractContextManager[tuple[Server, Proxy]]]


@pytest.fixture
def behind(copy_miniature: Any, tmp_path: Path) -> Behind:
    """Starts a ComfyUI with `flags`, and nginx with `site` in front of it. Ports and paths are replaced."""

    @contextmanager
    def start(site: str, *flags: str) -> Iterator[tuple[Server, Proxy]]:
        keys = ("--api-key", KEY, "--api-key", OTHER_KEY)
        proxy = Proxy("nginx", free_port(), tmp_path, "https" if "ssl" in site else "http")
        with start_server(copy_miniature(), *keys, *flags) as server:
            for old, new in {
                "listen 443 ssl": f"listen 127.0.0.1:{proxy.port} ssl",
                "127.0.0.1:8247": f"127.0.0.1:{proxy.port}",
                "127.0.0.1:8188": f"127.0.0.1:{server.port}",
                "/path/to/cert.pem": f"{tmp_path}/fullchain.pem",
                "/path/to/key.pem": f"{tmp_path}/privkey.pem",
            }.items():
                site = site.replace(old, new)
            make_certificate(tmp_path)
            with nginx(tmp_path, site):
                yield server, proxy

    return start


def claiming(number: int, key: str) -> dict[str, str]:
    """A guess from a client that claims another address each time, in every field."""
    claims = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP"), f"198.51.100.{number}")
    # An unclosed quotation mark must not swallow what the proxy adds.
    forwarded = ("for=198.51.100.7", 'for="198.51.100.7', 'for="\\', 'for=198.51.100.7;x="')[number % 4]
    return {**claims, "Forwarded": forwarded, **bearer(key)}


def guess_eleven_times(proxy: Proxy) -> list[int]:
    return [ask(proxy, "/queue", claiming(number, f"wrong-{number}"), source=ATTACKER).status for number in range(11)]


def notices(server: Server) -> list[str]:
    """The lines that tell the operator what to change."""
    words = ("is not a trusted proxy", "doesn't name the client in", "was refused, because its request was for")
    return [line for line in server.output.splitlines() if any(word in line for word in words)]


# ---------------------------------------------------------------------------------------------------------------------
# The client's address


def test_the_guides_example_with_the_flags_locks_who_guesses_and_nobody_else(behind: Behind) -> None:
    with behind(GUIDE, *BY_GUIDE) as (server, proxy):
        assert guess_eleven_times(proxy) == [401] * 10 + [429]
        assert ask(proxy, "/queue", claiming(12, "wrong"), source=ATTACKER).status == 429
        assert ask(proxy, "/queue", bearer("wrong"), source=SOMEBODY).status == 401
        assert ask(proxy, "/queue", BEARER, source=SOMEBODY).status == 200
        assert notices(server) == []


def test_the_guides_example_without_them_says_what_is_missing(behind: Behind) -> None:
    with behind(GUIDE) as (server, proxy):
        assert guess_eleven_times(proxy) == [401] * 10 + [429]
        answer = ask(proxy, "/queue", bearer("wrong"), source=SOMEBODY)
        assert answer.status == 429, "all of the proxy's clients count as one address"
        [line] = notices(server)
        assert "--auth-trusted-proxy 127.0.0.1" in line
        assert "--auth-client-field" in line


def test_a_field_that_nginx_does_not_set_is_said(behind: Behind) -> None:
    with behind(GUIDE, "--auth-trusted-proxy", "127.0.0.1") as (server, proxy):
        assert ask(proxy, "/queue", BEARER).status == 200
        assert ask(proxy, "/queue", BEARER).status == 200
        [line] = notices(server)
        assert "the trusted proxy 127.0.0.1 doesn't name the client in X-Forwarded-For" in line


@pytest.mark.parametrize("field", VALUES)
def test_a_client_cannot_change_its_address_whichever_field_nginx_sets(behind: Behind, field: str) -> None:
    site = FIELD.replace("NAME", field).replace("VALUE", VALUES[field])
    with behind(site, "--auth-trusted-proxy", "127.0.0.1", "--auth-client-field", field) as (server, proxy):
        assert guess_eleven_times(proxy) == [401] * 10 + [429]
        assert f"refused {ATTACKER}: GET /queue: locked" in server.output
        assert ask(proxy, "/queue", claiming(12, "wrong"), source=ATTACKER).status == 429
        assert ask(proxy, "/queue", claiming(12, "wrong"), source=SOMEBODY).status == 401
        assert ask(proxy, "/queue", claiming(12, KEY), source=SOMEBODY).status == 200
        assert "198.51.100" not in server.output
        assert notices(server) == []


# ---------------------------------------------------------------------------------------------------------------------
# The page


def log_in(proxy: Proxy, headers: dict[str, str]) -> tuple[Answer, dict[str, str]]:
    """Logs in with the login page's form, like a browser without JavaScript."""
    answer = ask(proxy, "/auth_session", {**FORM, **headers}, method="POST", body=f"api_key={KEY}&next=/".encode())
    return answer, {**headers, "Cookie": answer.headers.get("Set-Cookie", "").split(";")[0]}


def test_the_guides_example_serves_the_page(behind: Behind) -> None:
    """For port 443, browsers send no port. The test does the same, although this nginx listens on another one."""
    here = {"Host": "your-domain.com"}
    from_page = {**here, "Origin": "https://your-domain.com"}
    with behind(GUIDE, *BY_GUIDE) as (server, proxy):
        answer = ask(proxy, "/", {**here, **BROWSER})
        assert (answer.status, answer.location) == (302, "auth_login.html?next=%2F")
        assert ask(proxy, "/auth_login.html", {**here, **BROWSER}).status == 200
        answer, cookie = log_in(proxy, from_page)
        assert answer.status == 303
        assert answer.headers["Set-Cookie"].startswith("comfyui_session=")
        assert "; Secure" in answer.headers["Set-Cookie"]
        reads = {**here, "Cookie": cookie["Cookie"]}
        assert b"auth_inject.js" in ask(proxy, "/", {**reads, **BROWSER}).body
        assert ask(proxy, "/queue", reads).status == 200
        assert ask(proxy, "/view?filename=none.png&type=output", reads).status == 404, (
            "there is no such picture, but it isn't refused"
        )
        assert ask(proxy, "/interrupt", cookie, method="POST", body=b"").status == 200
        foreign = {**cookie, "Origin": "https://evil.example"}
        assert ask(proxy, "/interrupt", foreign, method="POST", body=b"").status == 403
        # It doesn't pass upgrades on, as the documents say.
        assert ask(proxy, "/ws", {**cookie, **UPGRADE}).status == 400
        assert len(notices(server)) == 1  # about the foreign page


def test_a_proxy_that_passes_the_host_without_its_port(behind: Behind) -> None:
    with behind(PORT) as (server, proxy):
        login = ask(proxy, "/auth_session", {**BEARER, "Sec-Fetch-Site": "same-origin"}, method="POST", body=b"")
        assert login.status == 204
        cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
        assert ask(proxy, "/queue", cookie).status == 200
        # The log line names the first page that is refused.
        assert ask(proxy, "/interrupt", {**cookie, "Origin": proxy.url}, method="POST", body=b"").status == 403
        ours = {"Origin": proxy.url, **UPGRADE}
        foreign = {"Origin": "https://evil.example", **UPGRADE}
        for who in (cookie, {}):
            assert opens(proxy, {**who, **ours}) == 101
            assert opens(proxy, {**who, "Sec-Fetch-Site": "same-origin", **ours}) == 101
            assert opens(proxy, {**who, **foreign}) == 403
        [line] = notices(server)
        assert f"a page from {proxy.url} was refused, because its request was for 127.0.0.1." in line
        assert f"--auth-origin {proxy.url}" in line


@pytest.mark.parametrize("remedy", ["--auth-origin", "Host", "X-Forwarded-Host"])
def test_each_remedy_of_the_line_helps(behind: Behind, remedy: str) -> None:
    """`--auth-require-ws` shows whether a session counts."""
    with behind(PORT, "--auth-require-ws") as (_, proxy):
        cookie = log_in(proxy, {"Sec-Fetch-Site": "same-origin"})[1] | {"Origin": proxy.url, **UPGRADE}
        del cookie["Sec-Fetch-Site"]
        assert opens(proxy, cookie) == 403
        port = proxy.port
    site, flags = PORT, ("--auth-require-ws",)
    if remedy == "--auth-origin":
        site, flags = PORT.replace("8247", str(port)), (*flags, remedy, f"http://127.0.0.1:{port}")
    elif remedy == "Host":
        site = PORT.replace("$host;", "$http_host;")
    else:
        site = PORT.replace("Host $host;", "Host $host; proxy_set_header X-Forwarded-Host $http_host;")
        flags = (*flags, "--auth-trusted-proxy", "127.0.0.1")
    with behind(site, *flags) as (_, proxy):
        if remedy == "--auth-origin":
            proxy = Proxy("nginx", port, proxy.folder, "http")
        cookie = log_in(proxy, {"Sec-Fetch-Site": "same-origin"})[1] | {"Origin": proxy.url, **UPGRADE}
        del cookie["Sec-Fetch-Site"]
        assert opens(proxy, cookie) == 101


def opens(proxy: Proxy, headers: dict[str, str]) -> int:
    """The status of a WebSocket handshake. The socket is closed at once."""
    connection = connect(proxy)
    try:
        connection.putrequest("GET", "/ws", skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()
