"""Strangers can't start a line of their own in any log: readers would believe it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Mapping

import pytest

from hostile.target import Target, statuses
from hostile.websockets import UPGRADE
from hostile.wire import barrage, request

#: Everything here tries to look like a log line about 203.0.113.77.
FORGED = "comfy-auth-rs: refused 203.0.113.77: GET /queue: locked"

#: Bytes that end a line for a program, a terminal or Python, percent-encoded. `TWICE` is for anything that decodes
#: twice.
SEPARATORS = ("%0A", "%0d%0a", "%0D", "%0b", "%0c", "%1c", "%1E", "%00", "%09", "%1b%5B2K", "%7f", "%C2%85", "%c2%9b",
              "%E2%80%A8", "%e2%80%a9")  # fmt: skip
TWICE = tuple(separator.replace("%", "%25") for separator in ("%0A", "%C2%85", "%E2%80%A8"))

#: Paths that ComfyUI or a custom node might log: exempt, known, unknown.
PLACES = ("/scripts/ui{}", "/scripts/ui/x{}.js", "/extensions/core/{}.js", "/extensions/{}", "/userdata/{}", "/queue{}",
          "/userdata/a/move/{}", "/nothing/{}.json", "/api/{}",
          "/docs/{}", "/templates/{}", "/{}", "//{}", "/key/{}/queue")  # fmt: skip
IDS = ("/ws?clientId={}", "/api/ws?clientId={}", "/ws?a=b&client%49d={}&c=d", "/ws?clientId=x&clientId={}",
       "/ws?clientId={}#x", "/queue?clientId={}")  # fmt: skip

QUOTED = FORGED.replace(" ", "%20")


def attacks(*fields: str) -> Mapping[str, bytes]:
    targets = [
        place.format(f"a{separator}{QUOTED}{separator}b")
        for separator in (*SEPARATORS, *TWICE)
        for place in (*PLACES, *IDS)
    ]
    kinds = [("GET", ()), ("POST", ("Content-Length: 0",)), ("OPTIONS", (PREFLIGHT,))]
    return {
        f"{method} {target}": request(f"{method} {target}", *others, *(UPGRADE if "/ws" in target else ()), *fields)
        for target, (method, others) in zip(targets, itertools.cycle(kinds), strict=False)
    } | {
        f"GET {target}": request(f"GET {target}", *fields, *(UPGRADE if "/ws" in target else ())) for target in targets
    }


#: Not percent-encoded. aiohttp's parsers refuse most of them.
RAW = {
    f"{name} {place}": request(b"GET " + place.encode().replace(b"{}", raw + QUOTED.encode()))
    for name, raw in {
        "NEL": b"\xc2\x85",
        "U+2028": b"\xe2\x80\xa8",
        "not UTF-8": b"\xff",
        "DEL": b"\x7f",
        "VT": b"\x0b",
    }.items()
    for place in ("/scripts/ui{}", "/ws?clientId={}", "/queue?{}")
}

PREFLIGHT = "Access-Control-Request-Method: GET"

#: Fields that ComfyUI, aiohttp or we may quote.
FIELDS = {
    f"{field} {name} {line} {host}": request(line, PREFLIGHT, field + b": " + value % FORGED.encode(), host=host)
    for name, value in {"NEL": b"x\xc2\x85%s", "U+2028": b"http://x\xe2\x80\xa8%s", "ASCII": b"http://%s"}.items()
    for field in (b"Origin", b"Referer", b"User-Agent", b"X-Forwarded-For", b"X-API-Key", b"Cookie", b"Sec-Fetch-Site")
    for line in (
        b"GET /index.html",
        b"GET /assets/x.js",
        b"GET /queue",
        b"GET /ws",
        b"GET /health",
        b"GET /extensions/core/x.js",
        b"OPTIONS /queue",
    )
    for host in (b"127.0.0.1", b"localhost:1\xc2\x85" + FORGED.encode())
}


def forged_lines(output: str) -> list[str]:
    """The forged lines. `splitlines` knows every end of a line. ComfyUI 0.33 puts colours and the level in front."""
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in output.splitlines()]
    return [line for line in lines if re.match(r"\s*(\[\w+\] )?comfy-auth-rs: refused 203", line)]


def answered(target: Target, sent: Mapping[str, bytes], network: int) -> dict[str, bytes]:
    """Sends all of them, and waits until the log is quiet."""
    answers = asyncio.run(
        barrage(target.server.port, {name: target.fill(data) for name, data in sent.items()}, network)
    )
    before = None
    while before != (before := len(target.server.output)):
        time.sleep(0.2)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("fields", [(), ("X-API-Key: @KEY@",), ("Cookie: @COOKIE@",), ("X-API-Key: wrong",)])
def test_no_address_begins_a_line(target: Target, fields: tuple[str, ...]) -> None:
    answers = answered(target, attacks(*fields), 180)
    assert {name: answer[:200] for name, answer in answers.items() if statuses(answer) != [400]} == {}
    causes = [json.loads(answer.partition(b"\r\n\r\n")[2])["cause"] for answer in answers.values()]
    assert set(causes) == {"control_character"}
    assert forged_lines(target.server.output) == []
    assert "203.0.113.77" in target.server.output, "our own line shows the path, encoded"


@pytest.mark.slow
def test_no_other_byte_or_field_begins_a_line(target: Target) -> None:
    answers = answered(target, {**RAW, **FIELDS}, 181)
    failed = [name for name, answer in answers.items() if any(status in (101, 500) for status in statuses(answer))]
    # ComfyUI itself fails if an Origin's port isn't a number, before it asks us.
    assert [name for name in failed if not name.startswith("b'Origin' ASCII")] == []
    assert forged_lines(target.server.output) == []


@pytest.mark.slow
def test_what_decodes_to_nothing_of_the_kind_is_served(target: Target) -> None:
    sent = {
        path: request(f"GET {path}", "X-API-Key: @KEY@")
        for path in ("/canary/a%20b%25%C3%A9", "/canary/%ff%c0%8a", "/canary/%25ff", "/canary/x?y=%0A&z=%00")
    }
    answers = answered(target, sent, 182)
    assert {name: statuses(answer) for name, answer in answers.items()} == {name: [200] for name in sent}
