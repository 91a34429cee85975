"""Another origin: a test server that shows the pages it is given and records everything it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.servers import free_port


@dataclass
class Origin:
    """`pages` are its HTML pages by path; `received` has each request as one text: method, target, headers and body."""

    port: int
    pages: dict[str, str] = field(default_factory=dict)
    received: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its origin on the host of the servers under test: another origin, but the same site. No trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cross_site_url(self) -> str:
        """Its origin under another name, which is another site, too."""
        return f"http://localhost:{self.port}"


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[Origin]:
    """Serve at `host` until the block ends.

    Every CORS request is allowed, so that only the sender can hold a header back.
    """
    origin = Origin(free_port())

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            origin.received.append(f"{self.command} {self.path}\n{self.headers}\n{body!r}")
            page = origin.pages.get(self.path.partition("?")[0])
            content = b"" if page is None else f"<!doctype html><title>Other</title>{page}".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
            self.send_header("Access-Control-Allow-Credentials", "true")
            self.send_header("Access-Control-Allow-Methods", "GET, POST, PUT")
            self.send_header("Access-Control-Allow-Headers", "authorization, x-api-key, content-type, x-mine")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_OPTIONS = answer

        def log_message(self, format: str, *arguments: object) -> None:
            """Don't log to stderr."""

    with ThreadingHTTPServer((host, origin.port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield origin
        finally:
            server.shutdown()
            thread.join()
