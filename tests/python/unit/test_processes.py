"""Which processes this one descends from, according to /proc and ps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from comfy_auth_rs.comfyui import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")

REPORT = """
import json
from comfy_auth_rs.comfyui import processes
print(json.dumps([processes.this(), *processes.ancestors()]))
"""


def test_this_process_and_its_ancestors_are_found_below_any_name(tmp_path: Path) -> None:
    """A program's name can look like the fields after it."""
    script = tmp_path / "a) S 1 ("
    script.write_text(f"#!/bin/sh\n{sys.executable} -c '{REPORT}'\nexit 0\n")
    script.chmod(0o700)
    for _ in range(20):  # busy, if another test forked while the file was open for writing
        try:
            found = json.loads(subprocess.check_output([str(script)]))
            break
        except OSError:
            time.sleep(0.1)
    child, shell, mine = found[:3]
    assert child[1] == shell[0]
    assert shell[1] == mine[0]
    assert mine == list(processes.this() or ())
    assert mine[:2] == [os.getpid(), os.getppid()]
    assert len({started for _, _, started in found[:3]} - {""}) > 1


def test_they_are_the_same_at_each_look() -> None:
    assert processes.this() == processes.this()
    first, *_, last = processes.ancestors()
    assert first.pid == os.getppid()
    assert last.parent == 0


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no /bin/ps")
def test_ps_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from_proc = [(process.pid, process.parent) for process in processes.ancestors()]
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    this = processes.this()
    assert this
    assert (this.pid, this.parent) == (os.getpid(), os.getppid())
    assert len(this.started.split()) == 5  # Sat Nov 28 03:20:51 2026
    assert [(process.pid, process.parent) for process in processes.ancestors()] == from_proc
