"""What simulated worlds found, each as the few messages that show it."""

from __future__ import annotations

from nbq import wire
from nbq.core.events import CancelAsked, Outcome, Submitted, Ticked
from nbq.core.model import BlockMeta, EngineInfo, Graph, NodeSpec, Now, Slice
from nbq.core.scheduler import Limits, Scheduler
from nbq.engines.session import EngineSession, Halt, Run
from nbq.session import ClientSession

FUNCTION = bytes(16)
RUN = b"r" * 16


def welcome(epoch: int = 1) -> wire.Welcome:
    return wire.Welcome(bytes(8), "hub", b"", epoch, "process", {}, 15.0)


def lease(token: int, hi: int = 1, grace_s: float = 0.5) -> wire.Lease:
    args = wire.Block(0, 0, hi, b"args", 4)
    return wire.Lease(token, RUN, 0, 0, hi, 1, "task", FUNCTION, args, False, None, False, grace_s)


def engine(*, functions: bool = True) -> EngineSession:
    """Return an engine of one slot, connected at second 0."""
    session = EngineSession(b"engine00", EngineInfo("e", "h", 1, 1, ["default"]), {}, b"")
    if functions:
        session.functions[FUNCTION] = b"function"
    session.hello(0.0)
    session.receive(welcome(), 0.0)
    session.slot_up(0)
    return session


def said(session: EngineSession, kind: type) -> list[object]:
    """Return what an engine wants to say of a kind, and take it away."""
    found = [message for message in session.outbox if isinstance(message, kind)]
    session.outbox.clear()
    return found


def test_signs_of_life_do_not_stand_in_for_a_welcome_that_was_lost() -> None:
    client = ClientSession(b"client00", "client", b"", {})
    worker = EngineSession(b"engine00", EngineInfo("e", "h", 1, 1, ["default"]), {}, b"")
    for session in (client, worker):
        session.hello(0.0)
        session.receive(wire.Pong(1), 3.9)
        assert session.silent(4.0)
        session.receive(welcome(), 4.0)
        assert not session.silent(5.0)


def test_a_function_that_did_not_come_is_asked_for_again() -> None:
    session = engine(functions=False)
    session.receive(lease(1), 0.0)
    assert said(session, wire.NeedFunctions) == [wire.NeedFunctions([FUNCTION])]
    session.tick(4.0)
    assert said(session, wire.NeedFunctions) == []
    session.tick(6.0)
    assert said(session, wire.NeedFunctions) == [wire.NeedFunctions([FUNCTION])]


def test_a_lease_that_comes_again_after_it_has_ended_is_not_run_again() -> None:
    session = engine()
    session.receive(lease(1), 0.0)
    session.orders.clear()
    session.ended(0, [(Outcome(1, 0, 1), b"")], 0.1)
    session.chunk_done(0)
    session.receive(lease(1), 0.2)
    assert (session.held, session.orders) == ([], [])


def test_an_outcome_that_the_hub_has_not_taken_keeps_its_lease_in_the_list() -> None:
    session = engine()
    session.receive(lease(7), 0.0)
    session.ended(0, [(Outcome(7, 0, 1), b"")], 0.1)
    assert session.hello(0.2).held == [7]
    session.receive(welcome(2), 0.3)
    session.tick(0.3)
    session.receive(wire.Taken([1]), 0.4)
    assert session.hello(0.5).held == []


def test_an_element_that_began_after_it_was_to_stop_is_stopped_when_it_is_seen() -> None:
    session = engine()
    session.receive(lease(1, grace_s=0.25), 0.0)
    session.receive(wire.Interrupt([(1, 0, 1)]), 0.0)
    assert session.orders == [Run(0, 1, 0, 1, lease(1, grace_s=0.25)), Halt(0, 1, 0, 1, 0.25)]
    session.orders.clear()
    for at_s in (0.1, 0.2):
        session.slot_runs(0, (1, 0), at_s)
    assert session.orders == [Halt(0, 1, 0, 1, 0.25)]


def test_orders_for_a_slot_that_died_do_not_reach_the_next_one() -> None:
    session = engine()
    session.receive(lease(1), 0.0)
    session.slot_down(0, 0, -1, "signal SIGKILL", 0.1)
    assert session.orders == []
    session.slot_up(0)
    assert session.orders == [Run(0, 1, 0, 1, lease(1))]


def test_results_are_kept_for_those_who_wait_whatever_is_queued() -> None:
    scheduler = Scheduler(1, Limits(retention_bytes=100, retention_least_s=60.0))
    graph = Graph([NodeSpec("task", FUNCTION)], value=Slice(0, 0, 1))
    for number, size in ((1, 10), (2, 1000)):
        run = bytes([number]) * 16
        scheduler.handle(Submitted(run, "me", graph, [BlockMeta(0, 0, 1, size)]), Now(0.0, 0.0))
    scheduler.handle(CancelAsked(b"\1" * 16), Now(1.0, 1.0))
    scheduler.handle(Ticked(), Now(100.0, 100.0))
    assert (sorted(scheduler.ledger.runs), scheduler.ledger.kept) == (
        [1, 2],
        10,
    )  # what is queued does not count
    scheduler.handle(CancelAsked(b"\2" * 16), Now(101.0, 101.0))
    scheduler.handle(Ticked(), Now(101.0, 101.0))
    assert sorted(scheduler.ledger.runs) == [2]  # the old one made room, the new one is waited for
    scheduler.handle(Ticked(), Now(162.0, 162.0))
    assert (sorted(scheduler.ledger.runs), scheduler.ledger.kept) == ([], 0)
