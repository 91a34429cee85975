"""Make an API key: 256 random bits, URL-safe."""

import argparse
import contextlib
import os
from pathlib import Path

from comfy_auth_rs import generate_key
from comfy_auth_rs.cli.common import CommandError

EXAMPLES = ("", "-o api_key.txt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", dest="file", metavar="FILE", type=Path, help="write it to this new file, which only you can read"
    )


def execute(options: argparse.Namespace) -> int:
    file: Path | None = options.file
    if file is None:
        print(generate_key())
        return 0
    try:
        # O_EXCL: never overwrite a file, and never follow a link that someone put there.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandError(f"{file} exists, and a key is never overwritten; choose another name") from None
    except FileNotFoundError:
        raise CommandError(f"{file.parent} does not exist; make that folder first") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written ({error.strerror}); choose another place") from None
    try:
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(generate_key() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink()
        raise CommandError(f"{file} cannot be written ({error.strerror}); make room and try again") from None
    print(f"A new key is in {file}. Next: python3 main.py --api-key-file {file.absolute()}")
    return 0
