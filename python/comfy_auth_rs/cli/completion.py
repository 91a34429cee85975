"""Print the completion script of a shell."""

import argparse
from pathlib import Path

EXAMPLES = (
    "bash > ~/.local/share/bash-completion/completions/comfy-auth-rs",
    'zsh > "${fpath[1]}/_comfy-auth-rs"',
    "fish > ~/.config/fish/completions/comfy-auth-rs.fish",
)

SHELLS = ("bash", "zsh", "fish")
FOLDER = Path(__file__).parents[1] / "completions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="which shell")


def execute(options: argparse.Namespace) -> int:
    print((FOLDER / f"comfy-auth-rs.{options.shell}").read_text(encoding="utf-8"), end="")
    return 0
