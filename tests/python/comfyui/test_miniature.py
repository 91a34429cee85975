"""Wherever our package touches it, the miniature ComfyUI does what the real one does."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from PIL import Image
from support.servers import MINI_COMFYUI, Server, ServerDied, start_server

pytest.importorskip("comfyui_frontend_package", reason="the miniature serves comfyui-frontend-package")

BLUE = 0x3399FF
CLIENT = "a-client"


def picture_graph(size: int = 64, color: int = BLUE, prefix: str = "test/blue") -> dict[str, Any]:
    """EmptyImage -> SaveImage."""
    empty = {"width": size, "height": 32, "batch_size": 1, "color": color}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def slow_graph(seconds: float, steps: int) -> dict[str, Any]:
    """EmptyImage -> ProgressDemo -> PreviewImage."""
    return {
        "1": picture_graph()["1"],
        "2": {
            "class_type": "ProgressDemo",
            "inputs": {"image": ["1", 0], "seconds": seconds, "steps": steps},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def png(color: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folders, with a custom node that works and one that doesn't."""
    folder = tmp_path_factory.mktemp("base")
    good = folder / "custom_nodes" / "good"
    (good / "web").mkdir(parents=True)
    (good / "web" / "good.js").write_text("// an extension")
    (good / "__init__.py").write_text(
        "from aiohttp import web\n"
        "from server import PromptServer\n"
        "WEB_DIRECTORY = './web'\n"
        "@PromptServer.instance.routes.get('/good/hello')\n"
        "async def hello(request):\n"
        "    return web.json_response('hello')\n"
    )
    (folder / "custom_nodes" / "broken.py").write_text("import no_such_module_here\n")
    return folder


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    with start_server(MINI_COMFYUI, "--base-directory", str(base)) as running:
        yield running


async def run_prompt(server: Server, graph: dict[str, Any], interrupt: bool = False) -> list[Any]:
    """Queues the graph like a browser. Returns its WebSocket messages up to the last. Bytes are previews."""
    messages: list[Any] = []
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.ws_connect("/ws", params={"clientId": CLIENT}) as ws,
    ):
        assert (await ws.receive_json())["data"]["sid"] == CLIENT
        await ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        assert (await ws.receive_json())["type"] == "feature_flags"
        async with session.post("/prompt", json={"prompt": graph, "client_id": CLIENT}) as response:
            assert response.status == 200, await response.text()
        while True:
            message = await ws.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.BINARY:
                messages.append(message.data)
                continue
            messages.append(json.loads(message.data))
            kind, data = messages[-1]["type"], messages[-1]["data"]
            if kind == "progress" and interrupt:
                await session.post("/interrupt")
            if kind == "executing" and data["node"] is None:
                return messages


def named(messages: list[Any], kind: str) -> list[Any]:
    """The data of all JSON messages of one type."""
    texts = [message for message in messages if not isinstance(message, bytes)]
    return [message["data"] for message in texts if message["type"] == kind]


async def fetch(server: Server, path: str, **query: str) -> requests.Response:
    return await asyncio.to_thread(requests.get, server.url + path, params=query)


async def test_runs_a_graph_and_shows_the_picture(server: Server) -> None:
    messages = await run_prompt(server, picture_graph())
    (shown,) = named(messages, "executed")
    (picture,) = shown["output"]["images"]
    assert picture == {"filename": "blue_00001_.png", "subfolder": "test", "type": "output"}
    assert named(messages, "execution_start")
    assert named(messages, "execution_success")

    response = await fetch(server, "/view", **picture)
    assert response.headers["Content-Type"] == "image/png"
    with Image.open(BytesIO(response.content)) as image:
        assert image.size == (64, 32)
        assert image.getpixel((0, 0)) == (0x33, 0x99, 0xFF)
        assert json.loads(image.text["prompt"]) == picture_graph()

    prompt_id = shown["prompt_id"]
    history = (await fetch(server, f"/history/{prompt_id}")).json()
    assert history[prompt_id]["status"]["status_str"] == "success"
    job = (await fetch(server, f"/api/jobs/{prompt_id}")).json()
    assert (job["status"], job["preview_output"]["filename"]) == ("completed", "blue_00001_.png")


async def test_does_not_run_unchanged_nodes_again(server: Server) -> None:
    await run_prompt(server, picture_graph(size=20, prefix="again"))
    (cached,) = named(await run_prompt(server, picture_graph(size=20, prefix="again")), "execution_cached")
    assert set(cached["nodes"]) == {"1", "2"}


async def test_runs_what_other_frontends_add_to_a_prompt(server: Server) -> None:
    requests.post(f"{server.url}/upload/image", files={"image": ("fish.png", png("blue"))})
    load = {"class_type": "LoadImage", "inputs": {"image": "fish.png", "upload": "image"}}
    messages = await run_prompt(server, {**picture_graph(prefix="fish"), "1": load})
    assert named(messages, "execution_success")


async def test_reports_progress_with_previews(server: Server) -> None:
    messages = await run_prompt(server, slow_graph(seconds=0.2, steps=4))
    assert [step["value"] for step in named(messages, "progress")] == [1, 2, 3, 4]
    previews = [message for message in messages if isinstance(message, bytes)]
    assert len(previews) == 4
    assert int.from_bytes(previews[0][:4], "big") == 4  # with metadata: length, JSON, picture
    length = int.from_bytes(previews[0][4:8], "big")
    assert json.loads(previews[0][8 : 8 + length])["node_id"] == "2"
    with Image.open(BytesIO(previews[0][8 + length :])) as image:
        assert image.format == "JPEG"


async def test_the_newest_socket_of_a_client_id_gets_the_messages(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as session:
        old = await session.ws_connect("/ws", params={"clientId": "twice"})
        await old.receive_json(timeout=5)
        new = await session.ws_connect("/ws", params={"clientId": "twice"})
        assert (await new.receive_json(timeout=5))["data"]["sid"] == "twice"
        await new.send_json({"type": "feature_flags", "data": {}})
        assert (await new.receive_json(timeout=5))["type"] == "feature_flags"
        await new.close()
        await old.close()


async def test_stops_when_interrupted(server: Server) -> None:
    messages = await run_prompt(server, slow_graph(seconds=20, steps=200), interrupt=True)
    (stopped,) = named(messages, "execution_interrupted")
    assert stopped["node_id"] == "2"
    assert not named(messages, "execution_success")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"1": {"class_type": "NoSuchNode", "inputs": {}}}, "invalid_prompt"),
        ({"2": {"inputs": {}}}, "invalid_prompt"),
        ({"2": {"class_type": "PreviewImage", "inputs": {}}}, "required_input_missing"),
        ({"2": {"class_type": "PreviewImage", "inputs": {"images": ["9", 0]}}}, "bad_linked_input"),
        ({"2": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}, "dependency_cycle"),
        ({"1": {"class_type": "EmptyImage", "inputs": {"width": "wide"}}}, "invalid_input_type"),
        ({"1": {"class_type": "EmptyImage", "inputs": {"width": 0}}}, "value_smaller_than_min"),
        (
            {"1": {"class_type": "LoadImage", "inputs": {"image": "../secret.png"}}},
            "custom_validation_failed",
        ),
    ],
)
def test_refuses_a_faulty_graph(server: Server, change: dict[str, Any], kind: str) -> None:
    response = requests.post(f"{server.url}/prompt", json={"prompt": {**picture_graph(), **change}})
    answer = response.json()
    found = [error["type"] for node in answer["node_errors"].values() for error in node["errors"]]
    assert response.status_code == 400
    assert kind in [answer["error"]["type"], *found]


@pytest.mark.parametrize("body", [{}, {"prompt": []}])
def test_refuses_a_request_without_a_prompt(server: Server, body: dict[str, Any]) -> None:
    response = requests.post(f"{server.url}/prompt", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "no_prompt")


ROUTES = """
    /object_info /object_info/SaveImage /queue /prompt /history /system_stats /features /settings /users
    /extensions /embeddings /models /models/vae /experiment/models /experiment/models/vae /i18n
    /workflow_templates /global_subgraphs /good/hello
"""


@pytest.mark.parametrize("path", ROUTES.split())
def test_every_route_has_an_api_twin(server: Server, path: str) -> None:
    plain, twin = requests.get(server.url + path), requests.get(f"{server.url}/api{path}")
    assert (plain.status_code, twin.status_code) == (200, 200)
    if path != "/system_stats":  # the free memory changes
        assert plain.json() == twin.json()


@pytest.mark.parametrize("path", ["/internal/logs", "/internal/logs/raw", "/internal/folder_paths"])
def test_internal_routes_have_no_api_twin(server: Server, path: str) -> None:
    assert requests.get(server.url + path).status_code == 200
    assert requests.get(f"{server.url}/api{path}").status_code == 404


@pytest.mark.parametrize(
    ("path", "cache"),
    [
        ("/", "no-cache"),
        ("/index.html", None),
        ("/extensions/good/good.js", "no-cache"),
        ("/templates/index.json", "no-cache"),
        ("/docs/EmptyImage/en.md", None),
    ],
)
def test_serves_files_with_cache_headers(server: Server, path: str, cache: str | None) -> None:
    response = requests.get(server.url + path)
    assert response.status_code == 200
    assert response.headers.get("Cache-Control") == cache


def test_shows_its_arguments_as_comfyui_does(server: Server, base: Path) -> None:
    system = requests.get(f"{server.url}/system_stats").json()["system"]
    assert str(base) in system["argv"]


def test_a_broken_custom_node_is_logged_and_skipped(server: Server) -> None:
    assert "no_such_module_here" in server.output
    assert "/extensions/good/good.js" in requests.get(f"{server.url}/extensions").json()


def test_userdata_round_trip(server: Server, base: Path) -> None:
    url = f"{server.url}/userdata"
    assert requests.post(f"{url}/workflows%2Fa.json", data=b'{"a": 1}').json() == "workflows/a.json"
    assert (base / "user/default/workflows/a.json").read_bytes() == b'{"a": 1}'
    assert requests.get(f"{url}/workflows%2Fa.json").json() == {"a": 1}
    assert requests.post(f"{url}/workflows%2Fa.json?overwrite=false", data=b"").status_code == 409
    assert requests.post(f"{url}/workflows%2Fa.json/move/workflows%2Fb.json").json() == "workflows/b.json"
    assert requests.get(url, params={"dir": "workflows"}).json() == ["b.json"]
    (info,) = requests.get(url, params={"dir": "workflows", "full_info": "true"}).json()
    assert (info["path"], info["size"]) == ("b.json", 8)
    assert requests.delete(f"{url}/workflows%2Fb.json").status_code == 204
    assert requests.get(f"{url}/workflows%2Fb.json").status_code == 404


def test_settings_are_kept_on_disk(server: Server, base: Path) -> None:
    requests.post(f"{server.url}/settings/Comfy.Theme", json="dark")
    requests.post(f"{server.url}/settings", json={"Comfy.Locale": "en"})
    assert requests.get(f"{server.url}/settings/Comfy.Theme").json() == "dark"
    kept = json.loads((base / "user/default/comfy.settings.json").read_text())
    assert kept == {"Comfy.Theme": "dark", "Comfy.Locale": "en"}


def test_uploads_keep_equal_files_once_and_rename_others(server: Server) -> None:
    def upload(data: bytes, **fields: str) -> Any:
        return requests.post(f"{server.url}/upload/image", files={"image": ("cat.png", data)}, data=fields)

    assert upload(png("red")).json() == {"name": "cat.png", "subfolder": "", "type": "input"}
    assert upload(png("red")).json()["name"] == "cat.png"
    assert upload(png("green")).json()["name"] == "cat (1).png"
    assert upload(png("blue"), overwrite="true").json()["name"] == "cat.png"
    assert upload(png("red"), subfolder="../..").status_code == 400
    assert upload(png("red"), type="user").status_code == 400
    choices = requests.get(f"{server.url}/object_info/LoadImage").json()["LoadImage"]["input"]["required"]
    assert {"cat (1).png", "cat.png"} <= set(choices["image"][0])

    view = requests.get(f"{server.url}/view", params={"filename": "cat.png", "type": "input"})
    assert view.content == png("blue")
    wish = {"filename": "cat.png", "type": "input", "preview": "webp;50"}
    small = requests.get(f"{server.url}/view", params=wish)
    assert small.headers["Content-Type"] == "image/webp"


def test_upload_mask_becomes_the_transparency(server: Server) -> None:
    requests.post(f"{server.url}/upload/image", files={"image": ("dog.png", png("red"))})
    buffer = BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 77)).save(buffer, format="PNG")
    form = {"original_ref": json.dumps({"filename": "dog.png", "type": "input"})}
    mask = requests.post(
        f"{server.url}/upload/mask", files={"image": ("masked.png", buffer.getvalue())}, data=form
    ).json()
    view = requests.get(f"{server.url}/view", params={"filename": mask["name"], "type": "input"})
    with Image.open(BytesIO(view.content)) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0, 77)


def test_shows_the_picture_beside_a_model(server: Server, base: Path) -> None:
    models = base / "models" / "loras"
    models.mkdir(parents=True)
    (models / "a.safetensors").write_bytes(b"")
    (models / "a.preview.png").write_bytes(png("red"))
    (base / "models" / "b.png").write_bytes(png("blue"))
    url = f"{server.url}/experiment/models/preview/loras"
    assert requests.get(f"{url}/0/a.safetensors").headers["Content-Type"] == "image/webp"
    for elsewhere in ("0/b.safetensors", "1/a.safetensors", "x/a.safetensors", "0/..%2Fb.safetensors"):
        assert requests.get(f"{url}/{elsewhere}").status_code == 404


def test_notes_users(server: Server, base: Path) -> None:
    made = requests.post(f"{server.url}/users", json={"username": "Alice B"}).json()
    assert made.startswith("Alice-B_")
    assert json.loads((base / "user/users.json").read_text()) == {made: "Alice B"}
    assert requests.post(f"{server.url}/users", json={"username": "Alice B"}).status_code == 400


def test_assets_round_trip(tmp_path: Path) -> None:
    with start_server(MINI_COMFYUI, "--base-directory", str(tmp_path), "--enable-assets") as server:
        url = f"{server.url}/api/assets"
        files = {"file": ("page.html", b"<script>")}
        made = requests.post(url, files=files, data={"tags": '["input", "pages"]'}).json()
        mine = f"{url}/{made['id']}"
        assert (tmp_path / "input" / "page.html").read_bytes() == b"<script>"
        content = requests.get(f"{mine}/content?disposition=inline")
        assert (content.content, content.headers["Content-Disposition"]) == (b"<script>", "attachment")
        assert content.headers["Content-Type"] == "application/octet-stream"
        assert requests.post(f"{mine}/tags", json={"tags": ["new"]}).json() == {"total_tags": ["input", "pages", "new"]}
        assert requests.delete(f"{mine}/tags", json={"tags": ["pages"]}).json() == {"total_tags": ["input", "new"]}
        assert requests.get(f"{url}/tags/refine").json() == {"tag_counts": {"input": 1, "new": 1}}
        assert requests.put(mine, json={"name": "b.html"}).json()["name"] == "b.html"
        digest = f"sha256:{hashlib.sha256(b'<script>').hexdigest()}"
        assert requests.head(f"{url}/hash/{digest}").status_code == 200
        assert requests.post(f"{url}/from-hash", json={"hash": digest}).status_code == 201
        assert requests.delete(mine).status_code == 204
        assert requests.get(mine).status_code == 404
        (tmp_path / "input" / "page.html").unlink()
        assert requests.post(f"{url}/prune").json()["marked"] == 1
        model = {"tags": '["models", "model_type:loras"]'}
        assert requests.post(url, files={"file": ("../x.pt", b"x")}, data=model).status_code == 201
        assert (tmp_path / "models" / "loras" / "x.pt").is_file()
        for tags in ("[]", '["models"]', '["models", "model_type:../x"]', '["input", "output"]'):
            assert requests.post(url, files=files, data={"tags": tags}).status_code == 400


def test_assets_are_off_unless_asked_for(server: Server) -> None:
    assert requests.get(f"{server.url}/api/assets").json()["error"]["code"] == "SERVICE_DISABLED"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"filename": "../../secret.txt"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "x.png", "subfolder": "../../user"}, 403),
        ({"filename": "x.png", "subfolder": "/etc"}, 403),
        ({"filename": "x.png", "type": "user"}, 400),
        ({"filename": "comfy.settings.json [user]"}, 404),
        ({"filename": "nul\0.png"}, 404),
        ({}, 404),
    ],
)
def test_view_refuses_to_leave_its_folders(server: Server, query: dict[str, str], status: int) -> None:
    assert requests.get(f"{server.url}/view", params=query).status_code == status


@pytest.mark.parametrize("name", ["..%2F..%2Fsecret.txt", "%2Fetc%2Fpasswd", "..%252F..%252Fsecret.txt"])
def test_userdata_refuses_to_leave_its_folder(server: Server, name: str) -> None:
    assert requests.get(f"{server.url}/userdata/{name}").status_code == 403
    assert requests.post(f"{server.url}/userdata/{name}", data=b"x").status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("http://127.0.0.1:1", 403),
        ("http://127.0.0.1:no", 403),
        ("null", 200),
        ("http://127.0.0.1", 200),
    ],
)
def test_compares_the_origin_with_the_host(server: Server, origin: str, status: int) -> None:
    assert requests.get(f"{server.url}/queue", headers={"Origin": origin}).status_code == status
    same = {"Origin": server.url}
    assert requests.get(f"{server.url}/queue", headers=same).status_code == 200


def test_jobs_can_be_cancelled(server: Server) -> None:
    slow = {"prompt": slow_graph(seconds=20, steps=200)}
    running, waiting = (requests.post(f"{server.url}/prompt", json=slow).json()["prompt_id"] for _ in range(2))

    def statuses() -> dict[str, str]:
        return {job["id"]: job["status"] for job in requests.get(f"{server.url}/api/jobs").json()["jobs"]}

    assert statuses()[waiting] == "pending"
    requests.post(f"{server.url}/api/jobs/cancel", json={"job_ids": [waiting]})
    assert waiting not in statuses()
    requests.post(f"{server.url}/api/jobs/{running}/cancel")
    deadline = time.monotonic() + 10
    while statuses()[running] == "in_progress" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert statuses()[running] == "cancelled"


def test_flags_change_the_middlewares(tmp_path: Path) -> None:
    flags = [
        "--enable-cors-header",
        "https://app.example",
        "--disable-api-nodes",
        "--disable-all-custom-nodes",
    ]
    flags += ["--enable-compress-response-body", "--max-upload-size", "0.001"]
    with start_server(MINI_COMFYUI, "--base-directory", str(tmp_path), *flags) as server:
        headers = {"Origin": "https://evil.example", "Accept-Encoding": "gzip"}
        response = requests.get(f"{server.url}/object_info", headers=headers)
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert requests.options(f"{server.url}/prompt").status_code == 200
        big = requests.post(f"{server.url}/upload/image", files={"image": ("big.bin", bytes(5000))})
        assert big.status_code == 413


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """If a shell runs the tests in the background, the server would ignore SIGINT. This fixture prevents that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_stops_quietly_at_ctrl_c(tmp_path: Path) -> None:
    with start_server(MINI_COMFYUI, "--base-directory", str(tmp_path)) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert "Stopped server" in server.output
        assert "Traceback" not in server.output
        assert not (tmp_path / "temp").exists()


def test_quick_test_for_ci_ends_well(tmp_path: Path) -> None:
    command = [sys.executable, "main.py", "--quick-test-for-ci", "--base-directory", str(tmp_path)]
    assert subprocess.run(command, cwd=MINI_COMFYUI, capture_output=True).returncode == 0


def test_says_how_to_get_the_frontend(tmp_path: Path) -> None:
    flags = ["--base-directory", str(tmp_path), "--front-end-root", str(tmp_path)]
    with pytest.raises(ServerDied) as failure, start_server(MINI_COMFYUI, *flags):
        pass
    assert failure.value.returncode == 1
    assert "pip install comfyui-frontend-package" in failure.value.output
    assert "Traceback" not in failure.value.output
