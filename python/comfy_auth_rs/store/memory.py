"""No store: the state ends with the process."""

from __future__ import annotations

from comfy_auth_rs.store.link import Status

__all__ = ["Memory"]


class Memory:
    """Used in place of an `Exchange`."""

    def end(self) -> None:
        """Does nothing."""

    def status(self) -> Status:
        """It is always available."""
        return Status("memory", "memory")

    async def stored(self, seconds: float) -> bool:
        """Always true: there is no store that could lack anything."""
        return True
