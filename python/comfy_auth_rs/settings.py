"""All settings, each named once, for `setup()`, ComfyUI's flags, the custom node and the core."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any

PathLike = str | os.PathLike[str]


def _switch(flag: str, *, help: str) -> Any:
    return field(default=False, metadata={"flag": flag, "help": help})


def _one(flag: str, metavar: str, default: str, *, help: str) -> Any:
    return field(default=default, metadata={"flag": flag, "metavar": metavar, "help": f"{help} (default: {default})"})


def _path(flag: str, *, help: str) -> Any:
    return field(default=None, metadata={"flag": flag, "metavar": "PATH", "help": help})


def _where(flag: str, *, help: str) -> Any:
    # It may hold a password, so it is never printed.
    return field(default=None, metadata={"flag": flag, "metavar": "PATH-or-URL", "help": help}, repr=False)


def _several(flag: str, metavar: str, *, help: str) -> Any:
    metadata = {"flag": flag, "metavar": metavar, "help": help}
    return field(default=(), metadata=metadata, repr=metavar != "KEY")  # a key is never printed


@dataclass(frozen=True)
class Settings:
    """All settings. The fields' metadata has their flags for ComfyUI's command line."""

    api_key: tuple[str, ...] = _several(
        "--api-key",
        "KEY",
        help="Require this API key. Other users of this machine can see it in the process list; prefer --api-key-file.",
    )
    api_key_file: tuple[PathLike, ...] = _several(
        "--api-key-file",
        "PATH",
        help="Require one of the API keys in this file: one a line, optionally followed by a label; reloaded when it "
        "changes.",
    )
    exempt: tuple[str, ...] = _several(
        "--auth-exempt",
        "PATTERN",
        help="Let anyone use the routes whose path matches: '/my_node/*', or a regular expression that begins with ^.",
    )
    require_ws: bool = _switch(
        "--auth-require-ws",
        help="Require the key for the WebSocket (/ws) too. Recommended; without it anyone can follow the queue.",
    )
    trusted_proxy: tuple[str, ...] = _several(
        "--auth-trusted-proxy",
        "CIDR",
        help="Trust this proxy or network to name the client, so that failed attempts count per client.",
    )
    client_field: str = _one(
        "--auth-client-field",
        "NAME",
        "X-Forwarded-For",
        help="The header in which the trusted proxies name the client: X-Forwarded-For, Forwarded, X-Real-IP "
        "or another, such as CF-Connecting-IP. All others are ignored.",
    )
    origin: tuple[str, ...] = _several(
        "--auth-origin",
        "ORIGIN",
        help="Treat pages of this origin (scheme://host or scheme://host:port) as this server's own. For gateways "
        "that change the host.",
    )
    url_key: bool = _switch(
        "--auth-url-key",
        help="Accept the key at the start of the path too: /key/KEY/prompt is /prompt with that key. "
        "For clients that only let you set a URL; proxies may write URLs to their logs.",
    )

    audit: PathLike | None = _path(  # noqa: RUF009
        "--auth-audit",
        help="Log who did what to this file, one JSON object a line, for `comfy-auth-rs usage` and fail2ban.",
    )

    state: PathLike | None = _where(  # noqa: RUF009
        "--auth-state",
        help="Store log-outs, locks, revoked keys and limits in this file, in memory, or in the Valkey or Redis at "
        "this URL (valkey://HOST, unix:///PATH), which several servers may share. Put a URL with a password into "
        "COMFYUI_AUTH_STATE instead. (default: comfy_auth_rs.sqlite3 in ComfyUI's user folder)",
    )

    @classmethod
    def of(cls, **given: Any) -> Settings:
        """Makes settings from values as people give them: where several are possible, a single one or any iterable."""
        several = {setting.name for setting in fields(cls) if setting.default == ()}
        return cls(**{name: _listed(value) if name in several else value for name, value in given.items()})  # type: ignore[arg-type]

    @property
    def has_keys(self) -> bool:
        """Whether there are any keys."""
        return bool(self.api_key or self.api_key_file)

    def beside_keys(self) -> list[str]:
        """The names of the settings that are set but mean nothing without a key."""
        beside = [setting for setting in fields(self) if setting.name not in KEYS]
        return [setting.name for setting in beside if getattr(self, setting.name) != setting.default]


#: The settings that give keys.
KEYS = ("api_key", "api_key_file")

_FLAGS: dict[str, str] = {setting.name: setting.metadata["flag"] for setting in fields(Settings)}


def flag(name: str) -> str:
    """How ComfyUI's command line spells a setting."""
    return _FLAGS[name]


def _listed(values: Any) -> tuple[Any, ...]:
    return (values,) if isinstance(values, (str, os.PathLike)) else tuple(values)
