"""A hub whose peers are in memory: every message is encoded and decoded, as on a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from nbq import wire
from nbq.blobs import BlobFolder
from nbq.core.facts import Fact
from nbq.core.model import EngineInfo, Graph, NodeSpec, Now, Slice
from nbq.errors import ProtocolError, StoreError
from nbq.hub import Hub, HubInfo
from nbq.journal import Batch
from nbq.transport import Arrival, Delivery

RUN = bytes(range(16))
FUNCTION = bytes(range(16, 32))
GRAPH = Graph([NodeSpec("t", FUNCTION, 2)], value=Slice(0, 0, 1))
BLOCK = wire.Block(0, 0, 2, b"calls", 5)
ENGINE = EngineInfo("e1", "host", 7, 2, ["default"])
ROLES: tuple[wire.Role, ...] = ("client", "engine", "viewer")


class Loopback:
    """The hub's endpoint: what peers sent lies in a list, and so does what they are sent."""

    def __init__(self) -> None:
        self.sent: dict[bytes, list[tuple[bytes, wire.ToPeer]]] = {}
        self.gone: set[bytes] = set()
        self._arrivals: list[Arrival] = []

    def put(self, peer: bytes, frame: bytes) -> None:
        """Let a frame arrive."""
        session, message = frame[:8], None
        try:
            session, message = wire.decode_to_hub(frame)
        except ProtocolError as error:
            message = error
        self._arrivals.append(Arrival(peer, session, message, None))

    def receive(self, timeout_s: float) -> list[Arrival]:
        """Return what arrived."""
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    def send(self, peer: bytes, session: bytes, message: wire.ToPeer) -> Delivery:
        """Keep a message for a peer."""
        if peer in self.gone:
            return Delivery.GONE
        self.sent.setdefault(peer, []).append(wire.decode_to_peer(wire.encode(message, session)))
        return Delivery.SENT


class MemoryStore:
    """A store in memory."""

    store_id = bytes(16)
    epoch = 1

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.blocks: dict[tuple[int, int], bytes] = {}
        self.functions: dict[bytes, bytes] = {}
        self.kept: dict[str, bytes] = {}

    def recover(self) -> Iterator[Fact]:
        """Yield all facts."""
        yield from self.facts

    def commit(self, batch: Batch) -> None:
        """Keep a batch, which has to be one that a journal can hold."""
        self.facts += msgspec.msgpack.decode(msgspec.msgpack.encode(batch.facts), type=list[Fact])
        for (run, number), data in batch.blocks.items():
            assert (run, number) not in self.blocks
            self.blocks[run, number] = data
        self.functions.update(batch.functions)
        self.kept.update(batch.saved)

    def block(self, run: int, number: int) -> bytes:
        """Return a block."""
        if (run, number) not in self.blocks:
            raise StoreError(f"no block {number} of run {run}")
        return self.blocks[run, number]

    def function(self, address: bytes) -> bytes | None:
        """Return a function."""
        return self.functions.get(address)

    def addresses(self) -> list[bytes]:
        """Return the addresses of all functions."""
        return list(self.functions)

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id."""
        return self.kept.get(name) or None

    def saved_count(self) -> int:
        """Return how much clients keep."""
        return sum(map(bool, self.kept.values()))


class Memory:
    """A hub with a store, a clock that is set by hand, and peers of each role."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = Loopback()
        self.store = MemoryStore()
        self.now = Now(1000.0, 1_700_000_000.0)
        info = HubInfo("memory", "none", 1, {"nbq": "0"})
        self.blobs = BlobFolder(folder / "blobs")
        self.hub = Hub(self.endpoint, self.store, lambda: self.now, info, self._identify, self.blobs)
        self.sessions: dict[bytes, bytes] = {}

    def _identify(self, user: str | None, token: bytes) -> tuple[str, wire.Role] | None:
        found = {role.encode(): role for role in ROLES}.get(token)
        return (f"key-{found}", found) if found is not None else None

    def pass_time(self, seconds: float) -> None:
        """Move both clocks."""
        self.now = Now(self.now.mono_s + seconds, self.now.wall_s + seconds)

    def join(self, role: wire.Role, peer: bytes | None = None) -> bytes:
        """Let a peer say hello; returns how it is addressed."""
        peer = peer or b"\0" + role.encode()
        engine = ENGINE if role == "engine" else None
        own_id = peer.ljust(16, b"-")[:16]
        welcome, *_ = self.say(peer, wire.Hello(wire.PROTOCOL, role, role.encode(), own_id, {}, engine))
        assert isinstance(welcome, wire.Welcome)
        self.sessions[peer] = welcome.session
        return peer

    def say(self, peer: bytes, *messages: wire.ToHub) -> list[wire.ToPeer]:
        """Let a peer send messages; returns what it is sent in the hub's next turns."""
        session = self.sessions.get(peer, wire.NO_SESSION)
        return self.put(peer, *(wire.encode(message, session) for message in messages))

    def put(self, peer: bytes, *frames: bytes) -> list[wire.ToPeer]:
        """Let frames of a peer arrive; returns what it is sent in the hub's next turns."""
        self.endpoint.sent.pop(peer, None)
        for frame in frames:
            self.endpoint.put(peer, frame)
        self.hub.turn(0.0)
        self.hub.turn(0.0)  # an idle one: what is owed to peers is sent
        return [m for _, m in self.endpoint.sent.pop(peer, []) if not isinstance(m, wire.Pong)]

    def submit(self, run: bytes = RUN) -> list[wire.ToPeer]:
        """Let the client submit a run of two elements."""
        functions = wire.PutFunctions({FUNCTION: b"code"})
        return self.say(b"\0client", functions, wire.Submit(run, GRAPH, [BLOCK]))
