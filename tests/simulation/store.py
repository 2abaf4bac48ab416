"""The simulated disk: what was committed survives, whatever dies, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from nbq.core.facts import PLACES, Fact, Forgotten, ScheduleRemoved
from nbq.errors import StoreError
from nbq.journal import Batch
from tests.simulation.workload import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Disk"]

_decoder = msgspec.msgpack.Decoder(list[Fact])


class Disk:
    """A store (``nbq.journal.Store``) whose batches are committed whole, or not at all."""

    def __init__(self, world: World) -> None:
        self.store_id = bytes(16)
        self.epoch = 0
        self.facts: dict[int, list[bytes]] = {}
        self.states: dict[int, dict[int, bytes]] = {}
        """What takes the place of what was there before, by number and place."""
        self.blocks: dict[int, dict[int, bytes]] = {}
        self.functions: dict[bytes, bytes] = {}
        self._world = world

    def recover(self) -> Iterator[Fact]:
        """Yield all committed facts, each run's in order; forget blocks that belong to no run."""
        yield from self.all_facts()
        for run in list(self.blocks):
            if run not in self.facts and run not in self.states:
                del self.blocks[run]

    def all_facts(self) -> Iterator[Fact]:
        """Yield all committed facts, each run's in order, and change nothing."""
        for run in sorted({*self.facts, *self.states}):
            states = self.states.get(run, {})
            for body in (*(states[place] for place in sorted(states)), *self.facts.get(run, ())):
                yield from _decoder.decode(body)

    def commit(self, batch: Batch) -> None:
        """Store a batch; a hub that is to die dies before this, or right after it."""
        self._world.fuse("before commit")
        for (run, number), body in batch.blocks.items():
            own = self.blocks.setdefault(run, {})
            if number in own:
                raise Violation("one block", f"block {number} of run {run} is stored twice")
            own[number] = body
        self.functions.update(batch.functions)
        for address in batch.orphans:
            del self.functions[address]
        by_run: dict[int, list[Fact]] = {}
        for fact in batch.facts:
            place = PLACES.get(type(fact))
            if place is not None:
                body = msgspec.msgpack.encode([fact])
                self._world.note("fact", body, [fact])
                self.states.setdefault(fact.run, {})[place] = body
            elif not isinstance(fact, ScheduleRemoved):
                by_run.setdefault(fact.run, []).append(fact)
        for run, facts in by_run.items():
            body = msgspec.msgpack.encode(facts)
            self._world.note("fact", body, facts)
            self.facts.setdefault(run, []).append(body)
        for run in batch.dropped:
            if run in self.facts:
                raise Violation(
                    "acked is kept", f"the blocks of run {run} are dropped, though it was accepted"
                )
            self.blocks.pop(run, None)
        for fact in batch.facts:
            if isinstance(fact, Forgotten):
                del self.facts[fact.run]
                self.blocks.pop(fact.run, None)
            elif isinstance(fact, ScheduleRemoved):
                del self.states[fact.run]
                self.blocks.pop(fact.run, None)
        self._world.invariants.on_commit(batch)
        self._world.fuse("after commit")

    def block(self, run: int, number: int) -> bytes:
        """Return a block that was committed."""
        try:
            return self.blocks[run][number]
        except KeyError:
            raise StoreError(f"lost block {number} of run {run}") from None

    def addresses(self) -> list[bytes]:
        """Return the addresses of all functions that were committed."""
        return list(self.functions)

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        return None

    def saved_count(self) -> int:
        """Return how much clients keep under ids."""
        return 0

    def function(self, address: bytes) -> bytes | None:
        """Return a function that was committed, or None."""
        return self.functions.get(address)
