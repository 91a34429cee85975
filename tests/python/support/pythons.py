"""The Python interpreters of this machine, and clean environments for them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: The versions that the package supports. The running one is always tested.
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}{'t' * ('t' in getattr(sys, 'abiflags', ''))}"

_ASK = (
    "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2] + 't' * ('t' in getattr(sys, 'abiflags', '')))"
)


@functools.cache
def find_python(version: str) -> str | None:
    """An interpreter of this version: the running one, one on the PATH, or one from pyenv."""
    if version == RUNNING:
        return sys.executable
    candidates = [found] if (found := shutil.which(f"python{version}")) else []
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += sorted(map(str, Path(root, "versions").glob(f"*/bin/python{version}")))
    return next((python for python in candidates if _version(python) == version), None)


def _version(python: str) -> str | None:
    """The interpreter's version, or None if it doesn't run. pyenv's shims of inactive versions don't."""
    result = subprocess.run([python, "-c", _ASK], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def make_venv(folder: Path, python: str) -> Path:
    """Makes a new, empty environment, and returns its folder of commands."""
    subprocess.run([python, "-m", "venv", folder], check=True, env=clean_environment())
    return folder / ("Scripts" if os.name == "nt" else "bin")


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without variables that redirect Python or pip."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}
