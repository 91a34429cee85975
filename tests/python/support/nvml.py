"""A stand-in for NVIDIA's library, for processes that probe it: see tests/fixtures/nvml/fake_nvml.c."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "fixtures" / "nvml" / "fake_nvml.c"

#: In NVML's order. Their sizes differ, so that a mix-up shows.
CARDS = """\
card GPU-aa11 24000 20000 0 0 NVIDIA GeForce RTX 4090
card GPU-bb22 80000 70000 0 0 NVIDIA H100 80GB HBM3
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is found through LD_LIBRARY_PATH")


class FakeNvml:
    """Compiles the library into `folder`, and writes the file that tells it what to answer."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "nvml"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
        #: A process finds the library with these. The loader reads them once, when the process starts.
        self.environment = {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(self._file)}

    def answer(self, text: str) -> None:
        """Changes what the library answers from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(text)
        new.replace(self._file)


def show_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows every device, even those that this machine's environment hides."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
