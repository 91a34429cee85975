"""nginx with TLS before servers under test, each under a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from servers import free_port

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 100m;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        "" close;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        {locations}
    }}
}}
"""

_LOCATION = """
        location {prefix} {{
            proxy_pass {url}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
"""


@contextmanager
def nginx(folder: Path, servers: Mapping[str, str]) -> Iterator[str]:
    """Serve each of `servers` (prefix such as /comfy/ to URL) over TLS until the block ends; yields nginx's origin."""
    port = free_port()
    locations = "".join(_LOCATION.format(prefix=prefix, url=url) for prefix, url in servers.items())
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, locations=locations))
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    names = "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(["openssl", *request.split(), *names.split()], cwd=folder, check=True, capture_output=True)
    # Debian keeps it where only root looks for programs.
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.PIPE)
    try:
        _wait_until_it_listens(process, folder / "nginx.pid")
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def _wait_until_it_listens(process: subprocess.Popen[bytes], pid_file: Path) -> None:
    deadline = time.monotonic() + 20
    while not pid_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"nginx did not start: {process.communicate()[1].decode()}")
        time.sleep(0.02)
