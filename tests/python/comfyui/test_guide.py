"""Every statement of ComfyUI's authentication guide, tried by someone who has only the guide.

Commands and examples are copied from the guide. Only the port is replaced, and the key, to see what a wrong key does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from comfy_auth_rs.comfyui.tree import patch, unpatch
from support.client import BROWSER, ask, bearer
from support.servers import Server, start_server

GUIDE_ADDRESS = "127.0.0.1:8188"
GUIDE_KEY = "your-api-key"
WRONG = "not-your-api-key"

StartGuideServer = Callable[..., AbstractContextManager[Server]]

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="the JavaScript example needs node")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the guide makes its keys with openssl")


def shell(server: Server | None, commands: str, cwd: Path | None = None) -> str:
    """Types the commands into bash, with the address of `server` in place of the guide's. Returns what they print."""
    if server is not None:
        commands = commands.replace(GUIDE_ADDRESS, f"127.0.0.1:{server.port}")
    result = subprocess.run(["bash", "-ec", commands], cwd=cwd, capture_output=True, text=True, check=True, timeout=20)
    return result.stdout


@pytest.fixture(scope="module")
def start(copy_miniature: Callable[..., Path]) -> StartGuideServer:
    """Types commands that end by starting ComfyUI, in a new tree or in `tree`."""

    def start(commands: str, *args: str, tree: Path | None = None) -> AbstractContextManager[Server]:
        # `exec`, so that stopping the process stops the server, and not a shell around it.
        script = re.sub(r"^python3 main\.py.*$", r'exec \g<0> "$@"', commands, flags=re.MULTILINE)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return start_server(
            tree or copy_miniature(), *args, env={"PATH": path}, python="bash", command=("-ec", script, "bash")
        )

    return start


@pytest.fixture(scope="module")
def guide(start: StartGuideServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the key of the guide's API examples, and a frontend with one file of each type in the guide."""
    frontend = tmp_path_factory.mktemp("frontend")
    for suffix in STATIC_FILES.split():
        (frontend / f"file{suffix}").write_text(f"a {suffix} file")
    for name in ("index.html", "file.txt", "file"):
        (frontend / name).write_text("<!doctype html><html><head></head></html>")
    with start(f'python3 main.py --api-key "{GUIDE_KEY}"', "--front-end-root", str(frontend)) as server:
        yield server


# --- Quick Start ------------------------------------------------------------------------------------------------

STARTS = {
    "Using command line argument": """\
python3 main.py --api-key "your-secure-api-key-here"
""",
    "Or using a file (recommended for production)": """\
echo "your-secure-api-key-here" > api_key.txt
python3 main.py --api-key-file api_key.txt
""",
    "Environment Variables": """\
echo "your-secure-api-key-here" > api_key.txt
chmod 600 api_key.txt
export COMFYUI_API_KEY=$(cat api_key.txt)
python3 main.py --api-key "$COMFYUI_API_KEY"
""",
}


@pytest.mark.parametrize("commands", STARTS.values(), ids=STARTS)
def test_start_server_with_api_key(start: StartGuideServer, commands: str) -> None:
    with start(commands) as server:
        assert ask(server, "/queue").status == 401
        assert ask(server, "/queue", bearer(WRONG)).status == 401
        assert ask(server, "/queue", bearer("your-secure-api-key-here")).status == 200


@needs_openssl
def test_generated_keys_work(start: StartGuideServer) -> None:
    """Keys with `+`, `/` and `=` work in every place where a key may be."""
    key = ""
    while not {"+", "/", "="} <= set(key):
        key = shell(None, "openssl rand -base64 32").strip()
        assert len(key) == 44
    commands = f"echo '{key}' > api_key.txt\nchmod 600 api_key.txt\npython3 main.py --api-key-file api_key.txt"
    with start(commands) as server:
        assert ask(server, "/prompt").status == 401
        for command in (c.replace(GUIDE_KEY, key) for c in CURLS):
            assert json.loads(shell(server, command)) == EMPTY_QUEUE, command
        assert requests.get(f"{server.url}/prompt", params={"api_key": key}).status_code == 200
        assert "shorter" not in server.output


def test_key_file_in_a_safe_place(start: StartGuideServer, tmp_path: Path) -> None:
    """`python3 main.py --api-key-file /secure/path/api_key.txt` and `chmod 600 api_key.txt`."""
    secure = tmp_path / "secure" / "path"
    secure.mkdir(parents=True)
    (secure / "api_key.txt").write_text("a-key-of-at-least-thirty-two-characters\n")
    command = "python3 main.py --api-key-file /secure/path/api_key.txt".replace("/secure/path", str(secure))
    for mode, warned in (("644", True), ("600", False)):
        shell(None, f"chmod {mode} api_key.txt", cwd=secure)
        with start(command) as server:
            assert ask(server, "/queue", bearer("a-key-of-at-least-thirty-two-characters")).status == 200
            assert ("chmod 600" in server.output) == warned


def test_opening_comfyui_leads_to_the_login_page(guide: Server) -> None:
    address = shell(
        guide, f"curl -sS -o /dev/null -w '%{{redirect_url}}' -H 'Accept: text/html' http://{GUIDE_ADDRESS}"
    )
    assert address == f"{guide.url}/auth_login.html?next=%2F"
    page = requests.get(guide.url, headers=BROWSER)  # follows redirects
    assert (page.status_code, page.headers["Content-Type"].split(";")[0]) == (200, "text/html")
    form = Form(page.text)
    assert form.inputs["password"] == ["api_key"]
    assert form.inputs["checkbox"] == ["remember"]
    assert "Remember me" in form.text
    assert form.buttons[-1] == "Login"


class Form(HTMLParser):
    """The login page's form: its inputs' names by type, its buttons' texts, and all its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inputs: dict[str, list[str | None]] = {}
        self.buttons: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input":
            self.inputs.setdefault(found.get("type") or "text", []).append(found.get("name"))
        if tag == "button":
            self.buttons.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.lasttag == "button" and data.strip():
            self.buttons[-1] = data.strip()


@pytest.mark.parametrize("remember", [True, False])
def test_login_and_logout(guide: Server, remember: bool) -> None:
    """Does over HTTP what the login page does: validates the key with /health, then asks for a session."""
    with requests.Session() as browser:
        assert browser.get(f"{guide.url}/health", headers=bearer(WRONG)).status_code == 401
        assert browser.get(f"{guide.url}/health", headers=bearer(GUIDE_KEY)).status_code == 200
        assert browser.get(f"{guide.url}/queue").status_code == 401
        body = {"api_key": GUIDE_KEY, "remember": remember}
        response = browser.post(f"{guide.url}/auth_session", json=body)
        assert response.status_code == 204
        assert ("Max-Age=2592000" in response.headers["Set-Cookie"]) == remember  # 30 days, or until the browser closes
        assert browser.get(f"{guide.url}/queue").json() == {"queue_running": [], "queue_pending": []}
        assert "auth_inject.js" in browser.get(guide.url, headers=BROWSER).text
        old = browser.cookies.copy()

        page = browser.get("http://127.0.0.1:8188/auth_login.html?logout=true".replace(GUIDE_ADDRESS, guide.url[7:]))
        assert page.status_code == 200
        assert "<form" in page.text
        assert browser.get(f"{guide.url}/queue").status_code == 200  # the page's script or its button logs out
        response = browser.post(f"{guide.url}/auth_session", {"logout": "true"}, headers={"Origin": guide.url})
        assert response.url == f"{guide.url}/auth_login.html?reason=logout#ended"
        assert browser.get(f"{guide.url}/queue").status_code == 401
        assert requests.get(f"{guide.url}/queue", cookies=old).status_code == 401  # an old copy doesn't work either


# --- API Usage --------------------------------------------------------------------------------------------------

CURLS = [
    'curl -H "Authorization: Bearer your-api-key" http://127.0.0.1:8188/prompt',
    'curl -H "X-API-Key: your-api-key" http://127.0.0.1:8188/prompt',
    'curl "http://127.0.0.1:8188/prompt?api_key=your-api-key"',
]
EMPTY_QUEUE = {"exec_info": {"queue_remaining": 0}}


@pytest.mark.parametrize("command", CURLS)
def test_authentication_methods(guide: Server, command: str) -> None:
    assert json.loads(shell(guide, command)) == EMPTY_QUEUE
    assert json.loads(shell(guide, command.replace(GUIDE_KEY, WRONG)))["error"] == "unauthorized"
    for without in (command.replace(GUIDE_KEY, ""), 'curl "http://127.0.0.1:8188/prompt"'):
        assert json.loads(shell(guide, without))["error"] == "unauthorized"
    status = command.replace("curl", "curl -s -o /dev/null -w '%{http_code}'")
    assert shell(guide, status) == "200"
    assert shell(guide, status.replace(GUIDE_KEY, WRONG)) == "401"


PYTHON_EXAMPLE = """\
import requests

API_KEY = "your-api-key"
BASE_URL = "http://127.0.0.1:8188"

# Using Bearer token
headers = {"Authorization": f"Bearer {API_KEY}"}
response = requests.get(f"{BASE_URL}/queue", headers=headers)

# Using X-API-Key header
headers = {"X-API-Key": API_KEY}
response = requests.get(f"{BASE_URL}/queue", headers=headers)

# Using query parameter
response = requests.get(f"{BASE_URL}/queue?api_key={API_KEY}")
"""


@pytest.mark.parametrize(("key", "status"), [(GUIDE_KEY, 200), (WRONG, 401), ("", 401)])
def test_python_example(guide: Server, key: str, status: int) -> None:
    example = PYTHON_EXAMPLE.replace(GUIDE_ADDRESS, guide.url[7:]).replace(f'"{GUIDE_KEY}"', f'"{key}"')
    namespace: dict[str, Any] = {}
    responses = []
    for paragraph in example.split("\n\n"):
        exec(paragraph, namespace)
        responses.append(namespace.pop("response", None))
    seen = [response for response in responses if response is not None]
    assert [response.status_code for response in seen] == [status] * 3
    for response in seen:
        assert set(response.json()) >= ({"queue_running", "queue_pending"} if status == 200 else {"error"})


JAVASCRIPT_EXAMPLE = """\
const API_KEY = "your-api-key";
const BASE_URL = "http://127.0.0.1:8188";

// Using Bearer token
fetch(`${BASE_URL}/queue`, {
    headers: {
        "Authorization": `Bearer ${API_KEY}`
    }
})
.then(response => response.json())
.then(data => console.log(data));
"""


@needs_node
@pytest.mark.parametrize(
    ("key", "printed"),
    [
        (GUIDE_KEY, "{ queue_running: [], queue_pending: [] }"),
        (WRONG, "error: 'unauthorized'"),
        ("", "error: 'unauthorized'"),
    ],
)
def test_javascript_example(guide: Server, key: str, printed: str) -> None:
    example = JAVASCRIPT_EXAMPLE.replace(GUIDE_ADDRESS, guide.url[7:]).replace(f'"{GUIDE_KEY}"', f'"{key}"')
    result = subprocess.run(["node", "-e", example], capture_output=True, text=True, check=True, timeout=30)
    assert printed in result.stdout


# --- Health Endpoint --------------------------------------------------------------------------------------------


def test_health_endpoint(guide: Server) -> None:
    health = json.loads(shell(guide, "curl http://127.0.0.1:8188/health"))
    assert health["status"] == "ok"
    assert health["queue"] == {"pending": 0, "running": 0}
    assert health["device"] == {"name": "cpu", "type": "cpu"}  # like the guide's Mac, which says "mps" twice
    assert set(health["vram"]) >= {"total", "free"}
    for figure in (*health["queue"].values(), *health["vram"].values()):
        assert type(figure) is int
    stats = ask(guide, "/system_stats", bearer(GUIDE_KEY)).json["devices"][0]
    assert health["vram"]["total"] == stats["vram_total"]  # in bytes, like ComfyUI's own figure
    assert 0 < health["vram"]["free"] <= health["vram"]["total"]
    assert ask(guide, "/health", method="POST").status == 401


def test_health_counts_tasks(guide: Server) -> None:
    graph: dict[str, Any] = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
        "2": {"class_type": "ProgressDemo", "inputs": {"image": ["1", 0], "seconds": 20.0, "steps": 200}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    for _ in range(3):
        assert (
            requests.post(f"{guide.url}/prompt", json={"prompt": graph}, headers=bearer(GUIDE_KEY)).status_code == 200
        )
    wait_for(lambda: ask(guide, "/health").json["queue"] == {"pending": 2, "running": 1})
    assert requests.post(f"{guide.url}/queue", json={"clear": True}, headers=bearer(GUIDE_KEY)).status_code == 200
    assert requests.post(f"{guide.url}/interrupt", headers=bearer(GUIDE_KEY)).status_code == 200
    wait_for(lambda: ask(guide, "/health").json["queue"] == {"pending": 0, "running": 0})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Exempt Endpoints -------------------------------------------------------------------------------------------

STATIC_FILES = """
    .html .js .css .json
    .png .jpg .jpeg .gif .webp
    .svg .ico
    .woff .woff2 .ttf
    .mp3 .wav
    .mp4 .webm
"""


@pytest.mark.parametrize("suffix", STATIC_FILES.split())
def test_static_files_are_exempt(guide: Server, suffix: str) -> None:
    answer = ask(guide, f"/file{suffix}")
    assert (answer.status, answer.text) == (200, f"a {suffix} file")
    assert ask(guide, f"/file{suffix}", bearer(WRONG)).status == 200
    assert ask(guide, f"/userdata/file{suffix}").status == 401
    assert ask(guide, f"/api/userdata/file{suffix}").status == 401


@pytest.mark.parametrize("target", ["/file.txt", "/file"])
def test_other_files_are_not(guide: Server, target: str) -> None:
    assert ask(guide, target).status == 401
    assert ask(guide, target, bearer(GUIDE_KEY)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/health",
        "/auth_login.html",
        "/auth_inject.js",
        "/extensions/frame/frame.js",
        "/templates/index.json",
        "/docs/EmptyImage/en.md",
    ],
)
def test_api_paths_are_exempt(guide: Server, target: str) -> None:
    for method in ("GET", "HEAD"):
        assert ask(guide, target, method=method).status == 200
        assert ask(guide, target, bearer(GUIDE_KEY), method=method).status == 200


def test_the_root_path_serves_the_login_if_not_authenticated(guide: Server) -> None:
    refused = ask(guide, "/")
    assert (refused.status, refused.headers["Location"]) == (302, "auth_login.html?next=%2F")
    assert ask(guide, "/", bearer(WRONG)).status == 302
    assert ask(guide, "/", bearer(GUIDE_KEY)).status == 200


async def test_the_websocket_is_exempt(guide: Server) -> None:
    for target in ("/ws", "/api/ws?clientId=guide"):
        async with aiohttp.ClientSession(guide.url) as session, session.ws_connect(target) as ws:
            assert (await ws.receive_json(timeout=10))["type"] == "status"


# --- Frontend Integration, Troubleshooting, Disabling, Migration ------------------------------------------------


def test_the_script_is_injected_when_authentication_is_enabled(guide: Server, unprotected: Server) -> None:
    for target in ("/", "/index.html"):
        assert '<script src="auth_inject.js"></script>' in ask(guide, target, bearer(GUIDE_KEY)).text
        assert "auth_inject.js" not in ask(unprotected, target).text
    assert '<script src="auth_inject.js"></script>' in ask(guide, "/index.html").text  # exempt like any .html file


def test_the_script_and_the_page_keep_the_key_where_the_guide_says(guide: Server) -> None:
    """The tests of the scripts show that they really do."""
    inject = ask(guide, "/auth_inject.js").text
    assert all(word in inject for word in ("fetch", "XMLHttpRequest", "Authorization", "401", "auth_login.html"))
    for script in (inject, ask(guide, "/auth_login.js").text):
        assert all(word in script for word in ('"comfyui_api_key"', "localStorage", "sessionStorage"))


def test_server_logs_tell_of_authentication_errors(guide: Server) -> None:
    ask(guide, "/free?api_key=hidden", bearer(WRONG), method="POST")
    assert "comfy-auth-rs: refused 127.0.0.1: POST /free: invalid_credential" in guide.output
    assert WRONG not in guide.output
    assert "hidden" not in guide.output


def test_disabling_authentication(start: StartGuideServer) -> None:
    with start("python3 main.py") as server:
        assert json.loads(shell(server, "curl http://127.0.0.1:8188/prompt")) == EMPTY_QUEUE
        assert json.loads(shell(server, "curl http://127.0.0.1:8188/health"))["status"] == "ok"
        assert ask(server, "/").status == 200
        for added in ("/auth_login.html", "/auth_inject.js", "/auth_session"):
            assert ask(server, added).status == 404


def test_migration_from_an_unauthenticated_setup(start: StartGuideServer, copy_miniature: Callable[..., Path]) -> None:
    """Users' files are still there afterwards, and also after `unpatch`."""
    tree = copy_miniature(patched=False)
    with start("python3 main.py", tree=tree) as server:
        assert requests.post(f"{server.url}/userdata/mine.json", data=b"{}").status_code == 200
        assert ask(server, "/health").status != 200
    patch(tree)
    with start('python3 main.py --api-key "your-secure-api-key-here"', tree=tree) as server:
        assert ask(server, "/userdata/mine.json").status == 401
        assert ask(server, "/userdata/mine.json", bearer("your-secure-api-key-here")).text == "{}"
    unpatch(tree)
    with start("python3 main.py", tree=tree) as server:
        assert ask(server, "/userdata/mine.json").text == "{}"
