"""ComfyUI's profiles (`--multi-user`): a key that has `user=` is the ComfyUI user of that name."""

from __future__ import annotations

import argparse
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from comfy_auth_rs._core import AuthMiddleware, profile_may_be_asked_for, profile_of_user
from comfy_auth_rs.aiohttp_internals import mark_requests
from comfy_auth_rs.comfyui.cors import Answer
from comfy_auth_rs.page import Handler

__all__ = ["Profiles", "judging"]

_logger = logging.getLogger("comfy_auth_rs")


#: The user of a key, and its scopes.
_Holder = tuple[str | None, tuple[str, ...]]

#: The key that is being checked: it has not admitted the request yet, and another key may.
_judged: ContextVar[_Holder | None] = ContextVar("comfy_auth_rs.judged", default=None)


@contextmanager
def judging(user: str | None, scopes: tuple[str, ...]) -> Iterator[None]:
    """Makes ComfyUI treat the request as one of this key while it is being checked."""
    token = _judged.set((user, scopes))
    try:
        yield
    finally:
        _judged.reset(token)


class Profiles:
    """Tells ComfyUI's own user manager whose profile a request is for."""

    def __init__(self, manager: Any, middleware: AuthMiddleware) -> None:
        self._manager = manager
        self._middleware = middleware
        self._by_header = manager.get_request_user_id
        self._making = threading.Lock()

    @classmethod
    def install(cls, server: Any, args: argparse.Namespace, middleware: AuthMiddleware) -> Profiles | None:
        """Installs itself; `None` if ComfyUI has one profile for everyone."""
        if not getattr(args, "multi_user", False):
            return None
        profiles = cls(server.user_manager, middleware)
        server.user_manager.get_request_user_id = profiles.of_request
        return profiles

    def of_request(self, request: web.Request) -> str:
        """The id of the profile that a request is for. Replaces ComfyUI's own method.

        Raises `KeyError`, like that method, for an unknown profile, and `HTTPForbidden` for another user's.
        """
        user, scopes = _judged.get() or self._admitted(request)
        if user is not None:
            return self._of_user(user)
        profile: str = self._by_header(request)
        if not self._may_be_asked_for(profile, scopes):
            denial = self._middleware.deny_profile(request)
            body = {"error": denial.error, "cause": denial.cause, "message": denial.message}
            raise web.HTTPForbidden(text=json.dumps(body), content_type="application/json")
        return profile

    def _admitted(self, request: web.Request) -> _Holder:
        who = self._middleware.identify(request)
        return (None, ()) if who is None else (who.user, who.scopes)

    def answer_users(self, app: web.Application, around: Any) -> None:
        """Answers `GET /users` at the gate. `around` wraps our own answers."""
        ours: Answer = around(self._users)
        for resource in app.router.resources():
            if resource.canonical in ("/users", "/api/users"):
                mark_requests(resource)
                for route in resource:
                    if route.method in (hdrs.METH_GET, hdrs.METH_HEAD):
                        self._middleware.answer_at_gate(route, self._unless_for_all(ours), is_our_own=False)

    def _unless_for_all(self, ours: Answer) -> Any:
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            who = self._middleware.identify(request)
            is_for_all = who is not None and who.user is None and self._may_be_asked_for(None, who.scopes)
            return await (handler if is_for_all else ours)(request)

        return answer

    async def _users(self, request: web.Request) -> web.StreamResponse:
        """Tells a key's user that there is one profile, so that the page opens at once; tells others what is left."""
        who = self._middleware.identify(request)
        if who is not None and who.user is not None:
            folder = self._manager.get_request_user_filepath(request, None, create_dir=False)
            return web.json_response({"storage": "server", "migrated": Path(folder).exists()})
        scope = who.scopes if who is not None else ()
        left = {profile: name for profile, name in self._known() if self._may_be_asked_for(profile, scope)}
        return web.json_response({"storage": "server", "users": left})

    def _may_be_asked_for(self, profile: str | None, scope: tuple[str, ...]) -> bool:
        name = None if profile is None else str(self._manager.users.get(profile, profile))
        return profile_may_be_asked_for(name, self._middleware.users(), scope)

    def _of_user(self, user: str) -> str:
        if (profile := profile_of_user(self._known(), user)) is not None:
            return profile
        with self._making:
            self._read_again()
            return profile_of_user(self._known(), user) or self._make(user)

    def _known(self) -> list[tuple[str, str]]:
        users = self._manager.users
        if not isinstance(users, dict):
            _logger.error(
                "comfy-auth-rs: ComfyUI's users.json must be an object of profile names by id; repair or remove it"
            )
            raise web.HTTPServiceUnavailable(text="the profiles of this ComfyUI cannot be read")
        return [(profile, name) for profile, name in users.items() if isinstance(name, str)]

    def _read_again(self) -> None:
        """Reads users.json again: another ComfyUI with the same folder may have added profiles, which would be lost."""
        try:
            found = json.loads(Path(self._manager.get_users_file()).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            _logger.exception("comfy-auth-rs: ComfyUI's users.json cannot be read; no profile is made")
            raise web.HTTPServiceUnavailable(text="the profiles of this ComfyUI cannot be read") from None
        if isinstance(found, dict):
            for profile, name in found.items():
                self._manager.users.setdefault(profile, name)

    def _make(self, user: str) -> str:
        before = set(self._manager.users)
        try:
            profile: str = self._manager.add_user(user)
        except OSError:
            # A profile only in memory would have another id after a restart.
            for profile in set(self._manager.users) - before:
                del self._manager.users[profile]
            _logger.exception("comfy-auth-rs: ComfyUI's users.json cannot be written; no profile was made for %s", user)
            raise web.HTTPServiceUnavailable(text="the profile cannot be made") from None
        _logger.info("comfy-auth-rs: made a ComfyUI profile for %s, named by a key", user)
        return profile
