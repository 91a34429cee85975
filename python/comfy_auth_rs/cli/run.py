"""Start a ComfyUI with the patch in memory only; its files stay as they are.
Arguments after -- go to its main.py, which runs in DIR with this Python: relative
paths in ARGS start there.
"""

import argparse

from comfy_auth_rs.cli.common import add_directory
from comfy_auth_rs.comfyui import launcher

EXAMPLES = (
    "~/ComfyUI -- --api-key-file api_key.txt",
    "~/ComfyUI -- --listen --port 8189",
    "~/ComfyUI -- --help",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    parser.usage = "comfy-auth-rs run [-h] DIR [-- ARGS ...]"


def execute(options: argparse.Namespace) -> int:
    launcher.run(options.directory, options.comfyui_arguments)
    return 0
