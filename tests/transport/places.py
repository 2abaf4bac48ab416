"""A hub's keys and sockets in a folder, and what connects to them, for tests of the edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from nbq.security import Keyring, create_keys
from nbq.settings import Connection
from nbq.transport import Arrival, HubEndpoint, PeerEndpoint
from nbq.wire import Hello, Role, ToPeer

DEADLINE_S = 10.0


class Place:
    """A hub's endpoint with fresh keys, on TCP and ipc."""

    def __init__(self, folder: Path, *, tcp: bool = True, ipc: bool = True) -> None:
        self.folder = folder / "data"
        create_keys(self.folder, "edge")
        self.keyring = Keyring(self.folder)
        self.ipc = folder / "s" if ipc else None
        self.hub = HubEndpoint(self.ipc, ["tcp://127.0.0.1:0"] if tcp else [], self.keyring)
        self.tcp = self.hub.endpoints[-1]
        self._peers: list[PeerEndpoint] = []

    def connection(self, role: Role = "client", *, over: str = "tcp") -> Connection:
        """Return the connection of a role, over TCP or ipc."""
        found = msgspec.json.decode((self.folder / f"{role}.json").read_bytes(), type=Connection)
        endpoints = [endpoint for endpoint in self.hub.endpoints if endpoint.startswith(over)]
        return msgspec.structs.replace(found, endpoints=endpoints)

    def peer(self, connection: Connection) -> PeerEndpoint:
        """Return a peer that dials."""
        made = PeerEndpoint(connection)
        self._peers.append(made)
        return made

    def arrivals(self, count: int = 1) -> list[Arrival]:
        """Return what arrives at the hub, once it is so much."""
        found: list[Arrival] = []

        def enough() -> bool:
            found.extend(self.hub.receive(0.05))
            return len(found) >= count

        wait(enough)
        return found

    def close(self) -> None:
        """Close everything."""
        for peer in self._peers:
            peer.close(0.0)
        self.hub.close()


def hello(role: Role = "client", token: str = "") -> Hello:
    """Return a greeting."""
    return Hello(1, role, token.encode(), b"12345678", {})


def messages(peer: PeerEndpoint, count: int = 1) -> list[ToPeer]:
    """Return what arrives at a peer, once it is so much."""
    found: list[ToPeer] = []

    def enough() -> bool:
        found.extend(peer.receive(0.05)[0])
        return len(found) >= count

    wait(enough)
    return found


def wait(condition: Callable[[], bool]) -> None:
    """Wait until a condition, which itself waits a little, holds."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
