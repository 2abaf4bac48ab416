"""No key, no byte: over TCP nothing of a stranger reaches Python, and the stranger is told why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from nbq import wire
from nbq.errors import AuthenticationError, HubError
from nbq.security import Gatekeeper, Keyring
from nbq.settings import Connection
from nbq.transport import HubEndpoint, PeerEndpoint
from tests.transport.places import Place, hello, wait

ZAP = "inproc://zeromq.zap.01"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, ipc=False)
    yield made
    made.close()


def nothing_of(place: Place, trouble: Callable[[], bool]) -> None:
    """Wait for a stranger's trouble, then for a friend's hello: all that may have arrived."""
    arrivals = []

    def refused() -> bool:
        arrivals.extend(place.hub.receive(0.02))
        return trouble()

    wait(refused)
    friend = place.peer(place.connection())
    friend.send(hello())
    arrivals += place.arrivals()
    assert [arrival.message for arrival in arrivals] == [hello()]


def trouble_of(peer: PeerEndpoint) -> tuple[Callable[[], bool], list[HubError]]:
    """Return a condition that a peer is in trouble, and where the trouble is put."""
    found: list[HubError] = []

    def trouble() -> bool:
        error = peer.trouble()
        if error is not None:
            found.append(error)
        return bool(found)

    return trouble, found


def stranger(place: Place, how: str) -> Connection:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    changes = {
        "an unknown key": {"public_key": public, "secret_key": secret},
        "another hub's key": {"server_key": public},
        "a secret of another key": {"secret_key": secret},
    }
    return msgspec.structs.replace(place.connection(), **changes[how])


@pytest.mark.parametrize("how", ["an unknown key", "another hub's key", "a secret of another key"])
def test_a_stranger_is_refused_before_anything_is_received(place: Place, how: str) -> None:
    peer = place.peer(stranger(place, how))
    peer.send(hello())
    trouble, found = trouble_of(peer)
    nothing_of(place, trouble)
    assert isinstance(found[0], AuthenticationError)
    assert str(found[0]) == (
        f"the hub at {place.tcp} does not know this key, or is not the hub of this "
        "connection file: copy the file again from the hub's data folder"
    )


def test_the_hubs_own_key_is_no_peer(place: Place) -> None:
    own = msgspec.structs.replace(
        place.connection(), public_key=place.keyring.public_key, secret_key=place.keyring.secret_key
    )
    peer = place.peer(own)
    peer.send(hello())
    trouble, found = trouble_of(peer)
    nothing_of(place, trouble)
    assert isinstance(found[0], AuthenticationError)


@pytest.mark.parametrize("mechanism", ["null", "plain"])
def test_a_client_without_curve_is_refused(place: Place, mechanism: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    if mechanism == "plain":
        socket.plain_username, socket.plain_password = b"user", b"password"
    monitor = socket.get_monitor_socket()
    socket.connect(place.tcp)
    socket.send(wire.encode(hello()))
    closed = (
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_DISCONNECTED,
    )

    def refused() -> bool:
        return bool(monitor.poll(10)) and zmq.utils.monitor.recv_monitor_message(monitor)["event"] in closed

    nothing_of(place, refused)
    socket.disable_monitor()
    monitor.close()
    socket.close()
    context.term()


def test_what_is_no_hub_is_not_taken_for_one(place: Place) -> None:
    context = zmq.Context()
    other = context.socket(zmq.ROUTER)
    other.linger = 0
    port = other.bind_to_random_port("tcp://127.0.0.1")
    peer = place.peer(msgspec.structs.replace(place.connection(), endpoints=[f"tcp://127.0.0.1:{port}"]))
    peer.send(hello())
    trouble, found = trouble_of(peer)
    wait(lambda: trouble() or bool(other.poll(10)))
    assert isinstance(found[0], AuthenticationError)
    assert f"tcp://127.0.0.1:{port}" in str(found[0])
    other.close()
    context.term()


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "at the next start"])
@pytest.mark.parametrize("role", ["client", "engine", "viewer"])
def test_a_key_that_was_taken_back_is_refused(restart: bool, tmp_path: Path, role: wire.Role) -> None:
    made = Place(tmp_path, ipc=False)
    (note,) = [path for path in (made.folder / "authorized").iterdir() if role.encode() in path.read_bytes()]
    revoked = made.connection(role)
    note.unlink()
    if restart:
        made.hub.close()
        made.hub = HubEndpoint(None, [made.tcp], Keyring(made.folder))
    peer = made.peer(revoked)
    peer.send(hello(role))
    trouble, found = trouble_of(peer)
    wait(lambda: trouble() or bool(made.hub.receive(0.02)))
    assert isinstance(found[0], AuthenticationError)
    made.close()


def test_without_its_gatekeeper_a_hub_lets_nobody_in(place: Place) -> None:
    assert place.hub._gatekeeper is not None
    place.hub._gatekeeper.close()
    peer = place.peer(place.connection())
    peer.send(hello())
    arrivals = []
    monitor = place.hub._sockets[b"\1"].get_monitor_socket()

    def refused() -> bool:
        arrivals.extend(place.hub.receive(0.02))
        if not monitor.poll(0):
            return False
        event = zmq.utils.monitor.recv_monitor_message(monitor)["event"]
        return event in (
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_DISCONNECTED,
        )  # fmt: skip

    wait(refused)
    assert arrivals == []
    place.hub._sockets[b"\1"].disable_monitor()
    monitor.close(linger=0)
    place.hub._gatekeeper = None


class Zap:
    """A gatekeeper, and a socket that asks it whatever it likes."""

    def __init__(self, keyring: Keyring) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.gatekeeper = Gatekeeper(self.context, keyring)
        self.socket = self.context.socket(zmq.REQ)
        self.socket.linger = 0
        self.socket.rcvtimeo = 10_000
        self.socket.connect(ZAP)

    def ask(self, *frames: bytes) -> list[bytes]:
        """Return the answer to a request."""
        self.socket.send_multipart(frames)
        return self.socket.recv_multipart()

    def close(self) -> None:
        """Close everything."""
        self.socket.close()
        self.gatekeeper.close()
        self.context.term()


@pytest.fixture
def zap(place: Place) -> Iterator[Zap]:
    made = Zap(place.keyring)
    yield made
    made.close()


def key_of(place: Place) -> bytes:
    return zmq.utils.z85.decode(place.connection().public_key)


def test_a_known_key_gets_its_id_and_role(place: Place, zap: Zap) -> None:
    user = place.keyring.user_of_key(place.connection().public_key)
    assert user is not None
    answer = zap.ask(b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", key_of(place))
    assert answer == [b"1.0", b"7", b"200", b"OK", user.encode(), b""]
    assert user.endswith(":client")


REQUESTS = {
    "an unknown key": (b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", bytes(32)),
    "another domain": (b"1.0", b"7", b"other", b"127.0.0.1", b"", b"CURVE", b"KEY"),
    "no domain": (b"1.0", b"7", b"", b"127.0.0.1", b"", b"CURVE", b"KEY"),
    "another version": (b"2.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", b"KEY"),
    "another mechanism": (b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"PLAIN", b"KEY"),
    "no mechanism": (b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"NULL"),
    "a short key": (b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", b"short"),
    "two keys": (b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", b"KEY", b"KEY"),
    "garbage": (b"\xff\xfe", b"7", b"\xc1"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_everything_else_is_refused(place: Place, zap: Zap, request_: tuple[bytes, ...]) -> None:
    frames = [key_of(place) if frame == b"KEY" else frame for frame in request_]
    assert zap.ask(*frames) == [b"1.0", b"7", b"400", b"unknown key", b"", b""]


def test_the_gatekeeper_survives_garbage(place: Place, zap: Zap) -> None:
    for frames in ([b""], [b"x"], [b""] * 20, [b"\x00" * 100_000], [b"1.0"]):
        assert zap.ask(*frames)[2] == b"400"
    loose = zap.context.socket(zmq.DEALER)
    loose.linger = 0
    loose.connect(ZAP)
    loose.send_multipart([b"no delimiter"])
    loose.send(b"")
    answer = zap.ask(b"1.0", b"7", b"nbq", b"127.0.0.1", b"", b"CURVE", key_of(place))
    assert answer[2] == b"200"
    loose.close()
