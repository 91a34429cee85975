"""Machines of a test's own: each is a network namespace with an address. Nothing outside them is changed.

A socket belongs to the namespace in which it was made, so a test makes its own there. A process is started there by
`ip netns exec`, which becomes that process: its pid is the one to signal.
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

#: Debian keeps them where only root looks for programs.
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
    """What keeps this process from making namespaces; `None` where it may."""
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
    """One machine. `port` is its port of the switch."""

    namespace: str
    address: str
    switch: str
    port: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run here."""
        assert IP
        return (IP, "netns", "exec", self.namespace)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is here until the block ends, and so are the sockets that it makes."""
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
        """One more, of IPv6, which only this machine reaches."""
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
        """Settings of its kernel below net.ipv4."""
        for name, value in settings.items():
            _run(*self.inside, "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")

    def cut_off(self) -> None:
        """Pulls its cable out: nothing arrives, nothing leaves, and nobody is told."""
        _run(IP, "-n", self.switch, "link", "set", self.port, "down")

    def join(self) -> None:
        """Puts the cable in again."""
        _run(IP, "-n", self.switch, "link", "set", self.port, "up")

    def drop(self, other: Host) -> None:
        """What `other` sends is lost on the way here."""
        _run(*self.inside, NFT, "-f", "-", text=_LOST.format(address=other.address))

    def hear(self) -> None:
        """Ends what `drop` began, for all."""
        with suppress(subprocess.CalledProcessError):
            _run(*self.inside, NFT, "delete", "table", "inet", "lost")


class Network:
    """Hosts at a switch, which is a bridge in a namespace of its own."""

    def __init__(self, stack: ExitStack, subnet: str) -> None:
        self._stack = stack
        self._subnet = subnet
        self._free = itertools.count(101)
        self._switch = self._namespace()
        _run(IP, "-n", self._switch, "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        _run(IP, "-n", self._switch, "link", "set", "switch", "up")

    def host(self, number: int | None = None) -> Host:
        """One more, whose address ends in `number`, or in anything."""
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
    """An empty one. Its namespaces are deleted when the block ends; end what runs in them before that."""
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
