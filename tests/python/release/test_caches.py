"""A shared cache (nginx with `proxy_cache`) gives nobody an answer that another client got with a credential."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy_auth_rs
import pytest
from aiohttp import web
from support.client import BEARER, Answer, ask, bearer, fetch
from support.keys import KEY
from support.proxies import NGINX, nginx
from support.servers import Server, free_port, start_server

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: A cache that stores everything it may. The careless one also stores answers without Cache-Control for an hour.
SITE = """
proxy_cache_path {folder}/cache keys_zone=shared:1m;
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://127.0.0.1:{upstream};
        proxy_set_header Host $http_host;
        proxy_cache shared;
        {careless}
        add_header X-Cache $upstream_cache_status always;
    }}
}}
"""


@dataclass(frozen=True)
class Cached:
    """nginx with a cache. `server` is the ComfyUI behind it."""

    port: int
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        body = b"{}" if method == "POST" else None
        return ask(self, target, headers, method=method, body=body)


@pytest.fixture(scope="module")
def comfyui(copy_miniature: Any, key: str) -> Iterator[tuple[Server, str]]:
    tree: Path = copy_miniature()
    for file in ("output/secret.png", "user/default/secret.png"):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_bytes(PICTURE)
    with start_server(tree, "--api-key", key) as server:
        login = ask(server, "/auth_session", bearer(key), method="POST", body=b"")
        yield server, login.headers["Set-Cookie"].split(";")[0].split("=")[1]


@pytest.fixture(scope="module", params=["obedient", "careless"])
def cached(request: pytest.FixtureRequest, comfyui: tuple[Server, str], tmp_path_factory: Any) -> Iterator[Cached]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    server, _ = comfyui
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    careless = "proxy_cache_valid any 1h; proxy_cache_methods POST;" if request.param == "careless" else ""
    with nginx(folder, SITE.format(folder=folder, port=port, upstream=server.port, careless=careless)):
        yield Cached(port, server)


#: Targets that need a credential. ComfyUI marks those that look like pictures as public.
PRIVATE = (
    "/userdata/secret.png", "/api/userdata/secret.png", "/my_outputs/x.png", "/my_outputs/x.json",
    "/view?filename=secret.png", "/api/view?filename=secret.png&type=output", "/queue", "/history", "/userdata?dir=.",
    "/system_stats", "/internal/logs", "/witness/x.png", "/witness/x.js", "/no/such/picture",
)  # fmt: skip


@pytest.mark.parametrize("target", PRIVATE)
def test_a_cache_gives_nobody_what_needed_a_credential(
    cached: Cached, comfyui: tuple[Server, str], key: str, target: str
) -> None:
    separator = "&" if "?" in target else "?"
    cookie = {"Cookie": f"comfyui_session_{cached.port}={comfyui[1]}"}
    for headers in (bearer(key), {"X-API-Key": key}, cookie):
        for _ in range(2):
            mine = cached.ask(target, headers)
            assert mine.status in (200, 404)
            assert mine.headers.get("X-Cache") != "HIT"
        assert cached.ask(target).status == 401
    by_query = f"{target}{separator}api_key={key}"
    assert cached.ask(by_query).status in (200, 404)
    assert cached.ask(by_query).headers.get("X-Cache") != "HIT"
    assert cached.ask(target).status == 401
    assert cached.ask(target, bearer(key)).status in (200, 404)  # the refusal isn't cached either


@pytest.mark.parametrize("target", ["/witness/x.png", "/userdata/secret.png"])
def test_nor_what_another_method_got(cached: Cached, key: str, target: str) -> None:
    """If the path looks like a picture's, ComfyUI marks the answer to any method as public."""
    for _ in range(2):
        mine = cached.ask(target, bearer(key), "POST")
        assert mine.status in (200, 400, 405, 409)
        assert mine.headers.get("X-Cache") != "HIT"
    assert cached.ask(target, method="POST").status == 401


def test_pictures_of_the_frontend_may_be_kept(cached: Cached, key: str) -> None:
    target = frontend_picture()
    first = cached.ask(target, bearer(key))
    assert (first.status, first.headers["Cache-Control"]) == (200, "public, max-age=86400")
    again = cached.ask(target)
    assert (again.status, again.headers["X-Cache"]) == (200, "HIT")
    assert again.body == first.body


def test_browsers_keep_pictures_as_before(unpatched: Server, comfyui: tuple[Server, str], key: str) -> None:
    """For a day, in each browser's own cache."""
    server, _ = comfyui
    for target in ("/userdata/secret.png", "/my_outputs/x.png", "/witness/x.png"):
        answer = ask(server, target, bearer(key))
        assert answer.headers["Cache-Control"] == "private, max-age=86400"
        revalidated = ask(server, target, {**bearer(key), "If-None-Match": answer.headers.get("ETag", '"x"')})
        assert revalidated.headers["Cache-Control"] == "private, max-age=86400"
    assert ask(unpatched, "/my_outputs/x.png").headers["Cache-Control"] == "public, max-age=86400"


def test_what_a_handler_says_is_kept_otherwise(comfyui: tuple[Server, str], key: str) -> None:
    server, _ = comfyui
    for target, expected in (
        ("/", "private, no-cache"),
        ("/witness/x.js", "private, no-cache"),
        ("/queue", "private"),
        ("/health", "no-store"),
        ("/auth_login.html", "no-cache"),
        ("/extensions/witness/x.js", "no-cache"),
        (frontend_picture(), "public, max-age=86400"),
    ):
        assert ask(server, target, bearer(key)).headers["Cache-Control"] == expected, target
    for target in ("/queue", "/userdata/secret.png", "/"):
        assert ask(server, target).headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in ask(server, "/interrupt", bearer(key), method="POST", body=b"{}").headers
    posted = ask(server, "/witness/x.png", bearer(key), method="POST", body=b"{}")
    assert posted.headers["Cache-Control"] == "private, max-age=86400"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (None, "private"),
        ("public", "private"),
        ("Public, Max-Age=60", "private, Max-Age=60"),
        ("public, s-maxage=60", "private, s-maxage=60"),
        ("no-cache", "private, no-cache"),
        ('private="X-Name", max-age=60', 'private, private="X-Name", max-age=60'),
        ("max-age=60, x-private", "private, max-age=60, x-private"),
        ("Private, max-age=60", "Private, max-age=60"),
        ("NO-STORE", "NO-STORE"),
        ("", "private"),
    ],
)
async def test_whatever_a_handler_says(aiohttp_server: Any, said: str | None, kept: str) -> None:
    async def get_secret(request: web.Request) -> web.Response:
        return web.Response(headers={} if said is None else {"Cache-Control": said})

    app = web.Application()
    app.router.add_get("/secret", get_secret)
    comfy_auth_rs.setup(app, api_key=KEY)
    server = await aiohttp_server(app)
    assert (await fetch(server, "/secret", BEARER)).headers["Cache-Control"] == kept


def frontend_picture() -> str:
    """The path of a picture in the frontend."""
    from importlib.resources import files

    root = Path(str(files("comfyui_frontend_package"))) / "static"
    found = min(root.rglob("*.png"), default=None) or min(root.rglob("*.webp"))
    return f"/{found.relative_to(root).as_posix()}"
