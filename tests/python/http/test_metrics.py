"""`GET /metrics`: who may read it, in which format, and whether its figures match the requests."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any

import aiohttp
import comfy_auth_rs
import pytest
from aiohttp import web
from comfy_auth_rs import setup
from support.apps import echo_socket, install_as_comfyui, secret
from support.client import BEARER, BROWSER, CHALLENGE, FORM, Answer, basic, bearer, fetch, log_in
from support.keys import CANARY, KEY, WRONG_KEY
from support.metrics import CONTENT_TYPES, OPEN_METRICS, families, series, value, values

VIEWER, RUNNER, NODER, SCRAPER, GUEST = (
    f"{CANARY}-{name}-0123456789-abcdefghijklmnopqrstuvwxyz"
    for name in ("viewer", "runner", "noder", "scraper", "guest")
)

LINES = (
    f"{KEY} owner",
    f"{VIEWER} wall scope=view",
    f"{RUNNER} bot scope=run,view",
    f"{NODER} noder scope=nodes",
    f"{SCRAPER} prometheus scope=metrics",
    f"{GUEST} guest expires=2199-01-31",
)

#: The key that reads it in these tests.
READER = {"X-API-Key": SCRAPER}

OPEN_METRICS_TYPE, CLASSIC_TYPE = CONTENT_TYPES


def write(path: Path, *lines: str) -> Path:
    beside = path.with_suffix(".new")
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    beside.chmod(0o600)
    beside.replace(path)
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.txt", *LINES)


def routes() -> web.Application:
    app = web.Application()
    for path in ("/prompt", "/api/prompt"):
        app.router.add_route("*", path, secret)
    app.router.add_get("/ws", echo_socket)
    return app


def an_own_application(key_file: Path) -> web.Application:
    app = routes()
    setup(app, api_key_file=key_file, scopes={"/prompt": "run", "/*": "view"})
    return app


def a_comfyui(key_file: Path) -> web.Application:
    app = routes()
    install_as_comfyui(app, api_key_file=[key_file])
    return app


@pytest.fixture
async def own(aiohttp_server: Any, key_file: Path) -> Any:
    return await aiohttp_server(an_own_application(key_file))


@pytest.fixture
async def comfyui(aiohttp_server: Any, key_file: Path) -> Any:
    return await aiohttp_server(a_comfyui(key_file))


@pytest.fixture(params=[an_own_application, a_comfyui])
async def server(request: pytest.FixtureRequest, aiohttp_server: Any, key_file: Path) -> Any:
    return await aiohttp_server(request.param(key_file))


async def read(server: Any, headers: Any = READER, target: str = "/metrics") -> Answer:
    return await fetch(server, target, headers)


# ---------------------------------------------------------------------------------------------------------------------
# Formats


async def test_both_formats_say_the_same(server: Any) -> None:
    await fetch(server, headers=bearer(WRONG_KEY))
    classic, open_metrics = await read(server), await read(server, {**READER, **OPEN_METRICS})
    assert (classic.headers["Content-Type"], open_metrics.headers["Content-Type"]) == (CLASSIC_TYPE, OPEN_METRICS_TYPE)
    first, second = series(classic), series(open_metrics)
    assert first.keys() == second.keys()
    admitted = ("comfy_auth_decisions_total", frozenset({("outcome", "admitted"), ("cause", "")}))
    changing = {"comfy_auth_device_memory_age_seconds", "comfy_auth_device_memory_free_bytes"}
    differing = {name for name in first if first[name] != second[name] and name[0] not in changing}
    assert differing == {admitted}  # the first reading is counted in the second
    assert open_metrics.text.endswith("\n# EOF\n")
    assert "# UNIT" not in classic.text
    assert "# EOF" not in classic.text


async def test_every_family_is_described(server: Any) -> None:
    for family in families(await read(server, {**READER, **OPEN_METRICS})):
        assert family.name.startswith("comfy_auth_")
        assert family.type in ("counter", "gauge", "info")
        assert family.documentation.endswith("."), family.name
        assert len(family.documentation) > 10
        assert family.unit in ("", "seconds", "bytes")


#: `Accept`, and whether the answer is OpenMetrics. The corner cases are in `tests/units/metrics.rs`.
NEGOTIATIONS = {
    "none": ([], False),
    "anything": (["*/*"], False),
    "a browser": ([BROWSER["Accept"]], False),
    "Prometheus 2": (
        [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ],
        True,
    ),
    "the classic one alone": (["text/plain;version=0.0.4"], False),
    "an older one": (["application/openmetrics-text;version=0.0.1, */*;q=0.1"], False),
    "OpenMetrics rated lower": (["application/openmetrics-text;q=0.4", "text/plain;q=0.5"], False),
    "OpenMetrics rated higher": (["text/plain;q=0.4", "application/openmetrics-text;q=0.5"], True),
    "not at all": (["application/openmetrics-text;q=0"], False),
    "bytes that are no text": (["\udcff\udcfe;q=\udcff", "application/openmetrics-text"], True),
    "neither": (["image/png"], False),
}


@pytest.mark.parametrize(("accept", "is_open_metrics"), NEGOTIATIONS.values(), ids=NEGOTIATIONS)
async def test_accept_chooses(own: Any, accept: list[str], is_open_metrics: bool) -> None:
    answer = await read(own, [*READER.items(), *(("Accept", one) for one in accept)])
    assert answer.headers["Content-Type"] == (OPEN_METRICS_TYPE if is_open_metrics else CLASSIC_TYPE)
    assert families(answer)


async def test_head_and_caches(server: Any) -> None:
    full, head = await read(server), await fetch(server, "/metrics", READER, method="HEAD")
    for answer in (full, head):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Content-Type"] == CLASSIC_TYPE
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 1000


# ---------------------------------------------------------------------------------------------------------------------
# Who may read it


@pytest.mark.parametrize("target", ["/metrics", "/api/metrics"])
async def test_scopes(comfyui: Any, own: Any, target: str) -> None:
    servers = [comfyui] if target.startswith("/api") else [comfyui, own]
    for server in servers:
        for method in ("GET", "HEAD"):
            for key in (SCRAPER, KEY):
                for headers in (bearer(key), basic(key), {"X-API-Key": key}):
                    assert (await fetch(server, target, headers, method=method)).status == 200
            for key in (VIEWER, RUNNER, NODER):
                answer = await fetch(server, target, bearer(key), method=method)
                assert answer.status == 403
                assert 'scope="metrics"' in answer.headers["WWW-Authenticate"]
                assert b"comfy_auth_" not in answer.body
            for headers in ({}, bearer(WRONG_KEY)):
                answer = await fetch(server, target, headers, method=method)
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)
                assert b"comfy_auth_" not in answer.body
        cookie = {"Cookie": await log_in(server)}
        assert (await fetch(server, target, cookie)).status == 200
        assert (await fetch(server, target, bearer(KEY), method="POST", body=b"")).status in (403, 405)


async def test_a_scraper_reads_nothing_else(server: Any) -> None:
    assert (await fetch(server, "/prompt", READER)).status == 403
    assert (await fetch(server, "/ws", READER)).status in (400, 403)


async def test_it_is_not_there_without_the_twins_of_comfyui(own: Any) -> None:
    assert (await fetch(own, "/api/metrics", bearer(KEY))).status == 404


async def test_a_folder_at_the_root_does_not_hide_it(aiohttp_server: Any, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "metrics").write_text("a file of the frontend")
    for protect in (install_as_comfyui, setup):
        app = routes()
        if protect is setup:
            app.router.add_static("/", tmp_path / "web")
            setup(app, api_key_file=key_file)
        else:
            install_as_comfyui(app, api_key_file=[key_file])
            app.router.add_static("/", tmp_path / "web")
        answer = await read(await aiohttp_server(app))
        assert value(answer, "keys_in_force") == len(LINES)


# ---------------------------------------------------------------------------------------------------------------------
# When the route is taken


async def theirs(request: web.Request) -> web.Response:
    return web.Response(text="theirs")


def ways_to_take_it() -> dict[str, Any]:
    def as_application(app: web.Application, path: str) -> None:
        inner = web.Application()
        inner.router.add_get("", theirs)
        app.add_subapp(path, inner)

    return {
        "a route": lambda app, path: app.router.add_get(path, theirs),
        "every method": lambda app, path: app.router.add_route("*", path, theirs),
        "another method": lambda app, path: app.router.add_post(path, theirs),
        "an application": as_application,
    }


@pytest.mark.parametrize("way", ways_to_take_it())
@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
async def test_a_node_has_it(
    aiohttp_server: Any, key_file: Path, caplog: pytest.LogCaptureFixture, way: str, path: str
) -> None:
    app = routes()
    install_as_comfyui(app, api_key_file=[key_file])
    ways_to_take_it()[way](app, path)  # nodes are loaded later
    with caplog.at_level(logging.INFO, "comfy_auth_rs"):
        server = await aiohttp_server(app)
    said = [record.getMessage() for record in caplog.records if "/metrics" in record.getMessage()]
    assert said == [f"comfy-auth-rs: the server has a route {path} of its own, so ours is left out"]
    method = "POST" if way == "another method" else "GET"
    answer = await fetch(server, path, bearer(KEY), method=method, body=b"")
    if way != "an application":  # that one answers only below the path
        assert (answer.status, answer.text) == (200, "theirs")
    # Ours is left out, and theirs needs what every unclassified route needs.
    for label in ("/metrics", "/api/metrics"):
        assert b"comfy_auth_" not in (await fetch(server, label, bearer(KEY))).body
    for key in (SCRAPER, VIEWER, RUNNER):
        answer = await fetch(server, path, bearer(key), method=method, body=b"")
        assert answer.status == 403
        assert 'scope="all"' in answer.headers["WWW-Authenticate"]


async def test_an_application_has_it(aiohttp_server: Any, key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = routes()
    app.router.add_get("/metrics", theirs)
    with caplog.at_level(logging.INFO, "comfy_auth_rs"):
        setup(app, api_key_file=key_file, scopes={"/metrics": "view"})
    assert [record.getMessage() for record in caplog.records] == [
        "comfy-auth-rs: the server has a route /metrics of its own, so ours is left out"
    ]
    server = await aiohttp_server(app)
    assert (await fetch(server, "/metrics", bearer(VIEWER))).text == "theirs"
    assert (await read(server)).status == 403


# ---------------------------------------------------------------------------------------------------------------------
# Figures


async def decisions(server: Any) -> dict[str, float]:
    """The decisions so far, without this request itself."""
    found = values(await read(server), "decisions_total", "outcome/cause")
    found["admitted/"] -= 1
    return {name: count for name, count in found.items() if count}


async def test_decisions_are_those_that_were_asked_for(own: Any, comfyui: Any) -> None:
    """Each request counts once."""
    for server in (own, comfyui):
        await fetch(server, "/prompt", bearer(KEY))
        await fetch(server, "/prompt", bearer(RUNNER))
        await fetch(server, "/prompt", bearer(VIEWER), method="POST", body=b"")  # insufficient_scope
        for _ in range(3):
            await fetch(server, "/prompt")
        await fetch(server, "/prompt", BROWSER)  # redirected to the login page
        await fetch(server, "/prompt", bearer(WRONG_KEY))
        await fetch(server, "/health")
        await fetch(server, "/auth_login.html")
        await fetch(server, "/prompt%0a", bearer(KEY))  # control_character
        page = {**bearer(KEY), "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
        await fetch(server, "/auth_session", page, method="POST", body=b"")  # cross_origin
        asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
        await fetch(server, "/prompt", asked, method="OPTIONS")
        counts = await decisions(server)
        refused = {
            "refused/missing_credential": 4,
            "refused/invalid_credential": 1,
            "refused/insufficient_scope": 1,
            "refused/control_character": 1,
            "refused/cross_origin": 1,
        }
        if server is comfyui:
            assert counts == {"admitted/": 2, "exempt/": 2, "preflight/": 1, **refused}
        else:  # no handler was registered for `OPTIONS`
            refused["refused/missing_credential"] += 1
            assert counts == {"admitted/": 2, "exempt/": 2, **refused}


async def test_what_a_route_asks_counts_in_its_place(server: Any) -> None:
    cookie = {"Cookie": await log_in(server)}
    assert await decisions(server) == {"admitted/": 1}
    form = f"api_key={KEY}".encode()
    assert (await fetch(server, "/auth_session", FORM, method="POST", body=form)).status == 303
    wrong = f"api_key={WRONG_KEY}".encode()
    await fetch(server, "/auth_session", FORM, method="POST", body=wrong)
    assert (await fetch(server, "/auth_verify", cookie)).status == 204
    assert (await fetch(server, "/auth_verify")).status == 401
    assert (await fetch(server, "/auth_session", cookie)).status == 200
    for _ in range(2):
        leaving = {**cookie, "Sec-Fetch-Site": "same-origin"}
        assert (await fetch(server, "/auth_session", leaving, method="DELETE")).status == 204
    before = 1 + 1  # the first log-in, and the reading after it
    assert await decisions(server) == {
        "admitted/": before + 4,  # form, verify, who it is, log-out
        "exempt/": 1,  # a session that had ended
        "refused/invalid_credential": 1,
        "refused/missing_credential": 1,
    }
    answer = await read(server)
    assert value(answer, "sessions_begun_total") == 2
    assert value(answer, "sessions_ended_total") == 1


async def test_a_link_begins_a_session(aiohttp_server: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html><head></head></html>")
    app = web.Application()
    setup(app, api_key=KEY, index=tmp_path / "index.html")
    server = await aiohttp_server(app)
    assert "Set-Cookie" in (await fetch(server, f"/?api_key={KEY}", BROWSER)).headers
    answer = await read(server, bearer(KEY))
    assert value(answer, "sessions_begun_total") == 1


async def test_locks(server: Any) -> None:
    assert value(await read(server), "locks_total") == 0
    for number in range(10):
        assert (await fetch(server, headers=bearer(f"{WRONG_KEY}-{number}"))).status == 401
    assert (await fetch(server, headers=bearer(f"{WRONG_KEY}-11"))).status == 429
    answer = await read(server)
    assert (value(answer, "locks_total"), value(answer, "locked_addresses")) == (1, 1)
    counts = values(answer, "decisions_total", "outcome/cause")
    assert (counts["refused/invalid_credential"], counts["refused/locked"]) == (10, 1)


async def test_open_sockets(comfyui: Any) -> None:
    async def sockets() -> dict[str, float]:
        return values(await read(comfyui), "open_websockets", "credential")

    url = f"http://127.0.0.1:{comfyui.port}/ws"
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url), session.ws_connect(url), session.ws_connect(url, headers=bearer(VIEWER)):
            assert await sockets() == {"yes": 1, "no": 2}
            # A socket with a key replaces the one without that has the same clientId.
            async with session.ws_connect(f"{url}?clientId=a"), session.ws_connect(f"{url}?clientId=a", headers=BEARER):
                assert await sockets() == {"yes": 2, "no": 2}
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await session.ws_connect(f"{url}?clientId=a")
        assert await sockets() == {"yes": 0, "no": 0}
    counts = values(await read(comfyui), "decisions_total", "outcome/cause")
    assert (counts["exempt/"], counts["refused/client_id_taken"]) == (3, 1)


async def test_keys(aiohttp_server: Any, tmp_path: Path) -> None:
    """The most hostile labels that a key file accepts."""
    hostile = ['a"} 1\\n# EOF\\', "b\\", "{}", "工作站 🔑", "x" * 200, "\u2028\u202e", "other"]
    lines = [f'key-{number} "{label}" expires=2199-01-31' for number, label in enumerate(hostile) if '"' not in label]
    lines = [f"{SCRAPER} prometheus", *lines, 'key-x a"} 1\\n# EOF\\ expires=2198-01-31', "key-y expires=2197-01-31"]
    app = routes()
    setup(app, api_key_file=write(tmp_path / "keys", *lines, "key-old old expires=2001-01-01"))
    server = await aiohttp_server(app)
    for headers in (READER, {**READER, **OPEN_METRICS}):
        answer = await read(server, headers)
        assert value(answer, "keys_in_force") == len(lines)
        ends = values(answer, "key_expires_timestamp_seconds", "key_label")
        assert ends.keys() == {label[:64] for label in hostile} | {""}
        assert ends[""] < ends['a"} 1\\n# EOF\\'] < ends["other"]
        assert time.gmtime(ends["other"])[:3] == (2199, 2, 1)
        assert all(line.startswith(("# ", "comfy_auth_")) for line in answer.text.rstrip("\n").split("\n"))


async def test_key_files(aiohttp_server: Any, key_file: Path, tmp_path: Path) -> None:
    second = write(tmp_path / "second \"'{} keys", f"{CANARY}-second-0123456789-abcdefghijklmnopq second")
    app = routes()
    setup(app, api_key_file=[key_file, second])
    server = await aiohttp_server(app)

    async def failed() -> list[float]:
        await asyncio.sleep(0.6)  # until the next look
        found = values(await read(server), "key_file_failed", "file")
        assert found.keys() == {str(key_file), str(second)}
        return [found[str(key_file)], found[str(second)]]

    modified = values(await read(server), "key_file_modified_timestamp_seconds", "file")
    assert modified[str(key_file)] == int(key_file.stat().st_mtime)
    assert await failed() == [0, 0]
    good = second.read_text()
    for bad in ("", "a\nb c=d\n", f"{KEY} scope=view\n"):  # empty, a bad line, a contradiction to the other file
        second.write_text(bad)
        assert await failed() == [0, 1], bad
        assert await failed() == [0, 1], bad
        write(second, *good.splitlines())
        assert await failed() == [0, 0], bad
    second.unlink()
    assert await failed() == [0, 1]
    write(second, *good.splitlines())
    os.utime(second, (1_700_000_000, 1_700_000_000))
    assert await failed() == [0, 0]
    modified = values(await read(server), "key_file_modified_timestamp_seconds", "file")
    assert modified[str(second)] == 1_700_000_000


async def test_the_queue_and_the_devices(aiohttp_server: Any) -> None:
    app = web.Application()
    setup(app, api_key=KEY, queue=lambda: comfy_auth_rs.health.QueueLength(pending=3, running=1))
    server = await aiohttp_server(app)
    answer = await read(server, bearer(KEY))
    assert values(answer, "queue_prompts", "state") == {"pending": 3, "running": 1}
    devices = values(answer, "device_memory_bytes", "type/index")
    free = values(answer, "device_memory_free_bytes", "type/index")
    assert devices.keys() == free.keys()
    assert 0 < free["cpu/"] <= devices["cpu/"]
    assert value(answer, "build_info", version=comfy_auth_rs.__version__) == 1


async def test_a_server_without_a_queue_tells_none(own: Any) -> None:
    assert values(await read(own), "queue_prompts", "state") == {}
