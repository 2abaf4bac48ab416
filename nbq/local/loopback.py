"""What is between hub and peers in one process: a clock that is moved, lists for sockets, a store in memory.

Every message is encoded, and decoded as at a real socket, so that nothing is shared by accident. Nothing is
decided here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Set

from nbq import wire
from nbq.core.facts import Fact, Forgotten, ScheduleRemoved
from nbq.core.model import Now
from nbq.errors import HubError, StoreError
from nbq.journal import Batch
from nbq.settings import Connection
from nbq.transport import Arrival, Delivery
from nbq.wire import ToHub, ToPeer

__all__ = ["Clock", "LocalEndpoint", "Loopback", "MemoryStore"]

_BEGINNING_S = 1000.0


class Clock:
    """Virtual time: it stands still until it is moved. It begins at the real time of the day."""

    def __init__(self) -> None:
        self.mono_s = _BEGINNING_S
        self._offset_s = time.time() - _BEGINNING_S

    def now(self) -> Now:
        """Return both clocks."""
        return Now(self.mono_s, self.mono_s + self._offset_s)

    def read_s(self) -> float:
        """Return the monotonic clock."""
        return self.mono_s


class Loopback:
    """The hub's end of all connections."""

    def __init__(self) -> None:
        self.inbox: list[Arrival] = []
        self.peers: dict[bytes, LocalEndpoint] = {}
        self.count = 0
        """Messages that were sent, and received by peers, so far."""

    def receive(self, timeout_s: float) -> list[Arrival]:
        """Return all that has arrived; waits for nothing."""
        arrivals, self.inbox = self.inbox, []
        return arrivals

    def send(self, peer: bytes, session: bytes, message: ToPeer) -> Delivery:
        """Send a message to a peer, unless it is gone."""
        endpoint = self.peers.get(peer)
        if endpoint is None:
            return Delivery.GONE
        self.count += 1
        endpoint.inbox.append(wire.decode_to_peer(wire.encode(message, session))[1])
        return Delivery.SENT


class LocalEndpoint:
    """A peer's end of its connection.

    Args:
        loopback: The hub's end.
        pump: Called when a message is waited for, to let the others do something; None for nothing.
    """

    def __init__(self, loopback: Loopback, pump: Callable[[], object] | None = None) -> None:
        self.session = wire.NO_SESSION
        self.address = "local"
        self.inbox: list[ToPeer] = []
        self.readable: set[int] = set()
        """Descriptors of pipes that have something to be read."""
        self._loopback = loopback
        self._pump = pump
        self._peer = os.urandom(8)
        loopback.peers[self._peer] = self

    def send(self, message: ToHub) -> bool:
        """Send a message; returns True."""
        session, decoded = wire.decode_to_hub(wire.encode(message, self.session))
        self._loopback.count += 1
        self._loopback.inbox.append(Arrival(self._peer, session, decoded, None))
        return True

    def receive(self, timeout_s: float, also: Set[int] = frozenset()) -> tuple[list[ToPeer], set[int]]:
        """Return what has arrived; if that is nothing and may be waited for, others do something first."""
        if self._pump is not None and timeout_s > 0 and not self.inbox:
            self._pump()
        messages, self.inbox = self.inbox, []
        self._loopback.count += len(messages)
        ready = self.readable & also
        self.readable -= ready
        return messages, ready

    def wake(self) -> None:
        """Do nothing: nobody sleeps."""

    def reset(self, connection: Connection) -> None:
        """Begin a new session."""
        self.session = wire.NO_SESSION
        self.inbox.clear()

    def trouble(self) -> HubError | None:
        """Return None: the hub is here."""
        return None

    def close(self) -> None:
        """Be gone."""
        self._loopback.peers.pop(self._peer, None)


class MemoryStore:
    """A store that nothing is recovered from: blocks, functions and saved results, no facts."""

    def __init__(self) -> None:
        self.store_id = os.urandom(16)
        self.epoch = 1
        self._blocks: dict[int, dict[int, bytes]] = {}
        self._functions: dict[bytes, bytes] = {}
        self._saved: dict[str, bytes] = {}

    def recover(self) -> Iterator[Fact]:
        """Yield nothing."""
        return iter(())

    def commit(self, batch: Batch) -> None:
        """Keep the blocks and functions of a batch."""
        for (run, number), body in batch.blocks.items():
            self._blocks.setdefault(run, {})[number] = body
        self._functions.update(batch.functions)
        for run in batch.dropped:
            self._blocks.pop(run, None)
        for address in batch.orphans:
            self._functions.pop(address, None)
        self._saved.update(batch.saved)
        for name in [name for name, body in batch.saved.items() if not body]:
            del self._saved[name]
        for fact in batch.facts:
            if isinstance(fact, Forgotten | ScheduleRemoved):
                self._blocks.pop(fact.run, None)

    def block(self, run: int, number: int) -> bytes:
        """Return a block that was committed. Raises StoreError."""
        try:
            return self._blocks[run][number]
        except KeyError:
            raise StoreError(f"there is no block {number} of run {run}") from None

    def function(self, address: bytes) -> bytes | None:
        """Return a function that was committed, or None."""
        return self._functions.get(address)

    def addresses(self) -> list[bytes]:
        """Return the addresses of all functions that were committed."""
        return list(self._functions)

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        return self._saved.get(name)

    def saved_count(self) -> int:
        """Return how much clients keep under ids."""
        return len(self._saved)
