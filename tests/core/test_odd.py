"""Reports and graphs that no honest peer sends, replacements without end, and costs that must not grow."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nbq.core.actions import Abort, Grant, Interrupt
from nbq.core.events import AbortAsked, CancelAsked, EngineGone, Outcome
from nbq.core.facts import Became
from nbq.core.graph import UnfitGraph, check_graph
from nbq.core.model import Graph, Nested, On, Slice
from nbq.core.queries import element
from nbq.core.runs import within
from nbq.forward import lease_messages
from nbq.wire import Lease
from tests.core.harness import Rig, blocks_of, done, node, shown
from tests.core.test_again import added, again, replaced, rig


class OnlyAsked(dict[int, Any]):
    """A table that cannot be gone through."""

    def __iter__(self):
        raise AssertionError("a decision about one element looks at all")


def deep(world: Rig, count: int) -> Grant:
    """Let the granted element replace itself again and again; return the grant of the last."""
    (grant,) = world.grants()
    for _ in range(count):
        world.report(grant, replaced(grant, added(node("again"))))
        (grant,) = world.grants()
    return grant


def test_what_an_element_has_of_its_own_is_found_without_a_look_at_others():
    table = OnlyAsked({3: "a", 5: "b", 900: "c"})
    assert within(table, 4, 6) == [5]
    assert within({9: 1, 2: 1, 5: 1}, 0, 9) == [2, 5]


def test_a_task_that_replaces_itself_without_end_has_its_value_one_step_away():
    world = rig()
    run = world.submit(node("poll"), node("next", after_node=0, fed=True))
    world.report(deep(world, 400))
    (grant,) = world.grants()
    assert {fact.value for fact in world.facts if isinstance(fact, Became)} == {Slice(401, 0, 1)}
    (lease,) = lease_messages(run, grant, lambda run, number: b"block")
    assert isinstance(lease, Lease)
    assert lease.feed is not None
    assert [(alias.node, alias.value) for alias in lease.feed.became] == [(0, Slice(401, 0, 1))]
    assert [block.node for block in lease.feed.blocks] == [401]


def test_a_cancel_reaches_the_last_of_many_replacements():
    world = rig()
    run = world.submit(node("poll"))
    deep(world, 1200)
    _, actions = world.send(CancelAsked(run.id, 0, 0, 1))
    assert [type(action) for action in actions] == [Interrupt]
    assert set(shown(run)) == {"R"}


def test_lists_that_replace_members_of_lists_end_somewhere():
    world = rig()
    run = world.submit(node("tree"))
    group = added(node("tree"), lists=([Slice(0, 0, 1)],), value=Nested(0))
    for depth in range(101):
        (grant,) = world.grants()
        world.report(grant, replaced(grant, group))
        assert run.nodes[-1].depth == min(depth + 1, 100)
    assert set(shown(run)) == {"F"}
    text = "it is a list in more than 100 others that took the place of a task"
    assert element(run, 0, 0, world.scheduler.ledger.fleet).text == text


def test_what_replaced_a_task_has_begun_and_does_not_expire():
    world = rig()
    run = world.submit(node("a", 2, expires_s=5.0), lists=([Slice(0, 0, 2)],), value=Nested(0))
    (grant,) = world.grants()
    world.report(grant, replaced(grant, added(node("x"))), again(grant, 1, delay_s=60.0))
    world.tick(6.0)
    assert shown(run) == [".R", "l"]
    world.work()
    world.restart()


def test_an_abort_of_a_replaced_task_is_told_to_what_replaced_it():
    world = rig()
    run = world.submit(node("a"))
    inner = deep(world, 2)
    for asked in (AbortAsked(run.id, 0, 0, 1), AbortAsked(run.id)):
        _, actions = world.send(asked)
        assert actions == [Abort(b"one", inner.token, 0, 1)]
    assert shown(run) == [".", ".", "l"]


@pytest.mark.parametrize("again_", [None, {"delay_s": math.inf}, {"eta_s": math.nan}, {"eta_s": -math.inf}])
def test_a_retry_at_no_time_is_a_failure(again_):
    world = rig()
    run = world.submit(node())
    (grant,) = world.grants()
    world.report(grant, again(grant, **again_) if again_ else done(grant, states="t"))
    assert shown(run) == ["F"]
    assert (
        element(run, 0, 0, world.scheduler.ledger.fleet).text
        == "it asks to be run again, at no time that there is"
    )
    assert math.isfinite(world.scheduler.wait_s(world.now))


def test_what_is_added_to_a_chord_is_no_part_of_anything_else():
    group = added(node("x", 2), lists=([Slice(0, 0, 2)],), value=Slice(0, 0, 1), replaces=False)
    within_list = added(node("x"), lists=([Slice(0, 0, 1)],), value=Slice(0, 0, 1), replaces=False)
    inner = added(
        node("x"), lists=([Slice(0, 0, 1)], [Nested(0)]), value=Nested(0), replaces=False
    )  # fmt: skip
    for addition in (group, within_list, inner):
        world = rig()
        run = world.submit(
            node("a", header=0), node("b", after_list=0), lists=([Slice(0, 0, 1)],), value=Slice(1, 0, 1)
        )
        (grant,) = world.grants()
        world.report(grant, done(grant, additions=[addition]))
        assert shown(run) == ["F", "F"]
        assert (
            element(run, 0, 0, world.scheduler.ledger.fleet).text
            == "what it adds to its chord is part of something else"
        )


@pytest.mark.parametrize("name", ["time_limit_s", "soft_time_limit_s", "rate_limit", "eta_s"])
def test_numbers_without_end_are_refused(name):
    graph = Graph([node(**{name: math.inf})], value=Slice(0, 0, 1))
    with pytest.raises(UnfitGraph, match=f"node 0: {name} is not a finite number"):
        check_graph(graph, blocks_of(graph))


def test_an_errback_cannot_wait_for_a_list_that_it_is_in():
    nodes = [node("a"), node("b", after_node=0, on=On.FAILURE, given_list=0)]
    graph = Graph(nodes, [[Slice(1, 0, 1)]], Slice(0, 0, 1))
    with pytest.raises(UnfitGraph, match="node 1 is given a list that holds a node not before it"):
        check_graph(graph, blocks_of(graph))


def test_blocks_of_additions_that_are_not_taken_are_passed_over():
    world = rig()
    world.submit(node("a", 2, header=0), lists=([Slice(0, 0, 2)],), value=Nested(0))
    (grant,) = world.grants()
    lost = Outcome(grant.token + 7, 0, 1, additions=[added(node("x"), node("y"), replaces=False)])
    kept = done(grant, 1, 2, additions=[added(node("z"), replaces=False)])
    _, actions = world.report(grant, lost, kept)
    assert [(keep.block, keep.source) for keep in actions[1:]] == [(1, 4), (2, 1)]


def test_a_block_of_failures_is_sent_once_however_many_inherit_them():
    world = rig()
    world.submit(
        node("a", 6, ids={4: "mine"}), node("b", 6, after_node=0), node("body", after_list=0, on=On.SETTLED,
        fed=True), lists=([Slice(1, 0, 6)],),
    )  # fmt: skip
    (grant,) = world.grants()
    world.report(grant, done(grant, states="FFFFFF"))
    (grant,) = world.grants()
    (lease,) = lease_messages(world.scheduler.ledger.runs[1], grant, lambda run, number: b"block")
    assert isinstance(lease, Lease)
    assert lease.feed is not None
    assert [(b.node, b.use_lo, b.use_hi) for b in lease.feed.blocks] == [(0, 0, 6)]
    assert [(f.lo, f.cause_index, f.id) for f in lease.feed.failed] == [
        (index, index, "mine" if index == 4 else "") for index in range(6)
    ]


def test_failures_that_the_hub_made_name_each_task_by_its_own_id():
    world = rig()
    world.submit(
        node("a", 3, ids={1: "mine"}, acks_late=False), node("e", 3, after_node=0, on=On.FAILURE, fed=True),
        value=Slice(0, 0, 1),
    )  # fmt: skip
    world.grants()
    world.send(EngineGone(b"one"))
    world.tick(2.0)
    world.join("two", slots=10)
    (grant,) = world.grants()
    (lease,) = lease_messages(world.scheduler.ledger.runs[1], grant, lambda run, number: b"block")
    assert isinstance(lease, Lease)
    assert lease.feed is not None
    assert [(f.lo, f.hi, f.id) for f in lease.feed.failed] == [(0, 1, ""), (1, 2, "mine"), (2, 3, "")]


# ------------------------------------------------------------------ rates


@pytest.mark.parametrize(("per_s", "started"), [(1000.0, 96), (1e300, 100)])
def test_a_high_rate_is_reached_by_single_tasks_too(per_s, started):
    world = rig(slots=1000)
    for _ in range(100):
        world.submit(node("quick", rate_limit=per_s))
    assert sum(len(world.grants(0.005)) for _ in range(20)) == started


def test_cancelled_tasks_do_not_hold_up_those_that_wait_for_the_same_rate():
    world = rig(slots=1000)
    runs = [world.submit(node("slow", rate_limit=10.0)) for _ in range(30)]
    world.grants()
    for run in runs[1:-1]:
        world.send(CancelAsked(run.id))
    assert [grant.run for grant in world.grants(0.1)] == [runs[-1].number]


def test_a_turn_grants_so_many_leases_and_the_next_goes_on():
    world = rig(slots=4096)
    for _ in range(255):
        world.submit(node("many", 20), most=1)
    counts = [len(world.grants())]
    assert world.scheduler.wait_s(world.now) == 0.0
    counts += [len(world.grants()) for _ in range(5)]
    assert counts == [1000, 1000, 1000, 1000, 96, 0]
