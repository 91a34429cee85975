"""What `import comfy_auth_rs` offers, and that its types and documentation are right."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import comfy_auth_rs
import pytest
from comfy_auth_rs import KeyFileError, KeyStore, PatchError, _core, generate_key

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


def python(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


IMPORT = """
import sys
before = set(sys.modules)
import comfy_auth_rs, comfy_auth_rs.comfyui
print(*set(sys.modules) - before)
"""

COMPARE = """
import logging, signal, sys, threading, warnings
warnings.simplefilter("error")

def state():
    return threading.active_count(), signal.getsignal(signal.SIGINT), logging.root.handlers[:], sys.argv[:], sys.path[:]

before = state()
import comfy_auth_rs
assert state() == before
"""


def test_imports_nothing_heavy():
    loaded = set(python("-c", IMPORT).stdout.split())
    assert "aiohttp" in loaded
    assert not loaded & {"torch", "numpy", "requests", "server", "comfy", "comfy_auth_rs.cli", "comfy_auth_rs.doctor"}


def test_what_protects_an_application_is_imported_when_it_is_asked_for():
    asked = (
        "import sys, comfy_auth_rs as c; print('comfy_auth_rs.app' in sys.modules); c.setup; print(c.setup.__module__)"
    )
    assert python("-c", asked).stdout.split() == ["False", "comfy_auth_rs.app"]
    assert set(comfy_auth_rs.__all__) <= set(dir(comfy_auth_rs))
    with pytest.raises(AttributeError, match="set_up"):
        comfy_auth_rs.set_up  # noqa: B018


def test_importing_changes_nothing():
    result = python("-c", COMPARE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_public_names():
    assert sorted(comfy_auth_rs.__all__) == comfy_auth_rs.__all__
    assert set(comfy_auth_rs.__all__) == {
        "Identity", "KeyFileError", "KeyStore", "PatchError", "__version__", "create_auth_middleware", "generate_key",
        "identity", "inject_script", "probe_device", "probe_devices", "setup",
    }  # fmt: skip
    assert all(hasattr(comfy_auth_rs, name) for name in comfy_auth_rs.__all__)


def test_the_version_is_the_same_everywhere():
    assert f'version = "{comfy_auth_rs.__version__}"' in (ROOT / "Cargo.toml").read_text()
    assert f'version = "{comfy_auth_rs.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_unsafe_code_is_forbidden():
    """Unlike `deny`, `forbid` can't be overridden in the code."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert manifest["lints"]["rust"]["unsafe_code"] == "forbid"
    sources = {path: path.read_text() for path in (ROOT / "src").rglob("*.rs")}
    assert len(sources) > 20
    assert [path for path, text in sources.items() if re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", text)] == []


def in_stub():
    """Each name of the compiled core with its docstring, which only the stub has."""
    tree = ast.parse((ROOT / "python/comfy_auth_rs/_core.pyi").read_text())
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name, ast.get_docstring(node)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("__"):
                    yield f"{node.name}.{inner.name}", ast.get_docstring(inner)


def documented():
    """Each public name with its documentation."""
    stub = dict(in_stub())
    for module in (comfy_auth_rs, _core):
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, str):
                continue
            yield f"{module.__name__}.{name}", stub.get(name) if hasattr(_core, name) else inspect.getdoc(thing)
            for inner in sorted(vars(thing)) if inspect.isclass(thing) else ():
                if not inner.startswith("_"):
                    full = f"{name}.{inner}"
                    doc = stub.get(full) if hasattr(_core, name) else inspect.getdoc(getattr(thing, inner))
                    yield f"{module.__name__}.{full}", doc


@pytest.mark.parametrize(("name", "doc"), [pytest.param(*pair, id=pair[0]) for pair in documented()])
def test_every_public_name_is_documented(name, doc):
    assert (doc or "").split("\n\n")[0].endswith(".")


def test_the_core_is_documented_in_its_stub_alone():
    for name in _core.__all__:
        thing = getattr(_core, name)
        things = [thing, *(vars(thing).values() if inspect.isclass(thing) else ())]
        own = [doc for one in things if not isinstance(one, str) and (doc := getattr(one, "__doc__", None))]
        assert not [doc for doc in own if doc in dict(in_stub()).values()], name


def test_errors_are_value_errors_that_say_what_to_do():
    assert issubclass(KeyFileError, ValueError)
    assert issubclass(PatchError, ValueError)
    error = pickle.loads(pickle.dumps(KeyFileError("what; what to do", "api_key_file", "keys:3")))
    assert (type(error), str(error)) == (KeyFileError, "keys:3: what; what to do")


def test_generated_keys():
    keys = {generate_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{42}", key) for key in keys)
    assert len(KeyStore(list(keys))) == 1000
    assert KeyStore(list(keys)).warnings() == []


@pytest.mark.parametrize(("text", "fault"), [
    (b"", "keys: the key file holds no key"),
    (b"# nothing\n\n", "keys: the key file holds no key"),
    (b"canary\xff\n", "keys:1: not UTF-8"),
    (b"good\ncan\xc3\xa9ary\n", "keys:2: character 4 of the key"),
    (b"good\nother\ngood\n", "keys:3: the same key as on line 1"),
    (b"sha256:canary\n", "keys:1: sha256: must be followed by"),
    (b"canary" * 200, "keys:1: the key is longer than 1024"),
    (b"canary\x07a\ncanary\x07b\n", r"keys:1: .* \(and 1 more\)"),
])  # fmt: skip
def test_faults_of_key_files(tmp_path, text, fault):
    file = tmp_path / "keys"
    file.write_bytes(text)
    with pytest.raises(KeyFileError, match=fault) as caught:
        KeyStore(api_key_file=[file])
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)
    faults = KeyStore.faults(file)
    assert len(faults) == (2 if "more" in fault else 1)
    assert str(caught.value).startswith(faults[0])


def test_sound_key_files(tmp_path):
    file = tmp_path / "keys"
    lines = [b"\xef\xbb\xbf# ours", b"k" * 40 + b" Alice's laptop", b"", b"sha256:" + b"a" * 64 + b" build server"]
    file.write_bytes(b"\r\n".join(lines))
    file.chmod(0o600)
    store = KeyStore(api_key_file=[file, str(file)])
    assert (len(store), store.warnings(), KeyStore.faults(str(file))) == (2, [], [])


@pytest.mark.parametrize("arguments", [("one key",), (["a", 1],), ([], "a file"), (None,)])
def test_what_is_no_list_of_keys(arguments):
    """A string is a sequence of strings, so each letter would become a key."""
    with pytest.raises((TypeError, ValueError)):
        KeyStore(*arguments)


def test_a_key_that_is_not_text_is_refused_without_being_shown():
    """Python turns command-line bytes that are not UTF-8 into such characters."""
    with pytest.raises(KeyFileError, match="character 7 of the key is not visible ASCII") as caught:
        KeyStore(["canary\udcff"])
    assert "canary" not in repr(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Types

EXAMPLE = """
from pathlib import Path

from aiohttp import web

import comfy_auth_rs
from comfy_auth_rs import KeyFileError, KeyStore, create_auth_middleware, inject_script, probe_devices, setup
from comfy_auth_rs.health import QueueLength


async def jobs(request: web.Request) -> web.Response:
    return web.json_response(["one", "two"])


def make_app(file: Path) -> web.Application:
    app = web.Application()
    app.router.add_get("/jobs", jobs)
    setup(app, api_key_file=file, exempt=["/public/*"], queue=lambda: QueueLength(pending=2, running=1))
    return app


def make_other(key: str) -> web.Application:
    try:
        middleware = create_auth_middleware(KeyStore([key]), require_ws=True, trusted_proxy="10.0.0.0/8")
    except KeyFileError as error:
        raise SystemExit(str(error)) from None
    return web.Application(middlewares=[middleware])


def free_memory() -> dict[str, int]:
    return {device["name"]: device["free"] for device in probe_devices()}


page: bytes = inject_script(b"<head>")
version: str = comfy_auth_rs.__version__
"""

WRONG = """
from aiohttp import web

from comfy_auth_rs import KeyStore, create_auth_middleware, probe_device, setup

create_auth_middleware(keys="key")
setup(web.Application(), api_keys=["key"])
probe_device()["memory"]
KeyStore(["key"]).keys
"""


@pytest.mark.slow
def test_is_typed(tmp_path):
    pytest.importorskip("mypy", reason="mypy reads the types")
    assert files("comfy_auth_rs").joinpath("py.typed").is_file()
    (tmp_path / "example.py").write_text(EXAMPLE)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    result = python("-m", "mypy", "example.py", "wrong.py", "--cache-dir", str(ROOT / ".mypy_cache"), cwd=tmp_path)
    assert "example.py" not in result.stdout, result.stdout
    assert [line.rsplit("[")[-1] for line in result.stdout.splitlines()[:-1] if ": error: " in line] == [
        "arg-type]", "call-arg]", "typeddict-item]", "attr-defined]",
    ]  # fmt: skip


def pyright(*arguments, cwd):
    """Runs with the virtual environment's own Node, and is cached there, too."""
    pytest.importorskip("pyright", reason="pyright reads the types")
    commands = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",  # pyright looks for packages where this `python` does
        "PYRIGHT_PYTHON_CACHE_DIR": str(Path(sys.prefix) / "pyright"),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    command = [sys.executable, "-m", "pyright", "--outputjson", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd, env=environment)
    return json.loads(result.stdout)


@pytest.mark.slow
def test_is_typed_for_pyright_too(tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLE)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    found = pyright("example.py", "wrong.py", cwd=tmp_path)["generalDiagnostics"]
    assert [fault for fault in found if "example.py" in fault["file"]] == []
    assert {fault["range"]["start"]["line"] for fault in found} == {5, 6, 7, 8}


@pytest.mark.slow
def test_every_public_type_is_known(tmp_path):
    """pyright doesn't infer the types of installed packages."""
    completeness = pyright("--verifytypes", "comfy_auth_rs", "--ignoreexternal", cwd=tmp_path)["typeCompleteness"]
    faults = [
        symbol["name"] for symbol in completeness["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert faults == []
    assert completeness["completenessScore"] == 1
    assert completeness["exportedSymbolCounts"]["withKnownType"] > 100


@pytest.mark.slow
def test_the_stub_is_true(tmp_path):
    pytest.importorskip("mypy", reason="mypy has the tool")
    result = python("-m", "mypy.stubtest", "comfy_auth_rs._core", cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_the_stub_documents_everything():
    """The stub is the reference."""
    stub = ast.parse((ROOT / "python/comfy_auth_rs/_core.pyi").read_text())
    definitions = [node for node in ast.walk(stub) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert len(definitions) > 20
    assert [node.name for node in definitions if not ast.get_docstring(node) and not node.name.startswith("__")] == []
