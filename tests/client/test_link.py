"""The client's connection: what ends it is told, what may only look is refused, too much is not kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
import nbq.link
import nbq.settings
from nbq import link, wire
from nbq.core.model import Graph, NodeSpec
from nbq.errors import HubError, UsageError
from nbq.session import ClientSession

DEADLINE_S = 20.0
FUNCTION = bytes(16)


@pytest.fixture(scope="module")
def cluster() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=1, durability="none") as client:
        yield client


def nap(_: object = None) -> None:
    time.sleep(60)


def test_whoever_waits_hears_that_the_connection_ended(cluster: nbq.Client) -> None:
    client = nbq.connect(cluster.connection.path)
    result = client.submit(nap)
    client.flush()
    told: list[str] = []

    def wait() -> None:
        with pytest.raises(HubError) as caught:
            result.get(DEADLINE_S)
        told.append(str(caught.value))

    def broken(*_: object) -> None:
        raise OSError("no space left")

    client._link._session.tick = broken  # type: ignore[method-assign]
    client._link._endpoint.wake()
    client._link._thread.join(DEADLINE_S)
    waiter = threading.Thread(target=wait)
    waiter.start()
    waiter.join(DEADLINE_S)
    assert told == ["the connection to the hub ended: OSError: no space left"]
    client.close()
    cluster.cancel_all()


def test_a_viewer_is_refused_here_and_goes_on_looking(cluster: nbq.Client) -> None:
    result = cluster.submit(len, "abc")
    assert result.get(DEADLINE_S) == 3
    viewer = Path(cluster.connection.path).with_name("viewer.json")
    text = "a viewer key cannot read values, cancel or forget: use client.json"
    looking = nbq.link.Link(nbq.settings.load_connection(viewer), DEADLINE_S)
    try:
        found = looking.ask(wire.Ask(0, "find", result.id))
        assert isinstance(found, wire.Found)
        replica = looking.known(found.run, found.graph)
        for refused in (
            lambda: looking.watch(replica, [0]),
            lambda: looking.cancel(replica, 0, 0, 1),
            lambda: looking.forget(replica),
        ):
            with pytest.raises(UsageError) as caught:
                refused()
            assert str(caught.value) == text
        assert looking.element(replica, 0, found.index).state == "SUCCESS"
    finally:
        looking.close()


def test_submits_wait_while_too_much_is_not_acknowledged(
    cluster: nbq.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_UNACKNOWLEDGED_BYTES", 100_000)
    seen: list[int] = []
    with nbq.connect(cluster.connection.path) as client:
        results = []
        for _ in range(50):
            results.append(client.submit(len, bytes(50_000)))
            seen.append(client._link._session.unacknowledged_bytes)
        assert [result.get(DEADLINE_S) for result in results] == [50_000] * 50
        assert client._link._session.unacknowledged_bytes == 0
    assert max(seen) < 200_000


def test_a_session_counts_what_is_not_accepted() -> None:
    session = ClientSession(b"client01", "client", b"", {})
    graph = Graph([NodeSpec("t", FUNCTION)], each=True)
    for run in (b"a" * 16, b"b" * 16):
        submit = wire.Submit(run, graph, [wire.Block(0, 0, 1, bytes(10), 10)])
        session.submit({}, [wire.Stage(run, 0, [wire.Block(0, 0, 1, bytes(5), 5)])], submit, {0: 1})
    assert session.unacknowledged_bytes == 30
    session.receive(wire.Accepted([b"a" * 16, b"a" * 16]), 1.0)
    session.receive(wire.Rejected("busy", "later", b"b" * 16), 1.0)
    assert session.unacknowledged_bytes == 0


def test_functions_are_forgotten_with_the_runs_that_name_them_and_sent_again(cluster: nbq.Client) -> None:
    with nbq.connect(cluster.connection.path) as client:
        for round_ in range(3):
            result = client.submit(lambda: "again")
            assert result.get(DEADLINE_S) == "again", round_
            result.forget()
