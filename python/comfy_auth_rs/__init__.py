"""API-key authentication for ComfyUI and other aiohttp servers."""

from typing import TYPE_CHECKING, Any

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
from comfy_auth_rs.errors import KeyFileError, PatchError
from comfy_auth_rs.identity import identity

if TYPE_CHECKING:
    from comfy_auth_rs.app import create_auth_middleware, setup

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


def __getattr__(name: str) -> Any:
    # What brings the rest of the package waits until it is asked for: not everybody protects an application.
    if name not in ("create_auth_middleware", "setup"):
        raise AttributeError(name)
    from comfy_auth_rs import app

    globals()[name] = found = getattr(app, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
