"""What clients and engines of a simulated world have in common: a connection, and a loop of turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbq import wire
from nbq.wire import ToHub, ToPeer
from tests.simulation.network import Connection

if TYPE_CHECKING:
    from collections import deque

    from nbq.engines.session import EngineSession
    from nbq.session import ClientSession
    from tests.simulation.world import World

__all__ = ["PeerActor"]

_REDIAL_S = 0.5


class PeerActor:
    """A process that speaks with the hub.

    Args:
        world: Where it lives.
        session: Its half of the protocol, the real one.
    """

    def __init__(self, world: World, session: EngineSession | ClientSession) -> None:
        self.world = world
        self.session = session
        self.alive = True
        self.connection = Connection(world.network, self)
        self.inbox: list[ToPeer] = []
        self._token = wire.NO_SESSION
        self._dialled_s = world.now_s
        self._wake_s = float("inf")
        self._wakes = 0
        self.connection.attach()
        self._hello()
        self.wake(world.now_s)

    def _hello(self) -> None:
        self._dialled_s = self.world.now_s
        self.connection.send(self.session.hello(self.world.now_s), self._token)

    def deliver(self, message: ToPeer) -> None:
        """Take in a message from the network."""
        self.inbox.append(message)
        self.wake(self.world.now_s + self.world.rng.random() * 0.001)

    def wake(self, at_s: float) -> None:
        """Take a turn at that time, or before."""
        if not self.alive or at_s >= self._wake_s:
            return
        self._wake_s = at_s
        self._wakes += 1
        mine = self._wakes
        self.world.at(at_s, lambda: self._woken(mine))

    def _woken(self, wake: int) -> None:
        if self.alive and wake == self._wakes:
            self._wake_s = float("inf")
            self.turn()

    def turn(self) -> None:
        """Do what the real loop does once it is woken, and say when to be woken next."""
        raise NotImplementedError

    @property
    def at_rest(self) -> bool:
        """Return whether nothing more will come of it by itself."""
        raise NotImplementedError

    def welcome(self, message: ToPeer) -> None:
        """Speak as the session that the hub says this is."""
        if isinstance(message, wire.Welcome):
            self._token = message.session

    def send_outbox(self) -> None:
        """Send what the session wants sent, as far as the connection takes it."""
        outbox: deque[ToHub] = self.session.outbox
        while outbox and self.session.connected and self.connection.send(outbox[0], self._token):
            outbox.popleft()

    def watch_hub(self) -> None:
        """Dial again when the hub is silent."""
        now_s = self.world.now_s
        if self.session.silent(now_s) and now_s - self._dialled_s > _REDIAL_S:
            self.redial()

    def redial(self) -> None:
        """Hang up and dial again."""
        self.connection.close()
        self.connection = Connection(self.world.network, self)
        self._token = wire.NO_SESSION
        self.connection.attach()
        self._hello()

    def die(self) -> None:
        """Kill -9."""
        self.alive = False
        self.connection.close()
