"""Retries, replacements and additions: attempts that ask for more than to end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from nbq.core.actions import Grant
from nbq.core.events import (
    AbortAsked,
    Addition,
    Again,
    CancelAsked,
    EngineGone,
    ForgetAsked,
    KnowsTasks,
    Noted,
    Outcome,
    SlotDied,
    WaitsFor,
)
from nbq.core.facts import Deferred
from nbq.core.model import Graph, Item, Nested, NodeSpec, On, Slice
from nbq.core.queries import Wanted, element, find, note, runs
from tests.core.harness import Rig, blocks_of, done, node, shown, token


def rig(slots: int = 10) -> Rig:
    made = Rig()
    made.join(slots=slots)
    return made


def again(grant: Grant, index: int | None = None, size: int = 0, **fields: Any) -> Outcome:
    at = grant.lo if index is None else index
    return done(grant, at, at + 1, states="t", size=size, again=Again(**fields))


def added(
    *nodes: NodeSpec,
    lists: tuple[list[Item], ...] = (),
    value: Slice | Nested | None = None,
    replaces: bool = True,
) -> Addition:
    graph = Graph(list(nodes), list(lists), value or Slice(len(nodes) - 1, 0, 1))
    return Addition(b"s" * 16, graph, blocks_of(graph), replaces)


def replaced(grant: Grant, addition: Addition) -> Outcome:
    return done(grant, grant.lo, grant.lo + 1, states=".", size=0, additions=[addition])


def test_a_retry_waits_its_delay_and_runs_again_as_another_attempt():
    world = rig()
    run = world.submit(node())
    (grant,) = world.grants()
    world.report(grant, again(grant, delay_s=5.0, text="busy"))
    assert shown(run) == ["t"]
    assert world.grants(4.9) == []
    (second,) = world.grants(0.2)
    assert (second.attempt, run.nodes[0].retries(0)) == (2, 1)
    assert element(run, 0, 0, world.scheduler.ledger.fleet).retries == 1
    world.report(second)
    assert shown(run) == ["S"]


def test_a_retry_without_delay_is_queued_at_once_and_one_not_counted_is_no_retry():
    world = rig()
    run = world.submit(node())
    (grant,) = world.grants()
    world.report(grant, again(grant, counted=False))
    assert (shown(run), run.nodes[0].retries(0), run.nodes[0].started(0)) == (["q"], 0, 2)


def test_a_retry_at_a_time_waits_for_the_wall_clock():
    world = rig()
    run = world.submit(node())
    (grant,) = world.grants()
    world.report(grant, again(grant, eta_s=world.wall_s + 10))
    assert world.grants(9.0) == []
    assert shown(run) == ["t"]
    assert len(world.grants(1.5)) == 1


def test_new_arguments_of_a_retry_are_a_block_of_its_own():
    world = rig()
    run = world.submit(node("work", 3))
    (grant,) = world.grants()
    facts, actions = world.report(grant, again(grant, 1, size=7), done(grant, 0, 1))
    deferred = next(fact for fact in facts if isinstance(fact, Deferred))
    assert (deferred.block, deferred.size) == (1, 7)
    assert [(keep.block, keep.source) for keep in actions] == [(1, 0), (2, 1)]
    assert run.nodes[0].sparse.args[1] is deferred or run.nodes[0].sparse.args[1] == deferred
    (second,) = world.grants()
    assert (second.lo, second.hi) == (1, 2)
    assert run.weight == 10 + 7 + 5


def test_elements_of_other_attempts_are_leased_apart():
    world = rig()
    world.submit(node("work", 4))
    (grant,) = world.grants()
    world.report(grant, again(grant, 1), again(grant, 2), done(grant, 0, 1), again(grant, 3, counted=False))
    assert [(g.lo, g.hi, g.attempt) for g in world.grants()] == [(1, 2, 2), (2, 3, 2), (3, 4, 2)]


def test_a_retry_survives_the_hub_and_its_delay_goes_on():
    world = rig()
    world.submit(node())
    (grant,) = world.grants()
    world.report(grant, again(grant, delay_s=50.0))
    world.mono_s += 40
    world.wall_s += 40
    world.restart()
    run = world.scheduler.ledger.runs[1]
    world.join()
    assert (shown(run), world.grants(9.0)) == (["t"], [])
    (second,) = world.grants(1.5)
    assert second.attempt == 2


def test_a_retry_that_waits_can_be_cancelled_and_expires():
    world = rig()
    run = world.submit(node())
    late = world.submit(node(expires_s=50.0))
    for grant in world.grants():
        world.report(grant, again(grant, delay_s=100.0))
    world.send(CancelAsked(run.id))
    assert (shown(run), shown(late)) == (["R"], ["t"])
    world.tick(51.0)
    assert shown(late) == ["R"]


def test_links_and_consumers_wait_for_the_last_attempt():
    world = rig()
    run = world.submit(node(), node("errback", after_node=0, on=On.FAILURE), value=Slice(0, 0, 1))
    (grant,) = world.grants()
    world.report(grant, again(grant))
    assert shown(run) == ["q", "."]


def test_a_replaced_task_ends_as_what_replaced_it():
    world = rig()
    run = world.submit(node("a"), node("b", after_node=0, fed=True))
    (grant,) = world.grants()
    world.report(grant, replaced(grant, added(node("x"), node("y", after_node=0, fed=True))))
    assert shown(run) == [".", ".", "q", "."]
    assert world.work() == [(2, 0, 1), (3, 0, 1), (1, 0, 1)]
    assert shown(run) == ["S", "S", "S", "S"]
    assert run.tree(Slice(3, 0, 1)) == Slice(3, 0, 1)


@pytest.mark.parametrize("state", ["F", "R"])
def test_a_failure_of_what_replaced_a_task_is_its_own(state):
    world = rig()
    run = world.submit(
        node("a"), node("b", after_node=0), node("errback", after_node=0, on=On.FAILURE), value=Slice(1, 0, 1)
    )
    (grant,) = world.grants()
    world.report(grant, replaced(grant, added(node("x"))))
    (inner,) = world.grants()
    world.report(inner, done(inner, states=state))
    assert shown(run) == [state, state, {"F": "q", "R": "-"}[state], state]


def test_a_task_replaced_by_a_group_becomes_its_list():
    world = rig()
    run = world.submit(node("a", 2), node("body", after_list=0, fed=True), lists=([Slice(0, 0, 2)],))
    grants = world.grants()
    grant = grants[0]
    world.report(grant, done(grant, 0, 1))
    group = added(node("x", 3), lists=([Slice(0, 0, 3)],), value=Nested(0))
    world.report(grant, Outcome(grant.token, 1, 2, b"\0", 0, additions=[group]))
    assert shown(run) == ["S.", ".", "qqq"]
    world.work()
    assert shown(run) == ["SS", "S", "SSS"]


def test_replacements_of_replacements_end_one_after_another():
    world = rig()
    run = world.submit(node("a"))
    for _ in range(3):
        (grant,) = world.grants()
        world.report(grant, replaced(grant, added(node("x"))))
    assert shown(run) == [".", ".", ".", "q"]
    world.work()
    assert shown(run) == ["S", "S", "S", "S"]
    assert run.left == 0


def test_a_cancel_of_a_replaced_task_reaches_what_replaced_it():
    world = rig()
    run = world.submit(node("a", 2), lists=([Slice(0, 0, 2)],), value=Nested(0))
    (grant,) = world.grants()
    world.report(grant, replaced(grant, added(node("x"), node("y", after_node=0))))
    world.send(CancelAsked(run.id, 0, 0, 1))
    assert shown(run) == ["Rl", "R", "R"]


def test_a_chord_header_grows_by_what_its_members_add():
    world = rig()
    run = world.submit(
        node("member", 2, header=0), node("body", after_list=0, fed=True), lists=([Slice(0, 0, 2)],)
    )
    (grant,) = world.grants()
    more = added(node("more"), replaces=False)
    world.report(grant, done(grant, 0, 1, additions=[more]), done(grant, 1, 2))
    assert shown(run) == ["SS", ".", "q"]
    assert run.tree(Nested(0)).items == [Slice(0, 0, 2), Slice(2, 0, 1)]
    assert world.work() == [(2, 0, 1), (1, 0, 1)]


def test_what_a_failed_attempt_adds_is_dropped():
    world = rig()
    run = world.submit(
        node("member", header=0), node("body", after_list=0), lists=([Slice(0, 0, 1)],), value=Slice(1, 0, 1)
    )
    (grant,) = world.grants()
    world.report(grant, done(grant, states="F", additions=[added(node("more"), replaces=False)]))
    assert shown(run) == ["F", "F"]


def test_what_cannot_be_added_fails_the_attempt_and_says_why():
    world = rig()
    run = world.submit(node("a"))
    (grant,) = world.grants()
    world.report(grant, done(grant, additions=[added(node("more"), replaces=False)]))
    assert shown(run) == ["F"]
    seen = element(run, 0, 0, world.scheduler.ledger.fleet)
    assert seen.text == "it belongs to no chord header that could be extended"


def test_blocks_of_additions_lie_behind_those_of_their_outcomes():
    world = rig()
    run = world.submit(node("a", 2, header=0), lists=([Slice(0, 0, 2)],), value=Nested(0))
    (grant,) = world.grants()
    one, two = added(node("x"), replaces=False), added(node("y"), node("z"), replaces=False)
    _, actions = world.report(grant, done(grant, 0, 1, additions=[one]), done(grant, 1, 2, additions=[two]))
    assert [(keep.block, keep.source) for keep in actions] == [(1, 2), (2, 0), (3, 3), (4, 4), (5, 1)]
    assert [run.block(number).node for number in (1, 3, 4)] == [0, 0, 1]
    assert run.nodes[3].args == [(0, 4)]


def test_a_run_that_grew_is_the_same_after_a_restart_and_goes_on():
    world = rig()
    world.submit(node("a", 2, header=0), node("body", after_list=0, fed=True), lists=([Slice(0, 0, 2)],))
    (grant,) = world.grants()
    group = added(node("x", 2), lists=([Slice(0, 0, 2)],), value=Nested(0))
    more = added(node("more"), replaces=False)
    world.report(grant, replaced(grant, group), done(grant, 1, 2, additions=[more]))
    world.restart()
    run = world.scheduler.ledger.runs[1]
    assert shown(run) == [".S", ".", "qq", "q"]
    world.join(slots=9)
    world.work()
    assert shown(run) == ["SS", "S", "SS", "S"]


# ------------------------------------------------------------------ rates, at most once, notes


def test_a_rate_is_kept_over_all_engines_and_lets_others_pass():
    world = rig()
    world.join("two", slots=10)
    world.submit(node("slow", 4, rate_limit=2.0))
    world.submit(node("other"))
    first = world.grants()
    assert sorted((grant.run, grant.lo, grant.hi) for grant in first) == [(1, 0, 1), (2, 0, 1)]
    assert world.scheduler.wait_s(world.now) == pytest.approx(0.5)
    assert world.grants(0.4) == []
    assert [(grant.lo, grant.hi) for grant in world.grants(0.1)] == [(1, 2)]
    assert [(grant.lo, grant.hi) for grant in world.grants(5.0)] == [(2, 3)]
    assert [(grant.lo, grant.hi) for grant in world.grants(0.5)] == [(3, 4)]
    assert world.scheduler.queues["default"].queued == 0


def test_single_tasks_share_the_rate_of_their_name_and_none_is_forgotten():
    world = rig()
    runs = [world.submit(node("slow", rate_limit=10.0)) for _ in range(5)]
    times = []
    for step in range(60):
        times += [step for _ in world.grants(0.01)]
    assert len(times) == len(runs)
    assert all(later - earlier >= 10 for earlier, later in pairwise(times))


def test_what_waits_for_its_rate_can_be_cancelled():
    world = rig()
    runs = [world.submit(node("slow", rate_limit=1.0)) for _ in range(3)]
    world.grants()
    world.send(CancelAsked(runs[1].id))
    assert [grant.run for grant in world.grants(1.0)] + [grant.run for grant in world.grants(1.0)] == [3]


def test_at_most_once_is_granted_after_the_commit_and_never_again():
    world = rig()
    run = world.submit(node(acks_late=False))
    (grant,) = world.grants()
    assert grant.after_commit
    world.send(EngineGone(b"one"))
    world.tick(1.5)
    assert shown(run) == ["F"]
    seen = element(run, 0, 0, world.scheduler.ledger.fleet)
    assert seen.text.endswith("acks_late=False means at most once")


def test_at_most_once_ends_with_its_slot():
    world = rig()
    run = world.submit(node(acks_late=False))
    (grant,) = world.grants()
    world.send(SlotDied(b"one", grant.token, 0, "signal 9"))
    assert shown(run) == ["F"]
    assert "signal 9" in element(run, 0, 0, world.scheduler.ledger.fleet).text


def test_a_note_shows_while_the_attempt_runs():
    world = rig()
    run = world.submit(node())
    (grant,) = world.grants()
    world.send(Noted(b"one", grant.token, 0, "HALFWAY", b"meta"))
    assert (element(run, 0, 0, world.scheduler.ledger.fleet).state, note(run, 0, 0)) == ("HALFWAY", b"meta")
    world.send(Noted(b"two", grant.token, 0, "FOREIGN", b""))
    assert element(run, 0, 0, world.scheduler.ledger.fleet).state == "HALFWAY"
    world.report(grant, again(grant, delay_s=1.0))
    assert (element(run, 0, 0, world.scheduler.ledger.fleet).state, note(run, 0, 0)) == ("RETRY", b"")


def test_an_abort_reaches_what_runs_and_cancels_the_rest():
    world = rig(slots=1)
    run = world.submit(node("work", 2))
    (grant,) = world.grants()
    _, actions = world.send(AbortAsked(run.id))
    assert [(type(action).__name__, action.lo, action.hi) for action in actions] == [("Abort", 0, 1)]
    assert (shown(run), grant.token) == (["lR"], token(1))


def test_an_engine_whose_tasks_wait_is_granted_others_in_their_stead():
    world = rig(slots=1)
    world.submit(node())
    world.submit(node())
    assert len(world.grants()) == 1
    world.send(WaitsFor(b"one", 1))
    assert len(world.grants()) == 1


def test_a_task_sent_by_name_goes_to_an_engine_that_knows_it():
    world = rig(slots=1)
    world.join("two", slots=1)
    world.send(KnowsTasks(b"two", ["known"]))
    world.submit(node("known", bare_name=True))
    world.submit(node("known", bare_name=True))
    world.submit(node("other"))
    assert [(grant.engine, grant.run) for grant in world.grants()] == [(b"two", 1), (b"one", 3)]
    world.send(KnowsTasks(b"one", ["known"]))


def test_a_task_that_no_engine_knows_is_tried_where_there_is_room():
    world = rig(slots=1)
    world.submit(node("unknown", bare_name=True))
    assert len(world.grants()) == 1


# ------------------------------------------------------------------ separate calls, forgotten one by one


def test_one_of_separate_calls_is_forgotten_and_the_last_takes_all_along():
    world = rig()
    run = world.submit(node("work", 3, ids={1: "mine"}), each=True)
    (grant,) = world.grants()
    world.report(grant, done(grant, 0, 2))
    world.send(ForgetAsked(run.id, 1, 2))
    assert find(world.scheduler, "mine") is None
    assert [row.index for row in runs(world.scheduler, Wanted(), 10, [])[0]] == [0, 2]
    (reject,) = world.send(ForgetAsked(run.id, 1, 2))[1]
    assert (reject.code, reject.text) == ("unknown", "no such run")
    (reject,) = world.send(ForgetAsked(run.id, 2, 3))[1]
    assert reject.code == "unfinished"
    world.restart()
    assert world.scheduler.ledger.runs[1].dropped == {1}
    world.join(held=(grant.token,))
    world.report(grant, done(grant, 2, 3))
    world.send(ForgetAsked(run.id, 0, 3))
    assert world.scheduler.ledger.runs == {}
