"""The store in a real Redis or Valkey: what is written is read, whatever happens to the server or its contents."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from comfy_auth_rs.store import Read, Record, StoreError, make_store
from support.servers import free_port
from support.valkey import SERVER, Valkey, start_valkey

pytestmark = pytest.mark.skipif(SERVER is None, reason="needs redis-server or valkey-server")

FACTS, NEWS, NODES, EPOCH = (f"{{comfy-auth-rs}}:{name}" for name in ("facts", "news", "nodes", "epoch"))
LATER = int(time.time()) + 3600


def record(number: int, until: int = LATER) -> Record:
    return Record(b"x%06d" % number, b"value of %d" % number, until)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with start_valkey() as server:
        yield server


@contextmanager
def halves(url: str) -> Iterator[tuple[Any, Any]]:
    store = make_store(url)
    assert store is not None
    with closing(store.reader()) as reader, closing(store.writer()) as writer:
        yield reader, writer


def write(url: str, *records: Record) -> None:
    with halves(url) as (_, writer):
        writer.write([*records])


def all_of(read: Read) -> set[Record]:
    return {record for batch in read.batches for record in batch}


def everything(url: str) -> set[Record]:
    with halves(url) as (reader, _):
        read = reader.read(None)
        assert read.is_whole
        return all_of(read)


def fault(url: str, act: Callable[[Any, Any], object] = lambda reader, writer: None) -> str:
    with pytest.raises(StoreError) as told, halves(url) as (reader, writer):
        act(reader, writer)
    assert "\n" not in str(told.value)
    return str(told.value)


# --- normal operation -------------------------------------------------------------------------------------------


def test_what_one_writes_another_reads(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(0)])
        read = reader.read(None)
        assert (read.is_whole, all_of(read)) == (True, {record(0)})
        writer.write([*map(record, range(1, 2500))])
        read = reader.read(read.version)
        assert not read.is_whole
        batches = [*read.batches]
        assert [len(batch) for batch in batches] == [1000, 1000, 499]
        assert {one for batch in batches for one in batch} == set(map(record, range(1, 2500)))
    assert everything(valkey.url) == set(map(record, range(2500)))


def test_what_is_covered_is_deleted(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([*map(record, range(5))])
        version = reader.read(None).version
        writer.write([record(9), Record(record(3).name, b"", 0), Record(b"never there", b"", 0)])
        assert all_of(reader.read(version)) == {record(9)}
    assert everything(valkey.url) == {record(number) for number in (0, 1, 2, 4, 9)}


def test_a_read_takes_many_entries_but_not_all(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(1000)])
        version = reader.read(None).version
        for number in range(600):
            writer.write([record(number)])
        sizes = []
        for _ in range(4):
            read = reader.read(version)
            version = read.version
            sizes.append(len(all_of(read)))
        assert sizes == [250, 250, 100, 0]


def test_what_is_read_at_a_time_fits_into_an_answer(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(1)])
        version = reader.read(None).version
        long = [Record(b"%064d" % number, bytes(160), LATER) for number in range(8000)]
        for first in range(0, 8000, 32):
            writer.write(long[first : first + 32])
        assert all_of(reader.read(version)) == set(long)


@contextmanager
def after(seconds: float, act: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Another thread acts in the meantime. When the block ends, it is done, and what it uses can be closed."""
    timer = threading.Timer(seconds, act, arguments)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_heartbeat_wakes_nobody_and_is_read_after_ten_seconds(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(0)])
        version = reader.read(None).version
        began = time.monotonic()
        with after(0.1, writer.beat, record(1)):
            reader.wait(0.4)
        assert time.monotonic() - began >= 0.4
        reader._nodes_at = time.monotonic() + 10
        writer.write([record(2)])
        read = reader.read(version)
        assert all_of(read) == {record(2)}
        reader._nodes_at -= 10
        assert all_of(reader.read(read.version)) == {record(1)}
        assert all_of(reader.read(read.version)) == set()
        reader._nodes_at -= 9
        assert all_of(reader.read(read.version)) == set()
    assert everything(valkey.url) == {record(0), record(1), record(2)}
    assert valkey.ask("XLEN", NEWS) == 2


def test_no_flood_of_heartbeats_is_read_whole(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        fields = [part for number in range(20_000) for part in (b"n%d" % number, LATER.to_bytes(8, "big") + bytes(64))]
        valkey.ask("HSET", NODES, *fields)
        writer.write([record(1)])
        read = reader.read(None)
        assert 4000 < len(all_of(read)) < 5000
        reader._nodes_at -= 10
        assert 4000 < len(all_of(reader.read(read.version))) < 5000


def test_a_push_ends_the_waiting(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        version = reader.read(None).version
        began = time.monotonic()
        reader.wait(0.3)
        assert 0.3 <= time.monotonic() - began < 5
        began = time.monotonic()
        with after(0.2, writer.write, [record(1)]):
            reader.wait(1)
            assert time.monotonic() - began < 0.9
        assert all_of(reader.read(version)) == {record(1)}


def test_a_waiting_reader_can_be_interrupted(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, _):
        reader.read(None)
        began = time.monotonic()
        with after(0.2, reader.interrupt), pytest.raises(Exception):  # noqa: B017 - any kind: nobody uses it again
            reader.wait(1)
            reader.wait(1)
        assert time.monotonic() - began < 0.9


def test_the_stream_stays_short_and_a_reader_that_missed_something_reads_everything(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(0)])
        version = reader.read(None).version
        for number in range(1, 3000):
            writer.write([record(number)])
        assert valkey.ask("XLEN", NEWS) < 2200
        read = reader.read(version)
        assert read.is_whole
        assert all_of(read) == set(map(record, range(3000)))
        assert not reader.read(read.version).is_whole


def test_what_has_expired_is_removed(valkey: Valkey) -> None:
    write(valkey.url, record(1, until=int(time.time()) - 1), record(2))
    valkey.ask("HSET", FACTS, "no time", "v")
    with halves(valkey.url) as (_, writer):
        writer.beat(record(4, until=int(time.time()) - 1))
        assert (valkey.ask("HLEN", FACTS), valkey.ask("HLEN", NODES)) == (3, 1)
        writer._tidying._at -= 1e9  # otherwise it tidies every ten minutes
        writer.beat(record(3))
    assert everything(valkey.url) == {record(2), record(3)}
    assert (valkey.ask("HLEN", FACTS), valkey.ask("HLEN", NODES)) == (1, 1)


# --- what happens to the server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
def test_after_a_flush_everything_is_read_again(valkey: Valkey, command: str) -> None:
    with halves(valkey.url) as (reader, writer):
        writer.write([record(1)])
        version = reader.read(None).version
        valkey.ask(command)
        read = reader.read(version)
        assert (read.is_whole, all_of(read)) == (True, set())
        writer.write([record(2)])
        assert all_of(reader.read(read.version)) == {record(2)}


def test_a_server_that_went_back_is_read_again(valkey: Valkey) -> None:
    """Such a server was restored from an older dump, or is a replica that had missed something."""
    with halves(valkey.url) as (reader, writer):
        writer.write([record(1)])
        writer.write([record(2)])
        version = reader.read(None).version
        last = valkey.ask("XREVRANGE", NEWS, "+", "-", "COUNT", 1)
        valkey.ask("XDEL", NEWS, next(iter(last))[0])
        valkey.ask("HDEL", FACTS, record(2).name)
        read = reader.read(version)
        assert (read.is_whole, all_of(read)) == (True, {record(1)})


def test_a_kill_is_a_fault_at_once(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        version = reader.read(None).version
        valkey.kill()
        for act in (lambda: reader.read(version), lambda: writer.write([record(1)])):
            with pytest.raises(StoreError, match="cannot be reached"):
                act()
    assert fault(valkey.url) == f"{valkey.url}: it cannot be reached (Connection refused)"
    valkey.start()
    assert everything(valkey.url) == set()


def test_one_that_is_stopped_is_not_waited_for_for_long(valkey: Valkey) -> None:
    with halves(valkey.url) as (reader, writer):
        version = reader.read(None).version
        valkey.signal(signal.SIGSTOP)
        for act, longest in (
            (lambda: writer.write([record(1)]), 1.5),
            (lambda: reader.read(version), 2.5),
            (lambda: make_store(valkey.url).writer().write([record(1)]), 2.5),
        ):
            began = time.monotonic()
            with pytest.raises(StoreError, match="it does not answer"):
                act()
            assert time.monotonic() - began < longest
        valkey.signal(signal.SIGCONT)
    assert everything(valkey.url) <= {record(1)}


def test_an_address_where_nobody_answers_is_not_waited_for_for_long() -> None:
    with socket.socket() as nobody:  # its queue of connections is full
        nobody.bind(("127.0.0.1", 0))
        nobody.listen(0)
        port = nobody.getsockname()[1]
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        assert "it does not answer" in fault(f"valkey://127.0.0.1:{port}", lambda reader, _: reader.read(None))
        assert time.monotonic() - began < 3
        for other in others:
            other.close()


def test_a_full_memory_is_a_fault_of_writing_only() -> None:
    with start_valkey("--maxmemory-policy", "noeviction") as server:
        write(server.url, record(1))
        server.ask("CONFIG", "SET", "maxmemory", 1)
        told = fault(server.url, lambda _, writer: writer.write([record(2)]))
        assert told == f"{server.url}: its memory is full; raise its maxmemory"
        assert everything(server.url) == {record(1)}
        server.ask("CONFIG", "SET", "maxmemory", 0)
        write(server.url, record(2))
        assert everything(server.url) == {record(1), record(2)}


@pytest.mark.parametrize("way", ["write", "beat"])
def test_a_memory_full_of_what_has_expired_is_tidied(way: str) -> None:
    """Otherwise it would stay full: nothing could be written any more, not even a heartbeat."""
    with start_valkey("--maxmemory-policy", "noeviction") as server:
        write(server.url, *(record(number, until=1) for number in range(20_000)), record(-1))
        used = server.ask("INFO", "memory")["used_memory"]
        server.ask("CONFIG", "SET", "maxmemory", used - 1_000_000)
        with halves(server.url) as (_, writer):
            writer._tidying._at = time.monotonic()
            with pytest.raises(StoreError, match="its memory is full"):
                writer.write([record(-2)])
        with halves(server.url) as (_, writer):
            writer._tidying._at = time.monotonic() - 60
            getattr(writer, way)([record(-2)] if way == "write" else record(-2))
        assert everything(server.url) == {record(-1), record(-2)}


@pytest.mark.parametrize(
    "answer", [b"+canary\x1b[31m\r\n", b":7\r\n", b"*4\r\n$1\r\na\r\n$3\r\n\x1b[m\r\n:1\r\n:2\r\n"]
)
def test_what_a_strange_server_says_of_itself_reaches_no_terminal(answer: bytes) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                while connection.recv(1000):
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        store = make_store(f"valkey://127.0.0.1:{listener.getsockname()[1]}/")
        assert store is not None
        with closing(store.reader()) as reader:
            assert reader.about() == "its version is not known"
        thread.join()


def test_a_replica_is_refused_by_name(valkey: Valkey) -> None:
    with start_valkey("--replicaof", "127.0.0.1", valkey.port) as replica:
        told = fault(replica.url, lambda _, writer: writer.write([record(2)]))
        assert "it is a read-only replica" in told


# --- permissions ------------------------------------------------------------------------------------------------


def test_passwords_and_users(valkey: Valkey) -> None:
    valkey.ask("ACL", "SETUSER", "me", "on", ">canary:p@ss/", "~{comfy-auth-rs}:*", "+@all")
    valkey.ask("CONFIG", "SET", "requirepass", "canary")
    host = f"127.0.0.1:{valkey.port}"
    for url in (
        f"valkey://:canary@{host}",
        f"valkey://{host}?password=canary",
        f"valkey://me:canary%3Ap%40ss%2F@{host}",
        f"valkey://{host}?username=me&password=canary%3Ap%40ss%2F",
    ):
        write(url, record(1))
        assert everything(url) == {record(1)}
    for url in (f"valkey://:canary2@{host}", f"valkey://you:canary@{host}", f"valkey://{host}"):
        told = fault(url, lambda reader, _: reader.read(None))
        assert "it rejects the user name or password" in told
        assert "canary" not in told
        assert "you" not in told.replace("your", "")


def test_the_commands_that_a_user_needs_are_those_in_the_documents(valkey: Valkey) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "state.md").read_text(encoding="utf-8")
    words = next(line for line in page.splitlines() if line.startswith("ACL SETUSER")).split()
    assert words[:3] == ["ACL", "SETUSER", "comfy"]
    valkey.ask(*[">canary" if word.startswith(">") else word for word in words])
    url = f"valkey://comfy:canary@127.0.0.1:{valkey.port}"
    with halves(url) as (reader, writer):
        writer.write([record(0)])
        read = reader.read(None)
        reader.wait(0.01)
        writer.write([record(1), record(2, until=1)])
        writer._tidying._at -= 1e9
        writer.beat(record(3))
        reader._nodes_at = 0
        assert all_of(reader.read(read.version)) == {record(1), record(2, until=1), record(3)}
    assert everything(url) == {record(0), record(1), record(3)}
    granted = {word[1:].lower() for word in words if word.startswith("+")}
    for command in granted - {"ping", "auth", "hello", "select", "client|setinfo"}:
        assert valkey.sees(command), f"{command} is not needed"


def test_a_user_who_may_too_little(valkey: Valkey) -> None:
    valkey.ask("ACL", "SETUSER", "me", "on", ">canary", "~*", "+get", "+xrevrange")
    told = fault(f"valkey://me:canary@127.0.0.1:{valkey.port}", lambda _, writer: writer.write([record(1)]))
    assert "its user lacks a permission" in told


def test_another_database(valkey: Valkey) -> None:
    write(f"{valkey.url}/3", record(3))
    write(f"{valkey.url}?db=4", record(4))
    assert everything(valkey.url) == set()
    assert everything(f"{valkey.url}/3") == {record(3)}
    assert everything(f"{valkey.url}/4") == {record(4)}


# --- other kinds of installation --------------------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path) -> None:
    with start_valkey("--unixsocket", tmp_path / "v.sock", "--unixsocketperm", "700") as server:
        url = f"unix://{tmp_path}/v.sock"
        write(url, record(1))
        assert everything(url) == everything(server.url) == {record(1)}
        server.kill()
        assert fault(url) == f"{url}: it cannot be reached (Connection refused)"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)

    openssl("req -x509 -newkey rsa:2048 -nodes -subj /CN=ours -days 2 -keyout ca.key -out ca.pem")
    for name, names in (("server", "DNS:localhost"), ("client", "DNS:client")):
        (tmp_path / "names").write_text(f"subjectAltName={names}")
        openssl(f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        )
    return tmp_path


def test_tls_with_certificates_on_both_sides(certificates: Path) -> None:
    port = free_port()
    options = {
        "--tls-port": port, "--tls-cert-file": "server.pem", "--tls-key-file": "server.key",
        "--tls-ca-cert-file": "ca.pem",
    }  # fmt: skip
    words = [str(certificates / word) if str(word).endswith(("pem", "key")) else word
             for pair in options.items() for word in pair]  # fmt: skip
    with start_valkey(*words):
        host, folder = f"localhost:{port}", certificates
        ours = f"ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
        good = f"rediss://{host}?ssl_ca_certs={folder}/ca.pem&{ours}"
        write(good, record(1))
        assert everything(good) == {record(1)}
        for url, words in (
            (f"rediss://{host}?{ours}", "certificate verify failed"),
            (good.replace("localhost", "127.0.0.1"), "certificate verify failed"),
            (f"rediss://{host}?ssl_ca_certs={folder}/missing.pem&{ours}", "No such file"),
            (f"redis://{host}", "cannot be reached"),
        ):
            assert words in fault(url, lambda reader, _: reader.read(None)), url
        assert everything(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none&{ours}") == {record(1)}
        assert everything(good.replace("localhost", "127.0.0.1") + "&ssl_check_hostname=false") == {record(1)}


def test_sentinels_name_the_primary(valkey: Valkey) -> None:
    valkey.ask("CONFIG", "SET", "requirepass", "canary")
    with start_valkey("--replicaof", "127.0.0.1", valkey.port, "--masterauth", "canary") as other:
        sentinel_config = (
            f"sentinel monitor mine 127.0.0.1 {valkey.port} 1\nsentinel auth-pass mine canary\nrequirepass x\n"
        )
        with start_valkey("--sentinel", config=sentinel_config) as sentinel:
            dead, host = free_port(), f"127.0.0.1:{sentinel.port}"
            url = f"valkey+sentinel://:canary@127.0.0.1:{dead},{host}/mine?sentinel_password=x"
            write(url, record(1))
            assert everything(url) == everything(f"valkey://:canary@127.0.0.1:{valkey.port}") == {record(1)}
            assert "cannot be reached" in fault(url.replace("/mine", "/other"))
            assert "user name or password" in fault(f"valkey+sentinel://:canary@{host}/mine")
            deadline = time.monotonic() + 20
            while other.ask("INFO", "replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            while "no suitable" in str(_try(sentinel, "SENTINEL", "FAILOVER", "mine")).lower():
                assert time.monotonic() < deadline
                time.sleep(0.5)
            while (
                sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mine", password="x")[1] != str(other.port).encode()
            ):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            other.ask("CONFIG", "SET", "requirepass", "canary")
            write(url, record(2))
            assert everything(f"valkey://:canary@127.0.0.1:{other.port}") == {record(1), record(2)}


def _try(server: Valkey, *command: object) -> object:
    try:
        return server.ask(*command, password="x")
    except Exception as error:
        return error


def test_a_cluster_is_asked_who_has_the_state() -> None:
    # By default, the second port is higher by 10,000, and might be taken.
    nodes = [("--cluster-enabled", "yes", "--cluster-port", free_port()) for _ in range(2)]
    with start_valkey(*nodes[0]) as one, start_valkey(*nodes[1]) as two:
        slot = int(one.ask("CLUSTER", "KEYSLOT", FACTS))
        assert {one.ask("CLUSTER", "KEYSLOT", key) for key in (NEWS, NODES, EPOCH)} == {slot}
        two.ask("CLUSTER", "ADDSLOTS", slot)
        one.ask("CLUSTER", "ADDSLOTS", *(number for number in range(16384) if number != slot))
        one.ask("CLUSTER", "MEET", "127.0.0.1", two.port, nodes[1][-1])
        deadline = time.monotonic() + 20
        while not all(b"cluster_state:ok" in _bytes(node.ask("CLUSTER", "INFO")) for node in (one, two)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        url = f"valkey+cluster://127.0.0.1:{free_port()},127.0.0.1:{one.port}"
        write(url, *map(record, range(100)))
        assert everything(url) == set(map(record, range(100)))
        assert (one.ask("DBSIZE"), two.ask("DBSIZE")) == (0, 3)


def _bytes(told: Any) -> bytes:
    return told if isinstance(told, bytes) else "\n".join(f"{name}:{value}" for name, value in told.items()).encode()


# --- what others write there ------------------------------------------------------------------------------------


def test_what_is_none_of_ours_is_not_read(valkey: Valkey) -> None:
    write(valkey.url, record(1))
    with halves(valkey.url) as (reader, _):
        version = reader.read(None).version
        late = (2**64 - 1).to_bytes(8, "big")
        for name, value in [
            (b"n" * 65, late + b"v"), (b"long", late + b"v" * 161), (b"short", b"1234567"), (b"", b""),
            (b"\xff\x00", b"\xff" * 7), (b"huge", bytes(1 << 20)),
        ]:  # fmt: skip
            valkey.ask("HSET", FACTS, name, value)
            valkey.ask("XADD", NEWS, "*", name, value)
        valkey.ask("HSET", FACTS, b"far", late + b"v")
        valkey.ask("XADD", NEWS, "*", b"far", late + b"v")
        fields = [part for number in range(2500) for part in (b"many%d" % number, late + b"v")]
        valkey.ask("XADD", NEWS, "*", *fields)
        batches = [*reader.read(version).batches]
        assert [len(batch) for batch in batches] == [1000, 1000, 501]
        assert batches[0][0] == Record(b"far", b"v", 2**64 - 1)
        assert everything(valkey.url) == {record(1), Record(b"far", b"v", 2**64 - 1)}


@pytest.mark.parametrize("key", [FACTS, NEWS, NODES, EPOCH])
def test_what_is_too_long_fills_no_memory(valkey: Valkey, key: str) -> None:
    write(valkey.url, record(1))
    reader = make_store(valkey.url).reader()
    version = reader.read(None).version
    huge = bytes(100 << 20)
    valkey.ask(*{FACTS: ("HSET", FACTS, "huge", huge), NEWS: ("XADD", NEWS, "*", "huge", huge),
                 NODES: ("HSET", NODES, "huge", huge), EPOCH: ("SET", EPOCH, huge)}[key])  # fmt: skip
    del huge
    before = _peak()
    with pytest.raises(StoreError, match="a reply is too long to be ours"):
        all_of(reader.read(None if key in (FACTS, NODES) else version))
    assert _peak() - before < 20 << 20
    valkey.ask("FLUSHALL")
    write(valkey.url, record(2))
    assert everything(valkey.url) == {record(2)}


def _peak() -> int:
    """The most memory that this process has used, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize("key", [FACTS, NEWS, NODES, EPOCH])
def test_keys_of_another_kind_are_a_fault_that_a_flush_cures(valkey: Valkey, key: str) -> None:
    valkey.ask("LPUSH", key, "canary")

    def use(reader: Any, writer: Any) -> None:
        writer.write([record(1)])
        all_of(reader.read(None))

    told = fault(valkey.url, use)
    assert told == f"{valkey.url}: it answers with an error (WRONGTYPE)"
    valkey.ask("FLUSHALL")
    write(valkey.url, record(1))
    assert everything(valkey.url) == {record(1)}


def test_what_a_newer_version_writes_is_left_alone(valkey: Valkey) -> None:
    valkey.ask("SET", EPOCH, "2-of-another-format")
    assert "a newer comfy-auth-rs writes there" in fault(valkey.url, lambda reader, _: reader.read(None))


def test_what_is_no_valkey() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request canary\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        told = fault(f"valkey://:canary@127.0.0.1:{listener.getsockname()[1]}", lambda reader, _: reader.read(None))
        assert "canary" not in told
