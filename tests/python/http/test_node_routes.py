"""Who owns which route, in a folder laid out like ComfyUI whose nodes do what custom nodes do."""

from __future__ import annotations

import importlib.util
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from comfy_auth_rs.comfyui.node_routes import Origin, origin_of, origin_of_route, watch

#: ComfyUI has bare functions, too.
pytestmark = pytest.mark.filterwarnings("ignore:Bare functions are deprecated")

#: ComfyUI's part: it loads nodes, then adds its own routes and those in its list.
SERVER = """\
import importlib.util
import sys
from aiohttp import web

app, routes = web.Application(), web.RouteTableDef()

@routes.get("/queue")
async def get_queue(request):
    return web.Response(text="comfyui")

@routes.get("/embeddings")
def get_embeddings(request):
    return web.Response(text="comfyui")

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

def add_routes(folders):
    twins = web.RouteTableDef()
    for route in routes:
        if isinstance(route, web.RouteDef):
            twins.route(route.method, "/api" + route.path)(route.handler)
    app.add_routes(twins)
    app.add_routes(routes)
    internal = web.Application()
    internal.router.add_get("/files/{directory_type}", get_queue)
    app.add_subapp("/internal", internal)
    for prefix, folder in folders.items():
        app.add_routes([web.static(prefix, folder)])
"""

FOLDER_PATHS = """\
found = []

def get_folder_paths(kind):
    return {"custom_nodes": found}[kind]
"""

#: A package that nodes use. It knows nothing of them.
PACKAGE = """\
from aiohttp import web

def decorated(function):
    async def around(request):
        return await function(request)
    return around

class Calls:
    def __init__(self, function):
        self.function = function

    async def __call__(self, request):
        return await self.function(request)

async def handle(request):
    return web.Response(text="package")

class Server:
    async def handle_request(self, request):
        return web.Response(text="package")

    def attach(self, app):
        app.router.add_get("/socket.io/", self.handle_request)
        app.router.add_route("*", "/socket.io/{rest}", self.handle_request)

def add_to(routes):
    routes.get("/queue/package")(handle)

def later(function):
    return function()
"""

START = """\
import functools
import package
import server
from aiohttp import web

app, routes = server.app, server.routes

async def answer(request):
    return web.Response(text="node")

"""

#: What a node does, and who then owns the routes.
NODES = {
    "its own function": ('routes.get("/x")(answer)', {"/x": "node", "/api/x": "node", "/queue": "comfyui"}),
    "a partial one": ('routes.get("/x")(functools.partial(answer))', {"/x": "node"}),
    "one as an argument": ('routes.get("/x")(functools.partial(package.later, answer))', {"/x": "node"}),
    "one in a package's closure": ('routes.get("/x")(package.decorated(answer))', {"/x": "node"}),
    "one that a package's object keeps": ('routes.get("/x")(package.Calls(answer))', {"/x": "node"}),
    "ComfyUI's in its own closure": (
        "def around(function):\n"
        "    @functools.wraps(function)\n"
        "    async def inner(request):\n"
        "        return await function(request)\n"
        "    return inner\n"
        "items = routes._items\n"
        "items[0] = web.get('/queue', around(items[0].handler))",
        {"/queue": "node", "/api/queue": "node", "/embeddings": "comfyui"},
    ),
    "ComfyUI's route before ComfyUI": ('app.router.add_get("/queue", answer)', {"/queue": "node"}),
    "a package's on ComfyUI's route": ('app.router.add_get("/queue", package.handle)', {"/queue": "node"}),
    "ComfyUI's own on another route": ('app.router.add_get("/x", server.get_queue)', {"/x": "node"}),
    "an object": (
        "class Answer:\n    async def __call__(self, request):\n        return await answer(request)\n"
        'routes.get("/x")(Answer())',
        {"/x": "node"},
    ),
    "a method": (
        "class Answer:\n    async def get(self, request):\n        return await answer(request)\n"
        'routes.get("/x")(Answer().get)',
        {"/x": "node"},
    ),
    "a package's method of its own class": (
        'class Own(package.Server):\n    pass\nroutes.get("/x")(Own().handle_request)',
        {"/x": "node"},
    ),
    "a view": (
        "class Answer(web.View):\n    async def get(self):\n        return await answer(self.request)\n"
        'routes.view("/x")(Answer)',
        {"/x": "node"},
    ),
    "a folder": ("app.router.add_static('/x', __path__[0])", {"/x/__init__.py": "node"}),
    "a folder in the list": ("routes.static('/x', __path__[0])", {"/x/__init__.py": "node"}),
    "a package's application": (
        'sub = web.Application()\nsub.router.add_get("/y", package.handle)\n'
        'sub.router.add_static("/s", __path__[0])\nouter = web.Application()\nouter.add_subapp("/sub", sub)\n'
        'app.add_subapp("/x", outer)',
        {"/x/sub/y": "node", "/x/sub/s/__init__.py": "node", "/internal/files/temp": "comfyui"},
    ),
    "a package that adds itself": (
        "package.Server().attach(app)",
        {"/socket.io/": "node", "/socket.io/x": "node", "/queue": "comfyui"},
    ),
    "a package that adds itself in a thread": (
        "import threading\n"
        "threads = [threading.Thread(target=lambda: package.Server().attach(app))]\n"
        "threads[0].start(), threads[0].join()",
        {"/socket.io/": "node"},
    ),
    "another handler in ComfyUI's route": (
        "async def replace(app):\n"
        "    for route in app.router.routes():\n"
        "        if route.resource.canonical == '/queue':\n"
        "            assert origin_of_route(app, route).value == 'comfyui'\n"
        "            route._handler = answer\n"
        "from comfy_auth_rs.comfyui.node_routes import origin_of_route\n"
        "app.on_startup.append(replace)",
        {"/queue": "node", "/api/queue": "comfyui"},
    ),
    "other code in ComfyUI's function": ("server.get_queue.__code__ = answer.__code__", {"/queue": "node"}),
    "code from a string": (
        "exec('async def made(request):\\n    return await answer(request)')\nroutes.get('/x')(made)",
        {"/x": "node"},
    ),
    "too many wrappers": (
        "many = answer\nfor _ in range(200):\n    many = package.decorated(many)\n"
        "routes.get('/x')(functools.partial(many, server.get_queue))",
        {"/x": "unknown"},
    ),
    "code of no module": (
        "made = {'web': web}\n"
        "exec('async def made(request):\\n    return web.Response()', made)\n"
        "routes.get('/x')(made['made'])\n"
        "routes.get('/y')(functools.partial(server.get_queue, made['made']))",
        {"/x": "unknown", "/y": "unknown", "/queue": "comfyui"},
    ),
    "code that says it is ComfyUI's": (
        "made = {'web': web}\n"
        "exec(compile('async def made(request):\\n    return web.Response()', 'server.py', 'exec'), made)\n"
        "routes.get('/x')(made['made'])",
        {"/x": "unknown"},
    ),
    "a package's in the list": ("package.add_to(routes)", {"/queue/package": "unknown"}),
    "native code": ("routes.get('/x')(len)", {"/x": "unknown"}),
    "ComfyUI's function that adds ComfyUI's": (
        "add = server.add_routes\n"
        "def add_more(folders):\n"
        "    add(folders)\n"
        "    app.router.add_get('/x', package.handle)\n"
        "server.add_routes = add_more",
        {"/queue": "comfyui", "/x": "node", "/index.html": "comfyui", "/docs/index.html": "comfyui"},
    ),
}


class Tree:
    """A folder laid out like ComfyUI. Its server is loaded into this process."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.packages = root / "venv" / "lib" / "python3" / "site-packages"
        for folder in (self.packages, root / "custom_nodes", root / "web"):
            folder.mkdir(parents=True)
        (root / "server.py").write_text(SERVER)
        (root / "folder_paths.py").write_text(FOLDER_PATHS)
        (root / "web" / "index.html").write_text("comfyui")
        (self.packages / "package.py").write_text(PACKAGE)
        for name, folder in (("folder_paths", root), ("package", self.packages), ("server", root)):
            monkeypatch.delitem(sys.modules, name, raising=False)
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, name, module)
            spec.loader.exec_module(module)
        self.folders = sys.modules["folder_paths"].found
        self.folders.append(str(root / "custom_nodes"))
        self.server = sys.modules["server"]

        @web.middleware
        async def tell(request, handler):
            try:
                response = await handler(request)
            except Exception:
                response = web.Response(status=500)
            response.headers["X-Origin"] = origin_of(request).value
            return response

        self.server.app.middlewares.append(tell)
        watch(self.server.app, root)
        self.monkeypatch = monkeypatch

    def write(self, name: str, does: str, folder: Path | None = None) -> Path:
        file = (folder or self.root / "custom_nodes") / name / "__init__.py"
        file.parent.mkdir(parents=True)
        file.write_text(START + does)
        return file

    def load(self, file: Path, name: str = "custom_nodes.node") -> None:
        self.monkeypatch.setitem(sys.modules, name, None)
        self.server.load(name, file)

    async def origins(self, aiohttp_server, *paths: str) -> dict[str, str]:
        folders = {"/extensions/node": self.root / "custom_nodes", "/docs": self.root / "web", "/": self.root / "web"}
        self.server.add_routes(folders)
        server = await aiohttp_server(self.server.app)
        async with aiohttp.ClientSession() as session:

            async def origin(path):
                async with session.get(server.make_url(path)) as response:
                    assert response.status != 404, path
                    return response.headers["X-Origin"]

            return {path: await origin(path) for path in paths}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    return Tree(tmp_path / "ComfyUI", monkeypatch)


@pytest.mark.parametrize("name", NODES)
async def test_whose_it_is(aiohttp_server, tree, name):
    does, expected = NODES[name]
    tree.monkeypatch.chdir(tree.root)  # where ComfyUI is started
    tree.load(tree.write("node", does))
    assert await tree.origins(aiohttp_server, *expected) == expected


async def test_comfyuis_own(aiohttp_server, tree):
    tree.load(tree.write("node", 'routes.get("/x")(answer)'))
    own = ["/queue", "/api/queue", "/embeddings", "/internal/files/temp", "/index.html", "/docs/index.html"]
    # ComfyUI itself adds the script folders of its nodes.
    own.append("/extensions/node/node/__init__.py")
    assert set((await tree.origins(aiohttp_server, *own)).values()) == {"comfyui"}


async def test_the_next_to_add_to_a_resource_owns_what_they_add(aiohttp_server, tree):
    """aiohttp reuses the last resource if it has the same path."""
    tree.load(tree.write("node", 'app.router.add_post("/api/queue", package.handle)'))
    assert await tree.origins(aiohttp_server, "/api/queue") == {"/api/queue": "comfyui"}
    app = tree.server.app
    found = {route.method: route for route in app.router.routes() if route.resource.canonical == "/api/queue"}
    assert found["POST"].resource is found["GET"].resource
    assert {method: origin_of_route(app, route).value for method, route in found.items()} == {
        "POST": "node",
        "GET": "comfyui",
        "HEAD": "comfyui",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("imported_by", ["its link", "its own path"])
async def test_nodes_that_are_links(aiohttp_server, tree, tmp_path, imported_by):
    file = tree.write("node", 'app.router.add_get("/x", package.handle)\nroutes.get("/y")(answer)', tmp_path / "dev")
    link = tree.root / "custom_nodes" / "node"
    link.symlink_to(file.parent)
    tree.load(file if imported_by == "its own path" else link / "__init__.py")
    expected = {"/x": "node", "/y": "node", "/queue": "comfyui"}
    assert await tree.origins(aiohttp_server, *expected) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_a_link_to_comfyui_itself_makes_it_no_node(aiohttp_server, tree):
    (tree.root / "custom_nodes" / "all").symlink_to(tree.root)
    (tree.root / "custom_nodes" / "more").symlink_to(tree.root.parent)
    assert await tree.origins(aiohttp_server, "/queue") == {"/queue": "comfyui"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_comfyui_that_is_a_link(aiohttp_server, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "ComfyUI").symlink_to(tmp_path / "real")
    tree = Tree(tmp_path / "ComfyUI", monkeypatch)
    tree.load(tree.write("node", 'routes.get("/x")(answer)'))
    # A node whose code is a link inside another node.
    inner = tree.write("inner", 'routes.get("/y")(answer)', tmp_path / "dev")
    (tree.root / "custom_nodes" / "node" / "inner").symlink_to(inner.parent)
    tree.load(tree.root / "custom_nodes" / "node" / "inner" / "__init__.py", "custom_nodes.node.inner")
    expected = {"/x": "node", "/y": "node", "/queue": "comfyui", "/index.html": "comfyui"}
    assert await tree.origins(aiohttp_server, *expected) == expected


@pytest.mark.parametrize("known", [True, False])
async def test_further_folders_of_nodes(aiohttp_server, tree, tmp_path, known):
    """`extra_model_paths.yaml` can name them."""
    if known:
        tree.folders.append(tmp_path / "more")
    adds = 'app.router.add_static("/docs", __path__[0])\nroutes.get("/x")(answer)'
    tree.load(tree.write("node", adds, tmp_path / "more"))
    whose = "node" if known else "unknown"
    expected = {"/docs/__init__.py": whose, "/x": whose}
    assert await tree.origins(aiohttp_server, *expected) == expected


async def test_folders_that_comfyui_does_not_name(aiohttp_server, tree):
    """`--base-directory` names another folder, but the one beside `server.py` still counts."""
    tree.folders.clear()
    tree.load(tree.write("node", 'routes.get("/x")(answer)'))
    assert await tree.origins(aiohttp_server, "/x") == {"/x": "node"}


async def test_code_that_was_compiled_elsewhere(aiohttp_server, tree):
    """Without its source, code only says where it was compiled."""
    file = tree.write("node", 'routes.get("/x")(answer)\napp.router.add_get("/y", package.handle)')
    compiled = file.with_suffix(".pyc")
    py_compile.compile(str(file), str(compiled), dfile=str(tree.root / "server.py"), doraise=True)
    file.unlink()
    tree.load(compiled)
    expected = {"/x": "node", "/y": "node", "/queue": "comfyui"}
    assert await tree.origins(aiohttp_server, *expected) == expected


NATIVE = """\
#include <Python.h>
static int run(PyObject *module) {
    PyObject *server = PyImport_ImportModule("server"), *package = PyImport_ImportModule("package");
    PyObject *router = PyObject_GetAttrString(PyObject_GetAttrString(server, "app"), "router");
    PyObject *handle = PyObject_GetAttrString(package, "handle");
    return PyObject_CallMethod(router, "add_get", "sO", "/queue", handle) ? 0 : -1;
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, run}, {0, NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "native", NULL, 0, NULL, slots};
PyMODINIT_FUNC PyInit_native(void) { return PyModuleDef_Init(&definition); }
"""


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform == "win32", reason="there is no C compiler")
async def test_nodes_in_native_code(aiohttp_server, tree):
    """Native code has no frame: the nearest one is ComfyUI's, which imports it."""
    include, suffix = sysconfig.get_path("include"), sysconfig.get_config_var("EXT_SUFFIX")
    if not Path(include, "Python.h").is_file():
        pytest.skip("Python's headers are not installed")
    file = tree.root / "custom_nodes" / f"native{suffix}"
    source = tree.root / "native.c"
    source.write_text(NATIVE)
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", *undefined, "-o", file, source], check=True)
    tree.load(file, "native")
    assert await tree.origins(aiohttp_server, "/queue") == {"/queue": "node"}


async def test_nobody_watches_an_application_of_ones_own(aiohttp_server):
    async def tell(request):
        return web.json_response([origin_of(request) is Origin.NODE, origin_of(request).value])

    app = web.Application()
    app.router.add_get("/", tell)
    server = await aiohttp_server(app)
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/")) as response:
        assert await response.json() == [False, "unknown"]
    assert {origin_of_route(app, route).value for route in app.router.routes()} == {"unknown"}
