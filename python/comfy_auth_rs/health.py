"""`GET /health`: whether the server is up, how long its queue is, and how much memory its device has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import web

from comfy_auth_rs._core import DeviceSampler
from comfy_auth_rs.devices import Device


class QueueLength(NamedTuple):
    """Waiting and running tasks."""

    pending: int
    running: int


class _Told(NamedTuple):
    """The last answer and the figures it was made from: reused until they change."""

    devices: list[Device]
    queue: QueueLength
    body: bytes


class Health:
    """The handler. It never waits for a driver on the event loop, and at most two seconds in a thread."""

    def __init__(self, queue: Callable[[], QueueLength], choose: Callable[[list[Device]], Device]) -> None:
        self.queue: Callable[[], QueueLength] = queue
        self.sampler: DeviceSampler = DeviceSampler()
        self._choose = choose
        self._sampling: asyncio.Task[list[Device]] | None = None
        self._told: _Told | None = None

    async def get(self, request: web.Request) -> web.Response:
        """Answers with the JSON described in the guide. Memory is in bytes."""
        devices = self.sampler.fresh()
        if devices is None:
            devices = await self._sample()
        queue = self.queue()
        if self._told is None or self._told.devices is not devices or self._told.queue != queue:
            self._told = _Told(devices, queue, self._tell(devices, queue))
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=self._told.body, headers=headers, content_type="application/json", charset="utf-8")

    def _tell(self, devices: list[Device], queue: QueueLength) -> bytes:
        device = self._choose(devices)
        told = {
            "status": "ok",
            "queue": {"pending": queue.pending, "running": queue.running},
            "device": {"name": device["name"], "type": device["type"]},
            "vram": {"total": device["total"], "free": device["free"]},
        }
        return json.dumps(told).encode()

    async def _sample(self) -> list[Device]:
        """One thread for all requests: anyone may send them, and the event loop's few threads also send files."""
        if self._sampling is None or self._sampling.done():
            self._sampling = asyncio.create_task(asyncio.to_thread(self.sampler.sample))
        return await asyncio.shield(self._sampling)


def no_queue() -> QueueLength:
    """For servers without a task queue."""
    return QueueLength(pending=0, running=0)


def first_device(devices: list[Device]) -> Device:
    """For servers that do not choose a device."""
    return devices[0]
