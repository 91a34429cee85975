"""Protects ComfyUI's `PromptServer`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from comfy_auth_rs._core import AuthMiddleware, KeyStore
from comfy_auth_rs.app import AUTH, before_sending, make_middleware, remember, wire
from comfy_auth_rs.audit import require_outside, static_folders
from comfy_auth_rs.comfyui import deprecated_paths, loopback, node_routes, provider
from comfy_auth_rs.comfyui.cors import OfComfyUI, allow_api_key_header
from comfy_auth_rs.comfyui.device import chosen_device
from comfy_auth_rs.comfyui.first import name_of, stay_first
from comfy_auth_rs.comfyui.flags import SPELLING, Spelling, destination, read_settings
from comfy_auth_rs.comfyui.inheritance import hand_on, take_over
from comfy_auth_rs.comfyui.profiles import Profiles
from comfy_auth_rs.comfyui.prompts import Prompts
from comfy_auth_rs.comfyui.route_facts import RouteFacts
from comfy_auth_rs.comfyui.sockets import adopt, tell_who_is_addressed
from comfy_auth_rs.comfyui.state import choose, leave, store_of
from comfy_auth_rs.errors import PatchError, SettingError, end_process, refuse_to_start
from comfy_auth_rs.health import Health, QueueLength
from comfy_auth_rs.metrics import add_metrics
from comfy_auth_rs.page import IndexPage
from comfy_auth_rs.refusal import answer_preflight, refuse
from comfy_auth_rs.routes import Added, add_routes
from comfy_auth_rs.settings import Settings, flag

_logger = logging.getLogger("comfy_auth_rs")

#: ComfyUI registers every route a second time under this prefix.
_TWIN = "/api"

_OPEN = """
******************************************************************************
  comfy-auth-rs: NO API KEY, and this server listens on %s:
  anyone who can reach this machine can use it, read its images and run
  its custom nodes. Start it with --api-key-file FILE (make one with
  `comfy-auth-rs keygen -o FILE`), or listen on 127.0.0.1 only.
******************************************************************************"""

_OPEN_HERE = (
    "comfy-auth-rs: no API key, so nobody is asked for one: this machine, and anyone for whom a tunnel or a proxy "
    "leads to %s, can use ComfyUI; --api-key-file FILE closes it"
)


def install(server: Any, args: argparse.Namespace) -> None:
    """Protects `server.app` as `args` say. Called in `PromptServer.__init__` as soon as the application exists.

    If it can't, it ends the process with one line and exit status 2.
    """
    # The custom node's environment variables spell settings differently.
    spell: Spelling = getattr(args, SPELLING, flag)
    try:
        _install(server, args, spell)
    except SettingError as fault:
        refuse_to_start(fault.spelled(spell))
    except (ValueError, RuntimeError, OSError) as fault:
        refuse_to_start(fault)


def _install(server: Any, args: argparse.Namespace, spell: Spelling) -> None:
    if not hasattr(args, destination("api_key_file")):
        raise PatchError("this ComfyUI's comfy/cli_args.py is not patched; run `comfy-auth-rs patch DIR` again")
    app: web.Application = server.app
    health = Health(lambda: _queue_length(server), chosen_device)
    own = read_settings(args)
    settings, parent = take_over(own)
    if not settings.has_keys:
        for name in settings.beside_keys():
            # A stricter WebSocket suggests that there is a key, but without one the server is open.
            raise SettingError("nothing asks for a key yet; give --api-key-file FILE too, or leave it out", name)
        app.add_routes(
            [web.get(path, partial(_health_unless_taken, health)) for path in ("/health", f"{_TWIN}/health")]
        )
        app.on_startup.append(partial(_say_open, args.listen))
        return
    if app.frozen or AUTH in app:
        raise RuntimeError("comfy_auth_rs.comfyui.install() must be called once, before ComfyUI starts to serve")
    settings = choose(own, settings)
    hand_on(settings)
    leave(os.fspath(settings.state or ""))
    state_store = store_of(own, settings)
    store = KeyStore(settings.api_key, settings.api_key_file)
    of_comfyui = OfComfyUI.among(app.middlewares)
    middleware = make_middleware(
        settings,
        store,
        refuse=of_comfyui.around(refuse),
        answer_preflight=of_comfyui.preflight(answer_preflight),
        scopes=RouteFacts(server),
        adopt=adopt,
    )
    state = remember(middleware, state_store)
    tell_who_is_addressed(server)
    profiles = Profiles.install(server, args, middleware)
    middleware.ask_with(Prompts.install(server, middleware, of_comfyui.around(refuse)).ask)
    root = _comfyui_root(server)
    node_routes.watch(app, root)
    displaced: list[str] = []
    added = add_routes(
        app,
        middleware,
        health,
        state=state,
        index=IndexPage(middleware, lambda: Path(server.web_root, "index.html")),
        overrides=root,
        prefixes=("", _TWIN),
        around=of_comfyui.around,
        displaced=displaced,
    )

    def before_freezing() -> None:
        if of_comfyui.cors is not None:
            app.on_response_prepare.append(allow_api_key_header)
        app.on_response_prepare.append(before_sending(middleware, added.pages))
        if profiles is not None:
            profiles.answer_users(app, of_comfyui.around)
        add_metrics(app, middleware, health, prefixes=("", _TWIN), around=of_comfyui.around)
        _say_what_is_beside(app, added, displaced)

    stay_first(app, middleware, displaced, before_freezing)
    deprecated_paths.bound(server)
    loopback.ask_no_resolver(server)
    provider.register(middleware)
    wire(app, middleware, settings, state)
    if settings.audit is not None:
        app.on_startup.append(partial(_end_at_sigterm, middleware))
        app.on_startup.append(partial(_require_unserved, Path(settings.audit), spell))
    app.on_startup.append(partial(_say, store, settings, spell))
    if parent is not None:
        app.on_startup.append(partial(_say_whose, parent))


def _say_what_is_beside(app: web.Application, added: Added, displaced: list[str]) -> None:
    if displaced:
        names = ", ".join(displaced)
        _logger.info("comfy-auth-rs: these middlewares run after ours, though they were put first: %s", names)
    ours = {resource.canonical for resource in added.resources - added.pages}
    for resource in app.router.resources():
        if resource.canonical in ours and resource not in added.resources:
            theirs = ", ".join({name_of(route.handler) for route in resource})
            _logger.warning("comfy-auth-rs: %s is answered by comfy-auth-rs, not by %s", resource.canonical, theirs)


def _comfyui_root(server: Any) -> Path | None:
    file = getattr(sys.modules.get(type(server).__module__), "__file__", None)
    return Path(file).parent if file else None


def _queue_length(server: Any) -> QueueLength:
    queue = server.prompt_queue
    running = len(queue.currently_running)
    return QueueLength(pending=max(0, queue.get_tasks_remaining() - running), running=running)


async def _health_unless_taken(health: Health, request: web.Request) -> web.StreamResponse:
    """Without a key nothing changes: a custom node's own `/health` comes first, although it was added after ours."""
    ours = request.match_info.route.resource
    for resource in request.app.router.resources():
        if resource is not ours and ours is not None and resource.canonical == ours.canonical:
            theirs, _ = await resource.resolve(request)
            if theirs is not None:
                response: web.StreamResponse = await theirs.handler(request)
                return response
    return await health.get(request)


async def _say_open(listen: str, app: web.Application) -> None:
    if all(loopback.is_loopback(address.strip()) for address in listen.split(",")):
        _logger.info(_OPEN_HERE, listen)
    else:
        _logger.warning(_OPEN, listen)


async def _say(store: KeyStore, settings: Settings, spell: Spelling, app: web.Application) -> None:
    for warning in store.warnings():
        _logger.warning("comfy-auth-rs: %s", warning.spelled(spell))
    _logger.info("comfy-auth-rs: an API key is required (%d in force)", len(store))
    if not settings.require_ws:
        closes = flag("require_ws")
        _logger.info("comfy-auth-rs: /ws is open to everyone; %s closes it (recommended)", closes)
    if settings.url_key:
        _logger.info("comfy-auth-rs: /key/KEY/ at the start of a path counts as a key; proxies may log it")


async def _end_at_sigterm(middleware: AuthMiddleware, app: web.Application) -> None:
    """Handles SIGTERM, with which services and containers stop ComfyUI, because ComfyUI doesn't."""

    def end(number: int, frame: object) -> None:
        middleware.end()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


async def _require_unserved(audit: Path, spell: Spelling, app: web.Application) -> None:
    """Checks this at startup, when nodes have added their folders, too."""
    folders = sys.modules.get("folder_paths")
    names = ("get_input_directory", "get_output_directory", "get_temp_directory", "get_user_directory")
    served = [Path(getattr(folders, name)()) for name in names if hasattr(folders, name)]
    try:
        require_outside(audit, [*served, *static_folders(app)])
    except SettingError as fault:
        end_process(fault.spelled(spell))


async def _say_whose(parent: int, app: web.Application) -> None:
    _logger.info("comfy-auth-rs: using the keys of the ComfyUI that started this one, process %d", parent)
