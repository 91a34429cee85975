"""The command `comfy-auth-rs`: one module a command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from comfy_auth_rs import PatchError, __version__
from comfy_auth_rs.arguments import without_values
from comfy_auth_rs.cli.common import CommandError

__all__ = ["main", "make_parser"]

#: In the order of `--help`, each a module (`install-node` is `install_node`): its docstring is the description, and it
#: has EXAMPLES, `add_arguments(parser)` and `execute(options)`, which returns the exit status.
_COMMANDS = (
    "keygen", "keys", "state", "patch", "unpatch", "install-node", "uninstall-node", "doctor", "probe", "run", "usage",
    "completion",
)  # fmt: skip

_NEXT = """\
comfy-auth-rs: API keys and a login page for ComfyUI.

What to do next (PATH/TO/ComfyUI is the folder that holds main.py):
  comfy-auth-rs patch PATH/TO/ComfyUI          make ComfyUI accept --api-key and --api-key-file
  comfy-auth-rs keygen -o api_key.txt          make a key
  python3 main.py --api-key-file api_key.txt   start ComfyUI as usual, in its folder
  comfy-auth-rs doctor PATH/TO/ComfyUI         check that all is well

`comfy-auth-rs --help` lists all commands, `comfy-auth-rs COMMAND --help` explains one.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = without_values(message, sys.argv[1:])
        self.exit(2, f"comfy-auth-rs: error: {message} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 good, 1 something is unsafe (doctor), 2 error."""
    own = list(sys.argv[1:] if argv is None else argv)
    if not own:
        print(_NEXT, end="")
        return 0
    runs = own[0] == "run"
    comfyui_arguments: list[str] = []
    if runs and "--" in own:
        separator = own.index("--")
        own, comfyui_arguments = own[:separator], own[separator + 1 :]
    parser = make_parser()
    options, unknown = parser.parse_known_args(own)
    if unknown:
        names = ", ".join(argument.partition("=")[0] for argument in unknown if argument.startswith("-"))
        hint = "; ComfyUI's own arguments go after --" if runs else ""
        # Values are left out: one of them may be a key.
        parser.error(f"{options.command} does not take {names or 'so many arguments'}{hint}")
    options.comfyui_arguments = comfyui_arguments
    try:
        status: int = options.execute(options)
        sys.stdout.flush()
    except (PatchError, CommandError) as error:
        print(f"comfy-auth-rs: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if runs:
            raise  # ComfyUI's own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `… | head`: the rest has no reader
        return 1
    return status


def make_parser() -> argparse.ArgumentParser:
    """The command line, which `tools/completions.py` reads too."""
    parser = _Parser(prog="comfy-auth-rs", description="API keys and a login page for ComfyUI.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"comfy-auth-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for name in _COMMANDS:
        command = import_module(f"{__name__}.{name.replace('-', '_')}")
        description = (command.__doc__ or "").rstrip()  # python -OO strips it
        summary = description.partition("\n")[0].removesuffix(".")
        added = commands.add_parser(
            name,
            help=f"{summary[:1].lower()}{summary[1:]}",
            description=description,
            epilog="\n".join(["examples:", *(f"  comfy-auth-rs {name} {line}".rstrip() for line in command.EXAMPLES)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(added)
        added.set_defaults(execute=command.execute)
    return parser
