"""Engines: credits from measured time, fair shares, retraction, and how an engine is lost."""

import pytest

from nbq.core.actions import Disown, Grant, Recall
from nbq.core.events import Beat, Began, EngineGone, EngineJoined, EngineLeaving, GaveBack, Reported
from nbq.core.facts import Returned
from nbq.core.fleet import Engine, Fleet
from nbq.core.model import Now
from tests.core.harness import Rig, done, info, node, shown, token

NOW = Now(0.0, 0.0)


def fleet(**slots: int) -> Fleet:
    """Return a fleet of engines with so many slots on the queue ``default``."""
    made = Fleet()
    for name, count in slots.items():
        engine = made.engine(name.encode())
        engine.info = info(name, count)
        made.note(engine)
    return made


def learned(rig: Rig, seconds: float) -> None:
    """Let the rig see an element of the task ``work`` run for so long."""
    rig.submit(node())
    [grant] = rig.grants()
    rig.report(grant, done(grant, seconds=seconds))


# ------------------------------------------------------------------ credits


def test_an_engine_away_or_leaving_has_no_slots():
    engine = Engine(b"e")
    assert engine.slots == 0
    engine.info = info(slots=4)
    assert engine.slots == 4
    engine.gone = True
    assert engine.slots == 0
    engine.gone, engine.leaving = False, True
    assert engine.slots == 0


@pytest.mark.parametrize(
    ("count", "load_s", "cost_s", "room"),
    [
        (0, 0.0, 1.0, 2),
        (1, 1.0, 1.0, 1),
        (2, 2.0, 1.0, 0),
        (0, 0.0, 0.001, 100),
        (90, 0.09, 0.001, 10),
        (100, 0.1, 0.001, 0),
        (0, 0.0, 20e-6, 2048),
        (2000, 0.0, 20e-6, 48),
        (1, 5.0, 0.001, 1),
    ],
)
def test_the_room_of_an_engine_is_its_free_slots_or_a_twentieth_of_a_second(count, load_s, cost_s, room):
    engine = Engine(b"e")
    engine.info = info(slots=2)
    engine.count, engine.load_s = count, load_s
    assert engine.room(cost_s) == room


def test_costs_are_learned_smoothed_and_bounded_below():
    made = Fleet()
    assert made.cost_s(b"f") == 0.05
    made.measured(b"f", 1.0)
    assert made.cost_s(b"f") == 1.0
    made.measured(b"f", 0.5)
    assert made.cost_s(b"f") == 0.75
    made.measured(b"g", 0.0)
    assert made.cost_s(b"g") == 20e-6


def test_the_functions_whose_cost_is_kept_are_bounded():
    made = Fleet()
    for number in range(10_001):
        made.measured(number.to_bytes(4), 1.0)
    assert made.cost_s((0).to_bytes(4)) == 0.05
    assert made.cost_s((1).to_bytes(4)) == 1.0


def test_engines_take_turns():
    made = fleet(a=1, b=1, c=1)
    picked = [made.pick("default", 1.0) for _ in range(4)]
    assert [(engine.id, room) for engine, room in filter(None, picked)] == [
        (b"a", 1), (b"b", 1), (b"c", 1), (b"a", 1),
    ]  # fmt: skip
    assert made.pick("other", 1.0) is None


def test_an_engine_without_room_has_no_turn_until_it_is_noted():
    made = fleet(a=1, b=1)
    made.engines[b"a"].count = 1
    assert [made.pick("default", 1.0), made.pick("default", 1.0)] == [(made.engines[b"b"], 1)] * 2
    made.engines[b"a"].count = 0
    made.note(made.engines[b"a"])
    assert [made.pick("default", 1.0)[0].id for _ in range(2)] == [b"b", b"a"]


def test_tasks_of_unknown_or_long_time_are_not_prefetched():
    rig = Rig()
    rig.join(slots=2)
    rig.submit(node(size=10))
    [grant] = rig.grants()
    assert (grant.lo, grant.hi) == (0, 2)
    rig.report(grant, done(grant, seconds=4.0))
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(2, 4)]
    assert rig.grants() == []


def test_short_tasks_are_prefetched_by_their_measured_time():
    rig = Rig()
    rig.join(slots=2)
    learned(rig, 0.001)
    rig.submit(node(size=1000))
    grants = rig.grants()
    assert [(grant.lo, grant.hi) for grant in grants] == [(0, 100)]
    rig.report(grants[0], done(grants[0], 0, 40, seconds=0.04))
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(100, 140)]


def test_few_elements_are_shared_out_among_many_engines():
    rig = Rig()
    rig.join("a", 2)
    learned(rig, 0.001)
    for name in ("b", "c", "d"):
        rig.join(name, 2)
    rig.submit(node(size=80))
    first = rig.grants()[:8]
    assert [(grant.engine, grant.hi - grant.lo) for grant in first] == [
        (b"a", 10), (b"b", 8), (b"c", 7), (b"d", 6), (b"a", 6), (b"b", 5), (b"c", 4), (b"d", 4),
    ]  # fmt: skip


def test_plenty_of_elements_go_out_in_whole_leases():
    rig = Rig()
    rig.join("a", 8)
    learned(rig, 0.0001)
    rig.join("b", 8)
    rig.submit(node(size=20_000))
    assert {grant.hi - grant.lo for grant in rig.grants()[:8]} == {256}


# ------------------------------------------------------------------ retraction


def busy() -> tuple[Rig, Grant]:
    """Return a rig whose engine ``busy`` (one slot) holds eleven short elements and runs the first."""
    rig = Rig()
    rig.join("busy")
    learned(rig, 0.001)
    rig.submit(node(size=11))
    [grant] = rig.grants()
    rig.send(Began(b"busy", [(grant.token, 0)]))
    return rig, grant


def test_what_one_engine_holds_in_advance_is_recalled_for_one_that_idles():
    rig, grant = busy()
    assert (grant.lo, grant.hi) == (0, 11)
    assert rig.tick() == []
    rig.join("idle", 3)
    assert rig.scheduler.wait_s(rig.now) == 0.01
    assert rig.tick() == [Recall(b"busy", 3)]
    assert rig.tick() == []
    facts, _ = rig.send(GaveBack(b"busy", grant.token, 8, 11))
    assert facts == [Returned(2, 0, 8, 11, grant.token)]
    assert shown(rig.scheduler.ledger.runs[2]) == ["rlllllllqqq"]
    [again] = [action for action in rig.tick() if isinstance(action, Grant) and action.engine == b"idle"]
    assert (again.lo, again.hi, again.attempt) == (9, 10, 1)


def test_at_most_half_of_what_is_held_in_advance_is_recalled():
    rig, _ = busy()
    rig.join("idle", 40)
    assert rig.tick() == [Recall(b"busy", 5)]


def test_a_recall_without_an_answer_is_repeated_after_a_while():
    rig, _ = busy()
    rig.join("idle", 1)
    assert rig.tick() == [Recall(b"busy", 1)]
    assert rig.tick(0.05) == []
    assert rig.tick(0.05) == [Recall(b"busy", 1)]


def test_nothing_is_recalled_for_an_engine_of_other_queues():
    rig, _ = busy()
    rig.join("idle", 4, ("other",))
    assert rig.tick() == []


def test_what_has_ended_or_is_of_another_engine_is_not_given_back():
    rig, grant = busy()
    rig.report(grant, done(grant, 0, 2))
    assert rig.send(GaveBack(b"other", grant.token, 5, 6)) == ([], [])
    assert rig.send(GaveBack(b"busy", token(99), 5, 6)) == ([], [])
    facts, _ = rig.send(GaveBack(b"busy", grant.token, 1, 3))
    assert facts == [Returned(2, 0, 2, 3, grant.token)]


def test_what_is_given_back_is_next_and_in_order():
    rig, grant = busy()
    rig.submit(node(size=1))
    rig.send(GaveBack(b"busy", grant.token, 1, 11))
    rig.send(EngineGone(b"busy"))
    rig.join("next")
    order = []
    while grants := [grant for grant in rig.grants() if grant.engine == b"next"]:
        for grant in grants:
            order.append((grant.run, grant.lo, grant.hi))
            rig.report(grant)
    assert order[0][:2] == (2, 1)
    assert order == sorted(order)


# ------------------------------------------------------------------ coming and going


def held(size: int = 2) -> tuple[Rig, Grant]:
    rig = Rig()
    rig.join(slots=size)
    rig.submit(node(size=size))
    [grant] = rig.grants()
    return rig, grant


def test_an_engine_that_is_gone_has_a_second_to_come_back():
    rig, grant = held()
    assert rig.send(EngineGone(b"one")) == ([], [])
    assert rig.scheduler.wait_s(rig.now) == 1.0
    rig.tick(0.9)
    assert shown(rig.scheduler.ledger.runs[1]) == ["ll"]
    assert rig.join(slots=2, held=(grant.token,)) == []
    rig.tick(5.0)
    rig.report(grant)
    assert shown(rig.scheduler.ledger.runs[1]) == ["SS"]


def test_an_engine_that_stays_away_loses_its_leases():
    rig, grant = held()
    rig.send(EngineGone(b"one"))
    facts = rig.send_after(1.0)
    assert facts == [Returned(1, 0, 0, 2, grant.token, lost=True)]
    assert (shown(rig.scheduler.ledger.runs[1]), rig.scheduler.ledger.fleet.engines) == (["qq"], {})
    assert rig.join(held=(grant.token,)) == [Disown(b"one", [grant.token])]


def test_nothing_is_granted_to_an_engine_that_is_gone():
    rig = Rig()
    rig.join()
    rig.send(EngineGone(b"one"))
    rig.submit(node())
    assert rig.grants() == []
    rig.join()
    assert len(rig.grants()) == 1


def test_a_silent_engine_loses_its_leases_after_a_lease_period():
    rig, grant = held()
    rig.tick(14.0)
    rig.send(Beat(b"one", [grant.token]))
    assert rig.send_after(14.0) == []
    assert rig.send_after(1.0) == [Returned(1, 0, 0, 2, grant.token, lost=True)]
    assert rig.scheduler.ledger.fleet.engines == {}


def test_what_may_have_begun_on_a_lost_engine_is_another_attempt_and_no_lease_mixes_attempts():
    rig, _ = held()
    rig.submit(node(size=2))
    rig.send(EngineGone(b"one"))
    rig.send_after(1.0)
    rig.join("two", 8)
    assert [(g.run, g.lo, g.hi, g.attempt) for g in rig.grants()] == [(1, 0, 2, 2), (2, 0, 2, 1)]
    run = rig.scheduler.ledger.runs[1]
    assert [run.nodes[0].started(index) for index in range(2)] == [2, 2]
    assert run.nodes[0].sparse.deaths == {}


def test_a_lease_ends_where_the_attempt_changes():
    rig = Rig()
    rig.join(slots=2)
    rig.submit(node(size=5))
    assert [(g.lo, g.hi) for g in rig.grants()] == [(0, 2)]
    rig.send(EngineGone(b"one"))
    rig.send_after(1.0)
    rig.join("two", 8)
    assert [(g.lo, g.hi, g.attempt) for g in rig.grants()][-2:] == [(0, 2, 2), (2, 5, 1)]


def test_an_outcome_is_a_sign_of_life():
    rig, grant = held()
    rig.tick(14.0)
    rig.send(Reported(b"one", [done(grant, 0, 1)]))
    assert rig.send_after(14.0) == []
    assert shown(rig.scheduler.ledger.runs[1]) == ["Sl"]


def test_lost_leases_are_queued_again_in_their_order():
    rig = Rig()
    rig.join(slots=60)
    rig.submit(node(size=60), most=20)
    assert len(rig.grants()) == 3
    rig.send(EngineGone(b"one"))
    rig.tick(1.0)
    rig.join("two", 60)
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(0, 20), (20, 40), (40, 60)]


def test_an_engine_that_joins_again_keeps_what_it_lists_and_nothing_else():
    rig = Rig()
    rig.join(slots=4)
    rig.submit(node(size=4), most=2)
    first, second = rig.grants()
    actions = rig.join(slots=4, held=(second.token, token(77)))
    assert actions == [Disown(b"one", [token(77)])]
    assert shown(rig.scheduler.ledger.runs[1]) == ["qqll"]
    assert rig.report(first)[1] == [Disown(b"one", [first.token])]


def test_a_lease_that_its_engine_does_not_list_is_lost_after_a_while():
    rig, grant = held()
    rig.tick(5.0)
    assert rig.send(Beat(b"one", [])) == ([], [])
    rig.tick(0.5)
    facts, _ = rig.send(Beat(b"one", []))
    assert facts == [Returned(1, 0, 0, 2, grant.token)]
    assert rig.send(Beat(b"one", [grant.token]))[1] == [Disown(b"one", [grant.token])]


def test_an_engine_that_drains_gets_nothing_more_and_may_finish():
    rig, grant = held()
    rig.submit(node())
    assert rig.send(EngineLeaving(b"one")) == ([], [])
    rig.send(GaveBack(b"one", grant.token, 1, 2))
    rig.report(grant, done(grant, 0, 1, seconds=1.0))
    assert rig.grants() == []
    assert [shown(run) for run in rig.scheduler.ledger.runs.values()] == [["Sq"], ["q"]]
    rig.join("two")
    assert [(grant.run, grant.lo) for grant in rig.grants()] == [(1, 1)]


def test_what_an_unknown_engine_says_has_no_effect():
    rig = Rig()
    assert rig.send(Beat(b"who", [1])) == ([], [])
    assert rig.send(EngineGone(b"who")) == ([], [])
    assert rig.send(EngineLeaving(b"who")) == ([], [])
    assert rig.send(Began(b"who", [(1, 1)])) == ([], [])
    assert rig.scheduler.ledger.fleet.engines == {}


def test_an_engine_that_comes_and_goes_for_ever_leaves_nothing_behind():
    rig = Rig()
    for _ in range(200):
        rig.join()
        rig.send(EngineGone(b"one"))
        rig.tick(0.1)
    assert len(rig.scheduler._deadlines._engines) == 1
    rig.tick(1.0)
    assert rig.scheduler.ledger.fleet.engines == {}


def test_an_engine_that_began_anew_is_there_once() -> None:
    rig = Rig()
    rig.join("one")
    rig.send(EngineLeaving(b"one"))
    rig.send(EngineJoined(b"anew", info("one"), []))
    assert list(rig.scheduler.ledger.fleet.engines) == [b"anew"]


def test_an_engine_that_began_anew_leaves_its_work_where_it_was() -> None:
    rig = Rig()
    rig.join("one")
    rig.submit(node("add", 1))
    rig.tick()
    rig.send(EngineLeaving(b"one"))
    rig.send(EngineJoined(b"anew", info("one"), []))
    assert list(rig.scheduler.ledger.fleet.engines) == [b"one", b"anew"]
