"""Starting the patched miniature: what stops it, what it warns of, restarts, and changes of key files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.comfyui.transform import CLI_ARGS, SERVER
from support import warm
from support.client import ask, bearer
from support.keys import KEY, OTHER_KEY
from support.servers import MINI_COMFYUI, Server, ServerDied, free_port, start_server

PREFIX = "comfy-auth-rs: error: "

CopyMiniature = Callable[..., Path]


def launch(
    tree: Path, *args: str, python: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python3 main.py ARGS…`, which must end on its own. `python` is another way to start Python."""
    words = ("main.py", "--port", str(free_port()), *args)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    if not python:
        return warm.run(*words, cwd=tree, env=environment, timeout=30)
    return subprocess.run(
        [*python, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def fault(tree: Path, *args: str, silent: bool = True, **more: Any) -> str:
    """Why it doesn't start: the one line that it prints, without its prefix.

    `silent`: it prints nothing else, because it finds the fault before ComfyUI does anything.
    """
    result = launch(tree, *args, **more)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    *before, line = result.stderr.splitlines(keepends=True)
    assert line.startswith(PREFIX), result.stderr
    assert line.endswith("\n")
    assert not (silent and before), result.stderr
    for word in (PREFIX, "Traceback", "To see the GUI"):
        assert word not in "".join(before)
    assert "canary" not in result.stderr
    return line.removeprefix(PREFIX).rstrip("\n")


# --- what stops the start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([""], "--api-key: the key is empty"),
        ([KEY, ""], "--api-key: the key is empty"),
        (["canary key"], "--api-key: character 7 of the key is not visible ASCII"),
        ([" canary"], "--api-key: character 1 of the key"),
        (["canary\n"], "--api-key: character 7 of the key"),
        (["canary\x07"], "--api-key: character 7 of the key"),
        (["canaryé"], "--api-key: character 7 of the key"),
        (["canary" * 200], "--api-key: the key is longer than 1024 characters"),
        (["sha256:canary"], "--api-key: sha256: must be followed by exactly 64 hexadecimal digits"),
        (["[redacted]"], "--api-key: the key was removed from the arguments of the process that started this one"),
    ],
)
@pytest.mark.parametrize("joined", [False, True], ids=["--api-key KEY", "--api-key=KEY"])
def test_refuses_a_bad_key(patched_miniature: Path, keys: list[str], words: str, joined: bool) -> None:
    flags = [flag for key in keys for flag in ([f"--api-key={key}"] if joined else ["--api-key", key])]
    assert fault(patched_miniature, *flags).startswith(words)


def test_refuses_a_variable_that_is_not_set(patched_miniature: Path) -> None:
    """The guide's `--api-key "$COMFYUI_API_KEY"` in a shell without that variable."""
    python = ("bash", "-c", 'unset COMFYUI_API_KEY; exec "$0" "$@" --api-key "$COMFYUI_API_KEY"', sys.executable)
    assert fault(patched_miniature, python=python).startswith("--api-key: the key is empty (an unset variable?)")


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b"", "", "the key file holds no key"),
        (b"\n\r\n# only a comment\n", "", "the key file holds no key"),
        (b"\xef\xbb\xbf", "", "the key file holds no key"),
        (b"good-canary\ncanary\xe9\n", ":2", "not UTF-8 text"),
        (bytes(range(256)) * 4, ":1", ""),
        (b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", ":1", "not UTF-8 text"),
        ("# keys\n\ngood-canary\ncanäry label\n".encode(), ":4", "character 4 of the key is not visible ASCII"),
        (b"canary\x07\n", ":1", "character 7 of the key"),
        (b"canary label\x1b[31m\n", ":1", "the label holds a control character"),
        (b"good-canary\n" + b"canary" * 200 + b"\n", ":2", "the key is longer than 1024 characters"),
        (b"sha256:canary\n", ":1", "sha256: must be followed by exactly 64 hexadecimal digits"),
        (b"canary one\nother\ncanary two\n", ":3", "the same key as on line 1"),
    ],
)
def test_refuses_a_bad_key_file(
    patched_miniature: Path, tmp_path: Path, content: bytes, place: str, words: str
) -> None:
    file = tmp_path / "api_key.txt"
    file.write_bytes(content)
    file.chmod(0o600)
    found = fault(patched_miniature, "--api-key-file", str(file))
    assert found.startswith(f"{file}{place}: {words}")
    # A good key beside it doesn't help: everything that the operator wrote must be right.
    assert fault(patched_miniature, "--api-key", KEY, "--api-key-file", str(file)) == found


def test_refuses_what_is_no_file(patched_miniature: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, words in (
        ("missing.txt", "the key file does not exist"),
        ("missing/api_key.txt", "the key file does not exist"),
        ("dangling", "the key file does not exist"),
        ("", "not a regular file"),
        ("pipe", "not a regular file"),
    ):
        path = f"{tmp_path}/{name}" if name else str(tmp_path)
        assert fault(patched_miniature, "--api-key-file", path).startswith(f"{path}: {words}")
    assert fault(patched_miniature, "--api-key-file", "/dev/null").startswith("/dev/null: not a regular file")


# Root may read every file, whatever its mode, unless it drops these two capabilities (capabilities(7)).
WITHOUT_PRIVILEGES = """\
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
if os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            sys.exit("prctl failed")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="drops root's privileges as Linux has them")
def test_refuses_an_unreadable_key_file(patched_miniature: Path, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    file.write_text(KEY)
    file.chmod(0)
    python = (sys.executable, "-c", WITHOUT_PRIVILEGES, sys.executable)
    found = fault(patched_miniature, "--api-key-file", str(file), python=python)
    assert found == f"{file}: the key file cannot be read by this user; change its owner or mode"


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--auth-exempt", "", "must begin with /"),
        ("--auth-exempt", "frame/*", "must begin with /"),
        ("--auth-exempt", "*", "must begin with /"),
        ("--auth-exempt", "^/(unclosed", "is not a regular expression"),
        ("--auth-trusted-proxy", "", ""),
        ("--auth-trusted-proxy", "proxy.example", ""),
        ("--auth-trusted-proxy", "10.0.0.0/33", ""),
        ("--auth-trusted-proxy", "10.0.0.1/8/8", ""),
        ("--auth-client-field", "", "is not a header name; write one such as X-Real-IP"),
        ("--auth-client-field", "X Real IP", "is not a header name"),
        ("--auth-client-field", "X-Real-IP:", "is not a header name"),
        ("--auth-origin", "", "is not an origin; write scheme://host or scheme://host:port"),
        ("--auth-origin", "comfy.example", "is not an origin"),
        ("--auth-origin", "https://comfy.example/", "is not an origin"),
        ("--auth-origin", "https://*.example", "is not an origin"),
    ],
)
def test_refuses_bad_values(patched_miniature: Path, flag: str, value: str, words: str) -> None:
    found = fault(patched_miniature, "--api-key", KEY, flag, value, silent=False)
    assert found.startswith(f'{flag}: "{value}" ')
    assert words in found


#: Mistakes that people make when they write a key, or an address with one. K is the key, | is a space.
MISPLACED = """
--api-k=K --api_key=K --api_key|K --api-key-fil=K --api-key-fil|K --api-key-file|K --api-keys|K --apikey=K
-api-key|K --API-KEY|K --key=K --key|K --token|K --auth-key|K --auth-api-key=K --auth=K --auth-requ=K
--auth-require-ws=K --auth-require-ws|K --auth-url-key=K --auth-state|redis://:K@h/x --auth-st=http://K@h
api_key=K K -kK --port|K
--port=K --preview-method|K --cpu=K --auth-origin|https://any:K@host --auth-origin=https://host/?api_key=K
--auth-exempt=K --auth-exempt|^(K --auth-ex=^/x?token=K( --auth-trusted-proxy=K --auth-client-field=K:
--auth-client-field|X-Key:K --|K
""".split()  # noqa: SIM905


@pytest.mark.slow
@pytest.mark.parametrize("words", MISPLACED)
def test_shows_no_key_that_is_in_a_wrong_place(patched_miniature: Path, words: str) -> None:
    for key in ([], ["--api-key", "a-good-key-of-32-characters-or-more"]):
        result = launch(patched_miniature, *key, *words.replace("K", KEY).split("|"))
        assert result.returncode == 2, result.stderr
        assert "canary" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--auth-require-ws",),
        ("--auth-exempt", "/view"),
        ("--auth-trusted-proxy", "10.0.0.1"),
        ("--auth-client-field", "X-Real-IP"),
        ("--auth-origin", "https://comfy.example"),
        ("--auth-state", "state.sqlite3"),
        ("--auth-url-key",),
    ],
    ids=str,
)
def test_refuses_flags_that_need_a_key_without_one(patched_miniature: Path, flags: tuple[str, ...]) -> None:
    found = fault(patched_miniature, *flags, silent=False)
    assert found.startswith(f"{flags[0]}: nothing asks for a key yet")


@pytest.mark.parametrize("flags", [("--api-key", KEY), ("--api-key-file", "api_key.txt"), ()], ids=str)
@pytest.mark.parametrize("name", [SERVER, CLI_ARGS])
def test_refuses_to_start_half_patched(copy_miniature: CopyMiniature, name: str, flags: tuple[str, ...]) -> None:
    """`name` is the file that isn't patched."""
    tree = copy_miniature()
    (tree / "api_key.txt").write_text(KEY)
    shutil.copyfile(MINI_COMFYUI / name, tree / name)
    if name == SERVER and not flags:
        # Nobody asked for protection, so nobody relies on it.
        with start_server(tree) as server:
            assert ask(server, "/queue").status == 200
    elif name == SERVER:
        assert "its server.py is not patched; run `comfy-auth-rs patch" in fault(tree, *flags)
    elif flags:
        result = launch(tree, *flags)  # ComfyUI's own parser doesn't know the flag
        assert result.returncode == 2
        assert f"unrecognized arguments: {' '.join(flags)}" in result.stderr
    else:
        assert "comfy/cli_args.py is not patched; run `comfy-auth-rs patch" in fault(tree, silent=False)


# With -S, Python uses only the packages in PYTHONPATH.
BARE = (sys.executable, "-S")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Everything that ComfyUI needs from this Python, but not us."""
    import aiohttp

    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(aiohttp.__file__).parents[1].iterdir():
        if not entry.name.startswith("comfy_auth_rs") and entry.suffix not in (".pth", ".egg-link"):
            (site / entry.name).symlink_to(entry)
    return site


@pytest.mark.parametrize("unpatched", [None, SERVER, CLI_ARGS], ids=["both", CLI_ARGS, SERVER])
def test_refuses_to_start_without_the_package(copy_miniature: CopyMiniature, site: Path, unpatched: str | None) -> None:
    """`unpatched` is the file that isn't patched, if any."""
    tree = copy_miniature()
    if unpatched:
        shutil.copyfile(MINI_COMFYUI / unpatched, tree / unpatched)
    found = fault(tree, python=BARE, env={"PYTHONPATH": str(site)}, silent=unpatched != CLI_ARGS)
    assert f"ComfyUI is patched, but {sys.executable} cannot import comfy_auth_rs" in found
    assert f"{sys.executable} -m pip install comfy-auth-rs" in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no attribute"),
        ("raise RuntimeError('wrong ABI')", "wrong ABI"),
        ("raise AttributeError('module has no attribute AppKey')", "no attribute AppKey"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("(", "'(' was never closed"),
    ],
)
@pytest.mark.parametrize("unpatched", [None, CLI_ARGS], ids=["both", SERVER])
def test_refuses_to_start_with_another_package(
    copy_miniature: CopyMiniature, site: Path, content: str, words: str, unpatched: str | None
) -> None:
    """A version without the functions that the inserted lines call, or one that doesn't work in this Python."""
    (site / "comfy_auth_rs").mkdir()
    (site / "comfy_auth_rs" / "__init__.py").touch()
    (site / "comfy_auth_rs" / "comfyui.py").write_text(content)
    tree = copy_miniature()
    if unpatched:
        shutil.copyfile(MINI_COMFYUI / unpatched, tree / unpatched)
    found = fault(tree, python=BARE, env={"PYTHONPATH": str(site)}, silent=unpatched is None)
    assert f"ComfyUI is patched, but {sys.executable} cannot import comfy_auth_rs (" in found
    assert words in found
    assert f"{sys.executable} -m pip install comfy-auth-rs --upgrade" in found


@pytest.mark.parametrize("version", ["3.8.6", "2.0", "3.8.0rc1"])
def test_refuses_an_aiohttp_that_is_too_old(patched_miniature: Path, tmp_path: Path, version: str) -> None:
    old = tmp_path / "aiohttp"
    old.mkdir()
    (old / "__init__.py").write_text(f"__version__ = {version!r}\n")
    found = fault(patched_miniature, "--api-key", KEY, env={"PYTHONPATH": str(tmp_path)})
    assert f"comfy_auth_rs needs aiohttp 3.9 or later, and this is {version}; run `" in found
    assert f"{sys.executable} -m pip install --upgrade aiohttp`" in found


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("self.app.router.add_get('/health', print_nothing)", "", "the server already has a route /health"),
        ("self.app.router.add_get('/api/health', print_nothing)", "", "the server already has a route /api/health"),
        ("self.app.router.add_get('/', print_nothing)", "", "the server already has a route /,"),
        ("self.app.router.add_post('/auth_session', print_nothing)", "", "already has a route /auth_session"),
        ("self.app.freeze()", "", "must be called once, before ComfyUI starts to serve"),
        ("", "_comfy_auth_rs.install(self, args)", "must be called once, before ComfyUI starts to serve"),
        ("import comfy_auth_rs; comfy_auth_rs.setup(self.app, api_key='x')", "", "must be called once"),
    ],
)
def test_refuses_a_server_that_it_cannot_protect(
    copy_miniature: CopyMiniature, before: str, after: str, words: str
) -> None:
    """A fork that has the same routes as we do, or one that was changed by hand."""
    tree = copy_miniature()
    indent = " " * 8
    begin, end = f"{indent}# >>> comfy-auth-rs >>>\n", f"{indent}# <<< comfy-auth-rs <<<\n"
    source = (tree / SERVER).read_text()
    source = source.replace(begin, f"{indent}{before}\n{begin}").replace(end, f"{end}{indent}{after}\n")
    (tree / SERVER).write_text(source + "\n\nasync def print_nothing(request): ...\n")
    assert words in fault(tree, "--api-key", KEY, silent=False)


@pytest.mark.parametrize("flags", [(), ("--whitelist-custom-nodes", "frame")], ids=str)
def test_the_key_is_asked_for_without_custom_nodes_too(copy_miniature: CopyMiniature, flags: tuple[str, ...]) -> None:
    flags = ("--disable-all-custom-nodes", *flags)
    with start_server(copy_miniature(), "--api-key", KEY, *flags) as server:
        for target in ("/queue", "/api/queue", "/userdata/x.json", "/nothing"):
            assert ask(server, target).status == 401
        assert ask(server, "/queue", bearer(KEY)).status == 200
    assert "--api-key: the key is empty" in fault(copy_miniature(), "--api-key", "", *flags)


# --- warnings ---------------------------------------------------------------------------------------------------


def test_warns_of_a_short_key_and_of_a_readable_file(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    file.write_text(f"# ours\n{KEY} laptop\ncanary-short\n")
    file.chmod(0o644)
    with start_server(copy_miniature(), "--api-key-file", str(file), "--api-key", "canary-2") as server:
        warnings = [line for line in server.output.splitlines() if line.startswith("comfy-auth-rs: ")]
        assert len([line for line in warnings if "shorter than 32 characters" in line]) == 2
        assert any(line.startswith(f"comfy-auth-rs: {file}:3: the key is shorter") for line in warnings)
        assert any(line.startswith("comfy-auth-rs: --api-key: the key is shorter") for line in warnings)
        (readable,) = [line for line in warnings if "other users can read" in line]
        assert readable.endswith(f"(mode 644); run `chmod 600 {file}`")
        for key in (KEY, "canary-short", "canary-2"):
            assert ask(server, "/queue", bearer(key)).status == 200
        assert "canary" not in server.output


def test_says_nothing_of_a_sound_key(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    file.write_text(KEY)
    file.chmod(0o600)
    with start_server(copy_miniature(), "--api-key-file", str(file), "--auth-require-ws") as server:
        lines = [line for line in server.output.splitlines() if "comfy-auth-rs" in line]
        assert lines == ["comfy-auth-rs: an API key is required (1 in force)"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--listen", "0.0.0.0"), "NO API KEY, and this server listens on 0.0.0.0:"),
        (("--listen", "0.0.0.0", "--api-key", KEY), None),
        (("--listen", "127.0.0.1"), "no API key, so nobody is asked for one:"),
        (("--listen", "127.0.0.2,127.0.0.1"), "no API key, so nobody is asked for one:"),
        (("--listen", "localhost"), "no API key, so nobody is asked for one:"),
        ((), "no API key, so nobody is asked for one:"),
    ],
    ids=str,
)
def test_says_once_when_nobody_needs_a_key_and_loudly_if_other_machines_reach_it(
    copy_miniature: CopyMiniature, flags: tuple[str, ...], said: str | None
) -> None:
    with start_server(copy_miniature(), *flags) as server:
        assert server.output.lower().count("no api key") == (said is not None)
        if said is not None:
            assert said in server.output
            assert "--api-key-file FILE" in server.output


# --- restarts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ("--api-key", KEY),
        (f"--api-key={KEY}", "--api-key", OTHER_KEY),
        ("--api-key-file", "api_key.txt"),
        ("--api-key-file", "api_key.txt", "--api-key", OTHER_KEY),
    ],
    ids=str,
)
def test_a_restart_asks_for_the_same_keys(copy_miniature: CopyMiniature, flags: tuple[str, ...]) -> None:
    tree = copy_miniature()
    (tree / "api_key.txt").write_text(f"{KEY}\n")
    keys = [KEY, *([OTHER_KEY] if OTHER_KEY in flags else [])]
    with start_server(tree, *flags, env={"WITNESS_RESTARTS": "1"}) as server:
        for restarts in range(3):
            if restarts:
                restart(server)
            assert ask(server, "/queue").status == 401
            assert ask(server, "/queue", bearer("wrong")).status == 401
            for key in keys:
                assert ask(server, "/queue", bearer(key)).status == 200
        assert "canary" not in server.output
        assert "another" not in server.output
        assert server.output.count("an API key is required") == 3
        assert f"({len(keys)} in force)" in server.output
        if Path("/proc").is_dir():
            assert b"canary" not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()


def restart(server: Server) -> None:
    """Restarts like ComfyUI-Manager: the process replaces itself, with its own sys.argv."""
    banners = server.output.count("To see the GUI")
    assert ask(server, "/restart", method="POST").status == 401
    with pytest.raises(OSError):  # the connection ends without an answer
        ask(server, "/restart", bearer(KEY), method="POST")
    deadline = time.monotonic() + 30
    while server.output.count("To see the GUI") == banners:
        assert server.process.poll() is None, server.output
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_restart_keeps_sessions(copy_miniature: CopyMiniature) -> None:
    with start_server(copy_miniature(), "--api-key", KEY, env={"WITNESS_RESTARTS": "1"}) as server:
        login = ask(server, "/auth_session", bearer(KEY), method="POST")
        cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
        restart(server)
        assert ask(server, "/queue", cookie).status == 200


# --- key files that change while it runs ----------------------------------------------------------------------------


def replace(file: Path, text: str) -> None:
    """Replaces the whole file by renaming, as editors and deployment tools do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.rename(file)


def status(server: Server, key: str) -> int:
    return ask(server, "/queue", bearer(key)).status


def wait_for_status(server: Server, key: str, wanted: int) -> None:
    deadline = time.monotonic() + 10
    while status(server, key) != wanted:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.05)


def test_keys_come_and_go_without_a_restart(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    file = tmp_path / "api_key.txt"
    replace(file, f"{KEY} first\n")
    with start_server(copy_miniature(), "--api-key-file", str(file)) as server:
        login = ask(server, "/auth_session", bearer(KEY), method="POST")
        cookie = {"Cookie": login.headers["Set-Cookie"].split(";")[0]}
        assert status(server, OTHER_KEY) == 401
        with file.open("a") as opened:
            opened.write(f"{OTHER_KEY} second\n")
        wait_for_status(server, OTHER_KEY, 200)
        assert status(server, KEY) == 200
        assert ask(server, "/queue", cookie).status == 200
        replace(file, f"{OTHER_KEY}\n")
        wait_for_status(server, KEY, 401)
        assert status(server, OTHER_KEY) == 200
        assert ask(server, "/queue", cookie).status == 401  # a session ends with its key
        assert server.output.count("the key file changed") == 2
        assert "canary" not in server.output


def test_bad_new_versions_keep_the_old_keys_and_are_logged_once(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    bad = {"empty": "", "line": "canary bad\x07line\n", "twice": "canary-3\ncanary-3\n", "gone": None}
    files = {name: tmp_path / name for name in bad}
    keys = {name: f"{KEY}-{name}" for name in bad}
    for name, file in files.items():
        replace(file, keys[name])
    flags = [flag for file in files.values() for flag in ("--api-key-file", str(file))]
    with start_server(copy_miniature(), *flags) as server:
        for name, text in bad.items():
            if text is None:
                files[name].unlink()
            else:
                replace(files[name], text)
        deadline = time.monotonic() + 3.3  # the files are checked several times
        while time.monotonic() < deadline:
            assert {status(server, key) for key in keys.values()} == {200}
            assert status(server, OTHER_KEY) == 401
            time.sleep(0.1)
        kept = [line for line in server.output.splitlines() if "the previous keys stay in force" in line]
        assert len(kept) == len(bad)
        for file in files.values():
            assert sum(line.startswith(f"comfy-auth-rs: {file}:") for line in kept) == 1
        assert "canary" not in server.output

        replace(files["gone"], OTHER_KEY)  # a good version counts again
        wait_for_status(server, OTHER_KEY, 200)
        assert status(server, keys["gone"]) == 401
        assert status(server, keys["empty"]) == 200


def test_every_form_of_a_key_file(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    """A byte order mark, CRLF, comments, blank lines, labels, a digest; with a second file and a flag beside it."""
    digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of abc
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(f"\ufeff# keys\r\n\r\n{KEY}  my laptop \r\n{digest} ci\r\n".encode())
    two.write_text("no-newline-at-the-end")
    flags = ["--api-key-file", str(one), "--api-key-file", str(two), "--api-key", OTHER_KEY]
    with start_server(copy_miniature(), *flags) as server:
        for key in (KEY, "abc", "no-newline-at-the-end", OTHER_KEY):
            assert ask(server, "/queue", bearer(key)).status == 200, key
        for wrong in (digest, "my", "laptop", "# keys", f"{KEY} my laptop"):
            assert ask(server, "/queue", bearer(wrong)).status == 401, wrong
        assert "(4 in force)" in server.output


def test_a_server_that_cannot_start_never_listens(patched_miniature: Path) -> None:
    with pytest.raises(ServerDied) as died, start_server(patched_miniature, "--api-key", ""):
        pass
    assert died.value.returncode == 2
