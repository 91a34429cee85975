"""No store: what is remembered ends with the process."""

from __future__ import annotations

from comfy_auth_rs.store.link import Status

__all__ = ["Memory"]


class Memory:
    """In the place of an `Exchange`."""

    def end(self) -> None:
        """There is nothing to carry anywhere."""

    def status(self) -> Status:
        """It is always there."""
        return Status("memory", "memory")

    async def stored(self, seconds: float) -> bool:
        """There is no place where it could be missing."""
        return True
