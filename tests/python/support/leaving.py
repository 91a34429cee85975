"""Everything that a key of `run` may try to leave on a server, by every route that takes a file or a setting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from support.client import JSON, Answer, ask
from support.servers import Server

#: It is in every name and all content, so that tests find the files wherever they end up.
MARK = "left-7d20"

#: Where a client may ask to put a file: `type` and `subfolder`.
TYPES = ("input", "output", "temp", "", "user", "../user", "custom_nodes", "models", "/")
SUBFOLDERS = (
    "", "deep", "../user/default", "..", "../..", "../custom_nodes/" + MARK, "../user/default/ComfyUI-Manager",
    "../user/__manager", "../models", "..\\user\\default", "%2e%2e/user/default", "..%2fuser%2fdefault",
    "deep/../../user/default", "/tmp", "....//user", "../input/../user/default", "../web/extensions",
)  # fmt: skip

#: Ways to spell a name: plain, with another folder, or ambiguous.
SPELLINGS = (
    "{}", "{} [output]", "{} [temp]", "{} [input]", "../{}", "../user/default/{}", "..\\{}", "..%2f{}", "a/../../{}",
    "/{}", "{}.png", "{};.png", "{}%00.png", "{} ", "{}.", "deep/{}", "../custom_nodes/{}",
)  # fmt: skip

#: Names in a user's folder, as clients send them. `run` may write none of them except workflows.
USER_FILES = (
    "workflows%2F{}", "workflows%2Fdeep%2F{}", "subgraphs%2F{}", "{}", "user.css", "USER.CSS", "user%2Ecss",
    "user.css.", "user.css%20", "%2575ser.css", "workflows%2F..%2Fuser.css", "workflows%252F..%252Fuser.css",
    "workflows%2F..%2F{}", "workflows%5C..%5Cuser.css", "workflows%2Fup%2Fuser.css",
    "workflows%2Fup%2FComfyUI-Manager%2Fconfig.ini",
    "workflows%2Fstyle.css", "ComfyUI-Manager%2F{}", "ComfyUI-Manager%2Fconfig.ini", "comfyui-manager%2Fconfig.ini",
    "COMFYU~1%2Fconfig.ini", "..%2F__manager%2Fconfig.ini", "..%2F..%2Fcustom_nodes%2F{}", "..%2Fdefault%2Fuser.css",
    "..%2F..%2F{}", "%2Ftmp%2F{}", "comfy.settings.json%2F{}", "scripts%2F{}", "Workflows%2F{}", "workflows%2F.%2F{}",
    "workflows", "workflows%2F", "keybindings%2F{}", "comfy.templates.json", "workflows%2F%2e%2e%2fuser.css",
)  # fmt: skip


@dataclass(frozen=True)
class Leaver:
    """Somebody with a key."""

    server: Server
    key: str

    def ask(self, target: str, method: str, body: bytes = b"", **fields: str) -> Answer:
        headers = {"X-API-Key": self.key, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return ask(self.server, target, headers, method=method, body=body)

    def upload(self, route: str, name: str, content: bytes, **fields: str) -> Answer:
        parts = [_part(f'name="{field}"', value.encode()) for field, value in fields.items()]
        parts.append(_part(f'name="image"; filename="{name}"', content))
        body = b"".join(parts) + f"--{MARK}--\r\n".encode()
        return self.ask(route, "POST", body, Content_Type=f"multipart/form-data; boundary={MARK}")

    def uploads(self, files: Mapping[str, bytes], picture: bytes) -> Iterator[Answer]:
        """Uploads a file under each name, into each folder, in each spelling."""
        for name, content in files.items():
            for kind in TYPES:
                yield self.upload("/upload/image", name, content, type=kind)
                yield self.upload("/upload/image", name, content, type=kind, subfolder="deep", overwrite="true")
        for spelling in SPELLINGS:
            for name in [*list(files)[:3], "user.css"]:
                yield self.upload("/api/upload/image", spelling.format(name), files.get(name, b"*"), overwrite="1")
        for folder in SUBFOLDERS:
            for kind in TYPES[:4]:
                for name in [*list(files)[:2], "user.css", "config.ini"]:
                    yield self.upload("/upload/image", name, files.get(name, b"*"), subfolder=folder, type=kind)
            reference = json.dumps({"filename": f"{MARK}.png", "type": "input", "subfolder": folder})
            for name in (f"{MARK}-mask.png", f"{MARK}-mask.html", "user.css"):
                fields = {"original_ref": reference, "subfolder": folder, "type": "input"}
                yield self.upload("/upload/mask", name, picture, **fields)

    def writes(self, files: Mapping[str, bytes]) -> Iterator[Answer]:
        """Writes, moves and removes the user's files."""
        for name, content in files.items():
            for api in ("", "/api"):
                yield self.ask(f"{api}/userdata/workflows%2F{quote(name, safe='')}", "POST", content)
        name, content = next(iter(files.items()))
        for spelling in USER_FILES:
            for target in dict.fromkeys((spelling, quote(spelling, safe=""), spelling.replace("%2F", "/"))):
                yield self.ask(f"/userdata/{target.format(name)}?overwrite=true", "POST", content)
                source = f"/userdata/workflows%2F{MARK}-moved"
                yield self.ask(source, "POST", content)
                yield self.ask(f"{source}/move/{target.format(name)}?overwrite=true", "POST")
                yield self.ask(f"/userdata/{target.format('none')}", "DELETE")
        for folder in (".", "..", "workflows", "ComfyUI-Manager", "..%2F__manager", "%2Ftmp"):
            yield self.ask("/userdata/workflows%2Fuser.css", "POST", content)
            yield self.ask(f"/userdata/workflows%2Fuser.css/move/{folder}?overwrite=true", "POST")

    def settings(self, values: Mapping[str, object]) -> Iterator[Answer]:
        yield self.ask("/settings", "POST", json.dumps(values).encode(), **JSON)
        for name in ("..%2F..%2Fx", "%2Ftmp%2Fx", "a%00b", "__proto__", "user.css"):
            yield self.ask(f"/settings/{name}", "POST", b'"x"', **JSON)


def _part(field: str, content: bytes) -> bytes:
    kind = "\r\nContent-Type: text/html" if "filename" in field else ""
    return f"--{MARK}\r\nContent-Disposition: form-data; {field}{kind}\r\n\r\n".encode() + content + b"\r\n"


def urls_of(files: Iterable[Path], base: Path, user: Path) -> list[str]:
    """The addresses at which ComfyUI serves these files."""
    found = []
    for file in files:
        if file.is_relative_to(user):
            found.append(f"/api/userdata/{quote(file.relative_to(user).as_posix(), safe='')}")
        elif (kind := file.relative_to(base).parts[0]) in ("input", "output", "temp"):
            folder = quote(file.parent.relative_to(base / kind).as_posix(), safe="").removeprefix(".")
            view = f"/api/view?filename={quote(file.name)}&type={kind}&subfolder={folder}"
            found.append(view)
            if not folder:
                found.append(f"/api/view?filename={quote(f'{file.name} [{kind}]')}")
                found += [f"{view}&preview=webp;90", f"{view}&channel=rgb", f"{view}&channel=a"]
    return found
