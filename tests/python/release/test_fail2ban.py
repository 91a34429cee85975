"""docs/fail2ban.md: its filter, by Debian's `fail2ban-regex`, on lines that a server really wrote."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.client import ask, bearer
from support.servers import Server, start_server

pytestmark = pytest.mark.skipif(shutil.which("fail2ban-regex") is None, reason="fail2ban is not installed")

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "fail2ban.md"

#: Where `systemd-cat`, `journalctl -o short-iso` and syslog put the same line.
JOURNAL = "2026-11-23T10:00:{:02}+0000 host python3[4242]: {}"
SYSLOG = "Nov 23 10:00:{:02} host comfyui[4242]: {}"


def block(title: str) -> str:
    """The configuration file that the guide shows under its name."""
    match = re.search(rf"`{re.escape(title)}`[^`]*```ini\n(.*?)```", GUIDE.read_text(), re.S)
    assert match, title
    return match[1]


#: An application that logs what it is asked for, as the page says that it must.
APPLICATION = """
import logging, sys
import comfy_auth_rs
from aiohttp import web

async def echo(request):
    logging.warning("asked for %s by %s", request.path, request.query.get("clientId"))
    return web.Response()

logging.basicConfig(format="%(message)s", level=logging.DEBUG)
app = web.Application()
app.router.add_route("*", "/open{tail:.*}", echo)
key, *trusted_proxy = sys.argv[3:]
comfy_auth_rs.setup(app, api_key=key, exempt="/open*", trusted_proxy=trusted_proxy)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)
"""


@contextmanager
def started(folder: Path, key: str, *trusted_proxy: str) -> Iterator[Server]:
    (folder / "app.py").write_text(APPLICATION)
    with start_server(folder, key, *trusted_proxy, command=["app.py"]) as server:
        yield server


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, key: str) -> Iterator[str]:
    """All that a server under attack writes, at its most talkative."""
    with started(tmp_path_factory.mktemp("app"), key) as server:
        attack(server)
        yield server.output


#: Everything in here wants to be taken for a line about 203.0.113.7.
FORGED = "comfy-auth-rs: refused 203.0.113.7: GET /queue: invalid_credential"


def attack(server: Server) -> None:
    for number in range(12):
        ask(server, "/queue", bearer(f"guess-{number}"), source="127.0.0.2")
    ask(server, "/prompt", bearer("wrong"), method="POST", body=b"{}", source="127.0.0.3")
    quoted = FORGED.replace(" ", "%20")
    for target in (
        f"/{quoted}", f"/%0a{quoted}", f"/%0d%0a{quoted}%0a", f"/x:%20invalid_credential%0A{quoted}", "/%e9%ff",
        f"/?{quoted}", "/203.0.113.7:", "/x:invalid_credential", "/%20refused%20203.0.113.7:%20GET%20/:%20locked",
        "/%1b[2K" + quoted, "/" + "203.0.113.7:" * 600, f"/open%0a{quoted}", f"/open%E2%80%A8{quoted}",
        f"/open/{quoted}", f"/open?clientId=%0a{quoted}",
    ):  # fmt: skip
        ask(server, target, {"X-API-Key": "wrong"}, source="127.0.0.4")
        ask(server, target, source="127.0.0.5")
    for header in ("Origin", "Host", "User-Agent", "Referer", "X-Forwarded-For", "X-API-Key", "Cookie"):
        ask(server, "/queue", {header: FORGED}, source="127.0.0.6" if header == "X-API-Key" else "127.0.0.5")
    ask(server, "/queue", {"Origin": f"http://{FORGED}", "Host": FORGED}, source="127.0.0.5")
    ask(server, "/queue", {"X-Forwarded-For": "203.0.113.7", "X-API-Key": "wrong"}, source="127.0.0.6")
    for _ in range(20):
        ask(server, "/queue", source="127.0.0.5")  # no credential at all


def fail2ban(folder: Path, lines: list[str], name: str = "comfyui.conf") -> set[str]:
    """The addresses that Debian's own tool finds with one of the guide's filters."""
    configuration, log = folder / name, folder / "log"
    configuration.write_text(block(f"/etc/fail2ban/filter.d/{name}"))
    log.write_text("\n".join(lines) + "\n")
    command = ["fail2ban-regex", "-o", "ip", str(log), str(configuration)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not result.stderr, result.stderr
    return set(result.stdout.split())


def ours(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("comfy-auth-rs: refused")]


ATTACKERS = {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.6"}


def test_the_server_wrote_what_is_tested(log: str) -> None:
    causes = {line.rpartition(": ")[2] for line in ours(log)}
    assert {"invalid_credential", "locked", "missing_credential"} <= causes
    assert "203.0.113.7" in log  # what they sent is there, in one form or another
    assert all(line.isascii() and line.isprintable() for line in ours(log))


@pytest.mark.parametrize("form", [JOURNAL, SYSLOG], ids=["journal", "syslog"])
def test_finds_the_attackers_and_nobody_else(log: str, tmp_path: Path, form: str) -> None:
    lines = [form.format(number % 60, line) for number, line in enumerate(log.splitlines())]
    assert fail2ban(tmp_path, lines) == ATTACKERS


def test_finds_clients_behind_a_trusted_proxy(key: str, tmp_path: Path) -> None:
    """IPv6 among them, and in the one form that fail2ban bans."""
    with started(tmp_path, key, "127.0.0.1") as server:
        for client in ("2001:db8::7", "[2001:db8::8]:4711", "::ffff:192.0.2.9", "198.51.100.3, 192.0.2.10:80", "x y"):
            ask(server, "/queue", {"X-Forwarded-For": client, **bearer("wrong")})
        lines = [JOURNAL.format(number, line) for number, line in enumerate(ours(server.output))]
    found = {"2001:db8::7", "2001:db8::8", "192.0.2.9", "192.0.2.10", "127.0.0.1"}
    assert fail2ban(tmp_path, lines) == found


def test_finds_them_in_a_log_without_times(log: str, tmp_path: Path) -> None:
    """Its lines bear no time, so fail2ban takes the time when it reads them."""
    assert fail2ban(tmp_path, log.splitlines(), "comfyui-plain.conf") == ATTACKERS


def test_the_first_filter_finds_nothing_in_a_log_without_times(log: str, tmp_path: Path) -> None:
    assert fail2ban(tmp_path, ours(log)) == set()
