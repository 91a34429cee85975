"""What a patched ComfyUI calls: `add_arguments(parser)` in `comfy/cli_args.py`, `install(self, args)` in `server.py`."""

from comfy_auth_rs.comfyui.flags import add_arguments
from comfy_auth_rs.comfyui.install import install

__all__ = ["add_arguments", "install"]
