"""Protect a ComfyUI with a custom node instead of the patch.
It takes its keys from the environment variable COMFYUI_API_KEY_FILE or
COMFYUI_API_KEY, and the other flags of a patched ComfyUI from COMFYUI_AUTH_FLAGS.
With --disable-all-custom-nodes, ComfyUI does not load it and does not ask for
a key.
"""

import argparse
from pathlib import Path

from comfy_auth_rs.cli.common import add_changes_as_json, add_directory, print_changes
from comfy_auth_rs.comfyui import custom_node

EXAMPLES = ("~/ComfyUI", "~/ComfyUI --base-directory ~/Documents/ComfyUI")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser, base=True)
    add_changes_as_json(parser)


def execute(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    changed = custom_node.install(directory, options.base_directory)
    print_changes(options, changed, "Written", f"{directory} has the custom node already; nothing changed.")
    if changed and not options.json:
        print(f"Next, in {directory}: COMFYUI_API_KEY_FILE=FILE python3 main.py; then comfy-auth-rs doctor {directory}")
    return 0
