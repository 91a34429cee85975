"""Which addresses `--auth-state` takes, and that their secrets are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.store.address import Address, has_credentials, parse, without_credentials
from hypothesis import given
from hypothesis import strategies as st

TLS = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("memory", None),
        ("state.sqlite3", Path("state.sqlite3")),
        ("C:\\state", Path("C:\\state")),
        ("valkey://host", Address("server", (("host", 6379),))),
        ("VALKEY://host", Address("server", (("host", 6379),))),
        ("redis://10.0.0.1:6380/2", Address("server", (("10.0.0.1", 6380),), db=2)),
        ("redis://h?db=3", Address("server", (("h", 6379),), db=3)),
        ("valkey://[fd00::1]:7", Address("server", (("fd00::1", 7),))),
        ("valkey://:p%40ss@h", Address("server", (("h", 6379),), password="p@ss")),
        ("valkey://me:pw@h", Address("server", (("h", 6379),), username="me", password="pw")),
        ("valkey://h?username=me&password=a%26b", Address("server", (("h", 6379),), username="me", password="a&b")),
        ("rediss://h", Address("server", (("h", 6379),), tls=TLS)),
        ("valkeys://h?ssl_ca_certs=/c.pem", Address("server", (("h", 6379),), tls={**TLS, "ssl_ca_certs": "/c.pem"})),
        (
            "valkeys://h?ssl_check_hostname=false&ssl_certfile=/c&ssl_keyfile=/k&ssl_password=pw",
            Address(
                "server",
                (("h", 6379),),
                tls={
                    "ssl_cert_reqs": "required",
                    "ssl_check_hostname": False,
                    "ssl_certfile": "/c",
                    "ssl_keyfile": "/k",
                    "ssl_password": "pw",
                },
            ),
        ),
        (
            "valkeys://h?ssl_cert_reqs=none",
            Address("server", (("h", 6379),), tls={"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ),
        ("unix:///run/valkey.sock?db=1", Address("socket", name="/run/valkey.sock", db=1)),
        ("unix://me:pw@/run/v.sock", Address("socket", name="/run/v.sock", username="me", password="pw")),
        (
            "valkey+sentinel://me:pw@a,b:5000/mine/3?sentinel_password=x",
            Address("sentinel", (("a", 26379), ("b", 5000)), "mine", 3, "me", "pw", None, "x"),
        ),
        ("valkeys+sentinel://a/mine", Address("sentinel", (("a", 26379),), "mine", tls=TLS)),
        ("redis+cluster://a:1,b:2", Address("cluster", (("a", 1), ("b", 2)))),
    ],
)
def test_what_it_names(state: str, expected: Address | Path | None) -> None:
    assert parse(state) == expected


@pytest.mark.parametrize(
    "state",
    ["valkey:/:PW@h", "valkey:PW@h", "redis:/u:PW%40h/0", "valkey://u:PW%40h", "valkey://u:PW", "rediss:u:PW",
     "valkey://h/0&password=PW", "valkey://h,u:PW/0", "http://u:PW", "VALKEY+sentinel:PW@h/s"],
)  # fmt: skip
def test_what_is_mistyped_shows_no_password(state: str) -> None:
    for password in ("a-canary", "123456", "0x_~"):
        typed = state.replace("PW", password)
        with pytest.raises(SettingError) as told:
            parse(typed)
        for shown in (str(told.value), told.value.detail, without_credentials(typed)):
            assert password not in shown
        assert has_credentials(typed)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("http://h", "unknown kind of store"),
        ("sqlite:///x", "unknown kind of store"),
        ("valkey://", "the host or port is missing"),
        ("valkey://h:0", "the host or port is missing"),
        ("valkey://h:70000", "the host or port is missing"),
        ("valkey://:canary/word@h", "percent-encode"),
        ("valkey://h/first", "the database must be a number"),
        ("valkey://a,b", "several hosts need"),
        ("valkey://h?canary=1", "unknown option after the question mark"),
        ("valkey://h?socket_timeout=1000", "unknown option after the question mark"),
        ("valkey://h?password=canary&password=canary", "password= is given twice"),
        ("valkey://h?ssl_ca_certs=/x", "write valkeys:// or rediss://"),
        ("valkeys://h?ssl_cert_reqs=maybe", "ssl_cert_reqs= takes one of none, optional, required"),
        ("valkeys://h?ssl_check_hostname=maybe", "takes true or false"),
        ("unix://", "the path of the socket is missing"),
        ("unix://h/run", "the path of the socket is missing"),
        ("valkey+sentinel://a", "the service name is missing"),
        ("valkey+cluster://a/1", "a cluster has no numbered databases"),
        ("valkey://[redacted]@h", "the user name and password were removed"),
    ],
)
def test_what_is_refused(state: str, words: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse(state)
    assert refused.value.setting == "state"
    assert words in str(refused.value)
    assert "canary" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("memory", "memory"),
        ("/var/a@b", "/var/a@b"),
        ("valkey://host:1/2", "valkey://host:1/2"),
        ("valkeys://h?ssl_ca_certs=/c.pem", "valkeys://h?ssl_ca_certs=/c.pem"),
        ("valkey://canary@h", "valkey://[redacted]@h"),
        ("valkey://me:canary@h:1/2", "valkey://[redacted]@h:1/2"),
        ("unix:///v.sock?password=canary", "unix:///v.sock?[redacted]"),
        ("valkey+sentinel://a,b/mine?sentinel_password=canary", "valkey+sentinel://a,b/mine?[redacted]"),
        ("valkey://h?password=canary@canary", "valkey://[redacted]"),
    ],
)
def test_what_is_shown(state: str, shown: str) -> None:
    assert without_credentials(state) == shown
    assert has_credentials(state) is (shown != state)


ANYTHING = st.text(max_size=12)


@given(ANYTHING, ANYTHING, ANYTHING, st.sampled_from(["", "?db=1", "?password=canary", "/2"]))
def test_a_password_is_never_shown(user: str, before: str, after: str, rest: str) -> None:
    state = f"valkey://{user}:{before}canary{after}@host{rest}"
    assert "canary" not in without_credentials(state)
    try:
        assert "canary" not in repr(parse(state))
    except SettingError as refused:
        assert "canary" not in str(refused)
