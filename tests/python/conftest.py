"""Servers that tests share: patched and unpatched copies of the miniature, each a process of its own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfy_auth_rs.comfyui.tree import patch
from hypothesis import HealthCheck, settings
from support.keys import KEY
from support.servers import MINI_COMFYUI, WITNESS, Server, start_server

# A shell has what it starts in the background ignore this, and a process hands that on to what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time; `make soak` tries others. How long one takes says nothing on a busy machine.
patient = settings(database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", patient, derandomize=True)
settings.register_profile("random", patient, derandomize=False)
settings.load_profile("fixed")

CopyMiniature = Callable[..., Path]


@pytest.fixture(scope="session")
def copy_miniature(tmp_path_factory: pytest.TempPathFactory) -> CopyMiniature:
    """Makes a new copy of the miniature with the witness among its custom nodes: patched, unless told otherwise."""
    pytest.importorskip("comfyui_frontend_package", reason="the miniature serves comfyui-frontend-package")

    def copy(*, patched: bool = True) -> Path:
        tree = tmp_path_factory.mktemp("tree")
        ours = shutil.ignore_patterns("__pycache__", "user", "input", "output", "temp")
        shutil.copytree(MINI_COMFYUI, tree, ignore=ours, dirs_exist_ok=True)
        shutil.copytree(WITNESS, tree / "custom_nodes" / "witness", ignore=ours)
        if patched:
            patch(tree)
        return tree

    return copy


@pytest.fixture(scope="session")
def key() -> str:
    """The key of `protected`."""
    return KEY


@pytest.fixture(scope="session")
def patched_miniature(copy_miniature: CopyMiniature) -> Path:
    """For tests that start nothing in it, or only what writes nothing."""
    return copy_miniature()


@pytest.fixture(scope="session")
def protected(copy_miniature: CopyMiniature, key: str) -> Iterator[Server]:
    """Patched, started with a key, and as talkative as it can be.

    Send it at most one distinct wrong key: ten of them in a minute lock this machine's address.
    """
    with start_server(copy_miniature(), "--api-key", key, "--verbose", "DEBUG") as server:
        yield server
        assert key not in server.output


@pytest.fixture(scope="session")
def unprotected(copy_miniature: CopyMiniature) -> Iterator[Server]:
    """Patched, started without a key."""
    with start_server(copy_miniature()) as server:
        yield server


@pytest.fixture(scope="session")
def unpatched(copy_miniature: CopyMiniature) -> Iterator[Server]:
    """As it was before the patch."""
    with start_server(copy_miniature(patched=False)) as server:
        yield server
