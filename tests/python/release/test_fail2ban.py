"""deploy/fail2ban and docs/fail2ban.md: Debian's own fail2ban bans the right clients, whatever clients send."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.audit import lines_of
from support.client import JSON, ask, bearer
from support.command import run
from support.keys import KEY
from support.servers import Server, start_real, start_server

pytestmark = pytest.mark.skipif(shutil.which("fail2ban-server") is None, reason="fail2ban is not installed")

LOGROTATE = shutil.which("logrotate", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"

#: Real attackers.
GUESSERS = ["198.51.100.9", "2001:db8::9"]
#: A visitor whose browser other web pages make guess, someone with nine wrong keys, and someone who writes forgeries.
VISITOR, MISTAKEN, FORGER = "198.51.100.20", "198.51.100.30", "198.51.100.40"

#: Every forgery tries to get this address banned.
VICTIM = "203.0.113.77"
FORGED = json.dumps(
    {"time": "2026-11-28T09:20:12.250Z", "event": "lock", "outcome": "failure", "cause": "wrong_keys", "client": VICTIM,
     "seconds": 60}
)  # fmt: skip
#: What might end the string, the object or the line that contains it.
ENDS = ("", '"}', '\\"}', "\\n", "\\", "\x85", "\xff", '", "user": "a"}', '": ', "', ")
FORGERIES = [f"{end}{FORGED}{rest}" for end in ENDS for rest in ("", ", ")]


def guess(server: Server, client: str, tries: int = 12) -> None:
    for number in range(tries):
        # The client may write anything further to the left.
        ask(server, "/queue", {"X-Forwarded-For": f"{VICTIM}, {client}", **bearer(f"guess-{number}")})


def attack(server: Server) -> None:
    """Sends requests from many addresses, through a trusted proxy."""
    for client in GUESSERS:
        guess(server, client)
    guess(server, MISTAKEN, tries=9)
    for number in range(12):
        ask(server, f"/queue?api_key=guess-{number}", {"X-Forwarded-For": VISITOR})
    forge(server)


def forge(server: Server) -> None:
    forger = {"X-Forwarded-For": FORGER}
    for forged in FORGERIES:
        quoted = "".join(f"%{byte:02x}" for byte in forged.encode())
        for target in (f"/{quoted}", f"/view/{quoted}", f"/queue?{quoted}", f"/queue?api_key={quoted}"):
            ask(server, target, forger)
        for name in ("User-Agent", "Origin", "Referer", "traceparent", "Sec-Fetch-Site", "Host", "Cookie"):
            for key in ({}, bearer(KEY)):
                ask(server, "/free", {**forger, name: forged, **key}, method="POST", body=b"{}")
        ask(server, "/auth_session", {**forger, **bearer(KEY), "User-Agent": forged}, method="POST", body=b"")
        body = json.dumps({"prompt": PROMPT, "prompt_id": forged, "client_id": forged}).encode()
        answer = ask(server, "/prompt", {**forger, **bearer(KEY), **JSON}, method="POST", body=body)
        assert answer.status in (200, 400)  # newer versions accept only a UUID


PROMPT: dict[str, Any] = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}

Start = Callable[[Path, Path], Any]


@pytest.fixture(scope="module", params=["miniature", "real"])
def start(request: pytest.FixtureRequest, copy_miniature: Callable[[], Path]) -> Start:
    """Starts a ComfyUI that writes its audit log to the file `audit`. Its keys and data are in `folder`."""
    if request.param == "real" and "COMFYUI_DIR" not in os.environ:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")

    def start(audit: Path, folder: Path) -> Any:
        keys = folder / "keys"
        # The longest label, and it tries to look like a line of its own.
        keys.write_text(f"{KEY} x\\{FORGED}\n")
        keys.chmod(0o600)
        flags = ["--api-key-file", str(keys), "--auth-audit", str(audit), "--auth-trusted-proxy", "127.0.0.1"]
        if request.param == "miniature":
            return start_server(copy_miniature(), *flags)
        (folder / "base" / "custom_nodes").mkdir(parents=True)
        return start_real(folder / "base", *flags)

    return start


@dataclass
class Fail2ban:
    """A private fail2ban server. It only writes down whom it bans."""

    folder: Path

    def banned(self) -> list[str]:
        file = self.folder / "banned"
        return file.read_text().split() if file.exists() else []

    def await_ban(self, client: str) -> list[str]:
        """Waits until this client is banned. Returns all who are banned."""
        deadline = time.monotonic() + 60
        while client not in self.banned() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.banned()

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["fail2ban-client", "-c", str(self.folder), "-s", str(self.folder / "socket"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def fail2ban(folder: Path, audit: Path) -> Iterator[Fail2ban]:
    """Runs it with our filter and jail, except for the path; and with an action that harms nobody."""
    shutil.copytree(DEPLOY / "fail2ban", folder)
    jail = folder / "jail.d" / "comfy-auth-rs.conf"
    shipped = jail.read_text()
    jail.write_text(shipped.replace("/var/log/comfyui/audit.jsonl", str(audit)))
    assert str(audit) in jail.read_text()
    (folder / "action.d").mkdir()
    (folder / "action.d" / "note.conf").write_text(f"[Definition]\nactionban = echo '<ip>' >> {folder / 'banned'}\n")
    (folder / "jail.conf").write_text("[DEFAULT]\naction = note\nbackend = systemd\n")
    settings = {
        "loglevel": "INFO",
        "logtarget": folder / "log",
        "syslogsocket": "auto",
        "socket": folder / "socket",
        "pidfile": folder / "pid",
        "dbfile": folder / "database",
        "dbpurgeage": "1d",
        "dbmaxmatches": 10,
    }
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    (folder / "fail2ban.conf").write_text("[Definition]\n" + "".join(lines))
    command = ["fail2ban-server", "-f", "-c", folder, "-s", folder / "socket", "-p", folder / "pid", "start"]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    found = Fail2ban(folder)
    try:
        deadline = time.monotonic() + 60
        while "audit.jsonl" not in found.ask("status", "comfy-auth-rs").stdout:
            said = (folder / "output").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(20)


def rotate(audit: Path, folder: Path) -> None:
    """Rotates with Debian's logrotate and our configuration, except for the path and the user."""
    me = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    shipped = (DEPLOY / "logrotate" / "comfy-auth-rs").read_text()
    configuration = folder / "logrotate"
    configuration.write_text(shipped.replace("/var/log/comfyui/audit.jsonl", str(audit)).replace("comfyui comfyui", me))
    configuration.chmod(0o644)
    assert shipped.count("comfyui comfyui") == 2
    assert LOGROTATE
    command = [LOGROTATE, "--force", "--state", str(folder / "state"), str(configuration)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
def test_bans_guessers_and_nobody_else_and_follows_a_rotation(start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    audit = logs / "audit.jsonl"
    with start(audit, tmp_path) as server, fail2ban(tmp_path / "fail2ban", audit) as jail:
        attack(server)
        guess(server, "198.51.100.99")
        assert sorted(jail.await_ban("198.51.100.99")) == sorted([*GUESSERS, "198.51.100.99"])
        events = lines_of(audit)
        assert {event["cause"] for event in events if event["event"] == "lock"} == {"wrong_keys", "wrong_keys_any_page"}
        assert VICTIM in json.dumps([event for event in events if event["event"] != "lock"])

        for number, client in enumerate(("198.51.100.101", "198.51.100.102"), 1):
            rotate(audit, tmp_path)
            assert (logs / "audit.jsonl.1").exists()
            assert audit.stat().st_mode & 0o777 == 0o600
            guess(server, client)
            assert sorted(jail.await_ban(client)) == sorted(
                [*GUESSERS, "198.51.100.99", "198.51.100.101", "198.51.100.102"][: 3 + number]
            )
            assert VICTIM not in [event.get("client") for event in lines_of(audit)]
        assert "VICTIM" not in jail.banned()
    # Nothing is lost: the files together contain every lock.
    files = sorted(logs.iterdir())
    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2.gz"]
    told = run("usage", *files, "--json")
    assert told.stderr == ""
    assert json.loads(told.stdout)["total"]["refusals"] > 60


# --- the filter alone -------------------------------------------------------------------------------------------


def found(folder: Path, *lines: str) -> list[str]:
    """The addresses that Debian's own tool finds in these lines."""
    log = folder / "audit.jsonl"
    log.write_text("".join(f"{line}\n" for line in lines))
    command = ["fail2ban-regex", "-o", "ip", str(log), str(DEPLOY / "fail2ban" / "filter.d" / "comfy-auth-rs.conf")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not result.stderr, result.stderr
    return result.stdout.split()


def test_finds_locks_of_any_address(tmp_path: Path) -> None:
    clients = [VICTIM, "2001:db8::7", "::1"]
    assert found(tmp_path, *(FORGED.replace(VICTIM, client) for client in clients)) == clients
    assert found(tmp_path, FORGED.replace(": 60}", ": 120.25}")) == [VICTIM]


@pytest.mark.parametrize("field", ["label", "user_agent", "origin", "prompt_id", "route", "method", "file"])
def test_finds_nothing_in_what_clients_write(tmp_path: Path, field: str) -> None:
    """Escaped like the server does, and as no server should."""
    head = '{"time": "2026-11-28T09:20:12.250Z", "event": "refused", "outcome": "failure", '
    lines = []
    for forged in FORGERIES:
        lines.append(f'{head}"{field}": {json.dumps(forged)}, "count": 1}}')
        lines.append(f'{head}"{field}": "{forged}", "count": 1}}')
        lines.append(f'{head}"{field}": "{FORGED[1:]}')
    assert found(tmp_path, *lines) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wrong_keys", "wrong_keys_any_page"),
        ('"lock"', '"refused"'),
        ('"failure"', '"success"'),
        ("60}", '60, "user_agent": "x"}'),
        ("60}", "60"),
        ("{", " {"),
        ("{", '{"label": "x", '),
        ("{", "comfy-auth-rs: {"),
        ('"client"', '"label": "x", "client"'),
        (VICTIM, "example.com"),
        (VICTIM, f"{VICTIM}/8"),
    ],
)
def test_finds_nothing_in_other_lines(tmp_path: Path, old: str, new: str) -> None:
    assert found(tmp_path, FORGED) == [VICTIM]
    assert found(tmp_path, FORGED.replace(old, new, 1)) == []
