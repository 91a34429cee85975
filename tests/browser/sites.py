"""Patched miniatures behind a key, each in its own process."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from comfy_auth_rs.comfyui.tree import patch
from frontends import PINNED, SETTINGS, Frontend
from support.servers import MINI_COMFYUI, Server, start_server

#: A custom node with what the tests need besides ComfyUI's own routes.
_WITNESS = Path(__file__).parent / "witness_node.py"

#: One wrong key for all tests: ten different ones within a minute would lock this machine out.


@dataclass(frozen=True)
class Site:
    """A running server, its key and the folder that it runs in."""

    server: Server
    key: str
    tree: Path

    @property
    def url(self) -> str:
        """Its origin: no trailing slash."""
        return self.server.url

    def answers(self) -> list[tuple[int, str, str]]:
        """Status, method and path of everything that the server ever answered, as it printed them."""
        found = re.findall(r"\[answered (\d+) (\w+) (\S+)\]", self.server.output)
        return [(int(status), method, path) for status, method, path in found]

    def set_keys(self, *keys: str) -> None:
        """Write the key file again and wait until the server has checked it (once a second)."""
        (self.tree / "keys.txt").write_text("".join(f"{key}\n" for key in keys))
        time.sleep(1.1)

    def output(self, name: str, content: bytes) -> str:
        """Put a file into the output folder. Returns the path under which ComfyUI serves it."""
        folder = self.tree / "output"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return f"/api/view?filename={name}&type=output"

    def userdata(self, name: str, content: str) -> str:
        """Put a file into the user's folder. Returns the path under which ComfyUI serves it."""
        (self.tree / "user" / "default" / name).write_text(content)
        return f"/api/userdata/{name}"


#: Starts a server with a key of its own: `with serve("--flag", frontend=NEWEST) as site`.
Serve = Callable[..., AbstractContextManager[Site]]


@contextmanager
def running(tree: Path, key: str, *arguments: str, frontend: Frontend = PINNED) -> Iterator[Site]:
    """Patch a copy of the miniature in the empty folder `tree`, and start it with one key, which sockets need, too."""
    ours = shutil.ignore_patterns("__pycache__", "user", "input", "output", "temp")
    shutil.copytree(MINI_COMFYUI, tree, ignore=ours, dirs_exist_ok=True)
    shutil.copy(_WITNESS, tree / "custom_nodes")
    settings = tree / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    patch(tree)
    (tree / "keys.txt").write_text(f"{key} browser\n")
    (tree / "keys.txt").chmod(0o600)
    options = ["--api-key-file", "keys.txt", "--auth-require-ws", *frontend.arguments, *arguments]
    with start_server(tree, *options) as server:
        yield Site(server, key, tree)
        assert key not in server.output, "the server wrote its key"
