"""Starts a protected ComfyUI to try out: `make demo`.

Our miniature is copied into `.demo/` and patched there; a real ComfyUI (`--comfyui`) is patched in memory, and its
files stay as they are. In both cases a key file is made first, and the server listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from comfy_auth_rs import probe_device

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = REPOSITORY / ".demo"
KEY_FILE = DEMO / "api_key.txt"


def main() -> None:
    """Prepares the tree, then this process becomes its server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--comfyui", type=Path, metavar="DIR", help="a real ComfyUI instead of the miniature")
    parser.add_argument("--python", default="python3", help="the Python that has that ComfyUI's requirements")
    options = parser.parse_args()
    DEMO.mkdir(exist_ok=True)
    if not KEY_FILE.exists():
        comfy_auth_rs("keygen", "-o", str(KEY_FILE))
    if options.comfyui:
        command, folder = real(options.comfyui.resolve(), options.python)
    else:
        command, folder = miniature()
    key = KEY_FILE.read_text().strip()
    print(f"\n  Open http://127.0.0.1:{options.port}/ and log in with this key:\n  {key}\n", flush=True)
    os.chdir(folder)
    os.execvp(command[0], [*command, "--port", str(options.port), "--api-key-file", str(KEY_FILE)])


def comfy_auth_rs(*arguments: str) -> None:
    """Runs one of the package's commands."""
    subprocess.run([sys.executable, "-m", "comfy_auth_rs", *arguments], check=True, stdout=subprocess.DEVNULL)


def miniature() -> tuple[list[str], Path]:
    """A fresh copy of the miniature, patched on disk; its user, input and output folders are kept."""
    tree = DEMO / "mini_comfyui"
    shutil.copytree(REPOSITORY / "examples" / "mini_comfyui", tree, dirs_exist_ok=True)
    comfy_auth_rs("patch", str(tree))
    return [sys.executable, "main.py", "--cpu"], tree


def real(tree: Path, python: str) -> tuple[list[str], Path]:
    """A real ComfyUI with its own Python, patched in memory. Builds the package for that Python into `.demo/`."""
    site = DEMO / "site"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(site), str(REPOSITORY)], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    # Without an accelerator, ComfyUI needs a flag.
    device = ["--cpu"] if probe_device()["type"] == "cpu" else []
    return [shutil.which(python) or python, "-m", "comfy_auth_rs", "run", str(tree), "--", *device], tree


if __name__ == "__main__":
    main()
