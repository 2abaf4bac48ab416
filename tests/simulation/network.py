"""The simulated network: one connection for each peer, and the hub's end of all of them.

Calm, a connection is what ZeroMQ gives: in order and complete as long as it lives. Nasty, frames are also
lost, doubled and overtaken. Every message is encoded and decoded on its way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from nbq import wire
from nbq.errors import ProtocolError
from nbq.transport import Arrival, Delivery
from nbq.wire import ToHub, ToPeer

if TYPE_CHECKING:
    from tests.simulation.peers import PeerActor
    from tests.simulation.world import World

__all__ = ["Connection", "Network", "Weather"]

_TURN_FRAMES = 64
_TICK_S = 1e-6
"""A wait that ends has taken some time, or rounding could let the world stand still."""


class Weather(Struct):
    """How the network behaves; chances are for each frame, times in seconds."""

    loss: float = 0.0
    double: float = 0.0
    shuffle: float = 0.0
    delay_s: float = 0.001
    slow_s: float = 0.0
    """The longest of the rare delays."""
    high_water: int = 1000


class Connection:
    """The socket of a peer: attached to the hub under a name, which changes when it is attached anew."""

    def __init__(self, network: Network, owner: PeerActor) -> None:
        self.owner = owner
        self.name: bytes | None = None
        self.closed = False
        self.flying = 0
        """Frames on their way to the peer."""
        self._network = network
        self._waiting: deque[bytes] = deque()
        self._latest_s = {"up": 0.0, "down": 0.0}
        self.cut_until_s = 0.0

    def send(self, message: ToHub, session: bytes) -> bool:
        """Send a message to the hub, or keep it until there is one; False when it takes no more."""
        if len(self._waiting) >= self._network.weather.high_water:
            return False
        frame = wire.encode(message, session)
        self._network.world.invariants.on_said(message)
        if self.name is None:
            self._waiting.append(frame)
        else:
            self._network.carry_up(self, frame)
        return True

    def attach(self) -> None:
        """Be connected to the hub that is there now."""
        if self.closed or self.name is not None or self._network.world.hub is None:
            return
        self.name = self._network.new_name(self)
        while self._waiting:
            self._network.carry_up(self, self._waiting.popleft())

    def detach(self) -> None:
        """Lose the connection, and what is on its way; the socket connects again by itself."""
        if self.name is None:
            return
        self._network.connections.pop(self.name, None)
        self.name = None
        self.flying = 0
        if not self.closed:
            world = self._network.world
            world.after(world.rng.uniform(0.05, 0.5), self.attach)

    def close(self) -> None:
        """Hang up for good."""
        self.closed = True
        self.detach()

    def arrival_s(self, way: str) -> float | None:
        """Return when a frame that is sent now arrives, or None if it is lost."""
        world, weather = self._network.world, self._network.weather
        rng = world.rng
        if weather.loss and (rng.random() < weather.loss or world.now_s < self.cut_until_s):
            return None
        delay_s = rng.random() * weather.delay_s
        if weather.slow_s and rng.random() < 0.02:
            delay_s += rng.random() * weather.slow_s
        at_s = max(world.now_s, self.cut_until_s) + delay_s
        if weather.shuffle and rng.random() < weather.shuffle:
            return at_s
        at_s = self._latest_s[way] = max(at_s, self._latest_s[way])
        return at_s


class Network:
    """All connections; the hub's endpoint (``nbq.transport.HubTransport``)."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.weather = weather
        self.connections: dict[bytes, Connection] = {}
        self.inbox: deque[Arrival] = deque()
        self.asked_s = 0.0
        self._names = 0

    def new_name(self, connection: Connection) -> bytes:
        """Return the name under which the hub knows a new connection."""
        self._names += 1
        name = b"peer%06d" % self._names
        self.connections[name] = connection
        return name

    def hub_lost(self) -> None:
        """The hub's process is gone, with everything on its way to it and from it."""
        self.inbox.clear()
        for connection in list(self.connections.values()):
            connection.detach()

    def _copies(self, connection: Connection, way: str) -> list[float]:
        first_s = connection.arrival_s(way)
        if first_s is None:
            return []
        if self.weather.double and self.world.rng.random() < self.weather.double:
            return [first_s, first_s + self.world.rng.random() * 0.2]
        return [first_s]

    # -------------------------------------------------------------- to the hub

    def carry_up(self, connection: Connection, frame: bytes) -> None:
        """Let a frame travel to the hub."""
        name = connection.name
        assert name is not None
        for at_s in self._copies(connection, "up"):
            self.world.at(at_s, lambda: self._arrive(connection, name, frame))

    def _arrive(self, connection: Connection, name: bytes, frame: bytes) -> None:
        if connection.name != name:
            return
        session, message = wire.decode_to_hub(frame)
        self.world.note("up", frame, message)
        self.inbox.append(Arrival(name, session, message, None))

    def receive(self, timeout_s: float) -> list[Arrival]:
        """Let the world go on until something is here for the hub, or its time is over."""
        world = self.world
        until_s = world.now_s + timeout_s
        while not self.inbox and world.step(until_s):
            pass
        if self.inbox:
            until_s = world.now_s + world.rng.random() * world.profile.turn_s
            while world.step(until_s):
                pass
        else:
            world.now_s = max(world.now_s + _TICK_S, until_s)
        count = min(len(self.inbox), _TURN_FRAMES)
        return [self.inbox.popleft() for _ in range(count)]

    # -------------------------------------------------------------- to a peer

    def send(self, peer: bytes, session: bytes, message: ToPeer) -> Delivery:
        """Send a message to a peer, at once or not at all."""
        connection = self.connections.get(peer)
        if connection is None:
            return Delivery.GONE
        if connection.flying >= self.weather.high_water:
            return Delivery.FULL
        self.world.fuse("send")
        frame = wire.encode(message, session)
        if len(frame) > wire.FRAME_LIMIT:
            raise ProtocolError("a frame is too large")
        self.world.invariants.on_sent(connection.owner, message)
        for at_s in self._copies(connection, "down"):
            connection.flying += 1
            self.world.at(at_s, lambda: self._reach(connection, peer, frame))
        return Delivery.SENT

    def _reach(self, connection: Connection, name: bytes, frame: bytes) -> None:
        if connection.name != name:
            return
        connection.flying -= 1
        message = wire.decode_to_peer(frame)[1]
        self.world.note("down", frame, message)
        connection.owner.deliver(message)
