"""Published clients that people already use: they queue a prompt, follow it, and fetch its picture.

The programs in `tests/clients` use them as their documentation says. They run against the patched miniature, and
against the ComfyUI that `COMFYUI_DIR` names.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from support.client import BROWSER, CHALLENGE, UPGRADE, Answer, ask, bearer
from support.keys import WRONG_KEY
from support.servers import WITNESS, Server, start_real, start_server

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / "tests" / "clients"

#: `make test-release` installs the Python clients here.
PYTHON_CLIENTS = ROOT / ".venv" / "clients"


#: Width and height of the picture in pixels.
SIDE = 64

#: How many seconds a prompt takes: some clients begin to listen only after it is queued.
TAKES = 1.5

QUEUE, SOCKET, PICTURE = "POST /prompt", "GET /ws", "GET /view"

#: How a refused request with a key in its path is logged.
HIDDEN, HIDDEN_POST = "GET /key/[redacted]", "POST /key/[redacted]"


@dataclass(frozen=True)
class Way:
    """A program, the host that it is given, and the requests that it sends."""

    program: str
    host: str = "{host}"
    #: The requests that it must have sent when it has the picture.
    steps: tuple[str, ...] = (QUEUE, SOCKET, PICTURE)
    #: The requests that it sends with a wrong key. All of them fail.
    tries: tuple[str, ...] = (QUEUE,)


WAYS = {
    "comfy-api-simplified, Basic": Way("comfy_api_simplified_basic.py"),
    "comfyui-workflow-client, user:key@host": Way(
        "comfyui_workflow_client_sync.py", "any:{key}@{host}", steps=(QUEUE, PICTURE)
    ),
    "comfyui-workflow-client, host/key": Way(
        "comfyui_workflow_client_sync.py", "{host}/key/{key}", steps=(QUEUE, PICTURE), tries=(HIDDEN_POST,)
    ),
    "comfyui-workflow-client async, user:key@host": Way(
        "comfyui_workflow_client_async.py", "any:{key}@{host}", tries=(SOCKET,)
    ),
    "comfyui-workflow-client async, host/key": Way(
        "comfyui_workflow_client_async.py", "{host}/key/{key}", tries=(HIDDEN,)
    ),
    "comfy-script, session factory": Way("comfy_script_factory.py", tries=("GET /object_info",)),
    "@stable-canvas/comfyui-client, ?token=": Way("stable_canvas.mjs", tries=(SOCKET, QUEUE)),
    "@saintno/comfyui-sdk, Bearer": Way("saintno.mjs", tries=(QUEUE, "GET /prompt")),
    "comfy-ui-client, host/key": Way("comfy_ui_client.mjs", "{host}/key/{key}", tries=(HIDDEN, HIDDEN_POST)),
    "SillyTavern's requests, host/key": Way(
        "sillytavern_requests.mjs",
        "{host}/key/{key}",
        steps=("GET /system_stats", QUEUE, PICTURE, "POST /interrupt"),
        tries=(HIDDEN,),
    ),
    "script_examples, host/key": Way("script_examples.py", "{host}/key/{key}", tries=(HIDDEN,)),
}


@dataclass(frozen=True)
class Outcome:
    """What a program printed, what the server answered (`METHOD PATH STATUS`), and its picture, if it has one."""

    returncode: int
    said: str
    answers: list[str]
    picture: Path

    def statuses(self, request: str) -> set[str]:
        return {answer.removeprefix(f"{request} ") for answer in self.answers if answer.startswith(f"{request} ")}


class Host:
    """A protected server that writes down its answers."""

    def __init__(self, name: str, server: Server, answers: Path) -> None:
        self.name, self.server, self._answers = name, server, answers

    def run(self, way: Way, key: str, folder: Path, color: int) -> Outcome:
        """Runs a client's program with `key`."""
        (folder / "graph.json").write_text(json.dumps(graph(color)))
        host = way.host.format(host=f"127.0.0.1:{self.server.port}", key=key)
        command = [*interpreter(way.program), str(PROGRAMS / way.program), host, key]
        return self.watch([*command, str(folder / "graph.json"), str(folder / "out.png")], folder)

    def watch(self, command: list[str], folder: Path, source: str = "") -> Outcome:
        """Runs a program that writes its picture into `folder`."""
        before = self.answers()
        environment = {**os.environ, "PYTHONPATH": str(PYTHON_CLIENTS), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, input=source
        )
        answers = self.answers()[len(before) :]
        return Outcome(done.returncode, done.stdout + done.stderr, answers, folder / "out.png")

    def answers(self) -> list[str]:
        return self._answers.read_text().splitlines() if self._answers.exists() else []


def interpreter(program: str) -> list[str]:
    if program.endswith(".py"):
        if not PYTHON_CLIENTS.is_dir():
            pytest.skip("the clients are not there; `make test-release` installs them")
        return [sys.executable]
    if not (PROGRAMS / "node_modules").is_dir():
        pytest.skip("the clients are not there; `make test-release` installs them")
    return ["node"]


def graph(color: int, takes: float = TAKES) -> dict[str, Any]:
    empty = {"width": SIDE, "height": SIDE, "batch_size": 1, "color": color}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty, "_meta": {"title": "Empty Image"}},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["3", 0], "filename_prefix": "client"},
            "_meta": {"title": "Save Image"},
        },
        "3": {"class_type": "Pause", "inputs": {"image": ["1", 0], "seconds": takes}, "_meta": {"title": "Pause"}},
    }


@pytest.fixture(scope="module", params=["miniature", "real"])
def host(
    request: pytest.FixtureRequest, copy_miniature: Any, tmp_path_factory: pytest.TempPathFactory, key: str
) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("base")
    flags = ["--api-key", key, "--auth-require-ws", "--auth-url-key", "--verbose", "DEBUG"]
    environment = {"WITNESS_ANSWERS": str(base / "answers.txt")}
    if request.param == "miniature":
        starting = start_server(copy_miniature(), *flags, env=environment)
    elif "COMFYUI_DIR" in os.environ:
        shutil.copytree(WITNESS, base / "custom_nodes" / "witness", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(Path(os.environ["COMFYUI_DIR"], "custom_nodes", "websocket_image_save.py"), base / "custom_nodes")
        for name in ("input", "output", "user", "models"):
            (base / name).mkdir()
        starting = start_real(base, *flags, env=environment)
    else:
        pytest.skip("COMFYUI_DIR names no real ComfyUI")
    with starting as server:
        yield Host(request.param, server, base / "answers.txt")
        assert key not in server.output
        assert WRONG_KEY not in server.output


@pytest.fixture
def color() -> int:
    """A new color each time: ComfyUI would answer too soon with a cached result."""
    return random.randrange(1 << 24)


def has_color(picture: Path, color: int) -> bool:
    with Image.open(picture) as image:
        assert image.size == (SIDE, SIDE)
        return image.convert("RGB").getpixel((SIDE // 2, 1)) == (color >> 16, color >> 8 & 255, color & 255)


@pytest.mark.parametrize("name", WAYS)
def test_with_the_right_key_it_gets_its_picture(host: Host, key: str, tmp_path: Path, name: str, color: int) -> None:
    way = WAYS[name]
    outcome = host.run(way, key, tmp_path, color)
    assert outcome.returncode == 0, outcome.said
    assert has_color(outcome.picture, color)
    for step in way.steps:
        assert outcome.statuses(step) == {"101" if step == SOCKET else "200"}, (step, outcome.answers)
    assert [answer for answer in outcome.answers if answer.endswith((" 401", " 403", " 429"))] == []


@pytest.mark.parametrize("name", WAYS)
def test_with_a_wrong_key_it_fails_and_says_so(host: Host, tmp_path: Path, name: str, color: int) -> None:
    way = WAYS[name]
    outcome = host.run(way, WRONG_KEY, tmp_path, color)
    assert outcome.returncode != 0
    assert "401" in outcome.said or "invalid_credential" in outcome.said, outcome.said
    assert not outcome.picture.exists()
    assert {answer.rsplit(" ", 1)[1] for answer in outcome.answers} == {"401"}, outcome.answers
    for request in way.tries:
        assert outcome.statuses(request) == {"401"}, (request, outcome.answers)


def test_the_key_as_password_of_the_address_is_lost_on_websocket_client(host: Host, key: str, tmp_path: Path) -> None:
    """`websocket-client` drops it, so `script_examples` need the key in the path."""
    outcome = host.run(Way("script_examples.py", "any:{key}@{host}"), key, tmp_path, 0)
    assert (outcome.returncode, outcome.answers) == (1, ["GET /ws 401"])
    assert "401" in outcome.said


def test_the_table_names_the_versions_that_are_tested() -> None:
    rows = (ROOT / "docs" / "clients.md").read_text().splitlines()
    pinned = [line.split("==") for line in (PROGRAMS / "requirements.txt").read_text().splitlines() if "==" in line]
    npm = json.loads((PROGRAMS / "package.json").read_text())["dependencies"]
    pinned += [[name, npm[name]] for name in npm if "comfy" in name]
    assert len(pinned) == 6
    for name, version in pinned:
        assert [row for row in rows if row.startswith("| ") and f"`{name}`" in row and f"| {version} |" in row], name


# --- ComfyUI's own examples -------------------------------------------------------------------------------------

SAVE, SEND = "SaveImage", "SaveImageWebsocket"


class Changed(ast.NodeTransformer):
    """An example as its reader would change it: another address, and a graph that needs no model."""

    def __init__(self, address: str, graph: str) -> None:
        self._address, self._graph = address, graph

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and '"KSampler"' in node.value:
            return ast.Constant(self._graph)
        if isinstance(node.value, str) and "127.0.0.1:8188" in node.value:
            return ast.Constant(node.value.replace("127.0.0.1:8188", self._address))
        return node


@pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no real ComfyUI")
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    ("name", "saver", "steps"),
    [
        ("websockets_api_example.py", SAVE, (SOCKET, QUEUE, PICTURE)),
        ("websockets_api_example_ws_images.py", SEND, (SOCKET, QUEUE)),
        ("basic_api_example.py", SAVE, (QUEUE,)),
    ],
)
def test_script_examples_need_only_an_address(
    host: Host,
    key: str,
    tmp_path: Path,
    name: str,
    saver: str,
    steps: tuple[str, ...],
    right: bool,
    color: int,
) -> None:
    if host.name != "real":
        pytest.skip("they are its own")
    empty = graph(color)["1"]
    prefix = {"filename_prefix": "example"} if saver == SAVE else {}
    saved = {"class_type": saver, "inputs": {"images": ["6", 0], **prefix}}
    # The examples set the seed of node 3, and the text of node 6.
    prompt = {"3": empty, "6": empty, "save_image_websocket_node": saved}
    address = f"127.0.0.1:{host.server.port}/key/{key if right else WRONG_KEY}"
    tree = ast.parse(Path(os.environ["COMFYUI_DIR"], "script_examples", name).read_text())
    example = ast.unparse(Changed(address, json.dumps(prompt)).visit(tree))
    if SOCKET in steps:
        example += "\n((picture,),) = images.values()\nopen('out.png', 'wb').write(picture)"
    outcome = host.watch([*interpreter(name), "-"], tmp_path, example)
    if not right:
        assert (outcome.returncode, outcome.answers) == (1, [f"{HIDDEN if SOCKET in steps else HIDDEN_POST} 401"])
        assert "401" in outcome.said
        assert not outcome.picture.exists()
        return
    assert outcome.returncode == 0, outcome.said
    assert SOCKET not in steps or has_color(outcome.picture, color)
    for step in steps:
        assert outcome.statuses(step) == {"101" if step == SOCKET else "200"}, (step, outcome.answers)
    assert not any(answer.endswith(" 401") for answer in outcome.answers)


# --- clients that wait to be asked ------------------------------------------------------------------------------

WAITING = {
    "wget": ["wget", "--no-verbose", "--output-document={out}", "http://any:{key}@{host}{path}"],
    "curl --anyauth": ["curl", "-sSf", "--anyauth", "-u", "any:{key}", "-o", "{out}", "http://{host}{path}"],
    "curl --anyauth, the key in the address": [
        "curl",
        "-sSf",
        "--anyauth",
        "-o",
        "{out}",
        "http://any:{key}@{host}{path}",
    ],
    "urllib": [sys.executable, str(PROGRAMS / "urllib_basic.py"), "http://{host}{path}", "{key}", "{out}"],
    "ffmpeg": ["ffmpeg", "-v", "error", "-y", "-i", "http://any:{key}@{host}{path}", "{out}"],
}


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_who_waits_to_be_asked_for_the_key_is_asked(
    host: Host, key: str, tmp_path: Path, name: str, prefix: str, color: int
) -> None:
    picture = BytesIO()
    Image.new("RGB", (SIDE, SIDE), f"#{color:06x}").save(picture, "PNG")
    files = {"image": (f"{color:06x}.png", picture.getvalue())}
    requests.post(f"{host.server.url}/upload/image", files=files, headers=bearer(key), timeout=20).raise_for_status()
    path = f"{prefix}/view?filename={color:06x}.png&type=input"
    good = "206" if name == "ffmpeg" else "200"  # ffmpeg asks for a range
    for used, answers in ((WRONG_KEY, {"401"}), (key, {"401", good})):
        values = {"key": used, "host": f"127.0.0.1:{host.server.port}", "path": path, "out": str(tmp_path / "out.png")}
        outcome = host.watch([word.format(**values) for word in WAITING[name]], tmp_path)
        assert (outcome.returncode == 0) is (used == key), outcome.said
        assert outcome.statuses(f"GET {prefix}/view") == answers
    assert has_color(outcome.picture, color)


# --- facts of life ----------------------------------------------------------------------------------------------

JUNK = (
    "", "Bearer", "Bearer ", "Bearer undefined", "Bearer null", "Basic", "Basic Og==", "Basic !", "null", "Token x",
    "Basic dW5kZWZpbmVk",
)  # fmt: skip


def good(way: str, key: str) -> tuple[str, dict[str, str]]:
    """What a client puts before the path, and which fields it adds."""
    return {
        "X-API-Key": ("", {"X-API-Key": key}),
        "?token=": ("", {}),
        "host/key": (f"/key/{key}", {}),
    }[way]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("way", ["X-API-Key", "?token=", "host/key"])
def test_junk_in_authorization_spoils_nothing(host: Host, key: str, way: str, junk: str) -> None:
    prefix, headers = good(way, key)
    query = f"&token={key}" if way == "?token=" else ""
    sent = {"Authorization": junk, **headers}
    assert ask(host.server, f"{prefix}/queue?{query}", sent).status == 200
    assert ask(host.server, f"{prefix}/queue", {"Authorization": junk}).status == (200 if prefix else 401)
    assert upgrade(host, f"{prefix}/ws?clientId={uuid.uuid4()}{query}", sent) == 101


def upgrade(host: Host, target: str, headers: dict[str, str]) -> int:
    """The status of the answer to a WebSocket handshake."""
    answer = b""
    fields = {"Host": f"127.0.0.1:{host.server.port}", **UPGRADE, **headers}
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    with socket.create_connection(("127.0.0.1", host.server.port), 20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        while b"\r\n" not in answer:
            answer += connection.recv(4096)
    return int(answer.split(b" ")[1])


def test_who_sends_no_key_may_knock_for_ever(host: Host, key: str) -> None:
    """@stable-canvas/comfyui-client tries again three times a second, for ever."""
    source = "127.0.0.77"
    for number in range(60):
        answer = ask(host.server, f"/ws?clientId=x&n={number}&token=", {**UPGRADE, "Authorization": ""}, source=source)
        assert (answer.status, answer.json["cause"]) == (401, "missing_credential")
    assert ask(host.server, "/queue", {"X-API-Key": WRONG_KEY}, source=source).status == 401
    assert ask(host.server, "/queue", bearer(key), source=source).status == 200


@pytest.mark.parametrize("way", ["X-API-Key", "?token=", "host/key"])
@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/x-www-form-urlencoded", None])
def test_a_prompt_may_say_that_it_is_text(host: Host, key: str, way: str, kind: str | None, color: int) -> None:
    """fetch labels strings like this, and urllib labels any body like this."""
    prefix, headers = good(way, key)
    target = f"{prefix}/prompt" + (f"?token={key}" if way == "?token=" else "")
    body = json.dumps({"prompt": graph(color, 0)}).encode()
    sent = {**headers, **({"Content-Type": kind} if kind else {})}
    answer = ask(host.server, target, sent, method="POST", body=body)
    assert answer.status == 200, answer.text
    assert answer.json["prompt_id"]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_an_upload_behind_a_key_can_be_seen_there(host: Host, key: str, prefix: str, color: int) -> None:
    picture = BytesIO()
    Image.new("RGB", (SIDE, SIDE), f"#{color:06x}").save(picture, "PNG")
    name = f"{color:06x}{prefix.strip('/')}.png"
    for used, status in ((key, 200), (WRONG_KEY, 401)):
        base = f"{host.server.url}/key/{used}{prefix}"
        stored = requests.post(f"{base}/upload/image", files={"image": (name, picture.getvalue())}, timeout=20)
        assert stored.status_code == status
        seen = requests.get(f"{base}/view", params={"filename": name, "type": "input"}, timeout=20)
        assert seen.status_code == status
        assert (seen.content == picture.getvalue()) is (used == key)


@pytest.mark.parametrize("accept", [None, "text/html", BROWSER["Accept"]])
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/ws?clientId=x", {}),
        ("/api/ws", {}),
        ("/queue", {}),
        ("/", {}),
        ("/nothing", {}),
        (f"/ws?token={WRONG_KEY}", {}),
        ("/ws", {"Authorization": f"Bearer {WRONG_KEY}"}),
        (f"/key/{WRONG_KEY}/ws", {}),
        (f"/key/{WRONG_KEY}/", {}),
    ],
)
def test_a_refused_upgrade_is_never_led_elsewhere(
    host: Host, target: str, headers: dict[str, str], accept: str | None
) -> None:
    answer = ask(host.server, target, {**UPGRADE, **headers, **({"Accept": accept} if accept else {})})
    assert (answer.status, answer.headers.get("Location")) == (401, None)
    assert answer.headers["WWW-Authenticate"].startswith(CHALLENGE)


ELSEWHERE = "https://app.example"


@pytest.fixture(scope="module")
def with_cors(copy_miniature: Any, key: str) -> Iterator[Server]:
    flags = ["--api-key", key, "--auth-url-key", "--enable-cors-header", ELSEWHERE]
    with start_server(copy_miniature(), *flags) as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "/key/{key}", f"/key/{WRONG_KEY}"])
def test_pages_elsewhere_may_send_x_api_key(with_cors: Server, key: str, prefix: str) -> None:
    """The browser first asks without the key, and then sends it."""
    prefix = prefix.format(key=key)
    asks = {"Origin": ELSEWHERE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    allowed = ask(with_cors, f"{prefix}/prompt", asks, method="OPTIONS")
    assert allowed.status == 200
    assert allows(allowed, "x-api-key")
    for sent, status in (({"X-API-Key": key}, 200), ({}, 200 if key in prefix else 401)):
        answer = ask(with_cors, f"{prefix}/queue", {"Origin": ELSEWHERE, **sent})
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == ELSEWHERE
        assert allows(answer, "x-api-key")


def allows(answer: Answer, name: str) -> bool:
    return name in answer.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
