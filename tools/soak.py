"""`make soak`: runs the property tests with one seed after the other, until the time is up or a test fails."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def commands(seed: int) -> list[list[str]]:
    """The commands of a round, half a minute in all. You can type each into a shell."""
    rust = [f"PROPTEST_RNG_SEED={seed}", "PROPTEST_CASES=500", "PROPTEST_DISABLE_FAILURE_PERSISTENCE=1"]
    python = ["DECISIONS=2000", os.path.relpath(sys.executable, REPOSITORY), "-m", "pytest", "-q", "-x"]
    random = ["-m", "hypothesis", "--hypothesis-profile=random", f"--hypothesis-seed={seed}"]
    return [
        ["env", *rust, "cargo", "test", "--quiet", "--test", "properties"],
        ["env", *python, *random, "tests/python/unit", "tests/python/http"],
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long")
    seconds = parser.parse_args().seconds
    started, rounds = time.monotonic(), 0
    while rounds == 0 or time.monotonic() - started < seconds:
        for command in commands(secrets.randbits(32)):
            result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            if result.returncode:
                print(result.stdout, result.stderr, sep="")
                print(f"soak: failed; repeat it: {shlex.join(command)}")
                return 1
        rounds += 1
    print(f"soak: nothing found; {rounds} rounds in {time.monotonic() - started:.0f} s")
    return 0


sys.exit(main())
