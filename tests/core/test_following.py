"""Links, errbacks and bodies that take failures: what runs when something has ended, and what is skipped."""

from __future__ import annotations

import pytest

from nbq.core.events import CancelAsked
from nbq.core.model import Nested, On, Slice
from nbq.core.queries import count_states
from tests.core.harness import Rig, done, node, shown


def rig() -> Rig:
    made = Rig()
    made.join(slots=50)
    return made


def test_a_link_runs_after_success_and_is_no_part_of_the_value():
    world = rig()
    link = node("link", after_node=0, fed=True, on=On.LINK)
    run = world.submit(node("a"), link, value=Slice(0, 0, 1))
    assert world.work() == [(0, 0, 1), (1, 0, 1)]
    assert shown(run) == ["S", "S"]


@pytest.mark.parametrize("state", ["F", "R"])
def test_a_link_and_all_behind_it_are_skipped_when_its_task_does_not_succeed(state):
    world = rig()
    link = node("link", after_node=0, fed=True, on=On.LINK)
    run = world.submit(node("a"), link, node("more", after_node=1, fed=True), value=Slice(0, 0, 1))
    (grant,) = world.grants()
    world.report(grant, done(grant, states=state))
    assert shown(run) == [state, "-", "-"]
    assert run.left == 0
    assert (run.bad, run.skipped) == (1, 2)
    assert sum(count_states(run.nodes).values()) == 1


def test_links_of_an_array_follow_element_by_element():
    world = rig()
    run = world.submit(
        node("a", 4), node("link", 4, after_node=0, on=On.LINK), lists=([Slice(0, 0, 4)],), value=Nested(0)
    )
    (grant,) = world.grants()
    world.report(grant, done(grant, states="SFSR"))
    assert shown(run) == ["SFSR", "q-q-"]


def errback(after: int = 0, **fields: object) -> object:
    return node("errback", after_node=after, fed=True, on=On.FAILURE, **fields)


@pytest.mark.parametrize(("state", "then"), [("F", "q"), ("S", "-"), ("R", "-")])
def test_an_errback_runs_for_a_failure_and_nothing_else(state, then):
    world = rig()
    run = world.submit(node("a"), errback(), value=Slice(0, 0, 1))
    (grant,) = world.grants()
    world.report(grant, done(grant, states=state))
    assert shown(run) == [state, then]


def test_an_errback_of_a_chain_runs_once_wherever_a_step_of_it_failed():
    for failing in range(3):
        world = rig()
        steps = [node("a"), *(node("a", after_node=number, fed=True) for number in range(2))]
        run = world.submit(*steps, errback(2), value=Slice(2, 0, 1))
        for step in range(failing + 1):
            (grant,) = world.grants()
            world.report(grant, done(grant, states="F" if step == failing else "S"))
        assert shown(run) == [*"S" * failing, *"F" * (3 - failing), "q"]


def test_a_failure_before_what_an_errback_guards_is_not_its_own():
    world = rig()
    run = world.submit(
        node("before"), node("guarded", after_node=0), errback(1, given_node=0), value=Slice(1, 0, 1)
    )
    (grant,) = world.grants()
    world.report(grant, done(grant, states="F"))
    assert shown(run) == ["F", "F", "-"]


def test_whose_failure_it_is_is_asked_element_by_element():
    world = rig()
    run = world.submit(
        node("before", 3),
        node("guarded", 3, after_node=0),
        errback(1, size=3, given_node=0),
        lists=([Slice(1, 0, 3)],),
        value=Nested(0),
    )
    (grant,) = world.grants()
    world.report(grant, done(grant, states="SFS"))
    for grant in world.grants():
        world.report(grant, done(grant, states="F" if grant.lo == 0 else "S"))
    assert shown(run) == ["SFS", "FFS", "q--"]


def test_an_errback_of_a_header_runs_at_its_first_failure_and_once():
    world = rig()
    run = world.submit(
        node("member", 3),
        node("body", after_list=0, fed=True),
        node("errback", after_list=0, fed=True, on=On.FAILURE, told=1),
        lists=([Slice(0, 0, 3)],),
        value=Slice(1, 0, 1),
    )
    (grant,) = world.grants()
    world.report(grant, done(grant, 1, 2, states="F"))
    assert shown(run) == ["lFl", "F", "q"]
    world.report(grant, done(grant, 0, 1, states="F"), done(grant, 2, 3))
    assert shown(run) == ["FFS", "F", "q"]
    assert run.feed(2, 0, 1) == (False, Slice(0, 1, 2))


def settled(given: int = -1) -> Rig:
    world = rig()
    world.submit(
        node("gate"),
        node("member", 3, after_node=0, fed=True),
        node("body", after_list=0, fed=True, on=On.SETTLED, given_node=given),
        lists=([Slice(1, 0, 3)],),
        value=Slice(2, 0, 1),
    )
    return world


def test_a_body_that_takes_failures_waits_for_all_members_and_runs():
    world = settled(given=0)
    run = world.scheduler.ledger.runs[1]
    (gate,) = world.grants()
    world.report(gate)
    (grant,) = world.grants()
    world.report(grant, done(grant, 0, 1, states="F"))
    assert shown(run) == ["S", "Fll", "."]
    world.report(grant, done(grant, 1, 3))
    assert shown(run) == ["S", "FSS", "q"]


def test_a_body_that_takes_failures_fails_with_a_chord_that_never_started():
    world = settled(given=0)
    run = world.scheduler.ledger.runs[1]
    (gate,) = world.grants()
    world.report(gate, done(gate, states="F"))
    assert shown(run) == ["F", "FFF", "F"]


def test_a_cancelled_run_calls_no_errback_and_shows_no_link():
    world = rig()
    run = world.submit(node("a"), errback(), node("link", after_node=0, on=On.LINK), value=Slice(0, 0, 1))
    world.grants()
    world.send(CancelAsked(run.id))
    assert shown(run) == ["R", "-", "-"]


def test_a_gate_that_is_open_when_what_it_guards_is_cancelled_decides_later():
    world = settled(given=0)
    run = world.scheduler.ledger.runs[1]
    world.grants()
    world.send(CancelAsked(run.id, 1, 0, 3))
    assert shown(run) == ["l", "RRR", "."]
    world.report(world.scheduler.ledger.leases and next_grant(world))
    assert shown(run) == ["S", "RRR", "q"]


def next_grant(world: Rig):
    from nbq.core.actions import Grant

    (lease,) = world.scheduler.ledger.leases.values()
    return Grant(lease.engine, 1, lease.node, lease.lo, lease.hi, lease.token, 1)


def test_fail_fast_cancels_what_runs_beside_a_failure():
    world = rig()
    run = world.submit(
        node("first", 3, fail_fast=True),
        node("second", 3, after_node=0, fail_fast=True),
        node("other", fail_fast=True),
        node("body", after_list=0),
        lists=([Slice(1, 0, 3), Slice(2, 0, 1)],),
        value=Slice(3, 0, 1),
    )
    grant = next(grant for grant in world.grants() if grant.node == 0)
    world.report(grant, done(grant, 1, 2, states="F"))
    assert shown(run) == ["RFR", "RFR", "R", "F"]


@pytest.mark.parametrize("count", range(1, 30))
def test_a_crash_after_any_fact_of_links_and_errbacks_decides_the_same(count):
    world = rig()
    run = world.submit(
        node("before", 3),
        node("guarded", 3, after_node=0, fed=True),
        errback(1, size=3, given_node=0),
        node("link", 3, after_node=1, on=On.LINK),
        node("body", after_list=0, fed=True, on=On.SETTLED),
        lists=([Slice(1, 0, 3)],),
        value=Slice(4, 0, 1),
    )
    for _ in range(20):
        for grant in world.grants():
            world.report(
                grant, done(grant, states="".join("SFS"[at % 3] for at in range(grant.lo, grant.hi)))
            )
    assert shown(run) == ["SFS", "SFS", "---", "S-S", "S"]
    whole, world.facts = world.facts, world.facts[:count]
    world.scheduler = world.twin()
    world.epoch += 1
    world.scheduler.recovered(world.now)
    world.facts = whole[:count]
    world.tick(16.0)  # what may have been running has not been heard of
    world.join(slots=50)
    for _ in range(20):
        for grant in world.grants():
            world.report(
                grant, done(grant, states="".join("SFS"[at % 3] for at in range(grant.lo, grant.hi)))
            )
    assert shown(world.scheduler.ledger.runs[1]) == ["SFS", "SFS", "---", "S-S", "S"]
