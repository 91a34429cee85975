"""ComfyUI's registry of authentication providers (`comfy/auth.py`, `--require-auth`), where it has one."""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


def register(middleware: Any) -> None:
    """Names `middleware` to ComfyUI: with `--require-auth` it starts only if a registered one is the first of all."""
    try:
        from comfy import auth  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    if hasattr(auth, "register_auth_provider"):
        auth.register_auth_provider("comfy-auth-rs", middleware)
