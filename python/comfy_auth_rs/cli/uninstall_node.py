"""Remove that custom node."""

import argparse

from comfy_auth_rs.cli.common import add_changes_as_json, add_directory, print_changes
from comfy_auth_rs.cli.install_node import EXAMPLES  # noqa: F401 - the same
from comfy_auth_rs.comfyui import custom_node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser, base=True)
    add_changes_as_json(parser)


def execute(options: argparse.Namespace) -> int:
    removed = custom_node.uninstall(options.directory, options.base_directory)
    changed = [] if removed is None else [removed]
    print_changes(options, changed, "Removed", f"{options.directory} doesn't have our custom node; nothing changed.")
    return 0
