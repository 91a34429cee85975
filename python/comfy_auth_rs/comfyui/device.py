"""The device that ComfyUI chose, with the native probe's figures."""

from __future__ import annotations

import sys
from typing import Any

from comfy_auth_rs.devices import Device
from comfy_auth_rs.health import first_device

_CARDS = ("cuda", "rocm")


def chosen_device(devices: list[Device]) -> Device:
    """The device that ComfyUI runs on, with ComfyUI's own figures if the probe can't see it."""
    management = sys.modules.get("comfy.model_management")
    if management is None:
        return first_device(devices)
    chosen = management.get_torch_device()
    found = _find(devices, chosen)
    if found is None:
        return Device(
            name=management.get_torch_device_name(chosen),
            type=chosen.type,
            index=chosen.index,
            uuid=None,
            total=management.get_total_memory(chosen),
            free=management.get_free_memory(chosen),
        )
    # torch calls AMD's cards cuda too.
    return {**found, "type": chosen.type}


def _find(devices: list[Device], chosen: Any) -> Device | None:
    if chosen.type != "cuda":
        return next((device for device in devices if device["type"] == chosen.type), None)
    cards = [device for device in devices if device["type"] in _CARDS]
    uuid = _uuid(chosen)
    if uuid is not None:
        # CUDA counts the fastest card first, the driver in PCI order: only the UUID names the same card to both.
        return next((card for card in cards if (card["uuid"] or "").endswith(uuid)), None)
    index = chosen.index or 0
    return cards[index] if len(cards) == 1 and index == 0 else None


def _uuid(chosen: Any) -> str | None:
    try:
        properties = sys.modules["torch"].cuda.get_device_properties(chosen)
        return str(properties.uuid)
    except (KeyError, AttributeError, RuntimeError):
        return None
