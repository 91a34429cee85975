"""Reads the flags of a patched ComfyUI from environment variables, for one that isn't patched."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import NoReturn

from comfy_auth_rs._core import KeyStore
from comfy_auth_rs.arguments import without_values
from comfy_auth_rs.comfyui import inheritance
from comfy_auth_rs.comfyui.flags import SPELLING, Secret, add_flags
from comfy_auth_rs.errors import KeyFileError
from comfy_auth_rs.settings import flag

__all__ = ["read_arguments"]

_KEY = "COMFYUI_API_KEY"
_KEY_FILE = "COMFYUI_API_KEY_FILE"
_VARIABLES = {"api_key": _KEY, "api_key_file": _KEY_FILE}
_FLAGS = "COMFYUI_AUTH_FLAGS"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        words = shlex.split(os.environ.get(_FLAGS, ""))
        raise ValueError(f"{_FLAGS}: {without_values(message, words)}")


def read_arguments() -> argparse.Namespace:
    """The values of all our flags. Raises `ValueError`, one line that names the variable, if there is no usable key.

    Child processes and custom nodes see the environment. So the key in it is replaced by its digest, which is enough
    for a restart, and the key file's path by an absolute one.
    """
    given = {name: os.environ[variable] for name, variable in _VARIABLES.items() if variable in os.environ}
    if not given and not inheritance.is_offered():
        raise ValueError(
            f"no API key; set {_KEY_FILE} to the path of a key file (`comfy-auth-rs keygen -o FILE` makes one) "
            f"or {_KEY} to a key, or remove the custom node (`comfy-auth-rs uninstall-node DIR`)"
        )
    arguments = _read_flags(os.environ.get(_FLAGS, ""))
    setattr(arguments, SPELLING, _spell)
    try:
        if given:
            KeyStore(**{name: [value] for name, value in given.items()})
    except KeyFileError as fault:
        raise ValueError(fault.spelled(_spell)) from None
    if (key := given.get("api_key")) is not None:
        arguments.api_key = [Secret(key)]
        os.environ[_KEY] = inheritance.digest_of(key)
    if (file := given.get("api_key_file")) is not None:
        arguments.api_key_file = [Path(file).absolute()]
        os.environ[_KEY_FILE] = str(arguments.api_key_file[0])
    return arguments


def _read_flags(text: str) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    try:
        words = shlex.split(text)
    except ValueError as fault:
        raise ValueError(f"{_FLAGS}: {fault}; quote it as for a shell") from None
    for name in (word.partition("=")[0] for word in words):
        if name in map(flag, _VARIABLES):
            raise ValueError(f"{_FLAGS}: {name} is not allowed here; set {_KEY_FILE} or {_KEY}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        # Values are left out: one of them may be a key.
        names = re.findall(r"^-[\w-]*", "\n".join(unknown), re.M)
        raise ValueError(f"{_FLAGS}: {', '.join(names) or 'one of its words'} is not a flag of comfy-auth-rs")
    return arguments


def _spell(setting: str) -> str:
    return _VARIABLES.get(setting) or f"{_FLAGS}: {flag(setting)}"
