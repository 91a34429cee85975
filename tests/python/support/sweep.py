"""Every route of a running ComfyUI, in every spelling that someone may try to get past the key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from support.decision_model import SUFFIXES

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

#: Values for `{name}` in a path. Some look like the frontend's exempt files.
FILLS = ("x", "x.json", "x.js", "a%2Fx.png")

#: Routes that this package adds, or serves in ComfyUI's place.
OURS = (
    "/", "/index.html", "/health", "/auth_login.html", "/auth_login.js", "/auth_link.js", "/auth_inject.js",
    "/auth_session", "/auth_verify",
)  # fmt: skip

_OPEN_PATHS = {*OURS, "/ws"} - {"/"}
_OPEN_FOLDERS = ("/extensions/", "/templates/", "/docs/")
_LOOKALIKES = (".json", "/.js", "/x.png", ";x.js", "%00.js", "%3fx.js", "%2fx.js", "%5cx.js", "?x=.js", "#x.js")


class Route(NamedTuple):
    """The witness's words for a route: the class of its resource, and its canonical path."""

    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Route:
        return cls(*text.split(" ", 1))

    @property
    def plain(self) -> str:
        """The path without the prefix of the `/api` twin."""
        return self.path.removeprefix("/api")

    def target(self, value: str) -> str:
        """A path that leads here, with `value` for each `{name}` and for the file in a static folder."""
        return re.sub(r"\{[^}]*\}", value, self.path) + (value if self.kind == "StaticResource" else "")


def read_routes(file: Path) -> set[Route]:
    """The routes that the witness wrote down."""
    return {Route.parse(line.split(" ", 1)[1]) for line in json.loads(file.read_text())}


def targets(routes: set[Route]) -> list[str]:
    """The routes under their own names, including `/api` twins."""
    return sorted({route.target(value) for route in routes for value in FILLS})


def odd_targets(routes: set[Route]) -> list[str]:
    """The routes as nobody writes them: a careless look at the path would take them for something exempt."""
    return sorted({odd for route in routes for odd in _spellings(route.target("x"))} - set(targets(routes)))


def _spellings(target: str) -> Iterator[str]:
    for before in ("/", "/.", "/x/..", "/x.js/..", "/extensions/..", "/docs/..%2f", "/%2e%2e", "http://127.0.0.1"):
        yield before + target
    yield f"http://127.0.0.1/x.js?{target}"
    for after in ("/", *_LOOKALIKES):
        yield target + after
    if len(target) > 1:
        yield f"/%{ord(target[1]):02x}{target[2:]}"
        yield target.upper()


def is_exempt(method: str, route: Route, target: str) -> bool:
    """Whether anyone may pass, by the guide's tables and their limits. `route` is where the target really leads."""
    if route.plain == "/auth_session":
        return method in ("POST", "DELETE")
    if method not in ("GET", "HEAD"):
        return False
    if route.kind != "StaticResource":
        return route.plain in _OPEN_PATHS or route.path.startswith(("/templates/", "/docs/"))
    file = unquote(re.split(r"[?#]", target.removeprefix("http://127.0.0.1"))[0])
    if route.path == "/":  # the frontend has its own extensions
        return file.startswith(_OPEN_FOLDERS) or file.lower().endswith(tuple(SUFFIXES))
    return route.path.startswith(_OPEN_FOLDERS)
