"""Whether a host name means this machine, without a DNS lookup."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

__all__ = ["ask_no_resolver", "is_loopback"]

#: The name of ComfyUI's own function in `server.py`.
_NAME = "is_loopback"


def is_loopback(host: str | None) -> bool:
    """Whether an address, or the name `localhost`, is this machine's loopback."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def ask_no_resolver(server: Any) -> None:
    """Makes ComfyUI use this function to check the `Host` of a request.

    ComfyUI's own calls the system's resolver in the event loop, and a client may name a host whose DNS servers never
    answer. Other names are left to our own check of `Origin`.
    """
    module = sys.modules.get(type(server).__module__)
    if hasattr(module, _NAME):
        setattr(module, _NAME, is_loopback)
