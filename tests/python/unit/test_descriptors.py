"""The process has no file descriptor left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SERVER = """
import os, resource, sys
from comfy_auth_rs import KeyStore, create_auth_middleware

keys = KeyStore(api_key_file=[sys.argv[1]])
middleware = create_auth_middleware(keys)
file = open(sys.argv[1], "w")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.dup(0)
except OSError:
    pass
for count in (2, 1, 3):
    file.seek(0)
    file.truncate()
    file.writelines(f"{number}{'x' * 40}\\n" for number in range(count))
    file.flush()
    middleware.look_again()
    print(len(keys), end=" ")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Unix limits them")
def test_keys_are_read_again_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("x" * 40)
    ran = subprocess.run([sys.executable, "-c", SERVER, file], stdout=subprocess.PIPE, text=True, timeout=60)
    assert ran.stdout == "2 1 3 "
