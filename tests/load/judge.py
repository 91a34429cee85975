"""Finds out which version of a key file judged a request, and which versions could have."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

#: A version is in force at most this many seconds after it was written. Files are checked twice a second.
INTERVAL = 1.0

#: Clocks count in milliseconds. A request judged later than this came after a check of the file: the check is part of
#: judging, so it doesn't matter how busy the machine is.
SLACK = 0.02


@dataclass
class Judge:
    """When the file changed, and requests whose answer tells if an even or an odd version judged them.

    Version 0 was there first. Change n began at `begun[n]`, was done at `done[n]`, and brought version n + 1.
    """

    begun: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    odd: list[bool] = field(default_factory=list)

    def note(self, sent: float, received: float, odd: bool) -> None:
        """Notes a request, and which kind of version its answer points to."""
        self.sent.append(sent)
        self.received.append(received)
        self.odd.append(odd)

    def verdict(self) -> tuple[int, list[str]]:
        """Returns how many requests only one version can have judged, and the answers that no possible version
        explains.

        It is also a fault if a version judged a request that was sent after its successor had answered another one.
        """
        sharp, faults = 0, []
        #: For each version, when the first answer arrived that only this version explains.
        succeeded: dict[int, float] = {}
        deadlines = [done + INTERVAL + SLACK for done in self.done]
        for index in sorted(range(len(self.sent)), key=self.received.__getitem__):
            sent, received, odd = self.sent[index], self.received[index], self.odd[index]
            newest = bisect_right(self.begun, received)
            oldest = bisect_left(deadlines, sent)
            sharp += oldest == newest
            by = [version for version in range(oldest, newest + 1) if version % 2 == odd]
            if not by:
                faults.append(f"{sent:.4f} to {received:.4f}: judged by none of the versions {oldest} to {newest}")
            elif len(by) == 1 and succeeded.get(by[0] + 1, received) < sent:
                faults.append(f"{sent:.4f} to {received:.4f}: judged by version {by[0]} after its successor had judged")
            elif len(by) == 1:
                succeeded.setdefault(by[0], received)
        return sharp, faults
