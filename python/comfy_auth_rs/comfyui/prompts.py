"""Watches ComfyUI's `PromptQueue`: who queued which prompt, what became of it, and who may queue which."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

from aiohttp import web

from comfy_auth_rs._core import Asker, AuthMiddleware, Denial
from comfy_auth_rs.comfyui.classes import give_class
from comfy_auth_rs.page import Handler

#: Who sent the request being handled. Prompts that its handler queues are theirs, whichever task queues them.
_asking: ContextVar[Asker | None] = ContextVar("comfy_auth_rs_asking", default=None)

#: Whether the prompt asks for another place in the queue than the last, which it must not get.
_is_put_last: ContextVar[bool] = ContextVar("comfy_auth_rs_is_put_last", default=False)

#: The queue methods now running that update the ledger themselves.
_telling: ContextVar[frozenset[str]] = ContextVar("comfy_auth_rs_telling", default=frozenset())


class Prompts:
    """The prompts of one ComfyUI."""

    def __init__(
        self,
        server: Any,
        middleware: AuthMiddleware,
        refuse: Callable[[web.Request, Denial], Awaitable[web.StreamResponse]],
    ) -> None:
        self._server = server
        self._middleware = middleware
        self._ledger = middleware.ledger
        self._refuse = refuse
        #: Ids of prompts that are about to be queued.
        self._claimed: set[str] = set()

    @classmethod
    def install(
        cls,
        server: Any,
        middleware: AuthMiddleware,
        refuse: Callable[[web.Request, Denial], Awaitable[web.StreamResponse]],
    ) -> Prompts:
        """Watches the queue of `server`, even if it has none yet."""
        prompts = cls(server, middleware, refuse)
        if (queue := getattr(server, "prompt_queue", None)) is not None:
            with queue.mutex:
                give_class(queue, prompts._watched(type(queue)))
        elif (execution := sys.modules.get("execution")) is not None:  # older ones make it after the server
            vars(execution)["PromptQueue"] = prompts._watched(vars(execution)["PromptQueue"])
        prompts._watch_interruptions(server)
        return prompts

    async def ask(self, request: web.Request, handler: Handler, asker: Asker) -> web.StreamResponse:
        """Handles a request that may queue, cancel or interrupt prompts."""
        token = _asking.set(asker)
        try:
            if asker.is_limited or asker.by_a_new_id:
                return await self._queue(request, handler, asker)
            return await handler(request)
        finally:
            _asking.reset(token)

    async def _queue(self, request: web.Request, handler: Handler, asker: Asker) -> web.StreamResponse:
        """The same for a prompt of a key that has limits or lacks a scope."""
        try:
            try:
                response = await self._queue_as_it_may(request, handler, asker)
            finally:
                asker.give_back()
        except web.HTTPException as error:
            error.headers.update(asker.limits())
            raise
        if not response.prepared:
            response.headers.update(asker.limits())
        return response

    async def _queue_as_it_may(self, request: web.Request, handler: Handler, asker: Asker) -> web.StreamResponse:
        asked = await _asked(request) if asker.by_a_new_id else {}
        with self._claiming(asked) as is_new:
            if not is_new:
                return await self._refuse(request, self._middleware.prompt_id_taken(request, asker))
            wants_another_place = "number" in asked or bool(asked.get("front"))
            token = _is_put_last.set(asker.in_turn and wants_another_place)
            try:
                return await handler(request)
            finally:
                _is_put_last.reset(token)

    @contextmanager
    def _claiming(self, asked: Mapping[str, Any]) -> Iterator[bool]:
        """Whether a prompt may have the id that it asks for. Reserves the id until the prompt is queued."""
        prompt_id = str(asked.get("prompt_id"))
        if "prompt_id" not in asked:
            yield True
        elif prompt_id in self._claimed or self._is_known(prompt_id):
            yield False
        elif asked["prompt_id"] is None:
            yield True  # newer ComfyUIs make a new one for each, older ones call it "None"
        else:
            self._claimed.add(prompt_id)
            try:
                yield True
            finally:
                self._claimed.discard(prompt_id)

    def _is_known(self, prompt_id: str) -> bool:
        """Whether a prompt with this id waits, runs or is in the history."""
        queue = self._server.prompt_queue
        with queue.mutex:
            items = (*queue.queue, *queue.currently_running.values())
            return prompt_id in queue.history or any(item[1] == prompt_id for item in items)

    def _next_number(self) -> float:
        """The number that ComfyUI gives to a prompt that asks for no place."""
        number: float = self._server.number
        self._server.number += 1
        return number

    def _watched(self, base: Any) -> Any:
        ledger, next_number = self._ledger, self._next_number

        class WatchedQueue(base):  # type: ignore[misc]
            """ComfyUI's own queue, which also updates the ledger."""

            def put(self, *args: Any, **named: Any) -> Any:
                return self._told("put", super().put, *args, **named)

            def get(self, *args: Any, **named: Any) -> Any:
                return self._told("get", super().get, *args, **named)

            def task_done(self, *args: Any, **named: Any) -> Any:
                return self._told("task_done", super().task_done, *args, **named)

            def wipe_queue(self, *args: Any, **named: Any) -> Any:
                return self._told("wipe_queue", super().wipe_queue, *args, **named)

            def delete_queue_item(self, *args: Any, **named: Any) -> Any:
                return self._told("delete_queue_item", super().delete_queue_item, *args, **named)

            def __setattr__(self, name: str, value: Any) -> None:
                """Wraps methods that nodes put in place of these. Most of them call the originals."""
                if name in told and callable(value):
                    value = partial(self._told, name, value)
                super().__setattr__(name, value)

            def _told(self, name: str, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
                """Calls the method and updates the ledger, unless its caller does."""
                if name in (outer := _telling.get()):
                    return method(*args, **named)
                token = _telling.set(outer | {name})
                try:
                    return told[name](self, method, *args, **named)
                finally:
                    _telling.reset(token)

            def _put(self, method: Callable[..., Any], item: Any, *args: Any, **named: Any) -> Any:
                if _is_put_last.get():
                    item = (next_number(), *item[1:])
                with self.mutex:  # nothing removes it before it is found there
                    ledger.queued(_id(item), _asking.get())
                    try:
                        return method(item, *args, **named)
                    finally:
                        # A node's `put` may drop the prompt, and one that fails may still have queued it.
                        if all(other[1] != item[1] for other in self.queue):
                            ledger.cancelled(_id(item), None)

            def _get(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
                found = method(*args, **named)
                if found is not None:
                    ledger.started(_id(found[0]))
                return found

            def _task_done(
                self,
                method: Callable[..., Any],
                item_id: Any,
                history_result: Any,
                status: Any = None,
                *args: Any,
                **named: Any,
            ) -> Any:
                running = self.currently_running.get(item_id)
                try:
                    return method(item_id, history_result, status, *args, **named)
                finally:
                    if running is not None:
                        ledger.finished(_id(running), _status(status), _outputs(history_result))

            def _removed(self, remove: Callable[..., Any], *args: Any, **named: Any) -> Any:
                with self.mutex:
                    before = list(self.queue)
                    try:
                        return remove(*args, **named)
                    finally:
                        left = {id(item) for item in self.queue}
                        for item in before:
                            if id(item) not in left:
                                ledger.cancelled(_id(item), _asking.get())

        told: dict[str, Callable[..., Any]] = {
            "put": WatchedQueue._put,
            "get": WatchedQueue._get,
            "task_done": WatchedQueue._task_done,
            "wipe_queue": WatchedQueue._removed,
            "delete_queue_item": WatchedQueue._removed,
        }
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


async def _asked(request: web.Request) -> Mapping[str, Any]:
    """The prompt's body as ComfyUI will read it. Refusing invalid JSON is left to ComfyUI."""
    try:
        asked = await request.json()
    except RecursionError:
        raise web.HTTPBadRequest(text="the prompt is nested too deeply") from None
    except (ValueError, LookupError):
        return {}
    return asked if isinstance(asked, dict) else {}


def _id(item: Any) -> str:
    """A prompt's id as valid text: nodes use numbers as ids, and clients may send lone surrogates."""
    return str(item[1]).encode(errors="replace").decode()


def _status(status: Any) -> str:
    """`success`, `error` or `interrupted`."""
    if any(message[0] == "execution_interrupted" for message in getattr(status, "messages", None) or ()):
        return "interrupted"
    return "success" if getattr(status, "status_str", None) == "success" else "error"


def _outputs(history_result: Any) -> int:
    """How many pictures, videos, sounds and texts were made. Flags beside them are booleans."""
    found = history_result.get("outputs") if isinstance(history_result, dict) else None
    kinds = [kind for output in (found or {}).values() if isinstance(output, dict) for kind in output.values()]
    return sum(isinstance(one, (dict, str)) for kind in kinds if isinstance(kind, (list, tuple)) for one in kind)
