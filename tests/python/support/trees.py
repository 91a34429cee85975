"""Generated trees with ComfyUI's file names and the lines that the patch looks for, as small as possible."""

from __future__ import annotations

from pathlib import Path

SERVER = """\
from aiohttp import web
from comfy.cli_args import args


class PromptServer():
    def __init__(self, loop):
        middlewares = []
        self.app = web.Application(client_max_size=1, middlewares=middlewares)
        self.sockets = dict()
"""

CLI_ARGS = """\
import argparse
import comfy.options

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8188)

if comfy.options.args_parsing:
    args = parser.parse_args()
else:
    args = parser.parse_args([])
"""

MAIN = """\
import comfy.options
comfy.options.enable_args_parsing()

from comfy.cli_args import args
import server
"""

OPTIONS = """\
args_parsing = False

def enable_args_parsing():
    global args_parsing
    args_parsing = True
"""


def make_tree(root: Path, *, server: str | bytes = SERVER, cli_args: str | bytes = CLI_ARGS, main: str = MAIN) -> Path:
    """Write a ComfyUI-shaped folder at `root` and return it; text is written as UTF-8 with its own line ends."""
    files = {
        "main.py": main,
        "server.py": server,
        "comfy/cli_args.py": cli_args,
        "comfy/options.py": OPTIONS,
        "comfyui_version.py": '__version__ = "0.3.64"\n',
        ".gitignore": "__pycache__/\n",
    }
    (root / "comfy").mkdir(parents=True)
    for name, content in files.items():
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root
