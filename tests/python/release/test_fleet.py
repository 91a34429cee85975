"""deploy/fleet/: three miniatures behind nginx, each on a machine of its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import namespaces, proxies
from support.client import BROWSER, JSON, Answer, bearer
from support.fleet import Fleet, ask, fleet, until
from support.keys import CANARY
from support.namespaces import network

REASON = namespaces.why_not() or ("nginx is not installed" if proxies.NGINX is None else "")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

#: So many that each node gets some of them.
USERS = [f"user-{number}" for number in range(24)]


def key_of(name: str) -> str:
    return f"{CANARY}-of-{name}-0123456789-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    lines = [f"{key_of(name)} {name} user={name}" for name in USERS]
    lines += [f"{key_of('second')} second user=User-0", f"{key_of('nobody')} without-a-user"]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def three(copy_miniature: Any, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with network() as found:
        trees = [copy_miniature() for _ in range(3)]
        with fleet(found, trees, keys, tmp_path_factory.mktemp("nginx")) as started:
            yield started
            assert CANARY not in (started.gateway.folder / "access.log").read_text()
            assert CANARY not in (started.gateway.folder / "error.log").read_text()
