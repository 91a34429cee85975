"""What stands for ComfyUI's server in tests: it is in this folder, so that their handlers count as ComfyUI's own."""

from __future__ import annotations

from threading import RLock
from types import SimpleNamespace


class Server(SimpleNamespace):
    """With what `comfy_auth_rs.comfyui.install` asks of it."""


class Queue(SimpleNamespace):
    """In place of ComfyUI's `PromptQueue`: nothing that is put there ever runs."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(mutex=RLock(), queue=[], **attributes)

    def put(self, item: object) -> None:
        self.queue.append(item)
