"""Whether the time that the whole middleware takes to refuse depends on how much of the key is right: `make timing`.

As in timing.rs: two classes of wrong keys in random order, and Welch's t of all samples and of those below each of a
hundred percentiles. Requests are parsed by aiohttp; the time includes the middleware, its refusal and its log line. A
middleware that compares naively must be detected.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import web
from comfy_auth_rs import create_auth_middleware, generate_key
from middleware import Bench, Handler, behind, raw_request, run

LIMIT = 10.0
SAMPLES = 40_000
PERCENTILES = 100
KEY = generate_key()


@web.middleware
async def naive(request: web.Request, handler: Handler) -> web.StreamResponse:
    """How not to do it."""
    candidate = request.headers["X-API-Key"]
    for mine, theirs in zip(KEY, candidate, strict=True):
        if mine != theirs:
            return web.json_response({"error": "unauthorized"}, status=401)
    return await handler(request)


def welch(classes: tuple[list[float], list[float]]) -> float:
    errors = [statistics.variance(times) / len(times) for times in classes]
    means = [statistics.fmean(times) for times in classes]
    return (means[1] - means[0]) / sum(errors) ** 0.5


def largest_t(times: tuple[list[float], list[float]]) -> float:
    both = sorted(times[0] + times[1])
    found = [welch(times)]
    for percent in range(1, PERCENTILES):
        bound = both[len(both) * percent // PERCENTILES]
        below = tuple([value for value in of_class if value <= bound] for of_class in times)
        if min(map(len, below)) >= 1000:
            found.append(welch(below))  # type: ignore[arg-type]
    return max(found, key=abs)


def measure(bench: Bench, handler: Handler) -> tuple[float, float, float]:
    """The median for wrong keys, how much slower nearly right ones are, in nanoseconds, and the largest t."""
    # Four of each class, because ten different ones would lock this address.
    wrong = [generate_key()[:43] for _ in range(4)]
    near = [KEY[:40] + generate_key()[:3] for _ in range(4)]
    raws = [[raw_request(X_API_Key=key) for key in keys] for keys in (wrong, near)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(SAMPLES):
        kind = random.getrandbits(1)
        request = bench.request(random.choice(raws[kind]))
        start = time.perf_counter_ns()
        response = run(handler(request))
        times[kind].append(time.perf_counter_ns() - start)
        assert response.status == 401
    medians = [statistics.median(of_class) for of_class in times]
    return medians[0], medians[1] - medians[0], largest_t(times)


def main() -> int:
    """Returns 1 if the middleware leaks, or the naive one doesn't seem to."""
    # As in production without a log handler: the line is made, rate-limited and thrown away.
    logging.getLogger("comfy_auth_rs").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asyncio.new_event_loop(), Path(folder))
        gc.collect()
        gc.disable()
        print("| nothing of the key right, or 40 of 43 characters | median | difference | t | |")
        print("| --- | ---: | ---: | ---: | --- |", flush=True)
        holds = True
        for name, middleware, leaks in (
            ("the whole middleware", create_auth_middleware(api_key=KEY), False),
            ("one that compares naively", naive, True),
        ):
            found = measure(bench, behind(middleware))
            if not leaks and abs(found[2]) > LIMIT:
                # Chance and a busy machine don't give the same result twice.
                found = min(found, measure(bench, behind(middleware)), key=lambda figures: abs(figures[2]))
            median, difference, t = found
            holds &= (abs(t) > LIMIT) == leaks
            verdict = {False: "no dependence", True: "seen"}[abs(t) > LIMIT]
            print(f"| {name} | {median:.0f} ns | {difference:+.0f} ns | {t:+.1f} | {verdict} |", flush=True)
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
