"""`comfy-auth-rs completion`: what it prints completes in real shells."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from comfy_auth_rs.cli.completion import SHELLS

#: Each test starts processes.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [
    "completion",
    "doctor",
    "install-node",
    "keygen",
    "keys",
    "patch",
    "probe",
    "run",
    "state",
    "uninstall-node",
    "unpatch",
    "usage",
]

#: What somebody typed before pressing Tab, and what may come next.
CASES = {
    "": COMMANDS,
    "usage --by ": ["day", "key", "user"],
    "usage --html Comfy": ["ComfyUI.txt", "ComfyUI/"],
    "un": ["uninstall-node", "unpatch"],
    "patch --": ["--diff", "--help", "--json"],
    "completion ": ["bash", "fish", "zsh"],
    "completion b": ["bash"],
    "run Comfy": ["ComfyUI/"],
    "install-node --base-directory Comfy": ["ComfyUI/"],
    "doctor --api-key-file Comfy": ["ComfyUI.txt", "ComfyUI/"],
    "keys ": ["add", "list", "revoke", "rotate"],
    "keys rotate --": ["--digest", "--grace", "--help", "--json"],
    "keys list Comfy": ["ComfyUI.txt", "ComfyUI/"],
    "keygen -o Comfy": ["ComfyUI.txt", "ComfyUI/"],
}

needs_posix = pytest.mark.skipif(os.name != "posix", reason="these shells are POSIX")


@pytest.fixture(scope="module")
def scripts() -> dict[str, bytes]:
    """What the command prints for each shell."""
    command = [sys.executable, "-m", "comfy_auth_rs", "completion"]
    return {
        shell: subprocess.run([*command, shell], capture_output=True, check=True, timeout=60).stdout for shell in SHELLS
    }


@pytest.fixture
def here(scripts: dict[str, bytes], tmp_path: Path) -> Path:
    """A working directory with a folder and a file, and the three scripts."""
    (tmp_path / "ComfyUI").mkdir()
    (tmp_path / "ComfyUI.txt").write_text("")
    for shell, script in scripts.items():
        (tmp_path / f"script.{shell}").write_bytes(script)
    return tmp_path


def test_is_what_the_command_line_makes_it() -> None:
    """If this fails, the command line has changed: run `make completions`."""
    pytest.importorskip("shtab", reason="shtab writes them")
    specification = importlib.util.spec_from_file_location("completions", ROOT / "tools" / "completions.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for shell, text in module.written().items():
        assert (module.FOLDER / f"comfy-auth-rs.{shell}").read_text(encoding="utf-8") == text, shell


def execute(shell: str, source: str, here: Path) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = {"bash": ["bash", "--norc", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    result = subprocess.run([*command, source], cwd=here, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def complete_in_bash(typed: str, here: Path) -> list[str]:
    words = ["comfy-auth-rs", *typed.split(" ")]
    # Like readline, call the registered function with the word to complete and the word before it.
    source = f"""
        source script.bash
        [[ $(complete -p comfy-auth-rs) =~ -F\\ ([^ ]+) ]]
        COMP_WORDS=({" ".join(word or "''" for word in words)})
        COMP_CWORD={len(words) - 1}
        "${{BASH_REMATCH[1]}}" comfy-auth-rs "{words[-1]}" "{words[-2]}" 2> >(grep -v 'not currently executing' >&2)
        for word in "${{COMPREPLY[@]}}"; do [ -d "$word" ] && word="$word/"; printf '%s\\n' "$word"; done
    """
    return execute("bash", source, here).splitlines()


def complete_in_fish(typed: str, here: Path) -> list[str]:
    listed = execute("fish", f"source script.fish; complete -C 'comfy-auth-rs {typed}'", here)
    return [line.split("\t")[0] for line in listed.splitlines()]


def complete_in_zsh(typed: str, here: Path) -> list[str]:
    """Needs a terminal: zsh completes nowhere else."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    import pty

    (here / "functions").mkdir()
    (here / "script.zsh").rename(here / "functions" / "_comfy-auth-rs")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "PS1": "READY> ", "COLUMNS": "200", "LINES": "50"}
    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=here,
        env=environment,
        start_new_session=True,
    ) as shell:
        os.close(theirs)
        read = reader(ours)
        read("READY> ")
        settings = "fpath=($PWD/functions $fpath); autoload -Uz compinit; compinit -u -D; setopt no_beep"
        os.write(ours, f"{settings}; zstyle ':completion:*' format ''; bindkey '^D' list-choices\n".encode())
        read("READY> ")
        # Ctrl-D lists what Tab would complete.
        os.write(ours, f"comfy-auth-rs {typed}".encode())
        read(typed.strip() or "comfy-auth-rs")
        os.write(ours, b"\x04")
        listed = read("READY> ")
        os.write(ours, b"\x15exit\n")
        shell.wait(10)
    os.close(ours)
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", listed).splitlines()]
    return [word for line in lines if line and "READY" not in line for word in re.split(r"  +-- .*|  +", line) if word]


def reader(descriptor: int) -> Callable[[str], str]:
    """Reads a terminal until it shows the text asked for."""

    def read(until: str) -> str:
        seen, deadline = "", time.monotonic() + 20
        while until not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(descriptor, 4096).decode(errors="replace")
        return seen

    return read


@needs_posix
@pytest.mark.parametrize("typed", CASES, ids=lambda typed: typed or "nothing")
@pytest.mark.parametrize("complete", [complete_in_bash, complete_in_fish, complete_in_zsh])
def test_completes(here: Path, complete: Callable[[str, Path], list[str]], typed: str) -> None:
    asks_for_flags = typed.rsplit(" ", 1)[-1].startswith("-")
    found = {word for word in complete(typed, here) if asks_for_flags or not word.startswith("-")}
    assert found == set(CASES[typed])
