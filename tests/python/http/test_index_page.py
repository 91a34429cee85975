"""`/` and `/index.html`: the server's page with the script in it, sent with correct HTTP."""

from __future__ import annotations

import os
import time

import pytest
from aiohttp import web
from comfy_auth_rs import inject_script, page, setup
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.client import BEARER, BROWSER, bearer, fetch, log_in
from support.keys import KEY

TAG = b'<script src="auth_inject.js"></script>'
PAGE = b"<!DOCTYPE html><html><head><title>ComfyUI</title></head><body>x</body></html>"
INJECTED = PAGE.replace(b"<head>", b"<head>" + TAG)


@pytest.fixture
def index(tmp_path):
    """The page's file."""
    file = tmp_path / "index.html"
    file.write_bytes(PAGE)
    return file


@pytest.fixture
async def server(aiohttp_server, index):
    app = web.Application()
    setup(app, api_key=KEY, index=index)
    return await aiohttp_server(app)


async def get(server, headers=(), target="/", method="GET"):
    return await fetch(server, target, {**BEARER, **dict(headers)}, method=method)


@pytest.mark.parametrize("target", ["/", "/index.html", "/?x=1", "/index.html?x=1"])
async def test_serves_the_page_with_the_script(server, target):
    reply = await get(server, target=target)
    assert (reply.status, reply.body) == (200, INJECTED)
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "no-cache" in reply.headers["Cache-Control"], "browsers ask each time whether it has changed"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers.getall("ETag") == [reply.headers["ETag"]]


async def test_who_gets_the_page(server):
    """`/` redirects to the login. The page's other name is just as protected."""
    for target in ("/", "/index.html"):
        assert (await fetch(server, target, BROWSER)).status == 302
        assert (await fetch(server, target, {"Cookie": await log_in(server)})).body == INJECTED
    assert (await fetch(server, "/")).status == 302
    assert (await fetch(server, "/", bearer("wrong"))).status == 302
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        assert (await fetch(server, "/index.html", method=method)).status == 401
    for method in ("POST", "PUT", "DELETE"):
        assert (await get(server, target="/index.html", method=method)).status == 405


async def test_head(server):
    whole, head = await get(server), await get(server, method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(INJECTED)))
    for name in ("ETag", "Content-Type", "Cache-Control", "Accept-Ranges"):
        assert head.headers[name] == whole.headers[name]


# ---------------------------------------------------------------------------------------------------------------------
# Versions of the file


async def test_a_file_is_read_once_for_each_version(server, index, monkeypatch):
    loads = []

    def load(path, stamp, load=page._load):
        loads.append(path)
        return load(path, stamp)

    monkeypatch.setattr(page, "_load", load)
    etags = set()
    for version in (b"<head>one", b"<head>two, longer", b"<head>six"):
        new = index.with_suffix(".new")
        new.write_bytes(version)
        new.replace(index)
        for target in ("/", "/index.html", "/"):
            reply = await get(server, target=target)
            assert reply.body == version.replace(b"<head>", b"<head>" + TAG)
            etags.add(reply.headers["ETag"])
    assert (len(loads), len(etags)) == (3, 3)


async def test_a_file_that_is_written_over_is_seen(server, index):
    before = await get(server)
    index.write_bytes(PAGE.replace(b"x", b"y"))
    later = time.time_ns() + 10**9
    os.utime(index, ns=(later, later))
    after = await get(server, {"If-None-Match": before.headers["ETag"]})
    assert (after.status, after.body) == (200, inject_script(PAGE.replace(b"x", b"y")))


async def test_the_same_page_has_the_same_etag_after_a_restart(aiohttp_server, server, index):
    """So browsers needn't load it again after a restart or from a replica."""
    before = (await get(server)).headers["ETag"]
    os.utime(index)
    app = web.Application()
    setup(app, api_key=KEY, index=str(index))
    assert (await get(await aiohttp_server(app))).headers["ETag"] == before


async def test_a_missing_page(server, index):
    assert (await get(server)).status == 200
    index.unlink()
    reply = await get(server)
    assert (reply.status, str(index) in reply.text) == (404, False)
    assert (await fetch(server, "/")).status == 302, "without a key, nobody learns whether it exists"
    index.mkdir()
    assert (await get(server)).status == 404
    index.rmdir()
    index.write_bytes(PAGE)
    assert (await get(server)).body == INJECTED


# ---------------------------------------------------------------------------------------------------------------------
# Conditions (RFC 9110, section 13)


@pytest.mark.parametrize(("condition", "matches"), [
    ("{etag}", True),
    ("W/{etag}", True),
    ('"other", {etag}', True),
    ('"a,b",W/"c" ,{etag}', True),
    ("*", True),
    ('"other"', False),
    ('W/"other"', False),
    ("", False),
    ("junk", False),
    ("{etag}x", None),
])  # fmt: skip
async def test_if_none_match(server, condition, matches):
    etag = (await get(server)).headers["ETag"]
    for method in ("GET", "HEAD"):
        reply = await get(server, {"If-None-Match": condition.format(etag=etag)}, method=method)
        assert reply.status in (200, 304)
        if matches is not None:
            assert reply.status == (304 if matches else 200)
        if reply.status == 304:
            assert (reply.body, reply.headers["ETag"]) == (b"", etag)
            assert "no-cache" in reply.headers["Cache-Control"]
    assert (await fetch(server, "/", {"If-None-Match": etag})).status == 302, "not without a key"


# ---------------------------------------------------------------------------------------------------------------------
# Ranges (RFC 9110, section 14)

SIZE = len(INJECTED)


@pytest.mark.parametrize(("asked", "start", "stop"), [
    ("bytes=0-0", 0, 1),
    ("bytes=0-9", 0, 10),
    ("bytes=10-", 10, SIZE),
    ("bytes=-10", SIZE - 10, SIZE),
    ("bytes=0-", 0, SIZE),
    (f"bytes=0-{SIZE}", 0, SIZE),
    ("bytes=5-99999999999999999999", 5, SIZE),
    ("bytes=-99999", 0, SIZE),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
])  # fmt: skip
async def test_a_range(server, asked, start, stop):
    reply = await get(server, {"Range": asked})
    assert (reply.status, reply.body) == (206, INJECTED[start:stop])
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert reply.headers["Content-Length"] == str(stop - start)
    head = await get(server, {"Range": asked}, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(SIZE)), "ranges are for GET only"


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=99999-100000"])
async def test_a_range_outside_the_page(server, asked):
    reply = await get(server, {"Range": asked})
    assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize("asked", [
    "", "bytes", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=0--1",
])  # fmt: skip
async def test_a_range_that_is_none_is_ignored(server, asked):
    reply = await get(server, {"Range": asked})
    assert (reply.status, reply.body) == (200, INJECTED)
    assert "Content-Range" not in reply.headers


async def test_if_range(server):
    etag = (await get(server)).headers["ETag"]
    for condition, status in [
        (etag, 206),
        (f"W/{etag}", 200),
        ('"other"', 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("*", 200),
    ]:
        reply = await get(server, {"Range": "bytes=0-9", "If-Range": condition})
        assert (reply.status, reply.body) == (status, INJECTED[:10] if status == 206 else INJECTED), condition
    assert (await get(server, {"Range": "bytes=0-9", "If-None-Match": etag})).status == 304


# ---------------------------------------------------------------------------------------------------------------------
# Pages of all kinds


@pytest.mark.parametrize(("before", "after"), [
    (b"<html><HEAD data-x='>'>", b"<title>"),
    (b"<!-- <head> --><html><head>", b"</head>"),
    (b"", b"<script>'<head>'</script>"),
    (b"<html>", b"<body>no head"),
    (b"", b"only text"),
    (b"", b""),
    (b"\xef\xbb\xbf<!doctype html><head>", b"\xff\xfe\x00"),
])  # fmt: skip
async def test_where_the_script_goes(server, index, before, after):
    index.write_bytes(before + after)
    assert (await get(server)).body == before + TAG + after


async def test_a_page_of_20_megabytes(server, index):
    body = b"<!doctype html><head>" + b"<!-- x --> y " * (20 * 2**20 // 13)
    index.write_bytes(body)
    start = time.perf_counter()
    reply = await get(server)
    assert reply.body == body.replace(b"<head>", b"<head>" + TAG, 1)
    assert (await get(server, {"Range": "bytes=-5"})).body == body[-5:]
    assert (await get(server, {"If-None-Match": reply.headers["ETag"]})).status == 304
    assert time.perf_counter() - start < 5


HTML_PIECES = [
    b"<head>", b"<HEAD\n>", b"<head", b"<html>", b"<html lang='>'>", b"<!DOCTYPE html>", b"<!--", b"-->", b"<!-->",
    b"<script>", b"</script>", b"<body>", b"<header>", b" ", b"\n", b"'", b'"', b">", b"<", b"x", b"\0", b"\xff",
    b"\xef\xbb\xbf",
]  # fmt: skip
HTML = st.lists(st.sampled_from(HTML_PIECES), max_size=12).map(b"".join)


@given(HTML | st.binary(max_size=200))
@example(TAG)
def test_the_pages_bytes_are_otherwise_unchanged(body):
    """The tag is added once, and nothing else changes."""
    injected, other = inject_script(body), inject_script(body, "x.js")
    places = [at for at in range(len(body) + 1) if injected == body[:at] + TAG + body[at:]]
    assert places
    assert other in [body[:at] + TAG.replace(b"auth_inject", b"x") + body[at:] for at in places]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=HTML, start=st.integers(0, 300), length=st.integers(1, 300))
async def test_every_part_is_a_part_of_the_whole(server, index, body, start, length):
    new = index.with_suffix(".new")
    new.write_bytes(body)
    new.replace(index)
    whole = inject_script(body)
    assert (await get(server)).body == whole
    reply = await get(server, {"Range": f"bytes={start}-{start + length - 1}"})
    if start < len(whole):
        assert (reply.status, reply.body) == (206, whole[start : start + length])
    else:
        assert reply.status == 416


@pytest.mark.parametrize("source", ['x"y', "a&b", "<x", "x>"])
def test_a_source_that_would_break_the_tag_is_refused(source):
    with pytest.raises(ValueError, match="source: "):
        inject_script(PAGE, source)


async def test_without_index_the_page_is_somebody_elses(aiohttp_server):
    app = web.Application()
    setup(app, api_key=KEY)
    server = await aiohttp_server(app)
    assert (await get(server)).status == 404
    assert (await get(server, target="/index.html")).status == 404
