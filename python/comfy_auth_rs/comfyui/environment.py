"""What the flags of a patched ComfyUI say, for one that isn't patched: from environment variables."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
from pathlib import Path
from typing import NoReturn

from comfy_auth_rs._core import KeyFileError, KeyStore
from comfy_auth_rs.comfyui.flags import Secret, add_arguments

__all__ = ["read_arguments"]

_KEY = "COMFYUI_API_KEY"
_KEY_FILE = "COMFYUI_API_KEY_FILE"
_FLAGS = "COMFYUI_AUTH_FLAGS"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{_FLAGS}: {message}")


def read_arguments() -> argparse.Namespace:
    """The values of all our flags. Raises `ValueError`, one line that names the variable, where no key may be required.

    The key in the environment is replaced by its digest, which does as well when ComfyUI-Manager restarts this process:
    those that this process starts, and every custom node, see the environment.
    """
    key, file = os.environ.get(_KEY), os.environ.get(_KEY_FILE)
    if key is None and file is None:
        raise ValueError(
            f"no API key; set {_KEY_FILE} to the path of a key file (`comfy-auth-rs keygen -o FILE` makes one) "
            f"or {_KEY} to a key, or remove the custom node (`comfy-auth-rs uninstall-node DIR`)"
        )
    arguments = _read_flags(os.environ.get(_FLAGS, ""))
    if key is not None:
        _check_key(key)
        arguments.api_key = [Secret(key)]
        os.environ[_KEY] = key if key.startswith("sha256:") else f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if file is not None:
        if not file:
            raise ValueError(f"{_KEY_FILE}: it is empty; set it to the path of a key file, or don't set it")
        KeyStore([], [file])
        arguments.api_key_file = [Path(file).absolute()]
    return arguments


def _read_flags(text: str) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        words = shlex.split(text)
    except ValueError as fault:
        raise ValueError(f"{_FLAGS}: {fault}; quote it as for a shell") from None
    for word in words:
        if word.partition("=")[0] in ("--api-key", "--api-key-file"):
            raise ValueError(f"{_FLAGS}: {word.partition('=')[0]} has no place here; set {_KEY_FILE} or {_KEY}")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        # Values are left out: one of them may be a key.
        names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        raise ValueError(f"{_FLAGS}: {', '.join(names) or 'what it holds'} is no flag of comfy-auth-rs")
    return arguments


def _check_key(key: str) -> None:
    if not key:
        raise ValueError(f"{_KEY}: the key is empty; set it to a key, or don't set it")
    try:
        KeyStore([key], [])
    except KeyFileError as fault:
        raise ValueError(str(fault).replace("--api-key", _KEY, 1)) from None
