"""Draws docs/images/dashboard.svg: what the dashboard in deploy/prometheus shows after two minutes of use.

A real Prometheus reads the miniature while three people use it, a stranger guesses keys, and a wall display looks on.
Then it gets the query of each panel. `make dashboard` runs this.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import aiohttp
import matplotlib.pyplot as plt
from comfy_auth_rs.comfyui.tree import patch
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from support.client import JSON, ask, bearer
from support.prometheus import FOLDER, Prometheus, configuration, prometheus
from support.servers import MINI_COMFYUI, Server, start_server

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "dashboard.svg"

#: The people, with the seconds between two of their prompts, and how long these take.
PEOPLE = {"alice": (5.0, 3.0), "bob": (9.0, 4.0), "render bot": (3.0, 0.7)}

#: Grafana's value if it refreshes every second.
RATE_INTERVAL = "10s"

#: Height of the title and of a row of the dashboard's grid, in inches.
HEAD, ROW = 0.5, 0.36

UNITS = {
    "reqps": lambda value: f"{value:g}/s",
    "percentunit": lambda value: f"{value:.0%}",
    "bytes": lambda value: f"{value / 2**30:.3g} GiB",
    "short": lambda value: f"{value:g}",
}


# ---------------------------------------------------------------------------------------------------------------------
# Something to see


@contextmanager
def used(server: Server, keys: Mapping[str, str]) -> Iterator[None]:
    """The server, while it is used."""
    end = Event()
    threads = [Thread(target=_queue, args=(server, keys[name], *habits, end)) for name, habits in PEOPLE.items()]
    threads += [
        Thread(target=_look, args=(server, keys["wall"], end)),
        Thread(target=_guess, args=(server, end)),
        Thread(target=asyncio.run, args=(_listen(server, keys["wall"], end),)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def _queue(server: Server, key: str, pause: float, seconds: float, end: Event) -> None:
    chance = random.Random(key)  # noqa: S311 - habits, not secrets
    with suppress(ConnectionError):
        while not end.wait(chance.uniform(0.3, 1.7) * pause):
            graph: dict[str, Any] = {
                "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": chance.getrandbits(24)}},
                "2": {
                    "class_type": "ProgressDemo",
                    "inputs": {"image": ["1", 0], "seconds": chance.uniform(0.5, 1.5) * seconds, "steps": 5},
                },
                "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
            }
            graph["1"]["inputs"]["batch_size"] = 1
            body = json.dumps({"prompt": graph}).encode()
            ask(server, "/prompt", {**bearer(key), **JSON}, method="POST", body=body)
            if chance.random() < 0.1:
                ask(server, "/auth_session", bearer(key), method="POST", body=b"")
            if chance.random() < 0.1:
                ask(server, "/interrupt", {**bearer(key), **JSON}, method="POST", body=b"{}")
            if chance.random() < 0.1:
                ask(server, "/queue", {**bearer(key), **JSON}, method="POST", body=b'{"clear": true}')


def _look(server: Server, key: str, end: Event) -> None:
    while not end.wait(0.2):
        for target in ("/queue", "/history"):
            ask(server, target, bearer(key))
        ask(server, "/health")


def _guess(server: Server, end: Event) -> None:
    """Strangers, one of whom gets locked out."""
    number = 0
    while not end.wait(1):
        ask(server, "/queue")
        if time.monotonic() % 60 > 40:
            number += 1
            ask(server, "/queue", bearer(f"guess-{number}"))


async def _listen(server: Server, key: str, end: Event) -> None:
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.ws_connect("/ws", headers=bearer(key)),
        session.ws_connect("/ws"),
        session.ws_connect("/ws"),
    ):
        while not end.is_set():
            await asyncio.sleep(0.2)


# ---------------------------------------------------------------------------------------------------------------------
# Panels


def draw(dashboard: dict[str, Any], started: Prometheus, begin: float, end: float) -> None:
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "comfy-auth-rs"
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = plt.figure(figsize=(14, HEAD + rows * ROW))
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.3 / height, dashboard["title"], fontsize=13, fontweight="bold")
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24 + 0.05, 1 - (HEAD + (place["y"] + place["h"]) * ROW - 0.35) / height
        cell = figure.add_axes((left, bottom, place["w"] / 24 - 0.065, (place["h"] * ROW - 0.75) / height))
        cell.set_title(panel["title"], loc="left", fontsize=10)
        {"stat": _stat, "timeseries": _timeseries}[panel["type"]](cell, panel, started, begin, end)
    figure.savefig(PICTURE, metadata={"Date": None})


def _asked(target: Mapping[str, Any]) -> str:
    expression: str = target["expr"]
    return expression.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".*")


def _name(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    name: str = target["legendFormat"]
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return re.sub(r"{{\w+}}", "", name).strip() or "(no label)"


def _stat(cell: Axes, panel: Mapping[str, Any], started: Prometheus, begin: float, end: float) -> None:
    """The last values, in large type, coloured by their thresholds."""
    cell.set_axis_off()
    [target] = panel["targets"]
    defaults = panel["fieldConfig"]["defaults"]
    found = started.ask("query", query=_asked(target), time=end)["result"]
    lines = []
    for one in found:
        value = float(one["value"][1])
        shown = f"{value / 86400:.0f} days" if defaults.get("unit") == "s" else f"{value:g}"
        lines.append((f"{_name(target, one['metric'])}  {shown}" if len(found) > 1 else shown, value))
    lines = lines or [(defaults["noValue"], 0.0)]
    for row, (text, value) in enumerate(lines):
        steps = defaults["thresholds"]["steps"]
        colour = [step["color"] for step in steps if step["value"] is None or step["value"] <= value][-1]
        size = 22 if len(lines) == 1 else 11
        cell.text(0, 0.3 - row * 0.5, text, fontsize=size, color={"orange": "darkorange"}.get(colour, colour))


def _timeseries(cell: Axes, panel: Mapping[str, Any], started: Prometheus, begin: float, end: float) -> None:
    curves: dict[str, dict[float, float]] = {}
    for target in panel["targets"]:
        found = started.ask("query_range", query=_asked(target), start=begin, end=end, step=1)["result"]
        for one in found:
            curves[_name(target, one["metric"])] = {at - begin: float(value) for at, value in one["values"]}
    defaults = panel["fieldConfig"]["defaults"]
    times = sorted({at for curve in curves.values() for at in curve})
    if defaults["custom"]["stacking"]["mode"] == "normal" and curves:
        heights = [[curve.get(at, 0.0) for at in times] for curve in curves.values()]
        cell.stackplot(times, *heights, labels=curves, alpha=0.6)
    else:
        for name, curve in curves.items():
            cell.plot(curve.keys(), curve.values(), label=name, linewidth=1.2)
    cell.set_xlim(0, end - begin)
    cell.set_ylim(0, cell.get_ylim()[1] * 1.25)  # room for the legend
    cell.grid(alpha=0.3)
    cell.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds // 60:.0f}:{seconds % 60:02.0f}"))
    cell.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[defaults["unit"]](value)))
    cell.tick_params(labelsize=8)
    if curves:
        cell.legend(loc="upper left", fontsize=8, ncols=3, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="how long it is used (default: 120)")
    seconds = parser.parse_args().seconds
    keys = {name: secrets.token_urlsafe(32) for name in (*PEOPLE, "wall", "prometheus")}
    attributes = {
        "bob": f"expires={date.today() + timedelta(days=45)}",
        "wall": "scope=view",
        "prometheus": "scope=metrics",
    }
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        tree, key_file, log = Path(folder, "tree"), Path(folder, "keys"), Path(folder, "audit.jsonl")
        shutil.copytree(MINI_COMFYUI, tree)
        patch(tree)
        key_file.touch(mode=0o600)
        key_file.write_text("".join(f"{key} {name} {attributes.get(name, '')}\n" for name, key in keys.items()))
        flags = ["--api-key-file", str(key_file), "--auth-audit", str(log)]
        with (
            start_server(tree, *flags) as server,
            prometheus(configuration(Path(folder), server, keys["prometheus"])) as started,
            used(server, keys),
        ):
            begin = time.time()
            time.sleep(seconds)
            draw(dashboard, started, begin, time.time())
    print(PICTURE)


if __name__ == "__main__":
    main()
