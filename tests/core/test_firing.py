"""Schedules fire: at their times, once, and as their policies say."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from nbq.core import firing
from nbq.core.actions import Copy, Discard
from nbq.core.events import ForgetAsked, ScheduleChanged, SchedulePut
from nbq.core.facts import Accepted, ScheduleMoved, ScheduleSet
from nbq.core.ids import fire_salt, made_id
from nbq.core.model import BlockMeta, Graph, Origin, Slice
from nbq.core.scheduler import Limits
from nbq.core.timing import At, Cron, Every, Fire, ScheduleSpec
from tests.core.firing import GRAPH, SALT, Planner
from tests.core.harness import WALL_S, address, blocks_of, node, shown


@pytest.fixture
def rig() -> Planner:
    return Planner()


def test_a_fire_is_one_run_and_one_move_in_one_decision(rig):
    rig.put()
    rig.tick(9.9)
    facts, actions = rig.tick_all(0.1)
    run_id = made_id(b"\0\1" * 8, fire_salt(WALL_S + 10))
    origin = Origin(b"\0\1" * 8, fire_salt(WALL_S + 10), 0, "tick", WALL_S + 10)
    schedule = rig.schedule()
    assert facts == [
        Accepted(2, run_id, "me", WALL_S + 10, schedule.graph, schedule.blocks, origin),
        ScheduleMoved(1, schedule.state),
    ]
    assert actions == [Copy(2, 0, 1, 0)]
    assert (schedule.state.cursor_s, schedule.state.runs) == (WALL_S + 10, 1)
    assert schedule.state.history == [Fire(WALL_S + 10, WALL_S + 10, "run", run_id)]


def test_it_fires_at_every_time_and_its_runs_run(rig):
    rig.put()
    for _ in range(35):
        rig.tick(1.0)
        rig.join()
        rig.work()
    assert rig.times() == [10, 20, 30]
    assert [shown(run) for run in rig.runs()] == [["S"]] * 3


def test_nothing_fires_between(rig):
    rig.put()
    rig.tick()
    assert rig.scheduler.wait_s(rig.now) == 10.0
    assert rig.send_after(9.99) == []


def test_one_instant_fires_once_and_is_finished(rig):
    rig.put("once", At(datetime.fromtimestamp(WALL_S + 5, UTC)))
    rig.tick(5.0)
    rig.tick(5.0)
    assert rig.times() == [5]
    assert rig.schedule("once").state.finished_s == WALL_S + 5


def test_run_now_is_one_run_for_each_salt(rig):
    rig.put()
    rig.tick(3.0)
    assert rig.change("run") == rig.change("run") == ""
    assert rig.change("run", salt=b"more" * 4) == ""
    assert rig.history() == [("manual", 3.0), ("manual", 3.0)]
    assert [run.id for run in rig.runs()] == [made_id(b"\0\1" * 8, salt) for salt in (SALT, b"more" * 4)]
    rig.tick(7.0)
    assert rig.times() == [3, 3, 10]


# ------------------------------------------------------------------ what is asked for


def test_a_name_is_taken_once_and_the_same_request_twice(rig):
    event = SchedulePut("tick", SALT, "me", ScheduleSpec(Every(10.0)), GRAPH, blocks_of(GRAPH))
    assert rig.send(event)[0] != []
    assert rig.send(event) == ([], [])
    assert rig.put() == (
        "exists: there is a schedule 'tick' already: edit or remove it, or take another name"
    )


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"timing": Every(10.0, tz="Mars/Base")},
            "schedule: the schedule 'tick' means nothing: there is no time zone 'Mars/Base' here",
        ),
        (
            {"timing": Cron(minute="99")},
            "schedule: the schedule 'tick' means nothing: ",
        ),
        (
            {"jitter_s": math.nan},
            "schedule: the schedule 'tick' means nothing: its jitter is no finite number of seconds",
        ),
        (
            {"start_s": math.inf},
            "schedule: the schedule 'tick' means nothing: its start is no instant between 1970 and 9999",
        ),
        (
            {"timing": At(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))},
            "schedule: the schedule 'tick' means nothing: 0001-01-01T00:00:00+14:00 is no instant",
        ),
        (
            {"timing": Every(10.0, datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))))},
            "schedule: the schedule 'tick' means nothing: 9999-12-31T23:00:00-02:00 is no instant",
        ),
        (
            {"end_s": WALL_S + 5},
            "schedule: the schedule 'tick' would never fire: all of its fire times have passed",
        ),
        (
            {"graph": Graph([node("a", ids={0: "mine"})], value=Slice(0, 0, 1))},
            "task_id: a scheduled canvas runs many times, so its tasks cannot be given a task_id",
        ),
        ({"graph": Graph([], value=Slice(0, 0, 1))}, "graph: the graph has no nodes"),
        (
            {"graph": Graph([node("a", 2)], each=True)},
            "graph: a schedule runs one canvas, not separate calls",
        ),
        (
            {"graph": None, "replace": True},
            "unknown: there is no schedule 'tick' to edit: add it with its canvas",
        ),
        (
            {"graph": Graph([node("a", 11)], value=Slice(0, 0, 1))},
            "busy: it has 11 tasks, the hub takes 10 at most",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(fields, refusal):
    rig = Planner(Limits(elements=10))
    assert rig.put(**fields)[: len(refusal)] == refusal
    assert rig.scheduler.ledger.schedules == {}


def test_a_hub_takes_so_many_schedules(rig, monkeypatch):
    monkeypatch.setattr(firing, "_MOST", 2)
    assert [rig.put(name) for name in "abc"] == [
        "",
        "",
        "busy: the hub has 2 schedules already: remove some first",
    ]


@pytest.mark.parametrize("verb", ["pause", "resume", "remove", "run"])
def test_an_unknown_schedule_is_named(rig, verb):
    assert rig.change(verb, "tock") == (
        "unknown: there is no schedule 'tock': it is mistyped, was removed, or had finished"
    )


def test_what_passes_in_a_pause_is_not_missed(rig):
    rig.put(misfire="all")
    rig.tick(10.0)
    assert rig.change("pause") == ""
    rig.tick(50.0)
    assert rig.scheduler.firing.view(rig.schedule(), whole=False).next_s is None
    assert rig.change("resume") == rig.change("resume") == ""
    assert rig.scheduler.firing.view(rig.schedule(), whole=False).next_s == WALL_S + 70
    rig.tick(10.0)
    assert rig.times() == [10, 70]


def test_a_removed_schedule_fires_no_more_and_its_runs_go_on(rig):
    rig.put()
    rig.tick(10.0)
    assert rig.change("remove") == ""
    rig.tick(50.0)
    assert rig.times() == [10]
    assert [shown(run) for run in rig.runs()] == [["q"]]
    assert rig.scheduler.wait_s(rig.now) == 30.0


def test_an_edit_keeps_what_it_has_come_to(rig):
    rig.put()
    rig.tick(10.0)
    rig.change("pause")
    old = rig.schedule().state
    assert rig.put(overlap="skip", graph=None, replace=True) == ""
    assert (rig.schedule().number, rig.schedule().spec.overlap) == (1, "skip")
    assert rig.schedule().state == old
    other = Graph([node("other")], value=Slice(0, 0, 1))
    assert rig.put(graph=other, replace=True) == ""
    assert (rig.schedule().number, rig.schedule().graph) == (3, other)
    assert rig.schedule().state == old
    assert set(rig.scheduler.ledger.numbered) == {3}


def test_another_timing_has_missed_nothing(rig):
    rig.put(timing=Every(1000.0), misfire="all")
    rig.tick(500.0)
    rig.put(timing=Every(10.0), misfire="all", graph=None, replace=True)
    rig.tick(10.0)
    assert rig.times() == [510]


def test_a_finished_one_is_kept_for_a_while(rig):
    rig.put(max_runs=1)
    rig.tick(10.0)
    week_s = rig.scheduler.limits.retention_s
    rig.tick(week_s - 1.0)
    assert rig.schedule().state.finished_s == WALL_S + 10
    rig.tick(10.0)
    assert rig.scheduler.ledger.schedules == {}


def test_a_finished_one_can_be_run_by_hand_and_edited_to_go_on(rig):
    rig.put(end_s=WALL_S + 10, overlap="queue")
    rig.tick(10.0)
    assert rig.schedule().state.finished_s is not None
    assert rig.change("run") == ""
    rig.tick()
    assert rig.history() == [("run", 10.0), ("queued", 10.0)]
    assert rig.schedule().state.finished_s is None
    rig.join()
    rig.work()
    assert rig.times() == [10, 10]
    assert rig.schedule().state.finished_s is not None
    assert rig.put(overlap="queue", graph=None, replace=True) == ""
    rig.tick(10.0)
    assert rig.times() == [10, 10, 20]


def test_a_finished_one_that_is_edited_to_go_on_has_missed_nothing(rig):
    rig.put(max_runs=1, misfire="all")
    rig.tick(10.0)
    rig.tick(1000.0)
    rig.put(max_runs=3, misfire="all", graph=None, replace=True)
    rig.settle()
    assert rig.times() == [10]
    rig.tick(10.0)
    assert rig.times() == [10, 1020]


def test_of_very_many_runs_the_newest_are_named_to_people(rig, monkeypatch):
    monkeypatch.setattr(firing, "_ACTIVE", 2)
    rig.put()
    for _ in range(4):
        rig.tick(10.0)
    view = rig.scheduler.firing.view(rig.schedule(), whole=False)
    assert (view.active, view.unfinished) == ([run.id for run in rig.runs()[2:]], 4)


def test_the_history_keeps_the_last_twenty(rig):
    rig.put()
    for _ in range(30):
        rig.tick(10.0)
    assert [at for _, at in rig.history()] == [10 * number for number in range(11, 31)]
    view = rig.scheduler.firing.view(rig.schedule(), whole=False)
    assert view.state.history == rig.fires()[-1:]


def test_what_meant_something_to_an_older_hub_is_paused_and_says_why(rig):
    rig.put()
    fact = next(fact for fact in rig.facts if isinstance(fact, ScheduleSet))
    rig.facts[rig.facts.index(fact)] = replace(fact, spec=ScheduleSpec(Every(10.0, tz="Mars/Base")))
    rig.scheduler = rig.twin()
    rig.scheduler.recovered(rig.now)
    rig.tick(10.0)
    assert rig.schedule().state.paused
    assert rig.change("resume") == (
        "schedule: the schedule 'tick' means nothing any more, edit it: "
        "there is no time zone 'Mars/Base' here"
    )


def test_schedules_name_functions_and_blobs_until_they_are_removed(rig):
    blob = "b" * 32
    blocks = [BlockMeta(0, 0, 1, 99, blob)]
    rig.send(SchedulePut("tick", SALT, "me", ScheduleSpec(Every(10.0)), GRAPH, blocks))
    _, actions = rig.tick_all(10.0)
    assert [action for action in actions if isinstance(action, Copy)] == []
    rig.join()
    rig.work()
    run = rig.runs()[0]
    first = rig.send(ForgetAsked(run.id))[1]
    rig.tick(10.0)
    run = rig.runs()[0]
    second = rig.send(ScheduleChanged("tick", "remove"))[1]
    rig.join()
    rig.work()
    third = rig.send(ForgetAsked(run.id))[1]
    gone = [
        [action for action in actions if isinstance(action, Discard)] for actions in (first, second, third)
    ]
    assert gone == [[], [], [Discard([blob], [address("tick")])]]


def test_stale_looks_do_not_pile_up(rig):
    rig.put(timing=Every(1e6))
    for number in range(150):
        rig.change("run", salt=number.to_bytes(16, "big"))
        rig.tick(0.1)
    assert len(rig.scheduler.firing._looks) <= 66
