"""docs/tutorials/fleet.md, typed word for word: three of its twenty nodes, at their own addresses."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import fleet as programs
from support import namespaces, proxies
from support.namespaces import network
from support.snippets import TUTORIALS
from support.tutorials import Reader, blocks, follow

PAGE = TUTORIALS / "fleet.md"
REASON = namespaces.why_not() or ("" if proxies.NGINX and programs.VALKEY else "nginx or Valkey is not installed")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

GATEWAY, NODES = 5, (10, 11, 12)

#: Debian's folders. The test uses the same paths below its own folder.
FOLDERS = ("/etc/valkey", "/var/lib/valkey", "/etc/nginx", "/var/log/nginx")

MAIN = """
daemon on; user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/var/log/nginx/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/etc/nginx/conf.d/*.conf;
}}
"""

#: `ssh` and `scp` lead to the home folder of a node, and to its address.
PROGRAMS = {
    "python3": 'exec {python} "$@"',
    "pip": """[ "$*" = 'install comfy-auth-rs[valkey]' ]""",
    "comfy-auth-rs": 'exec {python} -m comfy_auth_rs "$@"',
    "sudo": 'exec "$@"',
    "install": '[ "$1 $2" = "-o valkey" ] && shift 2; exec /usr/bin/install "$@"',
    "ssh": """host=$1; shift
        exec ip netns exec "$(cat "$FLEET/$host.namespace")" env HOME="$FLEET/$host" sh -c "cd; $*" """,
    "scp": '[ "$1" = -q ] && shift; to="${{@: -1}}"; cp "${{@:1:$#-1}}" "$FLEET/${{to%:}}"',
    "nginx": 'exec "$NGINX_PROGRAM" -c "$FLEET/main.conf" "$@"',
    "systemctl": """case "$*" in
        "restart valkey-server")
            "$VALKEY_PROGRAM" "$FLEET/etc/valkey/valkey.conf" > "$FLEET/valkey.log" 2>&1 < /dev/null &
            echo $! > "$FLEET/valkey.pid"; sleep 0.5;;
        "restart nginx") exec nginx;;
        *) exit 1;;
    esac""",
}


class Operator(Reader):
    """The person who types at the gateway."""

    def __init__(self, folder: Path, inside: tuple[str, ...]) -> None:
        self._folder = folder
        super().__init__(folder, PROGRAMS, inside)

    def filled(self, code: str) -> str:
        for path in FOLDERS:
            code = code.replace(path, f"{self._folder}{path}")
        return code.replace("{10..29}", f"{{{NODES[0]}..{NODES[-1]}}}")


@contextmanager
def operator(folder: Path, copy_miniature: Callable[..., Path]) -> Iterator[Operator]:
    for path in (*FOLDERS, "/etc/nginx/conf.d"):
        Path(f"{folder}{path}").mkdir(parents=True)
    (folder / "main.conf").write_text(MAIN.format(folder=folder))
    shipped = folder / "home/comfy-auth-rs/deploy/fleet"
    shutil.copytree(proxies.DEPLOY / "fleet", shipped)
    site = (shipped / "nginx.conf").read_text()
    for path in FOLDERS:
        site = site.replace(path, f"{folder}{path}")
    (shipped / "nginx.conf").write_text(site)
    with network("10.0.0") as found:
        for number in NODES:
            host = found.host(number)
            (folder / f"{host.address}.namespace").write_text(host.namespace)
            shutil.copytree(copy_miniature(patched=False), folder / host.address / "ComfyUI")
        reader = Operator(folder, found.host(GATEWAY).inside)
        try:
            yield reader
        finally:
            reader.leaves()
            for file in (*folder.glob("*.pid"), *folder.glob("10.0.0.*/comfyui.pid")):
                end(int(file.read_text()))


def end(pid: int) -> None:
    """Ends a process that the shell has left running."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in range(200):
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def test_it_can_be_followed(
    copy_miniature: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET", str(tmp_path))
    monkeypatch.setenv("NGINX_PROGRAM", str(proxies.NGINX))
    monkeypatch.setenv("VALKEY_PROGRAM", str(programs.VALKEY))
    with operator(tmp_path, copy_miniature) as someone:
        assert follow(PAGE, someone) >= 8


def test_all_of_it_is_typed() -> None:
    found = blocks(PAGE)
    assert {block.needs for block in found} == {"", "prints"}
    assert {block.language for block in found if block.needs == ""} == {"sh"}
    assert len(found) > 20
