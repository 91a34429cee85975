"""Make a ComfyUI ask for a key."""

import argparse
import sys
from pathlib import Path

from comfy_auth_rs import PatchError
from comfy_auth_rs.cli.common import add_changes_as_json, add_directory, print_changes
from comfy_auth_rs.comfyui import custom_node, tree

EXAMPLES = ("~/ComfyUI", "~/ComfyUI --diff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--diff", action="store_true", help="only show what would change")
    add_changes_as_json(instead)


def execute(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    if options.diff:
        if difference := tree.diff(directory):
            sys.stdout.buffer.write(difference)
        else:
            print(f"{directory} is patched already; nothing would change.", file=sys.stderr)
        return 0
    if custom_node.state(custom_node.folder(directory)):
        raise PatchError(
            f"{directory}: it already has the custom node, and one of the two is enough; "
            "run `comfy-auth-rs uninstall-node` first"
        )
    changed = tree.patch(directory)
    print_changes(options, changed, "Patched", f"{directory} is patched already; nothing changed.")
    if changed and not options.json:
        print(f"Next, in that folder: python3 main.py --api-key-file FILE; then comfy-auth-rs doctor {directory}")
    return 0
