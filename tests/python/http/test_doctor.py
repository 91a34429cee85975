"""`comfy-auth-rs doctor`: what it finds in a tree, and on a port."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from comfy_auth_rs import __version__, doctor
from comfy_auth_rs.comfyui.tree import patch, unpatch
from support.command import run, run_in_terminal
from support.keys import KEY
from support.servers import free_port
from support.trees import SERVER, make_tree

#: Each test starts processes.
pytestmark = pytest.mark.slow


def checks(result: subprocess.CompletedProcess[str], name: str) -> list[tuple[str, str]]:
    found = json.loads(result.stdout)
    assert found["safe"] == (result.returncode == 0)
    assert result.returncode == int("unsafe" in {check["state"] for check in found["checks"]})
    return [(check["state"], check["detail"]) for check in found["checks"] if check["name"].startswith(name)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = make_tree(tmp_path / "tree")
    patch(tree)
    return tree


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "api_key.txt"
    file.write_text(f"{KEY} label\n")
    file.chmod(0o600)
    return file


@contextmanager
def answering(status: int | None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """An HTTP server that answers every request with this status (None: hangs up). Yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert not {"authorization", "x-api-key", "cookie"} & {name.lower() for name in self.headers}
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        server.handle_error = lambda *_: None  # doctor tries HTTP on a TLS port
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_doctor_finds_nothing_wrong(tree, key_file):
    with answering(401) as port:
        arguments = ["doctor", tree, "--port", port, "--api-key-file", key_file]
        result = run(*arguments, "--json")
        assert checks(result, "ComfyUI") == [("ok", "version 0.3.64")]
        assert checks(result, "Patch") == [("ok", f"patched by version {__version__}")]
        assert checks(result, "Package") == [("ok", f"{sys.executable} imports version {__version__}")]
        assert checks(result, "Key file") == [("ok", f"{key_file}: 1 key")]
        assert checks(result, "Port")[0] == ("ok", "127.0.0.1 asks for the key")
        assert checks(result, "WebSocket") == [("ok", "/ws asks for the key")]
        table = run(*arguments)
    assert table.returncode == 0
    assert re.search(rf"^ok      Patch  +patched by version {re.escape(__version__)}$", table.stdout, re.MULTILINE)
    assert "\033" not in table.stdout
    assert KEY not in result.stdout + table.stdout


def test_doctor_knows_unpatched_half_patched_and_damaged(tree):
    port = str(free_port())
    patched = (tree / "server.py").read_text()
    (tree / "server.py").write_text(SERVER)
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port), "Patch")
    assert (state, detail.split(";")[0]) == ("unsafe", "half patched: server.py is not patched")
    unpatch(tree)
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port), "Patch")
    assert (state, detail.split(";")[0]) == ("unsafe", "not patched")
    patch(tree)
    (tree / "server.py").write_text(patched.replace("# <<<", "#"))
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port), "Patch")
    assert (state, detail.split(" (")[0]) == ("unsafe", "server.py: damaged comfy-auth-rs markers")


def test_doctor_does_not_import_the_tree(tree):
    (tree / "comfyui_version.py").write_text("__version__ = '0.8.0'\nraise SystemExit('imported')\n")
    port = str(free_port())
    assert checks(run("doctor", tree, "--json", "--port", port), "ComfyUI") == [("ok", "version 0.8.0")]
    for broken in ("__version__ = compute()", "x = 1", "not Python"):
        (tree / "comfyui_version.py").write_text(broken)
        assert checks(run("doctor", tree, "--json", "--port", port), "ComfyUI")[0][0] == "note"
    (tree / "comfyui_version.py").unlink()
    assert checks(run("doctor", tree, "--json", "--port", port), "ComfyUI")[0][0] == "note"


@pytest.mark.skipif(os.name != "posix", reason="a venv made of a shell script")
@pytest.mark.parametrize("venv", ["tree/venv/bin/python", "tree/.venv/bin/python", "python_embeded/python.exe"])
def test_doctor_asks_the_python_that_runs_the_tree(tmp_path, tree, venv):
    python = tmp_path / venv
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # sees no installed package
    python.chmod(0o755)
    port = str(free_port())
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port), "Package")
    assert state == "unsafe"
    assert detail.startswith(f"{python} cannot import it (ModuleNotFoundError: No module named 'comfy_auth_rs')")
    assert f"{python} -m pip install comfy-auth-rs" in detail
    named = checks(run("doctor", tree, "--json", "--port", port, "--python", sys.executable), "Package")
    assert named == [("ok", f"{sys.executable} imports version {__version__}")]
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port, "--python", "/no/python"), "Package")
    assert (state, "does not run" in detail) == ("unsafe", True)


def test_doctor_tells_what_a_bug_report_needs(tree):
    import aiohttp

    (tree / "custom_nodes" / "ComfyUI-Manager").mkdir(parents=True)
    result = run("doctor", tree, "--json", "--port", free_port())
    [(state, detail)] = checks(result, "Environment")
    expected = [f"{platform.python_implementation()} {platform.python_version()}", f"aiohttp {aiohttp.__version__}"]
    assert (state, detail.split(", ")) == ("ok", [*expected, platform.platform()])
    assert checks(result, "Manager") == [("ok", f"ComfyUI-Manager in {tree / 'custom_nodes' / 'ComfyUI-Manager'}")]
    (tree / "custom_nodes" / "ComfyUI-Manager").rename(tree / "custom_nodes" / "else")
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", free_port()), "Manager")
    assert (state, detail) == ("ok", "ComfyUI-Manager is not installed")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("name", [".", "server.py", "comfy/cli_args.py"])
def test_doctor_calls_files_unsafe_that_everybody_can_change(tree, name):
    tree.chmod(0o755)
    expected = ("ok", "the folder is yours (mode 755)")
    assert checks(run("doctor", tree, "--json", "--port", free_port()), "Permissions") == [expected]
    (tree / name).chmod(0o777)
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", free_port()), "Permissions")
    assert (state, detail) == (
        "unsafe",
        f"every user of this machine can change {tree / name}; run `chmod o-w` on it",
    )


def test_doctor_knows_what_was_patched_in_memory(tree):
    unpatch(tree)
    with answering(401) as port:
        [(state, detail)] = checks(run("doctor", tree, "--json", "--port", port), "Patch")
    assert (state, detail.split(" (")[0]) == ("ok", "not patched, but the running server asks for the key")
    with answering(200) as port:
        assert checks(run("doctor", tree, "--json", "--port", port), "Patch")[0][0] == "unsafe"


def test_doctor_lists_every_fault_of_a_key_file(tmp_path, tree, key_file):
    arguments = ["doctor", tree, "--json", "--port", free_port(), "--api-key-file", key_file, "--api-key-file"]
    other = tmp_path / "other.txt"
    assert [state for state, _ in checks(run(*arguments, other), "Key file")] == ["ok", "unsafe"]
    other.write_text(f"{KEY}\n{KEY}\nkéy\n")
    result = run(*arguments, other)
    faults = checks(result, "Key file")[1:]
    assert [(state, detail.split(":")[1]) for state, detail in faults] == [("unsafe", "2"), ("unsafe", "3")]
    assert KEY not in result.stdout
    other.write_text("short\n")
    other.chmod(0o600)
    assert [state for state, _ in checks(run(*arguments, other), "Key file")] == ["ok", "ok", "note"]


def test_doctor_names_keys_that_end_and_those_that_never_do(tmp_path, tree):
    def moment(days):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * 86_400))

    soon, late, past = moment(13.9), moment(14.1), moment(-29.9)
    lines = [
        "# ours", f"{KEY}-1 soon expires={soon}", f"{KEY}-2 expires={late}", f"{KEY}-3 expires={past}",
        f"{KEY}-4 ended expires=2020-01-01", f"{KEY}-5 owner", f"{KEY}-6 scope=run", f"{KEY}-7 from=::1",
        f"{KEY}-8 user=a",
    ]  # fmt: skip
    file = tmp_path / "keys.txt"
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    result = run("doctor", tree, "--json", "--port", free_port(), "--api-key-file", file)
    assert checks(result, "Keys") == [
        ("note", f"{file}:2: the key expires at {soon}; `comfy-auth-rs keys rotate` replaces it"),
        ("note", f"{file}:5: the key expired at 2020-01-02T00:00:00Z; remove the line"),
        (
            "note",
            f"{file}: keys that may do everything and never expire, on line 6, 9; limit them with scope= and expires=",
        ),
    ]
    assert checks(result, "Key file")[0][0] == "ok"
    assert KEY not in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_doctor_wants_a_private_key_file(tree, key_file, mode):
    key_file.chmod(mode)
    result = run("doctor", tree, "--json", "--port", free_port(), "--api-key-file", key_file)
    assert [state for state, _ in checks(result, "Key file")] == ["ok", "unsafe"]
    assert f"chmod 600 {key_file}" in checks(result, "Key file")[1][1]


@pytest.mark.parametrize("status", [200, 302, 404])
def test_doctor_calls_an_answer_without_a_key_unsafe(tree, status):
    with answering(status) as port:
        found = checks(run("doctor", tree, "--json", "--port", port), "Port")
    expected = (
        f"127.0.0.1 answers everyone on this machine without a key: /queue with {status}, /api/queue with {status}"
    )
    assert found == [("unsafe", expected), ("ok", "other machines cannot reach it")]


def test_doctor_tries_the_addresses_that_other_machines_use(tree):
    if not (remote := doctor._own_addresses()):
        pytest.skip("this machine has no address but the loopback one")
    with answering(200, "0.0.0.0") as port:
        found = checks(run("doctor", tree, "--json", "--port", port), "Port")
    assert (
        "unsafe",
        f"{remote[0]} answers other machines without a key: /queue with 200, /api/queue with 200",
    ) in found
    with answering(401, "0.0.0.0") as port:
        found = checks(run("doctor", tree, "--json", "--port", port), "Port")
    assert ("ok", f"{remote[0]} asks for the key") in found


def test_doctor_notes_that_nothing_listens_or_speaks_http(tree):
    assert [state for state, _ in checks(run("doctor", tree, "--json", "--port", free_port()), "Port")] == ["note"]
    with answering(None) as port:
        found = checks(run("doctor", tree, "--json", "--port", port), "Port")
    assert ("note", "127.0.0.1 listens, but gave no HTTP answer; try again") in found


def test_doctor_speaks_tls(tree, tmp_path):
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is needed to make a certificate")
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout key.pem -out cert.pem"
    subprocess.run([openssl, *request.split()], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    for status, state in ((401, "ok"), (200, "unsafe")):
        with answering(status, tls=tls) as port:
            assert checks(run("doctor", tree, "--json", "--port", port), "Port")[0][0] == state


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("settings", "coloured"),
    [
        ({"NO_COLOR": "", "TERM": "xterm"}, True),
        ({"NO_COLOR": "1", "TERM": "xterm"}, False),
        ({"NO_COLOR": "", "TERM": "dumb"}, False),
    ],
    ids=str,
)
def test_doctor_is_coloured_on_a_terminal_that_wants_it(tree, settings, coloured):
    result = run_in_terminal("doctor", tree, "--port", free_port(), **settings)
    output = result.stdout
    assert result.returncode == 0
    assert b"Patch" in output
    assert re.search(rb"\n {12,}\S", output)  # long lines are wrapped
    for line in re.sub(rb"\033\[[0-9;]*m", b"", output).splitlines():
        assert len(line) <= 80 or b" " not in line[21:]  # a long name is not cut
    assert (b"\033[32m" in output) == coloured


def test_own_addresses_are_not_loopback():
    for address in doctor._own_addresses():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))  # fails unless the address is this machine's
        assert not address.startswith(("127.", "::1"))


# ---------------------------------------------------------------------------------------------------------------------
# Files that somebody else can change

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root and another user's files")
NOBODY = 65534


def plant(tree: Path, marker: Path) -> Path:
    """Puts modules that a program could import, and an environment, into `tree`. Each of them notes that it ran."""
    tell = f"with open({str(marker)!r}, 'a') as told: told.write(__name__ + chr(10))\n"
    for name in ("platform", "json", "argparse", "aiohttp", "comfy_auth_rs", "sitecustomize", "ssl", "ast", "socket"):
        (tree / f"{name}.py").write_text(tell)
    python = tree / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho python >> {marker}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def give_away(*paths: Path) -> None:
    for path in paths:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def ask_doctor(*arguments: object, cwd: Path, module: bool) -> subprocess.CompletedProcess[str]:
    command = (
        [sys.executable, "-m", "comfy_auth_rs"] if module else [str(Path(sys.executable).parent / "comfy-auth-rs")]
    )
    return subprocess.run(
        [*command, "doctor", "--port", str(free_port()), "--json", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_root
@pytest.mark.parametrize("module", [True, False], ids=["-m", "command"])
def test_doctor_as_root_runs_nothing_of_another_user(tree, tmp_path, module):
    marker = tmp_path / "ran"
    python = plant(tree, marker)
    (tree / "comfy_auth_rs.py").unlink()  # Python itself would import this one before our code runs
    (tree / "venv/lib/python3.11/site-packages/comfy_auth_rs-1.2.3.dist-info").mkdir(parents=True)
    give_away(tree, *tree.rglob("*"))
    for cwd, directory in ((tmp_path, tree), (tree, tree), (tree, Path())):
        result = ask_doctor(directory, cwd=cwd, module=module)
        assert not marker.exists(), marker.read_text()
        [(state, detail)] = checks(result, "Package")
        assert state == "note"
        assert detail.startswith(f"{python} was not run, because nobody can change {tree}; ")
        assert f"run `sudo -u nobody {python} -m comfy_auth_rs doctor {directory}`" in detail
        assert "(the package: its folder has version 1.2.3)" in detail
        assert checks(result, "Patch") == [("ok", f"patched by version {__version__}")]


@needs_root
def test_doctor_imports_nothing_from_the_folder(tree, tmp_path):
    """Not even if it is root's own: code there is ComfyUI's."""
    marker = tmp_path / "ran"
    python = plant(tree, marker)
    result = ask_doctor(tree, cwd=tmp_path, module=False)
    assert marker.read_text() == "python\n"
    assert checks(result, "Package") == [("ok", f"{python} imports version {__version__}")]


def link(tree: Path, python: Path) -> None:
    (tree / "real").mkdir()
    python.rename(tree / "real/python")
    python.symlink_to("../../real/python")
    give_away(tree / "real/python")


def package(tree: Path, python: Path) -> None:
    (tree / "venv/lib/python3.11/site-packages").mkdir(parents=True)
    (tree / "venv/lib/python3.11/site-packages/x.pth").write_text("import os")
    give_away(tree / "venv/lib/python3.11/site-packages/x.pth")


def linked_package(tree: Path, python: Path) -> None:
    (tree / "venv/lib/python3.11").mkdir(parents=True)
    (tree / "packages").mkdir()
    (tree / "venv/lib/python3.11/site-packages").symlink_to(tree / "packages")
    give_away(tree / "packages")


def settings_of_environment(tree: Path, python: Path) -> None:
    (tree / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (tree / "venv/pyvenv.cfg").chmod(0o666)


@needs_root
@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda tree, python: give_away(python), "venv/bin/python"),
        (lambda tree, python: give_away(python.parent), "venv/bin"),
        (lambda tree, python: python.parent.chmod(0o777), "venv/bin"),
        (lambda tree, python: python.chmod(0o757), "venv/bin/python"),
        (lambda tree, python: (os.chown(python, 0, NOBODY), python.chmod(0o775)), "venv/bin/python"),
        (link, "real/python"),
        (package, "venv/lib/python3.11/site-packages/x.pth"),
        (linked_package, "packages"),
        (settings_of_environment, "venv/pyvenv.cfg"),
    ],
)  # fmt: skip
def test_doctor_as_root_looks_at_each_part_of_an_environment(tree, tmp_path, change, culprit):
    marker = tmp_path / "ran"
    change(tree, plant(tree, marker))
    for named in ([], ["--python", tree / "venv/bin/python"], ["--python", "venv/bin/python"]):
        result = ask_doctor(tree, *named, cwd=tree if named else tmp_path, module=False)
        [(state, detail)] = checks(result, "Package")
        assert (state, f" can change {tree / culprit}; run `" in detail) == ("note", True), detail
        assert not marker.exists()


def test_doctor_prints_no_escape_sequences_of_others(tree):
    (tree / "comfyui_version.py").write_text("__version__ = '\\x1b]0;owned\\x07\\u202e1'\n")
    result = run("doctor", tree, "--port", free_port())
    assert "version ?]0;owned??1" in result.stdout


# ---------------------------------------------------------------------------------------------------------------------
# What custom nodes serve to everyone


def test_doctor_names_nodes_that_serve_their_own_folder(tree):
    node = tree / "custom_nodes/node"
    (node / "web/deep").mkdir(parents=True)
    (node / "__init__.py").write_text("WEB_DIRECTORY = 'web'\nraise SystemExit('imported')")
    assert checks(run("doctor", tree, "--json", "--port", free_port()), "Web folder") == []
    (node / "web/deep/tool.py").write_text("")
    expected = f"{node} serves {node / 'web/deep/tool.py'} to everyone; keep only what browsers need there"
    assert checks(run("doctor", tree, "--json", "--port", free_port()), "Web folder") == [("note", expected)]
    (node / "__init__.py").write_text("WEB_DIRECTORY = '.'")
    [(state, detail)] = checks(run("doctor", tree, "--json", "--port", free_port()), "Web folder")
    assert (state, detail.split(",")[0]) == ("unsafe", f"{node} serves {node} to everyone")
    assert "name that in its WEB_DIRECTORY" in detail
