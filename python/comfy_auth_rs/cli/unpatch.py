"""Remove the patch; the files are as they were, byte for byte."""

import argparse

from comfy_auth_rs.cli.common import add_changes_as_json, add_directory, print_changes
from comfy_auth_rs.comfyui import tree

EXAMPLES = ("~/ComfyUI",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    add_changes_as_json(parser)


def execute(options: argparse.Namespace) -> int:
    changed = tree.unpatch(options.directory)
    print_changes(options, changed, "As before the patch", f"{options.directory} is not patched; nothing changed.")
    return 0
