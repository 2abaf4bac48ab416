"""What becomes of fire times that are missed, that meet a run that has not ended, and that come late."""

from datetime import UTC, datetime

import pytest

from nbq.core.actions import Interrupt
from nbq.core.events import QueueSteered
from nbq.core.model import Graph, Slice, State
from nbq.core.scheduler import Limits
from nbq.core.timing import At, Cron, Every
from tests.core.firing import Planner
from tests.core.harness import WALL_S, node, shown


@pytest.fixture
def rig() -> Planner:
    return Planner()


# ------------------------------------------------------------------ missed


@pytest.mark.parametrize(
    ("misfire", "late_s", "times", "history"),
    [
        ("coalesce", 3605.0, [3600], [("run", 3600.0)]),
        ("skip", 3605.0, [3600], [("run", 3600.0)]),
        ("all", 35.0, [10, 20, 30], [("run", 10.0), ("run", 20.0), ("run", 30.0)]),
    ],
)
def test_of_several_missed_fire_times_the_policy_says_which_run(rig, misfire, late_s, times, history):
    rig.put(misfire=misfire)
    rig.tick(late_s)
    rig.settle()
    assert (rig.times(), rig.history()) == (times, history)
    assert rig.schedule().state.cursor_s == WALL_S + times[-1]


def test_what_is_coalesced_says_since_when(rig):
    rig.put()
    rig.tick(3605.0)
    assert [(fire.first_s, fire.fire_s) for fire in rig.fires()] == [(WALL_S + 10, WALL_S + 3600)]


@pytest.mark.parametrize(
    ("misfire", "history"),
    [("coalesce", [("run", 100.0)]), ("skip", [("missed", 100.0)]), ("all", [("run", 100.0)])],
)
def test_one_that_is_more_than_a_minute_late_is_missed(rig, misfire, history):
    rig.put(timing=Every(100.0), misfire=misfire)
    rig.tick(160.5)
    rig.settle()
    assert rig.history() == history


@pytest.mark.parametrize("misfire", ["coalesce", "skip", "all"])
def test_one_that_is_a_minute_late_is_not(rig, misfire):
    rig.put(timing=Every(100.0), misfire=misfire)
    rig.tick(160.0)
    assert rig.history() == [("run", 100.0)]
    assert rig.schedule().state.late == 0


def test_at_most_a_thousand_missed_ones_run_in_a_row(rig):
    rig.put(timing=Every(1.0), misfire="all")
    rig.tick(5000.5)
    rig.settle()
    assert rig.times() == [*range(1, 1001), 5000]
    last = rig.fires()[-1]
    assert (last.first_s, last.fire_s) == (WALL_S + 1001, WALL_S + 5000)
    rig.tick(1.0)
    assert rig.times()[-1] == 5001


def test_a_turn_fires_so_many_and_the_next_the_others(rig):
    for number in range(600):
        rig.put(f"s{number}")
    rig.tick()
    counts = []
    rig.mono_s += 10.0
    rig.wall_s += 10.0
    while rig.scheduler.wait_s(rig.now) == 0.0:
        before = len(rig.times())
        rig.tick()
        counts.append(len(rig.times()) - before)
    assert counts == [188, 188, 188, 36]


# ------------------------------------------------------------------ overlap


def test_allow_lets_runs_run_beside_each_other(rig):
    rig.put()
    rig.tick(10.0)
    rig.tick(10.0)
    assert [shown(run) for run in rig.runs()] == [["q"], ["q"]]


def test_skip_leaves_out_what_meets_a_run(rig):
    rig.put(overlap="skip")
    rig.tick(10.0)
    rig.tick(10.0)
    rig.join()
    rig.work()
    rig.tick(10.0)
    assert rig.history() == [("run", 10.0), ("overlap", 20.0), ("run", 30.0)]
    active = rig.runs()[1].id.hex()
    assert rig.change("run") == (
        f"overlap: run {active} of the schedule 'tick' has not ended, and its overlap is 'skip': wait for "
        "that run or cancel it, or edit the overlap"
    )


def test_queue_lets_each_wait_for_the_one_before(rig):
    rig.put(overlap="queue")
    for _ in range(3):
        rig.tick(10.0)
    assert rig.times() == [10]
    assert rig.schedule().state.waiting == [WALL_S + 20, WALL_S + 30]
    queued = [fire.run for fire in rig.fires() if fire.what == "queued"]
    rig.join()
    (grant,) = rig.grants()
    rig.report(grant)
    (grant,) = rig.grants()
    assert rig.times() == [10, 20]
    rig.report(grant)
    rig.work()
    assert rig.times() == [10, 20, 30]
    assert [shown(run) for run in rig.runs()] == [["S"]] * 3
    assert [run.id for run in rig.runs()[1:]] == queued


def test_a_manual_run_waits_in_the_queue_too_and_keeps_its_salt(rig):
    rig.put(overlap="queue", timing=Every(1000.0))
    assert rig.change("run", salt=b"1" * 16) == ""
    rig.tick(1.0)
    assert [rig.change("run", salt=b"2" * 16) for _ in range(2)] == ["", ""]
    assert rig.history() == [("manual", 0.0), ("queued", 1.0)]
    rig.restart()
    rig.join()
    rig.work()
    assert [run.origin.salt for run in rig.runs()] == [b"1" * 16, b"2" * 16]
    assert rig.history()[2:] == [("manual", 1.0)]
    state = rig.schedule().state
    assert (state.waiting, state.asked) == ([], [])


def test_a_paused_one_is_not_run_by_hand_where_that_would_have_to_wait(rig):
    rig.put(overlap="queue")
    rig.change("pause")
    assert rig.change("run") == ""
    assert rig.change("run", salt=b"more" * 4) == (
        "overlap: the schedule 'tick' is paused, and another run of it has not ended: resume it first"
    )
    assert (rig.history(), rig.schedule().state.waiting) == ([("manual", 0.0)], [])


def test_what_waits_runs_at_once_when_the_one_before_is_cancelled(rig):
    rig.put(overlap="queue")
    rig.tick(10.0)
    rig.tick(10.0)
    rig.steer("cancel")
    assert rig.scheduler.wait_s(rig.now) == 0.0
    rig.tick()
    assert rig.times() == [10, 20]


@pytest.mark.parametrize("behind", [False, True])
def test_runs_that_are_replaced_in_a_paused_queue_do_not_pile_up_there(rig, behind):
    if behind:
        rig.submit(node("before"))
    rig.send(QueueSteered("default", True))
    rig.put(overlap="cancel_previous")
    for _ in range(20):
        rig.tick(10.0)
    assert [shown(run) for run in rig.runs()] == [["R"]] * 19 + [["q"]]
    there = [item.run for item in rig.scheduler.queues["default"]]
    assert there == [1] * behind + [rig.runs()[-1].number]


def test_very_many_runs_are_cancelled_in_several_turns_before_the_next(rig, monkeypatch):
    monkeypatch.setattr("nbq.core.firing._CANCELLED", 2)
    rig.put()
    for _ in range(5):
        rig.tick(10.0)
    rig.put(graph=None, replace=True, overlap="cancel_previous")
    rig.tick(10.0)
    assert [shown(run) for run in rig.runs()] == [["R"]] * 2 + [["q"]] * 3
    assert rig.scheduler.wait_s(rig.now) == 0.0
    rig.settle(2)
    assert [shown(run) for run in rig.runs()] == [["R"]] * 5 + [["q"]]
    assert rig.times() == [10, 20, 30, 40, 50, 60]


def test_the_queue_is_bounded(rig):
    rig.put(overlap="queue", misfire="all", timing=Every(1.0))
    rig.tick(105.5)
    rig.settle()
    assert len(rig.schedule().state.waiting) == 100
    assert rig.history()[-4:] == [("dropped", at) for at in (102.0, 103.0, 104.0, 105.0)]
    assert rig.change("run") == (
        "overlap: 100 fire times of the schedule 'tick' wait already; try again later"
    )


def test_cancel_previous_ends_what_ran(rig):
    rig.put(overlap="cancel_previous", timing=Every(5.0))
    rig.join()
    (grant,) = rig.grants(5.0)
    actions = rig.tick(5.0)
    assert Interrupt(grant.engine, grant.token, 0, 1) in actions
    first, second = rig.runs()
    assert shown(first) == ["R"]
    assert first.nodes[0].ends[0].text == "the schedule 'tick' fired again (overlap='cancel_previous')"
    assert shown(second)[0] in ("q", "l")


def test_overlap_goes_by_name_also_over_a_new_definition(rig):
    rig.put(overlap="skip")
    rig.tick(10.0)
    rig.put(overlap="skip", graph=Graph([node("other")], value=Slice(0, 0, 1)), replace=True)
    rig.tick(10.0)
    assert rig.history() == [("run", 10.0), ("overlap", 20.0)]


# ------------------------------------------------------------------ bounds


def test_start_and_end_are_in_it(rig):
    rig.put(start_s=WALL_S + 20, end_s=WALL_S + 40)
    for _ in range(60):
        rig.tick(1.0)
    assert rig.times() == [20, 30, 40]
    assert rig.schedule().state.finished_s == WALL_S + 40


def test_after_so_many_runs_it_is_finished(rig):
    rig.put(max_runs=2)
    rig.change("run")
    for _ in range(30):
        rig.tick(1.0)
    assert rig.times() == [0, 10]
    assert rig.schedule().state.finished_s == WALL_S + 10
    assert rig.change("run", salt=b"more" * 4) == (
        "schedule: the schedule 'tick' has had all of its 2 runs: edit its max_runs"
    )


def test_what_waits_when_it_is_finished_is_dropped(rig):
    rig.put(max_runs=1, overlap="queue", misfire="all")
    rig.tick(10.0)
    rig.put(max_runs=2, overlap="queue", misfire="all", replace=True, graph=None)
    rig.tick(20.5)
    rig.settle()
    rig.join()
    rig.work()
    assert rig.history() == [
        ("run", 10.0),
        ("queued", 20.0),
        ("queued", 30.0),
        ("run", 20.0),
        ("dropped", 30.0),
    ]


def test_jitter_puts_a_run_off_but_never_past_the_next_fire_time(rig):
    rig.put(jitter_s=3600.0)
    delays = []
    for _ in range(400):
        before = len(rig.times())
        rig.tick(0.25)
        delays += [rig.wall_s - WALL_S - at for at in rig.times()[before:]]
    assert rig.times() == [10 * number for number in range(1, len(delays) + 1)]
    assert len(delays) >= 9
    assert 0.0 <= min(delays) < max(delays) <= 10.25
    assert len(set(delays)) > 3


def test_a_hub_that_is_full_fires_when_there_is_room():
    rig = Planner(Limits(elements=2))
    rig.submit(node("long", 2))
    rig.put(timing=At(datetime.fromtimestamp(WALL_S + 10, UTC)))
    rig.tick(10.0)
    assert rig.times() == []
    rig.join()
    rig.work()
    rig.tick(1.0)
    assert rig.times() == [10]


def test_runs_of_a_schedule_expire_and_start_as_any(rig):
    rig.put(graph=Graph([node("late", expires_s=5.0), node("soon", countdown_s=1.0)], value=Slice(1, 0, 1)))
    rig.tick(10.0)
    (run,) = rig.runs()
    assert shown(run) == ["q", "c"]
    rig.tick(5.0)
    assert shown(run) == ["R", "q"]
    assert run.nodes[0].state[0] == State.REVOKED


# ------------------------------------------------------------------ clocks


def test_a_clock_that_is_set_back_makes_nothing_fire_twice(rig):
    rig.put()
    rig.tick(10.0)
    rig.tick(10.0)
    rig.jump(-15.0)
    for _ in range(25):
        rig.tick(1.0)
    assert rig.times() == [10, 20, 30]


@pytest.mark.parametrize("misfire", ["coalesce", "skip", "all"])
def test_a_clock_that_is_set_forward_misses_what_lies_between(rig, misfire):
    rig.put(timing=Cron(minute="0"), misfire=misfire)
    rig.jump(10 * 3600.0)
    rig.settle()
    hours = [hour * 3600 - WALL_S % 3600 for hour in range(1, 11)]
    expected = {"coalesce": hours[-1:], "skip": [], "all": hours}
    assert rig.times() == expected[misfire]


def test_years_of_missed_fire_times_are_found_by_search(rig):
    rig.put(timing=Every(0.1))
    rig.jump(50 * 365 * 86_400.0)
    assert rig.times() == [50 * 365 * 86_400]
