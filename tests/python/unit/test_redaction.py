"""Keys never appear in exceptions, reprs or the access log."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy_auth_rs
import pytest
from aiohttp import web
from comfy_auth_rs._core import REDACTED
from comfy_auth_rs.access_log import without_credentials
from comfy_auth_rs.arguments import without_values
from hypothesis import given
from hypothesis import strategies as st
from support.canary import is_silent
from support.keys import CANARY, KEY


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


def test_an_access_log_line_is_one_line() -> None:
    agent = "x\x85comfy-auth-rs: refused\u2028y\x1b[2K\udcff\n"
    record = logging.LogRecord("aiohttp.access", logging.INFO, "", 0, '"GET /é" "%s"', (agent,), None)
    record.request_header = {"User-Agent": agent}
    assert without_credentials(record)
    escaped = r"x\x85comfy-auth-rs: refused\u2028y\x1b[2K\udcff\n"
    assert record.getMessage() == f'"GET /é" "{escaped}"'
    assert record.request_header == {"User-Agent": escaped}


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


# ---------------------------------------------------------------------------------------------------------------------
# argparse's error messages


@pytest.mark.parametrize(
    ("words", "message", "hidden"),
    [
        (["--port", "secret"], "argument --port: invalid int value: 'secret'", "invalid int value: '[redacted]'"),
        (["--key=secret", "x"], "unrecognized arguments: --key=secret x", "unrecognized arguments: --key=[redacted] x"),
        (["-ksecret"], "unrecognized arguments: -ksecret", "unrecognized arguments: [redacted]"),
        (["--Kx9-secret"], "unrecognized arguments: --Kx9-secret", "unrecognized arguments: [redacted]"),
        (["--foo", 'it\'s\n"secret"'], "invalid: " + repr('it\'s\n"secret"'), None),
        (["--port", "80800"], "80800 is not a port", "80800 is not a port"),
        (["--port"], "argument --port: expected one argument", "argument --port: expected one argument"),
    ],
)
def test_what_argparse_says(words, message, hidden):
    found = without_values(message, words)
    assert "secret" not in found
    assert found.startswith("argument --port") or hidden is None or found.startswith(hidden)
    assert (hidden or REDACTED) in found
    assert found == message or found.endswith("because they may be keys)")
