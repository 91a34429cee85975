"""Machines for a test: each is a network namespace with an address. Nothing outside them changes.

A socket belongs to the namespace in which it was made, so tests make theirs there. `ip netns exec` starts a process
there and becomes that process: its pid is the one to signal.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Debian installs them where only root looks for programs.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
IP, NFT = (shutil.which(name, path=_PATH) for name in ("ip", "nft"))

_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_LOST = """
table inet lost {{
    chain input {{
        type filter hook input priority 0
        ip saddr {address} drop
    }}
}}
"""
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


@cache
def why_not() -> str | None:
    """Why this process can't make namespaces, or `None` if it can."""
    if IP is None or NFT is None:
        return "ip and nft are not installed (Debian: apt-get install iproute2 nftables)"
    try:
        with network() as found:
            one, other = found.host(), found.host()
            one.drop(other)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"no network namespaces here: {said.strip()}"
    return None


@dataclass(frozen=True)
class Host:
    """One machine. `port` is its port on the switch."""

    namespace: str
    address: str
    switch: str
    port: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Put this in front of a command to run it here."""
        assert IP
        return (IP, "netns", "exec", self.namespace)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Moves this thread here until the block ends. Sockets that it makes stay here."""
        with open("/proc/thread-self/ns/net") as home, open(_NAMED / self.namespace) as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def add_address(self, address: str) -> None:
        """Adds an IPv6 address that only this machine reaches."""
        _run(IP, "-n", self.namespace, "address", "add", f"{address}/128", "dev", "lo")

    def connect(self, address: tuple[str, int], timeout: float, *, source: str | None = None) -> socket.socket:
        made = self.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            made.settimeout(timeout)
            if source is not None:
                made.bind((source, 0))
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made

    def set(self, **settings: int) -> None:
        """Changes settings of its kernel below net.ipv4."""
        for name, value in settings.items():
            _run(*self.inside, "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")

    def cut_off(self) -> None:
        """Pulls the cable out: nothing arrives, nothing leaves, and nobody is told."""
        _run(IP, "-n", self.switch, "link", "set", self.port, "down")

    def join(self) -> None:
        """Plugs the cable in again."""
        _run(IP, "-n", self.switch, "link", "set", self.port, "up")

    def drop(self, other: Host) -> None:
        """Drops everything that `other` sends to this machine."""
        _run(*self.inside, NFT, "-f", "-", text=_LOST.format(address=other.address))

    def hear(self) -> None:
        """Undoes every `drop`."""
        with suppress(subprocess.CalledProcessError):
            _run(*self.inside, NFT, "delete", "table", "inet", "lost")


class Network:
    """Hosts on a switch, which is a bridge in its own namespace."""

    def __init__(self, stack: ExitStack, subnet: str) -> None:
        self._stack = stack
        self._subnet = subnet
        self._free = itertools.count(101)
        self._switch = self._namespace()
        _run(IP, "-n", self._switch, "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        _run(IP, "-n", self._switch, "link", "set", "switch", "up")

    def host(self, number: int | None = None) -> Host:
        """Adds a host. Its address ends in `number`, or in a free one."""
        number = number or next(self._free)
        namespace, port, address = self._namespace(), f"port{number}", f"{self._subnet}.{number}"
        _run(IP, "-n", self._switch, *f"link add {port} type veth peer name eth0 netns {namespace}".split())
        _run(IP, "-n", self._switch, "link", "set", port, "master", "switch", "up")
        _run(IP, "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _run(IP, "-n", namespace, "link", "set", device, "up")
        return Host(namespace, address, self._switch, port)

    def _namespace(self) -> str:
        name = f"comfy-auth-{os.getpid()}-{next(_numbers)}"
        _run(IP, "netns", "add", name)
        self._stack.callback(_run, IP, "netns", "delete", name)
        return name


@contextmanager
def network(subnet: str = "10.231.77") -> Iterator[Network]:
    """An empty network. It deletes its namespaces when the block ends; end all processes in them first."""
    with ExitStack() as stack:
        yield Network(stack, subnet)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _run(*command: str | None, text: str = "") -> None:
    assert all(command)
    words: Sequence[str] = [word for word in command if word]
    subprocess.run(words, input=text, check=True, capture_output=True, text=True)
