"""Runs Redis servers, or Valkey where it is installed, as children of a test, each on its own port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkey import Valkey as Client
from valkey.exceptions import ValkeyError

from support.servers import free_port

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")


@dataclass
class Valkey:
    """A server on 127.0.0.1 that tests can stop, kill and start again."""

    port: int
    folder: Path
    options: list[str]
    config: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert SERVER
        command = [SERVER, *self.config, "--port", str(self.port), "--dir", str(self.folder), *self.options]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kills it at once. It saves nothing."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def ask(self, *command: object, password: str | None = None) -> Any:
        """Runs a command, as a person would at the console."""
        with Client(port=self.port, password=password, socket_timeout=10) as client:
            return client.execute_command(*command)

    def content(self, password: str | None = None) -> bytes:
        """Every byte of every key and value."""
        with Client(port=self.port, password=password, socket_timeout=10) as client:
            found = [b""]
            for key in client.scan_iter():
                found += [key, client.dump(key) or b""]
                kind = client.type(key)
                if kind == b"hash":
                    found += [part for pair in client.hgetall(key).items() for part in pair]
                elif kind == b"string":
                    found.append(client.get(key) or b"")
                elif kind == b"stream":
                    found += [part for _, fields in client.xrange(key) for pair in fields.items() for part in pair]
            return b"\n".join(found)

    def sees(self, command: str) -> int:
        """How often the server received this command."""
        with suppress(ValkeyError):
            stats: Mapping[str, Any] = self.ask("INFO", "commandstats")
            return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))
        return 0


@contextmanager
def start_valkey(*options: object, config: str | None = None, port: int | None = None) -> Iterator[Valkey]:
    """Starts a server that saves nothing unless `options` say so. It reads the text `config` before the options."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "conf"
        if config is not None:
            file.write_text(config)
        server = Valkey(
            port or free_port(),
            folder,
            ["--save", "", *map(str, options)] if config is None else [*map(str, options)],
            [str(file)] if config is not None else [],
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
