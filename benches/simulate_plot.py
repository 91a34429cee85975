"""Draws the curves of docs/simulation.md from the figures that `benches/simulate.rs` writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

Figures = dict[str, list[dict[str, Any]]]


def known(axis: Any, runs: list[dict[str, Any]], title: str, since: str) -> None:
    """How many of the nodes know of a log-out, by time."""
    for run in runs:
        curve = run.get("curve") or run["told"]["curve"]
        axis.plot([max(value, 1) for value in curve], range(len(curve)), label=f"{run['nodes']:,} nodes")
    axis.set(title=title, xscale="log", xlabel=f"milliseconds since {since}", ylabel="% who know")
    axis.axvline(1000, color="grey", linestyle=":", linewidth=1)


def overshot(axis: Any, runs: list[dict[str, Any]]) -> None:
    """Prompts beyond a limit, by tries a second."""
    for run in runs:
        rates, means, worst = zip(*run["by_rate"], strict=True)
        (line,) = axis.plot(rates, means, marker="o", label=f"{run['nodes']:,} nodes")
        axis.plot(rates, worst, marker="_", linestyle=":", color=line.get_color())
    axis.set(title="Beyond a limit of 60 an hour", xlabel="tries of one user a second", xscale="log")
    axis.set(ylabel="prompts: mean, worst (dotted)", yscale="symlog", ylim=(0, None))


def plot(figures: Figures, path: Path) -> None:
    mpl.rcParams["svg.hashsalt"] = "simulate"  # the same names in each run
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    known(axes[0][0], figures["everyday"], "Log-outs, everyday", "the log-out")
    known(axes[0][1], figures["flood"], "Log-outs, while 100,000 addresses are locked", "the log-out")
    known(axes[1][0], figures["parted"], "Log-outs, after a partition of a minute", "its end")
    overshot(axes[1][1], figures["overshot"])
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Plot the figures of a simulation.")
    parser.add_argument("figures", metavar="JSON", type=Path, nargs="+", help="the figures, in one file or several")
    parser.add_argument("plot", metavar="SVG", type=Path)
    options = parser.parse_args()
    together: Figures = {}
    for path in options.figures:
        for name, runs in json.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(runs, list):
                together.setdefault(name, []).extend(runs)
    plot({name: sorted(runs, key=lambda run: run["nodes"]) for name, runs in together.items()}, options.plot)


if __name__ == "__main__":
    main()
