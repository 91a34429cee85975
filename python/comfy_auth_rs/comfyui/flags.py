"""The flags in ComfyUI's own `--help`, and taking the keys out of `sys.argv`."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from comfy_auth_rs._core import REDACTED, KeyFileError, KeyStore
from comfy_auth_rs.errors import PatchError, refuse_to_start

#: Digests of the keys that were taken out of `sys.argv`, for a process that restarts itself with its own arguments, as
#: ComfyUI-Manager does. A child of this process sees no more in it than in this process's memory.
RESTART_VARIABLE = "COMFY_AUTH_RS_RESTART_DIGESTS"

_HALF_PATCHED = (
    "this ComfyUI would not ask for the key: its server.py is not patched; run `comfy-auth-rs patch {}` again"
)


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
    """Adds the flags. Bad keys end the process with one line and exit code 2, before anything else has started."""
    group = parser.add_argument_group("authentication (comfy-auth-rs)")
    group.add_argument(
        "--api-key",
        action=_KeyAction,
        metavar="KEY",
        help="Require this API key. Other users of this machine can see it in the list of processes; prefer "
        "--api-key-file. May be repeated.",
    )
    group.add_argument(
        "--api-key-file",
        action=_KeyFileAction,
        metavar="PATH",
        help="Require one of the API keys in this file: one a line, optionally followed by a label; read again when it "
        "changes. May be repeated.",
    )
    group.add_argument(
        "--auth-exempt",
        action="append",
        default=[],
        metavar="PATTERN",
        help="Let everybody use the routes whose path matches: '/my_node/*', or a regular expression that begins "
        "with ^. May be repeated.",
    )
    group.add_argument(
        "--auth-require-ws",
        action="store_true",
        help="Require the key for the WebSocket (/ws) too. Recommended; without it anybody can follow the queue.",
    )
    group.add_argument(
        "--auth-trusted-proxy",
        action="append",
        default=[],
        metavar="CIDR",
        help="Believe X-Forwarded-For from this proxy or network, so that failed attempts count by client. May be "
        "repeated.",
    )
    group.add_argument(
        "--auth-url-key",
        action="store_true",
        help="Take the key from the beginning of the path too: /key/KEY/prompt is /prompt with that key. For clients "
        "that can be given nothing but an address; proxies on the way write addresses into their logs.",
    )


class _KeySource(argparse.Action, ABC):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest, None) or []), *self.take(values)])

    @abstractmethod
    def take(self, value: str) -> list[Secret] | list[Path]:
        """What one value of the flag stands for, once it is known to be good."""


class _KeyAction(_KeySource):
    def take(self, value: str) -> list[Secret]:
        if value == REDACTED and (digests := os.environ.get(RESTART_VARIABLE)):
            return [Secret(digest) for digest in digests.split(",")]
        _check([value], [])
        _redact(self.option_strings, value)
        return [Secret(value)]


class _KeyFileAction(_KeySource):
    def take(self, value: str) -> list[Path]:
        _check([], [value])
        return [Path(value).absolute()]


def _check(keys: list[str], files: list[str]) -> None:
    try:
        KeyStore(keys, files)
    except KeyFileError as fault:
        refuse_to_start(fault)
    _require_patched_server()


def _require_patched_server() -> None:
    """A key was given, but would anybody ask for it? A tree with only cli_args.py patched would serve everything."""
    from comfy_auth_rs.comfyui import launcher, patch

    if launcher.is_active():
        return
    spec = find_spec("server")
    tree = Path(spec.origin).parent if spec and spec.origin else None
    try:
        if tree is None or not any(file.name == patch.SERVER and file.version for file in patch.status(tree)):
            refuse_to_start(_HALF_PATCHED.format(tree or "DIR"))
    except PatchError as fault:
        refuse_to_start(fault)


def _redact(options: Sequence[str], value: str) -> None:
    """Takes a key out of `sys.argv`, which ComfyUI's `/system_stats` shows to every client."""
    for index, argument in enumerate(sys.argv):
        if index and argument == value and sys.argv[index - 1] in options:
            sys.argv[index] = REDACTED
        for option in options:
            if argument == f"{option}={value}":
                sys.argv[index] = f"{option}={REDACTED}"
    digest = value if value.startswith("sha256:") else f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    known = [known for known in os.environ.get(RESTART_VARIABLE, "").split(",") if known and known != digest]
    os.environ[RESTART_VARIABLE] = ",".join([*known, digest])
