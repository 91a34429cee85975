"""Applies ComfyUI's own CORS middlewares to what we answer before they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from aiohttp import hdrs, web

__all__ = ["OfComfyUI", "allow_api_key_header"]

Answer = Callable[..., Awaitable[web.StreamResponse]]


class OfComfyUI(NamedTuple):
    """ComfyUI's middlewares for other origins, if they are in the list."""

    #: The one for `--enable-cors-header`, which adds headers to every response.
    cors: Any
    #: The one without that flag, which answers 403 to other origins.
    origin_only: Any

    @classmethod
    def among(cls, middlewares: Iterable[Any]) -> OfComfyUI:
        """Recognizes them by the functions that make them."""
        made_by = {getattr(each, "__qualname__", "").partition(".")[0]: each for each in middlewares}
        return cls(made_by.get("create_cors_middleware"), made_by.get("create_origin_only_middleware"))

    def around(self, answer: Answer) -> Answer:
        """`answer`, with the headers that ComfyUI gives every response."""
        return answer if self.cors is None else partial(self._with_headers, answer)

    def preflight(self, answer: Answer) -> Answer:
        """ComfyUI's answer to a preflight, if it has one, else `answer`."""
        first = self.cors or self.origin_only
        return answer if first is None else partial(first, handler=answer)

    async def _with_headers(self, answer: Answer, request: web.Request, *about: Any) -> web.StreamResponse:
        response = await answer(request, *about)

        async def answered(_: web.Request) -> web.StreamResponse:
            return response

        passed = await self.cors(request, answered)
        if passed is not response:  # it answers OPTIONS without calling the handler
            theirs = passed.headers.items()
            response.headers.update((name, value) for name, value in theirs if name.startswith("Access-Control-"))
        return response


async def allow_api_key_header(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: adds `X-API-Key` to the headers that ComfyUI allows other origins to send."""
    allowed = response.headers.get(hdrs.ACCESS_CONTROL_ALLOW_HEADERS)
    if allowed is not None and "x-api-key" not in allowed.lower() and allowed.strip() != "*":
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = f"{allowed}, X-API-Key"
