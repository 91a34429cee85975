"""Check an installation; exit with 1 if anything is unsafe."""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from comfy_auth_rs import doctor
from comfy_auth_rs.cli.common import add_directory

EXAMPLES = ("~/ComfyUI", "~/ComfyUI --api-key-file api_key.txt --port 8188", "~/ComfyUI --json")

_COLOURS = {"ok": "32", "note": "33", "unsafe": "1;31"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--python", metavar="PY", help="ComfyUI's Python (default: the one in its venv, else this one)")
    parser.add_argument("--port", metavar="N", type=_port, default=8188, help="ComfyUI's port (default: 8188)")
    parser.add_argument(
        "--api-key-file", metavar="F", type=Path, action="append", default=[], help="a key file to check; repeatable"
    )
    parser.add_argument(
        "--key-file", metavar="F", type=Path, help="ask the running ComfyUI for more, using the first key in this file"
    )
    parser.add_argument(
        "--state",
        metavar="STATE",
        help="the value of --auth-state (default: COMFYUI_AUTH_STATE, else the file in ComfyUI's user folder)",
    )
    add_directory(parser, base=True)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    checks = doctor.examine(
        options.directory,
        base=options.base_directory,
        python=options.python,
        port=options.port,
        key_files=options.api_key_file,
        key_file=options.key_file,
        state=options.state,
    )
    safe = all(check.state != "unsafe" for check in checks)
    if options.json:
        print(json.dumps({"safe": safe, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        _print_table(checks)
    return 0 if safe else 1


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port; name a number from 1 to 65535")


def _print_table(checks: Sequence[doctor.Check]) -> None:
    """One line per check; on a terminal, in colour and wrapped to its width."""
    terminal = sys.stdout.isatty()
    coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = max(len(check.name) for check in checks)
    for check in checks:
        state = f"{check.state:6}"
        if coloured:
            state = f"\033[{_COLOURS[check.state]}m{state}\033[0m"
        indent = 6 + 2 + width + 2
        room = max(shutil.get_terminal_size().columns - indent, 40) if terminal else len(check.detail)
        # File names, for example, come from others: print none of their escape sequences.
        detail = "".join(letter if letter.isprintable() else "?" for letter in check.detail)
        lines = textwrap.wrap(detail, room, break_long_words=False, break_on_hyphens=False)
        print(f"{state}  {check.name:{width}}  {lines[0]}", *lines[1:], sep=f"\n{' ' * indent}")
