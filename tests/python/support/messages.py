"""Everything that this software can say to a person, collected from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = REPOSITORY / "python" / "comfy_auth_rs"

#: Strings in these arguments are help, not messages.
_HELP_ARGUMENTS = {"help", "description", "epilog", "usage", "metavar"}
_HELP_CALLS = {"add_argument_group"}

#: Constants that hold help, a program, a page, a header, or examples for the help.
_NO_MESSAGES = {
    "_ASK", "_CODE", "_LOGGED_IN", "_NEXT", "_PAGE_HEADERS", "_CHALLENGE", "CHALLENGE", "EXAMPLES",
}  # fmt: skip

#: Sentences that nobody gets to see.
_UNSAID = {
    "As before the patch",  # the result of `unpatch`
    "authentication (comfy-auth-rs)",  # a title in ComfyUI's help
    "install(self, args)", "<script src=\"{}\"></script>", ', error="invalid_token"', "NODE_CLASS_MAPPINGS = {}",
    "# Written by comfy-auth-rs (\\S+);", "Runs before the server is made.", "Runs when nodes are loaded.",
    "comfy-auth-rs key id v1", "comfy-auth-rs session key v1", "comfy-auth-rs state v1",  # purposes of derived keys
    "No such file",  # the loader's own error
    "{} differs from what runs",  # for importlib, which catches it
    'Basic realm="ComfyUI"', 'Bearer realm="ComfyUI"', 'Bearer realm="ComfyUI", error="invalid_token"',
    'Bearer realm="ComfyUI", error="insufficient_scope"', '{}, scope="{}"',  # challenges
    "key_id={}, source={}, scopes={})",  # a repr
    "application/json; charset=utf-8", "sandbox allow-same-origin",
}  # fmt: skip

_RUST = re.compile(
    r"//[^\n]*|'(?:\\.|[^'\\])'|reason = \"(?:[^\"\\]|\\.)*\"|expect\(\"(?:[^\"\\]|\\.)*\"\)"
    r'|r#"(?P<raw>.*?)"#|"(?P<text>(?:[^"\\]|\\.)*)"',
    re.S,
)
#: Statements for SQLite.
_SQL = re.compile(r"\s*(?:SELECT|CREATE|REPLACE|DELETE|BEGIN|PRAGMA)\b")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True)
class Message:
    """A message as it is in the source. `{}` is filled in at run time."""

    place: str
    text: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds the message in output, or in a document that quotes it."""
        parts = [re.escape(part) for part in one_line(self.text).split("{}")]
        return re.compile(".*?".join(parts).replace(r"\ ", " "))


def one_line(text: str) -> str:
    """The text without line ends and code marks, which differ between documents and messages."""
    return " ".join(text.replace("`", "").replace("*", "").split())


def collect() -> list[Message]:
    """Collects all messages, including the lines that the custom node and the patch insert."""
    found: list[Message] = []
    # The texts of the usage page are on that page.
    for file in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "usage_page.py"}):
        found += _of_python(file)
    # Programs read the help texts of metrics.
    for file in sorted(set((REPOSITORY / "src").rglob("*.rs")) - set((REPOSITORY / "src" / "metrics").iterdir())):
        found += _of_rust(file)
    for name in ("auth_login.js", "auth_link.js", "auth_inject.js"):
        found += _of_script(PACKAGE / "static" / name)
    return found


def causes() -> list[str]:
    """The words of log lines and JSON bodies."""
    text = (REPOSITORY / "src" / "decision.rs").read_text(encoding="utf-8")
    return re.findall(r'=> row\(\d+, "[a-z_]+", "([a-z_]+)"', text)


def _message(file: Path, line: int, text: str) -> Iterator[Message]:
    """Yields it if it looks like a message: at least three words."""
    if text.strip() in _UNSAID or _SQL.match(text):
        return
    if len(re.findall(r"[A-Za-z']{2,}", text.replace("{}", ""))) >= 3 and " " in text.strip():
        yield Message(f"{file.relative_to(REPOSITORY)}:{line}", text)


def _of_python(file: Path) -> Iterator[Message]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if not _is_no_message(node):
            continue
        skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in skipped:
            skipped.update(id(value) for value in node.values)
            text = "".join(str(value.value) if isinstance(value, ast.Constant) else "{}" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            text = node.value
        else:
            continue
        yield from _message(file, node.lineno, _with_marks(text))


def _with_marks(text: str) -> str:
    """Writes every placeholder as `{}`. From generated lines, it keeps only what they print."""
    if "print(" in text:
        text = "".join(re.findall(r'f"([^"]*)"', text))
    return re.sub(r"\{\{?[^{}\s]*\}?\}|%[sd]", "{}", text)


def _is_no_message(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):  # a docstring, or one of an attribute
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.keyword):
        return node.arg in _HELP_ARGUMENTS
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(ast.unparse(target).split(".")[-1] in _NO_MESSAGES | _HELP_ARGUMENTS for target in targets)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        # Without `file=sys.stderr` it is output that the user asked for.
        return name in _HELP_CALLS or (name == "print" and not any(word.arg == "file" for word in node.keywords))
    return False


def _of_rust(file: Path) -> Iterator[Message]:
    text = file.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    for match in _RUST.finditer(text):
        literal = match["raw"] or match["text"]
        if literal is None:
            continue
        literal = re.sub(r"\\\n\s*", "", literal)
        literal = re.sub(r'\\[n"\\]', lambda escape: _ESCAPES[escape[0]], literal)
        line = text.count("\n", 0, match.start()) + 1
        yield from _message(file, line, re.sub(r"\{[^{}]*\}", "{}", literal))


def _of_script(file: Path) -> Iterator[Message]:
    """Strings that begin with a capital."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        for plain, template in re.findall(r"\"([A-Z][^\"]*)\"|`([A-Z][^`]*)`", line.partition("//")[0]):
            yield from _message(file, number, re.sub(r"\$\{[^}]*\}", "{}", plain or template))
