"""Sockets: frames in and out, nothing decided.

A hub listens on one ROUTER for ipc and one for TCP (which is always CURVE); a peer dials with one
DEALER. A frame is received with two plain ``recv``s and sent with two plain ``send``s: pyzmq's
multipart calls cost six to ten times as much (``docs/adr/0005``).
"""

from __future__ import annotations

import contextlib
import math
import os
import socket as sockets
import threading
import time
from collections.abc import Iterator, Set
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import zmq
import zmq.utils.monitor
import zmq.utils.z85

from nbq import wire
from nbq.errors import AuthenticationError, HubError, HubUnreachable, ProtocolError, SettingsError
from nbq.frames import Joiner, cut, is_piece
from nbq.security import ZAP_DOMAIN, Gatekeeper, Keyring
from nbq.settings import Connection
from nbq.wire import ToHub, ToPeer

__all__ = ["Arrival", "Delivery", "HubEndpoint", "HubTransport", "PeerEndpoint", "PeerTransport"]

_DRAIN_MESSAGES = 256
_DRAIN_S = 0.002
_HIGH_WATER = 1000
_GREETED = 10_000
_CURVE_BYTES = 64
"""What encryption adds to a frame, at most."""
_IPC, _TCP = b"\0", b"\1"

# As plain numbers: pyzmq's enumerations cost a microsecond each time they are looked at.
_DONTWAIT, _SNDMORE = int(zmq.DONTWAIT), int(zmq.SNDMORE)
_MORE, _EVENTS, _POLLIN = int(zmq.RCVMORE), int(zmq.EVENTS), int(zmq.POLLIN)


class Delivery(Enum):
    """What became of a message that was to be sent."""

    SENT = 1
    FULL = 2
    """The peer takes no more for now."""
    GONE = 3
    """There is no such peer."""


class Arrival(NamedTuple):
    """A frame from a peer. ``user`` is the peer's CURVE user id, with a Hello over TCP only."""

    peer: bytes
    session: bytes
    message: ToHub | ProtocolError
    user: str | None


class HubTransport(Protocol):
    """What a hub needs of its endpoint."""

    def receive(self, timeout_s: float) -> list[Arrival]:
        """Wait until something arrives, at most so long, and return all of it up to a bound."""
        ...

    def send(self, peer: bytes, session: bytes, message: ToPeer) -> Delivery:
        """Send a message to a peer, at once or not at all."""
        ...


class PeerTransport(Protocol):
    """What a client or an engine needs of its endpoint; see ``PeerEndpoint``."""

    session: bytes
    address: str

    def send(self, message: ToHub) -> bool:
        """Send a message; returns False, and sends nothing, when the hub takes no more for now."""
        ...

    def receive(self, timeout_s: float, also: Set[int] = frozenset()) -> tuple[list[ToPeer], set[int]]:
        """Wait for messages, descriptors or ``wake``; return what came."""
        ...

    def wake(self) -> None:
        """Let ``receive`` return at once."""
        ...

    def reset(self, connection: Connection) -> None:
        """Hang up and dial again."""
        ...

    def trouble(self) -> HubError | None:
        """Return why the hub cannot be reached, if that is known by now."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def _common(socket: zmq.Socket[bytes]) -> None:
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = _HIGH_WATER
    socket.maxmsgsize = wire.FRAME_LIMIT + _CURVE_BYTES
    socket.handshake_ivl = 5000
    socket.heartbeat_ivl = 2000
    socket.heartbeat_timeout = 10000
    socket.heartbeat_ttl = 10000
    socket.tcp_keepalive = 1


class HubEndpoint:
    """The hub's sockets.

    Args:
        ipc: The path of the Unix socket, in a folder that only this user can enter.
        tcp: Addresses to listen on, ``tcp://HOST:PORT`` (port 0 takes a free one).
        keyring: The keys that may come in over TCP.
        advertise: What others dial instead of the bound host.

    Raises:
        SettingsError: An address cannot be listened on.
    """

    def __init__(
        self, ipc: Path | None, tcp: list[str], keyring: Keyring, advertise: str | None = None
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = min(4096, self._context.get(zmq.SOCKET_LIMIT))
        self._gatekeeper = Gatekeeper(self._context, keyring) if tcp else None
        self._poller = zmq.Poller()
        self._waker = _Waker()
        self._poller.register(self._waker.fd, zmq.POLLIN)
        self._sockets: dict[bytes, zmq.Socket[bytes]] = {}
        self._greeted: dict[bytes, str] = {}
        """Users of the TCP peers whose hello has been received: it is looked up but once."""
        self._joiner = Joiner()
        self.endpoints: list[str] = []
        try:
            if ipc is not None:
                self._listen_ipc(ipc)
            if tcp:
                self._listen_tcp(tcp, keyring, advertise)
        except (SettingsError, zmq.ZMQError):
            self.close()
            raise

    def _socket(self, kind: bytes) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        _common(socket)
        socket.router_mandatory = True
        socket.backlog = 512
        self._sockets[kind] = socket
        self._poller.register(socket, zmq.POLLIN)
        return socket

    def _listen_ipc(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket(_IPC).bind(f"ipc://{path}")
        path.chmod(0o600)
        self.endpoints.append(f"ipc://{path}")

    def _listen_tcp(self, addresses: list[str], keyring: Keyring, advertise: str | None) -> None:
        socket = self._socket(_TCP)
        socket.curve_server = True
        socket.curve_publickey = keyring.public_key.encode()
        socket.curve_secretkey = keyring.secret_key.encode()
        socket.zap_domain = ZAP_DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        for address in addresses:
            if not address.startswith("tcp://"):
                raise SettingsError(f"cannot listen on {address!r}: use tcp://HOST:PORT")
            try:
                socket.bind(address if urlsplit(address).port else address.removesuffix(":0") + ":*")
            except (zmq.ZMQError, ValueError) as error:
                raise SettingsError(f"cannot listen on {address}: {error}") from None
            bound = socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            port = urlsplit(bound).port
            self.endpoints.append(f"tcp://{advertise}:{port}" if advertise else bound)

    def receive(self, timeout_s: float) -> list[Arrival]:
        """Wait until something arrives, at most so long, and return all of it up to a bound."""
        arrivals: list[Arrival] = []
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1000)))
        if self._waker.fd in ready:
            self._waker.clear()
        for kind, socket in self._sockets.items():
            if socket in ready:
                self._drain(kind, socket, arrivals)
        return arrivals

    def wake(self) -> None:
        """Let ``receive`` return at once; from any thread, and from signal handlers."""
        self._waker.wake()

    def _drain(self, kind: bytes, socket: zmq.Socket[bytes], arrivals: list[Arrival]) -> None:
        """Receive from a socket that has something."""
        until = time.perf_counter() + _DRAIN_S
        recv, option = socket.recv, socket.getsockopt
        for _ in range(_DRAIN_MESSAGES):
            peer = kind + recv()
            if kind == _TCP and peer not in self._greeted:
                arrivals.append(self._receive_hello(peer, socket))
            else:
                frame = recv()
                if option(_MORE):
                    _skip(socket)
                    arrivals.append(Arrival(peer, wire.NO_SESSION, ProtocolError("two frames"), None))
                else:
                    whole = self._joiner.join(peer, frame) if is_piece(frame) else frame
                    if whole is not None:
                        arrivals.append(_arrival(peer, whole, self._greeted.get(peer)))
            if not cast(int, option(_EVENTS)) & _POLLIN or time.perf_counter() > until:
                return

    def _receive_hello(self, peer: bytes, socket: zmq.Socket[bytes]) -> Arrival:
        """Receive the first frame of a TCP peer, with the user id that its handshake proved."""
        frame = socket.recv(copy=False)
        user = str(frame.get("User-Id"))
        if socket.rcvmore:
            _skip(socket)
            return Arrival(peer, wire.NO_SESSION, ProtocolError("two frames"), user)
        arrival = _arrival(peer, frame.bytes, user)
        if not isinstance(arrival.message, wire.Hello):
            return arrival
        self._greeted[peer] = user
        if len(self._greeted) > _GREETED:
            del self._greeted[next(iter(self._greeted))]  # gone long since, or it is looked up once more
        return arrival

    def send(self, peer: bytes, session: bytes, message: ToPeer) -> Delivery:
        """Send a message to a peer, at once or not at all."""
        socket = self._sockets[peer[:1]]
        frame = wire.encode(message, session)
        try:
            for piece in (frame,) if len(frame) <= wire.FRAME_LIMIT else cut(frame):
                socket.send(peer[1:], _SNDMORE | _DONTWAIT)
                socket.send(piece, _DONTWAIT)
        except zmq.Again:
            return Delivery.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._greeted.pop(peer, None)
            return Delivery.GONE
        return Delivery.SENT

    def close(self) -> None:
        """Close the sockets, after what was sent has had a moment to leave."""
        for socket in self._sockets.values():
            socket.close(linger=200)
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        self._waker.close()
        self._context.term()


def _skip(socket: zmq.Socket[bytes]) -> None:
    while socket.rcvmore:
        socket.recv()


def _arrival(peer: bytes, frame: bytes, user: str | None) -> Arrival:
    try:
        session, message = wire.decode_to_hub(frame)
    except ProtocolError as error:
        return Arrival(peer, frame[: wire.SESSION_BYTES], error, user)
    return Arrival(peer, session, message, user if isinstance(message, wire.Hello) else None)


class _Waker:
    """Ends a wait on descriptors from another thread, or from a signal handler."""

    def __init__(self) -> None:
        self.fd, self._in = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._in, False)

    def wake(self) -> None:
        """Let ``fd`` be readable."""
        with contextlib.suppress(OSError):  # it is readable already, or closed
            os.write(self._in, b"\0")

    def clear(self) -> None:
        """Let ``fd`` not be readable any more."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Free both descriptors."""
        os.close(self.fd)
        os.close(self._in)
        self.fd = self._in = -1  # whoever wakes it late must not write into another file


class PeerEndpoint:
    """A peer's socket.

    Used by one thread, but for ``wake``.

    Args:
        connection: Where the hub listens, and the keys. The ipc endpoint is taken where it exists; while
            there is no endpoint to dial, nothing is sent and nothing arrives.
    """

    def __init__(self, connection: Connection) -> None:
        self.session = wire.NO_SESSION
        self._connection = connection
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._waker = _Waker()
        self._lock = threading.Lock()
        self._closed = False
        self._dial()

    def _dial(self) -> None:
        self.address = choose_endpoint(self._connection)
        self._socket = self._context.socket(zmq.DEALER)
        _common(self._socket)
        self._socket.reconnect_ivl = 100
        self._socket.reconnect_ivl_max = 1000
        if self.address.startswith("tcp://"):
            self._socket.curve_serverkey = self._connection.server_key.encode()
            self._socket.curve_publickey = self._connection.public_key.encode()
            self._socket.curve_secretkey = self._connection.secret_key.encode()
        self._monitor = self._socket.get_monitor_socket()
        if self.address:
            self._socket.connect(self.address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._waker.fd, zmq.POLLIN)
        self._also: set[int] = set()
        self._joiner = Joiner()

    def send(self, message: ToHub) -> bool:
        """Send a message; returns False, and sends nothing, when the hub takes no more for now."""
        frame = wire.encode(message, self.session)
        try:
            for piece in (frame,) if len(frame) <= wire.FRAME_LIMIT else cut(frame):
                self._socket.send(piece, _DONTWAIT)
        except zmq.Again:
            return False
        return True

    def receive(self, timeout_s: float, also: Set[int] = frozenset()) -> tuple[list[ToPeer], set[int]]:
        """Wait until a message arrives, a descriptor of ``also`` can be read, or ``wake`` is called.

        Returns:
            The messages, up to a bound, and the descriptors that can be read.

        Raises:
            ProtocolError: The hub sent what is no message.
        """
        if self._also != also:
            self._register(set(also))
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1000)))
        if self._waker.fd in ready:
            self._waker.clear()
        messages = list(self._drain()) if self._socket in ready else []
        return messages, {fd for fd in self._also if fd in ready}

    def _register(self, also: set[int]) -> None:
        for fd in self._also - also:
            self._poller.unregister(fd)
        for fd in also - self._also:
            self._poller.register(fd, zmq.POLLIN)
        self._also = also

    def _drain(self) -> Iterator[ToPeer]:
        for _ in range(_DRAIN_MESSAGES):
            frame = self._socket.recv()
            whole = self._joiner.join(b"", frame) if is_piece(frame) else frame
            if whole is not None:
                yield wire.decode_to_peer(whole)[1]
            if not cast(int, self._socket.getsockopt(_EVENTS)) & _POLLIN:
                return

    def wake(self) -> None:
        """Let ``receive`` return at once; from any thread, and from signal handlers."""
        self._waker.wake()

    def reset(self, connection: Connection) -> None:
        """Hang up and dial again, where the hub listens now."""
        self._hang_up()
        self.session = wire.NO_SESSION
        self._connection = connection
        self._dial()

    def trouble(self) -> HubError | None:
        """Return why the hub cannot be reached, if that is known by now."""
        if not self.address:
            return HubUnreachable(
                f"the hub {self._connection.name!r} does not run on this host, and its connection file "
                f"names no address: start it with 'nbq hub --name {self._connection.name}'"
            )
        found: HubError | None = None
        while self._monitor.poll(0):
            event = zmq.utils.monitor.recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                found = self._wrong_key()
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # it hung up: it ended, or the key is wrong
                keyless = self.address.startswith("ipc://")
                found = found or refused(self.address) or (None if keyless else self._wrong_key())
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                found = AuthenticationError(f"what listens at {self.address} is not an nbq hub")
            elif event in (zmq.EVENT_CONNECT_RETRIED, zmq.EVENT_CLOSED):
                found = found or refused(self.address)
        return found

    def _wrong_key(self) -> AuthenticationError:
        return AuthenticationError(
            f"the hub at {self.address} does not know this key, or is not the hub of this "
            "connection file: copy the file again from the hub's data folder"
        )

    def _hang_up(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def close(self, linger_s: float = 0.2) -> None:
        """Close the socket, after what was sent has had a moment to leave."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger_s * 1000))
        self._waker.close()
        self._context.term()


def choose_endpoint(connection: Connection) -> str:
    """Return the endpoint to dial: the Unix socket where it exists, else TCP, else ""."""
    others: list[str] = []
    for endpoint in connection.endpoints:
        if not endpoint.startswith("ipc://"):
            others.append(endpoint)
        elif Path(endpoint.removeprefix("ipc://")).is_socket():
            return endpoint
    return others[0] if others else ""


def refused(address: str, timeout_s: float = 1.0) -> HubUnreachable | None:
    """Return an error if nothing listens at an address (asked by dialling once more)."""
    try:
        if address.startswith("ipc://"):
            with sockets.socket(sockets.AF_UNIX) as probe:
                probe.settimeout(timeout_s)
                probe.connect(address.removeprefix("ipc://"))
        else:
            parts = urlsplit(address)
            with sockets.create_connection((parts.hostname, parts.port), timeout_s):
                pass
    except (ConnectionRefusedError, FileNotFoundError):
        return HubUnreachable(f"nothing listens at {address}: is the hub running?")
    except OSError as error:
        return HubUnreachable(f"cannot reach {address}: {error}")
    return None
