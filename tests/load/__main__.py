"""`make load`: runs every scenario in full, or those named on the command line, and prints their figures."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from load import addresses, audit, keys, removal, soak, sockets, strangers, trickle

SCENARIOS: dict[str, Callable[[Path], dict[str, str]]] = {
    "keys": lambda folder: keys.run(folder, requests=1_000_000, changes=50),
    "soak": lambda folder: soak.run(folder, seconds=600, warm_up=300),
    "addresses": lambda folder: addresses.run(folder, addresses=100_000),
    "sockets": lambda folder: sockets.run(folder, sockets=1_000),
    "removal": lambda folder: removal.run(folder, sockets=1_000),
    "strangers": lambda folder: strangers.run(folder, sockets=600, seconds=20),
    "audit": lambda folder: audit.run(folder, requests=1_000_000, stops_for=10),
    "trickle": lambda folder: trickle.run(folder, clients=200),
}


def main(names: list[str]) -> int:
    """Runs them one after the other. Returns 1 if one fails."""
    if unknown := set(names) - SCENARIOS.keys():
        print(
            f"load: no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}", file=sys.stderr
        )
        return 2
    failed = 0
    for name in names or SCENARIOS:
        started = time.monotonic()
        print(f"{name}: {sys.modules[f'load.{name}'].__doc__}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                figures = SCENARIOS[name](Path(folder))
            except AssertionError as fault:
                figures, failed = {"DOES NOT HOLD": str(fault)}, 1
        for what, figure in figures.items():
            print(f"  {what}: {figure}")
        load = os.getloadavg()[0]
        print(f"  ({time.monotonic() - started:.0f} s on {os.cpu_count()} cores, load {load:.1f})\n", flush=True)
    return failed


sys.exit(main(sys.argv[1:]))
