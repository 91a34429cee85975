"""What ComfyUI asks its GPU. Here the answer is the CPU and the machine's memory, in bytes."""

import os
import platform
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """In place of torch.device."""

    type: str
    index: int | None = None


class InterruptProcessingException(Exception):
    """The user pressed stop."""


_interrupted = threading.Event()


def get_torch_device() -> Device:
    """The device that prompts run on."""
    return Device("cpu")


def get_torch_device_name(device: Device) -> str:
    """A name for people; ComfyUI, too, calls its processor "cpu"."""
    return device.type


def get_total_memory(dev: Device | None = None) -> int:
    """Bytes of memory in this machine."""
    return _meminfo("MemTotal") or _sysconf("SC_PHYS_PAGES")


def get_free_memory(dev: Device | None = None) -> int:
    """Bytes that programs can still allocate."""
    return _meminfo("MemAvailable") or _sysconf("SC_AVPHYS_PAGES")


def interrupt_current_processing(value: bool = True) -> None:
    """Ask the running prompt to stop, or withdraw the request."""
    if value:
        _interrupted.set()
    else:
        _interrupted.clear()


def throw_exception_if_processing_interrupted() -> None:
    """Raises InterruptProcessingException once for each request to stop."""
    if _interrupted.is_set():
        _interrupted.clear()
        raise InterruptProcessingException


def _meminfo(field: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _sysconf(pages: str) -> int:
    if platform.system() == "Windows":
        return 0
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
