"""The command `comfy-auth-rs`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from comfy_auth_rs.comfyui.errors import PatchError

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
_GIB = 1024**3
_COLOURS = {"ok": "32", "note": "33", "unsafe": "1;31"}


class _CommandError(Exception):
    """Ends a command; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        hint = "; ComfyUI's own arguments go after --" if self.prog.endswith(" run") else ""
        self.exit(2, f"comfy-auth-rs: error: {message}{hint} (see `{self.prog} --help`)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 good, 1 something is unsafe (doctor), 2 error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    own, extra = argv, []
    if argv[:1] == ["run"] and "--" in argv:
        cut = argv.index("--")
        own, extra = argv[:cut], argv[cut + 1 :]
    if not own:
        print(_NEXT, end="")
        return 0
    options = _parser().parse_args(own)
    options.comfyui_arguments = extra
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (PatchError, _CommandError) as error:
        print(f"comfy-auth-rs: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="comfy-auth-rs", description="API keys and a login page for ComfyUI.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        command: Callable[[argparse.Namespace], int], help: str, *examples: str
    ) -> argparse.ArgumentParser:
        name = command.__name__.lstrip("_")
        added = commands.add_parser(
            name,
            help=help[0].lower() + help[1:].rstrip("."),
            description=help,
            epilog="examples:\n"
            + "\n".join(f"  comfy-auth-rs {name} {example}".rstrip() for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=command)
        return added

    def add_directory(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "directory", metavar="DIR", type=Path, help="ComfyUI's folder, which holds main.py"
        )

    keygen = add(_keygen, "Make an API key: 256 random bits, URL-safe.", "", "-o api_key.txt")
    keygen.add_argument("-o", dest="file", metavar="FILE", type=Path,
                        help="write the key to this new file, readable by you alone, instead of the terminal")  # fmt: skip

    patch = add(_patch, "Let a ComfyUI ask for a key.", "~/ComfyUI", "~/ComfyUI --diff")
    add_directory(patch)
    patch.add_argument("--diff", action="store_true", help="only show what would change")

    unpatch = add(_unpatch, "Take the patch out again, byte for byte.", "~/ComfyUI")
    add_directory(unpatch)

    doctor = add(
        _doctor,
        "Say what holds and what doesn't; exit with 1 if anything is unsafe.",
        "~/ComfyUI",
        "~/ComfyUI --api-key-file api_key.txt --port 8188",
        "~/ComfyUI --json",
    )
    add_directory(doctor)
    doctor.add_argument(
        "--python",
        metavar="PY",
        help="the Python that runs ComfyUI (default: the one in its venv, else this one)",
    )
    doctor.add_argument(
        "--port", metavar="N", type=_port, default=8188, help="ComfyUI's port (default: 8188)"
    )
    doctor.add_argument("--api-key-file", metavar="FILE", type=Path, action="append", default=[],
                        help="a key file to check; may be repeated")  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="for programs")

    probe = add(_probe, "Show the GPUs and their memory, without loading torch.", "", "--json")
    probe.add_argument("--json", action="store_true", help="for programs: sizes in bytes")

    run = add(
        _run,
        "Start a ComfyUI with the patch in memory only: its files stay as they are.",
        "~/ComfyUI -- --api-key-file api_key.txt",
        "~/ComfyUI -- --listen --port 8189 --api-key-file api_key.txt",
        "~/ComfyUI -- --help",
    )
    run.usage = "comfy-auth-rs run [-h] DIR [-- ARGS ...]"
    run.description = (
        f"{run.description}\nEverything after -- goes to ComfyUI's main.py, which runs in DIR with this Python;\n"
        "relative paths in ARGS start from DIR."
    )
    add_directory(run)
    return parser


class _Version(argparse.Action):
    """`--version`, which asks for the package only when it is used."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from comfy_auth_rs import __version__

        print(f"comfy-auth-rs {__version__}")
        parser.exit()


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port: a number from 1 to 65535")


def _keygen(options: argparse.Namespace) -> int:
    from comfy_auth_rs import generate_key

    file: Path | None = options.file
    if file is None:
        print(generate_key())
        return 0
    try:
        # O_EXCL: never over a file that exists, never through a link that somebody put there.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _CommandError(f"{file} exists, and keys are never overwritten; choose another name") from None
    except FileNotFoundError:
        raise _CommandError(f"{file.parent} doesn't exist; make that folder first") from None
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
    from comfy_auth_rs.comfyui import patch

    directory: Path = options.directory
    if options.diff:
        sys.stdout.flush()
        sys.stdout.buffer.write(patch.diff(directory))
    elif changed := patch.patch(directory):
        print(f"Patched: {', '.join(map(str, changed))}.")
        print(f"Next: python3 main.py --api-key-file FILE there, and `comfy-auth-rs doctor {directory}`.")
    else:
        print(f"{directory} is patched already; nothing changed.")
    return 0


def _unpatch(options: argparse.Namespace) -> int:
    from comfy_auth_rs.comfyui import patch

    directory: Path = options.directory
    if changed := patch.unpatch(directory):
        print(f"As before the patch: {', '.join(map(str, changed))}.")
    else:
        print(f"{directory} is not patched; nothing changed.")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from comfy_auth_rs import doctor

    checks = doctor.examine(
        options.directory, python=options.python, port=options.port, key_files=options.api_key_file
    )
    safe = all(check.state != "unsafe" for check in checks)
    if options.json:
        print(json.dumps({"safe": safe, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        width = max(len(check.name) for check in checks)
        for check in checks:
            word = f"{check.state:6}"
            if colours:
                word = f"\033[{_COLOURS[check.state]}m{word}\033[0m"
            print(f"{word}  {check.name:{width}}  {check.detail}")
    return 0 if safe else 1


def _probe(options: argparse.Namespace) -> int:
    from comfy_auth_rs import probe_devices

    devices = probe_devices()
    if options.json:
        print(json.dumps(devices, indent=2))
    else:
        for device in devices:
            label = device["type"] if device["index"] is None else f"{device['type']}:{device['index']}"
            free, total = device["free"] / _GIB, device["total"] / _GIB
            print(f"{label:8}  {free:7.1f} of {total:7.1f} GiB free  {device['name']}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from comfy_auth_rs.comfyui import launcher

    launcher.run(options.directory, options.comfyui_arguments)
    return 0
