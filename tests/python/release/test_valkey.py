"""Three ComfyUIs share a real Redis or Valkey: what one knows, all know, whatever happens to that server."""

from __future__ import annotations

import http.client
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs import remembered
from comfy_auth_rs._core import describe, key_file_entries, revocation_record
from comfy_auth_rs.comfyui.state import VARIABLE
from comfy_auth_rs.store import Record
from support.client import Answer, ask, bearer
from support.keys import CANARY, KEY
from support.servers import Server, start_server
from support.valkey import SERVER, Valkey, start_valkey

pytestmark = pytest.mark.skipif(SERVER is None, reason="needs redis-server or valkey-server")

PASSWORD = f"{CANARY}-password"
TRIES = 100
WITHIN = 1.0  # seconds, for 95 of 100
IN_ALL = 3.0  # seconds, for all
AFTER_ITS_RETURN = 5.0  # seconds
OURS = {"Sec-Fetch-Site": "same-origin"}


def keys_of(number: int) -> str:
    """One of the keys that the tests revoke."""
    return f"{CANARY}-revoked-{number:03}-0123456789-abcdefghijklmnop"


#: The headers of a client that uses a revoked key.
REVOKED = {
    "Authorization": f"Bearer {CANARY}-revoked-000-0123456789-abcdefghijklmnop",
    "X-Forwarded-For": "192.0.2.200",
}


@dataclass
class Fleet:
    """Servers with the same keys, each with its own key file."""

    valkey: Valkey
    url: str
    folder: Path
    servers: list[Server]
    lines: list[str] = field(default_factory=list)

    def file(self, index: int) -> Path:
        return self.folder / f"keys-{index}"


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with start_valkey("--requirepass", PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def fleet(valkey: Valkey, copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder, tree = tmp_path_factory.mktemp("fleet"), copy_miniature()
    url = f"valkey://:{PASSWORD}@127.0.0.1:{valkey.port}/0"
    lines = [
        f"{KEY} a-label user=a.user prompts=10000/d",  # a label and a user name, to search for later
        *(f"{keys_of(n)} key-{n}" for n in range(TRIES)),
    ]
    with ExitStack() as stack:
        found = Fleet(valkey, url, folder, [], lines)
        for index in range(3):
            file = found.file(index)
            file.write_text("\n".join(lines) + "\n")
            file.chmod(0o600)
            found.servers.append(stack.enter_context(_start(tree, found, index)))
        yield found
        for server in found.servers:
            assert not server.own_faults
            assert CANARY not in server.output


def _start(tree: Path, fleet: Fleet, index: int) -> Any:
    base = fleet.folder / f"base-{index}"
    base.mkdir(exist_ok=True)
    flags = ("--auth-trusted-proxy", "127.0.0.1", "--base-directory", str(base), "--verbose", "DEBUG")
    return start_server(tree, "--api-key-file", str(fleet.file(index)), *flags, env={VARIABLE: fleet.url})


# --- what clients see -------------------------------------------------------------------------------------------


class Client:
    """One connection to a server. A new one each time would take as long as the effect that is measured."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def status(self, headers: dict[str, str]) -> int:
        self._connection.request("GET", "/queue", headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        self._connection.close()


@contextmanager
def clients(fleet: Fleet) -> Iterator[list[Client]]:
    found = [Client(server) for server in fleet.servers]
    try:
        yield found
    finally:
        for client in found:
            client.close()


def session(server: Server) -> str:
    """Logs in. Returns the cookie's value."""
    answer = ask(server, "/auth_session", bearer(KEY), method="POST", body=b"")
    assert answer.status == 204, answer
    return answer.headers["Set-Cookie"].split(";")[0].partition("=")[2]


def by_cookie(server: Server, value: str) -> dict[str, str]:
    return {"Cookie": f"comfyui_session_{server.port}={value}"}


def log_out(server: Server, value: str) -> Answer:
    return ask(server, "/auth_session", {**by_cookie(server, value), **OURS}, method="DELETE")


def refuse(fleet: Fleet, value: str) -> bool:
    """Whether all servers refuse the session."""
    return all(ask(server, "/queue", by_cookie(server, value)).status == 401 for server in fleet.servers)


def wait_until(holds: Callable[[], bool], longest: float = 20) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < longest, "it never became true"
        time.sleep(0.01)
    return time.monotonic() - began


def assert_quick(waits: list[float]) -> None:
    waits.sort()
    print(
        f"median {waits[len(waits) // 2]:.3f} s, 95 of 100 {waits[94 * len(waits) // 100]:.3f} s, all {waits[-1]:.3f} s"
    )
    assert waits[94 * len(waits) // 100] <= WITHIN
    assert waits[-1] <= IN_ALL


# --- while all is well ------------------------------------------------------------------------------------------


def test_a_log_out_is_known_to_the_others_within_a_second(fleet: Fleet) -> None:
    waits = []
    with clients(fleet) as known:
        for number in range(TRIES):
            server = fleet.servers[number % 3]
            value = session(server)
            pairs = [(client, by_cookie(one, value)) for client, one in zip(known, fleet.servers, strict=True)]
            assert [client.status(headers) for client, headers in pairs] == [200] * 3
            assert log_out(server, value).status == 204
            waits.append(
                wait_until(lambda pairs=pairs: all(client.status(headers) == 401 for client, headers in pairs))
            )
    assert_quick(waits)


def test_a_lock_is_known_to_the_others_within_a_second(fleet: Fleet) -> None:
    waits = []
    with clients(fleet) as known:
        for number in range(TRIES):

            def guess(client: Client, key: str, number: int = number) -> int:
                return client.status({"X-Forwarded-For": f"203.0.113.{number}", "X-API-Key": key})

            for guesses in range(10):
                assert guess(known[number % 3], f"wrong-{guesses}") == 401
            waits.append(wait_until(lambda guess=guess: all(guess(client, "wrong") == 429 for client in known)))
            others = {"X-Forwarded-For": f"198.51.100.{number}"}
            assert [client.status({**others, **bearer(KEY)}) for client in known] == [200] * 3
    assert_quick(waits)


def test_a_revoked_key_is_unknown_to_all_within_a_second(fleet: Fleet) -> None:
    waits = []
    text = fleet.file(0).read_bytes()
    ids = {entry.label: entry.id for entry in key_file_entries("", text)[0]}
    with clients(fleet) as known:
        for number in range(TRIES):
            # A revoked key is unknown, so it counts as a guess. Ten from one address would lock it.
            key = {**bearer(keys_of(number)), "X-Forwarded-For": f"192.0.2.{number}"}
            assert [client.status(key) for client in known] == [200] * 3
            remembered.tell(fleet.url, Record(*revocation_record(fleet.file(0), ids[f"key-{number}"])))
            waits.append(wait_until(lambda key=key: all(client.status(key) == 401 for client in known)))
        assert [client.status(bearer(KEY)) for client in known] == [200] * 3
    assert_quick(waits)
    assert fleet.file(0).read_bytes() == text


def test_what_is_known_outlasts_the_restart_of_a_server(fleet: Fleet, copy_miniature: Any) -> None:
    value, kept = session(fleet.servers[0]), session(fleet.servers[0])
    assert log_out(fleet.servers[0], value).status == 204
    with _start(copy_miniature(), fleet, 2) as fourth:
        assert ask(fourth, "/queue", by_cookie(fourth, value)).status == 401
        assert ask(fourth, "/queue", by_cookie(fourth, kept)).status == 200
        assert ask(fourth, "/queue", REVOKED).status == 401


def test_all_servers_are_counted(fleet: Fleet) -> None:
    def told(server: Server) -> dict[str, Any]:
        state: dict[str, Any] = ask(server, "/auth_session", bearer(KEY)).json["state"]
        return state

    wait_until(lambda: all(told(server)["nodes"] >= 3 for server in fleet.servers))
    for server in fleet.servers:
        assert told(server)["place"] == f"valkey://[redacted]@127.0.0.1:{fleet.valkey.port}/0"
        assert told(server)["fault"] is None


# --- what happens to the server ---------------------------------------------------------------------------------


@contextmanager
def killed(fleet: Fleet) -> Iterator[None]:
    """Kills the server. It comes back empty."""
    fleet.valkey.kill()
    try:
        yield
    finally:
        fleet.valkey.start()


@contextmanager
def stopped(fleet: Fleet) -> Iterator[None]:
    fleet.valkey.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        fleet.valkey.signal(signal.SIGCONT)


@contextmanager
def filled(fleet: Fleet) -> Iterator[None]:
    fleet.valkey.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", password=PASSWORD)
    fleet.valkey.ask("CONFIG", "SET", "maxmemory", 1, password=PASSWORD)
    try:
        yield
    finally:
        fleet.valkey.ask("CONFIG", "SET", "maxmemory", 0, password=PASSWORD)


@contextmanager
def locked_out(fleet: Fleet) -> Iterator[None]:
    """Changes its password, and disconnects all clients, so they must log in again."""
    fleet.valkey.ask("CONFIG", "SET", "requirepass", "another", password=PASSWORD)
    fleet.valkey.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password="another")
    try:
        yield
    finally:
        fleet.valkey.ask("CONFIG", "SET", "requirepass", PASSWORD, password="another")


@contextmanager
def flushed(fleet: Fleet) -> Iterator[None]:
    fleet.valkey.ask("FLUSHALL", password=PASSWORD)
    yield


@contextmanager
def forgetful(fleet: Fleet) -> Iterator[None]:
    """It loses only the hash, as by an eviction. The stream doesn't tell of that."""
    fleet.valkey.ask("DEL", "{comfy-auth-rs}:facts", "{comfy-auth-rs}:epoch", password=PASSWORD)
    yield


FAULTS = {
    killed: "it cannot be reached", stopped: "it does not answer", filled: "its memory is full",
    locked_out: "it rejects the user name or password", flushed: None, forgetful: None,
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_the_store_admits_nobody_refuses_nobody_and_loses_nothing(fleet: Fleet, fault: Any) -> None:
    before = [session(server) for server in fleet.servers]
    assert [log_out(server, value).status for server, value in zip(fleet.servers, before, strict=True)] == [204] * 3
    wait_until(lambda: all(refuse(fleet, value) for value in before))
    kept, during = session(fleet.servers[0]), [session(server) for server in fleet.servers]
    reason = FAULTS[fault]
    marks = [len(server.output) for server in fleet.servers]
    with fault(fleet):
        statuses = []
        for server, value in zip(fleet.servers, during, strict=True):
            began = time.monotonic()
            statuses.append(log_out(server, value).status)
            assert time.monotonic() - began < 1.5
            assert ask(server, "/queue", by_cookie(server, value)).status == 401, "the log-out counts here at once"
        assert statuses == [503 if reason else 204] * 3
        for server in fleet.servers:
            assert ask(server, "/queue", bearer(KEY)).status == 200
            assert ask(server, "/queue", by_cookie(server, kept)).status == 200
            assert ask(server, "/queue", REVOKED).status == 401
            assert ask(server, "/health").status == 200
        assert all(refuse(fleet, value) for value in before)
    waited = wait_until(lambda: all(refuse(fleet, value) for value in during))
    print(f"{fault.__name__}: known again after {waited:.3f} s")
    assert waited <= AFTER_ITS_RETURN
    wait_until(
        lambda: all(log_out(server, value).status == 204 for server, value in zip(fleet.servers, during, strict=True))
    )
    # The store has everything again, for servers that start now.
    wait_until(lambda: len(remembered.look(fleet.url).entries_of("revocation")) == TRIES, AFTER_ITS_RETURN)
    assert len(remembered.look(fleet.url).entries_of("log_out")) >= len(before) + len(during)
    for server, mark in zip(fleet.servers, marks, strict=True):
        lines = re.findall("comfy-auth-rs: the state is unavailable: (.*)", server.output[mark:])
        assert len(lines) <= 1
        assert all(reason in line for line in lines)
        assert ask(server, "/queue", by_cookie(server, kept)).status == 200


def test_the_store_tells_nothing_of_keys_cookies_and_users(fleet: Fleet) -> None:
    value = session(fleet.servers[0])
    assert log_out(fleet.servers[0], value).status == 204
    content = fleet.valkey.content(PASSWORD)
    assert content.count(b"\n") > TRIES
    for secret in (CANARY, value, value[:40], value[-40:], "wrong-", "key-", "label", "user", PASSWORD):
        assert secret.encode() not in content, secret
    assert {describe(record)["kind"] for record in _records(fleet)} <= {
        "log_out",
        "revocation",
        "lock",
        "prompt",
        "node",
    }


def _records(fleet: Fleet) -> list[Record]:
    from comfy_auth_rs.store import make_store

    store = make_store(fleet.url)
    assert store is not None
    return [record for batch in store.reader().read(None).batches for record in batch]


def test_what_somebody_writes_there_ends_nothing_and_a_flush_cures_it(fleet: Fleet) -> None:
    value = session(fleet.servers[0])
    content = [record for record in _records(fleet) if record.name[:1] in (b"s", b"k", b"e")]
    fleet.valkey.ask("FLUSHALL", password=PASSWORD)
    for record in content[:50]:
        forged = bytes(byte ^ 1 for byte in record.value)
        for name, text in ((record.name, forged), (record.name + b"x", record.value), (b"k" + bytes(16), forged)):
            packed = record.until.to_bytes(8, "big") + text
            fleet.valkey.ask("HSET", "{comfy-auth-rs}:facts", name, packed, password=PASSWORD)
            fleet.valkey.ask("XADD", "{comfy-auth-rs}:news", "*", name, packed, password=PASSWORD)
    time.sleep(2)
    for server in fleet.servers:
        assert ask(server, "/queue", by_cookie(server, value)).status == 200
        assert ask(server, "/queue", bearer(KEY)).status == 200
    fleet.valkey.ask("FLUSHALL", password=PASSWORD)
    wait_until(lambda: len(remembered.look(fleet.url).entries_of("revocation")) == TRIES, AFTER_ITS_RETURN)
    assert remembered.look(fleet.url).unknown == 0
