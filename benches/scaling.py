"""How the cost of one request grows with the number of keys, exemption rules and addresses that failed.

The requests and their timing are those of `middleware.py`. Writes one plot.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import ipaddress
import logging
import statistics
import tempfile
from itertools import cycle
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
import pyperf
from comfy_auth_rs import create_auth_middleware, generate_key
from comfy_auth_rs._core import AuthMiddleware
from middleware import KEYS, Bench, Case, behind, key_file, raw_request, run

COUNTS = {
    "keys": (1, 10, 100, 1_000, 10_000, 100_000),
    "exemption rules": (1, 10, 100, 1_000),
    "addresses that failed": (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
}
Curve = dict[int, float]


def nanoseconds(bench: Bench, case: Case, rounds: int) -> float:
    for _ in range(20):
        bench.turn(case)
    gc.collect()
    return statistics.median(bench.turn(case) for _ in range(rounds)) * 1e9


def by_keys(bench: Bench, folder: Path, rounds: int) -> dict[str, Curve]:
    curves: dict[str, Curve] = {"a valid key": {}, "a wrong key": {}}
    for count in COUNTS["keys"]:
        keys = [KEYS[0], *(generate_key() for _ in range(count - 1))]
        handler = behind(create_auth_middleware(api_key_file=key_file(folder, keys)))
        for name, key in (("a valid key", KEYS[0]), ("a wrong key", "x" * 43)):
            case = Case(name, handler, cycle([raw_request(Authorization=f"Bearer {key}")]))
            curves[name][count] = nanoseconds(bench, case, rounds)
    return curves


def by_rules(bench: Bench, rounds: int) -> dict[str, Curve]:
    curves: dict[str, Curve] = {"a valid key": {}, "exempt, by the last rule": {}, "refused": {}}
    for count in COUNTS["exemption rules"]:
        rules = [f"/my_node_{number}/*" for number in range(count - 1)]
        asked = {
            "a valid key": (["/nothing", *rules], raw_request(Authorization=f"Bearer {KEYS[0]}")),
            "exempt, by the last rule": ([*rules, "/history/*"], raw_request()),
            "refused": (["/nothing", *rules], raw_request()),
        }
        for name, (exempt, raw) in asked.items():
            handler = behind(create_auth_middleware(api_key=KEYS[0], exempt=exempt))
            curves[name][count] = nanoseconds(bench, Case(name, handler, cycle([raw])), rounds)
    return curves


def by_addresses(bench: Bench, rounds: int) -> dict[str, Curve]:
    """One middleware, asked by more and more addresses, each with a wrong key."""
    curves: dict[str, Curve] = {"a valid key": {}, "a wrong key, its address's first": {}}
    middleware = create_auth_middleware(api_key=KEYS[0], trusted_proxy="127.0.0.1")
    failing = failures()
    valid = cycle([raw_request(Authorization=f"Bearer {KEYS[0]}", X_Forwarded_For="192.0.2.1")])
    done = 0
    for count in COUNTS["addresses that failed"]:
        done += fail(bench, middleware, failing, count - done)
        curves["a valid key"][count] = nanoseconds(bench, Case("valid", behind(middleware), valid), rounds)
        case = Case("wrong", behind(middleware), failing)
        curves["a wrong key, its address's first"][count] = nanoseconds(bench, case, rounds)
    return curves


def failures():
    for number in range(int(ipaddress.ip_address("10.0.0.0")), int(ipaddress.ip_address("11.0.0.0"))):
        address = str(ipaddress.ip_address(number))
        yield raw_request(Authorization=f"Bearer {'x' * 43}", X_Forwarded_For=address)


def fail(bench: Bench, middleware: AuthMiddleware, failing, count: int) -> int:
    handler = behind(middleware)
    for _ in range(count):
        response = run(handler(bench.request(next(failing))))
        assert response.status == 401, response.status
    return count


def plot(curves: dict[str, dict[str, Curve]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(curves), figsize=(12, 3.6), sharey=True, layout="constrained")
    for axis, (what, lines) in zip(axes, curves.items(), strict=True):
        for name, curve in lines.items():
            axis.plot(list(curve), [value / 1000 for value in curve.values()], marker="o", label=name)
        axis.set(xscale="log", xlabel=what)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set(ylabel="microseconds a request, handler included")
    axes[0].set_ylim(bottom=0)
    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    figure.suptitle(
        f"{metadata['date'][:10]}, {metadata['cpu_count']} x {metadata.get('cpu_model_name', 'unknown')}, "
        f"Python {metadata['python_version'].split()[0]}, aiohttp {importlib.metadata.version('aiohttp')}",
        fontsize=9,
    )
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Plot how the cost of one request grows.")
    parser.add_argument("--rounds", type=int, default=300, help="turns of each point (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", type=Path, default=Path("docs/images/scaling.svg"))
    options = parser.parse_args()
    logging.getLogger("comfy_auth_rs").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asyncio.new_event_loop(), Path(folder))
        gc.collect()
        gc.disable()
        curves = {
            "keys": by_keys(bench, Path(folder), options.rounds),
            "exemption rules": by_rules(bench, options.rounds),
            "addresses that failed": by_addresses(bench, options.rounds),
        }
    for what, lines in curves.items():
        for name, curve in lines.items():
            figures = ", ".join(f"{count:,}: {value:.0f}" for count, value in curve.items())
            print(f"- {what}, {name}, in ns: {figures}")
    plot(curves, options.plot)


if __name__ == "__main__":
    main()
