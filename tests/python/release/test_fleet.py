"""deploy/fleet/: three miniatures behind nginx, each on its own machine."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support import namespaces, proxies
from support.client import BROWSER, JSON, Answer, bearer
from support.fleet import Fleet, ask_by, fleet, until
from support.keys import CANARY
from support.namespaces import network
from support.proxies import DEPLOY

REASON = namespaces.why_not() or ("nginx is not installed" if proxies.NGINX is None else "")

#: Enough users that each node gets some.
USERS = [f"user-{number}" for number in range(24)]


def key_of(name: str) -> str:
    return f"{CANARY}-of-{name}-0123456789-abcdefghijklmnopqrstuvwxyz"


# ---------------------------------------------------------------------------------------------------------------------
# Names that must match


def load(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (pip install --group deploy)")
    return list(yaml.safe_load_all((DEPLOY / "fleet" / name).read_text(encoding="utf-8")))


def in_nginx(expression: str) -> list[str]:
    return re.findall(expression, (DEPLOY / "fleet" / "nginx.conf").read_text(), re.M)


def in_valkey(option: str) -> str:
    [found] = re.findall(rf"^{option} (.*)$", (DEPLOY / "fleet" / "valkey.conf").read_text(), re.M)
    return str(found)


NAMES = ["comfyui-0", "comfyui-1", "comfyui-2"]
TLS = ["/etc/nginx/tls/tls.crt", "/etc/nginx/tls/tls.key"]


def test_nginx_knows_the_same_nodes_twice() -> None:
    assert in_nginx(r"^    server (\S+):8188 ") == NAMES * 2
    assert in_nginx(r"ssl_certificate(?:_key)? (\S+);") == TLS


def test_compose_starts_what_the_other_files_name() -> None:
    [compose] = load("compose.yaml")
    services, network = compose["services"], "fleet"
    assert [*services] == [*NAMES, "nginx", "valkey"]
    nginx, valkey = services["nginx"], services["valkey"]
    for number, name in enumerate(NAMES):
        node = services[name]
        trusted = nginx["networks"][network]["ipv4_address"]
        assert node["command"] == ["--api-key-file", "/run/secrets/comfyui_keys", "--auth-trusted-proxy", trusted]
        assert node["volumes"] == [f"data-{number}:/data"]
        [gpu] = node["deploy"]["resources"]["reservations"]["devices"]
        assert gpu == {"driver": "nvidia", "capabilities": ["gpu"], "device_ids": [str(number)]}
    addresses = [service["networks"][network]["ipv4_address"] for service in services.values()]
    assert len(set(addresses)) == 5
    assert [secret["target"] for secret in nginx["secrets"]] == TLS
    assert nginx["sysctls"].keys() >= {f"net.ipv4.{name}" for name in in_nginx(r"(tcp_\w+) to \d")}
    assert nginx["volumes"] == ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    assert valkey["command"] == ["valkey-server", "/etc/valkey/valkey.conf"]
    assert [f"/run/secrets/{secret}" for secret in valkey["secrets"]] == [in_valkey("aclfile")]
    assert valkey["volumes"] == ["./valkey.conf:/etc/valkey/valkey.conf:ro", f"state:{in_valkey('dir')}"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_kubernetes_starts_what_the_other_files_name() -> None:
    found = {(one["kind"], one["metadata"]["name"]): one for one in load("kubernetes.yaml")}
    nodes, nginx = found["StatefulSet", "comfyui"], found["Deployment", "comfyui-nginx"]
    assert nodes["spec"]["replicas"] == len(NAMES)
    for name in NAMES:
        spec = found["Service", name]["spec"]
        assert spec["selector"] == {"statefulset.kubernetes.io/pod-name": name}
        assert spec["ports"] == [{"name": "http", "port": 8188, "targetPort": "http"}]
    pods = {name: one["spec"]["template"]["spec"] for (_, name), one in found.items() if "template" in one["spec"]}
    mounts = {
        name: {mount["mountPath"] for container in pod["containers"] for mount in container["volumeMounts"]}
        for name, pod in pods.items()
    }
    [node] = pods["comfyui"]["containers"]
    assert node["args"][:2] == ["--api-key-file", "/run/comfyui-keys/keys"]
    assert [one["name"] for one in node["env"]] == ["COMFYUI_AUTH_STATE"]
    assert mounts["comfyui-nginx"] >= {str(Path(TLS[0]).parent), "/etc/nginx/conf.d"}
    assert mounts["valkey"] == {in_valkey("aclfile"), in_valkey("dir"), "/etc/valkey"}
    for name, allowed in [("comfyui", nginx), ("comfyui-valkey", nodes)]:
        [rule] = found["NetworkPolicy", name]["spec"]["ingress"]
        [only] = rule["from"]
        assert only["podSelector"]["matchLabels"] == allowed["spec"]["template"]["metadata"]["labels"]


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
    if REASON:
        pytest.skip(REASON)
    with network() as found:
        trees = [copy_miniature() for _ in range(3)]
        with fleet(found, trees, keys, tmp_path_factory.mktemp("nginx")) as started:
            yield started
            assert CANARY not in (started.gateway.folder / "access.log").read_text()
            assert CANARY not in (started.gateway.folder / "error.log").read_text()


def log_in(three: Fleet, name: str) -> dict[str, str]:
    """Logs a browser in. Returns headers that make requests come from the page."""
    answer = three.ask("/auth_session", bearer(key_of(name)), method="POST", body=b"")
    assert answer.status == 204
    return {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "Sec-Fetch-Site": "same-origin"}


def node_of(three: Fleet, name: str) -> str:
    answer = three.ask("/queue", bearer(key_of(name)))
    assert answer.status == 200
    return answer.headers["X-Node"]


# ---------------------------------------------------------------------------------------------------------------------
# Which requests go to the same node


def test_everything_of_one_user_meets_on_one_node(three: Fleet) -> None:
    key = key_of("user-0")
    home = node_of(three, "user-0")
    session = log_in(three, "user-0")
    for target, headers in [
        ("/queue", {"X-API-Key": key}),
        (f"/history?api_key={key}", {}),
        (f"/history?x=1&token={key}", {}),
        ("/queue", session),
        ("/assets/none.js", session),  # this needs no key
        ("/queue", bearer(key_of("second"))),  # the same user's other key
        ("/queue", {**bearer(key), "X-Auth-Subject": "user-1", "X-Forwarded-For": "192.0.2.1"}),
    ]:
        assert three.ask(target, headers).headers["X-Node"] == home, target
    answer = three.ask("/interrupt", session, method="POST", body=b"")
    assert (answer.status, answer.headers["X-Node"]) == (200, home)


def test_users_are_spread_over_all_nodes(three: Fleet) -> None:
    found = Counter(node_of(three, name) for name in USERS)
    assert len(found) == 3
    assert min(found.values()) >= 2


def test_a_key_without_a_user_has_a_node_too(three: Fleet) -> None:
    assert len({node_of(three, "nobody") for _ in range(4)}) == 1


@pytest.mark.parametrize("name", ["user-1", "user-2", "user-3", "user-4"])
async def test_prompts_socket_and_pictures_meet(three: Fleet, name: str) -> None:
    """Does what a client of ComfyUI does: follows its own prompt and fetches the picture."""
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    async with three.session() as session:
        session.headers.update(bearer(key_of(name)))
        async with session.ws_connect(f"{three.url}/ws?clientId={name}") as socket:
            async with session.post(f"{three.url}/prompt", json={"prompt": graph, "client_id": name}) as answer:
                prompt = (await answer.json())["prompt_id"]
            while (message := await socket.receive_json(timeout=20))["type"] != "executed":
                pass
        assert message["data"]["prompt_id"] == prompt
        [picture] = message["data"]["output"]["images"]
        async with session.get(f"{three.url}/view", params=picture) as answer:
            assert (answer.status, answer.content_type) == (200, "image/png")
        async with session.get(f"{three.url}/history/{prompt}") as answer:
            assert prompt in await answer.json()


# ---------------------------------------------------------------------------------------------------------------------
# Clients without a key


def test_who_has_no_key_gets_the_login_page_and_nothing_else(three: Fleet) -> None:
    assert three.ask("/health").status == 200
    assert three.ask("/auth_login.html").status == 200
    assert three.ask("/", BROWSER).location == "auth_login.html?next=%2F"
    assert three.ask("/queue").status == 401
    assert three.ask("/prompt", JSON, method="POST", body=b"{}").status == 401
    assert three.ask("/ws", {"Connection": "Upgrade", "Upgrade": "websocket"}).status == 401
    assert three.ask("/comfyui_subject").status == 404
    assert three.ask("/comfyui_subject", bearer(key_of("user-0"))).status == 404


def test_guesses_of_one_client_meet_on_one_node(three: Fleet) -> None:
    """Each counts as one guess, though nginx asks twice. The tenth locks, when nginx asks whose request it is."""
    attacker = three.network.host()

    def guess(number: int) -> Answer:
        claims = {"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"}
        target = ("/queue", "/health", "/ws")[number % 3]
        return three.ask(target, {**claims, **bearer(f"wrong-{number}")}, client=attacker)

    assert [guess(number).status for number in range(10)] == [401] * 9 + [429]
    locked = guess(10)
    assert locked.status == 429
    assert int(locked.headers["Retry-After"]) > 1
    assert three.ask("/queue", bearer(key_of("user-0"))).status == 200
    said = [line for node in three.nodes for line in node.output.splitlines() if "locked" in line]
    assert {attacker.address in line for line in said} == {True}
    assert len([node for node in three.nodes if f"refused {attacker.address}" in node.output]) == 1


def test_ipv6_addresses_of_one_client_meet_on_one_node(three: Fleet) -> None:
    """A customer has 2^64 addresses, and must not get ten guesses on each node."""
    host = three.gateway.host
    networks = [f"fd00:77:0:{number}" for number in range(1, 13)]
    for address in [*(f"{prefix}::1" for prefix in networks), *(f"fd00:77:0:1:{number}::2" for number in range(1, 13))]:
        host.add_address(address)

    def node_of_client(address: str) -> str:
        connection = host.connect(("fd00:77:0:1::1", 443), 20, source=address)
        answer = ask_by(connection, "fd00:77:0:1::1", "/health")
        assert answer.status == 200
        return answer.headers["X-Node"]

    assert len({node_of_client(f"fd00:77:0:1:{number}::2") for number in range(1, 13)}) == 1
    assert len({node_of_client(f"{prefix}::1") for prefix in networks}) == 3


# ---------------------------------------------------------------------------------------------------------------------
# A node dies


def homes(three: Fleet) -> dict[str, str]:
    return {name: node_of(three, name) for name in USERS}


def test_another_takes_over_when_a_node_is_killed(three: Fleet) -> None:
    """Nobody sees an error. Users of other nodes stay there. When the node is back, so are its users."""
    before = homes(three)
    victim = three.nodes[1]
    assert victim.host.address in before.values()
    sessions = {name: log_in(three, name) for name in USERS[:6]}
    victim.kill()
    try:
        for name in USERS:
            answer = three.ask("/prompt", {**bearer(key_of(name)), **JSON}, method="POST", body=b'{"prompt": {}}')
            assert answer.status == 400, "ComfyUI answers that there is no prompt"
        for session in sessions.values():
            assert three.ask("/queue", session).status == 200
        meanwhile = homes(three)
        for name, home in before.items():
            assert (meanwhile[name] == home) == (home != victim.host.address)
        assert three.ask("/health").status == 200
    finally:
        victim.start()
    until(lambda: homes(three) == before, 40)


def test_another_takes_over_when_a_node_is_cut_off(three: Fleet) -> None:
    """nginx waits two seconds for an answer. Then it asks the next node, and avoids the silent one for a while."""
    before = homes(three)
    victim = three.nodes[2]
    victim.host.cut_off()
    try:
        began = time.monotonic()
        took = []
        for _ in range(2):
            for name in [name for name in USERS if before[name] == victim.host.address]:
                since = time.monotonic()
                assert three.ask("/queue", bearer(key_of(name))).status == 200
                took.append(time.monotonic() - since)
        print(
            f"\ncut off: the slowest of {len(took)} requests took {max(took):.1f} s, all {time.monotonic() - began:.1f}"
        )
        assert max(took) < 8
        assert sum(seconds > 1.5 for seconds in took) <= 4
    finally:
        victim.host.join()
    until(lambda: homes(three) == before, 40)


async def test_a_socket_to_a_node_that_is_cut_off_ends(three: Fleet) -> None:
    """The kernel notices if it is configured to. Then the page connects again, to another node."""
    three.gateway.host.set(tcp_keepalive_time=1, tcp_keepalive_intvl=1, tcp_keepalive_probes=2)
    home = next(node for node in three.nodes if node.host.address == node_of(three, "user-0"))
    async with three.session() as session:
        session.headers.update(bearer(key_of("user-0")))
        async with session.ws_connect(f"{three.url}/ws?clientId=one") as socket:
            while (await socket.receive_json(timeout=20))["type"] != "status":
                pass
            home.host.cut_off()
            try:
                ended = await socket.receive(timeout=20)
                assert ended.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
                async with session.ws_connect(f"{three.url}/ws?clientId=one") as other:
                    assert (await other.receive_json(timeout=20))["type"] == "status"
            finally:
                home.host.join()
    until(lambda: node_of(three, "user-0") == home.host.address, 40)


def test_without_any_node_it_says_so(three: Fleet) -> None:
    for node in three.nodes:
        node.kill()
    try:
        for target in ("/health", "/queue", "/"):
            assert three.ask(target, bearer(key_of("user-0"))).status == 502
    finally:
        for node in three.nodes:
            node.start()
    until(lambda: three.ask("/health").status == 200, 40)
