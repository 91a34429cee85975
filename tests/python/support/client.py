"""HTTP as it stands: targets are sent verbatim, redirects are not followed, no header is added but `Host`."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

CHALLENGE = 'Bearer realm="ComfyUI"'
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class Server(Protocol):
    """What listens on 127.0.0.1: a process, or a proxy in front of one. `url` is its origin."""

    @property
    def url(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Answer:
    """A response; a header that is repeated is joined with commas."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def connect(server: Server, source: str = "127.0.0.1") -> http.client.HTTPConnection:
    """A connection that any certificate is good enough for."""
    if server.url.startswith("https:"):
        context = ssl._create_unverified_context()
        address = (source, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=20, source_address=address, context=context
        )
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=20, source_address=(source, 0))


def ask(
    server: Server,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    source: str = "127.0.0.1",
) -> Answer:
    """One request on a connection of its own, from the address `source`. `target` is what follows the method."""
    connection = connect(server, source)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """Without those that tell the time or follow from it, and without the length: bodies are compared themselves."""
    skipped = {"date", "last-modified", "etag", "content-length"}
    return sorted((name.lower(), value) for name, value in answer.headers.items() if name.lower() not in skipped)


def is_refusal(answer: Answer, method: str = "GET") -> bool:
    """The one answer to all who have no key: nothing in it tells one path from another."""
    headers = {name: value for name, value in headers_of(answer) if name not in ("x-route", "server")}
    expected = {
        "cache-control": "no-store",
        "www-authenticate": CHALLENGE,
        "content-type": "application/json; charset=utf-8",
    }
    if (answer.status, headers) != (401, expected):
        return False
    return answer.body == b"" if method == "HEAD" else answer.json["error"] == "unauthorized"
