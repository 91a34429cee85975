"""What a request's instructions are spent on, counted by callgrind: the same on every run, however busy the machine.

Valgrind's processor has no SHA instructions, so SHA-256 counts there what it costs in plain arithmetic: on a processor
that has them it is about a thirtieth.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from middleware import BATCH, Bench, run, serve

#: What a function belongs to, by the first pattern that its name and file match.
GROUPS = {
    "SHA-256, HMAC": r"sha2|sha256|digest-|hmac-",
    "base64": r"base64",
    "header look-ups (multidict)": r"multidict|_md_|PyObject_GetItem|PySequence_Contains",
    "attributes of the request": r"GetAttr|GenericGet|_PyType_Lookup|descrobject|structmember|GetInstanceAttribute",
    "our decision": r"comfy_auth_rs|memchr|arc.swap|hashbrown|subtle",
    "PyO3": r"pyo3",
    "calls, tuples, dictionaries, coroutines": r"",
}


CASES = ("Bearer", "cookie")


def serve_batches(case: str, batches: int) -> None:
    """What is counted: `case` for so many batches, in a process of its own."""
    logging.getLogger("comfy_auth_rs").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asyncio.new_event_loop(), Path(folder))
        known = next(known for known in bench.cases if known.name == case)
        for _ in range(batches):
            run(serve(known.handler, [bench.request(next(known.requests)) for _ in range(BATCH)]))


def count(case: str, batches: int, folder: Path) -> Counter[str]:
    """Instructions below `functools.partial`'s call, which is how aiohttp calls a middleware."""
    output = folder / f"{case}-{batches}.callgrind"
    valgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=partial_call", f"--callgrind-out-file={output}"]
    command = [*valgrind, sys.executable, __file__, "--serve", case, "--batches", str(batches)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    annotate = ["callgrind_annotate", "--auto=no", "--threshold=99.9", output]
    annotated = subprocess.check_output(annotate, text=True, stderr=subprocess.DEVNULL)
    found: Counter[str] = Counter()
    for instructions, where in re.findall(r"^ *([\d,]+) \([ \d.]+%\)  (.+)$", annotated, re.M):
        if where != "PROGRAM TOTALS":
            found[where] += int(instructions.replace(",", ""))
    return found


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
    parser.add_argument("--serve", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_batches(options.serve, options.batches)
        return
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            spent = count(case, options.batches, Path(folder))
            spent.subtract(count(case, 0, Path(folder)))
            columns[case] = grouped(spent, options.batches * BATCH)
    print("| instructions of one call | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in GROUPS:
        print(f"| {name} | " + " | ".join(f"{column[name]:.0f}" for column in columns.values()) + " |")
    print("| all | " + " | ".join(f"{sum(column.values()):.0f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
