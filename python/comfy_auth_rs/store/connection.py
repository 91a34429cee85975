"""Connections of the Valkey client, to the right node, with limits on time and size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from valkey.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from valkey.exceptions import ConnectionError, ResponseError, ValkeyError

from comfy_auth_rs.store.address import Address

__all__ = ["connect"]

_T = TypeVar("_T")
Host = tuple[str, int]

CONNECT_TIMEOUT = 1.0  # seconds

#: How often the nodes of a cluster may redirect us.
_MOST_MOVES = 5

#: Largest reply, in bytes, and longest time for one, in seconds. Data that someone else has put there must not fill the
#: memory or block reading.
LARGEST_ANSWER = 4 << 20
LONGEST_ANSWER = 10.0


class _Bounded:
    """A socket that limits the size and time of each reply. Sending starts the count again."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._left = LARGEST_ANSWER
        self._until = time.monotonic() + LONGEST_ANSWER

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def sendall(self, data: bytes) -> None:
        self._left = LARGEST_ANSWER
        self._until = time.monotonic() + LONGEST_ANSWER
        self._socket.sendall(data)

    def recv(self, size: int) -> bytes:
        data: bytes = self._socket.recv(size)
        self._count(len(data))
        return data

    def recv_into(self, buffer: Any, *more: Any) -> int:
        size: int = self._socket.recv_into(buffer, *more)
        self._count(size)
        return size

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            self._end("a reply is too long to be ours")
        if time.monotonic() > self._until:
            self._end("a reply takes too long")

    def _end(self, why: str) -> NoReturn:
        raise OSError(why)


class Plain(Connection):
    """Over TCP."""

    def _connect(self) -> Any:
        return _Bounded(super()._connect())


class Tls(SSLConnection):
    """Over TLS."""

    def _connect(self) -> Any:
        return _Bounded(super()._connect())


class Unix(UnixDomainSocketConnection):
    """Over a Unix socket."""

    def _connect(self) -> Any:
        return _Bounded(super()._connect())


def connect(address: Address, timeout: float, key: bytes) -> AbstractConnection:
    """A connection to the node that has `key` and accepts writes. Raises what the client raises."""
    if address.kind == "cluster":
        return _first(address.hosts, lambda host: _to_owner(address, host, timeout, key))
    if address.kind == "sentinel":
        return _connected(address, _first(address.hosts, lambda host: _primary(address, host, timeout)), timeout)
    return _connected(address, address.hosts[0] if address.hosts else None, timeout)


def _first(hosts: Sequence[Host], ask: Callable[[Host], _T]) -> _T:
    """The answer of the first host that answers."""
    for host in hosts[:-1]:
        try:
            return ask(host)
        except (ValkeyError, OSError):
            continue
    return ask(hosts[-1])


def _connected(address: Address, host: Host | None, timeout: float) -> AbstractConnection:
    """A connection to one server; without `host`, to the socket."""
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "db": address.db,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": timeout,
    }
    connection: AbstractConnection
    if host is None:
        connection = Unix(path=address.name, **options)
    elif address.tls is not None:
        connection = Tls(host=host[0], port=host[1], **options, **address.tls)
    else:
        connection = Plain(host=host[0], port=host[1], **options)
    connection.connect()
    return connection


def _ask(connection: AbstractConnection, *command: bytes | str) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _primary(address: Address, sentinel: Host, timeout: float) -> Host:
    """Where a Sentinel says that the service is."""
    them = replace(address, username=address.sentinel_username, password=address.sentinel_password, db=0)
    connection = _connected(them, sentinel, timeout)
    try:
        found = _ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.name)
    finally:
        connection.disconnect()
    if found is None:
        raise ConnectionError("the Sentinels don't know this service")
    return found[0].decode(), int(found[1])


def _to_owner(address: Address, host: Host, timeout: float, key: bytes) -> AbstractConnection:
    """A connection to the cluster's node that has the key. Any node says which one."""
    for _ in range(_MOST_MOVES):
        connection = _connected(address, host, timeout)
        try:
            _ask(connection, "GET", key)
        except ResponseError as error:
            connection.disconnect()
            word, *rest = str(error).split()
            if word != "MOVED" or len(rest) != 2:
                raise
            name, _, port = rest[1].rpartition(":")
            host = (name or host[0], int(port))  # without a name it is the same host
        except BaseException:
            connection.disconnect()
            raise
        else:
            return connection
    raise ConnectionError("the nodes of the cluster disagree about which one holds the state")
