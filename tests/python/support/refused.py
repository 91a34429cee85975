"""Requests that every node of a fleet must refuse: a logged-out session, a locked address, a revoked key."""

from __future__ import annotations

import math
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from support.client import bearer
from support.fleet import Daemon, Fleet
from support.keys import CANARY, KEY

#: A client that has done nothing wrong.
SOMEBODY = "192.0.2.1"

_GUESSES = 10
_LOCK = 55.0  # seconds; after that the lock may have ended


@dataclass(frozen=True)
class Attempt:
    """A request from the address `client`. Until the time `until`, every node must answer it with `status`."""

    what: str
    headers: dict[str, str]
    client: str
    status: int
    until: float = math.inf

    @property
    def counts(self) -> bool:
        return time.monotonic() < self.until

    def is_refused(self, fleet: Fleet, node: Daemon) -> bool:
        answer = fleet.ask_node(node, "/queue", self.headers, client=self.client)
        assert answer.status in (200, 401, 429), answer
        return answer.status == self.status


def log_in(fleet: Fleet, node: Daemon, key: str = KEY) -> dict[str, str]:
    """Logs in, and returns what the browser then sends."""
    answer = fleet.ask_node(node, "/auth_session", bearer(key), client=SOMEBODY, method="POST", body=b"")
    assert answer.status == 204
    return {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "Sec-Fetch-Site": "same-origin"}


def log_out(fleet: Fleet, node: Daemon, session: dict[str, str] | None = None) -> tuple[int, Attempt]:
    """Logs out. Returns the status of the answer, and what must be refused from then on."""
    session = session or log_in(fleet, node)
    answer = fleet.ask_node(node, "/auth_session", session, client=SOMEBODY, method="DELETE")
    return answer.status, Attempt("a log-out", session, SOMEBODY, 401)


def lock(fleet: Fleet, node: Daemon) -> Attempt:
    """Locks a new address."""
    address = _new_address()
    for number in range(_GUESSES):
        fleet.ask_node(node, "/queue", bearer(f"wrong-{number}"), client=address)
    return Attempt("a lock", bearer("wrong-0"), address, 429, time.monotonic() + _LOCK)


def revoke(fleet: Fleet, keys: Path, label: str, key: str, state: str) -> Attempt:
    """Revokes a key with the command, on another machine with its own copy of the key file."""
    command = [sys.executable, "-m", "comfy_auth_rs", "keys", "revoke", str(keys), label, "--state", state]
    result = subprocess.run([*fleet.client.inside, *command], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert CANARY not in result.stdout + result.stderr
    return Attempt("a revocation", bearer(key), _new_address(), 401)


def _new_address() -> str:
    """The address of a new client. Its refused requests count as guesses."""
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"


def spread(fleet: Fleet, attempt: Attempt, nodes: Iterable[Daemon], within: float) -> float:
    """Asks `nodes` in turn until all of them refuse it. Returns how many seconds that took."""
    began = time.monotonic()
    left = list(nodes)
    while left:
        left = [node for node in left if not attempt.is_refused(fleet, node)]
        took = time.monotonic() - began
        assert not left or took < within, f"{len(left)} nodes don't know of {attempt.what} after {took:.1f} s"
    return took
