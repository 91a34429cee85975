"""Runs a small share of each scenario, so that `make load` keeps working; and checks that the judge sees faults."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from load import addresses, audit, keys, removal, soak, sockets, strangers, trickle
from load.judge import INTERVAL, SLACK, Judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process holds")


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "PERIOD", 1.7)
    figures = keys.run(tmp_path, requests=2_000, changes=1)
    assert figures["judged otherwise"] == "0"


def test_soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "FLAT", 4 * soak.MIB)  # it is not warm yet
    assert "sockets" in soak.run(tmp_path, seconds=4, warm_up=2)["traffic"]


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "FLOODS", 1)  # its tables are not full yet
    monkeypatch.setattr(addresses, "MIB", addresses.MOST)
    assert addresses.run(tmp_path, addresses=2_000)["the holder of the key"].startswith("always admitted")


def test_sockets(tmp_path: Path) -> None:
    assert sockets.run(tmp_path, sockets=100)["each got its message"] == "yes"


def test_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "MOST_HELD", 1000)  # other tests run beside this one
    monkeypatch.setattr(removal, "CLOSED_WITHIN", 20)
    assert removal.run(tmp_path, sockets=50)["closed with 1008"].startswith("all of 50, ")


def test_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "LATEST", 20)  # other tests run beside this one
    assert strangers.run(tmp_path, sockets=40, seconds=1)["sockets without a key"].startswith("40 of 40 ")


def test_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SLACK", 2000.0)  # other tests run beside this one
    assert audit.run(tmp_path, requests=20_000, stops_for=1)["lines"].endswith("missing and counted")


def test_trickle(tmp_path: Path) -> None:
    (figure,) = trickle.run(tmp_path, clients=20, kinds=1).values()
    assert figure.startswith("20 clients, closed after ")


# --- the judge --------------------------------------------------------------------------------------------------

LATEST = INTERVAL + SLACK


@pytest.mark.parametrize(
    ("requests", "sharp", "faults"),
    [
        ([(9, 9.1, False)], 1, 0),
        ([(9, 9.1, True)], 1, 1),  # by the new version, before it was written
        ([(10.5, 10.6, False)], 0, 0),
        ([(10.5, 10.6, True)], 0, 0),
        ([(10.5, 10.6, True), (10.7, 10.8, False)], 0, 1),  # first by the new version, then by the old one again
        ([(10.5, 10.8, True), (10.6, 10.7, False)], 0, 0),  # both at the same time
        ([(10.5, 10.8, True), (10.7, 10.9, False)], 0, 0),
        ([(10.1 + LATEST, 12, True)], 1, 0),
        ([(10.1 + LATEST, 12, False)], 1, 1),  # by the old version, when the new one must be in force
        ([(9.9, 10.1, True)], 0, 0),
        ([(20 + LATEST, 23, False)], 1, 0),
        ([(20 + LATEST, 23, True)], 1, 1),
    ],
)
def test_the_judge_sees(requests: list[tuple[float, float, bool]], sharp: int, faults: int) -> None:
    """Version 1 was written at 10, version 2 at 20."""
    judge = Judge(begun=[10, 19.99], done=[10.01, 19.99])
    for request in requests:
        judge.note(*request)
    found, told = judge.verdict()
    assert (found, len(told)) == (sharp, faults)
