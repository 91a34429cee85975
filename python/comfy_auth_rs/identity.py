"""Who was admitted, for handlers, other middlewares and custom nodes."""

from __future__ import annotations

from aiohttp import web

from comfy_auth_rs._core import AuthMiddleware, Identity


def identity(request: web.Request) -> Identity | None:
    """Who sent this request, by its valid credential. `None` without one, and if the server doesn't ask for a key.

    It is computed at each call. A wrong key is neither counted nor logged.
    """
    from comfy_auth_rs.app import AUTH  # late: it brings the rest of the package

    middleware = request.config_dict.get(AUTH) or _registered(request)
    return None if middleware is None else middleware.identify(request)


def _registered(request: web.Request) -> AuthMiddleware | None:
    """The middleware that `create_auth_middleware` made, if the application's author registered it."""
    for app in request.match_info.apps:
        for middleware in app.middlewares:
            if isinstance(middleware, AuthMiddleware):
                return middleware
    return None
