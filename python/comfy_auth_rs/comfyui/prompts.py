"""Who queued which prompt, and what became of it: ComfyUI's `PromptQueue` tells."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from aiohttp import web

from comfy_auth_rs._core import Asker, PromptLedger

#: Whose request is being handled. What a handler queues belongs to them, in whatever task it does.
_asking: ContextVar[Asker | None] = ContextVar("comfy_auth_rs_asking", default=None)


class Prompts:
    """The prompts of one ComfyUI."""

    def __init__(self, ledger: PromptLedger) -> None:
        self._ledger = ledger

    @classmethod
    def install(cls, server: Any, ledger: PromptLedger) -> Prompts:
        """Watches the queue of `server`, or the one that it is about to get."""
        prompts = cls(ledger)
        if (queue := getattr(server, "prompt_queue", None)) is not None:
            queue.__class__ = prompts._watched(type(queue))
        elif (execution := sys.modules.get("execution")) is not None:  # older ones make it after the server
            vars(execution)["PromptQueue"] = prompts._watched(vars(execution)["PromptQueue"])
        prompts._watch_interruptions(server)
        return prompts

    async def ask(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], asker: Asker
    ) -> web.StreamResponse:
        """Handles a request that may queue prompts, cancel or interrupt them."""
        token = _asking.set(asker)
        try:
            return await handler(request)
        finally:
            _asking.reset(token)

    def _watched(self, base: Any) -> Any:
        ledger = self._ledger

        class WatchedQueue(base):  # type: ignore[misc]
            """ComfyUI's own, which tells the ledger."""

            def put(self, item: Any, *args: Any, **named: Any) -> Any:
                ledger.queued(item[1], _asking.get())
                try:
                    return super().put(item, *args, **named)
                except BaseException:
                    ledger.cancelled(item[1], None)
                    raise

            def get(self, *args: Any, **named: Any) -> Any:
                found = super().get(*args, **named)
                if found is not None:
                    ledger.started(found[0][1])
                return found

            def task_done(self, item_id: Any, history_result: Any, status: Any = None, *args: Any, **named: Any) -> Any:
                running = self.currently_running.get(item_id)
                try:
                    return super().task_done(item_id, history_result, status, *args, **named)
                finally:
                    if running is not None:
                        ledger.finished(running[1], _status(status), _outputs(history_result))

            def wipe_queue(self, *args: Any, **named: Any) -> Any:
                return self._cancelling(super().wipe_queue, *args, **named)

            def delete_queue_item(self, *args: Any, **named: Any) -> Any:
                return self._cancelling(super().delete_queue_item, *args, **named)

            def _cancelling(self, remove: Callable[..., Any], *args: Any, **named: Any) -> Any:
                with self.mutex:
                    before = list(self.queue)
                    try:
                        return remove(*args, **named)
                    finally:
                        left = {id(item) for item in self.queue}
                        for item in before:
                            if id(item) not in left:
                                ledger.cancelled(item[1], _asking.get())

        return wraps(base, updated=())(WatchedQueue)

    def _watch_interruptions(self, server: Any) -> None:
        nodes = getattr(sys.modules.get(type(server).__module__), "nodes", None)
        interrupt = getattr(nodes, "interrupt_processing", None)
        if nodes is None or interrupt is None:
            return

        @wraps(interrupt)
        def watched(value: bool = True, *args: Any, **named: Any) -> Any:
            if value and (asker := _asking.get()) is not None:
                self._ledger.interrupted(asker)
            return interrupt(value, *args, **named)

        nodes.interrupt_processing = watched


def _status(status: Any) -> str:
    """`success`, `error` or `interrupted`."""
    if any(message[0] == "execution_interrupted" for message in getattr(status, "messages", None) or ()):
        return "interrupted"
    return "success" if getattr(status, "status_str", None) == "success" else "error"


def _outputs(history_result: Any) -> int:
    """How many pictures, videos, sounds and texts its outputs are. Flags beside them are booleans."""
    found = history_result.get("outputs") if isinstance(history_result, dict) else None
    kinds = [kind for output in (found or {}).values() if isinstance(output, dict) for kind in output.values()]
    return sum(isinstance(one, (dict, str)) for kind in kinds if isinstance(kind, (list, tuple)) for one in kind)
