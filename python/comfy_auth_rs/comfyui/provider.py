"""Registers with ComfyUI's authentication providers (`comfy/auth.py`, `--require-auth`), if it has them."""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


def register(middleware: Any) -> None:
    """Registers `middleware`. With `--require-auth`, ComfyUI starts only if a registered middleware is the first."""
    try:
        from comfy import auth  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    if hasattr(auth, "register_auth_provider"):
        auth.register_auth_provider("comfy-auth-rs", middleware)
