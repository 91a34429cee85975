"""The ratios of `middleware.py` in one table, for each Python that the package supports and this machine has.

Each has a clean environment with the package installed as a user would.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyperf

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/python"))

from support.pythons import VERSIONS, clean_environment, find_python, make_venv  # noqa: E402

#: The name of the case, and of the case that its cost is compared with.
ROWS = {
    "Bearer": "empty",
    "pure Python": "empty",
    "X-API-Key": "Bearer",
    "Basic": "Bearer",
    "query": "Bearer",
    "cookie": "Bearer",
    "10,000 keys": "Bearer",
    "no credential": "401",
    "wrong key": "401",
}


def measure(version: str, python: str, folder: Path, rounds: int) -> dict[str, float]:
    environment = clean_environment(CARGO_TARGET_DIR=str(REPOSITORY / "target/versions"))
    commands = make_venv(folder / version, python)
    install = [commands / "python", "-m", "pip", "install", "--quiet", str(REPOSITORY), "psutil", "pyperf"]
    subprocess.run(install, check=True, env=environment)
    figures = folder / f"{version}.json"
    script = [commands / "python", REPOSITORY / "benches/middleware.py", "--rounds", str(rounds), "--json", figures]
    subprocess.run(script, check=True, env=environment, stdout=subprocess.DEVNULL)
    suite = pyperf.BenchmarkSuite.load(str(figures))
    return {benchmark.get_name(): statistics.median(benchmark.get_values()) for benchmark in suite}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the middleware on each Python of this machine.")
    parser.add_argument("--rounds", type=int, default=1500, help="turns of each case (default: %(default)s)")
    options = parser.parse_args()
    found = {version: python for version in VERSIONS if (python := find_python(version))}
    with tempfile.TemporaryDirectory() as folder:
        times = {version: measure(version, python, Path(folder), options.rounds) for version, python in found.items()}
    print("| cost added, in units of | " + " | ".join(times) + " |")
    print("| --- |" + " ---: |" * len(times))
    for name, reference in ROWS.items():
        cells = []
        for figures in times.values():
            base = 0.0 if reference == "401" else figures["none"]
            cells.append(f"{(figures[name] - base) / (figures[reference] - base):.2f}")
        print(f"| {name}, {reference} | " + " | ".join(cells) + " |")
    cost = [f"{(figures['empty'] - figures['none']) * 1e9:.0f} ns" for figures in times.values()]
    print("| the empty middleware itself | " + " | ".join(cost) + " |")


if __name__ == "__main__":
    main()
