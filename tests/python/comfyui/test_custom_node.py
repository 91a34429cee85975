"""`comfy-auth-rs install-node`: a custom node protects the miniature, whose files don't change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from comfy_auth_rs import PatchError, __version__
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.tree import patch
from support import warm
from support.client import BROWSER, Answer, Visitor, ask, bearer, headers_of, is_refusal
from support.keys import KEY
from support.servers import Server, ServerDied, free_port, start_server
from support.sweep import Route, odd_targets, read_routes, targets
from support.trees import make_tree

KEY_ENV = {"COMFYUI_API_KEY": KEY}
ERROR = "comfy-auth-rs: error: "

CopyMiniature = Callable[..., Path]


@pytest.fixture(scope="module")
def tree(copy_miniature: CopyMiniature) -> Path:
    """The miniature with the witness and our custom node. Nothing is patched."""
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    return tree


@pytest.fixture(scope="module")
def server(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {**KEY_ENV, "WITNESS_ROUTES": str(tmp_path_factory.mktemp("routes") / "routes.json")}
    with start_server(tree, "--verbose", "DEBUG", env=env) as server:
        yield server
        assert KEY not in server.output


def end_of(tree: Path, *args: str, python: tuple[str, ...] = (), **env: str) -> str:
    """The one line that the process ends with, without its prefix. It never listened.

    `python` is another way to start Python.
    """
    words = ("main.py", "--port", str(free_port()), *args)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    if python:
        command = [*python, *words]
        result = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=30
        )
    else:
        result = warm.run(*words, cwd=tree, env=environment, timeout=30)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    lines = result.stderr.splitlines(keepends=True)
    (line,) = [line for line in lines if line.startswith(ERROR)]
    assert line == lines[-1]
    assert line.endswith("\n")
    for word in ("Traceback", "To see the GUI", "canary"):
        assert word not in result.stderr
    return line.removeprefix(ERROR).rstrip("\n")


# --- the same protection as the patch's -------------------------------------------------------------------------


def test_every_route_answers_as_in_a_patched_comfyui(server: Server, copy_miniature: CopyMiniature) -> None:
    patched_tree = copy_miniature()
    routes_file = patched_tree / "routes.json"
    flags = ("--api-key", KEY, "--verbose", "DEBUG")
    with (
        start_server(patched_tree, *flags, env={"WITNESS_ROUTES": str(routes_file)}) as patched,
        Visitor(patched) as to_patched,
        Visitor(server) as to_server,
    ):
        routes = read_routes(routes_file)
        wanted = [("GET", target) for target in targets(routes) + odd_targets(routes)]
        wanted += [("POST", route.target("x")) for route in routes]
        different, refused = [], 0
        for method, target in wanted:
            theirs, ours = (visible(visitor.ask(target, method=method)) for visitor in (to_patched, to_server))
            if ours != theirs:
                different.append(f"{method} {target}: {ours} instead of {theirs}")
            refused += ours[0] == 401
        assert different == []
        assert refused > 700
        for route in routes:
            theirs, ours = (visitor.ask(route.target("x"), bearer(KEY)) for visitor in (to_patched, to_server))
            assert (ours.status, ours.headers["X-Route"]) == (theirs.status, theirs.headers["X-Route"]), route
        assert routes_of(server) == routes


def visible(answer: Answer) -> tuple[object, ...]:
    """What clients see. Unless it is a refusal, only the length of the body counts: logs and folders differ."""
    return answer.status, headers_of(answer), answer.body if answer.status == 401 else len(answer.body)


def routes_of(server: Server) -> set[Route]:
    environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
    (file,) = [entry.partition(b"=")[2] for entry in environment if entry.startswith(b"WITNESS_ROUTES=")]
    return read_routes(Path(file.decode()))


def test_browsers_log_in(server: Server) -> None:
    first = ask(server, "/", BROWSER)
    assert (first.status, first.headers["Location"]) == (302, "auth_login.html?next=%2F")
    assert "<form" in ask(server, "/auth_login.html", BROWSER).text
    login = ask(server, "/auth_session", bearer(KEY), method="POST")
    cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
    for target in ("/", "/index.html"):
        assert '<script src="auth_inject.js"></script>' in ask(server, target, cookie).text
    assert ask(server, "/queue", cookie).status == 200
    assert ask(server, "/health").json["status"] == "ok"


async def test_a_live_socket_is_not_taken_over(server: Server) -> None:
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.ws_connect("/ws?clientId=mine", headers=bearer(KEY)) as ws,
    ):
        assert (await ws.receive_json(timeout=10))["type"] == "status"
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await session.ws_connect("/ws?clientId=mine")


#: It loads first, because of its name, and takes whatever it can get before our node is loaded.
EARLY = """
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}

async def leak(request):
    return web.Response(text="leaked")

@web.middleware
async def serve_anyone(request, handler):
    return await leak(request) if request.path == "/by_middleware" else await handler(request)

PromptServer.instance.routes.get("/by_route")(leak)
PromptServer.instance.app.router.add_get("/by_router", leak)
PromptServer.instance.app.router.add_get("/{anything}.js", leak)
PromptServer.instance.app.middlewares.append(serve_anyone)
"""


def test_custom_nodes_that_load_earlier_do_not_slip_by(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature(patched=False)
    (tree / "custom_nodes" / "aaa").mkdir()
    (tree / "custom_nodes" / "aaa" / "__init__.py").write_text(EARLY)
    (tree / "custom_nodes" / "aaa" / "prestartup_script.py").write_text("import logging\nlogging.error('early')\n")
    custom_node.install(tree)
    with start_server(tree, env=KEY_ENV) as server:
        assert server.output.index("early") < server.output.index("an API key is required")
        for target in ("/by_middleware", "/by_route", "/api/by_route", "/by_router", "/x.js"):
            assert is_refusal(ask(server, target)), target
            assert ask(server, target, bearer(KEY)).text == "leaked", target


def test_stands_behind_cors(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    with start_server(tree, "--enable-cors-header", "http://there.example", env=KEY_ENV) as server:
        refused = ask(server, "/queue", {"Origin": "http://there.example"})
        assert refused.status == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "http://there.example"
        assert "X-API-Key" in refused.headers["Access-Control-Allow-Headers"]


# --- keys -------------------------------------------------------------------------------------------------------


def test_keys_from_a_file_and_flags_from_the_environment(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    file.write_text(f"{KEY} laptop\n")
    file.chmod(0o600)
    env = {
        "COMFYUI_API_KEY_FILE": str(file),
        "COMFYUI_API_KEY": f"{KEY}-2",
        "COMFYUI_AUTH_FLAGS": "--auth-require-ws --auth-exempt '/my_outputs/*' --auth-exempt /queue",
    }
    with start_server(tree, env=env) as server:
        assert "an API key is required (2 in force)" in server.output
        assert "recommended" not in server.output
        for key in (KEY, f"{KEY}-2"):
            assert ask(server, "/settings", bearer(key)).status == 200
        assert ask(server, "/settings", bearer("another")).status == 401
        assert ask(server, "/my_outputs/x.png").status == 200
        assert ask(server, "/queue").status == 200
        assert ask(server, "/ws").status == 401
        file.write_text(f"{KEY}-3\n")
        deadline = time.monotonic() + 10
        while ask(server, "/settings", bearer(f"{KEY}-3")).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "canary" not in server.output


def test_the_key_is_not_handed_on(tree: Path) -> None:
    """Custom nodes, their child processes, and clients that ask for the arguments see only its digest."""
    (tree / "custom_nodes" / "nosy.py").write_text(
        "import json, os, subprocess, sys\nNODE_CLASS_MAPPINGS = {}\n"
        "print('SEEN', json.dumps([sorted(os.environ.items()), sys.argv]))\n"
        "print('CHILD', subprocess.check_output([sys.executable, '-c', 'import os; print(dict(os.environ))']))\n"
    )
    try:
        with start_server(tree, env=KEY_ENV) as server:
            assert "SEEN" in server.output
            assert "CHILD" in server.output
            assert server.output.count("sha256:") == 4  # in the variable itself, and in the one for children
            assert "canary" not in server.output
            assert "canary" not in ask(server, "/system_stats", bearer(KEY)).text
    finally:
        (tree / "custom_nodes" / "nosy.py").unlink()


@pytest.mark.parametrize("by_file", [False, True])
def test_a_restart_asks_for_the_same_key(tree: Path, tmp_path: Path, by_file: bool) -> None:
    """It restarts with `os.execv`, like ComfyUI-Manager."""
    (tmp_path / "key").write_text(KEY)
    env = {"COMFYUI_API_KEY_FILE": str(tmp_path / "key")} if by_file else KEY_ENV
    with start_server(tree, env={**env, "WITNESS_RESTARTS": "1"}) as server:
        login = ask(server, "/auth_session", bearer(KEY), method="POST")
        cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
        for banners in (1, 2):
            assert ask(server, "/restart", method="POST").status == 401
            with suppress(OSError):  # the connection ends without an answer
                ask(server, "/restart", bearer(KEY), method="POST")
            deadline = time.monotonic() + 30
            while server.output.count("To see the GUI") == banners:
                assert server.process.poll() is None, server.output
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert is_refusal(ask(server, "/queue"))
            assert ask(server, "/queue", bearer("wrong")).status == 401
            assert ask(server, "/queue", bearer(KEY)).status == 200
            assert ask(server, "/queue", cookie).status == 200
        assert "canary" not in server.output


# --- what ends the process --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "no API key; set COMFYUI_API_KEY_FILE "),
        ({"COMFYUI_API_KEY": ""}, "COMFYUI_API_KEY: the key is empty "),
        ({"COMFYUI_API_KEY": "", "COMFYUI_API_KEY_FILE": "good"}, "COMFYUI_API_KEY: the key is empty "),
        ({"COMFYUI_API_KEY": "canary key"}, "COMFYUI_API_KEY: character 7 of the key is not visible ASCII"),
        ({"COMFYUI_API_KEY": "sha256:canary"}, "COMFYUI_API_KEY: sha256: must be followed by"),
        ({"COMFYUI_API_KEY_FILE": ""}, "COMFYUI_API_KEY_FILE: the key file does not exist"),
        ({"COMFYUI_API_KEY_FILE": "missing"}, "missing: the key file does not exist"),
        ({"COMFYUI_API_KEY_FILE": "."}, ".: not a regular file"),
        ({"COMFYUI_API_KEY_FILE": "empty"}, "empty: the key file holds no key"),
        ({"COMFYUI_API_KEY_FILE": "bad"}, "bad:2: character 4 of the key"),
        ({**KEY_ENV, "COMFYUI_API_KEY_FILE": "bad"}, "bad:2: character 4 of the key"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--auth-require-w"}, "COMFYUI_AUTH_FLAGS: --auth-require-w is not a flag"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "canary"}, "COMFYUI_AUTH_FLAGS: one of its words is not a flag"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--auth-exempt"}, "COMFYUI_AUTH_FLAGS: argument --auth-exempt: expected"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "'"}, "COMFYUI_AUTH_FLAGS: No closing quotation; quote it"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--api-key canary"}, "COMFYUI_AUTH_FLAGS: --api-key is not allowed here"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--api-key=canary"}, "COMFYUI_AUTH_FLAGS: --api-key is not allowed here"),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--auth-exempt view"}, 'COMFYUI_AUTH_FLAGS: --auth-exempt: "view" '),
        ({**KEY_ENV, "COMFYUI_AUTH_FLAGS": "--auth-trusted-proxy x"}, 'COMFYUI_AUTH_FLAGS: --auth-trusted-proxy: "x" '),
    ],
    ids=str,
)
def test_bad_settings_end_it(tree: Path, env: dict[str, str], words: str) -> None:
    for name, text in {"empty": "# none\n", "bad": "good-canary\ncanäry\n", "good": KEY}.items():
        (tree / name).write_text(text, encoding="utf-8")
        (tree / name).chmod(0o600)
    assert end_of(tree, **env).startswith(words)


def test_it_never_listens_without_a_key(tree: Path) -> None:
    with pytest.raises(ServerDied) as died, start_server(tree):
        pass
    assert died.value.returncode == 2


def test_ends_without_the_package(tree: Path, tmp_path: Path) -> None:
    """First Python has all that ComfyUI needs, but not us. Then it has another package of our name."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(aiohttp.__file__).parents[1].iterdir():
        if not entry.name.startswith("comfy_auth_rs") and entry.suffix not in (".pth", ".egg-link"):
            (site / entry.name).symlink_to(entry)
    python = (sys.executable, "-S")  # only the packages in PYTHONPATH
    found = end_of(tree, python=python, PYTHONPATH=str(site), **KEY_ENV)
    assert found.startswith(
        f"the custom node in {tree / 'custom_nodes' / 'comfy-auth-rs'} cannot use comfy_auth_rs (Mod"
    )
    assert f"run `{sys.executable} -m pip install --upgrade comfy-auth-rs`, or remove that folder" in found
    for broken in ("", "raise SystemError('one\\ntwo')", "raise KeyboardInterrupt", "import sys; sys.exit(0)"):
        (site / "comfy_auth_rs").mkdir(exist_ok=True)
        (site / "comfy_auth_rs" / "__init__.py").write_text(broken)
        assert "cannot use comfy_auth_rs (" in end_of(tree, python=python, PYTHONPATH=str(site), **KEY_ENV)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "1>&- 2>&-", ">/dev/full 2>&1"])
@pytest.mark.parametrize("broken", [False, True])
def test_ends_where_nothing_can_be_printed(tree: Path, tmp_path: Path, redirected: str, broken: bool) -> None:
    (tmp_path / "comfy_auth_rs").mkdir()
    (tmp_path / "comfy_auth_rs" / "__init__.py").write_text("")
    env = {**os.environ, "PYTHONPATH": str(tmp_path) if broken else "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = f"exec {sys.executable} main.py --port {free_port()} {redirected}"
    assert subprocess.run(["sh", "-c", command], cwd=tree, env=env, timeout=30).returncode == 2


BEFORE_OURS = {
    "imports the server": ("import server", "another custom node imported server.py before ours could protect it"),
    "puts one there": (
        "import sys, types; sys.modules['server'] = types.ModuleType('server')",
        "another custom node imported server.py before ours could protect it",
    ),
}


@pytest.mark.parametrize(("script", "words"), BEFORE_OURS.values(), ids=BEFORE_OURS)
def test_ends_where_the_server_is_there_already(copy_miniature: CopyMiniature, script: str, words: str) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    (tree / "custom_nodes" / "aaa").mkdir()
    (tree / "custom_nodes" / "aaa" / "prestartup_script.py").write_text(script)
    assert end_of(tree, **KEY_ENV).startswith(words)


def test_ends_where_another_server_is_found(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    (tmp_path / "server.py").write_text("class PromptServer: pass")
    (tree / "custom_nodes" / "zzz").mkdir()
    (tree / "custom_nodes" / "zzz" / "prestartup_script.py").write_text(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})"
    )
    assert end_of(tree, **KEY_ENV).startswith(f"Python found server at {tmp_path / 'server.py'}, not in {tree}")


def test_ends_where_the_script_was_not_run(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    (tree / "custom_nodes" / "comfy-auth-rs" / "prestartup_script.py").unlink()
    assert end_of(tree, **KEY_ENV).startswith("ComfyUI did not run the custom node's prestartup_script.py")


def test_ends_where_the_server_cannot_be_patched(copy_miniature: CopyMiniature) -> None:
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    source = (tree / "server.py").read_text()
    (tree / "server.py").write_text(
        source.replace("self.app = web.Application(", "self.app = application = web.Application(")
    )
    assert end_of(tree, **KEY_ENV).startswith("server.py: `self.app = web.Application(middlewares=...)` was not found")


def test_ends_where_it_is_patched_too(copy_miniature: CopyMiniature) -> None:
    """Two installations have two sources of keys. If you removed one, you wouldn't know which keys the other uses."""
    tree = copy_miniature(patched=False)
    custom_node.install(tree)
    words = f"{tree} is patched, or was started with `comfy-auth-rs run`, and has the custom node too"
    command = [sys.executable, "-m", "comfy_auth_rs", "run", tree, "--", "--api-key", KEY]
    result = subprocess.run(command, env={**os.environ, **KEY_ENV}, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr.startswith(f"{ERROR}{words}")) == (2, True)
    patch(tree)
    assert end_of(tree, **KEY_ENV).startswith(words)
    assert end_of(tree, "--api-key", KEY).startswith(words)


# --- switched off -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (("--disable-all-custom-nodes",), 200),
        (("--disable-all-custom-nodes", "--whitelist-custom-nodes", "witness"), 200),
        (("--disable-all-custom-nodes", "--whitelist-custom-nodes", "comfy-auth-rs"), 401),
    ],
    ids=str,
)
def test_comfyui_can_switch_it_off_and_doctor_says_so(tree: Path, flags: tuple[str, ...], status: int) -> None:
    with start_server(tree, *flags, env=KEY_ENV) as server:
        assert ask(server, "/queue").status == status
        command = [sys.executable, "-m", "comfy_auth_rs", "doctor", tree, "--port", str(server.port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == (1 if status == 200 else 0)
    assert f"ok      Custom node  written by version {__version__}" in result.stdout
    assert "--disable-all-custom-nodes" in result.stdout
    assert "--whitelist-custom-nodes comfy-auth-rs" in result.stdout
    assert ("answers everyone on this machine without a key" in result.stdout) == (status == 200)


# --- the folder -------------------------------------------------------------------------------------------------


def test_installs_and_uninstalls(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = {file: file.read_bytes() for file in tree.rglob("*") if file.is_file()}
    node = tree / "custom_nodes" / "comfy-auth-rs"
    changed = custom_node.install(tree)
    assert changed == [node / "prestartup_script.py", node / "__init__.py"]
    assert sum(len(file.read_text().splitlines()) for file in changed) < 40
    for text in (file.read_text() for file in changed):
        assert str(tmp_path) not in text
        assert "API_KEY" not in text
    assert custom_node.install(tree) == []
    assert custom_node.state(node) == (__version__, None)
    (node / "__pycache__").mkdir()
    (node / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"")
    assert custom_node.uninstall(tree) == node
    assert custom_node.uninstall(tree) is None
    assert {file: file.read_bytes() for file in tree.rglob("*") if file.is_file()} == before


def test_installs_under_a_base_directory(tmp_path: Path) -> None:
    tree, base = make_tree(tmp_path / "tree"), tmp_path / "base"
    with pytest.raises(PatchError, match="no such folder"):
        custom_node.install(tree, base)
    base.mkdir()
    custom_node.install(tree, base)
    assert custom_node.state(base / "custom_nodes" / "comfy-auth-rs") == (__version__, None)
    assert not (tree / "custom_nodes").exists()
    custom_node.uninstall(tree, base)
    assert list((base / "custom_nodes").iterdir()) == []


def test_an_older_version_is_replaced(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    [script, init] = custom_node.install(tree)
    init.write_text("# Written by comfy-auth-rs 0.0.1; it did other things.\n")
    script.write_text(script.read_text().replace(__version__, "0.0.1"))
    version, fault = custom_node.state(script.parent)
    assert version == "0.0.1"
    assert "install-node` again" in fault
    assert custom_node.install(tree) == [script, init]
    assert custom_node.state(script.parent) == (__version__, None)


@pytest.mark.parametrize("name", ["notes.txt", "web", "__init__.py", "prestartup_script.py"])
def test_leaves_what_is_not_ours(tmp_path: Path, name: str) -> None:
    tree = make_tree(tmp_path / "tree")
    node = tree / "custom_nodes" / "comfy-auth-rs"
    node.mkdir(parents=True)
    (node / name).write_text("mine") if "." in name else (node / name).mkdir()
    for change in (custom_node.install, custom_node.uninstall):
        with pytest.raises(PatchError, match=f"comfy-auth-rs: it holds {name}, which is not ours"):
            change(tree)
    assert [entry.name for entry in node.iterdir()] == [name]


def test_a_copy_from_the_registry_is_ours_but_not_ours_to_remove(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    [script, _] = custom_node.install(tree)
    (script.parent / "pyproject.toml").write_text("")
    script.write_text(script.read_text().replace(__version__, "0.0.1"))
    assert custom_node.install(tree) == [script]
    with pytest.raises(PatchError, match=r"it holds pyproject\.toml too; remove it the way you installed it"):
        custom_node.uninstall(tree)
    assert custom_node.state(script.parent) == (__version__, None)


def test_leaves_a_file_or_a_link_of_that_name(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    node = tree / "custom_nodes" / "comfy-auth-rs"
    node.parent.mkdir()
    node.write_text("mine")
    with pytest.raises(PatchError, match="is not ours"):
        custom_node.install(tree)
    node.unlink()
    node.symlink_to(tmp_path / "elsewhere")
    for change in (custom_node.install, custom_node.uninstall):
        with pytest.raises(PatchError, match="is not ours"):
            change(tree)
    assert node.is_symlink()


def test_refuses_what_is_not_comfyui(tmp_path: Path) -> None:
    for change in (custom_node.install, custom_node.uninstall):
        with pytest.raises(PatchError, match="not a ComfyUI folder"):
            change(tmp_path)


def test_one_of_the_two_is_enough(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    patch(tree)
    with pytest.raises(
        PatchError, match="it is patched already, and one of the two is enough; run `comfy-auth-rs unpatch`"
    ):
        custom_node.install(tree)
    assert not (tree / "custom_nodes").exists()


def test_the_command(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "comfy_auth_rs", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    node = tree / "custom_nodes" / "comfy-auth-rs"
    files = [str(node / "prestartup_script.py"), str(node / "__init__.py")]
    assert json.loads(run("install-node", tree, "--json").stdout) == {"changed": files}
    assert run("install-node", tree).stdout == f"{tree} has the custom node already; nothing changed.\n"
    refused = run("patch", tree)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert (
        "it already has the custom node, and one of the two is enough; run `comfy-auth-rs uninstall-node`"
        in refused.stderr
    )
    assert run("uninstall-node", tree).stdout == f"Removed: {node}.\n"
    assert run("uninstall-node", tree).stdout == f"{tree} doesn't have our custom node; nothing changed.\n"
    written = run("install-node", tree).stdout
    assert written.startswith(f"Written: {', '.join(files)}.\n")
    assert "COMFYUI_API_KEY_FILE=FILE" in written
    (node / "__init__.py").write_text("mine")
    assert run("uninstall-node", tree).returncode == 2


def test_doctor_knows_the_custom_node(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")

    def found(*args: object) -> dict[str, tuple[str, str]]:
        command = [sys.executable, "-m", "comfy_auth_rs", "doctor", tree, "--json", "--port", str(free_port()), *args]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
        return {check["name"]: (check["state"], check["detail"]) for check in json.loads(result.stdout)["checks"]}

    assert "Custom node" not in found()
    [script, _] = custom_node.install(tree)
    assert "Patch" not in found()
    assert found()["Custom node"][0] == "note"  # it can be switched off; the table has the same state
    script.write_text(script.read_text().replace("protect", "pass_by"))
    assert (found()["Custom node"][0], "it was edited" in found()["Custom node"][1]) == ("unsafe", True)
    custom_node.install(tree)
    patch(tree)
    assert (found()["Custom node"][0], "ComfyUI will not start" in found()["Custom node"][1]) == ("unsafe", True)
    base = tmp_path / "base"
    base.mkdir()
    assert "Custom node" not in found("--base-directory", base)
