"""The chronicle: what happens is noted once, in order, bounded; and shown as it was, whatever came since."""

from __future__ import annotations

import gc
from typing import Any

from nbq.core.chronicle import Page, Wanted
from nbq.core.events import (
    Again,
    Began,
    CancelAsked,
    EngineGone,
    EngineLeaving,
    ForgetAsked,
    Noted,
    Outcome,
    QueueSteered,
    ScheduleChanged,
    SchedulePut,
    SlotDied,
)
from nbq.core.facts import Accepted, Settled
from nbq.core.model import NONE, Graph, On, Slice, State
from nbq.core.runs import Node, Run
from nbq.core.timing import Every, ScheduleSpec
from tests.core.harness import EPOCH, WALL_S, Rig, blocks_of, done, node

BASE = EPOCH << 40
MOST = 1 << 30
RUN = "01" * 16


def read(rig: Rig, after: int = 0, limit: int = 100_000, **wanted: Any) -> Page:
    return rig.scheduler.chronicle.read(after, Wanted(**wanted), limit, MOST)


def told(rig: Rig, after: int = 0, **wanted: Any) -> list[tuple[Any, ...]]:
    """Return what happened after a number: kind, id without the run, count, engine, text."""
    return [
        (one.kind, one.id.removeprefix(one.run + "-"), one.count, one.engine, one.text)
        for one in read(rig, after, **wanted).events
    ]


def running(rig: Rig, *specs: Any, **fields: Any) -> tuple[Run, Any, int]:
    """Submit nodes to an engine; return the run, its first grant, and the last number."""
    rig.join(slots=8)
    run = rig.submit(*specs, **fields)
    grant, *_ = rig.grants()
    return run, grant, rig.scheduler.chronicle.last


def test_a_task_is_submitted_started_and_succeeds() -> None:
    rig = Rig()
    _, grant, _ = running(rig, node("add", queue="default", label="nightly"))
    rig.send(Began(b"one", [(grant.token, 0)]))
    rig.send(Began(b"one", [(grant.token, 0)]))
    rig.report(grant)
    page = read(rig)
    assert (page.missed, page.last) == (0, BASE + 4)
    assert [one.seq for one in page.events] == [BASE + 1, BASE + 2, BASE + 3, BASE + 4]
    assert told(rig) == [
        ("engine-joined", "6f6e65", 1, "one", "8 slots on host"),
        ("submitted", "0-0", 1, "", ""),
        ("started", "0-0", 1, "one", ""),
        ("succeeded", "0-0", 1, "one", ""),
    ]
    last = page.events[-1]
    assert (last.run, last.task, last.queue, last.label) == (RUN, "add", "default", "nightly")
    assert (last.id, last.at_s, last.attempt) == (f"{RUN}-0-0", WALL_S, 1)


def test_an_array_is_told_of_in_stretches_of_one_end() -> None:
    rig = Rig()
    _, grant, last = running(rig, node(size=6))
    rig.report(grant, done(grant, 0, 6, "SSFFRS", errors={2: "ValueError: two", 3: "ValueError: three"}))
    assert told(rig, last) == [
        ("succeeded", "0-0", 2, "one", ""),
        ("failed", "0-2", 2, "one", "ValueError: two"),
        ("revoked", "0-4", 1, "one", ""),
        ("succeeded", "0-5", 1, "one", ""),
    ]


def test_what_follows_a_failure_names_it_and_what_is_skipped_is_never_shown() -> None:
    rig = Rig()
    _, grant, last = running(
        rig,
        node("first"),
        node("then", after_node=0),
        node("link", after_node=0, on=On.LINK),
        value=Slice(1, 0, 1),
    )
    assert [one.task for one in read(rig, kinds=frozenset({"submitted"})).events] == ["first", "then"]
    rig.report(grant, done(grant, 0, 1, "F", errors={0: "Boom: x"}))
    assert told(rig, last) == [
        ("failed", "0-0", 1, "one", "Boom: x"),
        ("failed", "1-0", 1, "", f"as first ({RUN}-0-0), which it follows"),
    ]


def test_an_errback_that_is_called_for_shows_when_it_runs() -> None:
    rig = Rig()
    _, grant, last = running(
        rig, node("first"), node("told", after_node=0, on=On.FAILURE), value=Slice(0, 0, 1)
    )
    rig.report(grant, done(grant, 0, 1, "F"))
    rig.work()
    assert told(rig, last) == [("failed", "0-0", 1, "one", ""), ("succeeded", "1-0", 1, "one", "")]


def test_progress_begins_with_the_start_and_says_the_state() -> None:
    rig = Rig()
    _, grant, last = running(rig, node())
    rig.send(Noted(b"one", grant.token, 0, "HALFWAY", b"sealed"))
    assert told(rig, last) == [("started", "0-0", 1, "one", ""), ("progress", "0-0", 1, "one", "HALFWAY")]


def test_a_retry_names_its_engine_and_the_next_attempt_is_the_second() -> None:
    rig = Rig()
    _, grant, last = running(rig, node())
    rig.report(grant, Outcome(grant.token, 0, 1, bytes([State.RETRY]), again=Again(text="Busy: later")))
    (grant,) = rig.grants(0.1)
    rig.report(grant)
    assert told(rig, last) == [
        ("retried", "0-0", 1, "one", "Busy: later"),
        ("succeeded", "0-0", 1, "one", ""),
    ]
    assert [one.attempt for one in read(rig, last).events] == [1, 2]


def test_a_death_of_a_slot_is_a_retry_until_it_is_a_failure() -> None:
    rig = Rig()
    _, grant, last = running(rig, node())
    for _ in range(3):
        rig.send(SlotDied(b"one", grant.token, 0, "killed"))
        (grant,) = rig.grants(0.1) or (grant,)
    retried = ("retried", "0-0", 1, "one", "killed")
    failed = ("failed", "0-0", 1, "", "it started in 3 slots that died; the last: killed")
    assert told(rig, last) == [retried, retried, failed]


def test_what_may_run_once_only_is_not_told_to_be_retried() -> None:
    rig = Rig()
    _, grant, last = running(rig, node(acks_late=False))
    rig.send(SlotDied(b"one", grant.token, 0, "killed"))
    assert [kind for kind, *_ in told(rig, last)] == ["failed"]


def test_an_engine_that_is_silent_is_lost_and_its_work_retried() -> None:
    rig = Rig()
    _, grant, last = running(rig, node(size=3))
    rig.send(Began(b"one", [(grant.token, 1)]))
    rig.tick(16.0)
    assert told(rig, last) == [
        ("started", "0-1", 1, "one", ""),
        ("engine-lost", "6f6e65", 1, "one", "not heard for 16.0 s"),
        ("retried", "0-0", 3, "one", "its engine was lost"),
    ]


def test_an_engine_that_comes_back_in_time_is_not_told_of() -> None:
    rig = Rig()
    rig.join()
    rig.join()
    assert [kind for kind, *_ in told(rig)] == ["engine-joined"]
    rig.send(EngineGone(b"one"))
    rig.join()
    assert [kind for kind, *_ in told(rig)] == ["engine-joined", "engine-joined"]


def test_an_engine_that_drains_is_told_of_once_and_not_as_lost() -> None:
    rig = Rig()
    rig.join()
    rig.send(EngineLeaving(b"one"))
    rig.send(EngineLeaving(b"one"))
    rig.send(EngineGone(b"one"))
    rig.tick(5.0)
    assert told(rig)[1:] == [("engine-drained", "6f6e65", 1, "one", "it takes nothing more, and ends")]
    assert rig.scheduler.ledger.fleet.engines == {}


def test_a_cancelled_run_is_told_of_by_its_nodes() -> None:
    rig = Rig()
    run = rig.submit(node("a", 3), node("b", 3, after_node=0), value=Slice(1, 0, 1))
    last = rig.scheduler.chronicle.last
    rig.send(CancelAsked(run.id, text="enough"))
    assert told(rig, last) == [("revoked", "0-0", 3, "", "enough"), ("revoked", "1-0", 3, "", "enough")]


# ------------------------------------------------------------------ schedules


def put(rig: Rig, name: str = "tick", replace: bool = False, every: float = 10.0, **fields: Any) -> None:
    graph = Graph([node("beat")], value=Slice(0, 0, 1))
    spec = ScheduleSpec(Every(every), **fields)
    rig.send(
        SchedulePut(
            name, f"{name}{every}".encode().ljust(16), "me", spec, graph, blocks_of(graph), replace=replace
        )
    )


def test_a_schedule_is_told_of_from_its_beginning_to_its_end() -> None:
    rig = Rig()
    put(rig)
    rig.tick(10.0)
    put(rig, replace=True, every=20.0)
    for verb in ("pause", "resume", "run", "remove"):
        rig.send(ScheduleChanged("tick", verb, b"s" * 16))  # type: ignore[arg-type]
    found = read(rig, kinds=frozenset({"schedule-fired", "schedule-missed", "schedule-changed"})).events
    assert [(one.kind, one.id, one.text) for one in found] == [
        ("schedule-changed", "tick", "added"),
        ("schedule-fired", "tick", "fire time 1970-01-12 13:46:50+00:00"),
        ("schedule-changed", "tick", "edited"),
        ("schedule-changed", "tick", "paused"),
        ("schedule-changed", "tick", "resumed"),
        ("schedule-fired", "tick", "fire time 1970-01-12 13:46:50+00:00, by hand"),
        ("schedule-changed", "tick", "removed"),
    ]
    runs = {run.id.hex() for run in rig.scheduler.ledger.runs.values()}
    assert {one.run for one in found if one.kind == "schedule-fired"} == runs
    assert len(runs) == 2


def test_fire_times_that_pass_unseen_are_missed() -> None:
    rig = Rig()
    put(rig, misfire="skip", every=500.0)
    last = rig.scheduler.chronicle.last
    rig.tick(1100.0)
    text = "fire time 1970-01-12 13:55:00+00:00 to 1970-01-12 14:03:20+00:00, missed"
    assert told(rig, last) == [("schedule-missed", "tick", 1, "", text)]


def test_a_fire_time_that_finds_a_run_is_skipped_or_waits() -> None:
    rig = Rig()
    put(rig, "skips", overlap="skip")
    put(rig, "waits", overlap="queue")
    rig.tick(10.0)
    last = rig.scheduler.chronicle.last
    rig.tick(10.0)
    at = "fire time 1970-01-12 13:47:00+00:00"
    assert told(rig, last) == [
        ("schedule-missed", "skips", 1, "", f"{at}, skipped: a run has not ended"),
        ("schedule-changed", "waits", 1, "", f"{at}, waits for the end of a run"),
    ]


def test_queues_that_are_paused_and_resumed_are_told_of_once() -> None:
    rig = Rig()
    for paused in (True, True, False):
        rig.send(QueueSteered("slow", paused))
    assert told(rig, queue="slow") == [
        ("queue-paused", "slow", 1, "", ""),
        ("queue-resumed", "slow", 1, "", ""),
    ]


# ------------------------------------------------------------------ reading


def test_recovery_tells_nothing_and_the_next_life_has_higher_numbers() -> None:
    rig = Rig()
    running(rig, node(size=4))
    before = rig.scheduler.chronicle.last
    rig.restart()
    assert read(rig, before) == Page([], 0, 2 << 40)
    rig.join()
    assert [one.seq for one in read(rig, before).events] == [(2 << 40) + 1]


def test_numbers_after_the_last_and_none_mean_from_now_on() -> None:
    rig = Rig()
    rig.join()
    assert read(rig, NONE) == read(rig, 1 << 60) == Page([], 0, BASE + 1)


def test_a_slow_reader_is_told_exactly_how_much_is_gone() -> None:
    rig = Rig()
    _, grant, last = running(rig, node())
    for _ in range(10_250):
        rig.send(Noted(b"one", grant.token, 0, "P", b""))
    page = read(rig, last)
    assert page.missed == 251  # one more: its start
    assert len(page.events) == 10_000
    assert page.last == rig.scheduler.chronicle.last == last + 10_251
    assert [one.seq for one in page.events] == list(range(last + 252, page.last + 1))
    assert read(rig, page.last - 3).missed == 0
    assert read(rig).missed == 253  # of this life, from its beginning


def test_pages_are_bounded_in_number_and_bytes_and_go_on_after_their_last() -> None:
    rig = Rig()
    _, grant, last = running(rig, node(size=10))
    for index in range(10):
        rig.report(grant, done(grant, index, index + 1, "F", errors={index: "x" * 5000}))
    page = read(rig, last, limit=4)
    assert [one.seq for one in page.events] == [last + 1, last + 2, last + 3, last + 4]
    assert page.last == last + 4
    assert {len(one.text) for one in page.events} == {1000}
    small = rig.scheduler.chronicle.read(page.last, Wanted(), 100, 1500)
    assert [one.seq for one in small.events] == [last + 5, last + 6]
    assert small.last == last + 6


def test_filters_hold_together() -> None:
    rig = Rig()
    rig.join("one", 9, ("default", "slow"))
    rig.submit(node("a", label="x"))
    rig.submit(node("b", queue="slow", label="x", shadow="bee"))
    rig.work()
    seen = {
        "kinds": told(rig, kinds=frozenset({"succeeded"})),
        "task": told(rig, task="b"),
        "shadow": told(rig, task="bee"),
        "queue": told(rig, queue="slow"),
        "run": told(rig, run="02" * 16),
        "label": told(rig, label="x"),
        "all": told(rig, label="x", kinds=frozenset({"submitted"}), task="a"),
        "none": told(rig, label="y"),
    }
    one = [("submitted", "0-0", 1, "", ""), ("succeeded", "0-0", 1, "one", "")]
    assert seen == {
        "kinds": [one[1], one[1]], "task": one, "shadow": one, "queue": one, "run": one,
        "label": [one[0], one[0], one[1], one[1]], "all": [one[0]], "none": [],
    }  # fmt: skip
    assert [event.task for event in read(rig, task="b").events] == ["bee", "bee"]


def kept() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, Run | Node | Accepted | Settled)]


def test_a_run_that_is_forgotten_is_freed_and_still_told_of() -> None:
    others = kept()  # of other tests
    rig = Rig()
    run, grant, last = running(rig, node("add", 4))
    rig.report(grant)
    rig.send(ForgetAsked(run.id))
    rig.facts.clear()
    del run, grant
    gc.collect()
    assert [one for one in kept() if not any(one is other for other in others)] == []
    assert told(rig, last) == [("succeeded", "0-0", 4, "one", "")]
