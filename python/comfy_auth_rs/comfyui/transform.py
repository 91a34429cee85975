"""The lines that make ComfyUI's `server.py` and `comfy/cli_args.py` ask for the key.

These functions turn source bytes into source bytes: `insert` finds its place in the syntax tree; `remove` finds the
block by its marker lines and returns exactly the bytes from before. `tree` applies them to the files of a ComfyUI
folder, `finder` applies `insert` in memory.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from itertools import pairwise

from comfy_auth_rs.errors import PatchError

__all__ = ["CLI_ARGS", "SERVER", "insert", "remove", "same_but_for_version", "version_of"]

SERVER = "server.py"
CLI_ARGS = "comfy/cli_args.py"

# Deliberately no path and no key in here: the logic is in the package, so that an upgrade needs no new patch.
# If the package can't be imported, or its version lacks what the lines call, the process ends.
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


def insert(name: str, source: bytes) -> bytes:
    """Return `source`, the contents of the file called `name`, with the block of this version in it.

    An existing block is replaced, so inserting twice changes nothing more. Raises PatchError.
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


def version_of(name: str, source: bytes) -> str | None:
    """Which version of the package wrote the block in `source`; None if there is none. Raises PatchError."""
    if (span := _block_span(name, source)) is None:
        return None
    written_by = _WRITTEN_BY.search(source, *span)
    return written_by[1].decode(errors="replace") if written_by else "unknown"


def same_but_for_version(source: bytes, other: bytes) -> bool:
    """Whether two patched sources differ only in the version that wrote the block."""
    return _WRITTEN_BY.sub(b"", source, count=1) == _WRITTEN_BY.sub(b"", other, count=1)


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
        "use a ComfyUI from 0.3 to 0.38, or call comfy_auth_rs.comfyui.install(self, args) there by hand"
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
    """The top-level statements that call `parser.parse_args` when they run, so not definitions of functions."""
    return [
        statement
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "parser.parse_args" for node in ast.walk(statement)
        )
    ]


def _takes_effect(name: str, patched: bytes) -> bool:
    """Whether the block became statements beside the anchor and not, for example, the inside of a string."""
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
