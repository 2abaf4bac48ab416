"""Argument blocks of runs that have not been submitted yet: a large submit comes in several messages.

Keeps count of them, within a bound; what is stored of them is the hub's batch, and never looked into.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from nbq import wire
from nbq.core.model import NONE, BlockMeta
from nbq.peers import Session

__all__ = ["Staging", "Stagings", "Taken"]

_STAGED_BYTES = 4 << 30


class Staging(Struct):
    """The blocks of one run, stored under the number that was reserved for it."""

    number: int
    session: Session
    blocks: list[BlockMeta] = []
    size: int = 0


class Taken(Struct, frozen=True):
    """What became of a Stage: the answer, blocks to store by run and number, and a run to drop."""

    reply: wire.Staged | wire.Rejected
    blocks: dict[tuple[int, int], bytes] = {}
    dropped: int = NONE


class Stagings:
    """All runs that are being staged."""

    def __init__(self) -> None:
        self._staging: dict[bytes, Staging] = {}
        self._bytes = 0

    def get(self, run: bytes) -> Staging | None:
        """Return what is staged of a run, or None."""
        return self._staging.get(run)

    def of(self, session: Session) -> list[bytes]:
        """Return the runs that a session stages."""
        return [run for run, staging in self._staging.items() if staging.session is session]

    def drop(self, run: bytes) -> int:
        """Forget what is staged of a run; returns its number."""
        staging = self._staging.pop(run)
        self._bytes -= staging.size
        return staging.number

    def take(self, session: Session, message: wire.Stage, reserve: Callable[[], int]) -> Taken:
        """Take in the next blocks of a run; ``reserve`` gives a new run its number."""
        dropped = NONE
        staging = self._staging.get(message.run)
        if staging is None or staging.session is not session:
            if message.first:  # its beginning is missing, or was refused
                return Taken(wire.Staged(message.run, 0))
            if staging is not None:
                dropped = self.drop(message.run)
            staging = self._staging[message.run] = Staging(reserve(), session)
        blocks: dict[tuple[int, int], bytes] = {}
        if message.first == len(staging.blocks):
            size = sum(len(block.data) for block in message.blocks)
            if self._bytes + size > _STAGED_BYTES:
                text = "the hub holds too many arguments of runs not submitted yet; try again later"
                return Taken(wire.Rejected("busy", text, message.run), dropped=self.drop(message.run))
            for block in message.blocks:
                if not block.blob:
                    blocks[staging.number, len(staging.blocks)] = block.data
                staging.blocks.append(block.meta())
            staging.size += size
            self._bytes += size
        return Taken(wire.Staged(message.run, len(staging.blocks)), blocks, dropped)
