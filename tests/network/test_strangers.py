"""Wrong keys over TCP, end to end: each is refused with an error that says why, and disturbs nobody."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

import nbq
from nbq.errors import AuthenticationError, HubUnreachable, SettingsError, UsageError
from nbq.settings import Connection
from tests.network.conftest import made
from tests.network.hosts import Host, free_port
from tests.processes.harness import PATIENCE_S, slots_up
from tests.processes.work import add

UNKNOWN = (
    "the hub at {address} does not know this key, or is not the hub of this connection file: copy the file "
    "again from the hub's data folder"
)
STRANGERS = ["an unknown key", "another hub's key"]


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A host with a hub, and another with an engine."""
    with made() as here, made() as there:
        here.hub("--bind", "tcp://127.0.0.1:0")
        there.engine(1, "--hub", str(there.take(here.file("engine"))), name="friend")
        yield here, there


@pytest.fixture
def friend(hosts: tuple[Host, Host]) -> Iterator[nbq.Client]:
    """A client that is let in, and that has to be served as before, afterwards."""
    here, there = hosts
    with nbq.connect(there.take(here.file("client"))) as client:
        slots_up(client, 1)
        yield client
        assert client.map(add, range(100), range(100)).get(30) == [2 * i for i in range(100)]
        status = client.status()
        assert (status.hub["clients"], [engine.info.name for engine in status.engines]) == (1, ["friend"])


def stranger(connection: Connection, how: str) -> Connection:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    changes = {
        "an unknown key": {"public_key": public, "secret_key": secret},
        "another hub's key": {"server_key": public},
    }
    return msgspec.structs.replace(connection, **changes[how])


@pytest.mark.parametrize("how", STRANGERS)
def test_a_client_with_a_wrong_key(hosts: tuple[Host, Host], friend: nbq.Client, how: str) -> None:
    here, there = hosts
    file = there.write(stranger(here.connection("client"), how), "wrong.json")
    with pytest.raises(AuthenticationError) as caught:
        nbq.connect(file)
    assert str(caught.value) == UNKNOWN.format(address=f"tcp://127.0.0.1:{here.port()}")


def test_an_engine_with_a_wrong_key_says_so_and_waits(here: Host, there: Host) -> None:
    """It waits as for any hub that is gone: the key may be let in while it does."""
    here.hub("--bind", "tcp://127.0.0.1:0")
    right = here.connection("engine")
    files = [there.write(stranger(right, how), f"{how}.json") for how in STRANGERS]
    engines = [there.engine(1, "--hub", str(file), "--hub-timeout", "4") for file in files]
    assert [engine.wait(PATIENCE_S) for engine in engines] == [3, 3]
    said = UNKNOWN.format(address=right.endpoints[0])
    lines = [
        f"nbq engine: {said}; dialling again until it answers",
        "nbq: the hub was gone for 4 s (--hub-timeout)",
    ]
    assert sorted(there.logged()) == sorted(lines * 2)
    with nbq.connect(here.file("client")) as client:
        assert client.engines() == []


def test_an_engines_key_is_no_clients(hosts: tuple[Host, Host], friend: nbq.Client) -> None:
    here, there = hosts
    file = there.take(here.file("engine"))
    with pytest.raises(SettingsError) as caught:
        nbq.connect(file)
    assert str(caught.value) == f"{file} is for the role engine: a client needs client.json"
    posing = msgspec.structs.replace(here.connection("engine"), role="client")
    with pytest.raises(AuthenticationError) as refused:
        nbq.connect(there.write(posing, "posing.json"))
    assert str(refused.value) == "this key is for the role engine, not client: use client.json"


@pytest.mark.parametrize("role", ["client", "viewer"])
def test_no_other_key_is_an_engines(hosts: tuple[Host, Host], friend: nbq.Client, role: str) -> None:
    here, _ = hosts
    with made() as elsewhere:
        posing = msgspec.structs.replace(here.connection(role), role="engine")
        engine = elsewhere.engine(1, "--hub", str(elsewhere.write(posing, "posing.json")))
        assert engine.wait(PATIENCE_S) == 3
        text = f"nbq: this key is for the role {role}, not engine: use engine.json"
        assert elsewhere.log.read_text().splitlines() == [text]


def test_a_viewer_looks_and_cannot_submit(hosts: tuple[Host, Host], friend: nbq.Client) -> None:
    here, there = hosts
    with nbq.connect(there.take(here.file("viewer"))) as viewer:
        assert [engine.info.name for engine in viewer.engines()] == ["friend"]
        with pytest.raises(UsageError) as caught:
            viewer.submit(add, 1, 2)
        assert str(caught.value) == "a viewer key cannot submit: use client.json"
    posing = msgspec.structs.replace(here.connection("viewer"), role="client")
    with pytest.raises(AuthenticationError) as refused:
        nbq.connect(there.write(posing, "posing.json"))
    assert str(refused.value) == "this key is for the role viewer, not client: use client.json"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Sockets without keys."""
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_peer_without_a_key_gets_nothing(
    hosts: tuple[Host, Host], friend: nbq.Client, context: zmq.Context[zmq.Socket[bytes]], first: bytes
) -> None:
    here, _ = hosts
    plain = context.socket(zmq.DEALER)
    monitor = plain.get_monitor_socket()
    plain.connect(f"tcp://127.0.0.1:{here.port()}")
    plain.send(first)
    events = []
    while zmq.EVENT_DISCONNECTED not in events:
        assert monitor.poll(10_000) == zmq.POLLIN, events
        events.append(recv_monitor_message(monitor)["event"])
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in events
    assert plain.poll(0) == 0
    plain.disable_monitor()
    monitor.close()
    plain.close(linger=0)


def test_what_is_no_hub_is_no_hub_to_a_client(here: Host, there: Host) -> None:
    here.hub("--bind", "tcp://127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as plain, ThreadPoolExecutor(1) as pool:
        address = f"tcp://127.0.0.1:{plain.getsockname()[1]}"
        elsewhere = msgspec.structs.replace(here.connection("client"), endpoints=[address])
        seen = threading.Event()
        greeted = pool.submit(greet_without_keys, plain, seen)
        with pytest.raises(AuthenticationError) as caught:
            nbq.connect(there.write(elsewhere, "elsewhere.json"))
        seen.set()
        greeted.result(10)
        assert str(caught.value) == f"what listens at {address} is not an nbq hub"


def greet_without_keys(listening: socket.socket, until: threading.Event) -> None:
    """Greet a peer as ZeroMQ does that knows no keys, and stay on the line."""
    listening.settimeout(10)
    peer, _ = listening.accept()
    with peer:
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\3\1" + b"NULL".ljust(20, b"\0") + bytes(32))
        until.wait(10)


def test_nobody_listens(here: Host, there: Host) -> None:
    here.hub("--bind", "tcp://127.0.0.1:0")
    address = f"tcp://127.0.0.1:{free_port()}"
    nowhere = msgspec.structs.replace(here.connection("client"), endpoints=[address])
    with pytest.raises(HubUnreachable) as caught:
        nbq.connect(there.write(nowhere, "nowhere.json"))
    assert str(caught.value) == f"nothing listens at {address}: is the hub running?"


def test_a_file_that_others_can_read_is_not_used(here: Host, there: Host) -> None:
    here.hub("--bind", "tcp://127.0.0.1:0")
    file = there.take(here.file("engine"))
    file.chmod(0o644)
    engine = there.engine(1, "--hub", str(file))
    assert engine.wait(PATIENCE_S) == 2
    text = f"nbq: {file} holds keys and is open to other users: chmod 600 {file}"
    assert there.log.read_text().splitlines() == [text]
    assert file.stat().st_mode & 0o777 == 0o644
