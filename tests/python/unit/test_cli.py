"""The command `comfy-auth-rs`, run as users run it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_auth_rs import __version__, probe_devices
from support.command import run
from support.keys import KEY
from support.trees import SERVER, make_tree

GOLDEN = Path(__file__).parents[2] / "fixtures" / "help"
COMMANDS = [
    "keygen", "keys", "keys list", "keys add", "keys revoke", "keys rotate", "state", "patch", "unpatch",
    "install-node",
    "uninstall-node", "doctor", "probe", "run", "usage", "completion",
]  # fmt: skip


def assert_one_line_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("comfy-auth-rs: error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


# --- help -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_documented(command):
    result = run(*command.split(), "--help")
    golden = GOLDEN / f"{command.replace(' ', '-') or 'comfy-auth-rs'}.txt"
    assert result.returncode == 0
    assert "examples:" in result.stdout or not command
    assert result.stdout.split() == golden.read_text().split()  # Python versions break lines differently


def test_no_argument_says_what_to_do_next():
    result = run()
    assert (result.returncode, result.stderr) == (0, "")
    assert "comfy-auth-rs patch PATH/TO/ComfyUI" in result.stdout
    assert "python3 main.py --api-key-file api_key.txt" in result.stdout


def test_version():
    assert run("--version").stdout == f"comfy-auth-rs {__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["frobnicate"], ["invalid choice", "--help"]),
        (["patch"], ["DIR", "comfy-auth-rs patch --help"]),
        (["patch", ".", "more"], ["patch does not take so many arguments"]),
        (["patch", ".", "--dif"], ["patch does not take --dif"]),
        (["doctor", ".", "--port", "65536"], ["65536 is not a port"]),
        (["doctor", ".", "--port", "http"], ["http is not a port"]),
        (["run", ".", "--listen", "--api-key", KEY], ["--listen, --api-key", "go after --"]),
        (["run", ".", f"--api-key={KEY}"], ["run does not take --api-key;"]),
        (["patch", "nowhere"], ["nowhere: not a ComfyUI folder"]),
        (["unpatch", "nowhere"], ["nowhere: not a ComfyUI folder"]),
        (["doctor", "nowhere"], ["nowhere: not a ComfyUI folder"]),
        (["run", "nowhere"], ["nowhere: not a ComfyUI folder"]),
    ],
)
def test_errors_are_one_line(args, words):
    result = run(*args)
    assert_one_line_error(result, *words)
    assert KEY not in result.stderr


# --- keygen -----------------------------------------------------------------------------------------------------


def test_keygen_prints_a_new_key_each_time():
    keys = {run("keygen").stdout for _ in range(2)}
    assert len(keys) == 2
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", key)


def test_keygen_writes_a_private_file_and_does_not_print_the_key(tmp_path):
    file = tmp_path / "api_key.txt"
    result = run("keygen", "-o", file)
    key = file.read_text()
    assert result.returncode == 0
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", key)
    assert key.strip() not in result.stdout + result.stderr
    assert str(file) in result.stdout
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="umask and links are POSIX")
def test_keygen_is_private_whatever_the_umask_and_follows_no_link(tmp_path):
    command = f"umask 0; {sys.executable} -m comfy_auth_rs keygen -o {tmp_path / 'key'}"
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert_one_line_error(run("keygen", "-o", tmp_path / "link"), "never overwritten")
    assert not (tmp_path / "target").exists()


def test_keygen_never_overwrites(tmp_path):
    file = tmp_path / "api_key.txt"
    file.write_text("precious\n")
    assert_one_line_error(run("keygen", "-o", file), str(file), "never overwritten")
    assert file.read_text() == "precious\n"


def test_keygen_needs_a_folder(tmp_path):
    assert_one_line_error(
        run("keygen", "-o", tmp_path / "missing" / "key"), str(tmp_path / "missing"), "make that folder"
    )
    (tmp_path / "file").write_text("")
    assert_one_line_error(run("keygen", "-o", tmp_path / "file" / "key"), "cannot be written")


# --- patch and unpatch ------------------------------------------------------------------------------------------


def test_patch_and_unpatch_say_what_they_did(tmp_path):
    tree = make_tree(tmp_path / "tree")
    assert run("unpatch", tree).stdout == f"{tree} is not patched; nothing changed.\n"
    difference = run("patch", tree, "--diff")
    assert difference.stdout.startswith("--- a/server.py\n+++ b/server.py\n")
    assert (tree / "server.py").read_text() == SERVER
    assert str(tree / "server.py") in run("patch", tree).stdout
    assert run("patch", tree).stdout == f"{tree} is patched already; nothing changed.\n"
    assert run("patch", tree, "--diff").stdout == ""
    assert str(tree / "server.py") in run("unpatch", tree).stdout
    assert (tree / "server.py").read_text() == SERVER


def test_patch_and_unpatch_tell_programs_which_files_changed(tmp_path):
    tree = make_tree(tmp_path / "tree")
    changed = [str(tree / "server.py"), str(tree / "comfy" / "cli_args.py")]
    assert json.loads(run("patch", tree, "--json").stdout) == {"changed": changed}
    assert json.loads(run("patch", tree, "--json").stdout) == {"changed": []}
    assert json.loads(run("unpatch", tree, "--json").stdout) == {"changed": changed[::-1]}
    assert json.loads(run("unpatch", tree, "--json").stdout) == {"changed": []}
    assert_one_line_error(run("patch", tree, "--json", "--diff"), "--diff: not allowed with argument --json")


@pytest.mark.skipif(os.name != "posix", reason="pipes break differently elsewhere")
def test_is_quiet_when_nobody_reads_on(tmp_path):
    tree = make_tree(tmp_path / "tree")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "comfy_auth_rs", "patch", tree, "--diff"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


# --- probe ------------------------------------------------------------------------------------------------------


def test_probe_prints_gib_for_people_and_bytes_for_programs():
    devices = json.loads(run("probe", "--json").stdout)
    expected = probe_devices()
    assert [{**device, "free": 0} for device in devices] == [{**device, "free": 0} for device in expected]
    lines = run("probe").stdout.splitlines()
    assert len(lines) == len(devices)
    for line, device in zip(lines, devices, strict=True):
        assert f"of {device['total'] / 2**30:7.1f} GiB free  {device['name']}" in line


@pytest.mark.parametrize("secret", [KEY, f'it\'s "{KEY}" \\', f"-{KEY}", "hunter2"])
@pytest.mark.parametrize(
    "args",
    [["@"], ["--api-key", "@"], ["--api-key=@"], ["completion", "@"], ["keygen", "@"], ["keygen", "--output=@"],
     ["patch", ".", "--diff=@"], ["patch", ".", "--dif", "@"], ["doctor", ".", "--port", "@"],
     ["doctor", ".", "--port=@"], ["doctor", ".", "--key=@"], ["run", ".", "--api-k=@"], ["run", ".", "--api_key", "@"],
     ["-k@"]],
    ids=" ".join,
)  # fmt: skip
def test_errors_show_no_key(args, secret):
    result = run(*(argument.replace("@", secret) for argument in args))
    assert_one_line_error(result)
    assert not {word for word in (KEY, "hunter2") if word in result.stderr}
