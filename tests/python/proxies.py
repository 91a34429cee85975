"""nginx as a child of a test, with a configuration of the test's own or one that is shipped under deploy/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

#: Debian keeps nginx where only root looks for programs.
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_MAIN = """
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
    """A proxy that listens on `port` of 127.0.0.1."""

    port: int
    scheme: str = "https"

    @property
    def url(self) -> str:
        """Its origin: no trailing slash."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


def shipped(name: str, changes: Mapping[str, str]) -> str:
    """The file `name` of deploy/ with this test's ports and paths in place of its own. Each must stand in it."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} says nothing of {old!r}"
        text = text.replace(old, new)
    return text


def make_certificate(folder: Path) -> None:
    """`fullchain.pem` and `privkey.pem` for 127.0.0.1."""
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    names = "-addext subjectAltName=IP:127.0.0.1 -keyout privkey.pem -out fullchain.pem"
    subprocess.run(["openssl", *request.split(), *names.split()], cwd=folder, check=True, capture_output=True)


@contextmanager
def nginx(folder: Path, site: str) -> Iterator[None]:
    """nginx with `site` in its `http` block, as a file in /etc/nginx/conf.d/ is, until the block ends.

    `nginx -t` must say that it is all right, and without a warning.
    """
    assert NGINX, "nginx is not installed"
    user = "user root;" if os.getuid() == 0 else ""  # its folder is not for others
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
    (folder / "site.conf").write_text(site)
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    test = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert test.returncode == 0, test.stderr
    assert not re.search(r"\[(warn|error|emerg)\]", test.stderr), test.stderr
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            _wait_for(folder / "nginx.pid", process)
            yield
        finally:
            process.terminate()


def _wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not file.exists() or not file.read_text().strip():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"nginx did not start: {process.communicate()[1].decode()}")
        time.sleep(0.02)
