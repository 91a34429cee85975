"""`comfy-auth-rs run`: the patch in memory, each time in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfy_auth_rs import PatchError
from comfy_auth_rs.comfyui import launcher
from comfy_auth_rs.comfyui.transform import insert
from comfy_auth_rs.comfyui.tree import patch
from support.keys import KEY
from support.trees import MAIN, SERVER, make_tree

#: Each test starts processes.
pytestmark = pytest.mark.slow

REPORT = """
import inspect, json, os, sys, traceback
from comfy_auth_rs.comfyui import launcher
try:
    server.PromptServer.boom()
except RuntimeError:
    trace = traceback.format_exc()
print("REPORT" + json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(),
    "main": sys.modules["__main__"].__file__, "active": launcher.is_active(),
    "keys": [str(file) for file in args.api_key_file or ()], "source": inspect.getsource(server), "trace": trace,
    "boom": inspect.getsource(server.PromptServer.boom),
}))
"""
BOOM = (
    SERVER
    + """
    @staticmethod
    def boom():
        raise RuntimeError("here")
"""
)


def run(tree: Path, *args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "comfy_auth_rs", "run", str(tree), "--", *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def reports(result: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    lines = [line.removeprefix("REPORT") for line in result.stdout.splitlines() if line.startswith("REPORT")]
    assert lines, result.stderr
    return [json.loads(line) for line in lines]


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return str(file)


def test_runs_main_as_python_would_but_patched(tmp_path, key_file):
    tree = make_tree(tmp_path / "tree", server=BOOM, main=MAIN + REPORT)
    before = (tree / "server.py").read_bytes()
    [report] = reports(run(tree, "--api-key-file", key_file, cwd=tmp_path))
    main = str(tree / "main.py")
    assert report["argv"] == [main, "--api-key-file", key_file]
    assert (report["name"], report["file"], report["main"]) == ("__main__", main, main)
    assert (report["path"], report["cwd"], report["active"]) == (str(tree), str(tree), True)
    assert report["keys"] == [key_file]
    assert report["source"].encode() == insert("server.py", before)
    assert (tree / "server.py").read_bytes() == before


def test_tracebacks_and_inspect_show_the_lines_that_run(tmp_path):
    tree = make_tree(tmp_path / "tree", server=BOOM, main=MAIN + REPORT)
    [report] = reports(run(tree))
    line = report["source"].splitlines().index('        raise RuntimeError("here")') + 1
    assert f'server.py", line {line}, in boom\n    raise RuntimeError("here")\n' in report["trace"]
    assert report["boom"].endswith('raise RuntimeError("here")\n')


def test_is_not_active_by_itself():
    assert not launcher.is_active()


def test_leaves_a_checkout_clean_and_its_bytecode_unpatched(tmp_path):
    tree = make_tree(tmp_path / "tree", server=BOOM, main=MAIN + REPORT)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("")
    subprocess.run(["git", "add", "."], cwd=tree, check=True)

    def compiled() -> dict[str, bytes]:
        listed = subprocess.run(
            ["git", "status", "--porcelain", "--ignored", "--untracked-files=all"],
            cwd=tree, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        names = [line[3:] for line in listed.splitlines() if "server" in line or "cli_args" in line]
        return {name: (tree / name).read_bytes() for name in names if name.endswith(".pyc")}

    reports(run(tree, PYTHONDONTWRITEBYTECODE=""))
    assert compiled() == {}
    subprocess.run(
        [sys.executable, "main.py"], cwd=tree, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, check=False
    )
    unpatched = compiled()
    assert len(unpatched) == 2
    [report] = reports(run(tree, PYTHONDONTWRITEBYTECODE=""))
    assert "install(self, args)" in report["source"]
    assert compiled() == unpatched


def test_does_not_patch_twice(tmp_path):
    tree = make_tree(tmp_path / "tree", server=BOOM, main=MAIN + REPORT)
    patch(tree)
    [report] = reports(run(tree))
    assert report["source"] == (tree / "server.py").read_text()


def test_passes_exit_status_and_help_through(tmp_path):
    tree = make_tree(tmp_path / "tree", main=MAIN + "\nsys = __import__('sys'); sys.exit(7)")
    assert run(tree).returncode == 7
    help_text = run(tree, "--help")
    assert help_text.returncode == 0
    assert help_text.stdout.startswith("usage: main.py")
    assert "--api-key-file" in help_text.stdout
    wrong = run(tree, "--no-such-flag")
    assert wrong.returncode == 2
    assert "main.py: error: unrecognized arguments: --no-such-flag" in wrong.stderr


def test_starts_nothing_in_a_folder_that_cannot_be_patched(tmp_path):
    tree = make_tree(tmp_path / "tree", server="app = None\n", main="print('started')")
    result = run(tree)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("comfy-auth-rs: error: server.py: ")
    assert result.stderr.count("\n") == 1
    (tree / "main.py").unlink()
    (tree / "server.py").write_text(SERVER)
    with pytest.raises(PatchError, match=r"no main\.py"):
        launcher.run(tree, [])


SHADOWS = {
    "found first on the path": "import sys; sys.path.insert(0, 'other')\n" + MAIN,
    "put there by hand": MAIN.replace(
        "import server", "import sys, types\nsys.modules['server'] = types.ModuleType('server')\nimport colorsys"
    ),
    "loaded by another finder": MAIN.replace(
        "import server",
        "import sys\nfrom importlib.machinery import PathFinder\nsys.meta_path.insert(0, PathFinder)\n"
        "import server\nsys.meta_path.pop(0)\nimport colorsys",
    ),
}


@pytest.mark.parametrize("main", SHADOWS.values(), ids=SHADOWS)
def test_refuses_to_serve_from_a_module_that_it_did_not_patch(tmp_path, main):
    tree = make_tree(tmp_path / "tree", main=main + "\nprint('started')")
    (tree / "other").mkdir()
    (tree / "other" / "server.py").write_text(SERVER)
    result = run(tree)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("comfy-auth-rs: error: Python found server at ")
    assert result.stderr.count("\n") == 1


# How ComfyUI-Manager restarts after it has installed something, and how other custom nodes restart.
RESTARTS = {
    "manager": "os.execv(sys.executable, [sys.executable] + sys.argv)",
    "manager-quoted": """os.execv(sys.executable, [f'"{sys.executable}"', f'"{sys.argv[0]}"'] + sys.argv[1:])""",
    "execl": "os.execl(sys.executable, sys.executable, *sys.argv)",
    "execvp": "os.execvp(sys.executable, [sys.executable, *sys.argv])",
    "execve": "os.execve(sys.executable, [sys.executable, '-u', *sys.argv], os.environ)",
    "subprocess": "sys.exit(__import__('subprocess').call([sys.executable, '-X', 'utf8', '-su', '--', *sys.argv]))",
    "by another program": "sys.exit(__import__('subprocess').call(['env', 'A=B', sys.executable, '-u', *sys.argv]))",
    "by a script": "sys.exit(__import__('subprocess').call([sys.executable, 'monitor.py', sys.executable, *sys.argv]))",
    "relative": "sys.exit(__import__('subprocess').call((b'ComfyUI', 'main.py', *sys.argv[1:]), 0, sys.executable))",
}


def restarting(statement: str) -> str:
    once = f"""
if "RESTARTED" not in os.environ:
    os.environ["RESTARTED"] = "1"
    sys.stdout.flush()
    {statement}
"""
    return MAIN + REPORT + once


@pytest.mark.parametrize("statement", RESTARTS.values(), ids=RESTARTS)
def test_a_restart_comes_back_patched(tmp_path, key_file, statement):
    tree = make_tree(tmp_path / "tree", server=BOOM, main=restarting(statement))
    (tree / "monitor.py").write_text("import subprocess, sys\nsys.exit(subprocess.call(sys.argv[1:]))\n")
    result = run(tree, "--port", "1", "--api-key-file", key_file, cwd=tmp_path)
    first, second = reports(result)
    assert second["active"]
    assert second == first
    assert result.returncode == 0


def test_a_restart_keeps_the_keys_that_are_masked_in_argv(tmp_path):
    again = "os.execv(sys.executable, [sys.executable] + sys.argv + ['--port', '2'])"
    tree = make_tree(tmp_path / "tree", server=BOOM, main=restarting(again))
    first, second = reports(run(tree, "--port", "1", "--api-key", KEY))
    assert KEY not in str(first)
    assert KEY not in str(second)
    assert len(first["argv"]) == 5
    assert second["argv"] == [*first["argv"], "--port", "2"]


def test_a_restart_by_other_means_is_refused_by_comfyui(tmp_path, key_file):
    """Started without us, main.py rejects --api-key-file instead of running an open server."""
    tree = make_tree(
        tmp_path / "tree",
        server=BOOM,
        main=restarting("sys.exit(os.system(__import__('shlex').join([sys.executable, *sys.argv])) >> 8)"),
    )
    result = run(tree, "--api-key-file", key_file)
    assert len(reports(result)) == 1
    assert result.returncode == 2
    assert "unrecognized arguments: --api-key-file" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "print(42)"],
        ["-sc", "print(42)", "main.py"],
        ["-W", "main.py", "other.py"],
        ["-m", "other", "main.py"],
        ["-", "main.py"],
        ["-X", "utf8"],
        ["other.py", "main.py"],
        ["other.py", "python", "main.py"],
    ],
    ids=str,
)
def test_another_program_is_executed_as_it_is(tmp_path, words):
    tree = make_tree(tmp_path / "tree", main=f"import os, sys\nos.execv(sys.executable, [sys.executable, *{words!r}])")
    (tree / "other.py").write_text("print(42)")
    result = subprocess.run(
        [sys.executable, "-m", "comfy_auth_rs", "run", str(tree)],
        input="print(42)", capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "42\n")


@pytest.mark.parametrize("by_file", [True, False])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_workers_import_a_patched_main(tmp_path, key_file, method, by_file):
    if method == "forkserver" and os.name != "posix":
        pytest.skip("forkserver is POSIX")
    pool = f"""
import inspect, json, multiprocessing
from concurrent.futures import ProcessPoolExecutor
from comfy_auth_rs.comfyui import launcher

def work(number):
    patched = "install(self, args)" in inspect.getsource(server)
    return number, [str(file) for file in args.api_key_file], len(args.api_key), patched, launcher.is_active()

if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context({method!r})) as pool:
        print("POOL" + json.dumps(list(pool.map(work, [1, 2]))))
"""
    tree = make_tree(tmp_path / "tree", server=BOOM, main=MAIN + pool)
    result = run(tree, *(["--api-key-file", key_file] if by_file else ["--api-key", KEY]))
    answers = [line.removeprefix("POOL") for line in result.stdout.splitlines() if line.startswith("POOL")]
    assert answers, result.stderr
    keys = ([key_file], 0) if by_file else ([], 1)
    assert json.loads(answers[0]) == [[number, *keys, True, True] for number in (1, 2)]
