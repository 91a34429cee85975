"""The GitHub workflows: what they build and test, with which permissions. `make lint` checks them with actionlint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pythons import VERSIONS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.iterdir())}
JOBS = {(name, job): body for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()}

#: The only commands that need not go through `make`: they get us other programs.
TOOLS = (
    'sudo ln -s "$(command -v google-chrome)"',
    "choco install make ",
    "python -m pip install comfy-cli",
    "comfy --skip-prompt ",
)


def steps(name: str, job: str) -> list[dict[str, Any]]:
    return JOBS[name, job].get("steps", [])


@pytest.mark.parametrize(("name", "job"), JOBS, ids="/".join)
def test_every_job_calls_make_and_ends(name: str, job: str) -> None:
    body = JOBS[name, job]
    if "uses" in body:
        assert body["uses"] == "./.github/workflows/wheels.yml"
        return
    assert body["timeout-minutes"] <= 60
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for step in steps(name, job):
        command = step.get("run", "make")
        if command.startswith(("make ", "sudo make ")):
            called = [word for word in command.split("make", 1)[1].split() if "=" not in word]
            assert called
            assert set(called) <= targets, command
        else:
            assert command == "make" or command.startswith(TOOLS), command


def test_actions_are_pinned() -> None:
    """To a commit, since a tag can be moved. Only PyPI's action follows a branch, to keep up with PyPI."""
    used = [step["uses"] for name, job in JOBS for step in steps(name, job) if "uses" in step]
    assert len(used) > 10
    for action in used:
        assert re.fullmatch(r"(actions/[a-z-]+|PyO3/maturin-action)@[0-9a-f]{40}", action) or (
            action == "pypa/gh-action-pypi-publish@release/v1"
        )
    for text in (path.read_text(encoding="utf-8") for path in FOLDER.iterdir()):
        pinned = re.findall(r"uses: (\S+@[0-9a-f]{40})(.*)", text)
        assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", version) for _, version in pinned)
    assert len({action for action in used if action.startswith("actions/checkout@")}) == 1


def test_permissions_are_the_least() -> None:
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == ({} if name == "release" else {"contents": "read"})
    more = {key: body["permissions"] for key, body in JOBS.items() if "permissions" in body}
    assert more.pop(("release", "pypi")) == {"id-token": "write"}
    assert all(permissions == {"contents": "read"} for permissions in more.values())
    for name, job in JOBS:
        for step in steps(name, job):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}


def test_tests_run_on_every_platform_and_python() -> None:
    linux, elsewhere = (JOBS["ci", job]["strategy"]["matrix"] for job in ("linux", "elsewhere"))
    assert linux["python"] == elsewhere["python"] == list(VERSIONS)
    assert elsewhere["os"] == ["macos-latest", "windows-latest"]
    assert [step["run"] for step in steps("ci", "linux")[-2:]] == [
        "make test PYTHON=python",
        "make test-release PYTHON=python",
    ]


def test_wheels_are_built_for_every_platform_and_python() -> None:
    linux, elsewhere = (JOBS["wheels", job]["strategy"]["matrix"] for job in ("linux", "elsewhere"))
    assert linux["libc"] == ["2_28", "musllinux_1_2"]
    assert linux["target"] == ["x86_64", "aarch64"]
    (build,) = [step["with"] for step in steps("wheels", "linux") if step.get("uses", "").startswith("PyO3/")]
    assert build["args"].split(" -i ")[1].split() == [f"python{version}" for version in VERSIONS]
    assert elsewhere["runner"] == ["macos-latest", "macos-15-intel", "windows-latest"]
    assert elsewhere["python"] == list(VERSIONS)
    assert "make published-readme sdist PYTHON=python" in [step.get("run") for step in steps("wheels", "sdist")]
    for job in ("linux", "elsewhere", "sdist"):
        assert steps("wheels", job)[-1]["with"]["name"].startswith("dist-")


def test_a_release_is_published_without_a_stored_secret() -> None:
    pypi = JOBS["release", "pypi"]
    assert pypi["needs"] == "wheels"
    assert pypi["environment"]["name"] == "pypi"
    assert "with" not in pypi["steps"][-1]  # no password
    assert "secrets." not in str(pypi)
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert JOBS["release", "wheels"]["needs"] == "check"
