"""Schedules fire: at their times, once, and as their policies say."""

from datetime import UTC, datetime

import pytest

from nbq.core.actions import Copy
from nbq.core.facts import Accepted, ScheduleMoved
from nbq.core.ids import fire_salt, made_id
from nbq.core.model import Origin
from nbq.core.timing import At, Fire
from tests.core.firing import SALT, Planner
from tests.core.harness import WALL_S, shown


@pytest.fixture
def rig() -> Planner:
    return Planner()


def test_a_fire_is_one_run_and_one_move_in_one_decision(rig):
    rig.put()
    rig.tick(9.9)
    facts, actions = rig.tick_all(0.1)
    run_id = made_id(b"\1" * 16, fire_salt(WALL_S + 10))
    origin = Origin(b"\1" * 16, fire_salt(WALL_S + 10), 0, "tick", WALL_S + 10)
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
    assert [run.id for run in rig.runs()] == [made_id(b"\1" * 16, salt) for salt in (SALT, b"more" * 4)]
    rig.tick(7.0)
    assert rig.times() == [3, 3, 10]
