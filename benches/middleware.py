"""What the middleware costs, compared with reference middlewares.

Everything is measured in this one process, in many short turns that alternate between the cases, so that whatever else
the machine does slows all of them equally. Only ratios can be compared between machines.

Requests are aiohttp's own: parsed by its parser, resolved by a real router, and handed to the handler that aiohttp
would build from the middleware. Each is used once, because `web.Request` remembers what it was asked. They are made and
resolved before the clock starts. One coroutine awaits the handler for one batch after the other, as `web.Application`
does for each request, and is driven by hand, without an event loop.

The added cost is the time with the middleware minus the time without any, in the same round. Medians are printed;
`--json FILE` writes all values to a file that `python -m pyperf` reads.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import hashlib
import hmac
import importlib.metadata
import inspect
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial, update_wrapper
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyperf
from aiohttp import hdrs, web
from aiohttp.http_parser import HttpRequestParser
from comfy_auth_rs import KeyStore, create_auth_middleware, generate_key, probe_devices
from comfy_auth_rs._core import SessionCookie

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

#: Requests per turn: few, so that they are as warm in the cache as a request that was just parsed.
BATCH = 64

#: The rounds are condensed to this many values, which show the spread over the run.
BLOCKS = 10

KEYS = [generate_key() for _ in range(10_000)]

HEADERS = {
    "Host": "127.0.0.1:8188",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "Accept": "*/*",
    "Accept-Language": "en-US,en;q=0.9",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://127.0.0.1:8188/",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Connection": "keep-alive",
    "Comfy-User": "",
}


class Case(NamedTuple):
    """One line of the measurement."""

    name: str
    handler: Handler
    requests: Iterator[bytes]


class Connection:
    """A connection from the loopback address, as far as a request needs one."""

    peername = ("127.0.0.1", 50000)
    sockname = ("127.0.0.1", 8188)
    ssl_context = None

    def __init__(self) -> None:
        self.transport = self

    def get_extra_info(self, name: str) -> Any:
        return getattr(self, name, None)


def raw_request(query: str = "", **headers: str) -> bytes:
    fields = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET /history/0fb1{query} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


async def answer(request: web.Request) -> web.StreamResponse:
    """The route's handler. It does nothing, so that only what surrounds it is measured."""
    return ANSWER


async def answer_other(request: web.Request) -> web.StreamResponse:
    """The handler of the other routes."""
    return ANSWER


async def answer_401(request: web.Request) -> web.StreamResponse:
    """What a handler that refuses does."""
    return web.json_response(
        {"error": "unauthorized", "message": "This server needs an API key."},
        status=401,
        headers={"WWW-Authenticate": 'Bearer realm="ComfyUI"', "Cache-Control": "no-store"},
    )


@web.middleware
async def empty(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


def only_calls(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """The least that Python allows: no coroutine of its own, and it doesn't read the request."""
    return handler(request)


DIGEST = hashlib.sha256(KEYS[0].encode()).digest()


@web.middleware
async def pure_python(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What people usually write, done well: one key, one header, nothing else."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(hashlib.sha256(key.encode()).digest(), DIGEST):
        return await handler(request)
    return web.json_response({"error": "unauthorized"}, status=401)


class Bench:
    """The server that the requests are made for, and the cases."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop = loop
        self.connection = Connection()
        self.app = web.Application()
        for path in ("/prompt", "/queue", "/system_stats", "/history", "/history/{prompt_id}", "/view"):
            self.app.router.add_get(path, answer if "{" in path else answer_other)
        self.app.freeze()

        one, many = (create_auth_middleware(api_key_file=key_file(folder, KEYS[:count])) for count in (1, len(KEYS)))
        bearer = raw_request(Authorization=f"Bearer {KEYS[0]}")
        each_key = [raw_request(Authorization=f"Bearer {key}") for key in KEYS]
        basic = base64.b64encode(f"comfy:{KEYS[0]}".encode()).decode()
        session = one.log_in(self.request(bearer), remember=True)
        assert isinstance(session, SessionCookie)
        ours, ours_many = behind(one), behind(many)
        self.cases = [
            Case("none", answer, cycle([bearer])),
            Case("empty", behind(empty), cycle([bearer])),
            Case("plain call", behind(only_calls), cycle([bearer])),
            Case("pure Python", behind(pure_python), cycle([bearer])),
            Case("Bearer", ours, cycle([bearer])),
            Case("10,000 keys", ours_many, cycle([bearer])),
            Case("10,000 keys in turn", ours_many, cycle(each_key)),
            Case("X-API-Key", ours, cycle([raw_request(X_API_Key=KEYS[0])])),
            Case("Basic", ours, cycle([raw_request(Authorization=f"Basic {basic}")])),
            Case("query", ours, cycle([raw_request(f"?api_key={KEYS[0]}")])),
            Case("cookie", ours, cycle([raw_request(Cookie=f"theme=dark; {session.name}={session.value}")])),
            Case("401", answer_401, cycle([bearer])),
            Case("no credential", ours, cycle([raw_request()])),
            # Repeating one value is not an attack: it is counted once and locks nobody out.
            Case("wrong key", ours, cycle([raw_request(Authorization=f"Bearer {'x' * 43}")])),
        ]
        known = inspect.signature(create_auth_middleware).parameters
        if "audit" in known:  # an older build may have no audit log
            # Requests that need no more than `view` are not logged.
            looked_at = {"keys": KeyStore(api_key=[KEYS[0]]), "scopes": {"/*": "view"}}
            for name, log in (("scopes", None), ("scopes, audit", folder / "audit.jsonl")):
                self.cases.append(Case(name, behind(create_auth_middleware(**looked_at, audit=log)), cycle([bearer])))
        if "state" in known:
            everything = create_auth_middleware(**looked_at, audit=folder / "all.jsonl", state=folder / "state.sqlite3")
            session = everything.log_in(self.request(bearer), remember=True)
            assert isinstance(session, SessionCookie)
            cookie = raw_request(Cookie=f"theme=dark; {session.name}={session.value}")
            self.cases.append(Case("audit, store", behind(everything), cycle([bearer])))
            self.cases.append(Case("audit, store, cookie", behind(everything), cycle([cookie])))
        if "scopes" in known:
            for name, count in (("scope, expiry", 1), ("10,000 scopes", len(KEYS))):
                lines = [f"{key} label scope=view expires=2099-12-31" for key in KEYS[:count]]
                limited = create_auth_middleware(api_key_file=key_file(folder, lines), scopes={"/*": "view"})
                self.cases.append(Case(name, behind(limited), cycle([bearer])))

    def request(self, raw: bytes) -> web.Request:
        """A request, as the middleware gets it."""
        parser = HttpRequestParser(self.connection, self.loop, 2**16)
        ((message, payload),), _, _ = parser.feed_data(raw)
        request = web.Request(message, payload, self.connection, None, None, self.loop)
        match = run(self.app.router.resolve(request))
        match.add_app(self.app)
        match.freeze()
        request._match_info = match
        return request

    def turn(self, case: Case) -> float:
        """Seconds per request, in a fresh batch."""
        first, *requests = [self.request(next(case.requests)) for _ in range(1 + BATCH)]
        run(case.handler(first))  # brings each case back into the caches, as in steady traffic
        coroutine = serve(case.handler, requests)
        start = pyperf.perf_counter()
        try:
            coroutine.send(None)
        except StopIteration:
            return (pyperf.perf_counter() - start) / BATCH
        raise RuntimeError(f"{case.name}: something waits")

    def check(self) -> None:
        """Check that each case is admitted or refused as its name says."""
        for case in self.cases:
            response = run(case.handler(self.request(next(case.requests))))
            refused = case.name in ("401", "no credential", "wrong key")
            assert (response is not ANSWER and response.status == 401) if refused else response is ANSWER, case.name


async def serve(handler: Handler, requests: list[web.Request]) -> None:
    """What `web.Application` does with a request after it found the route."""
    for request in requests:
        if request.headers.get(hdrs.EXPECT):
            raise ValueError("the requests of this benchmark expect nothing")
        await handler(request)


def run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("something waits")


def behind(middleware: Middleware) -> Handler:
    """The handler that aiohttp builds from a middleware and a route's handler."""
    return update_wrapper(partial(middleware, handler=answer), answer)


def key_file(folder: Path, lines: list[str]) -> Path:
    path = Path(tempfile.mkstemp(dir=folder)[1])
    path.write_text("\n".join(lines))
    return path


def measure(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """For each case, the median seconds per request in each block of rounds."""
    blocks: dict[str, list[float]] = {case.name: [] for case in bench.cases}
    for _ in range(BLOCKS):
        times: dict[str, list[float]] = {case.name: [] for case in bench.cases}
        for _ in range(max(rounds // BLOCKS, 1)):
            for case in random.sample(bench.cases, len(bench.cases)):
                times[case.name].append(bench.turn(case))
            gc.collect(0)
        for name, values in times.items():
            blocks[name].append(statistics.median(values))
    return blocks


def measure_import(times: int) -> dict[str, list[float]]:
    """Seconds and bytes (resident) that `import comfy_auth_rs` adds to `import aiohttp.web`, in fresh interpreters."""
    script = (
        "import aiohttp.web, os, time\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "before = resident() if os.path.exists('/proc/self/statm') else 0\n"
        "start = time.perf_counter()\n"
        "import comfy_auth_rs\n"
        "print(time.perf_counter() - start, resident() - before if before else 0)\n"
    )
    # From bytecode, like installed packages.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", script]
    subprocess.check_call(command, env=environment, stdout=subprocess.DEVNULL)
    outputs = [subprocess.check_output(command, env=environment, text=True).split() for _ in range(times)]
    return {"import": [float(seconds) for seconds, _ in outputs], "resident": [float(size) for _, size in outputs]}


def measure_probe(times: int) -> list[tuple[float, float]]:
    """Seconds of a cold `probe_devices()` and of `psutil.virtual_memory()`, taken in turn."""
    figures = []
    for _ in range(times):
        pair = []
        for probe in (probe_devices, psutil.virtual_memory):
            start = pyperf.perf_counter()
            probe()
            pair.append(pyperf.perf_counter() - start)
        figures.append((pair[0], pair[1]))
    return figures


def report(times: dict[str, list[float]], imports: dict[str, list[float]]) -> None:
    """Prints the tables, in Markdown."""

    def added(name: str) -> list[float]:
        return [with_it - without for with_it, without in zip(times[name], times["none"], strict=True)]

    def row(name: str, reference_name: str, values: list[float], reference: list[float], target: str) -> None:
        ratios = [value / unit for value, unit in zip(values, reference, strict=True)]
        ratio, nanoseconds = statistics.median(ratios), statistics.median(values) * 1e9
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {nanoseconds:.0f} ns | {reference_name} | **{ratio:.2f}** | {spread} | {target} |")

    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    print(f"{metadata['date'][:10]}, {metadata['cpu_count']} x {metadata.get('cpu_model_name', 'unknown')},", end=" ")
    print(f"load {os.getloadavg()[0]:.1f}, {metadata['platform']}, Python {metadata['python_version']},", end=" ")
    print(*(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES), sep=", ", end="\n\n")

    print("| per request | median | in units of | ratio | in ten blocks | target |")
    print("| --- | ---: | --- | ---: | --- | --- |")
    unit, bearer = added("empty"), added("Bearer")
    row("empty `async def` middleware", "itself", unit, unit, "")
    row("a function that only calls the handler", "empty", added("plain call"), unit, "")
    pure = added("pure Python")
    row("Bearer, 1 key", "empty", bearer, unit, "≤ 1.25")
    row("pure Python: SHA-256, `compare_digest`", "empty", pure, unit, "")
    row("Bearer, 1 key", "pure Python", bearer, pure, "≤ 0.18")
    row("Bearer, 10,000 keys, one in use", "1 key", added("10,000 keys"), bearer, "≤ 1.05")
    row("Bearer, 10,000 keys, all in turn", "1 key", added("10,000 keys in turn"), bearer, "")
    row("`X-API-Key`", "Bearer", added("X-API-Key"), bearer, "≤ 1.2")
    row("Basic", "Bearer", added("Basic"), bearer, "≤ 1.5")
    row("`?api_key=`", "Bearer", added("query"), bearer, "≤ 2.5")
    row("session cookie", "Bearer", added("cookie"), bearer, "≤ 1.6")
    row("Bearer, scopes of routes", "Bearer", added("scopes"), bearer, "≤ 1.05")
    row("the same with the audit log", "without it", added("scopes, audit"), added("scopes"), "≤ 1.05")
    row("handler that returns a 401", "itself", times["401"], times["401"], "")
    row("refused: no credential", "the 401", times["no credential"], times["401"], "≤ 1.2")
    row("refused: wrong key", "the 401", times["wrong key"], times["401"], "≤ 1.2")
    print("\nAll but the last three are what is added to a request without middleware", end=" ")
    print(f"({statistics.median(times['none']) * 1e9:.0f} ns here).")
    ratio = statistics.median(ours / theirs for ours, theirs in measure_probe(1001))
    print(f"\n`probe_devices()`: {ratio:.1f} times `psutil.virtual_memory()` (target ≤ 3, without a GPU).")
    print("\n`import comfy_auth_rs` after `import aiohttp.web`:", end=" ")
    print(f"{statistics.median(imports['import']) * 1e3:.1f} ms (target ≤ 5),", end=" ")
    print(f"{statistics.median(imports['resident']) / 2**20:.1f} MiB resident (target ≤ 3).")


def save(times: dict[str, list[float]], path: str) -> None:
    benchmarks = [
        pyperf.Benchmark([pyperf.Run(values, metadata={"name": name, "loops": BATCH})])
        for name, values in times.items()
    ]
    pyperf.BenchmarkSuite(benchmarks).dump(path, replace=True)


PACKAGES = ("aiohttp", "multidict", "yarl", "comfy-auth-rs")
ANSWER = web.Response()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the middleware against reference middlewares.")
    parser.add_argument("--rounds", type=int, default=4000, help="turns of each case (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also save all values, in seconds, for `python -m pyperf`")
    options = parser.parse_args()
    # As in production without a log handler: the line of a refused request is made, rate-limited and thrown away.
    logging.getLogger("comfy_auth_rs").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asyncio.new_event_loop(), Path(folder))
        bench.check()
        gc.collect()
        gc.disable()
        measure(bench, 200)  # warms up
        times = measure(bench, options.rounds)
    report(times, measure_import(21))
    if options.json:
        save(times, options.json)


if __name__ == "__main__":
    main()
