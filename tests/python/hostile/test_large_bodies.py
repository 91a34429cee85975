"""Bodies of refused requests aren't read into memory, and their connections end cleanly."""

from __future__ import annotations

import select
import socket
import time
import zlib
from contextlib import suppress
from functools import cache

import pytest
from support.client import ask, bearer

from hostile.target import SECRETS, Target, statuses

MIB = 1024 * 1024
SIZE = 64 * MIB

HEAD = "POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: {}\r\n{}\r\n\r\n"
FRAMES = {"chunked": "Transfer-Encoding: chunked", "with a length": f"Content-Length: {SIZE}"}
TARGETS = ("/upload/image", "/prompt", "/userdata/large.json", "/auth_session", "/no/such/path", "/health", "/x.js")


def pour(target: Target, path: str, frame: str, kind: str = "multipart/form-data; boundary=b") -> tuple[bytes, int]:
    """Sends `SIZE` bytes while the server takes them. Returns what came back, and how many bytes the server took."""
    piece = b"a" * MIB
    if frame == "chunked":
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    received, taken = b"", 0
    with socket.create_connection(("127.0.0.1", target.server.port), 20) as connection:
        connection.sendall(HEAD.format(path, target.server.port, kind, FRAMES[frame]).encode())
        with suppress(ConnectionError, TimeoutError):
            for _ in range(SIZE // MIB):
                connection.sendall(piece)
                taken += MIB
            if frame == "chunked":
                connection.sendall(b"0\r\n\r\n")
        with suppress(ConnectionError):
            while select.select([connection], [], [], 1)[0] and (chunk := connection.recv(65536)):
                received += chunk
    return received, taken


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("path", TARGETS)
def test_a_refused_body_is_not_kept(target: Target, path: str, frame: str) -> None:
    ask(target.server, "/queue", bearer(target.key))
    before, state = target.memory, target.state()
    answer, _ = pour(target, path, frame)
    grown = target.memory - before
    assert grown < 8 * MIB, f"{grown / MIB:.1f} MiB more"
    assert not any(secret in answer for secret in SECRETS)
    assert all(400 <= status < 500 for status in statuses(answer)), answer[:300]
    assert target.state() == state


@cache
def bomb(size: int) -> bytes:
    """`size` zeros, compressed to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


@pytest.mark.parametrize("frame", ["chunked", "with a length"])
@pytest.mark.parametrize(
    "path", ["/prompt", "/upload/image", "/no/such/path", "/auth_session", "/health", "/auth_login.html"]
)
def test_what_is_packed_and_not_read_is_not_unpacked(target: Target, path: str, frame: str) -> None:
    """Unpacking would keep the server busy for seconds. (The next test: a small body keeps its connection.)"""
    packed = bomb(1024 * MIB)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed) if frame == "chunked" else packed
    frames = {"chunked": "Transfer-Encoding: chunked", "with a length": f"Content-Length: {len(packed)}"}
    method = "GET" if path in ("/health", "/auth_login.html") else "POST"
    head = HEAD.format(path, target.server.port, "application/json", f"{frames[frame]}\r\nContent-Encoding: gzip")
    before, busy = target.memory, target.busy
    with socket.create_connection(("127.0.0.1", target.server.port), 20) as connection, suppress(ConnectionError):
        connection.sendall(head.replace("POST", method, 1).encode() + body)
        while connection.recv(65536):
            pass
    assert ask(target.server, "/queue", bearer(target.key)).status == 200
    assert target.busy - busy < 0.5, "it took half a second of processor time"
    assert target.memory - before < 8 * MIB


def test_a_little_that_is_packed_keeps_its_connection(target: Target) -> None:
    little = bomb(MIB)
    head = HEAD.format("/prompt", target.server.port, "x/y", f"Content-Length: {len(little)}\r\nContent-Encoding: gzip")
    with socket.create_connection(("127.0.0.1", target.server.port), 20) as connection:
        for _ in range(3):
            connection.sendall(head.encode() + little[:100])
            assert statuses(connection.recv(65536)) == [401]
            connection.sendall(little[100:])


def test_the_answer_does_not_wait_for_the_body(target: Target) -> None:
    for path in ("/upload/image", "/prompt"):
        with socket.create_connection(("127.0.0.1", target.server.port), 5) as connection:
            connection.sendall(HEAD.format(path, target.server.port, "x/y", FRAMES["with a length"]).encode())
            started = time.monotonic()
            answer = connection.recv(65536)
            assert statuses(answer) == [401]
            assert time.monotonic() - started < 2


def test_an_abandoned_body_leaves_nothing_open(target: Target) -> None:
    """A hundred clients disconnect in the middle of a body."""
    descriptors = target.open_files
    for path in ("/prompt", "/auth_session"):
        connections = [socket.create_connection(("127.0.0.1", target.server.port), 5) for _ in range(50)]
        for connection in connections:
            connection.sendall(HEAD.format(path, target.server.port, "x/y", FRAMES["chunked"]).encode() + b"5\r\nab")
        for connection in connections:
            connection.close()
    deadline = time.monotonic() + 15
    while target.open_files > descriptors + 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(target.server, "/queue", bearer(target.key)).status == 200
