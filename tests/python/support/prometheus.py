"""Runs Prometheus with the files under deploy/ as a child of a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.client import ask
from support.proxies import DEPLOY, shipped
from support.servers import Server, free_port

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

FOLDER = DEPLOY / "prometheus"

#: Far longer than a few scrapes take, because other work may share this machine.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that listens on `port` of 127.0.0.1. `url` has no trailing slash."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, **query: str | float) -> Any:
        """The data in its API's answer."""
        answer = ask(self, f"/api/v1/{path}?{urlencode(query)}")
        assert answer.status == 200, answer
        told = json.loads(answer.body)
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query."""
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=expression)["result"]]

    def value(self, expression: str) -> float | None:
        """The value of the only series, or `None`."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def until(self, what: Callable[[], Any]) -> Any:
        """Calls `what` until it returns something true, and returns that."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := what()):
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.1)
        return found


def configuration(folder: Path, server: Server, key: str, *, interval: str = "1s") -> Path:
    """The shipped configuration and alerts in `folder`, for this server and key, scraped every `interval`."""
    credentials = folder / "comfyui.key"
    credentials.touch(mode=0o600)
    credentials.write_text(f"{key}\n")
    changes = {
        "/etc/prometheus/comfyui.key": str(credentials),
        "127.0.0.1:8188": f"127.0.0.1:{server.port}",
        "scrape_interval: 15s": f"scrape_interval: {interval}",
        "evaluation_interval: 15s": f"evaluation_interval: {interval}",
    }
    (folder / "prometheus.yml").write_text(shipped("prometheus/prometheus.yml", changes))
    shutil.copy(FOLDER / "alerts.yml", folder)
    return folder / "prometheus.yml"


@contextmanager
def prometheus(configuration: Path) -> Iterator[Prometheus]:
    """Runs Prometheus with this configuration until the block ends. It writes only beside the configuration."""
    assert PROMETHEUS, "prometheus is not installed"
    folder, port = configuration.parent, free_port()
    command = [
        PROMETHEUS,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "TZ": "UTC"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        started = Prometheus(port, folder / "prometheus.log")
        started.until(lambda: _is_ready(started, process))
        yield started
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(started: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, started.log.read_text(errors="replace")
    try:
        return ask(started, "/-/ready").status == 200
    except OSError:
        return False
