"""The audit log under load while the disk stops for seconds: nothing waits for it, and missing lines are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from support.keys import KEY

SOURCE = Path(__file__).parents[1] / "fixtures" / "disk" / "stops.c"

#: How many milliseconds worse than the run without the fault it may be, on a machine that has other work too.
SLACK = 20.0

#: How many MiB the process may grow while the disk stands still.
GROWTH = 64

#: Runs in the measured process: how long each call takes, and how late the event loop comes back.
MEASURED = """
import asyncio, gc, json, os, sys, time
from pathlib import Path
from aiohttp.test_utils import make_mocked_request
import comfy_auth_rs

requests, stop_after, stops_for = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
middleware = comfy_auth_rs.create_auth_middleware(api_key={key!r}, audit=sys.argv[1])
stopped = Path(os.environ["DISK_STOPPED"])

async def handler(request):
    return None

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2

async def main():
    good = make_mocked_request("POST", "/do", headers={{"X-API-Key": {key!r}}})
    bad = make_mocked_request("GET", "/do")
    loop = asyncio.get_running_loop()
    longest_call = longest_hold = 0.0
    begun = time.perf_counter()
    marks = [(begun + stop_after, stopped.touch), (begun + stop_after + stops_for, stopped.unlink)] if stops_for else []
    least = begun + stop_after + stops_for + 1
    await middleware(good, handler)
    before, most, done, turn = resident(), 0.0, 1, begun
    admitted = 1
    gc.disable()
    while done < requests or time.perf_counter() < least:
        while marks and time.perf_counter() > marks[0][0]:
            marks.pop(0)[1]()
        for number in range(100):
            at = time.perf_counter()
            if number % 4:
                await middleware(good, handler)
                admitted += 1
            else:
                await middleware(bad, handler)
            longest_call = max(longest_call, time.perf_counter() - at)
        done += 100
        at = time.perf_counter()
        await asyncio.sleep(0)
        longest_hold = max(longest_hold, time.perf_counter() - at)
        if done % 10_000 == 0:
            most = max(most, resident())
    middleware.end()
    print(json.dumps({{"admitted": admitted, "call": longest_call * 1000, "hold": longest_hold * 1000,
                       "growth": most - before, "requests": done}}))

asyncio.run(main())
"""


def run(folder: Path, *, requests: int, stops_for: float) -> dict[str, str]:
    """Makes one run without the fault and one with it."""
    library = folder / "stops.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
    calm, faulty = (_measure(folder, library, requests, seconds) for seconds in (0.0, stops_for))
    for what in ("call", "hold"):
        assert faulty[what] <= calm[what] + SLACK, f"longest {what}: {faulty[what]:.1f} ms, normally {calm[what]:.1f}"
    assert faulty["growth"] < GROWTH, f"{faulty['growth']:.0f} MiB more"
    return {
        "requests": f"{calm['requests']:,.0f} and {faulty['requests']:,.0f}, three of four with a line of their own",
        "longest time in one call": f"{calm['call']:.1f} ms; with a disk that stops {faulty['call']:.1f} ms",
        "longest hold of the loop": f"{calm['hold']:.1f} ms; with a disk that stops {faulty['hold']:.1f} ms",
        "memory": f"{calm['growth']:.0f} MiB more at most; with a disk that stops {faulty['growth']:.0f} MiB",
        "lines": f"{faulty['written']:,.0f} written, {faulty['dropped']:,.0f} missing and counted",
    }


def _measure(folder: Path, library: Path, requests: int, stops_for: float) -> dict[str, float]:
    log = folder / f"{stops_for}.jsonl"
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "DISK_STOPS": log.name,
        "DISK_STOPPED": str(folder / "stopped"),
    }
    command = [sys.executable, "-c", MEASURED.format(key=KEY), str(log), str(requests), "1", str(stops_for)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    told: Counter[str] = Counter()
    with log.open(encoding="ascii") as lines:
        for line in map(json.loads, lines):
            dropped = line["event"] == "dropped" and line["kind"] == "admitted"
            told["dropped" if dropped else line["event"]] += line["count"] if dropped else 1
    assert told["admitted"] + told["dropped"] == found["admitted"], "some lines are neither written nor counted"
    assert (told["dropped"] > 0) == (stops_for > 0) or requests < 1_000_000
    return {**found, "written": told["admitted"], "dropped": told["dropped"]}
