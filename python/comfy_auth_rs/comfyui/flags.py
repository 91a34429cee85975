"""Adds our flags to ComfyUI's command line, and removes keys from `sys.argv`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from comfy_auth_rs._core import REDACTED, KeyStore
from comfy_auth_rs.arguments import without_values
from comfy_auth_rs.comfyui import inheritance, state
from comfy_auth_rs.errors import KeyFileError, PatchError, refuse_to_start
from comfy_auth_rs.settings import Settings, flag
from comfy_auth_rs.store.address import without_credentials

#: Under this name, the values say how settings are spelled if they were not given as flags.
SPELLING = "auth_spelling"
Spelling = Callable[[str], str]

_HALF_PATCHED = (
    "this ComfyUI would not ask for the key: its server.py is not patched; run `comfy-auth-rs patch {}` again"
)
_MISSPELT = (
    "an argument looks like --api-key, but is misspelled, or has two values (not shown, because it may be a key); "
    "write --api-key KEY or, better, --api-key-file PATH"
)


#: URLs with a password that were in `sys.argv`, and what replaced them.
_taken_out: dict[str, str] = {}


class Secret:
    """A key on its way from the command line to the key store. It never prints itself."""

    def __init__(self, value: str) -> None:
        self._value = value

    def expose_secret(self) -> str:
        """The key in plain text, or its digest. Not for logs."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags. Bad keys end the process with one line and exit status 2, before anything else starts."""
    add_flags(parser)
    parse_args, error = parser.parse_args, parser.error

    def parse_and_hand_on(*args: Any, **named: Any) -> argparse.Namespace:
        parsed: argparse.Namespace = parse_args(*args, **named)
        settings = read_settings(parsed)
        if settings.has_keys:
            # Not later, because custom nodes may restart ComfyUI before it makes its server.
            inheritance.hand_on(settings)
            if settings.state is not None:
                state.leave(os.fspath(settings.state))
        elif inheritance.is_offered() and not (args or named):
            _require_patched_server()
        return parsed

    def error_without_keys(message: str) -> NoReturn:
        if any(_may_hold_a_key(sys.argv[index:]) for index in range(1, len(sys.argv))):
            refuse_to_start(_MISSPELT)
        for value, shown in _taken_out.items():
            message = message.replace(value, shown)
        error(without_values(message, sys.argv[1:]))

    vars(parser).update(parse_args=parse_and_hand_on, error=error_without_keys)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Only adds the flags to the parser."""
    group = parser.add_argument_group("authentication (comfy-auth-rs)")
    for setting in fields(Settings):
        name, about = flag(setting.name), setting.metadata
        if setting.default is False:
            group.add_argument(name, action="store_true", help=about["help"])
            continue
        if setting.default is None or isinstance(setting.default, str):
            take = _TAKE.get(setting.name, str)
            group.add_argument(name, type=take, default=setting.default, metavar=about["metavar"], help=about["help"])
            continue
        group.add_argument(
            name,
            action="extend",
            type=_TAKE.get(setting.name, lambda value: [value]),
            default=[],
            metavar=about["metavar"],
            help=f"{about['help']} May be repeated.",
        )


def read_settings(args: argparse.Namespace) -> Settings:
    """The settings that the flags give."""
    given: dict[str, Any] = {setting.name: getattr(args, destination(setting.name)) for setting in fields(Settings)}
    given["api_key"] = dict.fromkeys(secret.expose_secret() for secret in given["api_key"])
    return Settings.of(**given)


def destination(name: str) -> str:
    """What argparse calls the value of a setting's flag."""
    return flag(name).lstrip("-").replace("-", "_")


def _take_key(value: str) -> list[Secret]:
    if value == REDACTED and (digests := inheritance.inherited_keys()):
        return [Secret(digest) for digest in digests]
    _check([value], [])
    _redact(value)
    return [Secret(value)]


def _take_key_file(value: str) -> list[Path]:
    _check([], [value])
    return [Path(value).absolute()]


def _take_state(value: str) -> str:
    shown = without_credentials(value)
    if shown != value:  # replace it anywhere in an argument: argparse accepts abbreviated flags
        _taken_out[value] = shown
        sys.argv[1:] = [argument.replace(value, shown) for argument in sys.argv[1:]]
    left = os.environ.get(state.VARIABLE, "")
    # The value before this process, or its parent, removed it from the arguments.
    return left if value == shown and shown == without_credentials(left) else state.absolute(value)


#: Checks and converts one value of a flag.
_TAKE: dict[str, Callable[[str], Any]] = {
    "api_key": _take_key,
    "api_key_file": _take_key_file,
    "audit": lambda value: Path(value).absolute(),
    "state": _take_state,
}


def _check(keys: list[str], files: list[str]) -> None:
    try:
        KeyStore(keys, files)
    except KeyFileError as fault:
        refuse_to_start(fault.spelled(flag))
    _require_patched_server()


def _require_patched_server() -> None:
    """Makes sure that a given key is required: a tree with only cli_args.py patched would serve everything."""
    from comfy_auth_rs.comfyui import launcher
    from comfy_auth_rs.comfyui.transform import SERVER
    from comfy_auth_rs.comfyui.tree import status

    if launcher.is_active():
        return
    spec = find_spec("server")
    tree = Path(spec.origin).parent if spec and spec.origin else None
    try:
        if tree is None or not any(file.name == SERVER and file.version for file in status(tree)):
            refuse_to_start(_HALF_PATCHED.format(tree or "DIR"))
    except PatchError as fault:
        refuse_to_start(fault)


def _redact(value: str) -> None:
    """Removes a key from `sys.argv`, which ComfyUI's `/system_stats` shows to every client."""
    option = flag("api_key")
    for index, argument in enumerate(sys.argv):
        if index and argument == value and sys.argv[index - 1] == option:
            sys.argv[index] = REDACTED
        if argument == f"{option}={value}":
            sys.argv[index] = f"{option}={REDACTED}"


def _may_hold_a_key(words: list[str]) -> bool:
    """Whether they begin with a misspelled `--api-key`, or one with several values: argparse would print those."""
    name = words[0].partition("=")[0]
    if name == flag("api_key"):
        after = words[1:] if "=" in words[0] else words[2:]
        return bool(after) and not after[0].startswith("-")
    letters = re.sub(r"[^a-z]", "", name.lower())
    dashes = not name[:1].isalnum()
    return dashes and name != flag("api_key_file") and (letters.startswith("apik") or name in ("--a", "--ap", "--api"))
