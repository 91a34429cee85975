"""ComfyUI's profiles: with `--multi-user`, a key with `user=` is the ComfyUI user of that name.

Needs the real ComfyUI that `COMFYUI_DIR` names.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.client import Answer, ask, bearer
from support.servers import Server, start_real

pytestmark = pytest.mark.skipif("COMFYUI_DIR" not in os.environ, reason="COMFYUI_DIR names no real ComfyUI")

#: The labels of the keys, and the attributes after them.
KEYS = {
    "owner": "",
    "alice": "user=alice scope=run",
    "alice-too": "user=ALICE scope=view",
    "bob": "user=bob scope=run",
    "carol": "user=carol scope=run",
    "dave": "user=dave scope=run",
    "eve": "user=eve scope=run",
    "boss": "user=boss",
    "guest": "scope=run,nodes",
}

#: Profiles that ComfyUI made before keys had users.
USERS = {
    "bob_1": "Bob",  # a key's user name in another case
    "carol_1": "Carol",
    "carol_2": "CAROL",  # nobody knows which of them is carol
    "default": "dave",  # everyone shares this id
    "../eve": "eve",  # this id can't be the name of a folder
    "guest_1": "somebody",
    "\u212aim_1": "\u212aim",
}


@dataclass
class Site:
    server: Server
    base: Path
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def users(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.base / "user" / "users.json").read_text())
        return found

    def ids(self, name: str) -> list[str]:
        return [profile for profile, called in self.users.items() if called == name]

    def ask(self, who: str, target: str, profile: str | None = None, method: str = "GET", body: str = "") -> Answer:
        headers = bearer(self.keys[who]) | ({} if profile is None else {"comfy-user": profile})
        data = body.encode() if method == "POST" else None
        return ask(self.server, target, headers, method=method, body=data)

    def save(self, who: str, content: str, profile: str | None = None) -> Answer:
        """Saves a setting."""
        return self.ask(who, "/settings/mine", profile, "POST", json.dumps(content))

    def load(self, who: str, profile: str | None = None) -> Answer:
        return self.ask(who, "/api/settings/mine", profile)

    def settings(self, profile: str) -> object:
        file = self.base / "user" / profile / "comfy.settings.json"
        return json.loads(file.read_text()).get("mine") if file.is_file() else None


@contextmanager
def running(base: Path, *flags: str, users: str | None = None) -> Iterator[Site]:
    for name in ("custom_nodes", "input", "output", "user", "models"):
        (base / name).mkdir()
    if users is not None:
        (base / "user" / "users.json").write_text(users)
    keys = {who: secrets.token_urlsafe(32) for who in KEYS}
    file = base / "keys.txt"
    file.write_text("".join(f"{keys[who]} {who} {KEYS[who]}\n" for who in KEYS))
    file.chmod(0o600)
    with start_real(base, "--api-key-file", str(file), *flags) as server:
        yield Site(server, base, keys)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("base"), "--multi-user", users=json.dumps(USERS)) as site:
        yield site


def test_a_real_user_is_made_at_the_first_request(site: Site) -> None:
    assert site.ids("alice") == []
    assert site.ask("alice", "/users").json == {"storage": "server", "migrated": False}
    [profile] = site.ids("alice")
    assert site.save("alice", "mine").status == 200
    assert site.settings(profile) == "mine"
    assert site.load("alice-too").json == "mine", "names are compared without case"
    assert site.ask("alice", "/api/users").json == {"storage": "server", "migrated": True}
    assert site.ids("alice") == [profile]


@pytest.mark.parametrize("profile", ["guest_1", "bob_1", "default", "nobody", "", "__system", "../eve"])
def test_a_real_header_changes_nothing_for_a_user(site: Site, profile: str) -> None:
    assert site.save("alice", f"after {profile}", profile).status == 200
    assert site.load("alice").json == f"after {profile}"
    assert site.settings("guest_1") is site.settings("bob_1") is site.settings("default") is None
    assert site.ask("alice", "/users", profile).json == {"storage": "server", "migrated": True}


def test_a_real_profile_in_another_case_is_the_users(site: Site) -> None:
    assert site.save("bob", "of bob").status == 200
    assert site.settings("bob_1") == "of bob"
    assert len([name for name in site.users.values() if name.lower() == "bob"]) == 1


@pytest.mark.parametrize("who", ["carol", "dave", "eve"])
def test_a_real_profile_that_may_be_somebody_elses_is_not_taken(site: Site, who: str) -> None:
    assert site.save(who, f"of {who}").status == 200
    [profile] = [found for found in site.ids(who) if found not in USERS]
    assert site.settings(profile) == f"of {who}"
    for other in ("carol_1", "carol_2", "default"):
        assert site.settings(other) is None
    assert not (site.base / "eve").exists()


def test_a_real_profile_of_a_user_is_for_nobody_else_below_all(site: Site) -> None:
    site.save("alice", "private")
    [alice] = site.ids("alice")
    for profile in (alice, "bob_1", "carol_1", "carol_2"):
        for target in ("/settings", "/api/settings", "/settings/mine"):
            answer = site.ask("guest", target, profile)
            assert answer.status == 403, (profile, target)
            assert answer.json["cause"] == "profile"
        for target in ("/userdata?dir=.", "/v2/userdata", "/userdata/comfy.settings.json"):
            assert site.ask("guest", target, profile).status == 403, (profile, target)
        assert site.save("guest", "of guest", profile).status == 403
    assert site.settings(alice) == "private"
    assert site.load("owner", alice).json == "private"
    assert site.save("owner", "by the owner", alice).status == 200
    assert site.load("alice").json == "by the owner"


def test_a_real_profile_of_nobody_is_for_every_key_without_a_user(site: Site) -> None:
    assert site.save("guest", "of guest", "guest_1").status == 200
    assert site.settings("guest_1") == site.load("owner", "guest_1").json == "of guest"
    assert site.load("guest", "nobody").status == site.load("owner", "nobody").status == 401


def test_a_real_user_with_all_is_that_user(site: Site) -> None:
    assert site.save("boss", "of boss", "guest_1").status == 200
    [profile] = site.ids("boss")
    assert site.settings(profile) == "of boss"
    assert "users" not in site.ask("boss", "/users").json


def test_who_is_listed_to_others(site: Site) -> None:
    listed = site.ask("owner", "/users").json
    assert listed == {"storage": "server", "users": site.users}
    left = site.ask("guest", "/users").json
    assert left["storage"] == "server"
    assert set(left["users"].values()) == {"somebody", "\u212aim"}
    assert site.ask("guest", "/users", method="HEAD").status == 200


def test_two_real_first_requests_at_once_make_one_user(tmp_path: Path) -> None:
    with running(tmp_path, "--multi-user") as site:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: site.ask("alice", "/settings").status, range(16)))
        assert set(answers) == {200}
        assert len(site.ids("alice")) == 1
        # Another ComfyUI has made a user in the same folder.
        file = tmp_path / "user" / "users.json"
        file.write_text(json.dumps({**site.users, "bob_9": "bob"}))
        assert site.save("bob", "of bob").status == 200
        assert site.settings("bob_9") == "of bob"
        # A file that can't be read isn't overwritten.
        file.write_text("{damaged")
        assert site.ask("carol", "/settings").status == 503
        assert file.read_text() == "{damaged"
        assert site.load("bob").json == "of bob"


def test_without_the_real_flag_nothing_changes(tmp_path: Path) -> None:
    with running(tmp_path) as site:
        assert site.save("alice", "of all", "guest_1").status == 200
        assert site.settings("default") == site.load("guest").json == "of all"
        for who in ("alice", "guest", "owner"):
            assert site.ask(who, "/users").json == {"storage": "server", "migrated": True}
        assert not (tmp_path / "user" / "users.json").exists()
