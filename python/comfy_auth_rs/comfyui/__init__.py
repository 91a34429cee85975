"""Called by a patched ComfyUI: `add_arguments` in its `comfy/cli_args.py`, `install` in its `server.py`."""

from comfy_auth_rs.comfyui.flags import add_arguments
from comfy_auth_rs.comfyui.prompt_server import install

__all__ = ["add_arguments", "install"]
