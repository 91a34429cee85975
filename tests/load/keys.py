"""Keys come and go in the file while 64 connections hammer: either the old file or the new one judges each request."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import closing
from pathlib import Path

from support.client import ask, bearer

from load.client import Connection, request, stop
from load.judge import Judge
from load.process import patched_miniature

CONNECTIONS = 64

#: Seconds between two changes: longer than a version may take to be in force, so most requests have one judge.
PERIOD = 3.0

#: Other keys in each version, so that reading the file takes a while.
OTHERS = 500

EVEN, ODD, STEADY, NEVER = (f"{name:x<40}" for name in ("even", "odd", "steady", "never"))


def write(file: Path, version: int) -> None:
    """Replaces the file as deployment tools do. `STEADY` comes last: anyone who reads half the file doesn't find it."""
    others = "".join(f"other-{version}-{number:030}\n" for number in range(OTHERS))
    new = file.with_suffix(".new")
    new.write_text(f"{others}{ODD if version % 2 else EVEN}\n{others.replace('other', 'more')}{STEADY}\n")
    new.chmod(0o600)
    new.replace(file)


def run(folder: Path, requests: int, changes: int) -> dict[str, str]:
    """Returns the figures of at least so many requests. Raises AssertionError if one was judged wrongly."""
    file = folder / "keys.txt"
    write(file, 0)
    with patched_miniature(folder / "tree", "--api-key-file", str(file)) as server:
        login = ask(server, "/auth_session", bearer(EVEN), method="POST", body=b"")
        name, _, value = login.headers["Set-Cookie"].split(";")[0].partition("=")
        # The session ends with its key. The cookie's name has the port from `Host`, and this client sends no port.
        session = {"Cookie": f"{name.rpartition('_')[0]}={value}"}
        judge, seconds, sent, wrong = asyncio.run(_hammer(server.port, file, requests, changes, session))
        loaded = server.output.count("the key file changed")
    sharp, faults = judge.verdict()
    assert not wrong, wrong[:5]
    assert not faults, faults[:5]
    assert loaded >= len(judge.done) - 1
    return {
        "requests": f"{sent:,} by {CONNECTIONS} connections in {seconds:.0f} s",
        "changes of the key file": f"{len(judge.done)}, all seen",
        "requests that told which version judged them": f"{len(judge.sent):,}",
        "of these with one possible judge": f"{sharp:,}",
        "judged otherwise": "0",
    }


async def _hammer(
    port: int, file: Path, requests: int, changes: int, session: dict[str, str]
) -> tuple[Judge, float, int, list[tuple[str, int]]]:
    judge = Judge()
    sent = 0
    wrong: list[tuple[str, int]] = []
    kinds = {
        "even": request("/prompt", {"X-API-Key": EVEN}),
        "odd": request("/prompt", bearer(ODD)),
        "session": request("/prompt", session),
        "steady": request("/prompt", {"X-API-Key": STEADY}),
        "never": request("/prompt", bearer(NEVER)),
    }

    async def hammer(first: int) -> None:
        nonlocal sent
        order = itertools.islice(itertools.cycle(kinds.items()), first % len(kinds), None)
        with closing(Connection(port)) as connection:
            for kind, data in order:
                if sent >= requests and len(judge.done) > changes:
                    return
                sent += 1
                answer = await connection.ask(data)
                admitted = answer.status == 200
                if answer.status not in (200, 401) or admitted != {"steady": True, "never": False}.get(kind, admitted):
                    wrong.append((kind, answer.status))
                elif kind in ("even", "session"):
                    judge.note(answer.sent, answer.received, not admitted)
                elif kind == "odd":
                    judge.note(answer.sent, answer.received, admitted)

    async def change() -> None:
        for version in itertools.count(1):
            await asyncio.sleep(PERIOD)
            judge.begun.append(time.monotonic())
            write(file, version)
            judge.done.append(time.monotonic())

    started = time.monotonic()
    changing = asyncio.create_task(change())
    await asyncio.gather(*(hammer(first) for first in range(CONNECTIONS)))
    taken = time.monotonic() - started
    await stop(changing)
    return judge, taken, sent, wrong
