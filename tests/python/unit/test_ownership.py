"""Root works on another user's files: it writes with no more rights than theirs, and their files stay theirs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from comfy_auth_rs import PatchError
from comfy_auth_rs.comfyui import custom_node, tree
from comfy_auth_rs.ownership import as_owner, foreign_part, foreign_part_of_python
from support.trees import SERVER, make_tree

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root and another user's files")


def give_away(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Another user's ComfyUI, in a folder that they can reach."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    root = make_tree(tmp_path / "theirs")
    (root / "custom_nodes").mkdir()
    (root / "server.py").chmod(0o640)
    give_away(root)
    return root


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    file = tmp_path / "precious"
    file.write_text("root's\n")
    file.chmod(0o600)
    return file


def owner(path: Path) -> tuple[int, int, int]:
    state = path.lstat()
    return state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)


def test_what_is_written_is_theirs(theirs: Path) -> None:
    assert len(tree.patch(theirs)) == 2
    assert owner(theirs / "server.py") == (NOBODY, NOBODY, 0o640)
    assert owner(theirs / "comfy/cli_args.py")[:2] == (NOBODY, NOBODY)
    assert len(tree.unpatch(theirs)) == 2
    assert (theirs / "server.py").read_text() == SERVER
    for path in custom_node.install(theirs):
        assert owner(path)[:2] == owner(path.parent)[:2] == (NOBODY, NOBODY)
    assert custom_node.uninstall(theirs)
    assert (os.geteuid(), os.getegid()) == (0, 0)


def test_what_is_roots_stays_roots(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "ours")
    os.chown(root / "server.py", NOBODY, NOBODY)
    tree.patch(root)
    assert owner(root / "server.py")[:2] == (NOBODY, NOBODY)
    assert owner(root / "comfy/cli_args.py")[:2] == (0, 0)


@pytest.mark.parametrize("name", ["server.py", "comfy/cli_args.py", "comfy"])
def test_patch_writes_through_no_link_of_theirs(theirs: Path, tmp_path: Path, name: str) -> None:
    ours = make_tree(tmp_path / "ours")
    before = {path: path.read_bytes() for path in ours.rglob("*.py")}
    (theirs / name).rename(theirs / "moved")
    (theirs / name).symlink_to(ours / name)
    give_away(theirs)
    for change in (tree.patch, tree.unpatch):
        if change is tree.patch:
            with pytest.raises(PatchError, match="cannot be written"):
                change(theirs)
        assert before == {path: path.read_bytes() for path in ours.rglob("*.py")}
        assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()} - {
            "moved", "custom_nodes",
        }  # fmt: skip


def test_their_temporary_links_lead_nowhere(theirs: Path, precious: Path) -> None:
    for name in (".server.py.comfy-auth-rs.tmp", "comfy/.cli_args.py.comfy-auth-rs.tmp"):
        (theirs / name).symlink_to(precious)
    tree.patch(theirs)
    node = custom_node.folder(theirs)
    node.mkdir()
    (node / "__init__.py").symlink_to(precious)
    (node / ".prestartup_script.py.tmp").symlink_to(precious)
    give_away(theirs)
    tree.unpatch(theirs)
    with pytest.raises(PatchError):  # nor may it read what they can't
        custom_node.install(theirs)
    (node / "__init__.py").unlink()
    custom_node.install(theirs)
    assert precious.read_text() == "root's\n"
    assert owner(precious) == (0, 0, 0o600)


def test_a_custom_node_goes_to_no_folder_that_they_name(theirs: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (theirs / "custom_nodes").rmdir()
    (theirs / "custom_nodes").symlink_to(ours)
    give_away(theirs)
    with pytest.raises(PatchError, match="cannot be written"):
        custom_node.install(theirs)
    assert list(ours.iterdir()) == []
    (ours / "comfy-auth-rs").mkdir()
    for name, text in custom_node.contents().items():
        (ours / "comfy-auth-rs" / name).write_text(text)
    with pytest.raises(PatchError, match="cannot be removed"):
        custom_node.uninstall(theirs)
    assert len(list((ours / "comfy-auth-rs").iterdir())) == 2


def test_rights_come_back(theirs: Path) -> None:
    groups = os.getgroups()
    with pytest.raises(ZeroDivisionError), as_owner(theirs):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (NOBODY, NOBODY, [])
        _ = 1 / 0
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_what_an_interpreter_imports_besides(theirs: Path, tmp_path: Path) -> None:
    packages = tmp_path / "venv/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir()
    python.write_text("")
    assert foreign_part_of_python(python) is None
    (packages / "editable.pth").write_text(f"# mine\nimport os\n{theirs}\n")
    found = foreign_part_of_python(python)
    assert found is not None
    assert (found.path, found.owner) == (theirs, NOBODY)


def test_who_can_change_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a/file"
    file.parent.mkdir()
    file.write_text("")
    assert foreign_part(file) is None  # below /tmp, where nobody can rename other users' files
    assert foreign_part(tmp_path / "none/at/all") is None
    (tmp_path / "link").symlink_to("a/../a/file")
    assert foreign_part(tmp_path / "link") is None
    (tmp_path / "loop").symlink_to("loop")
    assert foreign_part(tmp_path / "loop") is not None
    os.chown(file, NOBODY, 0)
    for path in (file, tmp_path / "link", tmp_path / "a/./../a/file"):
        assert foreign_part(path) == (file, NOBODY)
    os.chown(file, 54321, 0)
    assert [found.who for found in [foreign_part(file)] if found] == ["#54321"]
    os.chown(file, 0, 0)
    for mode, changeable in ((0o755, False), (0o775, False), (0o757, True)):
        file.chmod(mode)
        assert (foreign_part(file) == (file, None)) is changeable
    os.chown(file, 0, NOBODY)
    file.chmod(0o775)
    assert [found.who for found in [foreign_part(file)] if found] == ["others"]


def test_what_cannot_be_seen_counts_as_theirs(tmp_path: Path) -> None:
    """Even root can't look into another user's FUSE mount, and that user can unmount it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for parent in tmp_path.parents:
        if parent != Path("/tmp") and parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        assert foreign_part(hidden / "python") == (hidden / "python", None)
    finally:
        os.seteuid(0)
