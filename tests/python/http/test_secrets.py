"""A key never appears in what a process prints: in no log at any level, in no crash."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.canary import everywhere, is_silent, malformed, send
from support.client import ask, bearer
from support.keys import KEY, WRONG_KEY
from support.servers import Server, start_server

#: The most talkative application we could make: asyncio's and aiohttp's debug modes, an access log with `Referer` and
#: `User-Agent`, tracebacks with the values of all local variables, and a log file.
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


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    (tmp_path / "app.py").write_text(TALKATIVE)
    (tmp_path / "keys.txt").write_text(f"{KEY} me\n")
    (tmp_path / "keys.txt").chmod(0o600)
    environment = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    with start_server(tmp_path, env=environment, command=["app.py"]) as server:
        yield server, tmp_path / "log.txt"


def test_an_application_that_logs_all_it_can(talkative: tuple[Server, Path]) -> None:
    server, log = talkative
    for key in (KEY, WRONG_KEY):
        for target, headers in everywhere(key):
            ask(server, target, headers)
        for request in malformed(key):
            send(server, request)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        ask(server, "/auth_session", form, method="POST", body=f"api_key={key}&next=/".encode())
        ask(server, f"/auth_session?api_key={key}", method="POST", body=b"{}")
        # A bad chunk that arrives later, when the handler is already reading the body.
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
        assert expected in said, expected  # otherwise the test would prove nothing
    assert is_silent(said)
    with pytest.raises(OSError):
        ask(server, "/crash", bearer(KEY))
        ask(server, "/crash", bearer(KEY))
    server.process.wait(10)
    assert "Fatal Python error: Aborted" in server.output
    assert is_silent(server.output + log.read_text())
