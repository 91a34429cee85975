"""What other custom nodes do next to us: middlewares at position 0, another list, pages, routes with our names.

Tested on a copy of the ComfyUI that `COMFYUI_DIR` names, with the Python `COMFYUI_PYTHON`; otherwise on the miniature.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import comfy_auth_rs
import pytest
from comfy_auth_rs.comfyui import custom_node
from comfy_auth_rs.comfyui.tree import patch
from support.client import BROWSER, Answer, ask, bearer, is_refusal
from support.keys import KEY, WRONG_KEY
from support.servers import REAL_STARTS_WITHIN, Server, ServerDied, start_server

REAL = os.environ.get("COMFYUI_DIR")

#: The folder that makes this package importable.
PACKAGE = str(Path(comfy_auth_rs.__file__).parents[1])

WAYS = ("patch", "run", "custom node")

#: Middlewares of nodes that answer, cache, change, count, raise and wipe. Each notes that it ran.
MISCHIEF = {
    "answers": 'return web.Response(text="mischief")',
    "caches": "response = await handler(request)\n    return kept.setdefault(request.path, response)",
    "changes": 'response = await handler(request)\n    response.headers["X-Mischief"] = "changed"\n    return response',
    "counts": "kept[request.path] = kept.get(request.path, 0) + 1\n    return await handler(request)",
    "raises": 'raise web.HTTPTeapot() if hasattr(web, "HTTPTeapot") else web.HTTPConflict()',
    "wipes": "PromptServer.instance.prompt_queue.wipe_queue()\n    return await handler(request)",
}

NODE = """\
import os
from aiohttp import web
from server import PromptServer

kept = {{}}


@web.middleware
async def {name}(request, handler):
    with open(os.environ["MISCHIEF"], "a") as file:
        file.write("{name} " + request.method + " " + request.path + chr(10))
    {does}


PromptServer.instance.app.middlewares.insert(0, {name})
NODE_CLASS_MAPPINGS = {{}}
"""

ANOTHER_LIST = """
from frozenlist import FrozenList
PromptServer.instance.app._middlewares = {made}
"""

PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}


def add_node(tree: Path, name: str, text: str) -> None:
    folder = tree / "custom_nodes" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(text)


def add_mischief(tree: Path, names: tuple[str, ...] = tuple(MISCHIEF)) -> None:
    for name in names:
        add_node(tree, f"mischief_{name}", NODE.format(name=name, does=MISCHIEF[name]))


@pytest.fixture
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of ComfyUI that tests may write to."""
    if REAL is None:
        return Path(request.getfixturevalue("copy_miniature")(patched=False))

    def ignore(directory: str, names: list[str]) -> set[str]:
        data = {".git", "models", "input", "output", "user", "temp"} if Path(directory) == Path(REAL) else set()
        return data | {"__pycache__"}

    tree = Path(shutil.copytree(REAL, tmp_path / "ComfyUI", ignore=ignore, symlinks=True))
    for name in ("models", "input", "output", "user"):
        (tree / name).mkdir()
    return tree


def start(
    tree: Path, *flags: str, env: dict[str, str] | None = None, command: Sequence[str] = ("main.py",)
) -> AbstractContextManager[Server]:
    if REAL is None:
        return start_server(tree, *flags, env=env, command=command)
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    flags = ("--cpu", "--database-url", "sqlite:///:memory:", *flags)
    env = {"HF_HUB_OFFLINE": "1", **(env or {})}
    return start_server(tree, *flags, env=env, command=command, python=python, timeout=REAL_STARTS_WITHIN)


@contextmanager
def started(tree: Path, way: str, *flags: str, **env: str) -> Iterator[Server]:
    """Starts the ComfyUI in `tree`, which must be a copy, with the key in force."""
    environment = {"PYTHONPATH": PACKAGE, **env}
    command = ["main.py"]
    if way == "patch":
        patch(tree)
    elif way == "run":
        command = ["-m", "comfy_auth_rs", "run", str(tree), "--"]
    else:
        custom_node.install(tree)
        environment["COMFYUI_API_KEY"] = KEY
    if way != "custom node":
        flags = ("--api-key", KEY, *flags)
    with start(tree, *flags, env=environment, command=command) as server:
        yield server
        assert KEY not in server.output


# --- responses --------------------------------------------------------------------------------------------------

SENDER = """\
from aiohttp import web
from server import PromptServer

@PromptServer.instance.routes.get("/sender")
async def sender(request):
    return web.Response(text=type(request.app.on_response_prepare.send).__name__)

NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.parametrize("way", WAYS)
def test_where_no_node_looks_at_responses_aiohttp_calls_us_directly(tree: Path, way: str) -> None:
    shutil.rmtree(tree / "custom_nodes/witness", ignore_errors=True)  # it looks at them
    add_node(tree, "sender", SENDER)
    with started(tree, way) as server:
        answer = ask(server, "/sender", bearer(KEY))
    assert (answer.text, answer.headers["Cache-Control"]) == ("BeforeSending", "private")


# --- middlewares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--enable-cors-header", "https://app.example")], ids=["", "cors"])
@pytest.mark.parametrize("way", WAYS)
def test_no_middleware_of_a_node_runs_for_what_is_answered_at_the_gate(
    tree: Path, tmp_path: Path, way: str, flags: tuple[str, ...]
) -> None:
    add_mischief(tree)
    noted = tmp_path / "mischief"
    noted.touch()
    with started(tree, way, *flags, MISCHIEF=str(noted)) as server:
        assert is_refused(ask(server, "/object_info"))
        assert is_refused(ask(server, "/api/queue", bearer(WRONG_KEY)))
        assert is_refused(ask(server, "/no/such/path"))
        assert is_refused(ask(server, "/queue", method="POST", body=b'{"clear": true}'))
        assert ask(server, "/", BROWSER).status == 302
        # Without the flag, ComfyUI refuses other origins if the host is a loopback address.
        same_origin = {**PREFLIGHT, "Origin": server.url}
        for target in ("/object_info", "/api/prompt", "/health", "/", "/no/such/path"):
            for credential in ({}, bearer(KEY), bearer(WRONG_KEY)):
                assert ask(server, target, {**PREFLIGHT, **credential}, method="OPTIONS").status == (
                    200 if flags else 403
                )
                assert ask(server, target, {**same_origin, **credential}, method="OPTIONS").status == 200
        for target in ("/health", "/api/health"):
            assert ask(server, target).json["status"] == "ok"
            assert ask(server, target, bearer(KEY)).json["status"] == "ok"
        for target in ("/auth_login.html", "/api/auth_login.html", "/auth_link.js", "/auth_inject.js"):
            assert ask(server, target).status == 200
        assert ask(server, "/auth_verify", bearer(KEY)).status == 204
        assert ask(server, "/auth_session", bearer(KEY), method="POST").status == 204
        assert ask(server, "/auth_session", method="DELETE").status == 204
        link = ask(server, f"/?api_key={KEY}", BROWSER)
        assert (link.status, "Set-Cookie" in link.headers) == (200, True)
        told = ask(server, "/auth_session", bearer(KEY)).json
        assert noted.read_text() == ""
        assert [name.rpartition(".")[2] for name in told["displaced_middlewares"]] != []
        assert {name.rpartition(".")[2] for name in told["displaced_middlewares"]} == set(MISCHIEF)
        (line,) = [line for line in server.output.splitlines() if "run after ours" in line]
        assert all(name in line for name in told["displaced_middlewares"])
        ask(server, "/object_info", bearer(KEY))
        assert "GET /object_info" in noted.read_text(), "they do run once a request is admitted"


def is_refused(answer: Answer) -> bool:
    return answer.status == 401 and b'"error": "unauthorized"' in answer.body


@pytest.mark.parametrize("way", WAYS)
def test_a_node_that_remembers_answers_gives_them_to_nobody_else(tree: Path, tmp_path: Path, way: str) -> None:
    add_mischief(tree, ("caches",))
    with started(tree, way, MISCHIEF=str(tmp_path / "mischief")) as server:
        assert ask(server, "/object_info", bearer(KEY)).status == 200
        assert is_refused(ask(server, "/object_info"))
        preflight = ask(server, "/object_info", PREFLIGHT, method="OPTIONS")
        assert (preflight.status, preflight.body) == (403, b"")  # like ComfyUI: another origin, on a loopback name


@pytest.mark.parametrize(
    "made",
    [
        "FrozenList([answers])",
        "[answers, *PromptServer.instance.app.middlewares]",
        "(answers,)",
        "FrozenList([answers, *list(PromptServer.instance.app.middlewares)])",
    ],
)
def test_another_list_in_its_place(tree: Path, tmp_path: Path, made: str) -> None:
    add_node(
        tree,
        "mischief_answers",
        NODE.format(name="answers", does=MISCHIEF["answers"]) + ANOTHER_LIST.format(made=made),
    )
    noted = tmp_path / "mischief"
    with started(tree, "patch", MISCHIEF=str(noted)) as server:
        assert is_refused(ask(server, "/queue"))
        assert not noted.exists()
        assert ask(server, "/queue", bearer(KEY)).text == "mischief"
        names = ask(server, "/auth_session", bearer(KEY)).json["displaced_middlewares"]
        assert [name.rpartition(".")[2] for name in names] == ["answers"]


def test_nothing_is_said_where_nothing_was_displaced(tree: Path) -> None:
    with started(tree, "patch") as server:
        told = ask(server, "/auth_session", bearer(KEY)).json
        assert (told["scope"], told["source"], told["displaced_middlewares"]) == ("all", "bearer", [])
        assert "run after ours" not in server.output
        assert is_refusal(ask(server, "/auth_session"))


def test_doctor_asks_the_running_server(tree: Path, tmp_path: Path) -> None:
    add_mischief(tree, ("counts", "wipes"))
    key_file = tmp_path / "keys"
    key_file.write_text(f"# for doctor\n{KEY} me\n")
    key_file.chmod(0o600)
    with started(tree, "patch", MISCHIEF=str(tmp_path / "mischief")) as server:
        found = middlewares_of_doctor(tree, server.port, key_file)
        assert found["state"] == "note"
        assert found_by_doctor(tree, server.port, key_file, "WebSocket")["state"] == "note"
        assert "counts" in found["detail"]
        assert "wipes" in found["detail"]
        key_file.write_text(f"{WRONG_KEY}\n")
        assert "rejects the first key" in middlewares_of_doctor(tree, server.port, key_file)["detail"]
        key_file.write_text("sha256:" + 64 * "0")
        assert "no key in plain text" in middlewares_of_doctor(tree, server.port, key_file)["detail"]
    key_file.write_text(f"{KEY}\n")
    assert "was not sent" in middlewares_of_doctor(tree, server.port, key_file)["detail"]


def test_doctor_tries_the_websocket(tree: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o600)
    with started(tree, "patch", "--auth-require-ws") as server:
        found = found_by_doctor(tree, server.port, key_file, "WebSocket")
        assert (found["state"], found["detail"]) == ("ok", "/ws asks for the key")


def middlewares_of_doctor(tree: Path, port: int, key_file: Path) -> dict[str, str]:
    return found_by_doctor(tree, port, key_file, "Middlewares")


def found_by_doctor(tree: Path, port: int, key_file: Path, name: str) -> dict[str, str]:
    command = [sys.executable, "-m", "comfy_auth_rs", "doctor", str(tree), "--port", str(port), "--json"]
    result = subprocess.run([*command, "--key-file", str(key_file)], capture_output=True, text=True)
    assert KEY not in result.stdout + result.stderr
    (found,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == name]
    return dict(found)


# --- CORS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_is_answered_at_the_gate_has_comfyuis_cors_headers(tree: Path, way: str) -> None:
    app = "https://app.example"
    with started(tree, way, "--enable-cors-header", app) as server:
        for method, target, headers, status in [
            ("GET", "/queue", {}, 401),
            ("OPTIONS", "/queue", {}, 401),
            ("OPTIONS", "/queue", PREFLIGHT, 200),
            ("OPTIONS", "/queue", {**PREFLIGHT, **bearer(KEY)}, 200),
            ("GET", "/", BROWSER, 302),
            ("GET", "/health", {}, 200),
            ("GET", "/auth_login.html", {}, 200),
            ("GET", "/auth_session", bearer(KEY), 200),
            ("GET", "/queue", bearer(KEY), 200),
        ]:
            answer = ask(server, target, {"Origin": app, **headers}, method=method)
            assert answer.status == status, (method, target)
            assert answer.headers.getall("Access-Control-Allow-Origin") == [app]
            assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type, Authorization, X-API-Key"


# --- the page ---------------------------------------------------------------------------------------------------

TAG = '<script src="auth_inject.js"></script>'

PAGES = {
    "text": "return web.Response(text=PAGE, content_type='text/html')",
    "bytes": "return web.Response(body=PAGE.encode(), content_type='text/html', charset='utf-8')",
    "a payload": "return web.Response(body=io.BytesIO(PAGE.encode()), content_type='text/html')",
    "compressed later": "r = web.Response(text=PAGE, content_type='text/html'); r.enable_compression(); return r",
    "a file": "open(FILE, 'w').write(PAGE); return web.FileResponse(FILE, headers={'ETag': '\"theirs\"'})",
    "with validators": (
        "return web.Response(text=PAGE, content_type='text/html',"
        " headers={'ETag': '\"theirs\"', 'Last-Modified': 'Sat, 28 Nov 2026 00:00:00 GMT'})"
    ),
    "raised": "raise web.HTTPOk(text=PAGE, content_type='text/html')",
    "changed": "r = await handler(request); r.body = r.body.replace(b'</body>', b'<i>mine</i></body>'); return r",
}

PAGE_NODE = """\
import io, os
from aiohttp import web
from server import PromptServer

PAGE = "<!DOCTYPE html><html><head><title>mine</title></head><body>gr\\u00fc\\u00df <i>mine</i></body></html>"
FILE = os.path.join(os.path.dirname(__file__), "mine.html")


@web.middleware
async def page(request, handler):
    if request.path in ("/", "/api/"):
        {does}
    return await handler(request)


PromptServer.instance.app.middlewares.insert(0, page)
NODE_CLASS_MAPPINGS = {{}}
"""

REPLACING_NODE = """\
from aiohttp import web
from server import PromptServer


async def replace(request, response):
    if request.path == "/" and getattr(response, "body", None):
        response.body = b"<html><head></head><body><i>mine</i>" + 5000 * b"." + b"</body></html>"


PromptServer.instance.app.on_response_prepare.append(replace)
NODE_CLASS_MAPPINGS = {}
"""


def assert_page(server: Server, *, times: int = 1) -> None:
    """The script is in the page once, first in its head. The length is right, even for HEAD. Links with a key work."""
    for headers in ({}, {"Accept-Encoding": "identity"}):
        page = ask(server, "/", {**BROWSER, **bearer(KEY), **headers})
        assert page.status == 200
        assert page.text.count(TAG) == times
        assert re.search("<head>" + TAG if times else "<i>mine</i>", page.text)
        assert "<i>mine</i>" in page.text
        assert int(page.headers["Content-Length"]) == len(page.body)
        assert page.headers.get("ETag") != '"theirs"'
        assert "Last-Modified" not in page.headers
    head = ask(server, "/", {**BROWSER, **bearer(KEY)}, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, page.headers["Content-Length"])
    link = ask(server, f"/?api_key={KEY}&x=1", {**BROWSER, "Sec-Fetch-Site": "none"})
    assert 'content="0;url=./?x=1"' in link.text
    cookie = {"Cookie": link.headers["Set-Cookie"].split(";")[0]}
    assert TAG in ask(server, "/", {**BROWSER, **cookie}).text


@pytest.mark.parametrize("kind", PAGES)
def test_the_script_is_in_the_page_of_a_node(tree: Path, kind: str) -> None:
    add_node(tree, "page", PAGE_NODE.format(does=PAGES[kind]))
    with started(tree, "patch") as server:
        assert_page(server)


@pytest.mark.parametrize("way", WAYS)
def test_the_script_is_in_a_page_that_is_replaced_at_last(tree: Path, way: str) -> None:
    add_node(tree, "page", REPLACING_NODE)
    with started(tree, way) as server:
        assert_page(server)


def test_a_compressed_page(tree: Path) -> None:
    add_node(tree, "page", PAGE_NODE.format(does=PAGES["compressed later"]))
    with started(tree, "patch") as server:
        packed = ask(server, "/", {**BROWSER, **bearer(KEY), "Accept-Encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert TAG in gzip.decompress(packed.body).decode()
        assert int(packed.headers["Content-Length"]) == len(packed.body)


SENT = """
        r = web.StreamResponse(headers={'Content-Type': 'text/html'})
        await r.prepare(request)
        await r.write(PAGE.encode())
        await r.write_eof()
        return r
"""
PACKED = """
        import gzip
        headers = {'Content-Type': 'text/html', 'Content-Encoding': 'gzip'}
        return web.Response(body=gzip.compress(PAGE.encode()), headers=headers)
"""


@pytest.mark.parametrize("does", [SENT, PACKED], ids=["being sent", "compressed"])
def test_what_cannot_be_changed_stays_as_it_is(tree: Path, does: str) -> None:
    add_node(tree, "page", PAGE_NODE.format(does=does.strip()))
    with started(tree, "patch") as server:
        for _ in range(2):
            page = ask(server, "/", {**BROWSER, **bearer(KEY)})
            assert page.status == 200
            assert TAG.encode() not in page.body
        assert server.output.count("the login script is not in it") == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_link_on_another_site(tree: Path, way: str) -> None:
    """The link leads to the login page, and from there to ComfyUI."""
    link = {**BROWSER, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with started(tree, way) as server:
        first = ask(server, "/", link)
        assert (first.status, first.headers["Location"]) == (302, "auth_login.html?next=%2F")
        assert "<form" in ask(server, "/auth_login.html?next=%2F", link).text
        admitted = ask(server, "/", {**link, **bearer(KEY)})
        assert admitted.status == 200
        assert 'content="0;url=./"' in admitted.text
        assert TAG in ask(server, "/", {**link, **bearer(KEY), "Sec-Fetch-Site": "same-origin"}).text


# --- routes -----------------------------------------------------------------------------------------------------

HEALTH_NODE = """\
from aiohttp import web
from server import PromptServer


@PromptServer.instance.routes.get("/health")
async def theirs(request):
    return web.Response(text="theirs")


NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_health_route_of_a_node(tree: Path, way: str) -> None:
    add_node(tree, "health", HEALTH_NODE)
    with started(tree, way) as server:
        for target in ("/health", "/api/health"):
            assert ask(server, target).json["status"] == "ok"
        assert "/health is answered by comfy-auth-rs, not by " in server.output


# --- ComfyUI's registry of providers ----------------------------------------------------------------------------

AUTH_MODULE = '''\
"""The contract of ComfyUI's registry of authentication providers: who may come first."""

import logging

_providers = {}


def register_auth_provider(name, middleware):
    """Records a provider; it protects nothing by itself."""
    if not name:
        raise ValueError("a provider needs a name")
    if not callable(middleware):
        raise TypeError("a provider's middleware is called")
    _providers[name] = middleware
    logging.info("Auth provider registered: %s", name)


def verify_auth_provider(middlewares):
    """Raises unless a registered provider's middleware is the very first."""
    if not middlewares or not any(middleware is middlewares[0] for middleware in _providers.values()):
        raise RuntimeError("--require-auth: no registered provider is first")
'''


def require_auth(tree: Path) -> None:
    """Adds that registry to a tree, with a check before and after ComfyUI adds its routes."""
    (tree / "comfy" / "auth.py").write_text(AUTH_MODULE)
    arguments = tree / "comfy" / "cli_args.py"
    text = arguments.read_text()
    flag = 'parser.add_argument("--require-auth", action="store_true")\n\n'
    at = re.search(r"^if comfy.options.args_parsing", text, re.M)
    assert at
    arguments.write_text(text[: at.start()] + flag + text[at.start() :])
    main = tree / "main.py"
    text = main.read_text()
    add = re.search(r"^( +)prompt_server\.add_routes\(\)\n", text, re.M)
    assert add
    indent = add[1]
    check = (
        f"{indent}if args.require_auth:\n{indent}    from comfy.auth import verify_auth_provider\n"
        f"{indent}    verify_auth_provider(prompt_server.app.middlewares)\n"
    )
    main.write_text(text[: add.start()] + check + add[0] + check + text[add.end() :])


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_provider_that_comfyui_requires(tree: Path, tmp_path: Path, way: str) -> None:
    require_auth(tree)
    add_mischief(tree)
    with started(tree, way, "--require-auth", MISCHIEF=str(tmp_path / "mischief")) as server:
        assert "Auth provider registered: comfy-auth-rs" in server.output
        assert is_refused(ask(server, "/queue"))


def test_without_a_provider_it_does_not_start(tree: Path) -> None:
    require_auth(tree)
    patch(tree)
    package = {"PYTHONPATH": PACKAGE}
    with pytest.raises(ServerDied, match="no registered provider is first"), start(tree, "--require-auth", env=package):
        pytest.fail("it started")


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_package_does_not_start(tree: Path, tmp_path: Path, way: str) -> None:
    require_auth(tree)
    broken = tmp_path / "broken"
    compiled = shutil.ignore_patterns("_core*.so", "_core*.pyd")
    shutil.copytree(Path(comfy_auth_rs.__file__).parent, broken / "comfy_auth_rs", ignore=compiled)
    with (
        pytest.raises(ServerDied) as died,
        started(tree, way, "--require-auth", PYTHONPATH=str(broken)) as server,
    ):
        pytest.fail(f"it listens: {server.output}")
    assert died.value.returncode not in (0, None)
    assert "_core" in died.value.output
