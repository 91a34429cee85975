"""A running ComfyUI with canaries in it, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.client import ask, bearer
from support.servers import Server

from hostile.wire import barrage

PLANTED = "canary-6f1d-that-nobody-may-see"

#: The canary that a key of `view` must not see either.
CLOSED = "canary-77b2-for-the-owner-alone"

#: A picture of one pixel. Its signature is also a canary: nobody without the key may get a picture.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: Only answers to clients with the key contain these.
SECRETS = (
    PLANTED.encode(),
    PIXEL[:8],
    b'"python_version"',
    b'"queue_running"',
    b'"input_order"',
    b'"storage"',
    b'"custom_nodes"',
)

#: A key of `view` must never see these: files of the owner, of the software and of the system.
OF_THE_OWNER = (CLOSED.encode(), b"class PromptServer", b"root:x:0:0:", b"KEY = ")

#: The server is asked for these with the key. If any answer changes, an attack has done something.
STATE = (
    "/times_reached",
    "/queue",
    "/history",
    "/settings",
    "/userdata?dir=workflows&recurse=true",
    "/userdata/secret.json",
    "/internal/files/output",
    "/internal/files/input",
)

#: The slowest answer that counts as healthy, in seconds. The machine may be busy with other things.
SLOWEST = 2.0

#: A bit longer than aiohttp waits for the rest of a body that nobody reads, in seconds.
LINGERING = 15.0

#: This many open files may come and go.
FEW = 4

#: How much memory a few hundred requests may leave in use, in bytes: some caches are filled once.
MOST_MEMORY = 24 * 2**20


@dataclass
class Target:
    """One server under attack, and the folder of its data.

    `key` opens everything, and `viewer` is a key of `view`. `stranger` is a valid session cookie of a server with
    another key. `forged` are cookie values that are almost sessions of this server.
    """

    name: str
    server: Server
    base: Path
    key: str
    viewer: str
    cookie: str
    stranger: str
    forged: Mapping[str, str]
    _answers: dict[str, dict[str, bytes]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def answers_to_viewer(self, group: str, attacks: Mapping[str, bytes]) -> dict[str, bytes]:
        """Like `answers`, but each request has the key of `view`."""
        return self.answers(f"{group} with view", {name: with_viewers_key(data) for name, data in attacks.items()})

    def answers(self, group: str, attacks: Mapping[str, bytes]) -> dict[str, bytes]:
        """Sends a whole group of attacks, once, and notes in `faults` what they changed."""
        if group not in self._answers:
            before, held, files = self.state(), self.memory, self.open_files
            filled = {name: self.fill(data) for name, data in attacks.items()}
            network = 100 + len(self._answers)
            self._answers[group] = asyncio.run(barrage(self.server.port, filled, network))
            self.faults[group] = [*self._damage(before), *self._left_behind(held, files)]
        return self._answers[group]

    def fill(self, data: bytes) -> bytes:
        """Fills in values that are known only now. The name of a cookie contains the port."""
        name = self.cookie.split("=")[0]
        for mark, value in {
            b"@HOST@": f"127.0.0.1:{self.server.port}",
            b"@COOKIE@": self.cookie,
            b"@NAME@": name,
            b"@VALUE@": self.cookie.split("=")[1],
            b"@STRANGER@": self.stranger.split("=")[1],
            b"@KEY@": self.key,
            b"@VIEWER@": self.viewer,
        }.items():
            data = data.replace(mark, value.encode())
        for mark, value in self.forged.items():
            data = data.replace(f"@FORGED-{mark}@".encode(), value.encode())
        return re.sub(rb"@(CUT|BYTE|BIT)(\d+)@", self._tampered, data)

    def _tampered(self, mark: re.Match[bytes]) -> bytes:
        """The session cookie's value, cut to a length, or with one byte incremented, or with one bit flipped."""
        value, number = self.cookie.split("=")[1], int(mark[2])
        if mark[1] == b"CUT":
            return value[:number].encode()
        token = bytearray(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
        if mark[1] == b"BYTE":
            token[number] = (token[number] + 1) % 256
        else:
            token[number // 8] ^= 1 << number % 8
        return base64.urlsafe_b64encode(token).rstrip(b"=")

    def state(self) -> dict[str, Any]:
        """What someone with the key sees, and what is on disk except for logs."""
        seen = {target: self._seen(target) for target in STATE}
        return {**seen, **{str(file): digest for file, digest in files_below(self.base).items()}}

    def _seen(self, target: str) -> Any:
        answer = ask(self.server, target, bearer(self.key))
        assert answer.status == 200, (target, answer)
        return json.loads(answer.body)

    def _damage(self, before: dict[str, Any]) -> list[str]:
        found = [f"the process ended: {self.server.process.poll()}"] if self.server.process.poll() is not None else []
        after = self.state()
        found += [
            f"{name}: {before.get(name)} became {after.get(name)}"
            for name in before | after
            if after.get(name) != before.get(name)
        ]
        for target, headers in (("/health", {}), ("/queue", bearer(self.key)), ("/queue", {})):
            started = time.monotonic()
            status = ask(self.server, target, headers).status
            if (taken := time.monotonic() - started) > SLOWEST or status >= 500:
                found.append(f"{target} answered {status} in {taken:.1f} s")
        return found

    def _left_behind(self, held: int, files: int) -> list[str]:
        """Memory and connections that the server still holds after all the attackers have gone."""
        deadline = time.monotonic() + LINGERING
        while self.open_files > files + FEW and time.monotonic() < deadline:
            time.sleep(0.2)
        left = self.open_files - files
        found = [f"{left} connections are open"] if left > FEW else []
        if (grown := self.memory - held) > MOST_MEMORY:
            found.append(f"{grown / 2**20:.1f} MiB more in memory")
        return found

    @property
    def memory(self) -> int:
        """How much memory the process holds, in bytes."""
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))

    @property
    def busy(self) -> float:
        """How many seconds of processor time the process has used."""
        times = Path(f"/proc/{self.server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    @property
    def open_files(self) -> int:
        """How many files and connections the process holds."""
        return len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))


def with_viewers_key(data: bytes) -> bytes:
    """Adds a key of `view` to each request, if it is one."""
    return re.sub(rb"( HTTP/1\.[01] ?\r?\n)", rb"\1X-API-Key: @VIEWER@\r\n", data)


def files_below(base: Path) -> dict[Path, str]:
    """All files below a ComfyUI's data folders, except those that the software itself writes."""
    folders = ("input", "output", "user", "models", "pictures")
    files = (file for folder in folders for file in (base / folder).rglob("*") if file.is_file())
    return {
        file.relative_to(base): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if ".log" not in file.suffixes and ".db" not in file.suffixes and "__comfy_auth_rs" not in file.parts
    }


def statuses(answer: bytes) -> list[int]:
    """The status codes of all responses in the received bytes."""
    lines = [line for line in answer.split(b"\r\n") if line.startswith((b"HTTP/1.0 ", b"HTTP/1.1 "))]
    return [int(line.split(b" ")[1]) for line in lines]


#: Only a key of `all` may read these files.
CLOSED_FILES = (
    ".env", "closed.txt", "user/closed.txt", "user/default/ComfyUI-Manager/config.ini", "user/__manager/config.ini",
    "user/default/__manager/config.ini", "models/checkpoints/closed.yaml", "models/closed.txt", "custom_nodes/.env",
    "custom_nodes/closed/config.json", "user/other/closed.json", "closed/closed.png",
)  # fmt: skip


def plant(base: Path) -> dict[str, str]:
    """Puts canaries into a ComfyUI's data folders. Returns the environment that `canary_node` needs."""
    for name in ("input", "output", "user/default/workflows", "pictures"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for folder in ("input", "output"):
        (base / folder / "secret.png").write_bytes(PIXEL + PLANTED.encode())
    for folder in ("input", "output", "pictures"):
        (base / folder / f"{PLANTED}.png").write_bytes(PIXEL)
    for file in ("secret.json", "workflows/secret.json", f"workflows/{PLANTED}.json"):
        (base / "user" / "default" / file).write_text(json.dumps({"text": PLANTED}))
    (base / "pictures" / "secret.png").write_bytes(PIXEL + f"{PLANTED} {CLOSED}".encode())
    (base / "pictures" / "secret.json").write_text(json.dumps(f"{PLANTED} {CLOSED}"))
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps({"canary": PLANTED}))
    for closed in CLOSED_FILES:
        (base / closed).parent.mkdir(parents=True, exist_ok=True)
        (base / closed).write_text(f"KEY = {CLOSED}\n")
    return {"CANARY": f"{PLANTED} {CLOSED}", "CANARY_PICTURES": str(base / "pictures")}


def occupy(server: Server, key: str) -> None:
    """Puts a finished graph into the history, and two into the queue: one runs until interrupted, one waits."""
    paint = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": PLANTED}},
    }
    graphs = [paint, *({"1": {"class_type": "Wait", "inputs": {"text": f"{PLANTED} {n}"}}} for n in range(2))]
    for graph in graphs:
        body = json.dumps({"prompt": graph}).encode()
        headers = {**bearer(key), "Content-Type": "application/json"}
        answer = ask(server, "/prompt", headers, method="POST", body=body)
        assert answer.status == 200, answer.text
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        queue = ask(server, "/queue", bearer(key)).json
        if [len(queue["queue_running"]), len(queue["queue_pending"])] == [1, 1]:
            return
        time.sleep(0.05)
    raise AssertionError("the graphs do not run")
