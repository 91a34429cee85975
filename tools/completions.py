"""Writes the shell completions that `comfy-auth-rs completion` prints: `make completions`.

shtab writes them in advance, so that the package itself needs only aiohttp.
"""

import argparse
import sys
from pathlib import Path

import shtab
from comfy_auth_rs.cli import make_parser
from comfy_auth_rs.cli.completion import FOLDER, SHELLS


def complete_paths(parser: argparse.ArgumentParser) -> None:
    """Makes every argument that is a path complete as one: as a folder if `--help` names it so."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_paths(command)
        elif action.type is Path or action.dest == "python":
            folder = action.metavar in ("DIR", "BASE")
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]


def written() -> dict[str, str]:
    """The file of each shell."""
    parser = make_parser()
    complete_paths(parser)
    return {shell: f"{shtab.complete(parser, shell).rstrip()}\n" for shell in SHELLS}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for shell, text in written().items():
        (FOLDER / f"comfy-auth-rs.{shell}").write_text(text, encoding="utf-8")
        print(f"{FOLDER / f'comfy-auth-rs.{shell}'}", file=sys.stderr)
