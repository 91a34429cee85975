"""What each scope may do, written a second time, by families of paths: tests compare the software with it.

Nothing here asks the software. The witness tells where a request leads.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from support.client import JSON, Answer, Connection
from support.servers import Server
from support.sweep import OURS, Route, is_exempt

#: The labels of keys, and the attributes after them.
KEYS = {
    "view": "scope=view",
    "run": "scope=run",
    "nodes": "scope=nodes",
    "people": "scope=run,nodes",
    "metrics": "scope=metrics",
    "owner": "",
}

#: The scopes that the key of each label has.
HOLDS = {
    "view": {"view"},
    "run": {"view", "run"},
    "nodes": {"nodes"},
    "people": {"view", "run", "nodes"},
    "metrics": {"metrics"},
    "owner": {"view", "run", "nodes", "metrics", "all"},
}

BELOW_ALL = [label for label in KEYS if label != "owner"]

READS, WRITES = ("GET", "HEAD"), ("POST", "PUT", "PATCH", "DELETE")

OF_THE_MANAGER = re.compile(r"(/api|/v2)*/(manager|customnode|snapshot|externalmodel|comfyui_manager)(/.*)?")

#: Methods, the canonical path without one `/api`, and the scope. The first match counts; without a match, `all`.
FAMILIES = [
    (READS + WRITES, OF_THE_MANAGER.pattern, "all"),
    (READS + WRITES, r"/api/.*", "all"),
    (READS + WRITES, r"/(my_outputs|witness)(/.*)?", "nodes"),
    (READS, r"/extensions/witness/secret\.js", "nodes"),
    (READS, r"/metrics", "metrics"),
    # For the owner: logs and folders of the machine, memory, users, all files.
    (READS, r"/internal/files/.*", "view"),
    (READS + WRITES, r"/(internal/.*|free)", "all"),
    (("POST",), r"/(users|assets|assets/(prune|seed.*))", "all"),
    (READS, r"/assets/seed.*", "all"),
    # For people who only look.
    (READS, r"/(prompt|queue|history|jobs)(/.*)?", "view"),
    (READS, r"/(view|view_metadata/.*|assets.*|tags)", "view"),
    (READS, r"/(object_info|models|experiment/models)(/.*)?", "view"),
    (READS, r"/(embeddings|system_stats|features|extensions|i18n)", "view"),
    (READS, r"/(settings|global_subgraphs)(/.*)?|/(users|node_replacements|workflow_templates)", "view"),
    # For people who generate.
    (("POST",), r"/(prompt|queue|history|interrupt|jobs/.*|upload/(image|mask)|settings(/.*)?)", "run"),
    (("POST", "PUT", "DELETE"), r"/assets/.*", "run"),
]  # fmt: skip

#: The user's files that keys below `all` may write.
WRITTEN_BY_PEOPLE = re.compile(r"(workflows|subgraphs|keybindings)/(?!.*\.\.).+|comfy\.(settings|templates)\.json")

#: The challenge to a key that has other scopes.
CHALLENGE = 'Bearer realm="ComfyUI", error="insufficient_scope", scope="{}"'


def needed(method: str, route: Route, target: str) -> str | None:
    """The scope that a request needs once it is resolved to `route`. `None`: no key is needed."""
    if route.kind == "StaticResource":
        return _of_a_folder(method, route, target)
    if route.plain in ("", *OURS) or is_exempt(method, route, target):
        return None
    if "/userdata" in route.plain:
        return _of_user_files(method, route, target)
    fitting = (word for methods, path, word in FAMILIES if method in methods and re.fullmatch(path, route.plain))
    return next(fitting, "all")


def _of_a_folder(method: str, route: Route, target: str) -> str | None:
    path = unquote(re.split(r"[?#]", target.removeprefix("http://127.0.0.1"))[0])
    is_hidden = any(name.startswith(".") for name in path.split("/"))
    if method not in READS or is_hidden:
        return "all"
    if is_exempt(method, route, target) and "\\" not in path:
        return None
    if OF_THE_MANAGER.fullmatch(re.sub("/+", "/", path)) or not is_spelled_plainly(path, route):
        return "all"
    return "nodes" if route.plain.startswith("/my_outputs") else "view"


def is_spelled_plainly(path: str, route: Route) -> bool:
    """Whether the file's path below its folder is written in the simplest way."""
    file = path[len(route.path.rstrip("/")) + 1 :]
    names = file.split("/") if file else []
    return "\\" not in file and not {"", ".", ".."} & set(names) and all(len(name.encode()) < 256 for name in names)


def _of_user_files(method: str, route: Route, target: str) -> str:
    path, _, query = target.partition("?")
    names = unquote(unquote(path.partition("/userdata")[2] + query))
    if "manager" in names.lower() or (route.plain == "/v2/userdata" and "path=" not in query):
        return "all"
    if method in READS:
        return "view"
    files = names.removeprefix("/").split("/move/")
    return "run" if all(WRITTEN_BY_PEOPLE.fullmatch(file) for file in files) else "all"


@dataclass(frozen=True)
class Visit:
    """One request with one key, and its answer. Without a route, it never reached the application."""

    label: str
    method: str
    target: str
    answer: Answer
    route: Route | None

    @property
    def name(self) -> str:
        return f"{self.label}: {self.method} {self.target} -> {self.answer.status} at {self.route}"

    @property
    def is_refused(self) -> bool:
        return self.answer.status in (401, 403) and "WWW-Authenticate" in self.answer.headers

    def fault(self) -> str | None:
        """What is wrong with the answer, or None."""
        status, path = self.answer.status, self.target.partition("?")[0]
        if self.route is None or re.search("%00|%0a|%0d", path, re.IGNORECASE):
            return None if status in (400, 404) else f"{self.name}, illegible"
        word = needed(self.method, self.route, self.target)
        if word is None or word in HOLDS[self.label]:
            return f"{self.name}, though {word} is enough" if self.is_refused else None
        challenge = self.answer.headers.get("WWW-Authenticate")
        is_right = (status, challenge) == (403, CHALLENGE.format(word))
        return None if is_right else f"{self.name}, {challenge}, though it needs {word}"


def write_keys(file: Path) -> dict[str, str]:
    """Writes a key file with one key for each label. Returns the keys by label."""
    keys = {label: secrets.token_urlsafe(32) for label in KEYS}
    file.write_text("".join(f"{key} {label} {KEYS[label]}\n" for label, key in keys.items()))
    file.chmod(0o600)
    return keys


def visit(server: Server, label: str, key: str, wanted: Iterable[tuple[str, str]]) -> list[Visit]:
    """Sends each method and target in turn with one key."""
    return asyncio.run(_visit(server, label, key, list(wanted)))


#: Connections open at the same time.
WIDTH = 4


async def _visit(server: Server, label: str, key: str, wanted: list[tuple[str, str]]) -> list[Visit]:
    async def some(part: list[tuple[str, str]]) -> list[Visit]:
        found, connection = [], Connection(server)
        await connection.__aenter__()
        for method, target in part:
            body = b"{}" if method in WRITES else None
            headers = {"X-API-Key": key, **(JSON if body else {})}
            try:
                answer = await connection.request(target, headers, method=method, body=body)
            except (ConnectionError, asyncio.IncompleteReadError):  # it was idle too long, or the request bad
                await connection.__aexit__()
                await connection.__aenter__()
                answer = await connection.request(target, headers, method=method, body=body)
            route = Route.parse(answer.headers["X-Route"]) if "X-Route" in answer.headers else None
            found.append(Visit(label, method, target, answer, route))
            if answer.headers.get("Connection") == "close":
                await connection.__aexit__()
                await connection.__aenter__()
        await connection.__aexit__()
        return found

    parts = await asyncio.gather(*(some(wanted[start::WIDTH]) for start in range(WIDTH)))
    return [visit for part in parts for visit in part]
