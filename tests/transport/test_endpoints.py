"""Sockets: what is sent arrives as it was, what cannot be sent is said, nothing odd stops the hub's loop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from nbq import transport, wire
from nbq.errors import HubUnreachable, ProtocolError, SettingsError
from nbq.settings import Connection
from nbq.transport import Delivery, HubEndpoint, PeerEndpoint, choose_endpoint
from tests.transport.places import Place, hello, messages, wait

SESSION = bytes(range(8))


@pytest.fixture(params=["tcp", "ipc"])
def over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.fixture
def raw(place: Place) -> Iterator[zmq.Socket[bytes]]:
    """A socket of the right kind that speaks anything over ipc."""
    context = zmq.Context()
    made = context.socket(zmq.DEALER)
    made.linger = 0
    made.connect(f"ipc://{place.ipc}")
    yield made
    made.close()
    context.term()


def test_messages_arrive_as_they_were_sent(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    greeting = hello()
    peer.send(greeting)
    (first,) = place.arrivals()
    assert (first.session, first.message) == (wire.NO_SESSION, greeting)
    assert place.hub.send(first.peer, SESSION, wire.Pong(7)) is Delivery.SENT
    assert messages(peer) == [wire.Pong(7)]
    peer.session = SESSION
    peer.send(wire.Ping())
    (second,) = place.arrivals()
    assert second == (first.peer, SESSION, wire.Ping(), None)


def test_the_user_is_known_over_tcp_and_not_over_ipc(place: Place, over: str) -> None:
    peer = place.peer(place.connection("engine", over=over))
    peer.send(hello("engine"))
    (arrival,) = place.arrivals()
    key = place.connection("engine").public_key
    assert arrival.user == (place.keyring.user_of_key(key) if over == "tcp" else None)


def test_a_second_hello_over_tcp_still_comes_from_the_user_of_the_key(place: Place) -> None:
    peer = place.peer(place.connection("viewer"))
    for _ in range(2):
        peer.send(hello("viewer"))
    first, second = place.arrivals(2)
    assert first.user is not None
    assert second == first


def test_many_messages_keep_their_order(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    sent: list[wire.ToHub] = [hello()]
    peer.send(sent[0])
    place.arrivals()
    sent = [wire.Fetch(number, "ab" * 16, number) for number in range(900)]
    assert all(peer.send(message) for message in sent)
    assert [arrival.message for arrival in place.arrivals(900)] == sent


def test_one_receive_takes_in_a_bounded_number(place: Place) -> None:
    peer = place.peer(place.connection(over="ipc"))
    for _ in range(900):
        peer.send(wire.Ping())
    first = place.arrivals()
    assert len(first) <= transport._DRAIN_MESSAGES
    assert len(place.arrivals(900 - len(first))) == 900 - len(first)


def test_peers_are_told_apart(place: Place) -> None:
    peers = {over: place.peer(place.connection(over=over)) for over in ("tcp", "ipc")}
    for peer in peers.values():
        peer.send(hello())
    found = place.arrivals(2)
    for number, arrival in enumerate(found):
        place.hub.send(arrival.peer, SESSION, wire.Pong(number))
    got = {over: messages(peer) for over, peer in peers.items()}
    numbers = {("tcp" if arrival.user else "ipc"): [wire.Pong(n)] for n, arrival in enumerate(found)}
    assert got == numbers


def test_a_vanished_peer_is_gone(place: Place, over: str) -> None:
    peer = PeerEndpoint(place.connection(over=over))
    peer.send(hello())
    (arrival,) = place.arrivals()
    peer.close(0.0)
    wait(lambda: place.hub.send(arrival.peer, SESSION, wire.Pong(1)) is Delivery.GONE)


def test_a_peer_that_was_never_there_is_gone(place: Place) -> None:
    assert place.hub.send(b"\x00nobody", SESSION, wire.Pong(1)) is Delivery.GONE


def test_a_peer_that_does_not_read_is_full_and_gets_all_that_was_taken(place: Place) -> None:
    peer = place.peer(place.connection(over="ipc"))
    peer.send(hello())
    (arrival,) = place.arrivals()
    sent = 0
    chunk = wire.Chunk(1, "ab" * 16, 0, 10, bytes(100_000))
    while (delivery := place.hub.send(arrival.peer, SESSION, chunk)) is Delivery.SENT:
        sent += 1
        assert sent < 5000
    assert delivery is Delivery.FULL
    assert messages(peer, sent) == [chunk] * sent
    wait(lambda: place.hub.send(arrival.peer, SESSION, chunk) is Delivery.SENT)


def test_a_message_that_cannot_be_encoded_leaves_the_socket_whole(place: Place) -> None:
    peer = place.peer(place.connection(over="ipc"))
    peer.send(hello())
    (arrival,) = place.arrivals()
    with pytest.raises(UnicodeEncodeError):
        place.hub.send(arrival.peer, SESSION, wire.Denied("key", "\ud800"))
    place.hub.send(arrival.peer, SESSION, wire.Pong(1))
    assert messages(peer) == [wire.Pong(1)]


def test_a_message_of_two_frames_is_refused(place: Place, raw: zmq.Socket[bytes]) -> None:
    raw.send_multipart([wire.encode(wire.Ping()), b"more", b"and more"])
    raw.send(wire.encode(wire.Ping(), SESSION))
    refused, accepted = place.arrivals(2)
    assert isinstance(refused.message, ProtocolError)
    assert str(refused.message) == "two frames"
    assert accepted.message == wire.Ping()


def test_a_first_message_of_two_frames_is_refused_over_tcp(place: Place) -> None:
    peer = place.peer(place.connection())
    peer._socket.send_multipart([wire.encode(hello()), b"more"])
    peer.send(hello())
    refused, accepted = place.arrivals(2)
    assert isinstance(refused.message, ProtocolError)
    assert accepted.message == hello()


@pytest.mark.parametrize("frame", [b"", b"short", SESSION, SESSION + b"\xc1", bytes(5000), b"\xff" * 100])
def test_garbage_is_an_arrival_like_any_other(place: Place, raw: zmq.Socket[bytes], frame: bytes) -> None:
    raw.send(frame)
    raw.send(wire.encode(wire.Ping()))
    garbage, ping = place.arrivals(2)
    assert isinstance(garbage.message, ProtocolError)
    assert garbage.session == frame[:8]
    assert (ping.peer, ping.message) == (garbage.peer, wire.Ping())


def test_garbage_before_a_hello_over_tcp_is_an_arrival_like_any_other(place: Place) -> None:
    peer = place.peer(place.connection())
    peer._socket.send(b"\xc1\xc1\xc1")
    peer.send(hello())
    garbage, greeting = place.arrivals(2)
    assert isinstance(garbage.message, ProtocolError)
    assert greeting.message == hello()
    assert greeting.user == garbage.user is not None


def test_a_frame_over_the_limit_is_never_received(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    peer.send(hello())
    place.arrivals()
    peer._socket.send(bytes(wire.FRAME_LIMIT + 100))
    peer._socket.send(wire.encode(wire.Ping()))
    other = place.peer(place.connection(over=over))
    other.send(hello("viewer"))
    seen = [arrival.message for arrival in place.arrivals()]
    assert hello("viewer") in seen
    assert not any(isinstance(message, ProtocolError) for message in seen)


def test_a_frame_of_the_limit_is_received(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    peer.send(hello())
    place.arrivals()
    empty = wire.Upload("ab" * 16, 0, 2**30, b"x" * 65536)
    room = wire.FRAME_LIMIT - len(wire.encode(empty)) + 65536
    upload = wire.Upload("ab" * 16, 0, 2**30, b"x" * room)
    assert len(wire.encode(upload)) == wire.FRAME_LIMIT
    peer.send(upload)
    assert [arrival.message for arrival in place.arrivals()] == [upload]


def test_bytes_that_are_no_zeromq_do_not_disturb_the_others(place: Place) -> None:
    host, port = place.tcp.removeprefix("tcp://").split(":")
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f" + b"N" * 500,
    ):
        with socket.create_connection((host, int(port)), 5) as stream:
            stream.sendall(garbage)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(place.ipc))
        stream.sendall(b"\xff" * 300)
    peer = place.peer(place.connection())
    peer.send(hello())
    assert [arrival.message for arrival in place.arrivals()] == [hello()]


def test_wake_ends_a_wait_from_another_thread(place: Place) -> None:
    peer = place.peer(place.connection())
    thread = threading.Timer(0.05, peer.wake)
    began = time.monotonic()
    thread.start()
    assert peer.receive(60.0) == ([], set())
    assert time.monotonic() - began < 10.0
    thread.join()


def test_descriptors_are_waited_for_as_well(place: Place) -> None:
    peer = place.peer(place.connection())
    ours, theirs = socket.socketpair()
    assert peer.receive(0.0, [ours.fileno()]) == ([], set())
    theirs.send(b"x")
    assert peer.receive(60.0, [ours.fileno()]) == ([], {ours.fileno()})
    assert peer.receive(0.0) == ([], set())
    ours.close()
    theirs.close()


def test_a_reset_peer_comes_back_as_another(place: Place, over: str) -> None:
    connection = place.connection(over=over)
    peer = place.peer(connection)
    peer.send(hello())
    (first,) = place.arrivals()
    peer.session = SESSION
    peer.reset(connection)
    peer.send(hello())
    (second,) = place.arrivals()
    assert (second.session, second.message) == (wire.NO_SESSION, hello())
    assert second.peer != first.peer


def test_what_a_hub_says_that_is_no_message_raises(place: Place) -> None:
    peer = place.peer(place.connection(over="ipc"))
    peer.send(hello())
    (arrival,) = place.arrivals()
    router = place.hub._sockets[arrival.peer[:1]]
    router.send_multipart([arrival.peer[1:], b"\xc1"])
    with pytest.raises(ProtocolError, match="not a message from a hub"):
        messages(peer)


def test_closing_twice_does_nothing(place: Place) -> None:
    peer = place.peer(place.connection())
    peer.close()
    peer.close()
    peer.wake()


def connection(*endpoints: str) -> Connection:
    return Connection("here", "client", list(endpoints), "", "", "", "")


def test_the_unix_socket_is_taken_where_it_exists(place: Place, tmp_path: Path) -> None:
    here = f"ipc://{place.ipc}"
    assert choose_endpoint(connection("tcp://10.0.0.1:5", here)) == here
    assert choose_endpoint(connection(f"ipc://{tmp_path}/none", "tcp://10.0.0.1:5")) == "tcp://10.0.0.1:5"
    (tmp_path / "file").write_bytes(b"")
    assert choose_endpoint(connection(f"ipc://{tmp_path}/file")) == ""
    peer = PeerEndpoint(connection(f"ipc://{tmp_path}/file"))
    assert isinstance(found := peer.trouble(), HubUnreachable)
    assert "the hub 'here' does not run on this host" in str(found)
    assert str(found).endswith("start it with 'nbq hub --name here'")
    peer.close(0.0)


@pytest.mark.parametrize("over", ["tcp", "ipc"])
def test_a_hub_that_is_not_there_is_named(tmp_path: Path, over: str) -> None:
    made = Place(tmp_path)
    where = made.connection(over=over)
    path = tmp_path / "s"
    made.close()
    if over == "ipc":
        stale = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        stale.bind(str(path))
        stale.close()
    peer = PeerEndpoint(where)
    found = None

    def trouble() -> bool:
        nonlocal found
        peer.receive(0.05)
        found = peer.trouble()
        return found is not None

    wait(trouble)
    assert isinstance(found, HubUnreachable)
    assert str(found) == f"nothing listens at {where.endpoints[0]}: is the hub running?"
    peer.close(0.0)


def test_a_hub_that_answers_is_no_trouble(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    peer.send(hello())
    place.arrivals()
    assert peer.trouble() is None


@pytest.mark.parametrize("address", ["udp://127.0.0.1:0", "127.0.0.1:5", "ipc:///tmp/x", "inproc://x", ""])
def test_only_tcp_addresses_can_be_bound(tmp_path: Path, address: str) -> None:
    made = Place(tmp_path, tcp=False)
    with pytest.raises(SettingsError, match="use tcp://HOST:PORT"):
        HubEndpoint(None, [address], made.keyring)
    made.close()


@pytest.mark.parametrize(
    "address", ["tcp://no.such.host.invalid:5", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999"]
)
def test_an_address_that_cannot_be_bound_is_named(tmp_path: Path, address: str) -> None:
    made = Place(tmp_path, tcp=False)
    with pytest.raises(SettingsError, match=f"cannot listen on {address}: "):
        HubEndpoint(None, [address], made.keyring)
    made.close()


def test_a_port_in_use_is_named(place: Place) -> None:
    with pytest.raises(SettingsError, match=f"cannot listen on {place.tcp}: Address already in use"):
        HubEndpoint(None, [place.tcp], place.keyring)


def test_others_dial_the_advertised_host(tmp_path: Path) -> None:
    made = Place(tmp_path, tcp=False)
    hub = HubEndpoint(None, ["tcp://127.0.0.1:0"], made.keyring, "login.example.org")
    (endpoint,) = hub.endpoints
    assert endpoint.startswith("tcp://login.example.org:")
    assert int(endpoint.rpartition(":")[2]) > 0
    hub.close()
    made.close()


def test_the_unix_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"stale")
    made = Place(tmp_path, tcp=False)
    assert (tmp_path / "s").is_socket()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    made.close()
