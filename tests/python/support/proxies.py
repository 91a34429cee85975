"""Runs nginx, Caddy and Traefik as children of a test, with the files under deploy/ or other configurations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.client import ask
from support.servers import free_port

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"

# Debian installs nginx where only root looks for programs; pip installs Traefik beside Python.
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
NGINX, CADDY, TRAEFIK = (shutil.which(name, path=_PATH) for name in ("nginx", "caddy", "traefik"))

_NGINX_MAIN = """
daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy that listens on `port` of 127.0.0.1. It writes only into `folder`."""

    name: str
    port: int
    folder: Path
    scheme: str = "https"

    @property
    def url(self) -> str:
        """Its origin, without a trailing slash."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def logs(self) -> str:
        """Everything it has logged."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))


@dataclass(frozen=True)
class Upstreams:
    """`address:port` of ComfyUI, and of a neighbour below /neighbour/."""

    comfyui: str
    neighbour: str


def shipped(name: str, changes: Mapping[str, str]) -> str:
    """The file `name` of deploy/ with `changes` made to it. It must contain each text that they replace."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} does not contain {old!r}"
        text = text.replace(old, new)
    return text


@contextmanager
def deployed(name: str, folder: Path, upstreams: Upstreams) -> Iterator[Proxy]:
    """Runs the proxy `name` as in deploy/, with a neighbour, until the block ends."""
    make_certificate(folder)
    proxy = Proxy(name, free_port(), folder)
    with {"nginx": _shipped_nginx, "caddy": _shipped_caddy, "traefik": _shipped_traefik}[name](proxy, upstreams):
        yield proxy


def make_certificate(folder: Path) -> None:
    """Makes a self-signed certificate for 127.0.0.1: `fullchain.pem` and `privkey.pem`."""
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    names = "-addext subjectAltName=IP:127.0.0.1 -keyout privkey.pem -out fullchain.pem"
    subprocess.run(["openssl", *request.split(), *names.split()], cwd=folder, check=True, capture_output=True)


@contextmanager
def _shipped_nginx(proxy: Proxy, upstreams: Upstreams) -> Iterator[None]:
    changes = {"127.0.0.1:9000": upstreams.neighbour}
    (proxy.folder / "neighbour.conf").write_text(shipped("nginx/neighbour.conf", changes))
    changes = {
        "listen 443": f"listen 127.0.0.1:{proxy.port}",
        "listen [::]:443 ssl;": "",
        "listen 80": f"listen 127.0.0.1:{free_port()}",
        "listen [::]:80;": "",
        "/etc/ssl/comfyui/": f"{proxy.folder}/",
        "/var/log/nginx/": f"{proxy.folder}/",
        "127.0.0.1:8188": upstreams.comfyui,
        "# include /etc/nginx/comfyui-neighbour.conf;": f"include {proxy.folder}/neighbour.conf;",
    }
    with nginx(proxy.folder, shipped("nginx/comfyui.conf", changes)):
        yield


@contextmanager
def nginx(folder: Path, site: str) -> Iterator[None]:
    """Runs nginx until the block ends, with `site` in its `http` block like a file in /etc/nginx/conf.d/."""
    with _child(nginx_command(folder, site), folder) as process:
        pid = folder / "nginx.pid"
        _until(process, lambda: pid.exists() and pid.read_text().strip() != "")
        yield


def nginx_command(folder: Path, site: str) -> list[str]:
    """The command that starts it. `nginx -t` must succeed without a warning."""
    assert NGINX, "nginx is not installed"
    user = "user root;" if os.getuid() == 0 else ""  # other users can't read its folder
    (folder / "nginx.conf").write_text(_NGINX_MAIN.format(folder=folder, user=user))
    (folder / "site.conf").write_text(site)
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    _check([*command, "-t"], folder, r"\[(warn|error|emerg)\]")
    return command


@contextmanager
def _shipped_caddy(proxy: Proxy, upstreams: Upstreams) -> Iterator[None]:
    assert CADDY, "caddy is not installed"
    folder, port = proxy.folder, proxy.port
    changes = {"127.0.0.1:8188": upstreams.comfyui, "127.0.0.1:9000": upstreams.neighbour}
    (folder / "neighbour.caddy").write_text(shipped("caddy/neighbour.caddy", changes))
    changes = {
        # With this certificate, Caddy doesn't request one.
        "comfyui.example.com {": f"https://127.0.0.1:{port} {{\n\ttls {folder}/fullchain.pem {folder}/privkey.pem\n",
        "\tlog default {": "\tadmin off\n\tauto_https disable_redirects\n\n\tlog default {",
        "127.0.0.1:8188": upstreams.comfyui,
        "# import /etc/caddy/comfyui-neighbour.caddy": f"import {folder}/neighbour.caddy",
    }
    (folder / "Caddyfile").write_text(shipped("caddy/Caddyfile", changes))
    options = ["--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    _check([CADDY, "validate", *options], folder, r'"level":"error"|not formatted')
    with _child([CADDY, "run", *options], folder) as process:
        _until(process, lambda: '"serving initial configuration"' in proxy.logs)
        yield


@contextmanager
def _shipped_traefik(proxy: Proxy, upstreams: Upstreams) -> Iterator[None]:
    assert TRAEFIK, "traefik is not installed"
    changes = {
        "comfyui.example.com": "127.0.0.1",
        "/etc/ssl/comfyui/": f"{proxy.folder}/",
        "comfyui:8188": upstreams.comfyui,
        "neighbour:9000": upstreams.neighbour,
    }
    (proxy.folder / "comfyui.yml").write_text(shipped("traefik/comfyui.yml", changes))
    changes = {
        '":80"': f'"127.0.0.1:{free_port()}"',
        '":443"': f'"127.0.0.1:{proxy.port}"',
        "/etc/traefik/": f"{proxy.folder}/",
    }
    (proxy.folder / "traefik.yml").write_text(shipped("traefik/traefik.yml", changes))
    with _child([TRAEFIK, f"--configFile={proxy.folder}/traefik.yml"], proxy.folder) as process:
        _until(process, lambda: _answers(proxy))
        yield


def _answers(proxy: Proxy) -> bool:
    """Whether it listens and has read its configuration. It doesn't log that."""
    assert '"error"' not in proxy.logs and " ERR " not in proxy.logs, proxy.logs
    try:
        return ask(proxy, "/health").status == 200
    except OSError:
        return False


def _check(command: list[str], folder: Path, bad: str) -> None:
    """Lets the proxy itself check a configuration."""
    result = subprocess.run(command, capture_output=True, text=True, env=_environment(folder), check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert not re.search(bad, said), said


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


@contextmanager
def _child(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=_environment(folder))
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def _until(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Waits for a proxy to start."""
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, f"it ended with exit status {process.returncode}"
        assert time.monotonic() < deadline, "it did not start in time"
        time.sleep(0.02)
