"""Tells whether a custom node's code answers a request, or added the route that does."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import CodeType, FrameType, MethodType
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiohttp import web

from comfy_auth_rs._core import scope_of

__all__ = ["Origin", "origin_of", "origin_of_route", "watch"]

#: How many functions and classes are inspected for one route at most.
_MOST: Final = 100

_PACKAGE: Final = os.path.realpath(Path(__file__).parents[1])
_LIBRARIES: Final = {"site-packages", "dist-packages"}
_PYTHONS: Final = [
    os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
]


class Origin(Enum):
    """Whose code a route is.

    `UNKNOWN` is native code, code without a file, and packages that aren't ComfyUI's own. It must never need less than
    a node's route: on a path of the table it counts as a node's, on any other it needs `all`.
    """

    COMFYUI = "comfyui"
    NODE = "node"
    UNKNOWN = "unknown"


#: Where code comes from. None for packages and Python itself, which don't tell who uses them.
_Place = Origin | None


def watch(app: web.Application, root: Path | None) -> None:
    """Records from now on whose code adds routes to `app`. `root` is ComfyUI's own folder."""
    app[_WATCHED] = _Watched(_Folders(root), app.router)


def origin_of(request: web.BaseRequest) -> Origin:
    """Whose code the route of this request is."""
    if not isinstance(request, web.Request):
        return Origin.UNKNOWN
    watched = request.config_dict.get(_WATCHED)
    return Origin.UNKNOWN if watched is None else watched.origin(request.match_info.route)


def origin_of_route(app: web.Application, route: web.AbstractRoute) -> Origin:
    """Whose code a route of `app` is."""
    return app[_WATCHED].origin(route) if _WATCHED in app else Origin.UNKNOWN


class _Folders:
    """Tells ComfyUI's files from those of custom nodes."""

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else os.path.realpath(root)
        self._pythons = [folder for folder in _PYTHONS if self._root is None or not _is_in(self._root, folder)]
        self._of_nodes: tuple[str, ...] = ()
        self._homes: list[str] = []
        self._places: dict[str, _Place] = {}

    def place(self, file: str) -> _Place:
        """Where a file is, both by its name and with links resolved: a node may be a link and be imported by either."""
        self._look_again()
        if file not in self._places:
            self._places[file] = self._find(file)
        return self._places[file]

    def _find(self, file: str) -> _Place:
        if not Path(file).is_absolute():  # `<string>`, or what native code calls itself
            return None if file.startswith("<frozen ") else Origin.UNKNOWN
        names = {os.path.normpath(file), os.path.realpath(file)}
        if any(_is_in(name, _PACKAGE) for name in names):
            return Origin.COMFYUI  # our own code is not a node's, wherever it is installed
        if any(_is_in(name, home) for name in names for home in self._homes):
            return Origin.NODE
        inside = [Path(name).relative_to(self._root) for name in names if self._root and _is_in(name, self._root)]
        parts = {part for path in inside or map(Path, names) for part in path.parts}
        if parts & _LIBRARIES or any(_is_in(name, folder) for name in names for folder in self._pythons):
            return None
        return Origin.COMFYUI if inside else Origin.UNKNOWN

    def _look_again(self) -> None:
        """Reads the list of folders again: nodes may add folders for more nodes."""
        folders: tuple[str, ...] = ()
        with suppress(AttributeError, KeyError, TypeError):
            found = sys.modules["folder_paths"].get_folder_paths("custom_nodes")
            folders = tuple(os.fspath(folder) for folder in found)
        if self._root is not None:
            folders = (*folders, str(Path(self._root, "custom_nodes")))
        if folders != self._of_nodes:
            self._homes = [home for folder in folders for home in self._homes_in(folder)]
            self._places, self._of_nodes = {}, folders

    def _homes_in(self, folder: str) -> Iterator[str]:
        """The folder, and the targets of links in it."""
        real = os.path.realpath(folder)
        yield from (str(Path(folder).absolute()), real)
        with suppress(OSError):
            for entry in os.scandir(folder):
                target = os.path.realpath(entry.path)
                # If the link leads to all of ComfyUI, or more, only what is imported by the link's name is the node's.
                if not _is_in(target, real) and not (self._root and _is_in(self._root, target)):
                    yield target


def _is_in(path: str, folder: str) -> bool:
    path, folder = os.path.normcase(path), os.path.normcase(folder)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _Watched:
    """An application's routes, and whose code added them."""

    def __init__(self, folders: _Folders, router: web.UrlDispatcher) -> None:
        self._folders = folders
        self._added_by: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()
        self._known: WeakKeyDictionary[web.AbstractRoute, tuple[Any, Origin]] = WeakKeyDictionary()
        register = router.register_resource

        def register_resource(resource: web.AbstractResource) -> None:
            register(resource)
            self._watch(resource)

        # Everything that adds a path, a folder or an application goes through here.
        setattr(router, "register_resource", register_resource)  # noqa: B010 - a method

    def origin(self, route: web.AbstractRoute) -> Origin:
        """Judges by the handler's code and by the code that added the route."""
        handler = route.handler
        known = self._known.get(route)
        if known is None or known[0] is not handler:  # nodes put other handlers into routes
            try:
                origin = self._judge(route)
            except Exception:  # inspecting a handler may raise anything
                origin = Origin.UNKNOWN
            known = self._known[route] = handler, origin
        return known[1]

    def _judge(self, route: web.AbstractRoute) -> Origin:
        resource = route.resource
        adder = self._added_by.get(route, self._added_by.get(resource, Origin.UNKNOWN))
        places = set(_places_of(route.handler, self._folders))
        if adder is Origin.NODE or Origin.NODE in places:
            return Origin.NODE
        if Origin.COMFYUI in places and Origin.UNKNOWN not in places:
            return Origin.COMFYUI
        if isinstance(resource, web.StaticResource) and adder is Origin.COMFYUI:
            # ComfyUI adds the folders of nodes, and the routes that nodes put into its list.
            is_in_table = scope_of(resource.canonical, "GET", is_folder=True) is not None
            folder = self._folders.place(str(resource.get_info()["directory"]))
            return Origin.NODE if folder is Origin.NODE and not is_in_table else Origin.COMFYUI
        return Origin.UNKNOWN

    def _watch(self, resource: web.AbstractResource) -> None:
        adder = _adder(self._folders)
        for added in (resource, *resource):  # an application's routes, too: it is frozen by now
            self._added_by[added] = adder
        if isinstance(resource, web.Resource):
            register = resource.register_route

            def register_route(route: web.ResourceRoute) -> None:
                register(route)
                self._added_by[route] = _adder(self._folders)

            # Others may add to it: aiohttp reuses the last resource if the next route has the same path.
            setattr(resource, "register_route", register_route)  # noqa: B010 - a method


_WATCHED: Final = web.AppKey("comfy_auth_rs.node_routes", _Watched)


def _adder(folders: _Folders) -> Origin:
    """Whose code is running: the nearest frame of ComfyUI or a node. ComfyUI loads nodes, and both use packages."""
    frame: FrameType | None = sys._getframe(1)
    nearest: set[_Place] = {None}
    while frame is not None:
        if frame.f_code.co_filename != _adder.__code__.co_filename:
            place = _place(frame.f_code, _namespace(frame), folders)
            if place is Origin.NODE:
                return place
            if place is Origin.COMFYUI:
                return Origin.UNKNOWN if Origin.UNKNOWN in nearest else place
            nearest.add(place)
        frame = frame.f_back
    return Origin.UNKNOWN


def _namespace(frame: FrameType) -> dict[str, Any]:
    """The namespace of the running module; for native code, which has no frame, that of the frame importing it."""
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        return getattr(frame.f_locals.get("module"), "__dict__", {})
    return frame.f_globals


def _place(code: CodeType, namespace: dict[str, Any], folders: _Folders) -> _Place:
    """Where code comes from, by its own file name and by its module, which may differ."""
    file = namespace.get("__file__")
    by_module = folders.place(file) if isinstance(file, str) else Origin.UNKNOWN
    by_code = folders.place(code.co_filename)
    return by_module if by_module is Origin.NODE or by_code is Origin.UNKNOWN else by_code


def _places_of(handler: Any, folders: _Folders) -> Iterator[_Place]:
    """Where all code that a handler may run comes from: its own, and what it wraps, binds, keeps or closes over."""
    waiting: list[Any] = [handler]
    seen: dict[int, Any] = {}
    while waiting:
        found = waiting.pop()
        if id(found) in seen or not callable(found):
            continue
        if len(seen) == _MOST:
            yield Origin.UNKNOWN
            return
        seen[id(found)] = found
        if isinstance(found, type):
            for base in found.__mro__:
                yield from _places_of_class(base, folders)
            continue
        if _is_function(found):
            yield _place(found.__code__, found.__globals__, folders)
        waiting.extend(_inside(found))


def _is_function(found: Any) -> bool:
    """Functions in native code have these attributes, too."""
    is_code = isinstance(getattr(found, "__code__", None), CodeType)
    return is_code and isinstance(getattr(found, "__globals__", None), dict)


def _inside(found: Any) -> Iterator[Any]:
    if isinstance(found, MethodType):
        owner = found.__self__
        yield from (found.__func__, owner if isinstance(owner, type) else type(owner))
        return
    yield getattr(found, "__wrapped__", None)
    if isinstance(found, functools.partial):
        yield from (found.func, *found.args, *found.keywords.values())
    elif _is_function(found):
        for cell in getattr(found, "__closure__", None) or ():
            with suppress(ValueError):  # an empty one
                yield cell.cell_contents
        yield from getattr(found, "__defaults__", None) or ()
        yield from (getattr(found, "__kwdefaults__", None) or {}).values()
    else:
        yield type(found)
        yield from getattr(found, "__dict__", {}).values()


def _places_of_class(base: type, folders: _Folders) -> Iterator[_Place]:
    """The same for the class of a view or of a callable object."""
    if base.__module__ in sys.builtin_module_names:
        return
    file = getattr(sys.modules.get(base.__module__), "__file__", None)
    yield folders.place(file) if isinstance(file, str) else Origin.UNKNOWN
    for member in vars(base).values():
        function = getattr(member, "__func__", member)
        if _is_function(function):
            yield _place(function.__code__, function.__globals__, folders)
