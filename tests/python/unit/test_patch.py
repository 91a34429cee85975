"""How ComfyUI's two files are changed, in memory and on disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from comfy_auth_rs import PatchError, __version__
from comfy_auth_rs.comfyui.transform import insert, remove
from comfy_auth_rs.comfyui.tree import diff, patch, status, unpatch
from hypothesis import given
from hypothesis import strategies as st
from support.trees import CLI_ARGS, SERVER, make_tree

SOURCES = {"server.py": SERVER, "comfy/cli_args.py": CLI_ARGS}
BEGIN, END = b"# >>> comfy-auth-rs >>>", b"# <<< comfy-auth-rs <<<"
BOM = b"\xef\xbb\xbf"

LAYOUTS = {
    "lf": lambda text: text.encode(),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "cr": lambda text: text.replace("\n", "\r").encode(),
    "mixed": lambda text: b"".join(
        line.encode() + (b"\r\n", b"\n", b"\r")[number % 3] for number, line in enumerate(text.splitlines())
    ),
    "bom": lambda text: BOM + text.encode(),
    "bom-crlf": lambda text: BOM + text.replace("\n", "\r\n").encode(),
    "cookie": lambda text: b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + text.encode(),
    "no-final-newline": lambda text: text.rstrip("\n").encode(),
    "no-final-newline-crlf": lambda text: text.rstrip("\n").replace("\n", "\r\n").encode(),
    "tabs": lambda text: text.replace("    ", "\t").encode(),
}


def contents(tree: Path) -> dict[str, bytes]:
    return {name: (tree / name).read_bytes() for name in SOURCES}


def git(tree: Path, *args: str) -> str:
    command = ["git", "-c", "core.autocrlf=false", "-c", "user.name=t", "-c", "user.email=t@t", *args]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout


# --- source to source -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", SOURCES)
def test_inserts_one_block_and_removes_it_byte_for_byte(name, layout):
    source = layout(SOURCES[name])
    patched = insert(name, source)
    compile(patched, name, "exec")
    assert patched.count(BEGIN) == patched.count(END) == 1
    assert patched.startswith(BOM) == source.startswith(BOM)
    assert insert(name, patched) == patched
    assert remove(name, patched) == source


def test_keeps_the_line_ends_of_a_crlf_file():
    patched = insert("server.py", LAYOUTS["crlf"](SERVER))
    assert patched.count(b"\n") == patched.count(b"\r\n") == patched.count(b"\r")


def test_stands_after_the_application_and_before_the_parsing():
    lines = insert("server.py", SERVER.encode()).decode().splitlines()
    begin, end = (lines.index(f"        {marker.decode()}") for marker in (BEGIN, END))
    assert lines[begin - 1].strip().startswith("self.app = web.Application(")
    assert lines[end - 1] == "        _comfy_auth_rs.install(self, args)"
    assert lines[end + 1] == "        self.sockets = dict()"

    lines = insert("comfy/cli_args.py", CLI_ARGS.encode()).decode().splitlines()
    end = lines.index(END.decode())
    assert lines[end - 1] == "_comfy_auth_rs.add_arguments(parser)"
    assert lines[end + 1] == "if comfy.options.args_parsing:"


@pytest.mark.parametrize(
    "statement",
    [
        "self.app = web.Application(middlewares=middlewares, handler_args={}, client_max_size=2**20)",
        "self.app = web.Application(\n            client_max_size=1,\n            middlewares=middlewares,\n        )",
        "self.app = web.Application(middlewares=middlewares)  # the application; see below",
        "if loop:\n            self.app = web.Application(middlewares=middlewares)",
    ],
)
def test_finds_the_application_however_it_is_written(statement):
    source = SERVER.replace("self.app = web.Application(client_max_size=1, middlewares=middlewares)", statement)
    assert source != SERVER
    patched = insert("server.py", source.encode())
    assert remove("server.py", patched) == source.encode()


@pytest.mark.parametrize(
    "parsing", ["args = parser.parse_args()", "try:\n    args = parser.parse_args()\nfinally:\n    pass"]
)
def test_finds_the_parsing_however_it_is_written(parsing):
    source = (
        f"import argparse\nparser = argparse.ArgumentParser()\ndef parse():\n    return parser.parse_args()\n{parsing}"
    )
    patched = insert("comfy/cli_args.py", source.encode())
    assert END + b"\n" + parsing.encode() in patched


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("server.py", "class PromptServer", "class Server", "not found in PromptServer.__init__"),
        ("server.py", "__init__", "setup", "not found"),
        ("server.py", "self.app", "self.application", "not found"),
        ("server.py", "web.Application", "make_application", "not found"),
        ("server.py", ", middlewares=middlewares", "", "not found"),
        ("server.py", "self.sockets = dict()", "self.app = web.Application(middlewares=[])", "found 2 times"),
        ("server.py", "        self.app =", "        if loop: self.app =", "shares its line"),
        ("server.py", "        self.app =", "        loop; self.app =", "shares its line"),
        ("server.py", "middlewares=middlewares)", "middlewares=middlewares); self.s = '''\n'''", "cannot insert lines"),
        ("server.py", "middlewares=middlewares)", "middlewares=middlewares); self.list = [\n]", "cannot insert lines"),
        ("server.py", "middlewares=middlewares)", "middlewares=middlewares); self.n = 0", "cannot insert lines"),
        ("server.py", "dict()", "dict(", "not Python"),
        ("server.py", "dict()", "'\0'", "not Python"),
        ("comfy/cli_args.py", "parser.parse_args", "parser.parse_known_args", "not found in the top level"),
        ("comfy/cli_args.py", "parser", "arguments", "not found"),
        ("comfy/cli_args.py", "if comfy", "comfy; args = parser.parse_args()\nif comfy", "shares its line"),
    ],
)  # fmt: skip
def test_refuses_a_source_without_its_anchor_and_writes_nothing(tmp_path, name, old, new, message):
    broken = SOURCES[name].replace(old, new)
    assert broken != SOURCES[name]
    key = "server" if name == "server.py" else "cli_args"
    tree = make_tree(tmp_path / "tree", **{key: broken})
    before = contents(tree)
    with pytest.raises(PatchError, match=message) as error:
        patch(tree)
    assert str(error.value).startswith(name)
    assert "\n" not in str(error.value)
    assert contents(tree) == before
    assert not list(tree.rglob("*.tmp"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda source: source.replace(END, b""),
        lambda source: source.replace(BEGIN, b""),
        lambda source: source.replace(BEGIN, BEGIN + b"\n" + BEGIN),
        lambda source: source.replace(END, END + b"\n" + END),
        lambda source: source.replace(BEGIN, b"#").replace(END, BEGIN).replace(b"#\n", END + b"\n"),
        lambda source: source + source[source.index(BEGIN) : source.index(END)] + END + b"\n",
    ],
    ids=["no-end", "no-begin", "nested", "two-ends", "swapped", "twice"],
)
@pytest.mark.parametrize("change", [patch, unpatch, diff])
def test_refuses_damaged_markers_and_writes_nothing(tmp_path, change, damage):
    tree = make_tree(tmp_path / "tree")
    patch(tree)
    (tree / "comfy/cli_args.py").write_bytes(damage((tree / "comfy/cli_args.py").read_bytes()))
    before = contents(tree)
    with pytest.raises(PatchError, match=r"comfy/cli_args.py: damaged .* markers \(line \d+.*git checkout") as error:
        change(tree)
    assert "\n" not in str(error.value)
    assert contents(tree) == before
    assert status(tree)[1].fault == str(error.value)


# --- properties -------------------------------------------------------------------------------------------------

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
NOISE = st.sampled_from(
    [
        "",
        "# comment",
        "x = 1",
        "y = '''one\ntwo'''",
        "z = [\n    1,\n]",
        "w = 1 + \\\n    2",
        "s = 'é…'",
        "\x0c",
        "if 1: pass",
    ]
)
INDENTS = st.sampled_from(["    ", "  ", "\t", "        "])
CALLS = st.sampled_from(
    [
        "self.app = web.Application(middlewares=middlewares)",
        "self.app = web.Application(client_max_size=1, middlewares=[*middlewares])  # é",
        "self.app = web.Application(\n\n middlewares=middlewares,\n)",
    ]
)
PARSINGS = st.sampled_from(["args = parser.parse_args()", "if 1:\n  args = parser.parse_args()\nelse:\n  pass"])


@st.composite
def sources(draw):
    """A (name, source) with an anchor somewhere in it."""
    indent = draw(INDENTS)
    noise = draw(st.lists(NOISE, max_size=4))
    tail = draw(st.lists(NOISE, max_size=3))
    if draw(st.booleans()):
        name = "server.py"
        inner = [f"{indent * 2}v = {number}" for number in range(draw(st.integers(0, 2)))]
        body = ["class PromptServer:", f"{indent}def __init__(self):", *inner, indent * 2 + draw(CALLS)]
    else:
        name = "comfy/cli_args.py"
        body = ["parser = None", draw(PARSINGS)]
    lines = "\n".join([*noise, *body, *tail]).split("\n")
    ends = draw(st.lists(LINE_ENDS, min_size=len(lines), max_size=len(lines)))
    text = "".join(line + end for line, end in zip(lines, ends, strict=True))
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return name, draw(st.sampled_from([b"", BOM])) + text.encode()


@given(sources())
def test_removing_what_was_inserted_gives_the_source_back(named_source):
    name, source = named_source
    patched = insert(name, source)
    compile(patched, name, "exec")
    assert patched != source
    assert remove(name, patched) == source
    assert insert(name, patched) == patched


@given(st.sampled_from(sorted(SOURCES)), st.data())
def test_any_mutation_is_patched_reversibly_or_refused(name, data):
    source = SOURCES[name].encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(source)))
        end = data.draw(st.integers(start, min(start + 8, len(source))))
        pieces = st.sampled_from([b"'''", b"(", b"#", b"\\\n", b"\r", b";", b"\t", BEGIN + b"\n", END, b"\xff", b"\0"])
        source = source[:start] + data.draw(pieces | st.binary(max_size=3)) + source[end:]
    try:
        unpatched = remove(name, source)
        patched = insert(name, source)
    except PatchError as error:
        assert "\n" not in str(error)
    else:
        assert remove(name, patched) == unpatched


# --- files ------------------------------------------------------------------------------------------------------


def test_patches_once_and_says_what_changed(tmp_path):
    tree = make_tree(tmp_path / "tree")
    before = contents(tree)
    assert unpatch(tree) == []
    assert patch(tree) == [tree / "server.py", tree / "comfy/cli_args.py"]
    patched = contents(tree)
    times = [(tree / name).stat().st_mtime_ns for name in SOURCES]
    assert patch(tree) == []
    assert contents(tree) == patched
    assert [(tree / name).stat().st_mtime_ns for name in SOURCES] == times
    assert sorted(unpatch(tree)) == [tree / "comfy/cli_args.py", tree / "server.py"]
    assert contents(tree) == before


@pytest.mark.parametrize("layout", ["lf", "crlf"])
def test_leaves_no_git_diff_behind(tmp_path, layout):
    tree = make_tree(tmp_path / "tree", server=LAYOUTS[layout](SERVER), cli_args=LAYOUTS[layout](CLI_ARGS))
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "tree")
    patch(tree)
    assert git(tree, "diff", "--name-only").split() == ["comfy/cli_args.py", "server.py"]
    unpatch(tree)
    assert git(tree, "diff") == ""
    assert git(tree, "status", "--porcelain", "--ignored") == ""


@pytest.mark.parametrize("layout", ["lf", "crlf", "no-final-newline", "bom"])
def test_diff_is_what_git_needs_to_patch(tmp_path, layout):
    tree = make_tree(tmp_path / "tree", server=LAYOUTS[layout](SERVER), cli_args=LAYOUTS[layout](CLI_ARGS))
    before = contents(tree)
    (tmp_path / "a.diff").write_bytes(diff(tree))
    assert contents(tree) == before
    git(tree, "apply", "--whitespace=nowarn", str(tmp_path / "a.diff"))
    by_git = contents(tree)
    assert diff(tree) == b""
    assert patch(tree) == []
    assert contents(tree) == by_git


def test_replaces_the_block_of_an_older_version(tmp_path):
    tree = make_tree(tmp_path / "tree")
    before = contents(tree)
    patch(tree)
    patched = contents(tree)
    for name, source in patched.items():
        older = source.replace(f"comfy-auth-rs {__version__};".encode(), b"comfy-auth-rs 0.0.9;")
        (tree / name).write_bytes(older.replace(b"    raise SystemExit(2) from None", b"    raise SystemExit(2)"))
    assert {file.version for file in status(tree)} == {"0.0.9"}
    assert len(patch(tree)) == 2
    assert contents(tree) == patched
    unpatch(tree)
    assert contents(tree) == before


def test_status_tells_patched_half_patched_and_unsound(tmp_path):
    tree = make_tree(tmp_path / "tree")

    def versions():
        return [(file.name, file.version, file.fault) for file in status(tree)]

    assert versions() == [("server.py", None, None), ("comfy/cli_args.py", None, None)]
    patch(tree)
    assert versions() == [("server.py", __version__, None), ("comfy/cli_args.py", __version__, None)]
    (tree / "server.py").write_text(SERVER)
    assert versions() == [("server.py", None, None), ("comfy/cli_args.py", __version__, None)]
    moved = insert("server.py", SERVER.encode()).replace(b"install(self, args)", b"install")
    (tree / "server.py").write_bytes(moved)
    assert "edited" in versions()[0][2]
    (tree / "server.py").write_text(SERVER.replace("web.Application", "Application"))
    assert "not found" in versions()[0][2]


@pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX")
def test_keeps_mode_and_owner(tmp_path):
    tree = make_tree(tmp_path / "tree")
    (tree / "server.py").chmod(0o755)
    (tree / "comfy/cli_args.py").chmod(0o440)
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    for name in SOURCES:
        os.chown(tree / name, *owner)
    for change in (patch, unpatch):
        assert len(change(tree)) == 2
        assert [(tree / name).stat().st_mode & 0o7777 for name in SOURCES] == [0o755, 0o440]
        assert {((tree / name).stat().st_uid, (tree / name).stat().st_gid) for name in SOURCES} == {owner}


@pytest.mark.skipif(os.name != "posix", reason="symlinks need a privilege on Windows")
def test_follows_symlinks_and_replaces_their_targets(tmp_path):
    tree = make_tree(tmp_path / "tree")
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real_server.py"
    (tree / "server.py").rename(target)
    (tree / "server.py").symlink_to("../elsewhere/real_server.py")
    assert patch(tree)[0] == target
    assert (tree / "server.py").is_symlink()
    assert BEGIN in target.read_bytes()
    unpatch(tree)
    assert target.read_text() == SERVER
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="directory modes are POSIX")
@pytest.mark.parametrize("read_only", [".", "comfy"])
def test_refuses_a_read_only_folder_and_writes_nothing(read_only):
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "tree")
        before = contents(tree)
        user = os.geteuid()
        if user == 0:  # nothing is read-only to root
            nobody = 65534
            for path in [Path(folder), *Path(folder).rglob("*")]:
                os.chown(path, nobody, nobody)
            os.seteuid(nobody)
        (tree / read_only).chmod(0o555)
        try:
            with pytest.raises(PatchError, match=r"(server|cli_args)\.py: cannot be written \(Permission denied\)"):
                patch(tree)
            assert contents(tree) == before
            assert unpatch(tree) == []
        finally:
            (tree / read_only).chmod(0o755)
            os.seteuid(user)
        assert not list(tree.rglob("*.tmp"))


def test_refuses_what_is_no_comfyui_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(PatchError, match="not a ComfyUI folder"):
            patch(folder)
    make_tree(tmp_path / "portable" / "ComfyUI")
    with pytest.raises(PatchError, match=r"did you mean .*portable/ComfyUI\?"):
        patch(tmp_path / "portable")


def test_writes_neither_file_when_the_second_cannot_be_patched(tmp_path):
    tree = make_tree(tmp_path / "tree", cli_args="import argparse\n")
    with pytest.raises(PatchError, match=r"comfy/cli_args\.py"):
        patch(tree)
    assert (tree / "server.py").read_text() == SERVER


# --- interruptions ----------------------------------------------------------------------------------------------

# Forks a process for each line "CHANGE STEP" on stdin. It makes that change and dies at its STEP-th audit event:
# sys.addaudithook sees each open, rename, chmod, remove … "both" patches and unpatches forever.
PATCHER = """
import os, signal, sys
from comfy_auth_rs.comfyui.tree import patch, unpatch

def die_at(step):
    def count(event, args):
        nonlocal step
        if event.startswith(("open", "os.", "fcntl.")):
            step -= 1
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)

for line in sys.stdin:
    change, step = line.split()
    if (pid := os.fork()) == 0:
        if change == "both":
            while True:
                patch(sys.argv[1])
                unpatch(sys.argv[1])
        die_at(int(step))
        {"patch": patch, "unpatch": unpatch}[change](sys.argv[1])
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Patcher:
    """Starts processes that are killed while they patch a tree."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, change: str, step: int = 0) -> int:
        """Starts one and returns its process id."""
        self.process.stdin.write(f"{change} {step}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """Returns the exit status, or minus the number of the signal."""
        return int(self.process.stdout.readline())


@pytest.fixture
def patcher(tmp_path):
    if os.name != "posix":
        pytest.skip("SIGKILL and fork are POSIX")
    command = [sys.executable, "-c", PATCHER, tmp_path / "tree"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Patcher(process)


def assert_whole_and_not_open(tree: Path, before: dict[str, bytes]) -> None:
    after = contents(tree)
    new = {name: insert(name, source) for name, source in before.items()}
    for name in SOURCES:
        assert after[name] in (before[name], new[name]), name
    # With the flags but no middleware, the server would accept a key and never ask for it.
    assert not (after["comfy/cli_args.py"] == new["comfy/cli_args.py"] and after["server.py"] == before["server.py"])


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_each_file_whole(tmp_path, patcher):
    tree = make_tree(tmp_path / "tree")
    before = contents(tree)
    for _ in range(200):
        pid = patcher.start("both")
        time.sleep(random.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert patcher.wait() == -signal.SIGKILL
        assert_whole_and_not_open(tree, before)
        patch(tree)
        assert [file.version for file in status(tree)] == [__version__] * 2
        unpatch(tree)
        assert contents(tree) == before
        assert not list(tree.rglob("*.tmp"))


@pytest.mark.parametrize("change", ["patch", "unpatch"])
@pytest.mark.slow
def test_a_kill_at_each_step_leaves_each_file_whole(tmp_path, patcher, change):
    tree = make_tree(tmp_path / "tree")
    before = contents(tree)
    for step in range(1, 100):
        if change == "unpatch":
            patch(tree)
        patcher.start(change, step)
        status = patcher.wait()
        assert_whole_and_not_open(tree, before)
        unpatch(tree)
        assert contents(tree) == before
        assert not list(tree.rglob("*.tmp"))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert step > 10


def test_patches_at_once_do_not_mix(tmp_path):
    tree = make_tree(tmp_path / "tree")
    before = contents(tree)
    code = f"""
from comfy_auth_rs.comfyui.tree import patch, unpatch
for _ in range(40):
    patch({str(tree)!r})
    unpatch({str(tree)!r})
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    assert contents(tree) == before


# --- what the inserted lines do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_refuses_to_start_without_the_package(tmp_path, name):
    """`-S -E` hides everything that is installed."""
    block = insert(name, SOURCES[name].encode()).decode().split(BEGIN.decode())[1].split("_comfy_auth_rs.")[0]
    lines = [line.removeprefix("        ") if name == "server.py" else line for line in block.splitlines()]
    result = subprocess.run(
        [sys.executable, "-S", "-E", "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"{sys.executable} cannot import comfy_auth_rs (No module named 'comfy_auth_rs')" in result.stderr
    assert f"{sys.executable} -m pip install comfy-auth-rs" in result.stderr
