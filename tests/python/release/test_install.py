"""From nothing to a protected ComfyUI, with every way to install: wheel and sdist, patch, run, custom node.

Wheels are built once, in `target/install`, which keeps everything that doesn't depend on the Python version.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from email.parser import Parser
from pathlib import Path

import comfyui_frontend_package
import pytest
from comfy_auth_rs import __version__
from support.client import ask, bearer
from support.keys import KEY
from support.pythons import RUNNING, VERSIONS, clean_environment, find_python, make_venv
from support.servers import Server, free_port, start_server

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "target" / "install"
MAX_WHEEL = 2_000_000  # bytes

CopyMiniature = Callable[..., Path]
MakeWheel = Callable[[str], Path]


def execute(*command: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command that must succeed. Returns its standard output."""
    result = subprocess.run(
        list(map(str, command)), env=env or clean_environment(), cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def make_wheel(tmp_path_factory: pytest.TempPathFactory) -> MakeWheel:
    """Builds the wheel for an interpreter like a release does, once for each interpreter."""
    built: dict[str, Path] = {}

    def make(python: str) -> Path:
        if python not in built:
            folder = tmp_path_factory.mktemp("wheel")
            maturin = [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--locked"]
            execute(*maturin, "--target-dir", BUILD, "--interpreter", python, "--out", folder, cwd=ROOT)
            (built[python],) = folder.glob("*.whl")
        return built[python]

    return make


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    execute(sys.executable, "-m", "maturin", "sdist", "--out", folder, cwd=ROOT)
    (file,) = folder.glob("*.tar.gz")
    return file


@pytest.fixture(scope="session")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A PYTHONPATH with the frontend that the miniature serves, and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("frontend")
    package = Path(comfyui_frontend_package.__file__).parent
    for entry in package.parent.glob("comfyui_frontend_package*"):
        (folder / entry.name).symlink_to(entry)
    return {"PYTHONPATH": str(folder)}


def assert_protected(server: Server) -> None:
    assert ask(server, "/queue").status == 401
    assert ask(server, "/queue", bearer("wrong")).status == 401
    assert ask(server, "/queue", bearer(KEY)).status == 200
    assert ask(server, "/health").json["status"] == "ok"


# --- wheels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", dict.fromkeys((RUNNING, *VERSIONS)))
def test_wheel_patch_and_start(
    make_wheel: MakeWheel, frontend: dict[str, str], copy_miniature: CopyMiniature, tmp_path: Path, version: str
) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version} on its PATH or under pyenv")
    commands = make_venv(tmp_path / "venv", python)
    execute(commands / "pip", "install", "--quiet", make_wheel(python), "pillow>=10")
    assert execute(commands / "comfy-auth-rs", "--version") == f"comfy-auth-rs {__version__}\n"
    tree = copy_miniature(patched=False)
    execute(commands / "comfy-auth-rs", "patch", tree)
    (tree / "api_key.txt").write_text(execute(commands / "comfy-auth-rs", "keygen"))
    with start_server(tree, "--api-key", KEY, python=str(commands / "python"), env=frontend) as server:
        assert_protected(server)
    execute(commands / "comfy-auth-rs", "unpatch", tree)
    execute(commands / "pip", "uninstall", "--quiet", "--yes", "comfy-auth-rs")
    with start_server(tree, python=str(commands / "python"), env=frontend) as server:
        assert ask(server, "/queue").status == 200


def test_the_wheel_is_small_and_holds_what_it_should(make_wheel: MakeWheel) -> None:
    wheel = make_wheel(sys.executable)
    assert wheel.stat().st_size < MAX_WHEEL
    print(f"\n{wheel.name}: {wheel.stat().st_size} bytes")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        about = Parser().parsestr(opened.read(metadata).decode())
    package = {name.removeprefix("comfy_auth_rs/") for name in names if name.startswith("comfy_auth_rs/")}
    sources = ROOT / "python" / "comfy_auth_rs"
    written = {
        str(file.relative_to(sources).as_posix())
        for file in sources.rglob("*")
        if file.is_file() and file.suffix not in (".pyc", ".so", ".pyd")
    }
    assert {name for name in package if not name.startswith("_core.")} == written - {"_core.pyi"}
    (compiled,) = package - written
    assert re.fullmatch(r"_core\..*\.(so|pyd)", compiled)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert about.get_all("Requires-Dist") == ["aiohttp>=3.9,<4", "valkey>=6,<7 ; extra == 'valkey'"]
    assert about["Requires-Python"] == ">=3.10"


# --- the source distribution ------------------------------------------------------------------------------------


def path_without_make(folder: Path) -> str:
    """The PATH, but every folder with a `make` is replaced by links to everything else in it."""
    folders = []
    for number, entry in enumerate(dict.fromkeys(os.environ["PATH"].split(os.pathsep))):
        if any(Path(entry, make).exists() for make in ("make", "gmake")):
            links = folder / str(number)
            links.mkdir(parents=True)
            for command in Path(entry).iterdir():
                if command.name not in ("make", "gmake"):
                    (links / command.name).symlink_to(command)
            entry = str(links)
        folders.append(entry)
    return os.pathsep.join(folders)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no make to hide")
def test_sdist_without_make_run_and_custom_node(
    sdist: Path, frontend: dict[str, str], copy_miniature: CopyMiniature, tmp_path: Path
) -> None:
    env = clean_environment(PATH=path_without_make(tmp_path / "path"), CARGO_TARGET_DIR=str(BUILD))
    assert shutil.which("make") is None or shutil.which("make", path=env["PATH"]) is None
    commands = make_venv(tmp_path / "venv", sys.executable)
    with tarfile.open(sdist) as opened:
        names = [name.partition("/")[2] for name in opened.getnames()]
        opened.extractall(tmp_path / "source", **({"filter": "data"} if sys.version_info >= (3, 12) else {}))
    assert {"LICENSE", "README.md", "Cargo.toml", "Cargo.lock", "src/lib.rs", "pyproject.toml"} <= set(names)
    (source,) = (tmp_path / "source").iterdir()
    execute(commands / "pip", "install", "--quiet", ".", "pillow>=10", env=env, cwd=source)
    assert execute(commands / "comfy-auth-rs", "--version", env=env) == f"comfy-auth-rs {__version__}\n"

    tree = copy_miniature(patched=False)
    before = {file: file.read_bytes() for file in tree.rglob("*.py")}
    run = ("-m", "comfy_auth_rs", "run", str(tree), "--")
    with start_server(tmp_path, "--api-key", KEY, command=run, python=str(commands / "python"), env=frontend) as server:
        assert_protected(server)

    execute(commands / "comfy-auth-rs", "install-node", tree, env=env)
    keys = {**frontend, "COMFYUI_API_KEY": KEY}
    with start_server(tree, python=str(commands / "python"), env=keys) as server:
        assert_protected(server)
    execute(commands / "comfy-auth-rs", "uninstall-node", tree, env=env)
    assert {file: file.read_bytes() for file in tree.rglob("*.py")} == before


# --- Windows' portable build ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="a Python made of a shell script")
def test_the_commands_for_the_portable_build(copy_miniature: CopyMiniature, tmp_path: Path) -> None:
    """The commands in docs/installing.md, in its layout: `python_embeded` beside ComfyUI."""
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    section = page.split("## Windows' portable build")[1].split("\n## ")[0]
    lines = [line for block in re.findall(r"```text\n(.*?)```", section, re.S) for line in block.splitlines()]
    assert len(lines) == 7
    prefix = ".\\python_embeded\\python.exe "
    pip, patching, keygen, starting, running, installing, variable = (
        shlex.split(line.removeprefix(prefix).replace("\\", "/")) for line in lines
    )
    assert pip == ["-s", "-m", "pip", "install", "comfy-auth-rs"]
    portable = tmp_path / "ComfyUI_windows_portable"
    python = portable / "python_embeded" / "python.exe"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    shutil.copytree(copy_miniature(patched=False), portable / "ComfyUI")

    def do(*arguments: str) -> str:
        return execute(python, *arguments, cwd=portable)

    def assert_asks(arguments: list[str], env: Mapping[str, str] | None = None) -> None:
        with start_server(portable, python=str(python), command=arguments, env=env) as server:
            assert ask(server, "/queue").status == 401
            assert ask(server, "/queue", bearer(key)).status == 200

    do(*patching)
    do(*keygen)
    key = (portable / "api_key.txt").read_text().strip()
    assert_asks(starting)
    do(*[word.replace("patch", "unpatch") for word in patching])
    assert_asks(running)
    do(*installing)
    name, _, value = variable[1].partition("=")
    assert_asks([word for word in starting if "api" not in word], {name: value})
    found = do("-s", "-m", "comfy_auth_rs", "doctor", "ComfyUI", "--port", str(free_port()))
    assert f"{python} imports version" in found
