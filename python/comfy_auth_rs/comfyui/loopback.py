"""Whether a name is this machine's, answered without asking anybody for its address."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

__all__ = ["ask_no_resolver", "is_loopback"]

#: What `server.py` calls its own question.
_NAME = "is_loopback"


def is_loopback(host: str | None) -> bool:
    """Whether an address, or the name that every system has for one, leads to this machine only."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def ask_no_resolver(server: Any) -> None:
    """Has ComfyUI judge the `Host` of a request like this, where it does.

    It would ask the system's resolver in the event loop, and anybody may name a host whose servers never answer. What
    its check of `Origin` misses of other names is left to ours.
    """
    module = sys.modules.get(type(server).__module__)
    if hasattr(module, _NAME):
        setattr(module, _NAME, is_loopback)
