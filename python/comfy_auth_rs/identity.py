"""Who was admitted, for handlers, other middlewares and custom nodes."""

from __future__ import annotations

from aiohttp import web

from comfy_auth_rs._core import AuthMiddleware, Identity


def identity(request: web.Request) -> Identity | None:
    """Who presents a valid credential with this request: `None` for nobody, and where nothing asks for a key.

    It is worked out when you ask, and neither counted nor logged.
    """
    from comfy_auth_rs.app import AUTH  # late: it brings the rest of the package

    middleware = request.config_dict.get(AUTH) or _registered(request)
    return None if middleware is None else middleware.identify(request)


def _registered(request: web.Request) -> AuthMiddleware | None:
    """One that `create_auth_middleware` made and the application's author registered."""
    for app in request.match_info.apps:
        for middleware in app.middlewares:
            if isinstance(middleware, AuthMiddleware):
                return middleware
    return None
