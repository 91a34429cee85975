"""Reads `/metrics` with Prometheus's own parsers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

from support.client import Answer

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
CONTENT_TYPES = {
    "application/openmetrics-text; version=1.0.0; charset=utf-8": open_metrics,
    "text/plain; version=0.0.4; charset=utf-8": classic,
}

#: Labels with their names, usable as a key of a dictionary.
Labels = frozenset[tuple[str, str]]


def families(answer: Answer) -> list[Any]:
    """Parses the answer in the format that its Content-Type names."""
    assert answer.status == 200, answer
    return list(CONTENT_TYPES[answer.headers["Content-Type"]](answer.body.decode()))


def series(answer: Answer) -> dict[tuple[str, Labels], float]:
    """The value of each series. No two have the same name and labels."""
    found: dict[tuple[str, Labels], float] = {}
    for family in families(answer):
        for sample in family.samples:
            name = (sample.name, frozenset(sample.labels.items()))
            assert name not in found
            found[name] = sample.value
    return found


def value(answer: Answer, name: str, **labels: str) -> float:
    """The value of one series."""
    return series(answer)[f"comfy_auth_{name}", frozenset(labels.items())]


def values(answer: Answer, name: str, label: str) -> dict[str, float]:
    """The values of a name by one of its labels, or by two as `LABEL/LABEL`."""

    def found() -> Iterator[tuple[str, float]]:
        for (other, labels), number in series(answer).items():
            if other == f"comfy_auth_{name}":
                yield "/".join(dict(labels)[one] for one in label.split("/")), number

    return dict(found())
