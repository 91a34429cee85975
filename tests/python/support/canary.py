"""A key that the tests find wherever it leaks, and all the places where a client may put it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import aiohttp

from support.client import BROWSER, bearer
from support.keys import CANARY
from support.servers import Server

AIOHTTP = tuple(map(int, aiohttp.__version__.split(".")[:2]))


def is_silent(said: str) -> bool:
    assert CANARY not in said, said[max(0, said.index(CANARY) - 600) :][:900]
    return True


def send(server: Server, data: bytes) -> bytes:
    """Sends one raw request, and reads until the server closes the connection or falls silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
    return received


def everywhere(key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Every place where a client may put a key."""
    for path in ("/fail", "/health", "/", "/no/such/path", "/auth_login.html", "/auth_session"):
        yield path, bearer(key)
        yield path, {"X-API-Key": key}
        yield path, {"Cookie": f"comfyui_session={key}; a={key}"}
        yield path, {"Referer": f"http://127.0.0.1/?api_key={key}", **bearer(key)}
        yield path, {"Referer": f"http://127.0.0.1/?a=b&token={key}&c=d", **BROWSER}
        yield path, {"Referer": f"http://127.0.0.1/key/{key}/", **bearer(key)}
        for prefix in (
            "/key/{}",
            "/key/{}/key/{}",
            "http://127.0.0.1/key/{}",
            "//key/{}",
            "/KEY/{}",
            "/%6bey/{}",
            "/key//{}",
        ):
            yield f"{prefix.replace('{}', key)}{path}", {}
            yield f"{prefix.replace('{}', key)}{path}", BROWSER
        for query in (
            "api_key={}",
            "token={}",
            "a=b&api_key={}&c=d",
            "%61pi_key={}",
            "api%5Fkey={}",
            "token={}&token={}",
        ):
            yield f"{path}?{query.replace('{}', key)}", {}
            yield f"{path}?{query.replace('{}', key)}", BROWSER


def malformed(key: str) -> Iterator[bytes]:
    """Requests that make aiohttp quote the line that it can't parse."""
    good = b"Host: x\r\nConnection: close\r\n"
    key_bytes = key.encode()
    yield b"GET /fail HTTP/1.1\r\n" + good + b"Authorization: Bearer " + key_bytes + b"\x00\r\n\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"X-API-Key : " + key_bytes + b"\r\n\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"X-API-Key " + key_bytes + b"\r\n\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b" HTTP/9.9\r\n" + good + b"\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b" x HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail HTTP/9.9\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail x HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"\xff\xfe/fail HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /key/" + key_bytes + b"/fail HTTP/1.1\r\n" + good + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    yield b"CONNECT /key/" + key_bytes + b":80 HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /fail?api_key=" + key_bytes + b"\x00 HTTP/1.1\r\n" + good + b"\r\n"
    yield b"G\x00T /fail?api_key=" + key_bytes + b" HTTP/1.1\r\n" + good + b"\r\n"
    if AIOHTTP >= (3, 10):  # in 3.9 asyncio logs this error, and its locals hold the request
        yield b"GET http://[x/fail?api_key=" + key_bytes + b" HTTP/1.1\r\n" + good + b"\r\n"
    yield b"GET /fail HTTP/1.1\r\n" + good + b"Authorization: Bearer " + key_bytes * 300 + b"\r\n\r\n"
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    chunked = b"POST /auth_session HTTP/1.1\r\n" + good + form + b"Transfer-Encoding: chunked\r\n\r\n"
    yield chunked + b"api_key=" + key_bytes + b"\r\n0\r\n\r\n"
    yield chunked + b"8\r\napi_key=" + key_bytes + b"\r\n0\r\n\r\n"
    yield b"POST /auth_session HTTP/1.1\r\n" + good + form + b"Content-Length: x\r\n\r\napi_key=" + key_bytes
    yield (
        b"POST /auth_session HTTP/1.1\r\n"
        + good
        + b"Content-Encoding: gzip\r\nContent-Length: 40\r\n\r\n"
        + key_bytes[:40]
    )
