"""The engine's half of the protocol: reports are kept until taken; what has not started goes back."""

from __future__ import annotations

import pytest

from nbq import wire
from nbq.core.events import Addition, Outcome
from nbq.core.model import BlockMeta, EngineInfo, Graph, NodeSpec, State
from nbq.engines.roster import Abort
from nbq.engines.session import EngineSession, Run

RUN = bytes(16)
FUNCTION = bytes(range(16))


def lease(token: int, count: int) -> wire.Lease:
    args = wire.Block(0, 0, count, b"x", 1)
    return wire.Lease(token, RUN, 0, 0, count, 1, "t", FUNCTION, args, False, None, False, 0.5)


def welcome() -> wire.Welcome:
    return wire.Welcome(b"12345678", "h", b"", 1, "none", {}, 15.0)


@pytest.fixture
def session() -> EngineSession:
    made = EngineSession(b"engine-1", EngineInfo("e", "h", 1, 1, ["default"]), {}, b"")
    made.hello(0.0)
    made.receive(welcome(), 0.0)
    made.receive(wire.Functions({FUNCTION: b"code"}), 0.0)
    made.outbox.clear()
    return made


def sent(session: EngineSession) -> list[wire.ToHub]:
    found = list(session.outbox)
    session.outbox.clear()
    return found


def test_a_report_is_sent_until_it_is_taken(session: EngineSession) -> None:
    session.slot_up(0)
    session.receive(lease(5, 1), 0.0)
    assert session.orders == [Run(0, 5, 0, 1, lease(5, 1))]
    outcome = Outcome(5, 0, 1)
    session.ended(0, [(outcome, b"block")], 0.1)
    session.tick(0.1)
    report = wire.Report(1, [outcome], [b"block"])
    assert report in sent(session)
    assert session.held == []
    assert not session.idle
    session.tick(0.2)
    assert report not in sent(session)
    session.tick(6.0)
    assert report in sent(session)
    session.hello(7.0)
    session.receive(welcome(), 7.0)
    assert sent(session) == [report]
    session.receive(wire.Taken([1]), 7.1)
    assert session.idle
    session.tick(60.0)
    assert report not in sent(session)


def test_a_recall_gives_back_the_last_that_have_not_started(session: EngineSession) -> None:
    session.receive(lease(5, 4), 0.0)
    session.receive(wire.Recall(3), 0.0)
    assert sent(session) == [wire.GaveBack([(5, 1, 4)])]
    assert session.held == [5]


def test_a_drain_gives_back_all_that_has_not_started(session: EngineSession) -> None:
    session.receive(lease(5, 4), 0.0)
    session.receive(wire.Order("drain"), 0.0)
    assert sent(session) == [wire.Leaving(), wire.GaveBack([(5, 0, 4)])]
    session.receive(lease(6, 1), 0.0)
    assert session.held == []


def test_a_stale_lease_is_forgotten_and_its_outcomes_are_dropped(session: EngineSession) -> None:
    session.slot_up(0)
    session.receive(lease(5, 1), 0.0)
    session.receive(wire.Stale([5, 99]), 0.0)
    assert session.held == []
    session.ended(0, [(Outcome(5, 0, 1), b"late")], 0.1)
    session.tick(0.1)
    assert [m for m in sent(session) if isinstance(m, wire.Report)] == []


def test_a_lease_that_comes_twice_is_one(session: EngineSession) -> None:
    for _ in range(2):
        session.receive(lease(5, 2), 0.0)
    session.receive(wire.Recall(9), 0.0)
    assert sent(session) == [wire.GaveBack([(5, 0, 2)])]


def test_a_report_is_never_larger_than_a_message(session: EngineSession) -> None:
    session.receive(lease(5, 8), 0.0)
    session.ended(0, [(Outcome(5, n, n + 1), bytes(400_000)) for n in range(8)], 0.1)
    session.tick(0.1)
    reports = [m for m in sent(session) if isinstance(m, wire.Report)]
    assert [len(report.blocks) for report in reports] == [1] * 8
    assert max(len(wire.encode(report)) for report in reports) < wire.FRAME_LIMIT


def test_a_report_carries_what_an_element_adds(session: EngineSession) -> None:
    session.receive(lease(5, 2), 0.0)
    addition = Addition(bytes(16), Graph([NodeSpec("t", FUNCTION)]), [BlockMeta(0, 0, 1, 3)], True)
    outcome = Outcome(5, 0, 1, bytes([State.WAITING]), additions=[addition])
    session.ended(0, [(outcome, b"")], 0.1, [b"abc"], {FUNCTION: b"code"})
    session.ended(0, [(Outcome(5, 1, 2), b"block")], 0.1)
    session.tick(0.1)
    assert sent(session)[-1] == wire.Report(
        1, [outcome, Outcome(5, 1, 2)], [b"", b"block"], [b"abc"], {FUNCTION: b"code"}
    )


def test_the_hub_is_told_which_tasks_are_known(session: EngineSession) -> None:
    session.knows(["a", "b"])
    session.knows(["a", "b"])
    assert sent(session) == [wire.Knows(["a", "b"])]
    assert session.hello(1.0).engine == EngineInfo("e", "h", 1, 1, ["default"], tasks=["a", "b"])


def test_of_notes_that_come_fast_the_last_is_sent(session: EngineSession) -> None:
    session.slot_up(0)
    session.receive(lease(5, 2), 0.0)
    notes = [wire.Note(5, 0, "HALF", bytes([number])) for number in range(4)]

    def noted() -> list[wire.ToHub]:
        return [message for message in sent(session) if isinstance(message, wire.Note)]

    session.noted(0, notes[0])
    session.tick(0.1)
    session.noted(0, notes[1])
    session.noted(0, notes[2])
    session.tick(0.12)
    assert noted() == [notes[0]]
    session.tick(0.16)
    session.tick(0.3)
    assert noted() == [notes[2]]
    session.hello(0.4)
    session.receive(welcome(), 0.4)
    session.tick(0.4)
    assert noted() == [notes[2]]
    session.noted(0, notes[3])
    session.ended(0, [(Outcome(5, 0, 1), b"block")], 0.5)
    session.noted(0, notes[3])
    session.tick(0.5)
    assert noted() == []


def test_an_element_is_told_to_end_by_itself_once_it_runs(session: EngineSession) -> None:
    session.slot_up(0)
    session.receive(lease(5, 2), 0.0)
    session.orders.clear()
    session.slot_runs(0, (5, 0), 0.1)
    session.receive(wire.Aborting([(5, 0, 2)]), 0.1)
    session.slot_runs(0, (5, 0), 0.2)
    assert session.orders == [Abort(0, 5, 0)]
    session.slot_runs(0, (5, 1), 0.3)
    assert session.orders == [Abort(0, 5, 0), Abort(0, 5, 1)]


def test_slots_are_scaled_to_a_number_or_between_bounds(session: EngineSession) -> None:
    session.receive(wire.Order("scale", 3), 0.0)
    session.receive(wire.Order("scale", 0, 4, 8), 0.0)
    session.receive(wire.Order("scale", 6, 4, 8), 0.0)
    session.receive(wire.Order("scale", 9, 4, 8), 0.0)
    session.receive(wire.Order("scale", 7, 2, 9), 0.0)  # its bounds are others by now
    session.receive(wire.Order("scale", 5), 0.0)
    session.receive(wire.Order("scale", 6, 4, 8), 0.0)  # it has none any more
    session.receive(wire.Order("scale", 0, 1, 2), 0.0)
    assert sent(session) == [
        wire.Resized(3), wire.Resized(4, 4, 8), wire.Resized(6, 4, 8), wire.Resized(8, 4, 8), wire.Resized(5),
        wire.Resized(2, 1, 2),
    ]  # fmt: skip
    assert session.roster.count == 2


def test_who_connects_again_says_how_many_slots_there_are_now(session: EngineSession) -> None:
    session.connected = False
    session.receive(wire.Order("scale", 0, 2, 4), 0.0)
    assert sent(session) == []
    hello = session.hello(1.0)
    assert hello.engine == EngineInfo("e", "h", 1, 2, ["default"], least=2, most=4)
