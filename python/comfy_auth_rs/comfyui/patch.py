"""The lines that turn ComfyUI's `server.py` and `comfy/cli_args.py` into ones that ask for the key.

One transformation of source bytes: `insert` finds its place in the syntax tree, `remove` finds the block by its
marker lines and gives back exactly the bytes that were there before. `patch` and `unpatch` apply them to the
files of a ComfyUI folder; `launcher` applies `insert` in memory.
"""

from __future__ import annotations

import ast
import difflib
import io
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from comfy_auth_rs.errors import PatchError

if sys.platform != "win32":
    import fcntl

__all__ = ["CLI_ARGS", "SERVER", "FileState", "diff", "insert", "patch", "read", "remove", "status", "unpatch"]

SERVER = "server.py"
CLI_ARGS = "comfy/cli_args.py"

# Deliberately no path and no key in here: the logic lives in the package, so that an upgrade needs no new patch.
# Where a version of the package lacks what the lines call, or cannot be imported for whatever reason, the process ends.
_BLOCK = """\
# >>> comfy-auth-rs >>>
# Written by comfy-auth-rs {version}; `comfy-auth-rs unpatch` takes these lines out again.
try:
    import comfy_auth_rs.comfyui as _comfy_auth_rs
    getattr(_comfy_auth_rs, "{name}")
except Exception as _error:
    import sys as _sys
    print(f"comfy-auth-rs: error: ComfyUI is patched, but {{_sys.executable}} cannot import comfy_auth_rs ({{_error}});"
          f" run `{{_sys.executable}} -m pip install comfy-auth-rs --upgrade`, or `comfy-auth-rs unpatch DIR`",
          file=_sys.stderr)
    raise SystemExit(2) from None
_comfy_auth_rs.{call}
# <<< comfy-auth-rs <<<
"""
_CALLS = {SERVER: "install(self, args)", CLI_ARGS: "add_arguments(parser)"}
_SHAPES = {SERVER: "self.app = web.Application(middlewares=...)", CLI_ARGS: "parser.parse_args()"}
_BY_HAND = "put that statement on lines of its own and try again"
_BEGIN = _BLOCK.splitlines()[0].encode()
_END = _BLOCK.splitlines()[-1].encode()
_WRITTEN_BY = re.compile(rb"# Written by comfy-auth-rs (\S+);")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LINE_END_BEFORE = re.compile(rb"(?:\r\n|\r|\n)\Z")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FileState:
    """One file of a tree: the `version` that patched it (None: not patched) and, if it is unsound, its `fault`."""

    name: str
    version: str | None
    fault: str | None = None


# --- source to source -------------------------------------------------------------------------------------------


def insert(name: str, source: bytes) -> bytes:
    """Return `source`, the contents of the file called `name`, with the block of this version in its place.

    A block that is there already is replaced, so inserting twice is inserting once. Raises PatchError.
    """
    source = remove(name, source)
    tree = _parse(name, source)
    anchor = _find_anchor(name, tree)
    starts = _line_starts(source)
    begin = starts[anchor.lineno - 1]
    at = starts[anchor.end_lineno or anchor.lineno] if name == SERVER else begin

    indent = source[begin : begin + anchor.col_offset]
    if indent.strip(b" \t"):
        raise PatchError(f"{name}:{anchor.lineno}: `{_SHAPES[name]}` shares its line with other code; {_BY_HAND}")
    line_end = _LINE_END_BEFORE.search(source[:at]) or _LINE_END.search(source)
    newline = line_end[0] if line_end else b"\n"
    block = newline.join(indent + line for line in _block_lines(name)) + newline
    if name == SERVER and source[:at][-1:] not in (b"\n", b"\r"):  # the anchor ends a file without a final newline
        block = newline + block.removesuffix(newline)
    patched = source[:at] + block + source[at:]

    if remove(name, patched) != source or not _takes_effect(name, patched):
        raise PatchError(f"{name}:{anchor.lineno}: cannot insert lines beside `{_SHAPES[name]}`; {_BY_HAND}")
    return patched


def remove(name: str, source: bytes) -> bytes:
    """Return `source` without the block: byte for byte what `insert` was given. Raises PatchError."""
    span = _block_span(name, source)
    if span is None:
        return source
    start, end = span
    if end == len(source) and source[-1:] not in (b"\n", b"\r"):
        # `insert` met a file without a final newline and had to add one before the block.
        start -= 2 if source[:start].endswith(b"\r\n") else min(start, 1)
    return source[:start] + source[end:]


def _block_lines(name: str) -> list[bytes]:
    from comfy_auth_rs import __version__  # late: the package imports `comfyui` first

    call = _CALLS[name]
    return _BLOCK.format(version=__version__, name=call.partition("(")[0], call=call).encode().splitlines()


def _parse(name: str, source: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the source are ComfyUI's business
            tree = ast.parse(source, name)
            compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        python = ".".join(map(str, sys.version_info[:2]))
        raise PatchError(
            f"{name}: not Python {python} ({error}); run comfy-auth-rs with the Python that runs this ComfyUI"
        ) from None
    return tree


def _find_anchor(name: str, tree: ast.Module) -> ast.stmt:
    found = _application_statements(tree) if name == SERVER else _parsing_statements(tree)[:1]
    if len(found) == 1:
        return found[0]
    where = "PromptServer.__init__" if name == SERVER else "the top level"
    times = f"found {len(found)} times" if found else "not found"
    raise PatchError(
        f"{name}: `{_SHAPES[name]}` was {times} in {where}; "
        "use a ComfyUI from 0.3 to 0.38, or call comfy_auth_rs.setup(app) there by hand"
    )


def _application_statements(tree: ast.Module) -> list[ast.stmt]:
    """Every `self.app = web.Application(… middlewares=…)` in `PromptServer.__init__`."""
    return [
        statement
        for server in tree.body
        if isinstance(server, ast.ClassDef) and server.name == "PromptServer"
        for init in server.body
        if isinstance(init, ast.FunctionDef) and init.name == "__init__"
        for statement in ast.walk(init)
        if isinstance(statement, ast.Assign)
        and [ast.unparse(target) for target in statement.targets] == ["self.app"]
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func) == "web.Application"
        and "middlewares" in {keyword.arg for keyword in statement.value.keywords}
    ]


def _parsing_statements(tree: ast.Module) -> list[ast.stmt]:
    """The top-level statements that call `parser.parse_args` when they run: defining a function calls nothing."""
    return [
        statement
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "parser.parse_args" for node in ast.walk(statement)
        )
    ]


def _takes_effect(name: str, patched: bytes) -> bool:
    """Whether the block has become statements beside the anchor: not the inside of a string, for example."""
    try:
        tree = _parse(name, patched)
        anchor = _find_anchor(name, tree)
    except PatchError:
        return False
    expected = [ast.dump(statement) for statement in ast.parse(b"\n".join(_block_lines(name))).body]
    for node in ast.walk(tree):
        for _, body in ast.iter_fields(node):
            if isinstance(body, list) and anchor in body:
                index = body.index(anchor) + 1 if name == SERVER else body.index(anchor) - len(expected)
                return [ast.dump(statement) for statement in body[index : index + len(expected)]] == expected
    return False


def _line_starts(source: bytes) -> list[int]:
    """Where each line begins, as Python counts lines (a lone CR ends one), and the end; a BOM is skipped."""
    starts = [len(_BOM) if source.startswith(_BOM) else 0]
    for line in source[starts[0] :].splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _block_span(name: str, source: bytes) -> tuple[int, int] | None:
    """Where the block begins and ends; None without one."""
    starts = _line_starts(source)
    lines = [source[start:end].strip() for start, end in pairwise(starts)]
    markers = [(number, line) for number, line in enumerate(lines) if line in (_BEGIN, _END)]
    if not markers:
        return None
    if [line for _, line in markers] != [_BEGIN, _END]:
        numbers = ", ".join(str(number + 1) for number, _ in markers)
        raise PatchError(
            f"{name}: damaged comfy-auth-rs markers (line {numbers}); "
            f"restore the file (git checkout {name}), then patch it again"
        )
    (begin, _), (end, _) = markers
    return starts[begin], starts[end + 1]


# --- files ------------------------------------------------------------------------------------------------------


def patch(directory: str | os.PathLike[str]) -> list[Path]:
    """Patch a ComfyUI folder and return the files that changed: none when it was patched by this version already.

    Each file is replaced as a whole, so a kill leaves it old or new. `server.py` comes first: a tree where only that
    one is patched refuses to start. Raises PatchError: nothing was written, unless the disk failed between the two.
    """
    return _rewrite(directory, insert, (SERVER, CLI_ARGS))


def unpatch(directory: str | os.PathLike[str]) -> list[Path]:
    """Take the patch out again and return the files that changed: none when there was no patch.

    `server.py` comes last, for the reason that it comes first in `patch`. Raises PatchError.
    """
    return _rewrite(directory, remove, (CLI_ARGS, SERVER))


def diff(directory: str | os.PathLike[str]) -> bytes:
    """What `patch` would change, as a unified diff that `git apply` takes. Raises PatchError."""
    chunks: list[bytes] = []
    for name in (SERVER, CLI_ARGS):
        source = read(directory, name)
        chunks += difflib.diff_bytes(
            difflib.unified_diff,
            io.BytesIO(source).readlines(),
            io.BytesIO(insert(name, source)).readlines(),
            f"a/{name}".encode(),
            f"b/{name}".encode(),
        )
    return b"".join(chunk if chunk.endswith(b"\n") else chunk + b"\n\\ No newline at end of file\n" for chunk in chunks)


def status(directory: str | os.PathLike[str]) -> list[FileState]:
    """The state of each of the two files. Raises PatchError when the folder is no ComfyUI."""
    states = []
    for name in (SERVER, CLI_ARGS):
        source = read(directory, name)
        version = fault = None
        try:
            if span := _block_span(name, source):
                written_by = _WRITTEN_BY.search(source, *span)
                version = written_by[1].decode(errors="replace") if written_by else "unknown"
            fresh = insert(name, source)
            if span and not _same_but_for_version(source, fresh):
                fault = f"{name}: the patch was edited, has moved or is outdated; run `comfy-auth-rs patch` again"
        except PatchError as error:
            fault = str(error)
        states.append(FileState(name, version, fault))
    return states


def read(directory: str | os.PathLike[str], name: str) -> bytes:
    """The contents of one of the two files. Raises PatchError."""
    path = _file(directory, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _fault(path, "read", error) from None


def _same_but_for_version(source: bytes, other: bytes) -> bool:
    return _WRITTEN_BY.sub(b"", source, count=1) == _WRITTEN_BY.sub(b"", other, count=1)


def _file(directory: str | os.PathLike[str], name: str) -> Path:
    """The file itself, symlinks followed."""
    path, inner = Path(directory, name), Path(directory, "ComfyUI")
    try:
        if path.is_file():
            return path.resolve()
        hint = f"did you mean {inner}?" if (inner / name).is_file() else "name the folder that holds its main.py"
    except OSError as error:
        raise _fault(path, "read", error) from None
    raise PatchError(f"{directory}: not a ComfyUI folder, it has no {name}; {hint}")


def _fault(path: Path, done: str, error: OSError) -> PatchError:
    return PatchError(f"{path}: cannot be {done} ({error.strerror}); check permissions and space, then try again")


def _rewrite(
    directory: str | os.PathLike[str], change: Callable[[str, bytes], bytes], order: tuple[str, ...]
) -> list[Path]:
    paths = {name: _file(directory, name) for name in order}
    with _locked(directory):
        sources = {name: read(directory, name) for name in order}
        contents = {name: change(name, source) for name, source in sources.items()}
        changed = {paths[name]: new for name, new in contents.items() if new != sources[name]}
        try:
            for path in paths.values():
                _temporary(path).unlink(missing_ok=True)  # left by a process that was killed
            for path, new in changed.items():
                _stage(path, new)
            for path in changed:
                _temporary(path).replace(path)
                _sync_directory(path.parent)
        except OSError as error:
            for leftover in changed:
                with suppress(OSError):
                    _temporary(leftover).unlink(missing_ok=True)
            raise _fault(path, "written", error) from None
    return list(changed)


@contextmanager
def _locked(directory: str | os.PathLike[str]) -> Iterator[None]:
    """One process at a time per folder: they share the temporary file's name."""
    with ExitStack() as stack:
        if sys.platform != "win32":  # where a file that another process has open cannot be replaced
            with suppress(OSError):  # a file system without locks: so be it
                descriptor = os.open(directory, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.comfy-auth-rs.tmp")


def _stage(path: Path, content: bytes) -> None:
    """Write the file's successor beside it, safely on disk, with its mode and, for root, its owner."""
    old = path.stat()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(_temporary(path), flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        if sys.platform != "win32":
            if os.geteuid() == 0:
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    if sys.platform != "win32":
        with suppress(OSError):  # some network file systems cannot: the file is in its place all the same
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
