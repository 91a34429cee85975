"""The command `comfy-auth-rs`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from comfy_auth_rs import PatchError, __version__, doctor, generate_key, probe_devices
from comfy_auth_rs.comfyui import custom_node, launcher
from comfy_auth_rs.comfyui import tree as patch

__all__ = ["main"]

_NEXT = """\
comfy-auth-rs: API keys and a login page for ComfyUI.

What to do next (PATH/TO/ComfyUI is the folder that holds main.py):
  comfy-auth-rs patch PATH/TO/ComfyUI          let ComfyUI take --api-key and --api-key-file
  comfy-auth-rs keygen -o api_key.txt          make a key
  python3 main.py --api-key-file api_key.txt   start ComfyUI as ever, in its folder
  comfy-auth-rs doctor PATH/TO/ComfyUI         see whether all is well

`comfy-auth-rs --help` lists all commands, `comfy-auth-rs COMMAND --help` explains one.
"""
#: Those that `completion` knows.
SHELLS = ("bash", "zsh", "fish")

_GIB = 1024**3
_COMPLETIONS = Path(__file__).parent / "completions"
_COLOURS = {"ok": "32", "note": "33", "unsafe": "1;31"}


class _CommandError(Exception):
    """Ends a command; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"comfy-auth-rs: error: {message} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 good, 1 something is unsafe (doctor), 2 error."""
    own = list(sys.argv[1:] if argv is None else argv)
    if not own:
        print(_NEXT, end="")
        return 0
    comfyui_arguments: list[str] = []
    if own[0] == "run" and "--" in own:
        separator = own.index("--")
        own, comfyui_arguments = own[:separator], own[separator + 1 :]
    parser = make_parser()
    options, unknown = parser.parse_known_args(own)
    if unknown:
        names = ", ".join(argument.partition("=")[0] for argument in unknown if argument.startswith("-"))
        hint = "; ComfyUI's own arguments go after --" if options.command is _run else ""
        # Values are left out: one of them may be a key.
        parser.error(f"{_name(options.command)} does not take {names or 'so many arguments'}{hint}")
    options.comfyui_arguments = comfyui_arguments
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except (PatchError, _CommandError) as error:
        print(f"comfy-auth-rs: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if options.command is _run:
            raise  # ComfyUI's own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `… | head`: the rest has no reader
        return 1
    return status


def _name(command: Callable[[argparse.Namespace], int]) -> str:
    return command.__name__[1:].replace("_", "-")


def make_parser() -> argparse.ArgumentParser:
    """The command line, which `tools/completions.py` reads too."""
    parser = _Parser(prog="comfy-auth-rs", description="API keys and a login page for ComfyUI.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"comfy-auth-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(command: Callable[[argparse.Namespace], int], summary: str, examples: Sequence[str]) -> _Parser:
        name = _name(command)
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog="\n".join(["examples:", *(f"  comfy-auth-rs {name} {example}".rstrip() for example in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=command)
        return added

    def add_for_tree(command: Callable[[argparse.Namespace], int], summary: str, examples: Sequence[str]) -> _Parser:
        added = add(command, summary, examples)
        added.add_argument("directory", metavar="DIR", type=Path, help="ComfyUI's folder, which holds main.py")
        return added

    def add_base(added: _Parser) -> None:
        added.add_argument(
            "--base-directory", metavar="BASE", type=Path, help="what ComfyUI's own flag of this name says"
        )

    keygen = add(_keygen, "make an API key: 256 random bits, URL-safe", ["", "-o api_key.txt"])
    keygen.add_argument(
        "-o", dest="file", metavar="FILE", type=Path, help="write it to this new file, which only you can read"
    )

    patching = add_for_tree(_patch, "let a ComfyUI ask for a key", ["~/ComfyUI", "~/ComfyUI --diff"])
    instead = patching.add_mutually_exclusive_group()
    instead.add_argument("--diff", action="store_true", help="only show what would change")

    unpatching = add_for_tree(_unpatch, "take the patch out again, byte for byte", ["~/ComfyUI"])

    examples = ["~/ComfyUI", "~/ComfyUI --base-directory ~/Documents/ComfyUI"]
    summary = "protect a ComfyUI by a custom node instead of the patch"
    installing = add_for_tree(_install_node, summary, examples)
    installing.description = f"""{summary[0].upper()}{summary[1:]}.
It takes its keys from the environment variable COMFYUI_API_KEY_FILE or
COMFYUI_API_KEY, and other flags of a patched ComfyUI from COMFYUI_AUTH_FLAGS.
Started with --disable-all-custom-nodes, ComfyUI does not load it and asks for
no key."""
    uninstalling = add_for_tree(_uninstall_node, "remove that custom node", examples)
    for added in (installing, uninstalling):
        add_base(added)
    for changing in (instead, unpatching, installing, uninstalling):
        changing.add_argument("--json", action="store_true", help="for programs: the files that changed")

    examples = ["~/ComfyUI", "~/ComfyUI --api-key-file api_key.txt --port 8188", "~/ComfyUI --json"]
    examining = add_for_tree(_doctor, "say what holds and what doesn't; exit with 1 if anything is unsafe", examples)
    examining.add_argument("--python", metavar="PY", help="ComfyUI's Python (default: its venv's, else this one)")
    examining.add_argument("--port", metavar="N", type=_port, default=8188, help="ComfyUI's port (default: 8188)")
    examining.add_argument(
        "--api-key-file", metavar="F", type=Path, action="append", default=[], help="a key file to check; repeatable"
    )
    add_base(examining)
    examining.add_argument("--json", action="store_true", help="for programs")

    probe = add(_probe, "show the GPUs and their memory, without loading torch", ["", "--json"])
    probe.add_argument("--json", action="store_true", help="for programs: sizes in bytes")

    examples = ["~/ComfyUI -- --api-key-file api_key.txt", "~/ComfyUI -- --listen --port 8189", "~/ComfyUI -- --help"]
    running = add_for_tree(_run, "start a ComfyUI with the patch in memory only; its files stay as they are", examples)
    running.usage = "comfy-auth-rs run [-h] DIR [-- ARGS ...]"
    running.description = f"""{running.description}
What follows -- goes to its main.py, which runs in DIR with this Python: relative
paths in ARGS start there."""

    examples = ["bash > ~/.local/share/bash-completion/completions/comfy-auth-rs", 'zsh > "${fpath[1]}/_comfy-auth-rs"']
    examples += ["fish > ~/.config/fish/completions/comfy-auth-rs.fish"]
    completing = add(_completion, "print the completion script of a shell", examples)
    completing.add_argument("shell", choices=SHELLS, help="which shell")
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port; name a number from 1 to 65535")


def _keygen(options: argparse.Namespace) -> int:
    file: Path | None = options.file
    if file is None:
        print(generate_key())
        return 0
    try:
        # O_EXCL: never over a file that exists, never through a link that somebody put there.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _CommandError(f"{file} exists, and a key is never overwritten; choose another name") from None
    except FileNotFoundError:
        raise _CommandError(f"{file.parent} does not exist; make that folder first") from None
    except OSError as error:
        raise _CommandError(f"{file} cannot be written ({error.strerror}); choose another place") from None
    try:
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(generate_key() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink()
        raise _CommandError(f"{file} cannot be written ({error.strerror}); make room and try again") from None
    print(f"A new key is in {file}. Next: python3 main.py --api-key-file {file.absolute()}")
    return 0


def _patch(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    if options.diff:
        if difference := patch.diff(directory):
            sys.stdout.buffer.write(difference)
        else:
            print(f"{directory} is patched already; nothing would change.", file=sys.stderr)
        return 0
    if custom_node.state(custom_node.folder(directory)):
        raise PatchError(
            f"{directory}: it has the custom node, and one of the two is enough; "
            "run `comfy-auth-rs uninstall-node` first"
        )
    changed = patch.patch(directory)
    _print_changes(options, changed, "Patched", f"{directory} is patched already; nothing changed.")
    if changed and not options.json:
        print(f"Next, in that folder: python3 main.py --api-key-file FILE; then comfy-auth-rs doctor {directory}")
    return 0


def _unpatch(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    changed = patch.unpatch(directory)
    _print_changes(options, changed, "As before the patch", f"{directory} is not patched; nothing changed.")
    return 0


def _install_node(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    changed = custom_node.install(directory, options.base_directory)
    _print_changes(options, changed, "Written", f"{directory} has the custom node already; nothing changed.")
    if changed and not options.json:
        print(f"Next, in {directory}: COMFYUI_API_KEY_FILE=FILE python3 main.py; then comfy-auth-rs doctor {directory}")
    return 0


def _uninstall_node(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    removed = custom_node.uninstall(directory, options.base_directory)
    changed = [] if removed is None else [removed]
    _print_changes(options, changed, "Removed", f"{directory} has no custom node of ours; nothing changed.")
    return 0


def _print_changes(options: argparse.Namespace, changed: Sequence[Path], done: str, nothing: str) -> None:
    if options.json:
        print(json.dumps({"changed": [str(path) for path in changed]}, indent=2))
    else:
        print(f"{done}: {', '.join(map(str, changed))}." if changed else nothing)


def _doctor(options: argparse.Namespace) -> int:
    checks = doctor.examine(
        options.directory,
        base=options.base_directory,
        python=options.python,
        port=options.port,
        key_files=options.api_key_file,
    )
    safe = all(check.state != "unsafe" for check in checks)
    if options.json:
        print(json.dumps({"safe": safe, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        _print_table(checks)
    return 0 if safe else 1


def _print_table(checks: Sequence[doctor.Check]) -> None:
    """One line a check; on a terminal, in colour and folded to its width."""
    terminal = sys.stdout.isatty()
    coloured = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = max(len(check.name) for check in checks)
    for check in checks:
        state = f"{check.state:6}"
        if coloured:
            state = f"\033[{_COLOURS[check.state]}m{state}\033[0m"
        indent = 6 + 2 + width + 2
        room = max(shutil.get_terminal_size().columns - indent, 40) if terminal else len(check.detail)
        lines = textwrap.wrap(check.detail, room, break_long_words=False, break_on_hyphens=False)
        print(f"{state}  {check.name:{width}}  {lines[0]}", *lines[1:], sep=f"\n{' ' * indent}")


def _probe(options: argparse.Namespace) -> int:
    devices = probe_devices()
    if options.json:
        print(json.dumps(devices, indent=2))
        return 0
    for device in devices:
        kind = device["type"] if device["index"] is None else f"{device['type']}:{device['index']}"
        free, total = device["free"] / _GIB, device["total"] / _GIB
        print(f"{kind:8}  {free:7.1f} of {total:7.1f} GiB free  {device['name']}")
    return 0


def _completion(options: argparse.Namespace) -> int:
    print((_COMPLETIONS / f"comfy-auth-rs.{options.shell}").read_text(encoding="utf-8"), end="")
    return 0


def _run(options: argparse.Namespace) -> int:
    launcher.run(options.directory, options.comfyui_arguments)
    return 0
