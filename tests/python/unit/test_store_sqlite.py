"""The state in an SQLite file: two processes, a kill, a full disk, and files of other users or programs."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from comfy_auth_rs.store import Record, StoreError
from comfy_auth_rs.store.sqlite import Sqlite

NOBODY = 65534
LATER = int(time.time()) + 3600

posix = pytest.mark.skipif(os.name != "posix", reason="modes, limits and signals of POSIX")


def record(number: int, until: int = LATER) -> Record:
    return Record(b"x%06d" % number, b"value of %d" % number, until)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@contextmanager
def writer_of(file: Path) -> Iterator:
    with closing(Sqlite(file).writer()) as writer:
        yield writer


def write(file: Path, *records: Record) -> None:
    with writer_of(file) as writer:
        writer.write([*records])


def everything(file: Path) -> set[Record]:
    with closing(Sqlite(file).reader()) as reader:
        read = reader.read(None)
        assert read.is_whole
        return {record for batch in read.batches for record in batch}


def fault(file: Path) -> str:
    """The reason that the file can be neither read nor written."""
    with pytest.raises(StoreError) as by_reader:
        Sqlite(file).reader()
    with pytest.raises(StoreError) as by_writer:
        Sqlite(file).writer()
    assert str(by_reader.value) == str(by_writer.value)
    assert "\n" not in str(by_reader.value)
    return str(by_reader.value)


PROGRAM = """
import sys
from pathlib import Path
from comfy_auth_rs.store import Record, StoreError
from comfy_auth_rs.store.sqlite import Sqlite

def record(number):
    return Record(b"x%06d" % number, b"value of %d" % number, int(sys.argv[2]))

file = Path(sys.argv[1])
"""


def start(file: Path, program: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM + program, str(file), str(LATER)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options)


# --- when all is well -------------------------------------------------------------------------------------------


def test_what_one_writes_another_reads(file: Path) -> None:
    with writer_of(file) as writer, closing(Sqlite(file).reader()) as reader:
        read = reader.read(None)
        assert (read.is_whole, [*read.batches]) == (True, [])
        writer.write([record(1), record(2)])
        writer.beat(record(3))
        after = reader.read(read.version)
        assert (after.is_whole, [*after.batches]) == (False, [[record(1), record(2), record(3)]])
        assert [*reader.read(after.version).batches] == []
        writer.write([record(2)])  # a heartbeat reuses its name
        assert [*reader.read(after.version).batches] == [[record(2)]]
    assert everything(file) == {record(1), record(2), record(3)}


def test_what_is_covered_is_deleted(file: Path) -> None:
    write(file, *map(record, range(5)))
    write(file, record(9), Record(record(3).name, b"", 0), Record(b"never there", b"", 0))
    assert everything(file) == {record(number) for number in (0, 1, 2, 4, 9)}


def test_much_is_handed_on_in_parts(file: Path) -> None:
    write(file, *map(record, range(2500)))
    with closing(Sqlite(file).reader()) as reader:
        parts = [*reader.read(None).batches]
    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert {one for part in parts for one in part} == set(map(record, range(2500)))


def test_waiting_ends_when_another_process_writes(file: Path) -> None:
    with closing(Sqlite(file).reader()) as reader:
        version = reader.read(None).version
        began = time.monotonic()
        reader.wait(0.5)
        assert time.monotonic() - began >= 0.5
        with start(file, "Sqlite(file).writer().write([record(1)]); print('written', flush=True); input()") as other:
            began = time.monotonic()
            reader.wait(30)
            assert other.stdout.readline() == "written\n"
            assert [*reader.read(version).batches] == [[record(1)]]
            assert time.monotonic() - began < 10
            other.communicate("\n")


def test_what_is_written_before_the_waiting_ends_it_at_once(file: Path) -> None:
    with writer_of(file) as writer, closing(Sqlite(file).reader()) as reader:
        reader.read(None)
        writer.write([record(1)])
        began = time.monotonic()
        reader.wait(30)
        assert time.monotonic() - began < 10


def test_a_waiting_reader_can_be_interrupted(file: Path) -> None:
    with closing(Sqlite(file).reader()) as reader:
        reader.read(None)
        reader.interrupt()
        began = time.monotonic()
        reader.wait(30)
        assert time.monotonic() - began < 10


def test_many_make_it_at_the_same_time(tmp_path: Path) -> None:
    """The first one makes the table, the others find it, and none takes it for another program's."""
    for round_ in range(30):
        file = tmp_path / str(round_)
        start_line = threading.Barrier(6)
        faults: list[BaseException] = []

        def make(file: Path = file, start_line: threading.Barrier = start_line) -> None:
            start_line.wait()
            try:
                Sqlite(file).reader().close()
            except StoreError as fault:
                faults.append(fault)  # noqa: B023 - joined below

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []


def test_two_processes_write_at_the_same_time(file: Path) -> None:
    program = """
with open(sys.argv[1] + ".go", "rb"): pass
writer = Sqlite(file).writer()
first = int(input())
for number in range(first, first + 300):
    writer.beat(record(number))
"""
    file.with_name(file.name + ".go").touch()
    others = [start(file, program) for _ in range(2)]
    for index, other in enumerate(others):
        other.stdin.write(f"{index * 300}\n")
        other.stdin.flush()
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert everything(file) == set(map(record, range(600)))


@posix
def test_what_was_written_is_there_after_a_kill(file: Path) -> None:
    program = """
writer = Sqlite(file).writer()
for number in range(1_000_000):
    writer.write([record(number)])
    print(number, flush=True)
"""
    last = most = 0
    for _ in range(3):
        other = start(file, program)
        for line in other.stdout:
            if (last := int(line)) >= 50:
                break
        other.send_signal(signal.SIGKILL)
        last = max([last, *map(int, other.stdout)])
        other.communicate()
        found = everything(file)
        assert set(map(record, range(last + 1))) <= found
        most = max(most, last)
        assert len(found) <= most + 2  # one may be written but not yet reported


def test_what_has_expired_is_deleted_by_a_new_writer(file: Path) -> None:
    write(file, record(1, until=int(time.time()) - 1), record(2))
    write(file, record(3))
    assert everything(file) == {record(2), record(3)}


@posix
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_nobody_else_may_read_it(file: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with writer_of(file) as writer:
            writer.write([record(1)])
            files = [*file.parent.iterdir()]
            assert {one.name for one in files} == {file.name, f"{file.name}-wal", f"{file.name}-shm"}
            assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    finally:
        os.umask(before)
    file.chmod(0o644)
    write(file, record(2))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_opening_it_again_ends_no_lock_of_this_process(file: Path) -> None:
    """On POSIX, closing any descriptor of a file releases all locks that the process holds on it."""
    with writer_of(file) as writer:
        writer.write([record(1)])
        everything(file)
        write(file, record(2))
        with start(file, "w = Sqlite(file).writer(); w.write([record(3)]); w.close()") as other:
            other.communicate()
            assert other.returncode == 0
        assert file.with_name(f"{file.name}-wal").exists(), "the last connection removes it, and this wasn't the last"
        writer.write([record(4)])
    assert everything(file) == set(map(record, range(1, 5)))


# --- faults -----------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("target", ["precious", "missing"])
def test_no_link_is_followed(file: Path, suffix: str, target: str) -> None:
    precious = file.with_name("precious")
    precious.write_text("root's")
    link = file.with_name(f"{file.name}{suffix}")
    link.symlink_to(file.with_name(target))
    assert fault(file).startswith(f"{link}: not a regular file")
    assert precious.read_text() == "root's"
    assert not file.with_name("missing").exists()


def test_a_folder_is_no_file(file: Path) -> None:
    file.mkdir()
    assert fault(file).startswith(f"{file}: not a regular file")


def test_a_folder_that_is_missing_is_not_made(file: Path) -> None:
    missing = file.parent / "folder" / "state"
    assert fault(missing) == f"{missing}: its folder does not exist; make it, or name another"
    assert not missing.parent.exists()


def test_one_that_is_only_looked_at_is_not_made(file: Path) -> None:
    with pytest.raises(StoreError, match="it is not there"):
        Sqlite(file, create=False).reader()
    assert not file.exists()


@posix
def test_a_full_disk_is_told_and_loses_nothing(file: Path) -> None:
    program = """
import resource
writer = Sqlite(file).writer()
writer.write([record(1)])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    for number in range(2, 1_000_000):
        writer.beat(record(number))
        written = number
except StoreError as full:
    print(written, full)
    writer.close()
try:
    Sqlite(file).writer().write([record(written + 1)] * 1000)
except StoreError as full:
    print(full)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
Sqlite(file).writer().write([record(written + 1)])
"""
    other = start(file, program)
    output, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    written, _, said = output.splitlines()[0].partition(" ")
    assert int(written) > 2
    assert said.startswith(f"{file}: the disk ")
    assert everything(file) == set(map(record, range(1, int(written) + 2)))


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="needs a user who may not write")
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path, there: bool) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    file = folder / "state"
    if there:
        write(file, record(1))
        os.chown(file, NOBODY, NOBODY)
    program = """
import os
os.setgid(65534)
os.setuid(65534)
for half in (Sqlite(file).reader, Sqlite(file).writer):
    try:
        half().write([record(2)])
    except StoreError as refused:
        print(refused)
"""
    output, _ = start(file, program).communicate()
    assert len(output.splitlines()) == 2
    for line in output.splitlines():
        assert line.startswith(f"{file}: ")
        assert "cannot be opened" in line or "no permission to write there" in line


def test_a_file_of_a_newer_version_is_left_alone(file: Path) -> None:
    write(file, record(1))
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 2")
    before = file.read_bytes()
    assert "a newer comfy-auth-rs made it" in fault(file)
    assert file.read_bytes() == before


def test_a_file_of_an_older_version_is_left_alone(file: Path) -> None:
    write(file, record(1))
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 0")
    before = file.read_bytes()
    assert "an older comfy-auth-rs made it" in fault(file)
    assert file.read_bytes() == before


def test_another_programs_file_is_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE facts (name, value, until, seq)")
    before = file.read_bytes()
    assert "another program made it" in fault(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("damage", ["noise", "zeros", "header", "middle"])
def test_a_damaged_file_is_told_and_left_alone(file: Path, damage: str) -> None:
    write(file, *map(record, range(500)))
    content = bytearray(file.read_bytes())
    noise = os.urandom(len(content))
    content[:] = {
        "noise": noise,
        "zeros": bytes(len(content)),
        "header": noise[:100] + content[100:],
        "middle": content[:4096] + noise[4096:],
    }[damage]
    file.write_bytes(content)
    with pytest.raises(StoreError) as told:
        everything(file)
    assert "it is damaged" in str(told.value)
    with pytest.raises(StoreError, match="it is damaged"):
        write(file, record(1))
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER loses INSERT ON facts BEGIN DELETE FROM facts WHERE name = new.name; END",
        "CREATE VIEW other AS SELECT 1",
        "CREATE TABLE other (x)",
        "CREATE INDEX other ON facts (value)",
        "ALTER TABLE facts RENAME TO other; CREATE VIEW facts AS SELECT seq, name, value, until FROM other",
    ],
)
def test_a_file_whose_tables_somebody_changed_is_left_alone(file: Path, change: str) -> None:
    write(file, record(1))
    with closing(sqlite3.connect(file)) as database:
        database.executescript(change)
    assert fault(file) == f"{file}: it is damaged; move it away to get a new one"


@posix
def test_a_file_of_another_user_is_left_alone(file: Path) -> None:
    write(file, record(1))
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(file, NOBODY, NOBODY)
    assert fault(file) == f"{file}: it belongs to another user; change its owner, or name another file"
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_taken(file: Path) -> None:
    file.touch()
    write(file, record(1))
    assert everything(file) == {record(1)}


@posix
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_gone_is_noticed(file: Path, how: str) -> None:
    with writer_of(file) as writer, closing(Sqlite(file).reader()) as reader:
        writer.write([record(1)])
        version = reader.read(None).version
        file.unlink()
        if how == "replaced":
            write(file, record(2))
        with pytest.raises(StoreError):
            writer.write([record(3)])
        with pytest.raises(StoreError):
            reader.wait(0.1)
        with pytest.raises(StoreError):
            reader.read(version)
    write(file, record(4))
    assert everything(file) == ({record(2), record(4)} if how == "replaced" else {record(4)})


def test_an_older_copy_is_read_whole(file: Path) -> None:
    write(file, record(1))
    copy = file.read_bytes()
    write(file, record(2), record(3))
    with closing(Sqlite(file).reader()) as reader:
        version = reader.read(None).version
    file.write_bytes(copy)
    with closing(Sqlite(file).reader()) as reader:
        read = reader.read(version)
        assert (read.is_whole, [*read.batches]) == (True, [[record(1)]])


def test_another_program_that_holds_it_is_not_waited_for_for_long(file: Path) -> None:
    write(file, record(1))
    with closing(sqlite3.connect(file, isolation_level=None)) as other, writer_of(file) as writer:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreError, match="another program has locked it"):
            writer.write([record(2)])
        assert 0.5 < time.monotonic() - began < 5
        assert everything(file) == {record(1)}
        other.execute("ROLLBACK")
    write(file, record(2))
    assert everything(file) == {record(1), record(2)}


def test_what_others_put_there_is_not_read(file: Path) -> None:
    write(file, record(1))
    with closing(sqlite3.connect(file)) as database:
        insert = "INSERT INTO facts (name, value, until) VALUES (?, ?, ?)"
        for row in [
            (b"n" * 65, b"v", LATER), (b"long", b"v" * 161, LATER), (b"huge", bytes(10 << 20), LATER),
            ("text", b"v", LATER), (b"text", "v", LATER), (7, b"v", LATER), (b"number", 7, LATER),
            (b"negative", b"v", -1), (b"zero", b"v", 0), (b"real", b"v", 1e300), (b"word", b"v", "later"),
        ]:  # fmt: skip
            database.execute(insert, row)
        database.execute(insert, (b"far", b"v", 2**63 - 1))
        database.commit()
    assert everything(file) == {record(1), Record(b"far", b"v", 2**63 - 1)}
