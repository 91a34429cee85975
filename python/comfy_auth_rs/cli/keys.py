"""List, add, revoke and rotate the keys of a key file.

A running server follows within a second.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from comfy_auth_rs import generate_key
from comfy_auth_rs._core import KeyEntry, key_file_entries, key_line, revocation_record
from comfy_auth_rs.cli.common import CommandError
from comfy_auth_rs.errors import SettingError
from comfy_auth_rs.key_file import KeyFile, KeyFileFault, change, read
from comfy_auth_rs.remembered import tell
from comfy_auth_rs.store import Record, StoreError
from comfy_auth_rs.store.address import without_credentials

EXAMPLES = (
    "list api_key.txt",
    "add api_key.txt --label alice --scope run --user alice --expires 90d",
    "revoke api_key.txt alice",
    "rotate api_key.txt alice --grace 24h",
)

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SHORT_ID = 8  # digits, in tables
_COLUMNS = ("LABEL", "ID", "SCOPE", "USER", "EXPIRES", "FROM", "PROMPTS", "QUEUED")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")

    def added(act: Callable[[argparse.Namespace], int], description: str, epilog: str) -> argparse.ArgumentParser:
        name = act.__name__.removeprefix("_")
        action = actions.add_parser(
            name,
            help=description,
            description=f"{description[:1].upper()}{description[1:]}.",
            epilog="\n".join(["examples:", *(f"  comfy-auth-rs keys {name} {line}" for line in epilog.splitlines())]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        action.add_argument("file", metavar="FILE", type=Path, help="the key file")
        action.set_defaults(act=act)
        return action

    action = added(
        _list, description="show what each key may do, never the key", epilog="api_key.txt\napi_key.txt --json"
    )
    action.add_argument("--json", action="store_true", help="for programs: whole ids")

    action = added(
        _add,
        description="add a key and print it, only this once",
        epilog="api_key.txt --label alice\n"
        "api_key.txt --label display --scope view --from 192.168.1.0/24 --expires 2027-01-31\n"
        "api_key.txt --label laptop --scope run,nodes --user alice --expires 90d --digest\n"
        "api_key.txt --label bot --scope run --prompts 60/h --queued 3",
    )
    action.add_argument("--label", metavar="LABEL", required=True, help="the key's name in lists and logs")
    action.add_argument(
        "--scope", metavar="WORDS", help="comma-separated: view, run, nodes, metrics or all (default: all)"
    )
    action.add_argument("--user", metavar="NAME", help="whom it is for")
    action.add_argument(
        "--expires", metavar="WHEN", help="90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z (default: never)"
    )
    action.add_argument(
        "--from",
        dest="addresses",
        metavar="CIDRS",
        help="comma-separated addresses and CIDR blocks (default: anywhere)",
    )
    action.add_argument("--prompts", metavar="N/h", help="at most N prompts a minute (m), hour (h) or day (d)")
    action.add_argument("--queued", metavar="N", help="at most N prompts waiting or running at once")
    _add_how_it_is_kept(action)

    action = added(
        _revoke,
        description="revoke a key now",
        epilog="api_key.txt alice\napi_key.txt 1f3a9c02\napi_key.txt alice --state valkey://10.0.0.5/0",
    )
    _add_word(action)
    action.add_argument(
        "--state",
        metavar="STATE",
        help="revoke it on every server that shares this state, even if its key file has the key",
    )

    action = added(
        _rotate,
        description="replace a key; the old one works for a while longer",
        epilog="api_key.txt alice\napi_key.txt 1f3a9c02 --grace 7d",
    )
    _add_word(action)
    action.add_argument(
        "--grace", metavar="TIME", type=_duration, default="24h", help="how long the old key still works (default: 24h)"
    )
    _add_how_it_is_kept(action)


def _add_word(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", metavar="LABEL-or-ID", help="the key's label, or at least 4 digits of its id")


def _add_how_it_is_kept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--digest", action="store_true", help="keep only the key's digest in the file")
    parser.add_argument("--json", action="store_true", help="for programs: the new key with its id and attributes")


def execute(options: argparse.Namespace) -> int:
    act: Callable[[argparse.Namespace], int] = options.act
    try:
        return act(options)
    except KeyFileFault as fault:
        for line in fault.lines[:-1]:
            print(f"comfy-auth-rs: error: {line}", file=sys.stderr)
        raise CommandError(fault.lines[-1]) from None


# --- The actions ------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    file, now = read(options.file), int(time.time())
    if options.json:
        print(json.dumps([_described(entry, now) for entry in file.entries], indent=2))
        return 0
    rows = [_COLUMNS, *(_row(entry, now) for entry in file.entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _add(options: argparse.Namespace) -> int:
    key, now = generate_key(), int(time.time())
    given = {
        "scope": options.scope, "expires": _moment(options.expires, now), "from": options.addresses,
        "user": options.user, "prompts": options.prompts, "queued": options.queued,
    }  # fmt: skip
    try:
        line = key_line(
            _kept(key, options.digest), options.label, [pair for pair in given.items() if pair[1] is not None]
        )
    except ValueError as error:
        raise CommandError(str(error)) from None

    def edit(file: KeyFile) -> bytes:
        turn = int(time.time())
        if any(entry.label == options.label and not entry.has_expired(turn) for entry in file.entries):
            raise CommandError(
                f"{options.file}: a key in force has this label; choose another, or use `comfy-auth-rs keys rotate`"
            )
        return file.with_added(line)

    if any(entry.has_expired(now) for entry in key_file_entries("", line.encode())[0]):
        raise CommandError("--expires: this is in the past; name a later day or moment (UTC)")
    new = change(options.file, edit, create=True).entries[-1]
    _print_key(options, key, new, now)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    chosen: list[KeyEntry] = []

    def edit(file: KeyFile) -> bytes:
        now = int(time.time())  # once it is this process's turn
        entry = _chosen(file, options.word, now)
        chosen.append(entry)
        return file.text if entry.has_expired(now) else file.with_line(entry, _written(file, entry, None, now))

    file = change(options.file, edit)
    (entry,) = chosen
    after = next(found for found in file.entries if found.id == entry.id)
    if after.expires == entry.expires:
        print(f"{_name(entry)} has not been in force since {entry.expires_at}. Nothing was changed.")
    else:
        print(f"{_name(entry)} is revoked in {options.file}. Its digest stays there, so that nobody adds it again.")
    if options.state is not None:
        _tell(options, after)
    return 0


def _tell(options: argparse.Namespace, entry: KeyEntry) -> None:
    """Also if the file was changed before: perhaps only this step failed then."""
    try:
        tell(options.state, Record(*revocation_record(options.file, entry.id)))
    except (SettingError, StoreError, ValueError) as fault:
        detail = fault.detail if isinstance(fault, SettingError) else fault
        raise CommandError(f"{_name(entry)} is revoked in {options.file}, but not in the state: {detail}") from None
    print(f"Every server that shares {without_credentials(options.state)} is told.")


def _rotate(options: argparse.Namespace) -> int:
    key = generate_key()
    chosen: list[KeyEntry] = []

    def edit(file: KeyFile) -> bytes:
        now = int(time.time())  # once it is this process's turn
        entry = _chosen(file, options.word, now)
        chosen.append(entry)
        if entry.has_expired(now):
            raise CommandError(
                f"{options.file}: {_name(entry)} expired at {entry.expires_at}; use `comfy-auth-rs keys add`"
            )
        old, end = file.key_of(entry), now + options.grace
        added = _written(file, entry, _kept(key, options.digest or old.startswith("sha256:")), None)
        text = file.with_line(entry, _written(file, entry, old, end)) if _ends_later(entry, end) else file.text
        return KeyFile(file.path, text, file.entries).with_added(added)

    file = change(options.file, edit)
    new, old = file.entries[-1], next(entry for entry in file.entries if entry.id == chosen[0].id)
    _print_key(options, key, new, int(time.time()), old)
    return 0


# --- What they share --------------------------------------------------------------------------------------------


def _ends_later(entry: KeyEntry, end: int) -> bool:
    return entry.expires is None or entry.expires > end


def _written(file: KeyFile, entry: KeyEntry, key: str | None, end: int | None) -> str:
    try:
        return entry.write(key, expires=end)
    except ValueError as error:
        raise CommandError(f"{file.path}:{entry.line}: {error}") from None


def _kept(key: str, as_digest: bool) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" if as_digest else key


def _chosen(file: KeyFile, word: str, now: int) -> KeyEntry:
    """The entry with this label or beginning of an id. A label means the key in force, if there is one."""
    named = [entry for entry in file.entries if entry.label == word]
    in_force = [entry for entry in named if not entry.has_expired(now)]
    found = {entry.line: entry for entry in in_force or named[-1:]}
    if re.fullmatch(r"[0-9a-fA-F]{4,32}", word):
        found |= {entry.line: entry for entry in file.entries if entry.id.startswith(word.lower())}
    if not found:
        # The word isn't shown: it may be a key.
        raise CommandError(
            f"{file.path}: no key has this label or id (at least 4 digits); `comfy-auth-rs keys list FILE` shows them"
        )
    if len(found) > 1:
        candidates = ", ".join(f"{_name(entry, len(entry.id))} on line {entry.line}" for entry in found.values())
        raise CommandError(f"{file.path}: several keys match this: {candidates}; give more digits of the id")
    return next(iter(found.values()))


def _moment(when: str | None, now: int) -> str | None:
    """A duration from now, in the key file's format. The parser of the key file checks anything else."""
    if when is None or not re.fullmatch(r"[0-9]+[a-z]", when):
        return when
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + _duration(when)))
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--expires: {error}") from None


def _duration(text: str) -> int:
    """In seconds."""
    if re.fullmatch(r"[0-9]{1,5}[mhdw]", text):
        return int(text[:-1]) * _SECONDS[text[-1]]
    raise argparse.ArgumentTypeError("name a time such as 30m, 24h, 90d or 12w")


def _described(entry: KeyEntry, now: int) -> dict[str, object]:
    return {
        "label": entry.label,
        "id": entry.id,
        "scope": entry.scope,
        "user": entry.user,
        "expires": entry.expires_at,
        "expired": entry.has_expired(now),
        "from": entry.addresses,
        "prompts": entry.prompts,
        "queued": entry.queued,
        "line": entry.line,
    }


def _row(entry: KeyEntry, now: int) -> Sequence[str]:
    end = f"{entry.expires_at} (expired)" if entry.has_expired(now) else entry.expires_at
    who = (entry.label, entry.id[:_SHORT_ID], entry.scope, entry.user)
    limits = (entry.prompts, str(entry.queued or ""))
    cells = (*who, end or "never", ",".join(entry.addresses), *limits)
    return [_printable(cell or "-") for cell in cells]


def _name(entry: KeyEntry, digits: int = _SHORT_ID) -> str:
    """For messages."""
    return f"{_printable(entry.label)} ({entry.id[:digits]})" if entry.label else entry.id[:digits]


def _printable(text: str) -> str:
    """Labels may hold anything, such as characters that reverse the reading direction."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _print_key(options: argparse.Namespace, key: str, new: KeyEntry, now: int, old: KeyEntry | None = None) -> None:
    """Prints only the key to standard output, for scripts, and the rest to standard error."""
    if options.json:
        told = {"key": key, **_described(new, now)}
        print(json.dumps(told if old is None else {**told, "replaces": _described(old, now)}, indent=2))
        return
    print(key, flush=True)
    _say(f"the new key of {_name(new)} is in {options.file}; it is shown only this once")
    if new.opens_everything:
        _say("it may do everything and never expires; limit it with --scope and --expires")
    if old is not None:
        _say(f"the old one ({old.id[:_SHORT_ID]}) is in force until {old.expires_at}")


def _say(hint: str) -> None:
    print(f"comfy-auth-rs: {hint}", file=sys.stderr)
