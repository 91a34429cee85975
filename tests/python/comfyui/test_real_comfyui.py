"""A real ComfyUI, patched on disk, in memory, or with the custom node: it is started, used and restored.

`COMFYUI_DIR` names its folder, `COMFYUI_PYTHON` an interpreter with its requirements. The default is the running
interpreter; any other must have the same version, because the package is compiled for it. With `COMFYUI_MANAGER`, a
folder that `pip install --target FOLDER comfyui-manager` filled, ComfyUI-Manager is tested too. Nothing is written into
the tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import aiohttp
import comfy_auth_rs
import pytest
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.tree import patch, status, unpatch
from support.client import BROWSER, Answer, ask, bearer, is_refusal
from support.keys import KEY, WRONG_KEY
from support.servers import WITNESS, Server, ServerDied, start_server
from support.sweep import METHODS, OURS, Route, is_exempt, odd_targets, read_routes, targets

pytestmark = pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no real ComfyUI")

TREE = Path(os.environ.get("COMFYUI_DIR", ".")).resolve()
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
MANAGER = os.environ.get("COMFYUI_MANAGER")
STARTS_WITHIN = 180  # seconds; it imports torch

#: A custom node with a route that the Manager must ban. The Manager recognises the route by its handler object.
BANNED_NODE = """\
from aiohttp import web
from comfyui_manager.common import manager_security
from server import PromptServer

@PromptServer.instance.routes.get("/banned")
async def banned(request):
    return web.Response(text="not banned")

manager_security.add_handler_policy(banned, manager_security.HANDLER_POLICY.BANNED)
NODE_CLASS_MAPPINGS = {}
"""


class Real(NamedTuple):
    """A running ComfyUI and all its routes."""

    server: Server
    routes: set[Route]


def contents(folder: Path) -> dict[str, str]:
    """Every file in the folder, with the digest of its bytes."""
    files = [file for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lets `PYTHON` import this package, but nothing else of this environment."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "comfy_auth_rs").symlink_to(Path(comfy_auth_rs.__file__).parent)
    command = [PYTHON, "-c", "import comfy_auth_rs"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{PYTHON} cannot import this build of comfy_auth_rs: {result.stderr.splitlines()[-1]}")
    return folder


Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def start(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts the ComfyUI in `tree` with its own data folders: with its main.py, or `in_memory` with our launcher.

    With `node_key`, our custom node is installed and gets that key.
    """

    def start(
        tree: Path,
        *args: str,
        in_memory: bool = False,
        manager: bool = False,
        node_key: str | None = None,
        env: dict[str, str] | None = None,
    ) -> AbstractContextManager[Server]:
        base = tmp_path_factory.mktemp("base")
        shutil.copytree(WITNESS, base / "custom_nodes" / "witness", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("input", "output", "user", "models"):
            (base / name).mkdir()
        paths = [str(package)]
        if manager:
            paths.append(str(MANAGER))
            (base / "custom_nodes" / "banned.py").write_text(BANNED_NODE)
        if node_key is not None:
            custom_node.install(tree, base)
        flags = ["--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:", *args]
        command = ["-m", "comfy_auth_rs", "run", str(tree), "--"] if in_memory else ["main.py"]
        return start_server(
            tree,
            *flags,
            env={
                "PYTHONPATH": os.pathsep.join(paths),
                "WITNESS_ROUTES": str(base / "routes.json"),
                "HF_HUB_OFFLINE": "1",
                **({} if node_key is None else {"COMFYUI_API_KEY": node_key}),
                **(env or {}),
            },
            python=PYTHON,
            command=command,
            timeout=STARTS_WITHIN,
        )

    return start


def routes_of(server: Server) -> set[Route]:
    arguments = server.process.args
    assert isinstance(arguments, list)
    return read_routes(Path(arguments[arguments.index("--base-directory") + 1]) / "routes.json")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree that tests may write to."""
    folder = tmp_path_factory.mktemp("real") / "ComfyUI"

    def ignore(directory: str, names: list[str]) -> set[str]:
        data = {".git", "models", "input", "output", "user", "temp"} if Path(directory) == TREE else set()
        return data | {"__pycache__"}

    return Path(shutil.copytree(TREE, folder, ignore=ignore, symlinks=True))


@pytest.fixture(scope="module", params=["in memory", "custom node", "patched"])
def real(request: pytest.FixtureRequest, start: Start, copy: Path) -> Iterator[Real]:
    """Each way to install, with a key. Afterwards the tree must be the same, byte for byte."""
    patched = request.param == "patched"
    tree = copy if patched else TREE
    before = contents(tree)
    if patched:
        assert comfy_auth_rs_command("patch", tree) == 0
        assert {name for name, digest in contents(tree).items() if before.get(name) != digest} == {
            "server.py",
            "comfy/cli_args.py",
        }
    if request.param == "custom node":
        starting = start(tree, "--verbose", "DEBUG", node_key=KEY)
    else:
        starting = start(tree, "--api-key", KEY, "--verbose", "DEBUG", in_memory=not patched)
    with starting as server:
        yield Real(server, routes_of(server))
        assert KEY not in server.output
    if patched:
        assert comfy_auth_rs_command("unpatch", tree) == 0
    assert {name: digest for name, digest in contents(tree).items() if "__pycache__" not in name} == before


def comfy_auth_rs_command(*arguments: object) -> int:
    return subprocess.run([sys.executable, "-m", "comfy_auth_rs", *map(str, arguments)]).returncode


# --- routes -----------------------------------------------------------------------------------------------------


def test_every_route_needs_the_key(real: Real) -> None:
    """The plain name, the `/api` twin and every spelling need it. With the key, they answer."""
    server, routes = real
    own = targets(routes)
    wrong, refused, answered, reached = [], 0, 0, set()
    for target in own + odd_targets(routes):
        with_key = ask(server, target, bearer(KEY))
        if "\0" in unquote(target):  # refused with any key
            illegible = [answer.json["cause"] for answer in (with_key, ask(server, target))]
            assert illegible == ["control_character"] * 2, target
            continue
        route = Route.parse(with_key.headers["X-Route"])
        reached.add(route)
        if "WWW-Authenticate" in with_key.headers or b'"cause"' in with_key.body:  # a 403 may be ComfyUI's own
            wrong.append(f"{target} is refused with the key: {with_key.status} {with_key.text[:100]}")
        answered += with_key.status == 200
        for method in METHODS if target in own else ("GET",):
            answer = ask(server, target, method=method)
            is_root = route.plain == "/" and route.kind == "PlainResource" and method in ("GET", "HEAD")
            if is_root and answer.status == 302:
                continue
            if is_refusal(answer, method):
                refused += 1
                asks_itself = route.plain == "/auth_session"  # it refuses a log-in without a key
                if (
                    is_exempt(method, route, target)
                    and with_key.status == 200
                    and "/." not in target
                    and not asks_itself
                ):
                    wrong.append(f"{method} {target} is exempt, but was refused")
            elif not is_exempt(method, route, target):
                wrong.append(f"{method} {target} leads to {route} without a key: {answer.status} {answer.body[:100]!r}")
    assert wrong == []
    api = {route for route in routes if route.kind != "StaticResource" and route.plain not in OURS}
    assert {route for route in api if route.path.startswith("/api/")}
    print(
        f"\n{TREE.name}: {len(routes)} resources ({len(api)} API), {len(own)} targets, "
        f"{len(own) * len(METHODS) + len(odd_targets(routes))} requests without a key, {refused} refused; "
        f"{answered} targets answer 200 with it, {len(reached)} resources reached"
    )


ASKED_BY_THE_FRONTEND = """
    /prompt /queue /history /object_info /system_stats /settings /users /userdata?dir=x /userdata/x.json /embeddings
    /models /extensions /view?filename=x.png /features /i18n /workflow_templates /experiment/models
"""


@pytest.mark.parametrize("path", ASKED_BY_THE_FRONTEND.split())
def test_routes_that_the_frontend_asks_for(real: Real, path: str) -> None:
    for target in (path, f"/api{path}"):
        assert is_refusal(ask(real.server, target))
        assert ask(real.server, target, BROWSER).status == 302
        assert ask(real.server, target, bearer(WRONG_KEY)).status == 401
        answer = ask(real.server, target, bearer(KEY))
        assert answer.status in (200, 403, 404)
        assert b'"cause"' not in answer.body


# --- health, login, index ---------------------------------------------------------------------------------------


def test_health_tells_comfyuis_own_figures(real: Real) -> None:
    stats = ask(real.server, "/system_stats", bearer(KEY)).json
    (device,) = stats["devices"]
    for target in ("/health", "/api/health"):
        health = ask(real.server, target).json
        assert health["status"] == "ok"
        assert health["queue"] == {"pending": 0, "running": 0}
        assert health["device"] == {"name": "cpu", "type": "cpu"}
        assert health["vram"]["total"] == device["vram_total"]
        assert health["vram"]["free"] == pytest.approx(device["vram_free"], rel=0.2)
        assert ask(real.server, target, bearer(WRONG_KEY)).status == 401
    print(f"\n{TREE.name}: {health}")


def test_browser_logs_in_and_out(real: Real) -> None:
    server = real.server
    first = ask(server, "/", BROWSER)
    assert (first.status, first.headers["Location"]) == (302, "auth_login.html?next=%2F")
    assert "<form" in ask(server, "/auth_login.html?next=%2F", BROWSER).text
    assert "comfyui_api_key" in ask(server, "/auth_login.js").text
    session = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"}
    assert ask(server, "/auth_session", {**session, **bearer(WRONG_KEY)}, method="POST", body=b"{}").status == 401
    login = ask(server, "/auth_session", {**session, **bearer(KEY)}, method="POST", body=b'{"remember": true}')
    assert login.status == 204
    cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
    for target in ("/", "/index.html", "/api/"):
        page = ask(server, target, {**BROWSER, **cookie})
        assert page.status == 200
        assert '<head><script src="auth_inject.js"></script>' in page.text
    for target in ("/api/object_info", "/api/queue", "/queue"):
        assert ask(server, target, cookie).status == 200
    foreign = {**cookie, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert ask(server, "/api/interrupt", foreign, method="POST").status == 403
    assert ask(server, "/api/interrupt", {**cookie, "Origin": server.url}, method="POST").status == 200
    assert ask(server, "/auth_login.html?logout=true", {**BROWSER, **cookie}).status == 200
    assert ask(server, "/queue", cookie).status == 200
    assert ask(server, "/auth_session", {**cookie, "Origin": server.url}, method="DELETE").status == 204
    assert is_refusal(ask(server, "/queue", cookie))


def test_the_frontend_and_extensions_load_without_a_key(real: Real) -> None:
    page = ask(real.server, "/", bearer(KEY)).text
    scripts = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert scripts[0] == "auth_inject.js"
    assert len(scripts) > 1
    for script in scripts:
        assert ask(real.server, "/" + script.removeprefix("./").removeprefix("/")).status == 200
    assert ask(real.server, "/extensions/witness/x.js").status == 200
    assert is_refusal(ask(real.server, "/extensions/witness/secret.js"))
    assert is_refusal(ask(real.server, "/my_outputs/x.png"))


# --- WebSocket, secrets -----------------------------------------------------------------------------------------


async def test_the_websocket(real: Real) -> None:
    async with (
        aiohttp.ClientSession(real.server.url) as session,
        session.ws_connect("/ws?clientId=mine", headers=bearer(KEY)) as ws,
    ):
        assert (await ws.receive_json(timeout=20))["type"] == "status"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/ws?clientId=mine")
        assert refused.value.status == 401
        async with session.ws_connect("/api/ws?clientId=another") as other:
            assert (await other.receive_json(timeout=20))["data"]["sid"] == "another"


async def test_runs_a_graph(real: Real) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "real"}},
    }
    async with (
        aiohttp.ClientSession(real.server.url, headers=bearer(KEY)) as session,
        session.ws_connect("/ws?clientId=painter") as ws,
    ):
        async with session.post("/api/prompt", json={"prompt": graph, "client_id": "painter"}) as response:
            assert response.status == 200, await response.text()
        picture = None
        while picture is None:
            message = await ws.receive_json(timeout=60)
            if message["type"] == "executed":
                (picture,) = message["data"]["output"]["images"]
        async with session.get("/view", params=picture) as response:
            assert (await response.read()).startswith(b"\x89PNG")
    assert is_refusal(ask(real.server, f"/view?filename={picture['filename']}&type=output"))


def test_the_key_is_nowhere_to_be_seen(real: Real) -> None:
    argv = ask(real.server, "/system_stats", bearer(KEY)).json["system"]["argv"]
    if "--api-key" in argv:
        assert argv[argv.index("--api-key") + 1] == "[redacted]"
    for target in ("/system_stats", "/internal/logs", "/internal/logs/raw"):
        answer = ask(real.server, target, bearer(KEY))
        assert answer.status == 200
        assert KEY not in answer.text
    assert KEY not in real.server.output


def test_help_shows_the_flags(package: Path) -> None:
    command = [PYTHON, "-m", "comfy_auth_rs", "run", str(TREE), "--", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for flag in (
        "--api-key",
        "--api-key-file",
        "--auth-exempt",
        "--auth-require-ws",
        "--auth-trusted-proxy",
        "--auth-url-key",
    ):
        assert f"\n  {flag} " in result.stdout or f"\n  {flag}\n" in result.stdout


def test_without_a_key_nothing_is_asked_for(start: Start) -> None:
    with start(TREE, in_memory=True) as server:
        assert ask(server, "/").status == 200
        assert "auth_inject.js" not in ask(server, "/").text
        assert ask(server, "/queue").status == 200
        assert ask(server, "/health").json["status"] == "ok"
        assert "NO API KEY" not in server.output


@pytest.mark.parametrize("key", [None, ""])
def test_the_custom_node_ends_it_without_a_key(start: Start, tmp_path: Path, key: str | None) -> None:
    """ComfyUI would catch any exception of a custom node, log it, and start without protection."""
    custom_node.install(TREE, tmp_path)
    environment = {} if key is None else {"COMFYUI_API_KEY": key}
    with (
        pytest.raises(ServerDied) as died,
        start(TREE, "--base-directory", str(tmp_path), env=environment) as server,
    ):
        pytest.fail(f"it listens: {server.output}")
    assert died.value.returncode == 2
    lines = died.value.output.splitlines()
    assert [line for line in lines if "comfy-auth-rs" in line] == lines[-1:]
    assert lines[-1].startswith("comfy-auth-rs: error: " + ("no API key;" if key is None else "COMFYUI_API_KEY:"))


# --- ComfyUI-Manager --------------------------------------------------------------------------------------------


@pytest.mark.skipif(MANAGER is None, reason="COMFYUI_MANAGER names no folder that holds comfyui-manager")
@pytest.mark.parametrize("protected", [False, True], ids=["as it is", "protected"])
def test_the_manager_works_as_it_does_without_us(start: Start, protected: bool) -> None:
    """It bans by handler and by other clients' addresses, and it restarts the server."""
    if "--enable-manager" not in (TREE / "comfy" / "cli_args.py").read_text():
        pytest.skip("this ComfyUI has no --enable-manager")
    flags = ["--enable-manager", "--enable-manager-legacy-ui", *(["--api-key", KEY] if protected else [])]
    credential = bearer(KEY) if protected else {}
    with start(TREE, *flags, in_memory=protected, manager=True) as server:

        def banned(answer: Answer) -> bool:
            return (answer.status, answer.text) == (403, "[Manager] This request is banned.")

        def install(source: str, headers: dict[str, str]) -> Answer:
            # This isn't a URL, so even if a request isn't banned, nothing is installed.
            return ask(server, "/v2/customnode/install/git_url", headers, method="POST", body=b"-", source=source)

        assert "Legacy UI is enabled" in server.output
        for target in ("/banned", "/api/banned"):
            assert banned(ask(server, target, credential))
        assert not banned(install("127.0.0.1", credential))
        if protected:
            assert_closed(server)
            assert is_refusal(install("127.0.0.2", {}))
            assert not banned(install("127.0.0.1", credential))  # a client that we refused doesn't count
        assert ask(server, "/queue", credential, source="127.0.0.2").status == 200
        assert banned(install("127.0.0.1", credential))
        assert "[Manager] Banning request from 127.0.0.1: /v2/customnode/install/git_url" in server.output
        restart(server, credential)
        assert ask(server, "/queue", credential).status == 200
        assert banned(ask(server, "/banned", credential))
        assert is_refusal(ask(server, "/queue")) == protected
        assert KEY not in server.output


def assert_closed(server: Server) -> None:
    """None of the Manager's routes, and no other route, answers without the key."""
    routes = {route for route in routes_of(server) if route.kind != "StaticResource" and route.plain not in OURS}
    found = {(method, route.target("x")): route for route in routes for method in METHODS}
    closed = {name: route for name, route in found.items() if not is_exempt(name[0], route, name[1])}
    wrong = [name for name in closed if not is_refusal(ask(server, name[1], method=name[0]), name[0])]
    assert wrong == []
    managers = {route.path for route in closed.values() if route.path.startswith(("/v2/", "/manager", "/customnode"))}
    assert len(managers) > 10
    print(f"\n{TREE.name}: {len(managers)} paths under /v2, /manager and /customnode, all closed")


def restart(server: Server, credential: dict[str, str]) -> None:
    """Restarts with the Manager's own route, whose method depends on its version."""
    ready = "To see the GUI"
    before = server.output.count(ready)
    with suppress(OSError):  # the process replaces itself without answering
        refused = ask(server, "/v2/manager/reboot", credential, method="POST")
        assert refused.status == 405
        ask(server, "/v2/manager/reboot", credential)
    deadline = time.monotonic() + STARTS_WITHIN
    while server.output.count(ready) == before:
        assert server.process.poll() is None, server.output
        assert time.monotonic() < deadline, server.output
        time.sleep(0.2)


# --- its sources ------------------------------------------------------------------------------------------------


def test_patches_and_restores_its_sources(tmp_path: Path) -> None:
    tree = tmp_path / "ComfyUI"
    (tree / "comfy").mkdir(parents=True)
    for name in ("server.py", "comfy/cli_args.py"):
        shutil.copy(TREE / name, tree / name)
    before = contents(tree)
    assert len(patch(tree)) == 2
    assert [file.fault for file in status(tree)] == [None, None]
    assert b"        _comfy_auth_rs.install(self, args)\n" in (tree / "server.py").read_bytes()
    assert len(unpatch(tree)) == 2
    assert contents(tree) == before
