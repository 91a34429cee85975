"""API-key authentication for ComfyUI and other aiohttp servers."""

import comfy_auth_rs._import_path  # before any other import
import comfy_auth_rs._requirements  # noqa: F401 - before anything that needs what it looks for
from comfy_auth_rs._core import (
    Identity,
    KeyStore,
    generate_key,
    inject_script,
    probe_device,
    probe_devices,
)
from comfy_auth_rs.app import create_auth_middleware, setup
from comfy_auth_rs.errors import KeyFileError, PatchError
from comfy_auth_rs.identity import identity

__version__ = "0.1.0"

__all__ = [
    "Identity",
    "KeyFileError",
    "KeyStore",
    "PatchError",
    "__version__",
    "create_auth_middleware",
    "generate_key",
    "identity",
    "inject_script",
    "probe_device",
    "probe_devices",
    "setup",
]
