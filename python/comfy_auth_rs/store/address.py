"""What `--auth-state` says: a path, `memory` or the URL of a Valkey; and how it is shown, without credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote

from comfy_auth_rs._core import REDACTED
from comfy_auth_rs.errors import SettingError

__all__ = ["MEMORY", "Address", "has_credentials", "is_url", "parse", "without_credentials"]

MEMORY = "memory"

_SETTING = "state"
_PORT = 6379
_SENTINELS_PORT = 26379

#: `valkeys` and `rediss` are over TLS. What follows a plus is another kind of installation.
_SCHEMES = "valkey://, valkeys://, redis://, rediss://, unix://"
_SCHEME = re.compile(r"(?P<name>valkey|redis)(?P<tls>s?)(?P<kind>\+sentinel|\+cluster)?|unix")

#: What may come after the question mark, as the client has it: files of certificates, and whom to believe.
_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_SHOWN = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname", "db")
_OPTIONS = (*_SHOWN, "ssl_password", "username", "password", "sentinel_username", "sentinel_password")
_REQUIREMENTS = ("none", "optional", "required")
_YES_OR_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Address:
    """Where a Valkey or Redis is."""

    kind: Literal["server", "socket", "sentinel", "cluster"]
    #: Of the server, of the sentinels, or of some nodes of the cluster.
    hosts: tuple[tuple[str, int], ...] = ()
    #: The path of the Unix socket, or the name that the sentinels know the service by.
    name: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    #: The client's `ssl_…`; None where it is not over TLS.
    tls: dict[str, str | bool] | None = field(default=None, repr=False)


#: Of a URL, or of something that was meant to be one.
_BEGINNING = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://|(?P<meant>(?i:valkeys?|rediss?)(?:\+\w+)?):/?(?!/)")

#: What follows the credentials: hosts, and a socket, a service or a database. Something else may be a password.
_HOST = r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.%a-z]+\])(?::[0-9]{1,5})?"
_PLACE = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[A-Za-z0-9._/-]*)?")


def is_url(state: str) -> bool:
    """Whether it is neither a path nor `memory`."""
    return _BEGINNING.match(state) is not None


def without_credentials(state: str) -> str:
    """The setting for people: of a URL without the user, and without any password. Whatever is wrong with it."""
    found = _BEGINNING.match(state)
    if found is None:
        return state
    scheme, rest = found["scheme"] or found["meant"], state[found.end() :]
    user, at, place = rest.rpartition("@")
    place, mark, query = place.partition("?")
    if set(user) & set("?#") or not _PLACE.fullmatch(place):
        return f"{scheme}://{REDACTED}"  # it is unclear where the password ends
    names = {option.partition("=")[0] for option in query.split("&")}
    query = query if names <= {*_SHOWN, ""} else REDACTED
    return f"{scheme}://{REDACTED if at else ''}{at}{place}{mark}{query}"


def has_credentials(state: str) -> bool:
    """Whether something in it is not shown."""
    return without_credentials(state) != state


def parse(state: str) -> Address | Path | None:
    """What it names; None for `memory`. Raises `SettingError`, without anything secret."""
    if state == MEMORY:
        return None
    if not is_url(state):
        if not state.strip():
            raise SettingError("it is empty (an unset variable?); name a file, a URL or memory", _SETTING)
        return Path(state)
    shown = without_credentials(state)
    if REDACTED in state:
        raise SettingError(
            f"{shown}: user and password were taken out of the arguments of the process that started this one; put the "
            "whole URL into COMFYUI_AUTH_STATE",
            _SETTING,
        )
    if "://" not in state:
        raise SettingError(f"{shown}: it is no URL, and no path; write two slashes after the colon", _SETTING)
    try:
        return _parse_url(state)
    except _BadUrlError as fault:
        raise SettingError(f"{shown}: {fault}", _SETTING) from None


class _BadUrlError(Exception):
    pass


def _parse_url(url: str) -> Address:
    scheme, _, rest = url.partition("://")
    found = _SCHEME.fullmatch(scheme.lower())
    if found is None:
        raise _BadUrlError(f"no such kind of store; write a path, memory, or a URL that begins with one of {_SCHEMES}")
    rest, _, query = rest.partition("?")
    options = _options(query)
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    shared = {
        "username": unquote(username) or options.get("username"),
        "password": unquote(password) or options.get("password"),
        "tls": _tls(options) if found["tls"] else None,
        "sentinel_username": options.get("sentinel_username"),
        "sentinel_password": options.get("sentinel_password"),
    }
    path = unquote(path)
    if found["name"] is None:
        if hosts or not path:
            raise _BadUrlError("it names no socket; write unix:///PATH/OF/SOCKET")
        return Address("socket", name=f"/{path}", db=_db(options.get("db", "")), **shared)  # type: ignore[arg-type]
    if not found["tls"] and any(name.startswith("ssl_") for name in options):
        raise _BadUrlError("ssl_… is of no use there; write valkeys:// or rediss://")
    if found["kind"] == "+sentinel":
        service, _, db = path.partition("/")
        if not service:
            raise _BadUrlError("it names no service; write HOST:PORT,HOST:PORT/SERVICE")
        places = _hosts(hosts, _SENTINELS_PORT)
        return Address("sentinel", places, service, _db(options.get("db", db)), **shared)  # type: ignore[arg-type]
    db = options.get("db", path)
    if found["kind"] == "+cluster":
        if db not in ("", "0"):
            raise _BadUrlError("a cluster has no databases by number; leave it out")
        return Address("cluster", _hosts(hosts, _PORT), **shared)  # type: ignore[arg-type]
    places = _hosts(hosts, _PORT)
    if len(places) > 1:
        raise _BadUrlError("it names several hosts; one is enough, or write +sentinel or +cluster before ://")
    return Address("server", places, db=_db(db), **shared)  # type: ignore[arg-type]


def _options(query: str) -> dict[str, str]:
    found = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _BadUrlError(f"an option after the question mark is unknown; these are known: {', '.join(_OPTIONS)}")
        if name in found:
            raise _BadUrlError(f"{name}= is given twice; keep one of the two")
        found[name] = value
    return found


def _tls(options: dict[str, str]) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {"ssl_check_hostname": True}
    for name in (*_TLS_FILES, "ssl_password"):
        if value := options.get(name):
            found[name] = value
    if (required := options.get("ssl_cert_reqs", "required")) not in _REQUIREMENTS:
        raise _BadUrlError(f"ssl_cert_reqs= takes one of {', '.join(_REQUIREMENTS)}")
    found["ssl_cert_reqs"] = required
    if (checks := options.get("ssl_check_hostname")) is not None:
        if checks.lower() not in _YES_OR_NO:
            raise _BadUrlError("ssl_check_hostname= takes true or false")
        found["ssl_check_hostname"] = _YES_OR_NO[checks.lower()]
    if required == "none":
        found["ssl_check_hostname"] = False  # nothing is checked
    return found


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,4}", text):
        raise _BadUrlError("the database is a number; write it after the host: valkey://HOST/0")
    return int(text or 0)


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(place, port) for place in text.split(","))


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", text)
    if found is None or int(found[2] or port) not in range(1, 65536):
        raise _BadUrlError(
            "it names no host, or no port; write HOST or HOST:PORT, and percent-encode / ? # @ : in user and password"
        )
    return found[1].strip("[]"), int(found[2] or port)
