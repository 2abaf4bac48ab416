"""A schedule on its way to the hub: in parts, again after a lost connection, and settled by any answer."""

from __future__ import annotations

import pytest

import nbq
from nbq import wire
from nbq.core.model import Graph, NodeSpec
from nbq.core.timing import Every, ScheduleSpec
from nbq.session import Answered, ClientSession
from nbq.testing import ClusterUnderTest

FUNCTION, OTHER, ID = bytes(16), b"o" * 16, b"i" * 16
GRAPH = Graph([NodeSpec("t", FUNCTION)])
STAGES = [wire.Stage(ID, n, [wire.Block(0, n, 1, b"four", 4)]) for n in range(2)]
WELCOME = wire.Welcome(bytes(16), "hub", b"", 1, "none", {}, 15.0)


def session() -> tuple[ClientSession, wire.PutSchedule]:
    """Return a connected session that has been given a schedule with two staged blocks."""
    made = ClientSession(bytes(8), "client", b"", {})
    made.hello(0.0)
    made.receive(WELCOME, 0.0)
    made.outbox.clear()
    put = wire.PutSchedule(made.next_request(), "name", ID, ScheduleSpec(Every(5)), GRAPH, [], 2)
    made.put({FUNCTION: b"function"}, STAGES, put)
    return made, put


def sent(made: ClientSession) -> list[wire.ToHub]:
    messages = list(made.outbox)
    made.outbox.clear()
    return messages


def test_functions_and_blocks_go_before_it() -> None:
    made, put = session()
    assert sent(made) == [wire.PutFunctions({FUNCTION: b"function"}), *STAGES, put]
    assert (made.unacknowledged, made.unacknowledged_bytes) == ([ID], 8)
    answer = wire.Answer(put.request, 1)
    assert made.receive(answer, 0.0) == [Answered(put.request, answer)]
    assert (made.receive(answer, 0.0), made.unacknowledged, made.unacknowledged_bytes) == ([], [], 0)


def test_all_of_it_goes_again_on_a_new_connection() -> None:
    made, put = session()
    sent(made)
    made.hello(1.0)
    made.receive(WELCOME, 1.0)
    assert sent(made) == [wire.PutFunctions({FUNCTION: b"function"}), *STAGES, put]


def test_it_is_sent_again_until_it_is_answered() -> None:
    made, put = session()
    sent(made)
    made.receive(wire.Staged(ID, 2), 0.0)
    made.tick(10.0)
    assert sent(made) == [wire.Ping(), put]
    made.drop_request(put.request)
    made.tick(20.0)
    assert (sent(made), made.unacknowledged) == ([wire.Ping()], [])


def test_functions_that_the_hub_lacks_are_sent() -> None:
    made, put = session()
    sent(made)
    made.receive(wire.NeedFunctions([OTHER]), 0.0)
    assert sent(made) == []
    made.receive(wire.NeedFunctions([FUNCTION]), 0.0)
    assert sent(made) == [wire.PutFunctions({FUNCTION: b"function"}), put]


def test_it_waits_for_its_blobs() -> None:
    made, put = session()
    made.drop_request(put.request)
    sent(made)
    made.put({}, [], put, ready=False)
    assert sent(made) == []
    made.release(ID, 0.0)
    assert sent(made) == [put]


@pytest.mark.parametrize("by_run", [True, False], ids=["a part of it", "itself"])
def test_it_is_refused(by_run: bool) -> None:
    made, put = session()
    no = wire.Rejected("busy", "no room", ID) if by_run else wire.Rejected("busy", "no", request=put.request)
    assert made.receive(no, 0.0) == [Answered(put.request, no)]
    assert (made.unacknowledged, made.unacknowledged_bytes) == ([], 0)
    sent(made)
    made.tick(10.0)
    assert sent(made) == [wire.Ping()]


def test_a_function_that_went_with_its_schedule_is_sent_anew(nbq_cluster: ClusterUnderTest) -> None:
    """The client sent it before and thinks that the hub has it; the hub says that it has not."""
    schedules = nbq_cluster.client.schedules
    cell = nbq.Task(lambda x: x + 1, "cell", False, {})
    schedules.add("one", cell.s(1), 3600).remove()
    assert schedules.add("two", cell.s(2), 3600).run().get() == 3
