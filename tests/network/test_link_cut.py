"""The network between a hub and an engine fails for a while: everything ends right, and once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nbq
from tests.network.links import LINK, Link, linked
from tests.network.work import hold
from tests.processes.harness import slots_up, until
from tests.processes.work import add, note

CALLS = 200


@pytest.fixture(params=[LINK])
def link() -> Iterator[Link]:
    """Two hosts, a hub on one and an engine on the other, with only its file."""
    with linked() as link:
        link.here.hub("--bind", link.bind, "--advertise", link.advertise)
        file = link.there.take(link.here.file("engine"))
        link.there.engine(1, "--hub", str(file), name="far")
        yield link


@pytest.fixture
def client(link: Link, monkeypatch: pytest.MonkeyPatch) -> Iterator[nbq.Client]:
    """A client on the hub's host."""
    for name, value in link.here.environment.items():
        monkeypatch.setenv(name, value)
    with nbq.connect() as client:
        slots_up(client, 1)
        yield client


def test_an_engine_that_is_cut_off_for_a_moment_keeps_its_work(link: Link, client: nbq.Client) -> None:
    there = link.there
    held = client.submit(hold, there.mark("held"), there.mark("gate"))
    mark = there.mark("calls")
    calls = client.map(note, [mark] * CALLS, map(str, range(CALLS)), range(CALLS))
    (ran,) = there.marked("held")
    link.cut()
    there.said("dialling again until it answers")
    (there.marks / "gate").touch()
    there.marked("held")
    link.mend()
    assert (held.get(30), held.attempts, there.lines("held")) == (int(ran), 1, [ran])
    assert calls.get(30) == list(range(CALLS))
    assert sorted(map(int, there.lines("calls"))) == list(range(CALLS))
    assert calls.progress == {"SUCCESS": CALLS}


def test_work_of_an_engine_that_is_cut_off_for_long_is_done_elsewhere_once(
    link: Link, client: nbq.Client
) -> None:
    here, there = link.here, link.there
    held = client.submit(hold, there.mark("held"), there.mark("gate"))
    mark = there.mark("calls")
    calls = client.map(note, [mark] * CALLS, map(str, range(CALLS)), range(CALLS))
    there.marked("held")
    link.cut()
    until(lambda: client.slots == 0, "the loss of the engine")
    here.engine(1, name="near")
    _, again = there.marked("held", lines=2)
    link.mend()
    until(lambda: there.log.read_text().count("connected to hub") == 2, "the engine's return")
    slots_up(client, 2)
    until(lambda: held.state == "STARTED", "the report of its start")
    (there.marks / "gate").touch()
    assert held.get(30) == int(again)
    assert calls.get(30) == list(range(CALLS))
    assert sorted(map(int, there.lines("calls"))) == list(range(CALLS))
    assert calls.progress == {"SUCCESS": CALLS}
    with nbq.connect() as other:
        assert other.result(held.id).get(30) == int(again)
        both = other.map(add, range(CALLS), range(CALLS))
        assert both.get(30) == [2 * i for i in range(CALLS)]
