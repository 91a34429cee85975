"""nginx with TLS in front of servers under test, each under its own folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support import proxies
from support.servers import free_port

_SITE = """
client_max_body_size 100m;
map $http_upgrade $connection_upgrade {{
    default upgrade;
    "" close;
}}
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/fullchain.pem;
    ssl_certificate_key {folder}/privkey.pem;
    {locations}
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
    proxies.make_certificate(folder)
    with proxies.nginx(folder, _SITE.format(folder=folder, port=port, locations=locations)):
        yield f"https://127.0.0.1:{port}"
