"""`comfy-auth-rs keys`, run as users run it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from comfy_auth_rs import key_file
from comfy_auth_rs._core import key_file_entries
from comfy_auth_rs.cli import main
from comfy_auth_rs.key_file import KeyFileFault, change, read
from support.command import run
from support.keys import CANARY, KEY, OTHER_KEY

NOBODY = 65534
NEW_KEY = re.compile(r"[A-Za-z0-9_-]{43}\n")
MOMENT = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root and another user's files")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.txt"


def keys(action: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, which is many times faster than starting one."""
    argv = ["keys", action, *map(str, args)]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(argv)
        except SystemExit as ending:
            status = int(ending.code or 0)
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def good(action: str, *args: object) -> str:
    result = keys(action, *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(action: str, *args: object) -> str:
    """The error message, which must not contain a key."""
    result = keys(action, *args)
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("comfy-auth-rs: error: ") for line in lines)
    assert CANARY not in result.stderr
    return result.stderr


def listed(file: Path) -> list[dict[str, object]]:
    told: list[dict[str, object]] = json.loads(good("list", file, "--json"))
    return told


def ids(file: Path) -> list[str]:
    return [str(entry["id"]) for entry in listed(file)]


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def write(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    file.chmod(0o600)


# --- add --------------------------------------------------------------------------------------------------------


def test_add_makes_a_private_file_and_prints_the_key_alone(file):
    result = run("keys", "add", file, "--label", "alice")
    assert result.returncode == 0
    assert NEW_KEY.fullmatch(result.stdout)
    assert file.read_text() == f"{result.stdout.strip()} alice\n"
    assert result.stdout.strip() not in result.stderr
    assert "only this once" in result.stderr and "may do everything and never expires" in result.stderr
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((file.parent / ".keys.txt.lock").stat().st_mode) == 0o600
    assert sorted(path.name for path in file.parent.iterdir()) == [".keys.txt.lock", "keys.txt"]


def test_add_writes_what_it_is_told(file):
    attributes = ["--scope", "view,run", "--user", "alice", "--expires", "2099-01-31", "--from", "::1,10.0.0.0/8"]
    attributes += ["--prompts", "60/h", "--queued", "3"]
    key = good("add", file, "--label", "a b=c", *attributes, "--digest").strip()
    expected = f'{digest(key)} "a b=c" scope=run expires=2099-01-31 from=10.0.0.0/8,::1 user=alice'
    expected += " prompts=60/h queued=3\n"
    assert file.read_text() == expected
    (entry,) = listed(file)
    assert entry == {
        "label": "a b=c",
        "id": entry["id"],
        "scope": "run",
        "user": "alice",
        "expires": "2099-02-01T00:00:00Z",
        "expired": False,
        "from": ["10.0.0.0/8", "::1"],
        "prompts": "60/h",
        "queued": 3,
        "line": 1,
    }
    assert re.fullmatch("[0-9a-f]{32}", str(entry["id"]))


def test_add_tells_programs_the_key_and_its_id(file):
    told = json.loads(good("add", file, "--label", "ci", "--scope", "run", "--json"))
    assert file.read_text() == f"{told['key']} ci scope=run\n"
    assert {**listed(file)[0], "key": told["key"]} == told


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("90d", 7_776_000), ("2w", 1_209_600)])
def test_add_counts_from_now(file, text, seconds):
    before = int(time.time())
    good("add", file, "--label", "x", "--expires", text)
    (entry,) = read(file).entries
    assert entry.expires is not None
    assert before + seconds <= entry.expires <= time.time() + seconds
    assert re.fullmatch(rf"\S+ x expires={MOMENT}\n", file.read_text())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["the following arguments are required: --label"]),
        (["--label", ""], ["the line would be read differently"]),
        (["--label", "a\nb"], ["the label holds a control character"]),
        (["--label", "x", "--scope", "VIEW"], ['"VIEW" is written in lower case: scope=view']),
        (["--label", "x", "--scope", "view, run"], ["unknown scope"]),
        (["--label", "x", "--scope", ""], ["scope= is empty"]),
        (["--label", "x", "--user", "default"], ["ComfyUI's own user"]),
        (["--label", "x", "--from", "10.0.0.5/8"], ["write 10.0.0.0/8 for the block"]),
        (["--label", "x", "--expires", "soon"], ["expires= takes a date"]),
        (["--label", "x", "--expires", "90y"], ["--expires: name a time such as"]),
        (["--label", "x", "--expires", "2020-01-01"], ["--expires: this is in the past"]),
        (["--label", "x", "--prompts", "60"], ["prompts= takes 1 to 10000 prompts a minute, hour or day"]),
        (["--label", "x", "--queued", "0"], ["queued= takes a number of prompts from 1 to 10000"]),
        (["--label", "x", "--expires", "99999w"], []),
        (["--label", "x", "--user", KEY * 2], ["[redacted]"]),
    ],
)
def test_add_refuses_what_a_key_file_would(file, args, words):
    if args[-1:] == ["99999w"]:
        good("add", file, *args)  # that's some two thousand years
        return
    said = refused("add", file, *args)
    assert all(word in said for word in words), said
    assert said.count("\n") == 1
    assert not file.exists()


def test_add_refuses_a_label_that_is_in_force(file):
    good("add", file, "--label", "alice")
    before = file.read_bytes()
    assert "a key in force has this label" in refused("add", file, "--label", "alice")
    assert file.read_bytes() == before
    good("revoke", file, "alice")
    good("add", file, "--label", "alice")
    assert [entry["expired"] for entry in listed(file)] == [True, False]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "NEW\n"),
        ("\ufeff", "\ufeffNEW\n"),
        ("# ours\n\n", "# ours\n\nNEW\n"),
        (f"{KEY}\tbob ", f"{KEY}\tbob \nNEW\n"),
        (f"\ufeff# ours\r\n{KEY} bob\r\n", f"\ufeff# ours\r\n{KEY} bob\r\nNEW\r\n"),
        (f"# ours\r\n{KEY} bob", f"# ours\r\n{KEY} bob\r\nNEW\r\n"),
    ],
)
def test_add_keeps_the_rest_byte_for_byte(file, before, expected):
    write(file, before)
    key = good("add", file, "--label", "x").strip()
    assert file.read_bytes() == expected.replace("NEW", f"{key} x").encode()


# --- list -------------------------------------------------------------------------------------------------------


def test_list_shows_what_each_key_may_do_and_never_the_key(file):
    first = f"{KEY} alice scope=view user=al from=::1 prompts=5/d queued=1"
    write(file, f"# ours\n{first}\n{OTHER_KEY} \u202ebob expires=2020-01-01\n")
    told = good("list", file)
    first, second = (identity[:8] for identity in ids(file))
    assert [line.split() for line in told.splitlines()] == [
        ["LABEL", "ID", "SCOPE", "USER", "EXPIRES", "FROM", "PROMPTS", "QUEUED"],
        ["alice", first, "view", "al", "never", "::1", "5/d", "1"],
        ["?bob", second, "all", "-", "2020-01-02T00:00:00Z", "(expired)", "-", "-", "-"],
    ]
    for text in (told, json.dumps(listed(file))):
        assert CANARY not in text and digest(KEY)[7:] not in text


def test_list_of_a_file_without_keys_is_empty(file):
    write(file, "# none yet\n")
    assert listed(file) == []
    assert good("list", file).split() == ["LABEL", "ID", "SCOPE", "USER", "EXPIRES", "FROM", "PROMPTS", "QUEUED"]


@pytest.mark.parametrize("action", [["list"], ["add", "--label", "x"], ["revoke", "bob"], ["rotate", "bob"]])
def test_a_faulty_file_is_refused_with_all_faults_and_left_alone(file, action):
    text = f"{KEY} bob\n{CANARY}\u00e9\n{OTHER_KEY} scope=VIEW user=\n"
    write(file, text)
    said = refused(action[0], file, *action[1:]).splitlines()
    places = [line.removeprefix(f"comfy-auth-rs: error: {file}:").partition(":")[0] for line in said]
    assert places == ["2", "3", "3"]
    assert file.read_text() == text


# --- revoke -----------------------------------------------------------------------------------------------------


def test_revoke_leaves_the_digest_and_the_attributes(file):
    write(file, f"# alice\n {KEY}\talice  scope=view from=::1 \r\n# bob\n{OTHER_KEY} bob")
    before = int(time.time())
    assert "alice" in good("revoke", file, "alice")
    found = re.fullmatch(
        rf"# alice\n {digest(KEY)} alice scope=view expires=({MOMENT}) from=::1 \r\n# bob\n{OTHER_KEY} bob",
        file.read_bytes().decode(),
    )
    assert found
    entry = read(file).entries[0]
    assert entry.expires is not None
    assert before <= entry.expires <= time.time()
    assert entry.has_expired(int(time.time()))


def test_a_revoked_key_does_not_come_back_unnoticed(file):
    write(file, f"{KEY} alice\n{OTHER_KEY} bob\n")
    good("revoke", file, "alice")
    with open(file, "a") as opened:
        opened.write(f"{KEY} alice\n")
    assert "the same key as on line 1" in refused("list", file)


def test_revoke_of_what_has_ended_says_so_and_changes_nothing(file):
    write(file, f"{KEY} alice expires=2020-01-01\n")
    before = file.stat()
    assert "not been in force since 2020-01-02T00:00:00Z" in good("revoke", file, "alice")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_revoke_takes_the_beginning_of_an_id(file):
    write(file, f"{KEY}\n{OTHER_KEY} bob\n")
    identity = ids(file)[0]
    for word in (identity[:3], identity + "0", "alice", "", KEY):
        assert "no key has this label or id" in refused("revoke", file, word)
    good("revoke", file, identity[:4].upper())
    assert [entry["expired"] for entry in listed(file)] == [True, False]


# --- which key is meant -----------------------------------------------------------------------------------------


def alike() -> tuple[str, str, str]:
    """Two keys whose ids begin with the same four digits, and these digits."""
    seen: dict[str, str] = {}
    for number in range(100_000):
        key = f"{KEY}-{number}"
        (entry,) = key_file_entries("", key.encode())[0]
        if other := seen.get(entry.id[:4]):
            return other, key, entry.id[:4]
        seen[entry.id[:4]] = key
    raise AssertionError("ids do not begin alike")


def test_a_word_that_may_mean_several_keys_is_refused_with_all_of_them(file):
    first, second, beginning = alike()
    write(file, f"{first} same\n{second} same\n{OTHER_KEY} {beginning}\n")
    one, two, three = ids(file)
    for action in ("revoke", "rotate"):
        said = refused(action, file, "same")
        assert f"same ({one}) on line 1" in said and f"same ({two}) on line 2" in said and three not in said
        said = refused(action, file, beginning)
        assert one in said and two in said and f"{beginning} ({three}) on line 3" in said
    good("revoke", file, one)
    good("revoke", file, "same")  # only one key with that label is in force
    assert [entry["expired"] for entry in listed(file)] == [True, True, False]
    assert "not been in force" in good("revoke", file, "same")
    assert beginning in refused("revoke", file, beginning)


# --- rotate -----------------------------------------------------------------------------------------------------


def test_rotate_adds_a_key_like_it_and_ends_the_old_one_after_the_grace(file):
    write(file, f'{KEY} "alice\'s x=y" scope=view user=alice prompts=60/h queued=3\n# the end\n')
    before = int(time.time())
    result = keys("rotate", file, "alice's x=y", "--grace", "90m")
    assert NEW_KEY.fullmatch(result.stdout)
    old, comment, new = file.read_text().splitlines()
    rest = '"alice\'s x=y" scope=view'
    found = re.fullmatch(rf"{KEY} {re.escape(rest)} expires=({MOMENT}) user=alice prompts=60/h queued=3", old)
    assert found and comment == "# the end"
    assert new == f"{result.stdout.strip()} {rest} user=alice prompts=60/h queued=3"
    entry = read(file).entries[0]
    assert entry.expires is not None
    assert before + 5400 <= entry.expires <= time.time() + 5400
    assert found[1] in result.stderr


def test_rotate_gives_a_day_if_nothing_is_said(file):
    write(file, f"{KEY} alice\n")
    before = int(time.time())
    told = json.loads(good("rotate", file, "alice", "--json"))
    entry = read(file).entries[0]
    assert entry.expires is not None
    assert before + 86400 <= entry.expires <= time.time() + 86400
    assert told["replaces"] == listed(file)[0]
    assert {**listed(file)[1], "key": told["key"], "replaces": told["replaces"]} == told


def test_rotate_lets_no_key_live_longer_than_it_would_have(file):
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    line = f"{KEY}  alice   expires={end}"
    write(file, f"{line}\n")
    key = good("rotate", file, "alice", "--grace", "2h").strip()
    assert file.read_text() == f"{line}\n{key} alice expires={end}\n"


def test_rotate_without_grace_ends_the_old_key_now(file):
    write(file, f"{KEY} alice\n")
    good("rotate", file, "alice", "--grace", "0h")
    assert [entry["expired"] for entry in listed(file)] == [True, False]
    good("rotate", file, "alice", "--grace", "0h")
    assert [entry["expired"] for entry in listed(file)] == [True, True, False]


@pytest.mark.parametrize(("kept", "flags"), [(digest(KEY), []), (KEY, ["--digest"])])
def test_rotate_keeps_only_a_digest_where_there_was_one(file, kept, flags):
    write(file, f"{kept} alice\n")
    key = good("rotate", file, "alice", *flags).strip()
    old, new = file.read_text().splitlines()
    assert old.startswith(f"{kept} alice expires=") and new == f"{digest(key)} alice"


def test_rotate_refuses_an_expired_key_and_a_bad_grace(file):
    text = f"{KEY} alice expires=2020-01-01\n{OTHER_KEY} bob\n"
    write(file, text)
    assert "expired at 2020-01-02T00:00:00Z" in refused("rotate", file, "alice")
    for grace in ("24", "-1h", "1y", "24H", "", "1.5h"):
        assert "name a time such as" in refused("rotate", file, "bob", f"--grace={grace}")
    assert file.read_text() == text


def test_a_label_that_cannot_have_attributes_is_refused(file):
    text = f'{KEY} "a" b\n'
    write(file, text)
    identity = ids(file)[0]
    assert f"{file}:1: a label in double quotes cannot hold" in refused("revoke", file, identity)
    assert file.read_text() == text


# --- the file ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_made_by_add_alone(file, tmp_path):
    for action in (["list"], ["revoke", "x"], ["rotate", "x"]):
        assert "keys add FILE" in refused(action[0], file, *action[1:])
    assert list(tmp_path.iterdir()) == []
    assert "this folder does not exist" in refused("add", tmp_path / "none" / "keys.txt", "--label", "x")


@pytest.mark.parametrize("action", [["list"], ["add", "--label", "x"], ["revoke", "x"]])
def test_what_is_no_file_is_refused(tmp_path, action):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "not a regular file" in refused(action[0], folder, *action[1:])
    if sys.platform != "win32":
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        assert "not a regular file" in refused(action[0], pipe, *action[1:])
    big = tmp_path / "big"
    big.write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    assert "larger than" in refused(action[0], big, *action[1:])


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes are those of Unix")
def test_a_link_stays_and_its_target_keeps_its_mode(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "keys.txt", tmp_path / "link"
    write(target, f"{KEY} alice\n")
    target.chmod(0o640)
    link.symlink_to("real/keys.txt")
    before = target.stat()
    good("revoke", link, "alice")
    assert link.is_symlink() and link.readlink() == Path("real/keys.txt")
    after = target.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert after.st_ino != before.st_ino  # replaced, not overwritten
    assert sorted(path.name for path in target.parent.iterdir()) == [".keys.txt.lock", "keys.txt"]
    link.unlink()
    link.symlink_to("link")
    assert "a broken link" in refused("list", link)


def test_twenty_at_once_lose_nothing(file):
    write(file, "".join(f"{KEY}-{number} old{number}\n" for number in range(7)))
    jobs = [["add", file, "--label", f"new{number}"] for number in range(7)]
    jobs += [["revoke", file, f"old{number}"] for number in range(7)]
    jobs += [["rotate", file, f"old{number}", "--grace", "0h"] for number in range(6)]
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda job: run("keys", *job), jobs))
    # If rotate comes first, revoke finds the new key by its label. If revoke comes first, rotate refuses.
    late = [result for result in results[14:] if result.returncode]
    assert [result.returncode for result in results[:14]] == [0] * 14
    assert all("expired at" in result.stderr for result in late)
    told = listed(file)
    assert len(told) == 7 + 7 + 6 - len(late)
    printed = [result.stdout.strip() for result in (*results[:7], *results[14:]) if result.returncode == 0]
    assert all(digest(key)[7:] in file.read_text() or key in file.read_text() for key in printed)
    by_label: dict[object, list[bool]] = {}
    for entry in told:
        by_label.setdefault(entry["label"], []).append(bool(entry["expired"]))
    for number in range(7):
        assert by_label[f"new{number}"] == [False]
        assert by_label[f"old{number}"].count(False) <= 1
    assert by_label["old6"] == [True]


def test_another_process_is_waited_for_but_not_for_ever(file, monkeypatch):
    write(file, f"{KEY} alice\n")
    monkeypatch.setattr(key_file, "_PATIENCE", 0.3)
    inside, go_on = threading.Event(), threading.Event()

    def slowly(found: key_file.KeyFile) -> bytes:
        inside.set()
        go_on.wait(20)
        return found.with_added(OTHER_KEY)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(change, file, slowly)
        assert inside.wait(20)
        with pytest.raises(KeyFileFault, match="another process has held this lock"):
            change(file, lambda found: found.text)
        go_on.set()
        assert len(slow.result(20).entries) == 2
    assert len(change(file, lambda found: found.text).entries) == 2


def test_what_an_editor_writes_meanwhile_is_not_lost(file):
    write(file, f"{KEY} alice\n")

    def edit(found: key_file.KeyFile) -> bytes:
        write(file, f"{KEY} alice\n# an editor's\n")
        return found.with_added(OTHER_KEY)

    with pytest.raises(KeyFileFault, match="changed in the meantime"):
        change(file, edit)
    assert file.read_text() == f"{KEY} alice\n# an editor's\n"
    assert sorted(path.name for path in file.parent.iterdir()) == [".keys.txt.lock", "keys.txt"]


def test_what_would_not_be_read_is_not_written(file):
    write(file, f"{KEY} alice\n")
    with pytest.raises(KeyFileFault, match="the same key as on line 1"):
        change(file, lambda found: found.with_added(KEY))
    assert file.read_text() == f"{KEY} alice\n"


def test_what_a_killed_process_left_is_in_nobodys_way(file):
    write(file, f"{KEY} alice\n")
    (file.parent / ".keys.txt.new").write_text("half a fi")
    good("revoke", file, "alice")
    assert sorted(path.name for path in file.parent.iterdir()) == [".keys.txt.lock", "keys.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links are those of Unix")
def test_no_link_in_place_of_the_lock_or_the_new_file_is_followed(file, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    write(file, f"{KEY} alice\n")
    (tmp_path / ".keys.txt.new").symlink_to(precious)
    good("revoke", file, "alice")
    (tmp_path / ".keys.txt.lock").unlink()
    (tmp_path / ".keys.txt.lock").symlink_to(precious)
    assert "a link is not allowed here" in refused("add", file, "--label", "x")
    (tmp_path / ".keys.txt.lock").unlink()
    os.mkfifo(tmp_path / ".keys.txt.lock")
    assert "the key file's lock must be a regular file; remove this one" in refused("add", file, "--label", "x")
    assert precious.read_text() == "mine\n"


# --- whose file it is -------------------------------------------------------------------------------------------


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that other users of the machine can reach."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    return tmp_path


@contextmanager
def as_nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def give(path: Path) -> Path:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


def owner(path: Path) -> tuple[int, int, int]:
    state = path.lstat()
    return state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)


@needs_root
def test_root_leaves_a_file_to_its_owner(reachable):
    folder = reachable / "theirs"
    folder.mkdir()
    give(folder)
    file = folder / "keys.txt"
    write(file, f"{KEY} alice\n")
    file.chmod(0o640)
    give(file)
    good("add", file, "--label", "bob")
    assert owner(file) == (NOBODY, NOBODY, 0o640)
    assert owner(folder / ".keys.txt.lock") == (NOBODY, NOBODY, 0o600)
    good("add", folder / "new.txt", "--label", "bob")
    assert owner(folder / "new.txt") == (NOBODY, NOBODY, 0o600)


@needs_root
def test_root_keeps_a_group_that_may_read_its_file(reachable):
    file = reachable / "keys.txt"
    write(file, f"{KEY} alice\n")
    os.chown(file, 0, NOBODY)
    file.chmod(0o440)
    good("revoke", file, "alice")
    assert owner(file) == (0, NOBODY, 0o440)


@needs_root
def test_root_changes_a_service_users_file_in_a_folder_of_its_own(reachable):
    folder = reachable / "etc"
    folder.mkdir(mode=0o755)
    file = folder / "keys.txt"
    write(file, f"{KEY} alice\n")
    give(file)
    good("revoke", file, "alice")
    assert owner(file) == (NOBODY, NOBODY, 0o600)
    lock = folder / ".keys.txt.lock"
    assert owner(lock) == (0, 0, 0o600)
    lock.unlink()
    folder.chmod(0o1777)  # like /tmp: the file's owner could put a link there, so we use only their rights
    good("add", file, "--label", "carol")
    assert owner(file) == (NOBODY, NOBODY, 0o600)
    assert owner(lock) == (NOBODY, NOBODY, 0o600)


@needs_root
def test_root_follows_no_link_of_another_user_to_what_they_may_not_change(reachable):
    precious, folder = reachable / "precious.txt", reachable / "theirs"
    write(precious, f"{KEY} alice\n")
    folder.mkdir()
    give(folder)
    (folder / "keys.txt").symlink_to(precious)
    give(folder / "keys.txt")
    said = refused("add", folder / "keys.txt", "--label", "x")
    assert "this user may not read or write it" in said
    (folder / "below").symlink_to(reachable)
    give(folder / "below")
    assert "this user may not read or write it" in refused("revoke", folder / "below" / "precious.txt", "alice")
    assert precious.read_text() == f"{KEY} alice\n"
    assert not (reachable / ".precious.txt.lock").exists()


@needs_root
def test_root_changes_nothing_where_everybody_may(reachable):
    folder = reachable / "open"
    folder.mkdir()
    folder.chmod(0o777)
    write(folder / "keys.txt", f"{KEY} alice\n")
    assert f"other users can change {folder}; run chmod go-w {folder} first" in refused(
        "revoke", folder / "keys.txt", "alice"
    ).replace("`", "")
    assert (folder / "keys.txt").read_text() == f"{KEY} alice\n"


@needs_root
def test_others_are_told_why_they_cannot_change_it(reachable):
    file = reachable / "keys.txt"
    write(file, f"{KEY} alice\n")

    def add(path: Path) -> None:
        with as_nobody():
            change(path, lambda found: found.with_added(OTHER_KEY))

    with pytest.raises(KeyFileFault, match="may not read or write it"):  # it can't be read
        add(file)
    file.chmod(0o644)
    with pytest.raises(KeyFileFault, match=r"\.keys\.txt\.lock: this user may not"):  # its folder is read-only
        add(file)
    write(reachable / ".keys.txt.lock", "")
    with pytest.raises(KeyFileFault, match=r"\.keys\.txt\.lock: this user may not"):  # somebody else's lock
        add(file)
    folder = reachable / "theirs"
    folder.mkdir()
    give(folder)
    write(folder / "keys.txt", f"{KEY} alice\n")
    (folder / "keys.txt").chmod(0o644)
    with pytest.raises(KeyFileFault, match="only root or its owner can change it"):  # root's file in this user's folder
        add(folder / "keys.txt")
    assert (folder / "keys.txt").read_text() == file.read_text() == f"{KEY} alice\n"
    assert not (folder / ".keys.txt.new").exists()


@needs_root
def test_a_read_only_file_system_is_named(tmp_path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        write(folder / "keys.txt", f"{KEY} alice\n")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert "the file system is read-only" in refused("revoke", folder / "keys.txt", "alice")
        assert [entry["label"] for entry in listed(folder / "keys.txt")] == ["alice"]
    finally:
        subprocess.run(["umount", folder], check=True)
