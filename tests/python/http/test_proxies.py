"""Behind proxies: whose address counts, which pages are our own, and what the log says if a setting is missing."""

from __future__ import annotations

import logging
import sys

import pytest
from comfy_auth_rs import setup
from support.apps import secret_app
from support.client import BEARER, UPGRADE, bearer, fetch
from support.keys import KEY, OTHER_KEY

SECOND, THIRD = "127.0.0.2", "127.0.0.3"
several_addresses = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")

POD = "https://pod.example"
GATEWAY = {"Host": "100.65.18.228:8188", "Origin": POD}


@pytest.fixture
def start(aiohttp_server):
    async def start(**given):
        app = secret_app()
        setup(app, **{"api_key": [KEY, OTHER_KEY], **given})
        return await aiohttp_server(app)

    return start


@pytest.fixture
def notices(caplog):
    """The lines that tell the operator what to change."""

    def take():
        texts = [record.getMessage() for record in caplog.records if record.name == "comfy_auth_rs"]
        return [text for text in texts if "refused 1" not in text and "suppressed" not in text]

    caplog.set_level(logging.DEBUG, "comfy_auth_rs")
    return take


# ---------------------------------------------------------------------------------------------------------------------
# The client's address

#: What a client claims: another address each time, in every field that exists.
CLAIMS = {
    "X-Forwarded-For": "198.51.100.{}",
    "Forwarded": 'for="198.51.100.{}:80"',
    "X-Real-IP": "198.51.100.{}",
    "CF-Connecting-IP": "198.51.100.{}",
    "True-Client-IP": "198.51.100.{}",
}


def through_proxy(field, client, number=0):
    """The fields of a request after a proxy set `field` to the client's address and passed on the rest."""
    claims = {name: claim.format(number) for name, claim in CLAIMS.items()}
    return {**claims, field: f"for={client}" if field == "Forwarded" else client}


@pytest.mark.parametrize("field", CLAIMS)
async def test_a_client_cannot_change_its_address(start, field):
    server = await start(trusted_proxy="127.0.0.1", client_field=field)
    for number in range(10):
        headers = {**through_proxy(field, "192.0.2.1", number), **bearer(f"wrong-{number}")}
        assert (await fetch(server, headers=headers)).status == 401
    for number in range(3):
        for client, status in (("192.0.2.1", 429), ("192.0.2.2", 401)):
            headers = {**through_proxy(field, client, number), **bearer("one more")}
            assert (await fetch(server, headers=headers)).status == status


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_what_a_proxy_adds_counts_whatever_is_in_front(start, field):
    server = await start(trusted_proxy="127.0.0.1", client_field=field)
    mine = 'for="192.0.2.1:4711";proto=https' if field == "Forwarded" else "192.0.2.1:4711"
    for number, spoofed in enumerate(
        ["198.51.100.1", "for=198.51.100.1", 'for="', 'for="\\', '"', '";', "unknown", "for=_x", ",", "\\"]
    ):
        fields = [(field, spoofed), (field, mine)] if number % 2 else [(field, f"{spoofed}, {mine}")]
        assert (await fetch(server, headers=[*fields, *bearer(f"wrong-{number}").items()])).status == 401
    assert (await fetch(server, headers=[(field, mine), *bearer("one more").items()])).status == 429


async def test_the_name_of_the_field_is_told_in_any_case(start):
    server = await start(trusted_proxy="127.0.0.1", client_field="x-real-ip")
    for number in range(10):
        await fetch(server, headers={"X-Real-IP": "192.0.2.1", **bearer(f"wrong-{number}")})
    one_more = bearer("one more")
    assert (await fetch(server, headers={"X-REAL-IP": "192.0.2.1", **one_more})).status == 429
    assert (await fetch(server, headers={"X-Forwarded-For": "192.0.2.1", **one_more})).status == 401


@several_addresses
async def test_nobody_else_is_asked_for_it(start):
    server = await start(trusted_proxy=SECOND, client_field="X-Real-IP")
    for number in range(10):
        headers = {**through_proxy("X-Real-IP", f"192.0.2.{number}"), **bearer(f"wrong-{number}")}
        assert (await fetch(server, headers=headers, source=THIRD)).status == 401
    headers = through_proxy("X-Real-IP", "192.0.2.99") | bearer("one more")
    assert (await fetch(server, headers=headers, source=THIRD)).status == 429


# ---------------------------------------------------------------------------------------------------------------------
# Own pages


async def log_in(server, **headers):
    reply = await fetch(server, "/auth_session", {**BEARER, **headers}, method="POST", body=b"")
    assert reply.status == 204
    return {"Cookie": reply.headers["Set-Cookie"].split(";")[0]}


@pytest.mark.parametrize(("settings", "fields", "own"), [
    ({}, {}, False),
    ({"origin": POD}, {}, True),
    ({"origin": ["http://a.example", "HTTPS://POD.EXAMPLE:443"]}, {}, True),
    ({"origin": "http://pod.example"}, {}, False),
    ({"origin": "https://pod.example:8443"}, {}, False),
    ({}, {"X-Forwarded-Host": "pod.example"}, False),
    ({"trusted_proxy": "10.0.0.0/8"}, {"X-Forwarded-Host": "pod.example"}, False),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Host": "pod.example"}, True),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Host": "pod.example, 100.65.18.228:8188"}, True),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Host": "pod.example:8443"}, False),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Host": "pod.example", "X-Forwarded-Proto": "https"}, True),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Host": "pod.example", "X-Forwarded-Proto": "http"}, False),
    ({"trusted_proxy": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, False),
    ({"trusted_proxy": "127.0.0.1"}, {}, False),
])  # fmt: skip
async def test_pages_behind_a_gateway_that_changes_the_host(start, settings, fields, own):
    server = await start(**settings)
    cookie = await log_in(server, Host=GATEWAY["Host"], **fields)
    headers = {**cookie, **GATEWAY, **fields}
    for reply in (
        await fetch(server, "/prompt", headers, method="POST"),
        await fetch(server, headers=headers | UPGRADE),
    ):
        assert reply.status == (200 if own else 403)
        assert own or reply.json["cause"] == "cross_origin"


@pytest.mark.parametrize(("fields", "name"), [
    ({"Host": "h:8188", "X-Forwarded-Host": "pod.example"}, "comfyui_session"),
    ({"Host": "h:8188", "X-Forwarded-Host": "pod.example:8443"}, "comfyui_session_8443"),
    ({"Host": "h:8188", "X-Forwarded-Host": "pod.example:8443, h:8188"}, "comfyui_session_8443"),
    ({"Host": "h:8188", "X-Forwarded-Host": "[::1]"}, "comfyui_session"),
    ({"Host": "h:8188"}, "comfyui_session_8188"),
    ({"Host": "h:8188", "X-Forwarded-Port": "9"}, "comfyui_session_8188"),
])  # fmt: skip
async def test_the_cookie_is_named_for_the_port_that_the_browser_used(start, fields, name):
    for settings, expected in (({"trusted_proxy": "127.0.0.1"}, name), ({}, "comfyui_session_8188")):
        server = await start(**settings)
        cookie = await log_in(server, **fields)
        assert cookie["Cookie"].split("=")[0] == expected
        assert (await fetch(server, headers={**cookie, **fields})).status == 200


async def test_a_log_in_from_a_named_origin(start):
    server = await start(origin=POD)
    form = {"Host": "100.65.18.228:8188", "Content-Type": "application/x-www-form-urlencoded"}
    for origin, status in ((POD, 303), ("https://evil.example", 403)):
        reply = await fetch(
            server, "/auth_session", {**form, "Origin": origin}, method="POST", body=f"api_key={KEY}".encode()
        )
        assert reply.status == status


# ---------------------------------------------------------------------------------------------------------------------
# Log lines, once each


async def test_an_unnamed_proxy_leaves_one_line(start, notices):
    server = await start()
    await fetch(server, headers=BEARER)
    await fetch(server)
    assert notices() == []
    for field in [*CLAIMS][:4]:
        await fetch(server, headers={field: "192.0.2.1", **bearer("wrong")})
        await fetch(server, headers={field: "192.0.2.1", **bearer(OTHER_KEY)})
    [line] = notices()
    assert "127.0.0.1 forwards requests of other clients, but is not a trusted proxy" in line
    assert "--auth-trusted-proxy 127.0.0.1" in line
    assert "--auth-client-field" in line


@pytest.mark.parametrize("field", [*CLAIMS][:4])
async def test_each_field_gives_a_proxy_away(start, notices, field):
    server = await start(trusted_proxy="10.0.0.0/8")
    await fetch(server, headers={field: "192.0.2.1", **BEARER})
    assert len(notices()) == 1


async def test_so_does_the_one_that_is_set(start, notices):
    server = await start(trusted_proxy="10.0.0.0/8", client_field="X-Our-Client")
    await fetch(server, headers={"X-Our-Client": "192.0.2.1"})
    assert len(notices()) == 1


async def test_a_trusted_proxy_that_names_no_client_leaves_one_line(start, notices):
    server = await start(trusted_proxy="127.0.0.1", client_field="X-Real-IP")
    for _ in range(3):
        await fetch(server, headers={"X-Forwarded-For": "192.0.2.1", **BEARER})
    [line] = notices()
    assert "the trusted proxy 127.0.0.1 doesn't name the client in X-Real-IP" in line
    assert "--auth-client-field" in line


@pytest.mark.parametrize(
    ("field", "value"), [("Forwarded", "for=unknown"), ("Forwarded", "for=_hidden"), ("X-Real-IP", "-")]
)
async def test_neither_does_one_that_hides_it(start, notices, field, value):
    server = await start(trusted_proxy="127.0.0.1", client_field=field)
    await fetch(server, headers={field: value, **BEARER})
    assert len(notices()) == 1


async def test_a_proxy_that_names_its_clients_leaves_none(start, notices):
    server = await start(trusted_proxy="127.0.0.1", client_field="X-Real-IP")
    await fetch(server, headers={"X-Real-IP": "192.0.2.1", **BEARER})
    await fetch(server, headers=BEARER)  # a program on the proxy's machine
    assert notices() == []


async def test_the_first_page_that_is_refused_leaves_one_line(start, notices):
    server = await start()
    cookie = await log_in(server, Host=GATEWAY["Host"])
    await fetch(server, headers={**cookie, "Host": GATEWAY["Host"], "Sec-Fetch-Site": "cross-site"}, method="POST")
    await fetch(server, headers={**cookie, "Host": GATEWAY["Host"], "Origin": "null"}, method="POST")
    assert notices() == [], "a page without an address is not one that people open"
    for origin in (POD, "https://another.example"):
        await fetch(server, headers={**cookie, **GATEWAY, "Origin": origin}, method="POST")
    [line] = notices()
    assert "a page from https://pod.example was refused, because its request was for 100.65.18.228:8188." in line
    for remedy in ("--auth-origin https://pod.example", "Host $http_host", "X-Forwarded-Host", "--auth-trusted-proxy"):
        assert remedy in line


async def test_its_line_tells_the_scheme_where_it_is_known(start, notices):
    server = await start(trusted_proxy="127.0.0.1")
    fields = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "pod.example", "X-Forwarded-For": "192.0.2.1"}
    cookie = await log_in(server, **fields)
    await fetch(server, headers={**cookie, **fields, "Origin": POD}, method="POST")
    [line] = notices()
    assert "a page from https://pod.example was refused, because its request was for http://pod.example." in line


async def test_nobody_writes_the_line_as_they_like(start, notices):
    """It quotes what a client calls itself and us, but only letters, digits and a few signs."""
    server = await start()
    forged = "comfy-auth-rs: refused 203.0.113.9: GET /: locked"
    hostile = ["https://a b", f"https://{forged}", "https://a\x1b[31m", "https://%0a", "https://a/$(x)"]
    for origin in hostile:
        await fetch(server, "/auth_session", {"Origin": origin}, method="POST", body=b"")
        cookie = await log_in(server)
        await fetch(server, headers={**cookie, "Origin": origin}, method="POST")
    assert notices() == []
    cookie = await log_in(server, Host="x")
    await fetch(server, headers={**cookie, "Origin": "https://a.example", "Host": forged}, method="POST")
    [line] = notices()
    assert "a page from https://a.example was refused, because its request was for no host." in line
