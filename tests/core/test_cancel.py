"""Cancelling: every state ends at once, what runs is interrupted, what comes later is ignored."""

from nbq.core.actions import Disown, Interrupt, Reject
from nbq.core.events import Began, CancelAsked, GaveBack, Reported, SlotDied
from nbq.core.facts import Ended, Inherited
from nbq.core.model import Nested, Slice, State
from tests.core.harness import WALL_S, Rig, done, node, shown


def ended(node_: int, lo: int, hi: int, text: str = "cancelled") -> Ended:
    return Ended(1, node_, lo, hi, State.REVOKED, "cancelled", text, WALL_S)


def test_what_is_queued_ends_at_once():
    rig = Rig()
    rig.join(slots=8)
    run = rig.submit(node(size=5))
    assert rig.send(CancelAsked(run.id)) == ([ended(0, 0, 5)], [])
    assert shown(run) == ["RRRRR"]
    assert rig.tick() == []


def test_what_is_scheduled_or_waits_ends_at_once_and_never_starts():
    rig = Rig()
    rig.join(slots=8)
    run = rig.submit(node("a", 2, countdown_s=5.0), node("b", 2, after_node=0))
    assert rig.send(CancelAsked(run.id, text="no more")) == (
        [ended(0, 0, 2, "no more"), ended(1, 0, 2, "no more")],
        [],
    )
    assert rig.tick(10.0) == []
    assert shown(run) == ["RR", "RR"]


def test_what_an_engine_holds_is_interrupted():
    rig = Rig()
    rig.join(slots=4)
    run = rig.submit(node(size=6))
    [grant] = rig.grants()
    rig.send(Began(b"one", [(grant.token, 1), (grant.token, 2)]))
    assert shown(run) == ["lrrlqq"]
    facts, actions = rig.send(CancelAsked(run.id))
    assert facts == [ended(0, 4, 6), ended(0, 0, 1), ended(0, 3, 4), ended(0, 1, 3)]
    assert actions == [
        Interrupt(b"one", grant.token, 0, 1),
        Interrupt(b"one", grant.token, 3, 4),
        Interrupt(b"one", grant.token, 1, 3),
    ]
    assert (shown(run), rig.scheduler.ledger.leases) == (["RRRRRR"], {})


def test_what_an_engine_says_afterwards_is_ignored():
    rig = Rig()
    rig.join(slots=4)
    run = rig.submit(node(size=4))
    [grant] = rig.grants()
    rig.send(CancelAsked(run.id, 0, 1, 3))
    assert shown(run) == ["lRRl"]
    assert rig.send(Began(b"one", [(grant.token, 1)])) == ([], [])
    assert rig.send(GaveBack(b"one", grant.token, 1, 3)) == ([], [])
    assert rig.send(SlotDied(b"one", grant.token, 2, "killed")) == ([], [])
    facts, _ = rig.report(grant, done(grant, states="SRRS"))
    assert [(fact.lo, fact.hi) for fact in facts] == [(0, 1), (3, 4)]
    assert shown(run) == ["SRRS"]
    assert rig.send(Reported(b"one", [done(grant)])) == ([], [Disown(b"one", [grant.token])])


def test_a_part_of_a_node_can_be_cancelled_and_only_its_followers_end():
    rig = Rig()
    run = rig.submit(node("a", 4), node("b", 4, after_node=0, fed=True))
    facts, _ = rig.send(CancelAsked(run.id, 0, 1, 3))
    assert facts == [ended(0, 1, 3), Inherited(1, 1, 1, 3, State.REVOKED, 0, at_s=WALL_S)]
    assert shown(run) == ["qRRq", ".RR."]


def test_cancelling_a_member_ends_the_chord_and_not_its_siblings():
    rig = Rig()
    run = rig.submit(node("a", 3), node("b", after_list=0, fed=True), lists=([Slice(0, 0, 3)],))
    facts, _ = rig.send(CancelAsked(run.id, 0, 1, 2))
    assert facts == [ended(0, 1, 2), Inherited(1, 1, 0, 1, State.REVOKED, 0, 1, WALL_S)]
    assert shown(run) == ["qRq", "R"]


def test_what_has_ended_stays_as_it_is():
    rig = Rig()
    rig.join(slots=2)
    run = rig.submit(node(size=2), lists=([Slice(0, 0, 2)],), value=Nested(0))
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="SF"))
    assert rig.send(CancelAsked(run.id)) == ([], [])
    assert shown(run) == ["SF"]


def test_a_range_beyond_the_node_or_a_node_beyond_the_run_cancels_nothing_else():
    rig = Rig()
    run = rig.submit(node(size=2))
    assert rig.send(CancelAsked(run.id, 7, 0, 1)) == ([], [])
    assert rig.send(CancelAsked(run.id, 0, 1, 99)) == ([ended(0, 1, 2)], [])
    assert rig.send(CancelAsked(b"?" * 16)) == ([], [Reject("unknown", "no such run")])


def test_a_cancelled_part_of_a_queued_range_is_skipped():
    rig = Rig()
    rig.join(slots=10)
    run = rig.submit(node(size=10))
    rig.send(CancelAsked(run.id, 0, 0, 3))
    rig.send(CancelAsked(run.id, 0, 5, 6))
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(3, 5), (6, 10)]


def test_a_slot_is_free_for_other_work_after_a_cancel():
    rig = Rig()
    rig.join()
    run = rig.submit(node())
    rig.grants()
    rig.submit(node())
    assert rig.grants() == []
    rig.send(CancelAsked(run.id))
    assert [grant.run for grant in rig.grants()] == [2]


def test_an_engine_that_comes_back_is_told_what_was_cancelled_meanwhile():
    rig = Rig()
    rig.join(slots=3)
    run = rig.submit(node(size=3))
    [grant] = rig.grants()
    rig.send(CancelAsked(run.id, 0, 0, 1))
    rig.send(CancelAsked(run.id, 0, 2, 3))
    assert rig.join(slots=3, held=(grant.token,)) == [
        Interrupt(b"one", grant.token, 0, 1),
        Interrupt(b"one", grant.token, 2, 3),
    ]
    rig.send(CancelAsked(run.id))
    assert rig.join(slots=3, held=(grant.token,)) == [Disown(b"one", [grant.token])]
