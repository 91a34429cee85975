"""Called by the custom node: `protect` before ComfyUI makes its server, `confirm` when it loads its nodes.

ComfyUI runs the prestartup scripts of custom nodes after it has read its command line, and before it imports its
`server.py`. From then on that module can only be imported with the lines of `transform` in it, as if it were patched:
the middleware is in the same place, and our routes come first. Both functions end the process if anything is wrong,
because ComfyUI catches what a custom node raises and would start without protection.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from comfy_auth_rs.app import AUTH
from comfy_auth_rs.comfyui.environment import read_arguments
from comfy_auth_rs.comfyui.finder import Finder
from comfy_auth_rs.comfyui.transform import SERVER, insert
from comfy_auth_rs.comfyui.tree import read
from comfy_auth_rs.errors import end_process

__all__ = ["confirm", "protect"]

_MODULE = "server"
_WITHOUT_NODE = "`comfy-auth-rs patch` works without a custom node"


def protect() -> None:
    """Makes ComfyUI ask for the keys that the environment names."""
    try:
        _protect()
    except BaseException as fault:
        _end(fault)


def confirm() -> None:
    """Makes sure that the server, which has been made in the meantime, is protected."""
    try:
        _confirm()
    except BaseException as fault:
        _end(fault)


def _protect() -> None:
    cli_args: Any = sys.modules.get("comfy.cli_args")
    if cli_args is None:
        raise RuntimeError("the custom node was loaded by something that isn't ComfyUI's main.py")
    tree = Path(cli_args.__file__).parents[1]
    if hasattr(cli_args.args, "api_key_file"):
        raise RuntimeError(
            f"{tree} is patched, or was started with `comfy-auth-rs run`, and has the custom node too; keep one of "
            f"them: `comfy-auth-rs uninstall-node {tree}` or `comfy-auth-rs unpatch {tree}`"
        )
    if _MODULE in sys.modules:
        raise RuntimeError(f"another custom node imported {SERVER} before ours could protect it; {_WITHOUT_NODE}")
    arguments = read_arguments()
    insert(SERVER, read(tree, SERVER))
    vars(cli_args.args).update(vars(arguments))
    sys.meta_path.insert(0, Finder(tree, {_MODULE: SERVER}))


def _confirm() -> None:
    server: Any = sys.modules.get(_MODULE)
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    if instance is None or AUTH not in instance.app:
        raise RuntimeError(f"ComfyUI did not run the custom node's prestartup_script.py; {_WITHOUT_NODE}")


def _end(fault: BaseException) -> None:
    if isinstance(fault, SystemExit):
        os._exit(2)  # the reason was printed already
    known = isinstance(fault, (ValueError, RuntimeError, OSError))
    end_process(" ".join(str(fault).split()) if known else f"{type(fault).__name__} in the custom node: {fault!r}")
