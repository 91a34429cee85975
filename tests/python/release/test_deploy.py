"""deploy/: the systemd unit, the container and Kubernetes. The proxies are in test_behind_proxies.py."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.audit import lines_of
from support.client import ask, bearer
from support.keys import KEY
from support.proxies import DEPLOY, shipped
from support.servers import Server, ServerDied, free_port, start_server

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@contextmanager
def started(copy_miniature: Any, credentials: Path) -> Iterator[Server]:
    """Starts what the unit starts, with the credentials in our folder."""
    [command] = unit("ExecStart")
    words = [word.replace("%d", str(credentials)) for word in shlex.split(command)]
    words = [word.replace("%L/comfyui", str(credentials)) for word in words]
    assert words[0] == "/opt/comfyui/.venv/bin/python"
    with start_server(copy_miniature(), command=words[1:]) as server:
        yield server


def write_keys(file: Path, text: str = f"{KEY} deployed\n") -> None:
    file.write_text(text)
    file.chmod(0o600)


def assert_asks_for_the_key(server: Server) -> None:
    assert ask(server, "/health").status == 200
    assert ask(server, "/queue").status == 401
    assert ask(server, "/ws", {"Connection": "Upgrade", "Upgrade": "websocket"}).status == 401
    assert ask(server, "/queue", bearer(KEY)).status == 200
    assert KEY not in server.output


# ---------------------------------------------------------------------------------------------------------------------
# systemd


def unit(option: str) -> list[str]:
    """The values of an option of the unit. Continued lines are joined."""
    text = (DEPLOY / "systemd" / "comfyui.service").read_text().replace("\\\n", "")
    return re.findall(rf"^{option}=(.*)$", text, re.M)


@needs_systemd
def test_systemd_finds_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    text = shipped(
        "systemd/comfyui.service",
        {
            "/opt/comfyui/.venv/bin/python": sys.executable,
            "WorkingDirectory=/opt/comfyui": f"WorkingDirectory={tmp_path}",
        },
    )
    (tmp_path / "comfyui.service").write_text(text)
    result = run("systemd-analyze", "verify", "--man=no", str(tmp_path / "comfyui.service"))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@needs_systemd
def test_systemd_calls_the_unit_safe() -> None:
    """systemd's score goes from 0 (nothing left to restrict) to 10. What the GPU needs stays unrestricted."""
    file = DEPLOY / "systemd" / "comfyui.service"
    result = run("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(file))
    assert result.returncode == 0, result.stdout
    for option in ("PrivateDevices", "MemoryDenyWriteExecute", "DevicePolicy", "ProcSubset"):
        assert unit(option) == []  # these would break the GPU, compiled kernels, and memory figures


def test_the_unit_starts_comfyui_behind_its_key(copy_miniature: Any, tmp_path: Path) -> None:
    assert unit("LoadCredential") == ["keys:/etc/comfyui/keys"]
    write_keys(tmp_path / "keys")
    with started(copy_miniature, tmp_path) as server:
        assert_asks_for_the_key(server)
        deadline = time.monotonic() + 20
        while b'"refused"' not in (tmp_path / "audit.jsonl").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert unit("LogsDirectory") == ["comfyui"]
    assert "refused" in [event["event"] for event in lines_of(tmp_path / "audit.jsonl")]


DATA = ("models", "input", "output", "temp", "user")

#: The effect of `ProtectSystem=strict` and `ReadWritePaths=`: the folder is read-only, except for its data folders.
READ_ONLY = """
mount --bind "$0" "$0" && for data in models input output temp user; do mount --bind "$0/$data" "$0/$data" || exit; done
mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"
"""


def test_the_units_code_is_roots(copy_miniature: Any, tmp_path: Path) -> None:
    """The service may write its data and nothing else, and it works that way."""
    paths = [f"/opt/comfyui/{name}" for name in DATA]
    assert unit("ReadWritePaths") == unit("NoExecPaths") == [" ".join(paths)]
    text = (DEPLOY / "systemd" / "comfyui.service").read_text()
    assert "chown -R root: /opt/comfyui && chmod -R go+rX,go-w /opt/comfyui" in text
    assert re.findall(r"chown -R comfyui: (.*)$", text, re.M) == [" ".join(DATA)]
    if shutil.which("unshare") is None or run("unshare", "--mount", "true").returncode:
        pytest.skip("no mount namespaces here")
    write_keys(tmp_path / "keys")
    tree = copy_miniature()
    for name in DATA:
        (tree / name).mkdir(exist_ok=True)
    [command] = unit("ExecStart")
    words = [word.replace("%d", str(tmp_path)) for word in shlex.split(command)[1:]]
    words = [word.replace("%L/comfyui", str(tmp_path)) for word in words]
    before = {path for path in tree.rglob("*") if path.relative_to(tree).parts[0] not in DATA}
    confined = ["--mount", "sh", "-c", READ_ONLY, str(tree), sys.executable, *words]
    with start_server(tree, python="unshare", command=confined) as server:
        assert_asks_for_the_key(server)
        head = '--edge\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
        form = {**bearer(KEY), "Content-Type": "multipart/form-data; boundary=edge"}
        body = f"{head}picture\r\n--edge--\r\n".encode()
        assert ask(server, "/upload/image", form, method="POST", body=body).status == 200
        assert ask(server, "/userdata/x.json", bearer(KEY), method="POST", body=b"{}").status == 200
    assert (tree / "input/x.png").read_bytes() == b"picture"
    assert {path for path in tree.rglob("*") if path.relative_to(tree).parts[0] not in DATA} == before


def test_the_unit_does_not_repeat_what_cannot_succeed(copy_miniature: Any, tmp_path: Path) -> None:
    write_keys(tmp_path / "keys", "not a key\u00e9\n# \u00fc\nk\u00e9y\n")
    with pytest.raises(ServerDied) as died, started(copy_miniature, tmp_path):
        pass
    assert unit("RestartPreventExitStatus") == [str(died.value.returncode)]


# ---------------------------------------------------------------------------------------------------------------------
# Containers


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tool(name: str) -> str:
    """A program that pip has installed beside Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed (pip install --group deploy)")
    return found


def load(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (pip install --group deploy)")
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def dockerfile(instruction: str) -> str:
    text = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    [found] = re.findall(rf"^{instruction} (.*)$", text, re.M)
    return str(found)


@pytest.mark.parametrize("name", ["docker/compose.yaml", "fleet/compose.yaml"])
def test_compose_file_follows_its_schema(name: str, tmp_path: Path) -> None:
    check = tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"
    result = run(*check, str(DEPLOY / name))
    assert result.returncode == 0, result.stdout
    bad = tmp_path / "compose.yaml"
    bad.write_text(shipped(name, {"read_only: true": "read_onyl: true"}))
    assert run(*check, str(bad)).returncode == 1


@pytest.mark.parametrize("name", ["kubernetes/comfyui.yaml", "fleet/kubernetes.yaml"])
def test_kubernetes_manifest_follows_its_schemas(name: str, tmp_path: Path) -> None:
    check = tool("kubernetes-validate"), "--strict", "--kubernetes-version"
    for version in ("1.28", "1.34"):
        result = run(*check, version, str(DEPLOY / name))
        assert result.returncode == 0, result.stdout + result.stderr
    bad = tmp_path / "manifest.yaml"
    bad.write_text(shipped(name, {"defaultMode: 0440": "defaultMode: a440"}))
    assert run(*check, "1.34", str(bad)).returncode == 1


def test_the_image_alone_starts_comfyui_behind_its_key(copy_miniature: Any, tmp_path: Path) -> None:
    assert_container_works(copy_miniature, json.loads(dockerfile("CMD")), "/run/secrets/comfyui_keys", tmp_path)


def test_compose_starts_comfyui_behind_its_key(copy_miniature: Any, tmp_path: Path) -> None:
    [compose] = load("docker/compose.yaml")
    service = compose["services"]["comfyui"]
    [secret] = service["secrets"]
    assert compose["secrets"][secret] == {"file": "./keys.txt"}
    assert_container_works(copy_miniature, service["command"], f"/run/secrets/{secret}", tmp_path)
    assert service["user"].split(":")[0] == dockerfile("USER").split(":")[0] != "0"
    assert service["healthcheck"]["test"] == ["CMD", *health_check()]


def test_kubernetes_starts_comfyui_behind_its_key(copy_miniature: Any, tmp_path: Path) -> None:
    _, deployment, service = load("kubernetes/comfyui.yaml")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert_container_works(copy_miniature, container["args"], f"{mounts['keys']}/keys", tmp_path)
    assert mounts["data"] == dockerfile("VOLUME")
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == dockerfile("USER")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert "subPath" not in str(container)


def test_in_a_fleet_a_secret_names_the_state(copy_miniature: Any, tmp_path: Path) -> None:
    [compose] = load("fleet/compose.yaml")
    for number in range(3):
        service = compose["services"][f"comfyui-{number}"]
        assert service["secrets"] == ["comfyui_keys", "comfyui_auth_state"]
        assert service["healthcheck"]["test"] == ["CMD", *health_check()]
    (tmp_path / "address").write_text(str(tmp_path / "the-state.sqlite3"))
    secrets = {"/run/secrets/comfyui_auth_state": tmp_path / "address"}
    assert_container_works(copy_miniature, service["command"], "/run/secrets/comfyui_keys", tmp_path, secrets)
    assert (tmp_path / "the-state.sqlite3").is_file()


def assert_container_works(
    copy_miniature: Any,
    arguments: list[str],
    keys: str,
    folder: Path,
    secrets: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """The image with these arguments asks for the key, and its health check tells whether it is up."""
    write_keys(folder / "keys")
    programs = folder / "programs"
    programs.mkdir()
    (programs / "comfy-auth-rs").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m comfy_auth_rs "$@"\n')
    (programs / "comfy-auth-rs").chmod(0o755)
    tree = copy_miniature(patched=False)
    words = [*json.loads(dockerfile("ENTRYPOINT")), *arguments]
    ours = {
        **secrets,
        keys: folder / "keys",
        "/data": folder / "data",
        "/comfyui ": f"{tree} ",
        "--listen 0.0.0.0": "--listen 127.0.0.1",
    }
    for old, new in ours.items():
        assert any(old in word for word in words), old
        words = [word.replace(old, str(new)) if old in word else word for word in words]
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with start_server(tree, python=words[0], command=words[1:], env=path) as server:
        assert_asks_for_the_key(server)
        assert health(server.port) == 0
    assert (folder / "data" / "custom_nodes").is_dir()  # ComfyUI itself doesn't make this folder
    assert health(free_port()) != 0


def health_check() -> list[str]:
    """The image's health check as a list of words."""
    words: list[str] = json.loads(dockerfile("HEALTHCHECK").partition("CMD ")[2])
    return words


def health(port: int) -> int:
    """Runs the image's health check on our port. Returns its exit status."""
    program, option, code = health_check()
    assert (program, "127.0.0.1:8188" in code) == ("python", True)
    return run(sys.executable, option, code.replace("8188", str(port))).returncode
