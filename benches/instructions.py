"""What a request's instructions are spent on, counted by callgrind: the same in every run, even on a busy machine.

With `--base FOLDER`, where `pip install --target` put another build, each kind of request is counted with both builds.
The table also shows processor time, and how much it differs between two runs of the other build: a smaller difference
means nothing.

What happens once a second is not counted: under valgrind a second has few requests.

Valgrind's processor has no SHA instructions, so SHA-256 is counted as plain arithmetic: a processor that has them needs
about a thirtieth.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from middleware import BATCH, Bench

#: The group of a function: the first pattern that matches its name and file.
GROUPS = {
    "SHA-256, HMAC": r"sha2|sha256|digest-|hmac-",
    "base64": r"base64",
    "header look-ups (multidict)": r"multidict|_md_|PyObject_GetItem|PySequence_Contains",
    "attributes of the request": r"GetAttr|GenericGet|_PyType_Lookup|descrobject|structmember|GetInstanceAttribute",
    "our decision": r"comfy_auth_rs|memchr|arc.swap|hashbrown|subtle",
    "PyO3": r"pyo3",
    "calls, tuples, dictionaries, coroutines": r"",
}


CASES = ("Bearer", "scopes, audit", "cookie")

#: What is compared between the builds, each with its name in the other build, which may be older than the audit log.
COMPARED = {
    name: name for name in ("Bearer", "X-API-Key", "Basic", "query", "cookie", "no credential", "wrong key")
} | {"scopes, audit": "Bearer", "audit, store": "Bearer", "audit, store, cookie": "cookie"}

#: Where counting begins and ends: inside `functools.partial`'s call, except for what happens once a second.
TOGGLES = ("partial_call", "*AuthMiddleware::begin_second*", "*AuthMiddleware::look")

#: How many turns each build gets, and how many batches of requests per turn.
TURNS, BATCHES_A_TURN = 7, 300


def serve_batches(case: str, batches: int) -> float:
    """Run this many batches of `case`, in a process of its own. Returns seconds per request."""
    logging.getLogger("comfy_auth_rs").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asyncio.new_event_loop(), Path(folder))
        known = next(known for known in bench.cases if known.name == case)
        times = [bench.turn(known) for _ in range(batches)]
    return statistics.median(times) if times else 0.0


def environment(build: Path | None) -> dict[str, str]:
    """Variables for importing a different build than the installed one."""
    chosen = {} if build is None else {"PYTHONPATH": str(build)}
    return {**os.environ, "PYTHONHASHSEED": "0", **chosen}


def count(case: str, batches: int, folder: Path, build: Path | None = None) -> Counter[str]:
    """Instructions below `functools.partial`'s call, which is how aiohttp calls a middleware."""
    output = folder / f"{case}-{batches}.callgrind"
    toggles = [f"--toggle-collect={name}" for name in TOGGLES]
    valgrind = ["valgrind", "--tool=callgrind", *toggles, f"--callgrind-out-file={output}"]
    command = [*valgrind, sys.executable, str(Path(__file__).resolve()), "--serve", case, "--batches", str(batches)]
    subprocess.run(command, check=True, capture_output=True, env=environment(build))
    annotate = ["callgrind_annotate", "--auto=no", "--threshold=99.9", output]
    annotated = subprocess.check_output(annotate, text=True, stderr=subprocess.DEVNULL)
    found: Counter[str] = Counter()
    for instructions, where in re.findall(r"^ *([\d,]+) \([ \d.]+%\)  (.+)$", annotated, re.M):
        if where != "PROGRAM TOTALS":
            found[where] += int(instructions.replace(",", ""))
    return found


def instructions(case: str, batches: int, build: Path | None) -> float:
    """Instructions per request."""
    with tempfile.TemporaryDirectory() as folder:
        most, least = (count(case, number, Path(folder), build).total() for number in (batches, 0))
    return (most - least) / (batches * (BATCH + 1))


def times(runs: list[tuple[str, Path | None]]) -> list[list[float]]:
    """Seconds per request for each case with its build; they take turns."""
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(TURNS):
        for (case, build), values in zip(runs, found, strict=True):
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", case, "--batches", str(BATCHES_A_TURN)]
            values.append(float(subprocess.check_output(command, env=environment(build), text=True)))
    return found


def compare(base: Path, batches: int) -> None:
    print("| | instructions before | now | ratio | processor time, ratio | two equal builds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case, reference in COMPARED.items():
        before, now = instructions(reference, batches, base), instructions(case, batches, None)
        ours, theirs, again = times([(case, None), (reference, base), (reference, base)])
        equal = [one / other for one, other in zip(again, theirs, strict=True)]
        time = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        spread = f"{min(equal):.2f} to {max(equal):.2f}"
        print(f"| {case} | {before:.0f} | {now:.0f} | **{now / before:.3f}** | {time:.2f} | {spread} |", flush=True)


def grouped(spent: Counter[str], requests: int) -> dict[str, float]:
    groups = dict.fromkeys(GROUPS, 0.0)
    for where, instructions in spent.items():
        group = next(name for name, pattern in GROUPS.items() if re.search(pattern, where))
        groups[group] += instructions / requests
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Count the instructions of one call of the middleware, with the handler's coroutine."
    )
    parser.add_argument("--batches", type=int, default=20, help=f"of {BATCH} requests each (default: %(default)s)")
    parser.add_argument("--base", metavar="FOLDER", type=Path, help="compare with the build that is installed there")
    parser.add_argument("--serve", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        print(serve_batches(options.serve, options.batches))
        return
    if options.base:
        compare(options.base, options.batches)
        return
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            spent = count(case, options.batches, Path(folder))
            spent.subtract(count(case, 0, Path(folder)))
            columns[case] = grouped(spent, options.batches * (BATCH + 1))
    print("| instructions of one call | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in GROUPS:
        print(f"| {name} | " + " | ".join(f"{column[name]:.0f}" for column in columns.values()) + " |")
    print("| all | " + " | ".join(f"{sum(column.values()):.0f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
