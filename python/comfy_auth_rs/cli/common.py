"""Shared by several commands."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


class CommandError(Exception):
    """Ends a command; the message is one line."""


def add_directory(parser: argparse.ArgumentParser, *, base: bool = False) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="ComfyUI's folder, which holds main.py")
    if base:
        parser.add_argument(
            "--base-directory", metavar="BASE", type=Path, help="the value of ComfyUI's own --base-directory"
        )


def add_changes_as_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: the files that changed")


def print_changes(options: argparse.Namespace, changed: Sequence[Path], done: str, nothing: str) -> None:
    """Prints which files a command changed, for people or, with `--json`, for programs."""
    if options.json:
        print(json.dumps({"changed": [str(path) for path in changed]}, indent=2))
    else:
        print(f"{done}: {', '.join(map(str, changed))}." if changed else nothing)
