"""Everything that a browser context sends and gets, for tests to check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebSocket


class Traffic:
    """Listens from the moment it is made. `mark` begins a new part, and the methods below are about the last part."""

    def __init__(self, context: BrowserContext) -> None:
        self.requests: list[Request] = []
        self.console: list[ConsoleMessage] = []
        self.script_errors: list[str] = []
        self.frames: list[str | bytes] = []
        self._responses: list[Response] = []
        self._mark = 0
        # Lambdas: Playwright takes no built-in methods.
        context.on("request", lambda request: self.requests.append(request))
        context.on("response", lambda response: self._responses.append(response))
        context.on("console", lambda message: self.console.append(message))
        context.on("weberror", lambda error: self.script_errors.append(str(error.error.stack)))
        context.on("page", self._watch)
        for page in context.pages:
            self._watch(page)

    def _watch(self, page: Page) -> None:
        page.on("websocket", self._take)

    def _take(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self.frames.append(frame))

    def mark(self) -> None:
        """Begin a new part."""
        self._mark = len(self._responses)

    @property
    def responses(self) -> list[tuple[int, str, str]]:
        """Status, method and URL of each response since the last mark."""
        return [(it.status, it.request.method, it.url) for it in self._responses[self._mark :]]

    def refused(self) -> list[tuple[int, str, str]]:
        """Responses since the last mark that asked for a key."""
        return [response for response in self.responses if response[0] in (401, 403, 429)]

    def statuses(self, path: str) -> set[int]:
        """The statuses of the answers for `path` since the last mark; `path` has no query."""
        return {status for status, _, url in self.responses if urlsplit(url).path == path}

    def foreign(self, *origins: str) -> list[str]:
        """URLs of requests that went to any other origin."""
        local = ("data:", "blob:", "chrome-error:", *(f"{origin}/" for origin in origins))
        return [request.url for request in self.requests if not request.url.startswith(local)]

    def leaks(self, keys: Sequence[str], origins: Sequence[str]) -> list[str]:
        """URLs of requests to any origin but `origins` that contained one of `keys`."""
        outside = set(self.foreign(*origins))
        return [
            request.url
            for request in self.requests
            if request.url in outside
            and any(key in f"{request.url} {request.headers} {request.post_data_buffer!r}" for key in keys)
        ]

    def dialogs(self) -> list[str]:
        """URLs of answers that would have made a browser open a dialog of its own over ComfyUI."""
        asked = 'Basic realm="ComfyUI"'
        return [it.url for it in self._responses if asked in it.headers.get("www-authenticate", "")]

    def own_errors(self) -> list[str]:
        """What our own scripts threw."""
        return [stack for stack in self.script_errors if re.search(r"/auth_\w+\.js", stack)]
