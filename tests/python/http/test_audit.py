"""The audit log: who did what. Nobody can forge its lines, and nothing waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from comfy_auth_rs import KeyStore, create_auth_middleware, setup
from comfy_auth_rs.app import AUTH
from comfy_auth_rs.errors import SettingError
from support.apps import install_as_comfyui, secret
from support.audit import lines_of
from support.canary import everywhere, is_silent
from support.client import FORM, JSON, bearer, fetch
from support.keys import CANARY, KEY, OTHER_KEY, WRONG_KEY

VIEWER = f"{CANARY}-viewer-0123456789-abcdefghijklmnopqrstuvwxyz"
ELSEWHERE = f"{CANARY}-elsewhere-0123456789-abcdefghijklmnopqrstuvwxyz"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

FILE = f"{KEY} owner user=Olga\n{VIEWER} wall scope=view\n{ELSEWHERE} far from=192.0.2.0/24\n"
NEEDS = {"/look": "view", "/do": "run", "/files/*": "view"}


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text(FILE)
    path.chmod(0o600)
    return path


@pytest.fixture
def log(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def start(aiohttp_server, keys, log):
    async def start(**given):
        app = web.Application()
        for path in ("/look", "/do", "/files/{name}"):
            app.router.add_route("*", path, secret)
        setup(app, api_key_file=keys, scopes=NEEDS, audit=log, **given)
        return await aiohttp_server(app)

    return start


async def told(server, log, *events):
    """The lines of these events, without their times. Without `events`, all lines except those of the start."""
    await asyncio.to_thread(server.app[AUTH].end)
    lines = [line for line in lines_of(log) if line.pop("time")]
    wanted = [line for line in lines if (line["event"] in events if events else line["event"] not in STARTING)]
    return [{name: value for name, value in line.items() if name not in ("key", "user_agent")} for line in wanted]


STARTING = ("started", "keys_read")


async def test_without_the_setting_nothing_is_written(aiohttp_server, keys, tmp_path):
    app = web.Application()
    app.router.add_get("/do", secret)
    setup(app, api_key_file=keys)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/do", bearer(KEY))).status == 200
    assert [path.name for path in tmp_path.iterdir()] == ["keys.txt"]


async def test_it_begins_with_the_keys(start, log, keys):
    server = await start()
    assert await told(server, log, *STARTING) == [
        {"event": "keys_read", "outcome": "success", "file": str(keys), "keys": 3},
        {"event": "started", "outcome": "success", "keys": 3, "version": "0.1.0"},
    ]
    assert log.stat().st_mode & 0o777 == 0o600


OWNER = {"label": "owner", "user": "Olga", "client": "127.0.0.1"}


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected"),
    [
        ("GET", "/look", bearer(KEY), None),
        ("POST", "/look", bearer(KEY), None),
        ("GET", "/health", {}, None),
        ("GET", "/auth_session", bearer(KEY), None),
        ("GET", "/auth_verify", bearer(KEY), None),
        ("GET", "/auth_verify?scope=view", bearer(KEY), None),
        ("GET", "/do", bearer(KEY), ("admitted", {**OWNER, "route": "/do", "scope": "run", "source": "bearer"})),
        (
            "DELETE",
            "/do?a=b",
            {**bearer(KEY), "traceparent": TRACE},
            ("admitted", {**OWNER, "route": "/do", "scope": "run", "source": "bearer", "traceparent": TRACE}),
        ),
        ("GET", "/none", {"X-API-Key": KEY}, ("admitted", {**OWNER, "scope": "all", "source": "x-api-key"})),
        (
            "GET",
            "/auth_verify?scope=run",
            bearer(KEY),
            ("admitted", {**OWNER, "route": "/auth_verify", "scope": "run", "source": "bearer"}),
        ),
        (
            "GET",
            "/files/a%20secret",
            {},
            (
                "refused",
                {"cause": "missing_credential", "count": 1, "client": "127.0.0.1", "route": "/files/{name}"},
            ),
        ),
        (
            "GET",
            "/do",
            bearer(WRONG_KEY),
            ("refused", {"cause": "invalid_credential", "count": 1, "client": "127.0.0.1", "route": "/do"}),
        ),
        (
            "GET",
            "/do",
            {**bearer(VIEWER), "traceparent": TRACE.upper()},
            (
                "refused",
                {
                    "cause": "insufficient_scope",
                    "count": 1,
                    "label": "wall",
                    "client": "127.0.0.1",
                    "route": "/do",
                    "scope": "run",
                },
            ),
        ),
        (
            "GET",
            "/auth_verify?scope=run",
            bearer(VIEWER),
            (
                "refused",
                {
                    "cause": "insufficient_scope",
                    "count": 1,
                    "label": "wall",
                    "client": "127.0.0.1",
                    "route": "/auth_verify",
                    "scope": "run",
                },
            ),
        ),
        (
            "GET",
            "/look",
            bearer(ELSEWHERE),
            ("refused", {"cause": "address", "count": 1, "label": "far", "client": "127.0.0.1", "route": "/look"}),
        ),
        (
            "GET",
            "/look%0a",
            bearer(KEY),
            ("refused", {"cause": "control_character", "count": 1, "client": "127.0.0.1"}),
        ),
        (
            "POST",
            "/auth_session",
            {**bearer(KEY), "Origin": "https://evil.example"},
            (
                "refused_foreign",
                {
                    "cause": "cross_origin",
                    "count": 1,
                    "client": "127.0.0.1",
                    "route": "/auth_session",
                    "origin": "https://evil.example",
                },
            ),
        ),
    ],
)
async def test_a_request_leaves_a_line_if_it_matters(start, log, method, target, headers, expected):
    server = await start()
    await fetch(server, target, headers, method=method)
    found = await told(server, log)
    if expected is None:
        assert found == []
        return
    event, fields = expected
    outcome = "success" if event == "admitted" else "failure"
    assert found == [{"event": event, "outcome": outcome, "method": method, **fields}]


async def test_a_method_that_answers_two_routes_hides_nothing(aiohttp_server, keys, log):
    """Each `pages.answer` is a new object, but they are equal, so aiohttp makes one handler of them."""

    class Pages:
        async def answer(self, request):
            return web.Response()

    app, pages = web.Application(), Pages()
    app.router.add_get("/look", pages.answer)
    app.router.add_post("/do", pages.answer)
    setup(app, api_key_file=keys, scopes=NEEDS, audit=log)
    server = await aiohttp_server(app)
    for _ in range(2):
        assert (await fetch(server, "/look", bearer(KEY))).status == 200
    assert (await fetch(server, "/do", bearer(KEY), method="POST")).status == 200
    assert [line["route"] for line in await told(server, log, "admitted")] == ["/do"]


async def test_reads_of_an_application_without_scopes_leave_none(aiohttp_server, keys, log):
    app = web.Application()
    app.router.add_route("*", "/do", secret)
    setup(app, api_key_file=keys, audit=log)
    server = await aiohttp_server(app)
    for method in ("GET", "HEAD", "PUT"):
        assert (await fetch(server, "/do", bearer(KEY), method=method)).status == 200
    assert [line["method"] for line in await told(server, log)] == ["PUT"]


async def test_sessions_begin_and_end(start, log):
    server = await start()
    assert (await fetch(server, "/auth_session", bearer(KEY), method="POST", body=b"{}")).status == 204
    form = {**FORM, "Origin": f"http://127.0.0.1:{server.port}"}
    answer = await fetch(server, "/auth_session", form, method="POST", body=f"api_key={KEY}&next=/".encode())
    assert answer.status == 303
    wrong = await fetch(server, "/auth_session", JSON, method="POST", body=b'{"api_key": "%s"}' % WRONG_KEY.encode())
    assert wrong.status == 401
    session = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], "Sec-Fetch-Site": "same-origin"}
    assert (await fetch(server, "/auth_session", session, method="DELETE")).status == 204
    assert (await fetch(server, "/auth_session", session, method="DELETE")).status == 204
    lines = await told(server, log, "log_in", "log_out", "refused")
    of_session = {"outcome": "success", **OWNER, "route": "/auth_session"}
    assert [line["event"] for line in lines] == ["log_in", "log_in", "refused", "log_out"]
    assert lines[0] == {"event": "log_in", **of_session, "method": "POST", "source": "bearer"}
    assert lines[1] == {"event": "log_in", **of_session, "method": "POST", "source": "body"}
    assert lines[2]["cause"] == "invalid_credential"
    assert lines[3] == {"event": "log_out", **of_session, "method": "DELETE"}


async def test_a_lock_has_its_client(start, log):
    server = await start(trusted_proxy="127.0.0.1")
    for client, guesses in (("203.0.113.9", 12), ("203.0.113.8", 3)):
        for number in range(guesses):
            await fetch(server, "/look", {"X-Forwarded-For": client, "X-API-Key": f"{WRONG_KEY}{number}"})
    for number in range(10):
        await fetch(server, f"/look?api_key={number}", {"X-Forwarded-For": "2001:db8::7"})
    assert await told(server, log, "lock") == [
        {"event": "lock", "outcome": "failure", "cause": "wrong_keys", "client": "203.0.113.9", "seconds": 60},
        {"event": "lock", "outcome": "failure", "cause": "wrong_keys_any_page", "client": "2001:db8::7", "seconds": 60},
    ]
    refused = await told(server, log, "refused")
    counts = [(line["client"], line["cause"], line["count"]) for line in refused]
    assert sum(count for client, cause, count in counts if (client, cause) == ("203.0.113.9", "locked")) == 2
    assert sum(count for client, cause, count in counts if client == "203.0.113.8") == 3


async def test_keys_that_go_are_told(start, log, keys):
    server = await start()

    async def change(text):
        if text is not None:
            keys.write_text(text)
        await asyncio.sleep(0.6)
        await fetch(server, "/health")

    removed = FILE.replace(f"{VIEWER} wall scope=view\n", "")
    await change(removed)
    await change(removed.replace("far from", "far expires=2001-01-01 from"))
    await change("a line with=fault")
    keys.unlink()
    await change(None)
    file = str(keys)
    assert await told(server, log, "keys_read", "key_gone") == [
        {"event": "keys_read", "outcome": "success", "file": file, "keys": 3},
        {"event": "keys_read", "outcome": "success", "file": file, "keys": 2},
        {"event": "key_gone", "outcome": "success", "cause": "removed", "label": "wall"},
        {"event": "keys_read", "outcome": "success", "file": file, "keys": 2},
        {"event": "key_gone", "outcome": "success", "cause": "revoked", "label": "far"},
        {"event": "keys_read", "outcome": "failure", "cause": "invalid", "file": file},
        {"event": "keys_read", "outcome": "failure", "cause": "unreadable", "file": file},
    ]


async def test_a_key_that_ends_by_itself_is_told_once(aiohttp_server, tmp_path, log):
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    (tmp_path / "k").write_text(f"{KEY} guest expires={soon}\n{OTHER_KEY} owner\n")
    app = web.Application()
    setup(app, api_key_file=tmp_path / "k", audit=log)
    server = await aiohttp_server(app)
    for _ in range(8):
        await fetch(server, "/health")
        await asyncio.sleep(0.5)
    gone = await told(server, log, "key_gone")
    assert gone == [{"event": "key_gone", "outcome": "success", "cause": "expired", "label": "guest"}]


async def test_no_key_no_query_and_no_body_is_in_it(start, log):
    server = await start(url_key=True)
    for key in (KEY, WRONG_KEY, VIEWER):
        for target, headers in everywhere(key):
            await fetch(server, target, headers)
        await fetch(server, "/auth_session", FORM, method="POST", body=f"api_key={key}&next=/{CANARY}".encode())
        await fetch(server, f"/do?a={CANARY}", bearer(key), method="POST", body=CANARY.encode())
        await fetch(server, f"/{CANARY}/{CANARY}", bearer(key))
    assert len(await told(server, log)) > 20
    is_silent(log.read_text())


HOSTILE = [
    '"}\n{"time": "2026-11-28T09:20:12.250Z", "event": "lock"',
    '", "event": "lock", "client": "203.0.113.77',
    "\\",
    "\x1b[31mred",
    "\u2028\u202e\ud7ff\U0001f600",
    "a" * 5000,
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_clients_write_stays_in_its_field(aiohttp_server, tmp_path, log, text):
    label = text.replace("\n", " ").replace('"', "'").replace("\x1b", "")[:200]
    (tmp_path / "k").write_text(f'{KEY} "{label}"\n', encoding="utf-8")
    app = web.Application()
    setup(app, api_key_file=tmp_path / "k", audit=log)
    server = await aiohttp_server(app)
    sent = text.encode("utf-8", "replace").decode("latin-1").replace("\n", "").replace("\x1b", "")
    await fetch(server, "/none", {"User-Agent": sent, "Origin": sent[:1000]})
    await fetch(server, "/auth_session", {**bearer(KEY), "Origin": sent[:1000], "User-Agent": sent}, method="POST")
    await fetch(server, "/none", {**bearer(KEY), "traceparent": sent}, method="POST")
    await asyncio.to_thread(server.app[AUTH].end)
    lines = lines_of(log)
    assert {line["event"] for line in lines} <= {*STARTING, "admitted", "refused", "refused_foreign"}
    assert len(lines) == 5
    assert all(len(line) < 4000 for line in log.read_text().splitlines())


async def test_a_folder_that_is_served_is_refused(keys, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (tmp_path / "link").symlink_to(served)
    app = web.Application()
    app.router.add_static("/files", served)
    setup(app, api_key_file=keys, audit=tmp_path / "link" / "audit.jsonl")
    runner = web.AppRunner(app)
    with pytest.raises(SettingError, match=r"audit: .*link/audit\.jsonl: this server serves the folder .*served"):
        await runner.setup()
    await runner.cleanup()


@pytest.mark.parametrize("name", ["none/audit", ".", "link"])
def test_what_is_no_file_is_refused(keys, tmp_path, name):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(SettingError, match=r"^audit: "):
        create_auth_middleware(KeyStore(api_key_file=[keys]), audit=tmp_path / name)


#: A process that writes a line for each request, a hundred a second or more, until it is killed.
BUSY = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path[:0] = {path!r}
import asyncio
from aiohttp.test_utils import make_mocked_request
import comfy_auth_rs
middleware = comfy_auth_rs.create_auth_middleware(api_key={key!r}, audit=sys.argv[1])
async def handler(request):
    return None
async def main():
    print("begun", flush=True)
    while True:
        request = make_mocked_request("POST", "/do", headers={{"X-API-Key": {key!r}}})
        await middleware(request, handler)
        print(flush=True)
asyncio.run(main())
"""


def test_a_kill_loses_the_last_second_at_most(log):
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-c", BUSY.format(path=path, key=KEY), str(log)]
    before = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline()  # it has started
        admitted, deadline = 0, time.monotonic() + 2
        while time.monotonic() < deadline:
            assert process.stdout.readline()
            admitted += 1
            if deadline - time.monotonic() > 1:
                expected = admitted
        process.kill()
        process.wait()
        process.stdout.close()
        found = [line for line in log.read_bytes().splitlines() if b'"event": "admitted"' in line]
        assert len(found) - before >= expected > 0
        before = len(found)
    starts = [number for number, line in enumerate(log.read_bytes().splitlines()) if b'"started"' in line]
    assert len(starts) == 2, "the second process starts on a new line"


#: A process whose disk is full: it limits the size of its files, and lifts the limit later.
FULL = """
import asyncio, resource, signal, sys, time
from aiohttp.test_utils import make_mocked_request
import comfy_auth_rs, logging
logging.basicConfig(format="%(message)s")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
middleware = comfy_auth_rs.create_auth_middleware(api_key={key!r}, audit=sys.argv[1])
async def handler(request):
    return None
async def ask(number):
    request = make_mocked_request("POST", "/do", headers={{"X-API-Key": {key!r}}})
    for _ in range(number):
        await middleware(request, handler)
async def main():
    for _ in range(45):
        await ask(1000)
        await asyncio.sleep(0.1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for _ in range(20):
        await ask(1)
        await asyncio.sleep(0.1)
    middleware.end()
asyncio.run(main())
"""


def test_a_full_disk_loses_what_there_is_no_room_for_and_says_so(log):
    done = subprocess.run([sys.executable, "-c", FULL.format(key=KEY), str(log)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "audit log" in line]
    assert len(said) == 2
    assert "cannot be written" in said[0] and said[1].endswith("is written again")
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    admitted = sum(line["event"] == "admitted" for line in lines)
    dropped = sum(line["count"] for line in lines if line["event"] == "dropped" and line["kind"] == "admitted")
    assert admitted + dropped == 45_020


async def test_an_older_log_is_gone_on_with(start, log):
    log.write_text("")
    log.chmod(0o640)
    server = await start()
    assert len(await told(server, log, *STARTING)) == 2
    assert log.stat().st_mode & 0o777 == 0o640, "the owner's mode stays"


async def test_in_comfyui_no_folder_of_clients_may_hold_it(tmp_path, keys, log, aiohttp_server):
    """tests/python/comfyui tests the folders."""
    app = web.Application()
    app.router.add_route("*", "/prompt", secret)
    install_as_comfyui(app, api_key_file=keys, audit=log)
    server = await aiohttp_server(app)
    for method in ("GET", "POST"):
        assert (await fetch(server, "/prompt", bearer(KEY), method=method)).status == 200
    lines = await told(server, log)
    assert [(line["method"], line["route"], line["scope"]) for line in lines] == [("POST", "/prompt", "run")]


@pytest.mark.parametrize("order", [1, -1])
async def test_a_handler_of_several_routes_is_judged_at_each(aiohttp_server, keys, log, order):
    """What is remembered about one route must not be used for another route or method."""
    app = web.Application()

    async def shared(request):
        return web.Response(text=request.path)

    async def alone(request):
        return web.Response(text=request.path)

    app.router.add_get("/look", shared)
    app.router.add_get("/files/{name}", alone)
    app.router.add_post("/files/{name}", alone)
    app.router.add_get("/do", shared)
    app.router.add_route("*", "/any", shared)
    scopes = {"/look": "view", "/files/*": "view", "/any": "view", "/do": "run"}
    setup(app, api_key_file=keys, scopes=scopes, audit=log)
    server = await aiohttp_server(app)
    asked = [("GET", "/look"), ("GET", "/files/a"), ("POST", "/files/a"), ("GET", "/any"), ("POST", "/any")]
    asked += [("GET", "/do"), ("HEAD", "/do")]
    for _ in range(3):
        for method, path in asked[::order]:
            assert (await fetch(server, path, bearer(KEY), method=method)).status == 200
    found = [(line["method"], line["route"]) for line in await told(server, log)]
    assert found == [("GET", "/do"), ("HEAD", "/do")][::order] * 3
