"""`GET /metrics`: what Prometheus reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from aiohttp import hdrs, web

from comfy_auth_rs._core import AuthMiddleware
from comfy_auth_rs.aiohttp_internals import mark_requests, put_first
from comfy_auth_rs.health import Health, no_queue
from comfy_auth_rs.page import Handler

__all__ = ["add_metrics"]

_logger = logging.getLogger("comfy_auth_rs")

_PATH = "/metrics"


class MetricsRoute:
    """The handler. It never waits: it reports the last known figures of the devices."""

    def __init__(self, middleware: AuthMiddleware, health: Health) -> None:
        self._middleware = middleware
        self._health = health

    async def get(self, request: web.Request) -> web.Response:
        """Answers in the format that `Accept` asks for."""
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
        queue = None if self._health.queue is no_queue else self._health.queue()
        content_type, page = self._middleware.metrics(accept, self._health.sampler, queue)
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store", hdrs.VARY: hdrs.ACCEPT}
        return web.Response(body=page, headers=headers)


def add_metrics(
    app: web.Application,
    middleware: AuthMiddleware,
    health: Health,
    *,
    prefixes: Sequence[str] = ("",),
    around: Callable[[Handler], Handler] = lambda handler: handler,
) -> None:
    """Adds the route, which `middleware` answers itself, unless the application has one, which then stays.

    `around` wraps its handler.
    """
    paths = [prefix + _PATH for prefix in prefixes]
    taken = sorted({resource.canonical for resource in app.router.resources()} & set(paths))
    if taken:
        _logger.info("comfy-auth-rs: the server has a route %s of its own, so ours is left out", taken[0])
        return
    handler = around(MetricsRoute(middleware, health).get)

    async def answer(request: web.Request, _: Handler) -> web.StreamResponse:
        return await handler(request)

    for path in paths:
        resource = app.router.add_resource(path)
        put_first(app.router)  # a folder may be mounted at / already
        mark_requests(resource)
        for method in (hdrs.METH_GET, hdrs.METH_HEAD):
            middleware.answer_at_gate(resource.add_route(method, handler), answer)
