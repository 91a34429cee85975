"""Many different requests leave nothing in memory: no paths, queries, names of fields, cookies or `clientId`s."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator

import pytest

from hostile.target import Target
from hostile.wire import request

pytestmark = pytest.mark.slow

#: How much memory requests of one kind may leave in use, in bytes.
MOST = 2 * 2**20

#: The size of each request, and the longest path that a static mount accepts, in bytes.
SIZE, LONGEST_FILE = 8000, 1000

#: Requests of a kind: enough to exceed `MOST`, even if only the longest part of each were kept.
MANY, MANY_FILES = 800, 3000

PADDING = "a" * (SIZE - 100)
FOLDERS = "/".join(["a" * 200] * 5)[: LONGEST_FILE - 60]

KINDS: dict[str, Callable[[int], bytes]] = {
    "unknown paths": lambda number: request(f"GET /{number}{PADDING}"),
    "unknown paths, written to": lambda number: request(f"POST /{number}{PADDING}", "Content-Length: 0"),
    "files below /": lambda number: request(f"GET /{number}{PADDING}.js"),
    "missing files": lambda number: request(f"GET /{number}/{FOLDERS}.js"),
    "old addresses": lambda number: request(f"GET /scripts/ui/{number}/{FOLDERS}.js"),
    "old extensions": lambda number: request(f"GET /extensions/core/{number}/{FOLDERS}.js"),
    "old addresses of 8 KB": lambda number: request(f"GET /scripts/ui/{number}{'%61' * (SIZE // 3 - 40)}.js"),
    "paths with parameters": lambda number: request(f"GET /userdata/{number}{PADDING}"),
    "queries of pages": lambda number: request(f"GET /auth_login.html?{number}{PADDING}"),
    "queries of files": lambda number: request(f"GET /index.html?{number}{PADDING}"),
    "queries of refused routes": lambda number: request(f"GET /queue?{number}{PADDING}", "Accept: text/html"),
    "clientIds": lambda number: request(f"GET /ws?clientId={number}{PADDING}"),
    "names of fields": lambda number: request("GET /health", f"X-{number}: {PADDING}"),
    "cookies": lambda number: request("GET /queue", f"Cookie: @NAME@={number}{PADDING}"),
    "wrong keys": lambda number: request("GET /queue", f"X-API-Key: {number}{PADDING}"),
    "hosts": lambda number: request("GET /queue", host=f"{number}.{PADDING}".encode()),
    "control characters": lambda number: request(f"GET /scripts/ui%0A{number}{PADDING}"),
}


SHORT = ("missing files", "old addresses", "old extensions")


def send(target: Target, numbers: Iterator[int], kind: Callable[[int], bytes], many: int) -> None:
    """Opens one connection after the other, always from the same address."""
    for number in itertools.islice(numbers, many):
        with socket.create_connection(("127.0.0.1", target.server.port), 20, ("127.183.0.1", 0)) as connection:
            connection.sendall(target.fill(kind(number)))
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            assert answer.startswith(b"HTTP/1.1 "), answer[:100]


@pytest.mark.parametrize("kind", KINDS)
def test_many_requests_leave_nothing(target: Target, kind: str) -> None:
    numbers = itertools.count(10**6)
    send(target, numbers, KINDS[kind], 300)  # fills caches that are filled once
    before = target.memory
    send(target, numbers, KINDS[kind], MANY_FILES if kind in SHORT else MANY)
    assert target.memory - before < MOST, f"{(target.memory - before) / 2**20:.1f} MiB more"
