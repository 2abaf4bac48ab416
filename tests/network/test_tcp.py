"""One copied file is all that a client or an engine on another host needs: everything works over TCP."""

from __future__ import annotations

import hashlib
import stat
import warnings
from collections.abc import Iterator

import pytest

import nbq
from tests.network.conftest import made
from tests.network.hosts import Host
from tests.network.work import digest, fill, swap
from tests.processes.harness import kill, slots_up, until
from tests.processes.work import add, slow_add, total

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A host with a hub, and another with an engine."""
    with made() as here, made() as there:
        here.hub("--bind", "tcp://127.0.0.1:0")
        there.engine(2, "--hub", str(there.take(here.file("engine"))), name="far")
        yield here, there


@pytest.fixture(scope="module")
def client(hosts: tuple[Host, Host]) -> Iterator[nbq.Client]:
    """A client on the other host, too."""
    here, there = hosts
    with nbq.connect(there.take(here.file("client"))) as client:
        slots_up(client, 2)
        yield client


def random_bytes(size: int, seed: int) -> bytes:
    """Return bytes that cannot be compressed, the same each time."""
    return hashlib.shake_128(seed.to_bytes(4, "little")).digest(size)


@pytest.mark.parametrize("role", ["client", "engine", "viewer"])
def test_a_connection_file_says_the_port_that_was_taken(hosts: tuple[Host, Host], role: str) -> None:
    here, _ = hosts
    mode = stat.S_IMODE(here.file(role).stat().st_mode)
    taken = here.said("listens at").partition(" and ")[2]
    assert (mode, here.connection(role).endpoints) == (0o600, [taken])
    assert taken.startswith("tcp://127.0.0.1:")
    assert here.port() > 0


def test_client_and_engine_are_connected_by_tcp_alone(hosts: tuple[Host, Host], client: nbq.Client) -> None:
    here, there = hosts
    address = f"tcp://127.0.0.1:{here.port()}"
    assert client.connection.endpoints == [address]
    assert there.said("connected to hub") == f"nbq engine: connected to hub default at {address}"
    assert list(there.folder.rglob("*.sock")) == []


def test_a_map_of_many_calls(client: nbq.Client) -> None:
    assert client.map(add, range(2000), range(2000)).get(30) == [2 * i for i in range(2000)]


def test_a_chord(client: nbq.Client) -> None:
    chord = nbq.group(add.s(i, i) for i in range(10)) | total.s()
    assert chord.delay().get(30) == 90


def test_an_argument_that_is_sent_in_chunks(client: nbq.Client) -> None:
    data = random_bytes(3 * MIB, 1)
    assert client.submit(digest, data).get(30) == hashlib.sha256(data).hexdigest()


def test_a_result_that_is_sent_in_chunks(client: nbq.Client) -> None:
    result = client.submit(fill, 3 * MIB, 2)
    assert result.get(30) == random_bytes(3 * MIB, 2)


def test_large_values_in_both_directions_at_once(client: nbq.Client) -> None:
    sent = [random_bytes(3 * MIB, seed) for seed in (3, 4, 5)]
    results = [client.submit(swap, data) for data in sent]
    assert [result.get(30) for result in results] == [data[::-1] for data in sent]


def test_large_results_become_the_input_of_a_chord(client: nbq.Client) -> None:
    parts = [random_bytes(MIB, seed) for seed in (6, 7, 8)]
    chord = nbq.group(swap.s(part) for part in parts) | digest.s()
    expected = hashlib.sha256(b"".join(part[::-1] for part in parts)).hexdigest()
    assert chord.delay().get(30) == expected


@pytest.mark.parametrize("how", ["submit", "map"])
def test_a_function_that_is_sent_in_chunks(client: nbq.Client, how: str) -> None:
    table = random_bytes(2 * MIB, 9 if how == "submit" else 10)

    def at(place):
        return table[place]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "function .* has .* bytes with what it captures")
        if how == "submit":
            values = [result.get(30) for result in [client.submit(at, i) for i in (0, MIB, -1)]]
        else:
            values = client.map(at, (0, MIB, -1)).get(30)
    assert values == [table[0], table[MIB], table[-1]]


def test_engine_and_client_come_back_to_a_hub_that_starts_again(here: Host, there: Host) -> None:
    first = here.hub("--bind", "tcp://127.0.0.1:0")
    address = f"tcp://127.0.0.1:{here.port()}"
    engine = there.engine(1, "--hub", str(there.take(here.file("engine"))))
    with nbq.connect(there.take(here.file("client"))) as client:
        slots_up(client, 1)
        result = client.map(slow_add, range(10_000), range(10_000))
        until(lambda: result.completed_count() > 0, "the first result")
        kill(first)
        again = here.hub("--bind", address)
        assert result.get(30) == [2 * i for i in range(10_000)]
        assert client.status().hub["pid"] == again.pid
        assert [found.info.pid for found in client.engines()] == [engine.pid]


def test_a_large_argument_and_result_outlive_a_hub_killed_while_they_travel(here: Host, there: Host) -> None:
    first = here.hub("--bind", "tcp://127.0.0.1:0")
    address = f"tcp://127.0.0.1:{here.port()}"
    there.engine(1, "--hub", str(there.take(here.file("engine"))))
    data = random_bytes(24 * MIB, 11)
    with nbq.connect(there.take(here.file("client"))) as client:
        slots_up(client, 1)
        result = client.submit(swap, data)
        blobs = here.data / "default" / "blobs"
        until(lambda: any(part.stat().st_size > 4 * MIB for part in blobs.glob("*.part")), "a part of it")
        kill(first)
        here.hub("--bind", address)
        assert result.get(30) == data[::-1]


@pytest.mark.parametrize(
    ("advertise", "host"), [((), "0.0.0.0"), (("--advertise", "127.0.0.1"), "127.0.0.1")]
)
def test_an_address_that_others_cannot_dial_is_warned_of(
    here: Host, there: Host, advertise: tuple[str, ...], host: str
) -> None:
    here.hub("--bind", "tcp://0.0.0.0:0", *advertise)
    assert here.connection("engine").endpoints == [f"tcp://{host}:{here.port()}"]
    here.said("durability process")
    assert ("name this one with --advertise HOST" in here.log.read_text()) == (not advertise)
    there.engine(1, "--hub", str(there.take(here.file("engine"))))
    there.said(f"connected to hub default at tcp://{host}:{here.port()}")
