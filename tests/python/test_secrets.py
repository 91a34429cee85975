"""A key appears in nothing that a process says: no log at any level, no crash, no exception, no repr."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import comfy_auth_rs
import pytest
from aiohttp import web
from client import BROWSER, ask, bearer
from comfy_auth_rs.access_log import without_credentials
from hypothesis import given
from hypothesis import strategies as st
from servers import Server, start_server

#: Hard to write by accident. Half of it would be a leak too.
CANARY = "canary-9c41"
KEY = f"{CANARY}-0123456789-abcdefghijklmnopqrstuvwxyz"
WRONG = f"{CANARY}-wrong-0123456789-abcdefghijklmnopqrs"

AIOHTTP = tuple(map(int, aiohttp.__version__.split(".")[:2]))

#: An application as talkative as one can be: asyncio's and aiohttp's debug modes, the access log with what browsers
#: say about where they come from, tracebacks with the values of all local variables, and a file besides.
TALKATIVE = """
import faulthandler, logging, os, signal, sys, traceback
from aiohttp import web
import comfy_auth_rs

class WithLocals(logging.Formatter):
    def formatException(self, exc_info):
        return "".join(traceback.TracebackException(*exc_info, capture_locals=True).format())

faulthandler.enable()
faulthandler.register(signal.SIGUSR1, all_threads=True)
logging.basicConfig(level=1, handlers=[logging.StreamHandler(), logging.FileHandler("log.txt")])
for handler in logging.getLogger().handlers:
    handler.setFormatter(WithLocals("%(asctime)s %(name)s %(message)s"))

async def fail(request):
    path, text, middleware = request.path, repr(request), repr(request.app[comfy_auth_rs.app.AUTH])
    print(path, text, middleware, repr(request.rel_url.path))
    raise RuntimeError("in a handler")

async def crash(request):
    os.abort()

app = web.Application()
app.router.add_route("*", "/fail", fail)
app.router.add_route("*", "/crash", crash)
comfy_auth_rs.setup(app, api_key_file="keys.txt", url_key=True)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), access_log_format='%a "%r" %s "%{Referer}i" "%{User-Agent}i"')
"""


def is_silent(said: str) -> bool:
    assert CANARY not in said, said[max(0, said.index(CANARY) - 600) :][:900]
    return True


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    (tmp_path / "app.py").write_text(TALKATIVE)
    (tmp_path / "keys.txt").write_text(f"{KEY} me\n")
    (tmp_path / "keys.txt").chmod(0o600)
    environment = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    with start_server(tmp_path, env=environment, command=["app.py"]) as server:
        yield server, tmp_path / "log.txt"


def send(server: Server, data: bytes) -> bytes:
    """One raw request, until the server closes the connection or says no more."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
    return received


def everywhere(key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Wherever a client may put a key."""
    for path in ("/fail", "/health", "/", "/no/such/path", "/auth_login.html", "/auth_session"):
        yield path, bearer(key)
        yield path, {"X-API-Key": key}
        yield path, {"Cookie": f"comfyui_session={key}; a={key}"}
        yield path, {"Referer": f"http://127.0.0.1/?api_key={key}", **bearer(key)}
        yield path, {"Referer": f"http://127.0.0.1/?a=b&token={key}&c=d", **BROWSER}
        yield path, {"Referer": f"http://127.0.0.1/key/{key}/", **bearer(key)}
        for prefix in (
            "/key/{}",
            "/key/{}/key/{}",
            "http://127.0.0.1/key/{}",
            "//key/{}",
            "/KEY/{}",
            "/%6bey/{}",
            "/key//{}",
        ):
            yield f"{prefix.replace('{}', key)}{path}", {}
            yield f"{prefix.replace('{}', key)}{path}", BROWSER
        for query in (
            "api_key={}",
            "token={}",
            "a=b&api_key={}&c=d",
            "%61pi_key={}",
            "api%5Fkey={}",
            "token={}&token={}",
        ):
            yield f"{path}?{query.replace('{}', key)}", {}
            yield f"{path}?{query.replace('{}', key)}", BROWSER


def malformed(key: str) -> Iterator[bytes]:
    """Requests that make aiohttp quote the line that it stumbled over."""
    good = b"Host: x\r\nConnection: close\r\n"
    key_bytes = key.encode()
    yield b"GET /fail HTTP/1.1\r\n" + good + b"Authorization: Bearer " + key_bytes + b"\x00\r\n\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"X-API-Key : " + key_bytes + b"\r\n\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"X-API-Key " + key_bytes + b"\r\n\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b" HTTP/9.9\r\n" + good + b"\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b" x HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail HTTP/9.9\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail x HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"\xff\xfe/fail HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail HTTP/1.1\r\n" + good + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield b"CONNECT /key/" + key_bytes + b":80 HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b"\x00 HTTP/1.1\r\n" + good + b"\r\n"
    yield b"G\x00T /fail?api_key=" + key_bytes + b" HTTP/1.1\r\n" + good + b"\r\n"
    if AIOHTTP >= (3, 10):  # 3.9 lets asyncio log that one, and its locals hold what was received
        yield b"GET http://[x/fail?api_key=" + key_bytes + b" HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"Authorization: Bearer " + key_bytes * 300 + b"\r\n\r\n"
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    chunked = b"POST /auth_session HTTP/1.1\r\n" + good + form + b"Transfer-Encoding: chunked\r\n\r\n"
    yield chunked + b"api_key=" + key_bytes + b"\r\n0\r\n\r\n"
    yield chunked + b"8\r\napi_key=" + key_bytes + b"\r\n0\r\n\r\n"
    yield b"POST /auth_session HTTP/1.1\r\n" + good + form + b"Content-Length: x\r\n\r\napi_key=" + key_bytes
    yield (
        b"POST /auth_session HTTP/1.1\r\n"
        + good
        + b"Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n"
        + key_bytes[:40]
    )


def test_an_application_that_logs_all_it_can(talkative: tuple[Server, Path]) -> None:
    server, log = talkative
    for key in (KEY, WRONG):
        for target, headers in everywhere(key):
            ask(server, target, headers)
        for request in malformed(key):
            send(server, request)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        ask(server, "/auth_session", form, method="POST", body=f"api_key={key}&next=/".encode())
        ask(server, f"/auth_session?api_key={key}", method="POST", body=b"{}")
        # A chunk that arrives by itself, behind a good beginning: the handler is already reading.
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            head = b"POST /auth_session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            connection.sendall(head + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n8\r\napi_key=\r\n")
            time.sleep(0.2)
            connection.sendall(b"zz" + key.encode() + b"\r\n0\r\n\r\n")
            time.sleep(0.2)
    os.kill(server.process.pid, signal.SIGUSR1)
    time.sleep(0.3)
    said = server.output + log.read_text()
    for expected in (
        "in a handler", "request = <Request GET /fail >", "[redacted]", 'Thread 0x', "aiohttp.access",
        "BadHttpMessage", "refused 127.0.0.1: GET /fail: invalid_credential",
    ):  # fmt: skip
        assert expected in said, expected  # else the test would see nothing
    assert is_silent(said)
    with pytest.raises(OSError):
        ask(server, "/crash", bearer(KEY))
        ask(server, "/crash", bearer(KEY))
    server.process.wait(10)
    assert "Fatal Python error: Aborted" in server.output
    assert is_silent(server.output + log.read_text())


def test_comfyui_at_its_most_talkative(copy_miniature: Any) -> None:
    """Nor in any file that it leaves behind."""
    tree: Path = copy_miniature()
    environment = {"PYTHONFAULTHANDLER": "1", "PYTHONASYNCIODEBUG": "1"}
    with start_server(tree, "--api-key", KEY, "--verbose", "DEBUG", env=environment) as server:
        for key in (KEY, WRONG):
            for target, headers in everywhere(key):
                ask(server, target, headers)
            for request in malformed(key):
                send(server, request)
        for target in ("/system_stats", "/internal/logs", "/internal/logs/raw", "/settings", "/history", "/queue"):
            answer = ask(server, target, bearer(KEY))
            assert answer.status == 200
            assert is_silent(answer.text)
        os.kill(server.process.pid, signal.SIGABRT)
        server.process.wait(10)
        assert "Fatal Python error: Aborted" in server.output
        assert is_silent(server.output)
    written = [file for file in tree.rglob("*") if file.is_file()]
    assert [file for file in written if CANARY.encode() in file.read_bytes()] == []


def test_ps_shows_what_was_typed_and_nothing_more(copy_miniature: Any, tmp_path: Path) -> None:
    def seen(server: Server) -> str:
        folder = Path("/proc") / str(server.process.pid)
        if not folder.exists():
            pytest.skip("there is no /proc")
        return (folder / "cmdline").read_text() + (folder / "comm").read_text() + (folder / "environ").read_text()

    (tmp_path / "keys.txt").write_text(KEY)
    with start_server(copy_miniature(), "--api-key-file", str(tmp_path / "keys.txt")) as server:
        assert is_silent(seen(server))
    with start_server(copy_miniature(), "--api-key", KEY) as server:
        assert seen(server).count(CANARY) == 1
    readme = Path(__file__).resolve().parents[2] / "README.md"
    assert "in the list of processes" in readme.read_text()


@pytest.mark.parametrize("key", [f"{KEY} ", f"{KEY}\n", f"{KEY}\xe9", f"{KEY}\x00", KEY * 40, f"sha256:{CANARY}"])
def test_no_exception_quotes_a_key(key: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"{KEY}\n{key} label {key}\n{KEY}\n")
    for sources in (
        {"api_key": [key]},
        {"api_key_file": [file]},
        {"api_key": [KEY], "api_key_file": [file]},
    ):
        with pytest.raises(comfy_auth_rs.KeyFileError) as fault:
            comfy_auth_rs.create_auth_middleware(**sources)
        assert is_silent(str(fault.value) + repr(fault.value))
    assert all(map(is_silent, comfy_auth_rs.KeyStore.faults(file)))
    with pytest.raises((ValueError, TypeError)) as fault:
        comfy_auth_rs.create_auth_middleware(comfy_auth_rs.KeyStore([KEY]), api_key=KEY)
    assert is_silent(str(fault.value))


def test_no_repr_shows_a_key() -> None:
    app = web.Application()
    middleware = comfy_auth_rs.setup(app, api_key=KEY)
    store = comfy_auth_rs.KeyStore([KEY])
    for thing in (middleware, store, app, dict(app), vars(comfy_auth_rs), store.warnings()):
        assert is_silent(repr(thing))


# --- the filter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"GET /?api_key=K HTTP/1.1" 200', '"GET /?api_key=[redacted] HTTP/1.1" 200'),
        ('"GET /?a=b&token=K&c=d HTTP/1.1"', '"GET /?a=b&token=[redacted]&c=d HTTP/1.1"'),
        ('"GET /?token=K&api_key=L HTTP/1.1"', '"GET /?token=[redacted]&api_key=[redacted] HTTP/1.1"'),
        ('"GET /?%61pi_key=K HTTP/1.1"', '"GET /?%61pi_key=[redacted] HTTP/1.1"'),
        ('"GET /?api_key= HTTP/1.1"', '"GET /?api_key=[redacted] HTTP/1.1"'),
        ('"GET /?api_key=a+b/c== HTTP/1.1"', '"GET /?api_key=[redacted] HTTP/1.1"'),
        (
            '"GET /x HTTP/1.1" 200 "http://h/?api_key=K" "curl"',
            '"GET /x HTTP/1.1" 200 "http://h/?api_key=[redacted]" "curl"',
        ),
        ('"GET /x HTTP/1.1" 200 "http://h/?api_key=K"', '"GET /x HTTP/1.1" 200 "http://h/?api_key=[redacted]"'),
        ("GET /?my_token=1&tokens=2&x=token", "GET /?my_token=1&tokens=2&x=token"),
        ("GET /token=1 100%", "GET /token=1 100%"),
        ("GET /?api_key=K", "GET /?api_key=[redacted]"),
        ('"GET /key/K/prompt?a=b HTTP/1.1" 401', '"GET /key/[redacted]?a=b HTTP/1.1" 401'),
        ('"GET /key/K HTTP/1.1" "http://h/key/K/"', '"GET /key/[redacted] HTTP/1.1" "http://h/key/[redacted]"'),
        ('"GET //%4bEY%2fK/x HTTP/1.1" 401', '"GET //%4bEY%2f[redacted] HTTP/1.1" 401'),
        ('"GET /keys/K/x/keyK?/monkey/K=1 HTTP/1.1"', '"GET /keys/K/x/keyK?/monkey/K=1 HTTP/1.1"'),
        ("GET /?a=1#&api_key=K", "GET /?a=1#&api_key=[redacted]"),
    ],
)
def test_the_filter_takes_out_values_and_nothing_else(line: str, expected: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s %s", (line, 1), None)
    record.first_request_line, record.request_header = line, {"Referer": line}
    assert without_credentials(record)
    assert record.getMessage() == f"{expected} 1"
    assert (record.first_request_line, record.request_header) == (expected, {"Referer": expected})


def test_the_filter_is_installed_once() -> None:
    for _ in range(3):
        comfy_auth_rs.setup(web.Application(), api_key=KEY)
    assert logging.getLogger("aiohttp.access").filters.count(without_credentials) == 1
    assert len(logging.getLogger("aiohttp.server").filters) == 1


@given(
    pairs=st.lists(st.sampled_from(["api_key=@", "token=@", "%61pi_key=@", "tok%65n=@", "x=1", "y", ""]), max_size=6),
    value=st.text("abcXYZ019-_.~%+/=!", min_size=1, max_size=20),
)
def test_no_query_shows_its_credentials_in_the_access_log(pairs, value):
    query = "&".join(pairs)
    line = f'127.0.0.1 "GET /x?{query.replace("@", "canary" + value)} HTTP/1.1" 200'
    record = logging.LogRecord("aiohttp.access", logging.INFO, "", 0, line, (), None)
    assert without_credentials(record)
    assert record.getMessage() == f'127.0.0.1 "GET /x?{query.replace("@", "[redacted]")} HTTP/1.1" 200'
