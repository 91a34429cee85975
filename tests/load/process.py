"""The server under load: the patched miniature, and how much memory and how many files it holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_auth_rs.comfyui.tree import patch
from support.servers import MINI_COMFYUI, Server, start_server

MIB = 1024 * 1024


@contextmanager
def patched_miniature(folder: Path, *flags: str, node: str = "") -> Iterator[Server]:
    """Runs a patched copy of the miniature in the new folder `folder`, with `node` as the source of a custom node."""
    ours = shutil.ignore_patterns("__pycache__", "user", "input", "output", "temp")
    shutil.copytree(MINI_COMFYUI, folder, ignore=ours)
    patch(folder)
    if node:
        Path(folder, "custom_nodes", "load_node.py").write_text(node)
    with start_server(folder, *flags) as server:
        yield server


def memory(server: Server) -> int:
    """The memory that the process holds, in bytes. Only its own pages count."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("this system doesn't say")


def open_files(server: Server) -> int:
    """How many files and connections the process holds."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
