"""What holds and what doesn't in a ComfyUI that should ask for a key: the checks of `comfy-auth-rs doctor`."""

from __future__ import annotations

import ast
import base64
import contextlib
import http.client
import json
import os
import platform
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from comfy_auth_rs import KeyStore, __version__, remembered
from comfy_auth_rs.comfyui import custom_node, tree, web_directories
from comfy_auth_rs.comfyui.state import VARIABLE, default_file
from comfy_auth_rs.comfyui.transform import CLI_ARGS, SERVER
from comfy_auth_rs.comfyui.tree import FileState
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.key_file import KeyFileFault, read
from comfy_auth_rs.ownership import Foreign, foreign_part_of_python
from comfy_auth_rs.settings import flag
from comfy_auth_rs.store import StoreError
from comfy_auth_rs.store.address import MEMORY, is_url

__all__ = ["Check", "examine"]

_TIMEOUT = 2.0  # seconds for one step of a request
_MOST = 1 << 20  # bytes of an answer that are read
_SOON = 14 * 86_400  # seconds until a key ends
_LONG_AGO = 30 * 86_400
_PATHS = ("/queue", "/api/queue")
_NODE = "Custom node"
#: The start of a WebSocket (RFC 6455, 4.1).
_HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


@dataclass(frozen=True)
class Check:
    """One line of the table: `unsafe` is a reason to act at once, `note` is good to know."""

    name: str
    state: Literal["ok", "note", "unsafe"]
    detail: str


def examine(
    directory: Path,
    *,
    base: Path | None = None,
    python: str | None = None,
    port: int = 8188,
    key_files: Sequence[Path] = (),
    key_file: Path | None = None,
    state: str | None = None,
) -> list[Check]:
    """Look at the ComfyUI in `directory` and at what answers on `port` of this machine; change nothing.

    `base` is what its `--base-directory` says, `python` the interpreter that runs it, if not the one in or beside its
    folder, `state` what its `--auth-state` says. With the first key in `key_file` it asks the running server for more,
    on loopback only.
    Raises PatchError when there is no ComfyUI.
    """
    files = tree.status(directory)
    node = custom_node.folder(directory, base)
    runtime = _Runtime.of(_absolute(python) if python else _python_of(directory), directory)
    answers = _answers(port)
    return [
        _comfyui(directory),
        *_protected(files, node, any(answer.asks for answer in answers)),
        _permissions(directory, node),
        *runtime.checks(),
        _manager(node.parent, runtime),
        *_web_directories(node.parent),
        *_keys(key_files),
        *_state(state, Path(directory if base is None else base), key_files),
        *_port(port, answers),
        *_running(port, answers, key_file),
        _web_socket(port, answers, node),
    ]


def _web_socket(port: int, answers: Sequence[_Answer], node: Path) -> Check:
    asking = [answer.address for answer in answers if answer.asks]
    if asking and all((_get(address, port, "/ws", _HANDSHAKE) or (0,))[0] == 401 for address in asking):
        return Check("WebSocket", "ok", "/ws asks for the key")
    how = "set COMFYUI_AUTH_FLAGS=" if node.is_dir() else "start ComfyUI with "
    return Check("WebSocket", "note", f"{how}{flag('require_ws')}, so that /ws asks for the key too")


def _comfyui(directory: Path) -> Check:
    with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        for statement in ast.parse((directory / "comfyui_version.py").read_bytes()).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
                return Check("ComfyUI", "ok", f"version {ast.literal_eval(statement.value)}")
    return Check("ComfyUI", "note", "its version is unknown: comfyui_version.py does not tell")


def _protected(files: Sequence[FileState], node: Path, asks: bool) -> Iterator[Check]:
    """The patch, the custom node, or neither: then it may have been started with `comfy-auth-rs run`."""
    found = custom_node.state(node)
    if found is None:
        yield _patched(files, asks)
        return
    if any(file.version for file in files):
        yield _patched(files, asks)
        yield Check(_NODE, "unsafe", f"{node}: the patch is there too, and ComfyUI will not start; keep one of the two")
        return
    if found.fault:
        yield Check(_NODE, "unsafe", found.fault)
        return
    yield Check(_NODE, "ok", f"written by version {found.version}; it takes its keys from COMFYUI_API_KEY_FILE")
    yield Check(
        _NODE,
        "note",
        "ComfyUI does not load it, and asks for no key, when started with --disable-all-custom-nodes (but for "
        f"--whitelist-custom-nodes {custom_node.NAME}) or with another --base-directory",
    )


def _patched(files: Sequence[FileState], asks: bool) -> Check:
    versions = {file.version for file in files}
    if faults := [file.fault for file in files if file.fault]:
        return Check("Patch", "unsafe", "; ".join(faults))
    if versions == {None}:
        if asks:
            return Check("Patch", "ok", "not patched, but what listens asks for the key: `comfy-auth-rs run` does that")
        return Check(
            "Patch",
            "unsafe",
            "not patched; run `comfy-auth-rs patch DIR`, or start it with `comfy-auth-rs run DIR`",
        )
    if None in versions:
        missing = next(file.name for file in files if file.version is None)
        return Check("Patch", "unsafe", f"half patched: not {missing}; run `comfy-auth-rs patch DIR`")
    return Check("Patch", "ok", f"patched by version {' and '.join(sorted(map(str, versions)))}")


def _permissions(directory: Path, node: Path) -> Check:
    """Whoever may write these files may take the protection away."""
    name = "Permissions"
    if sys.platform == "win32":
        return Check(name, "note", "not looked at on Windows")
    paths = [directory, directory / SERVER, directory / CLI_ARGS, node, *node.glob("*.py")]
    modes = {path: path.stat() for path in paths if path.exists()}
    if writable := [path for path, mode in modes.items() if mode.st_mode & stat.S_IWOTH]:
        return Check(name, "unsafe", f"every user of this machine can change {writable[0]}; run `chmod o-w` on it")
    owners = {mode.st_uid for mode in modes.values()}
    whose = "yours" if owners == {os.geteuid()} else "another user's"
    return Check(name, "ok", f"the folder is {whose} (mode {stat.S_IMODE(modes[directory].st_mode):o})")


#: Does what the inserted lines do, with the Python that will do it, and tells what else a helper would ask for. Nothing
#: is imported from the folder that it is started in.
_ASK = """
import sys
sys.path[:] = filter(None, sys.path)
import comfy_auth_rs.comfyui, aiohttp, json, platform
from importlib.metadata import PackageNotFoundError, version
try:
    manager = version("comfyui-manager")
except PackageNotFoundError:
    manager = None
gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else " without the GIL"
print(json.dumps({"package": comfy_auth_rs.__version__, "manager": manager, "environment": ", ".join(
    [f"{platform.python_implementation()} {platform.python_version()}{gil}", f"aiohttp {aiohttp.__version__}",
     platform.platform()])}))
"""


@dataclass(frozen=True)
class _Runtime:
    """The Python that runs ComfyUI: what it answered to `_ASK`, or why it did not, or was not asked."""

    python: str
    answer: dict[str, str | None] = field(default_factory=dict)
    fault: str | None = None
    not_asked: str | None = None

    @classmethod
    def of(cls, python: str, directory: Path) -> _Runtime:
        if python != sys.executable and (foreign := foreign_part_of_python(Path(python))):
            return cls(python, not_asked=_not_run(python, directory, foreign))
        is_root = sys.platform != "win32" and os.geteuid() == 0
        command = [python, *["-I"] * is_root, "-c", _ASK]
        try:
            result = subprocess.run(
                command, cwd=Path(python).anchor or None, capture_output=True, text=True, errors="replace", timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return cls(python, fault=f"{python} does not run ({error}); name ComfyUI's Python with --python")
        if result.returncode == 0:
            with contextlib.suppress(ValueError, IndexError):
                return cls(python, json.loads(result.stdout.splitlines()[-1]))
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        return cls(python, fault=f"{python} cannot import it ({reason}); run `{python} -m pip install comfy-auth-rs`")

    def checks(self) -> Iterator[Check]:
        if not self.answer:
            yield Check("Package", "unsafe" if self.fault else "note", str(self.fault or self.not_asked))
            yield Check(
                "Environment",
                "note",
                f"ComfyUI's is unknown; doctor's own: comfy-auth-rs {__version__}, Python {platform.python_version()}, "
                f"{platform.platform()}",
            )
            return
        yield Check("Package", "ok", f"{self.python} imports version {self.answer['package']}")
        yield Check("Environment", "ok", str(self.answer["environment"]))


def _not_run(python: str, directory: Path, foreign: Foreign) -> str:
    """Why, what its folder tells, and what to do."""
    if foreign.owner is None:
        remedy = f"run `chmod go-w {foreign.path}`"
    else:
        remedy = f"run `sudo -u {foreign.who} {python} -m comfy_auth_rs doctor {directory}`"
    folders = sorted(Path(python).parents[1].glob("lib/python3*/site-packages/comfy_auth_rs-*.dist-info"))
    found = f"its folder has version {folders[-1].name.split('-')[1].removesuffix('.dist')}" if folders else "unknown"
    return f"{python} was not run, since {foreign.who} can change {foreign.path}; {remedy} (the package: {found})"


def _manager(custom_nodes: Path, runtime: _Runtime) -> Check:
    """It restarts the server and has middlewares of its own, so that a helper wants to know."""
    name = "Manager"
    if version := runtime.answer.get("manager"):
        return Check(name, "ok", f"ComfyUI-Manager {version}, which --enable-manager turns on")
    if custom_nodes.is_dir():
        for entry in custom_nodes.iterdir():
            if entry.name.lower() == "comfyui-manager":
                return Check(name, "ok", f"ComfyUI-Manager in {entry}")
    return Check(name, "ok", "ComfyUI-Manager is not there")


def _absolute(python: str) -> str:
    """As this process finds it: a mere name in PATH, a path from the folder that it was started in."""
    return str(Path(shutil.which(python) or python).absolute())


def _web_directories(custom_nodes: Path) -> Iterator[Check]:
    """ComfyUI serves them below /extensions/, which needs no key."""
    for node, folder, own, source in web_directories.find(custom_nodes):
        if own:
            yield Check(
                "Web folder",
                "unsafe",
                f"{node} serves {folder} to everyone, with its source, its settings and what else is there; put its "
                "scripts into a folder of their own and name that in its WEB_DIRECTORY, or remove the node",
            )
        elif source:
            yield Check("Web folder", "note", f"{node} serves {source} to everyone; keep only what browsers need there")


def _python_of(directory: Path) -> str:
    """The interpreter that ComfyUI's own installers put in or beside its folder, else this one."""
    directory = directory.absolute()
    candidates = [
        directory / venv / inner for venv in ("venv", ".venv") for inner in ("bin/python", "Scripts/python.exe")
    ]
    candidates.append(directory.parent / "python_embeded" / "python.exe")
    return next((str(candidate) for candidate in candidates if candidate.is_file()), sys.executable)


def _keys(files: Sequence[Path]) -> Iterator[Check]:
    name = "Key file"
    if not files:
        yield Check(name, "note", "none named; check yours with --api-key-file FILE")
    for file in files:
        if faults := KeyStore.faults(file):
            yield from (Check(name, "unsafe", fault) for fault in faults)
            continue
        store = KeyStore(api_key_file=[file])
        yield Check(name, "ok", f"{file}: {len(store)} key{'s' * (len(store) != 1)}")
        for warning in store.warnings():
            yield Check(name, "unsafe" if warning.kind == "readable_by_others" else "note", str(warning))
        yield from _ends_of_keys(file)


def _ends_of_keys(file: Path) -> Iterator[Check]:
    """Keys that end soon, that ended long ago, and that never do."""
    name, now = "Keys", int(time.time())
    try:
        entries = read(file).entries
    except KeyFileFault:
        return  # it has just changed
    for entry in entries:
        place = f"{file}:{entry.line}"
        if entry.has_expired(now - _LONG_AGO):
            yield Check(name, "note", f"{place}: the key expired at {entry.expires_at}; remove the line")
        elif entry.has_expired(now + _SOON) and not entry.has_expired(now):
            yield Check(
                name, "note", f"{place}: the key expires at {entry.expires_at}; `comfy-auth-rs keys rotate` replaces it"
            )
    if forever := [str(entry.line) for entry in entries if entry.opens_everything]:
        yield Check(
            name,
            "note",
            f"{file}: keys that open everything and never expire, on line {', '.join(forever)}; "
            "scope= and expires= say less",
        )


def _state(state: str | None, base: Path, key_files: Sequence[Path]) -> Iterator[Check]:
    """What is remembered, and where; ComfyUI's own file unless another state is named."""
    name = "State"
    chosen = state or os.environ.get(VARIABLE) or str(default_file(base / "user"))
    if chosen == MEMORY:
        yield Check(name, "note", "log-outs, locks and revoked keys are forgotten when ComfyUI ends")
        return
    if not is_url(chosen) and not os.path.lexists(chosen):
        yield Check(name, "note", f"{chosen} is not there; ComfyUI makes it when it starts with a key")
        return
    sound = [file for file in key_files if not KeyStore.faults(file)]
    try:
        found = remembered.look(chosen, sound)
    except (StoreError, SettingError) as fault:
        detail = fault.detail if isinstance(fault, SettingError) else fault
        yield Check(name, "unsafe", f"{detail}. Log-outs and revoked keys are not kept there")
        return
    log_outs, revoked, locks = (len(found.entries_of(kind)) for kind in ("log_out", "revocation", "lock"))
    yield Check(
        name,
        "ok",
        f"{found.place} ({found.about}): servers that share it: {found.servers}; log-outs: {log_outs}, revoked keys: "
        f"{revoked}, locks: {locks}",
    )
    for place, label, key in found.unheeded:
        whose = f"{label} ({key[:8]})" if label else key[:8]
        yield Check("Keys", "note", f"{place}: the key of {whose} is revoked, but still in this file; remove the line")


@dataclass(frozen=True)
class _Answer:
    """What an address that listens answers requests without a key: the HTTP status of each path, if any."""

    address: str
    remote: bool
    statuses: dict[str, int]

    @property
    def asks(self) -> bool:
        return set(self.statuses.values()) == {401}

    def check(self, name: str) -> Check:
        if self.asks:
            return Check(name, "ok", f"{self.address} asks for the key")
        if not self.statuses:
            return Check(name, "note", f"{self.address} listens, but gave no HTTP answer; try again")
        whom = "other machines" if self.remote else "everyone on this machine"
        codes = ", ".join(f"{path} with {status}" for path, status in self.statuses.items() if status != 401)
        return Check(name, "unsafe", f"{self.address} answers {whom} without a key: {codes}")


def _answers(port: int) -> list[_Answer]:
    remote = _own_addresses()
    found = []
    for address in ["127.0.0.1", "::1", *remote]:
        statuses = {path: status for path in _PATHS if (status := _status(address, port, path)) is not None}
        if statuses:
            known = {path: status for path, status in statuses.items() if status}
            found.append(_Answer(address, address in remote, known))
    return found


def _port(port: int, answers: Sequence[_Answer]) -> Iterator[Check]:
    name = f"Port {port}"
    yield from (answer.check(name) for answer in answers)
    if answers and not any(answer.remote for answer in answers):
        yield Check(name, "ok", "other machines cannot reach it")
    if not answers:
        yield Check(name, "note", "nothing listens; start ComfyUI and run doctor again, with --port if it isn't there")


def _running(port: int, answers: Sequence[_Answer], key_file: Path | None) -> Iterator[Check]:
    """What the running server tells an owner: of its state, and of custom nodes that put a middleware before ours."""
    name = "Middlewares"
    if key_file is None:
        return
    key = _first_key(key_file)
    if key is None:
        yield Check(name, "note", f"{key_file}: no key in plain text is in it; name a file with one")
        return
    asking = next((answer for answer in answers if answer.asks and not answer.remote), None)
    if asking is None:
        yield Check(name, "note", "nothing on 127.0.0.1 or ::1 asks for a key; the key was not sent anywhere")
        return
    status, body = _get(asking.address, port, "/auth_session", {"Authorization": f"Bearer {key}"}) or (0, b"")
    told = {}
    with contextlib.suppress(ValueError):
        told = json.loads(body)
    if status != 200 or not isinstance(told, dict) or "displaced_middlewares" not in told:
        yield Check(name, "note", f"{asking.address} does not take the first key in {key_file} (status {status})")
        return
    if displaced := told["displaced_middlewares"]:
        names = ", ".join(map(str, displaced))
        yield Check(name, "note", f"custom nodes put these first; they run only once the key is checked: {names}")
    else:
        yield Check(name, "ok", "no custom node put one before the key")
    if isinstance(state := told.get("state"), dict):
        yield _running_state(state)


def _running_state(state: dict[str, object]) -> Check:
    name, place = "State in use", f"{state.get('kind')}, {state.get('place')}"
    if state.get("fault") is None:
        return Check(name, "ok", f"{place}; servers that share it: {state.get('nodes')}")
    since = state.get("away_since")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)) if isinstance(since, (int, float)) else "?"
    return Check(name, "unsafe", f"away since {when}: {state.get('fault')}")


def _first_key(file: Path) -> str | None:
    """In plain text and in force; one that may do everything, if there is one, since it is told more."""
    with contextlib.suppress(KeyFileFault):
        found, now = read(file), int(time.time())
        in_force = [entry for entry in found.entries if not entry.has_expired(now)]
        for entry in sorted(in_force, key=lambda entry: entry.scope != "all"):
            if not (key := found.key_of(entry)).startswith("sha256:"):
                return key
    return None


def _status(address: str, port: int, path: str) -> int | None:
    """The status of a request without a key; 0: listens, but speaks neither HTTP nor HTTPS; None: doesn't listen."""
    try:
        socket.create_connection((address, port), _TIMEOUT).close()
    except OSError:
        return None
    answer = _get(address, port, path)
    return 0 if answer is None else answer[0]


def _get(
    address: str, port: int, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, bytes] | None:
    """Status and body; None where it speaks neither HTTP nor HTTPS."""
    # The certificate doesn't matter: something secret is sent only within this machine.
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    for connection in (
        http.client.HTTPConnection(address, port, timeout=_TIMEOUT),
        http.client.HTTPSConnection(address, port, timeout=_TIMEOUT, context=tls),
    ):
        try:
            connection.request("GET", path, headers={"Accept": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read(_MOST)
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return None


def _own_addresses() -> list[str]:
    """The addresses under which other machines may reach this one, as far as the standard library can tell."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        found.update(str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None))
    # Where packets to elsewhere would leave from; connecting a UDP socket sends none. Addresses from RFC 5737, 3849.
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.add(str(probe.getsockname()[0]))
    if sys.platform == "linux":
        import fcntl

        siocgifaddr = 0x8915
        for _, interface in socket.if_nameindex():
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                request = struct.pack("256s", interface.encode()[:15])
                found.add(socket.inet_ntoa(fcntl.ioctl(probe, siocgifaddr, request)[20:24]))
    return sorted(address for address in found if not address.startswith(("127.", "::1", "fe80:", "0.")))
