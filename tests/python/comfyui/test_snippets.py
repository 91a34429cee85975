"""Everything that the documents show works."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import serve_once
from support.client import CHALLENGE
from support.servers import Server, free_port
from support.snippets import TUTORIALS, Snippet, snippets

ALL = [snippet for snippet in snippets() if snippet.page.parent != TUTORIALS]
SERVE_ONCE = shlex.quote(serve_once.__file__)

#: Programs under their everyday names. A server ends as soon as it has asked for the key.
PROGRAMS = {
    "python3": 'case "$1" in main.py) exec {python} {serve_once} "$@";; *) exec {python} "$@";; esac',
    # The package is already installed.
    "pip": 'case "$*" in "install comfy-auth-rs" | "uninstall comfy-auth-rs") ;; *) exit 1;; esac',
    "comfy-auth-rs": """case "$1" in
        run) exec {python} {serve_once} -m comfy_auth_rs "$@";;
        doctor) exec {python} -m comfy_auth_rs "$@" --port {port};;
        *) exec {python} -m comfy_auth_rs "$@";;
    esac""",
}

posix = pytest.mark.skipif(sys.platform == "win32", reason="these are commands for a POSIX shell")


def of(*languages: str) -> Any:
    """The snippets to run. If several pages show the same one, it runs once."""
    runs = [snippet for snippet in ALL if snippet.language in languages and snippet.reason is None]
    found = list({(snippet.code, snippet.needs): snippet for snippet in runs}.values())
    return pytest.mark.parametrize("snippet", found, ids=[snippet.name for snippet in found])


def filled(snippet: Snippet, server: Server, key: str) -> str:
    assert ":8188" in snippet.code, f"{snippet.name} sends no request to a server"
    return snippet.code.replace("http://127.0.0.1:8188", server.url).replace("your-secure-api-key-here", key)


@of("python")
def test_python(snippet: Snippet, protected: Server, key: str, tmp_path: Path) -> None:
    code = filled(snippet, protected, key) if snippet.needs == "server" else snippet.code
    # It runs as a program, but must not serve for ever.
    code = code.replace('__name__ == "__main__"', "not __debug__")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@of("js")
def test_javascript(snippet: Snippet, protected: Server, key: str) -> None:
    code = filled(snippet, protected, key) if snippet.needs == "server" else snippet.code
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    command = ["node", "--input-type=module", "--eval", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@posix
@of("sh")
def test_shell(snippet: Snippet, protected: Server, key: str, copy_miniature: Any, tmp_path: Path) -> None:
    code = snippet.code
    folder = tmp_path
    if snippet.needs == "server":
        code = filled(snippet, protected, key)
    elif "ComfyUI" in code or snippet.needs:
        tree: Path = copy_miniature(patched=snippet.needs == "patched")
        if snippet.needs:
            (tree / "api_key.txt").write_text("a-key-of-at-least-32-characters-0123456789\n")
            (tree / "api_key.txt").chmod(0o600)
        folder = tree if snippet.needs == "patched" else tmp_path
        code = code.replace("/path/to/ComfyUI", str(tree))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in PROGRAMS.items():
        text = script.format(python=shlex.quote(sys.executable), serve_once=SERVE_ONCE, port=free_port())
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if "curl" in code:
        assert CHALLENGE not in result.stdout
        assert '"error":' not in result.stdout
