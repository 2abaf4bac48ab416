"""The ledger: facts alone give the same state, live and in recovery, wherever a crash cuts them."""

import pytest

from nbq.core.actions import Disown, Interrupt
from nbq.core.events import Beat, Began, CancelAsked, EngineGone, ForgetAsked, Outcome, Reported, SlotDied
from nbq.core.facts import Accepted, Ended, Forgotten, Inherited, Leased, Returned, Settled
from nbq.core.ledger import Ledger
from nbq.core.model import BlockMeta, Graph, Nested, Now, Slice, State
from nbq.core.scheduler import Scheduler
from tests.core.harness import EPOCH, WALL_S, Rig, check_counters, done, durable, node, shown, token


def eventful() -> Rig:
    """Return a rig in which every kind of fact has happened, and every state is taken."""
    rig = Rig()
    rig.join("one", 3)
    rig.submit(node("gone", ids={0: "first"}))
    rig.work()
    rig.send(ForgetAsked(rig.scheduler.ledger.runs[1].id))
    lists = ([Slice(0, 0, 4)], [Nested(0), Slice(1, 0, 1)])
    specs = (
        node("a", 4),
        node("b", ids={0: "mine"}),
        node("c", 2, after_list=1, fed=True),
        node("d", after_node=1),
    )
    rig.submit(*specs, lists=lists)
    first = next(grant for grant in rig.grants() if grant.node == 0)
    rig.send(Began(b"one", [(first.token, 0)]))
    rig.send(SlotDied(b"one", first.token, 0, "signal 9"))
    rig.report(first, done(first, 1, 2, seconds=1.0), done(first, 2, 3, states="F", errors={2: "boom"}))
    rig.join("two", 2)
    rig.submit(node("e", 5, countdown_s=30.0), node("f", 3, expires_s=200.0), node("g", 3, after_node=1))
    rig.tick()
    rig.send(CancelAsked(rig.scheduler.ledger.runs[3].id, 0, 1, 2))
    rig.send(EngineGone(b"two"))
    rig.tick(1.0)
    return rig


def test_every_kind_of_fact_has_happened_in_the_eventful_rig():
    kinds = {type(fact) for fact in eventful().facts}
    assert kinds == {Accepted, Leased, Returned, Settled, Ended, Inherited, Forgotten}


def test_facts_alone_give_the_same_state():
    rig = eventful()
    assert durable(rig.twin()) == durable(rig.scheduler)


def test_after_a_restart_all_ends_as_it_would_have():
    rig = eventful()
    rig.restart()
    rig.join("three", 3)
    rig.tick(15.0)
    rig.tick(20.0)
    rig.join("three", 3)
    rig.work()
    assert rig.scheduler.ledger.left == 0
    runs = rig.scheduler.ledger.runs
    assert [shown(run) for run in runs.values()] == [["SSFS", "S", "FF", "S"], ["SRSSS", "SSS", "SSS"]]


def cut_points() -> int:
    return len(eventful().facts)


@pytest.mark.parametrize("cut", range(cut_points() + 1))
def test_a_crash_after_any_fact_loses_nothing_and_all_ends(cut):
    rig = eventful()
    kept = rig.facts[:cut]
    rig.facts = kept
    rig.scheduler = Scheduler(EPOCH + 1, rig.scheduler.limits)
    for fact in kept:
        rig.scheduler.apply(fact)
    ended = {(number, part.number): bytes(part.state) for number, part in parts(rig.scheduler)}
    rig.facts += rig.scheduler.recovered(rig.now)[0]
    check_counters(rig.scheduler)
    assert durable(rig.twin()) == durable(rig.scheduler)
    rig.tick(15.0)
    rig.tick(30.0)
    rig.join("three", 3)
    rig.work()
    assert rig.scheduler.ledger.left == 0
    for number, part in parts(rig.scheduler):
        before = ended[number, part.number]
        assert [new for old, new in zip(before, part.state, strict=True) if old >= State.SUCCESS] == [
            old for old in before if old >= State.SUCCESS
        ]


def parts(scheduler: Scheduler) -> list:
    return [(number, part) for number, run in scheduler.ledger.runs.items() for part in run.nodes]


def test_a_cascade_that_was_cut_is_finished():
    rig = Rig()
    rig.join()
    rig.submit(node("a"), node("b", after_node=0), node("c", after_node=1), node("d", after_list=0),
               lists=([Slice(2, 0, 1)],))  # fmt: skip
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    assert [type(fact) for fact in rig.facts] == [Accepted, Leased, Settled, Inherited, Inherited, Inherited]
    whole = rig.facts
    for cut in (3, 4, 5):
        twin = Scheduler(EPOCH + 1)
        for fact in whole[:cut]:
            twin.apply(fact)
        facts, actions = twin.recovered(rig.now)
        assert (facts, actions) == (whole[cut:], [])


# ------------------------------------------------------------------ what an engine held at a restart


def held() -> Rig:
    rig = Rig()
    rig.join(slots=4)
    rig.submit(node(size=4), node("b"), value=Slice(1, 0, 1))
    assert len(rig.grants()) == 1
    rig.restart()
    return rig


def test_what_may_be_running_waits_for_its_engine_and_all_else_starts_at_once():
    rig = held()
    rig.join("two", 8)
    assert [(grant.node, grant.token) for grant in rig.grants()] == [(1, (2 << 40) + 1)]
    assert shown(rig.scheduler.ledger.runs[1]) == ["llll", "l"]
    assert rig.send_after(14.9) == []
    rig.send(Beat(b"two", [(2 << 40) + 1]))
    assert rig.send_after(0.1)[0] == Returned(1, 0, 0, 4, token(1), lost=True)


def test_an_engine_that_comes_back_goes_on_with_what_it_holds():
    rig = held()
    assert rig.join(slots=4, held=(token(1),)) == []
    facts, _ = rig.send(Reported(b"one", [Outcome(token(1), 0, 4, size=5)]))
    assert [(type(fact), fact.lo, fact.hi) for fact in facts] == [(Settled, 0, 4)]
    assert shown(rig.scheduler.ledger.runs[1])[0] == "SSSS"


def test_an_engine_that_comes_back_with_nothing_is_granted_all_again():
    rig = held()
    assert rig.join(slots=8) == []
    assert [(grant.node, grant.lo, grant.hi) for grant in rig.grants()] == [(0, 0, 4), (1, 0, 1)]


def test_an_engine_is_told_after_a_restart_what_was_cancelled_before_it():
    rig = Rig()
    rig.join(slots=4)
    run = rig.submit(node(size=4))
    [grant] = rig.grants()
    rig.send(CancelAsked(run.id, 0, 1, 3))
    rig.restart()
    assert rig.join(slots=4, held=(grant.token, token(9))) == [
        Interrupt(b"one", grant.token, 1, 3),
        Disown(b"one", [token(9)]),
    ]


def test_tokens_of_a_later_life_are_larger():
    rig = held()
    rig.join("two", 8)
    [grant] = rig.grants()
    assert grant.token == (2 << 40) + 1 > token(1)


def test_finished_runs_are_known_to_retention_after_a_restart():
    rig = Rig()
    rig.join(slots=2)
    for _ in range(2):
        rig.submit(node())
    grants = rig.grants()
    rig.report(grants[1])
    rig.wall_s += 1.0
    rig.report(grants[0])
    rig.restart()
    assert list(rig.scheduler.ledger.finished) == [2, 1]
    facts = rig.send_after(7 * 24 * 3600.0 + 2.0)
    assert [fact for fact in facts if isinstance(fact, Forgotten)] == [Forgotten(2), Forgotten(1)]


def test_run_numbers_go_on_after_a_restart():
    rig = eventful()
    rig.restart()
    assert rig.scheduler.reserve() == 4


# ------------------------------------------------------------------ the ledger alone


def accepted() -> Ledger:
    ledger = Ledger()
    graph = Graph([node("a", 3, ids={1: "mine"}), node("b", 3, after_node=0)], value=Slice(1, 0, 1))
    ledger.apply(Accepted(5, b"r" * 16, "me", 10.0, graph, [BlockMeta(0, 0, 3, 30), BlockMeta(1, 0, 3, 40)]))
    return ledger


def test_an_accepted_run_is_known_by_number_id_and_given_ids():
    ledger = accepted()
    assert list(ledger.runs) == [5]
    assert ledger.by_id == {b"r" * 16: ledger.runs[5]}
    assert (ledger.given, ledger.left, ledger.weight, ledger.reserve()) == ({"mine": (5, 0, 1)}, 6, 70, 6)


def test_what_ends_wakes_what_follows_it():
    ledger = accepted()
    ledger.apply(Ended(5, 0, 1, 3, State.FAILURE, "lost", "gone", 11.0))
    run = ledger.runs[5]
    assert list(ledger.wakes) == [(run, 1, 1, 3)]
    assert (ledger.left, list(ledger.finished), shown(run)) == (4, [], [".FF", "..."])


def test_a_lease_lives_until_its_last_element_has_ended_or_returned():
    ledger = accepted()
    ledger.apply(Leased(5, 0, 0, 3, 77, b"e"))
    engine = ledger.fleet.engines[b"e"]
    assert (engine.count, list(engine.leases), list(ledger.leases)) == (3, [77], [77])
    ledger.apply(Settled(5, 0, 0, 1, 77, b"", 2, 9, "", 11.0, "e", 1.0, {}, 0, 1))
    ledger.apply(Returned(5, 0, 1, 2, 77))
    assert (engine.count, list(engine.leases), ledger.weight) == (1, [77], 79)
    ledger.apply(Returned(5, 0, 2, 3, 77, True, "signal 9"))
    run = ledger.runs[5]
    assert (engine.count, engine.leases, ledger.leases, run.leases) == (0, {}, {}, {})
    assert (shown(run), run.nodes[0].started(2), run.nodes[0].started(1)) == (["S..", "..."], 2, 1)


def test_the_end_of_the_last_element_finishes_the_run():
    ledger = accepted()
    ledger.apply(Ended(5, 0, 0, 3, State.REVOKED, "cancelled", "", 11.0))
    ledger.apply(Inherited(5, 1, 0, 3, State.REVOKED, 0, at_s=12.0))
    assert (ledger.left, list(ledger.finished), ledger.runs[5].finished_s) == (0, [5], 12.0)
    ledger.apply(Forgotten(5))
    assert (ledger.runs, ledger.by_id, ledger.given, ledger.weight) == ({}, {}, {}, 0)


def test_recovery_of_nothing_is_nothing():
    scheduler = Scheduler(EPOCH)
    assert scheduler.recovered(Now(0.0, WALL_S)) == ([], [])
    assert scheduler.wait_s(Now(0.0, WALL_S)) == 30.0
