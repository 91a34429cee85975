"""What the nodes of a fleet tell each other through a Valkey, under load and during every kind of failure."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from support import fleet as programs
from support import namespaces, proxies
from support.client import bearer
from support.fleet import Daemon, Fleet, Valkey, fleet
from support.keys import CANARY, KEY
from support.namespaces import network
from support.refused import SOMEBODY, Attempt, lock, log_in, log_out, revoke, spread

WRK = shutil.which("wrk")
STOPWATCH = Path(__file__).resolve().parents[2] / "fixtures" / "stopwatch"

MISSING = {"nginx": proxies.NGINX, "wrk": WRK, "valkey-server or redis-server": programs.VALKEY,
           "valkey-cli or redis-cli": programs.REDIS_CLI}  # fmt: skip
REASON = namespaces.why_not() or ", ".join(f"{name} is not installed" for name, found in MISSING.items() if not found)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

#: `make fleet` sets higher values.
TIMES = int(os.environ.get("FLEET_TIMES", "12"))
FAULT_LASTS = float(os.environ.get("FLEET_FAULT_SECONDS", "2"))

PASSWORD = f"{CANARY}-of-the-state"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    labels = [*(f"old-{number}" for number in range(TIMES)), "old-deaf", "old-mute", "gone"]
    lines = [f"{KEY} owner", *(f"{revocable(label)} {label}" for label in labels)]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    return file


def copy_of(keys: Path) -> Path:
    """A copy on another machine. Changes to it don't reach the nodes."""
    copy = keys.with_name("copy.txt")
    return copy if copy.exists() else Path(shutil.copy2(keys, copy))


def revocable(label: str) -> str:
    """The key with this label, which tests may revoke."""
    return f"{CANARY}-{label}-0123456789-abcdefghijklmnopqrst"


@pytest.fixture(scope="module")
def found_network() -> Iterator[namespaces.Network]:
    with network() as found:
        yield found


@pytest.fixture(scope="module")
def valkey(found_network: namespaces.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(found_network.host(), tmp_path_factory.mktemp("valkey"), PASSWORD)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def three(
    copy_miniature: Any,
    found_network: namespaces.Network,
    valkey: Valkey,
    keys: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    trees = [copy_miniature() for _ in range(3)]
    for tree in trees:
        shutil.copytree(STOPWATCH, tree / "custom_nodes" / "stopwatch")
    with fleet(found_network, trees, keys, tmp_path_factory.mktemp("nginx"), valkey.url) as started:
        yield started
        for node in started.nodes:
            assert CANARY not in node.output
            assert "Traceback" not in node.output


# ---------------------------------------------------------------------------------------------------------------------
# Load


@contextmanager
def load(three: Fleet) -> Iterator[None]:
    """wrk requests the queue from each node, one second at a time. Every answer must be 200."""
    is_over = threading.Event()
    with ThreadPoolExecutor() as threads:
        running = [threads.submit(ask_all_the_time, three, node, is_over) for node in three.nodes]
        try:
            yield
        finally:
            is_over.set()
    for answered in running:
        assert answered.result() > 20


def ask_all_the_time(three: Fleet, node: Daemon, is_over: threading.Event) -> int:
    """Returns how many requests were answered."""
    assert WRK
    headers = ["-H", f"Authorization: Bearer {KEY}", "-H", "X-Forwarded-For: 192.0.2.7"]
    url = f"http://{node.host.address}:{node.port}/queue"
    answered = 0
    while not is_over.is_set():
        command = [*three.gateway.host.inside, WRK, "-t1", "-c2", "-d1s", "--timeout", "20s", *headers, url]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert not re.search(r"Non-2xx|Socket errors", said), said
        answered += int(re.findall(r"(\d+) requests in", said)[0])
    return answered


def stopwatch(three: Fleet) -> tuple[float, float]:
    """The longest call of the middleware, and the longest hold of the event loop, on any node since the last call."""
    told = [three.ask_node(node, "/stopwatch", bearer(KEY), client=SOMEBODY).json for node in three.nodes]
    return max(one["call"] for one in told), max(one["hold"] for one in told)


# ---------------------------------------------------------------------------------------------------------------------
# How long until all nodes know


def test_what_one_refuses_all_refuse_within_a_second(
    three: Fleet, valkey: Valkey, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    took: dict[str, list[float]] = {}
    with load(three):
        for number in range(TIMES):
            first = three.nodes[number % 3]
            others = [node for node in three.nodes if node is not first]
            status, ended = log_out(three, first)
            assert status == 204
            took.setdefault(ended.what, []).append(spread(three, ended, others, 3))
            locked = lock(three, first)
            took.setdefault(locked.what, []).append(spread(three, locked, others, 3))
            if TIMES >= 100 or number % 4 == 0:  # each revocation takes a process
                label = f"old-{number}"
                revoked = revoke(three, copy_of(keys), label, revocable(label), valkey.url)
                took.setdefault(revoked.what, []).append(spread(three, revoked, three.nodes, 3))
    with capsys.disabled():
        for what, seconds in took.items():
            middle, most = statistics.median(seconds), max(seconds)
            print(f"\n{what}: known to all after {middle:.3f} s (median of {len(seconds)}), {most:.3f} s at most")
    for what, seconds in took.items():
        assert sorted(seconds)[-2] <= 1, f"{what}: at most one may take longer than a second"


# ---------------------------------------------------------------------------------------------------------------------
# Valkey fails


@contextmanager
def killed(valkey: Valkey) -> Iterator[None]:
    valkey.kill()
    try:
        yield
    finally:
        valkey.start()


@contextmanager
def stopped(valkey: Valkey) -> Iterator[None]:
    """It accepts connections, and answers nothing."""
    valkey.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        valkey.signal(signal.SIGCONT)


@contextmanager
def cut_off(valkey: Valkey) -> Iterator[None]:
    valkey.host.cut_off()
    try:
        yield
    finally:
        valkey.host.join()


@contextmanager
def full(valkey: Valkey) -> Iterator[None]:
    used = int(re.findall(r"used_memory:(\d+)", valkey.tell("INFO", "memory"))[0])
    most = valkey.tell("CONFIG", "GET", "maxmemory").split()[1]
    valkey.tell("CONFIG", "SET", "maxmemory", str(used + 3_000_000))
    number = 0
    while valkey.tell("SETRANGE", f"filling:{number}", "400000", "x").isdigit():
        number += 1
    assert number > 2
    valkey.tell("CONFIG", "SET", "maxmemory", str(used // 2))
    try:
        yield
    finally:
        for old in range(number):
            valkey.tell("DEL", f"filling:{old}")
        valkey.tell("CONFIG", "SET", "maxmemory", most)


@contextmanager
def flushed(valkey: Valkey) -> Iterator[None]:
    valkey.tell("FLUSHALL")
    yield


@contextmanager
def restarted_empty(valkey: Valkey) -> Iterator[None]:
    valkey.kill()
    valkey.lose_everything()
    try:
        yield
    finally:
        valkey.start()


@contextmanager
def another_password(valkey: Valkey) -> Iterator[None]:
    valkey.tell("ACL", "SETUSER", "comfyui", "resetpass", ">another")
    valkey.tell("CLIENT", "KILL", "USER", "comfyui")
    try:
        yield
    finally:
        valkey.tell("ACL", "SETUSER", "comfyui", "resetpass", f">{PASSWORD}")


Fault = Callable[[Valkey], AbstractContextManager[None]]
#: Whether a log-out can be stored during the fault.
FAULTS: dict[Fault, bool] = {
    killed: False,
    stopped: False,
    cut_off: False,
    full: False,
    flushed: True,
    restarted_empty: False,
    another_password: False,
}


def assert_all_as_it_was(three: Fleet, refused: list[Attempt], good: list[dict[str, str]]) -> None:
    """Everything that was refused before is still refused, and good keys still work."""
    for node in three.nodes:
        for attempt in refused:
            assert not attempt.counts or attempt.is_refused(three, node), f"{attempt.what} was forgotten"
        for headers in good:
            assert three.ask_node(node, "/queue", headers, client=SOMEBODY).status == 200


def happen(three: Fleet, node: Daemon, status: int) -> list[Attempt]:
    """Logs out and locks at one node, which must refuse both from then on. The answer comes soon, with `status`."""
    began = time.monotonic()
    answered, ended = log_out(three, node)
    assert (answered, time.monotonic() - began < 3) == (status, True)
    attempts = [ended, lock(three, node)]
    assert all(attempt.is_refused(three, node) for attempt in attempts)
    return attempts


@pytest.fixture(scope="module")
def revoked(three: Fleet, valkey: Valkey, keys: Path) -> Attempt:
    """A key that was revoked before the failures."""
    return revoke(three, copy_of(keys), "gone", revocable("gone"), valkey.url)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_nothing_is_forgotten_and_nobody_waits(
    fault: Fault, three: Fleet, valkey: Valkey, revoked: Attempt, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [revoked, log_out(three, three.nodes[0])[1], lock(three, three.nodes[1])]
    for attempt in known:
        spread(three, attempt, three.nodes, 3)
    good = [bearer(KEY), log_in(three, three.nodes[2])]
    with load(three):
        stopwatch(three)
        for _ in during(FAULT_LASTS):
            assert_all_as_it_was(three, known, good)
        usual = stopwatch(three)
        with fault(valkey):
            meanwhile = [one for node in three.nodes for one in happen(three, node, 204 if FAULTS[fault] else 503)]
            for _ in during(FAULT_LASTS):
                assert_all_as_it_was(three, known, good)
            meant = stopwatch(three)
        back = max(spread(three, attempt, three.nodes, 5) for attempt in meanwhile)
        assert_all_as_it_was(three, known + meanwhile, good)
    with capsys.disabled():
        print(
            f"\n{fault.__name__}: the longest call took {meant[0] * 1e3:.2f} ms ({usual[0] * 1e3:.2f} before), "
            f"the loop was held for {meant[1] * 1e3:.0f} ms ({usual[1] * 1e3:.0f}); all know all after {back:.2f} s"
        )
    # Requests that wait for Valkey wait for a second.
    assert meant[0] <= max(5 * usual[0], 0.1)
    assert meant[1] <= max(5 * usual[1], 0.3)


def during(seconds: float) -> Iterator[None]:
    """Yields once, and again until the time is over."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        yield


def test_the_stopwatch_sees_what_holds_the_loop(three: Fleet) -> None:
    stopwatch(three)
    held = three.ask_node(three.nodes[0], "/stopwatch?hold=0.3", bearer(KEY), client=SOMEBODY)
    assert held.status == 200
    assert stopwatch(three)[1] > 0.25


# ---------------------------------------------------------------------------------------------------------------------
# Nodes that don't hear each other


@contextmanager
def deaf(node: Daemon, valkey: Valkey) -> Iterator[None]:
    node.host.drop(valkey.host)
    try:
        yield
    finally:
        node.host.hear()


@contextmanager
def mute(node: Daemon, valkey: Valkey) -> Iterator[None]:
    valkey.host.drop(node.host)
    try:
        yield
    finally:
        valkey.host.hear()


@pytest.mark.parametrize("lost", [deaf, mute])
def test_halves_agree_afterwards(
    lost: Callable[[Daemon, Valkey], AbstractContextManager[None]],
    three: Fleet,
    valkey: Valkey,
    keys: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One node sees other events than the two others, who still hear each other."""
    one, *others = three.nodes
    with lost(one, valkey):
        here = happen(three, one, 503)
        label = f"old-{lost.__name__}"
        there = [attempt for node in others for attempt in happen(three, node, 204)]
        there.append(revoke(three, copy_of(keys), label, revocable(label), valkey.url))
        for attempt in there:
            spread(three, attempt, others, 3)
        for _ in during(FAULT_LASTS):
            assert not any(attempt.is_refused(three, one) for attempt in there), "the node should not have heard of it"
    back = max(spread(three, attempt, three.nodes, 5) for attempt in here + there if attempt.counts)
    with capsys.disabled():
        print(f"\n{lost.__name__}: all know all after {back:.2f} s")


# ---------------------------------------------------------------------------------------------------------------------
# Nodes are killed


def log_out_all_the_time(three: Fleet, node: Daemon, answered: list[Attempt]) -> None:
    """Logs sessions out until the node is gone."""
    with suppress(OSError, HTTPException):
        while True:
            status, attempt = log_out(three, node)
            assert status == 204
            answered.append(attempt)


def test_a_node_that_is_killed_forgets_no_log_out(three: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    victim, *others = three.nodes
    count = 0
    for _ in range(max(2, TIMES // 6)):
        answered: list[Attempt] = []
        with ThreadPoolExecutor() as threads:
            running = [threads.submit(log_out_all_the_time, three, victim, answered) for _ in range(3)]
            time.sleep(random.uniform(0.3, 1.5))
            victim.kill()
        try:
            for one in running:
                one.result()
            for attempt in answered:
                spread(three, attempt, others, 3)
        finally:
            victim.start()
        assert all(attempt.is_refused(three, victim) for attempt in answered)
        count += len(answered)
    assert count > 10
    with capsys.disabled():
        print(f"\n{count} log-outs were answered by a node that was killed; none is forgotten")


def test_everything_is_killed_at_once(three: Fleet, valkey: Valkey) -> None:
    """Everything that was answered is in Valkey's file."""
    answered = [log_out(three, node) for node in three.nodes]
    for daemon in (valkey, *three.nodes):
        daemon.signal(signal.SIGKILL)
    for daemon in (valkey, *three.nodes):
        daemon.kill()
        daemon.start()
    for status, attempt in answered:
        assert status == 204
        assert all(attempt.is_refused(three, node) for node in three.nodes)
