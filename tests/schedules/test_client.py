"""``client.schedules`` in virtual time: each verb, each policy, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import nbq
from nbq.schedulehandle import ScheduleHandle
from nbq.testing import ClusterUnderTest
from tests.schedules.work import add, fired, total, twice

TEN = timedelta(seconds=10)


def tens(cluster: ClusterUnderTest, **given: Any) -> tuple[datetime, nbq.every]:
    """Return a time, and what fires ten seconds after it, and every ten seconds from then on."""
    now = cluster.now
    return now, nbq.every(10, start=now + TEN, **given)


def story(handle: ScheduleHandle, began: datetime) -> list[tuple[str, float]]:
    """Return outcome and fire time of what a schedule fired, in seconds from when it began."""
    return [(fire.outcome, round((fire.fire_time - began).total_seconds(), 3)) for fire in handle.history]


def slow(seconds: float) -> nbq.Signature:
    """Return what takes so long, in virtual time, to end."""
    return add.signature((1, 1), countdown=seconds)


# ------------------------------------------------------------------ each verb


def test_a_schedule_fires_at_its_times(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster, tz="Asia/Shanghai")
    handle = nbq_cluster.client.schedules.add("report", fired, when)
    assert (handle.name, handle.when, handle.state, handle.runs) == ("report", when, "ACTIVE", 0)
    assert (handle.next, str(handle.next)[-6:]) == (began + TEN, "+08:00")
    nbq_cluster.advance(35)
    assert story(handle, began) == [("run", 10), ("run", 20), ("run", 30)]
    assert [fire.result.get() for fire in handle.history] == [("report", began + n * TEN) for n in (1, 2, 3)]
    assert (handle.runs, handle.active, handle.next) == (3, [], began + 4 * TEN)
    assert handle.upcoming(2) == [began + 4 * TEN, began + 5 * TEN]


def test_any_canvas_is_scheduled(nbq_cluster: ClusterUnderTest) -> None:
    _, when = tens(nbq_cluster)
    schedules = nbq_cluster.client.schedules
    shapes: dict[str, tuple[Any, Any]] = {
        "chain": (add.s(1, 2) | add.s(3), 6),
        "chord": (nbq.group(add.s(n, n) for n in range(5)) | total.s(), 20),
        "group": (nbq.group(add.s(1, 1), add.s(2, 2)), [2, 4]),
        "empty": (nbq.group([]), []),
        "task": (fired, None),
        "function": (lambda: 42, 42),
        "large": (add.s(b"a" * 3_000_000, b"b" * 300_000), b"a" * 3_000_000 + b"b" * 300_000),
        "many": (nbq.group(add.s(f"{n:9}" * 40, "") for n in range(3000)), None),
    }
    for name, (what, _) in shapes.items():
        schedules.add(name, what, when)
    nbq_cluster.advance(11)
    for name, (_, value) in shapes.items():
        found = schedules.history(name)[-1].result.get()
        assert name in {"task", "many"} or found == value, name
    assert len(schedules.history("many")[0].result.get()) == 3000
    assert schedules.history("task")[0].result.get()[0] == "task"


def test_a_retry_keeps_the_fire_time(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("flaky", twice, when, max_runs=1)
    nbq_cluster.advance(30)
    assert handle.history[0].result.get() == (began + TEN, 1)


def test_pause_and_resume(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("report", fired, when)
    handle.pause()
    assert (handle.state, handle.next, handle.upcoming(1)) == ("PAUSED", None, [began + TEN])
    nbq_cluster.advance(500)
    assert handle.runs == 0
    handle.resume()
    assert (handle.state, handle.next) == ("ACTIVE", began + 51 * TEN)
    nbq_cluster.advance(15)
    assert story(handle, began) == [("run", 510)]  # what it would have fired meanwhile was not missed


def test_run_now(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("report", fired, when)
    nbq_cluster.advance(3)
    name, fire_time = handle.run().get()
    assert (name, round((fire_time - began).total_seconds())) == ("report", 3)
    assert (handle.runs, [fire.outcome for fire in handle.history]) == (1, ["manual"])
    nbq_cluster.advance(10)
    assert [fire.outcome for fire in handle.history] == ["manual", "run"]


def test_edit_keeps_what_it_does_not_name(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    schedules = nbq_cluster.client.schedules
    handle = schedules.add("report", add.s(1, 1), when, overlap="skip", max_runs=9)
    nbq_cluster.advance(11)
    schedules.edit("report", what=add.s(2, 2))
    nbq_cluster.advance(10)
    handle.edit(when=nbq.every(20, start=began + 4 * TEN), jitter=0, max_runs=None)
    nbq_cluster.advance(20)
    assert story(handle, began) == [("run", 10), ("run", 20), ("run", 40)]
    assert [fire.result.get() for fire in handle.history] == [2, 4, 4]
    assert (handle.view.spec.overlap, handle.view.spec.max_runs) == ("skip", None)


def test_remove_lets_runs_go_on(nbq_cluster: ClusterUnderTest) -> None:
    _, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("report", slow(60), when)
    nbq_cluster.advance(11)
    (going,) = handle.active
    handle.remove()
    assert (nbq_cluster.client.schedules.names(), going.state) == ([], "SCHEDULED")
    nbq_cluster.advance(100)
    assert going.get() == 2


def test_the_place_of_schedules(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    assert (list(schedules), len(schedules), bool(schedules)) == ([], 0, True)
    handles = [schedules.add(name, fired, 60) for name in ("b", "a")]
    assert ([each.name for each in schedules], schedules.names(), len(schedules)) == (
        ["a", "b"],
        ["a", "b"],
        2,
    )
    assert (schedules.get("b") == handles[0], handles[0] == handles[1]) == (True, False)
    assert ("a" in schedules, "c" in schedules, 7 in schedules) == (True, False, False)


def test_more_schedules_than_fit_an_answer(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    wanted = [f"each {n:04}" for n in range(1001)]
    done = schedules.update({name: {"what": fired, "when": 3600} for name in wanted})
    assert (done.added, schedules.names()) == (wanted, wanted)


# ------------------------------------------------------------------ policies


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("coalesce", [("run", 50, 10)]),
        ("skip", [("run", 50, 10)]),
        ("all", [("run", n * 10, None) for n in range(1, 6)]),
    ],
)
def test_misfire_within_a_minute(nbq_cluster: ClusterUnderTest, misfire: Any, expected: list[Any]) -> None:
    began, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("report", fired, when, misfire=misfire)
    assert missed(nbq_cluster, handle, began, 55) == expected


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("coalesce", [("run", 7200, 3600)]),
        ("skip", [("missed", 7200, 3600)]),
        ("all", [("run", 3600, None), ("run", 7200, None)]),
    ],
)
def test_misfire_long_ago(nbq_cluster: ClusterUnderTest, misfire: Any, expected: list[Any]) -> None:
    began = nbq_cluster.now
    when = nbq.every(3600, start=began + timedelta(hours=1))
    handle = nbq_cluster.client.schedules.add("report", fired, when, misfire=misfire)
    assert missed(nbq_cluster, handle, began, 9000) == expected


def missed(cluster: ClusterUnderTest, handle: ScheduleHandle, began: datetime, seconds: float) -> list[Any]:
    """Let so many seconds pass in which the hub does nothing; return what became of what was missed."""
    cluster.cluster.clock.mono_s += seconds
    cluster.advance(1)
    first = [fire.first_missed and (fire.first_missed - began).total_seconds() for fire in handle.history]
    return [(*told, early) for told, early in zip(story(handle, began), first, strict=True)]


@pytest.mark.parametrize(
    ("overlap", "outcomes", "states"),
    [
        ("allow", ["run", "run", "run"], ["SUCCESS", "SUCCESS", "SCHEDULED"]),
        ("skip", ["run", "overlap", "run"], ["SUCCESS", "SCHEDULED"]),
        ("queue", ["run", "queued", "run", "queued"], ["SUCCESS", "SCHEDULED"]),
        ("cancel_previous", ["run", "run", "run"], ["REVOKED", "REVOKED", "SCHEDULED"]),
    ],
)
def test_overlap(nbq_cluster: ClusterUnderTest, overlap: Any, outcomes: list[str], states: list[str]) -> None:
    _, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("slow", slow(14), when, overlap=overlap)
    nbq_cluster.advance(35)
    history = handle.history
    assert [fire.outcome for fire in history] == outcomes
    assert [fire.result.state for fire in history if fire.outcome == "run"] == states
    assert [run.state for run in handle.active] == [state for state in states if state == "SCHEDULED"]
    handle.remove()
    nbq_cluster.run_all()


def test_run_now_obeys_overlap(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    handle = schedules.add("slow", slow(5), 3600, overlap="skip")
    handle.run()
    with pytest.raises(nbq.Refused, match="'slow'"):
        handle.run()
    handle.edit(overlap="queue")
    assert (handle.run(), len(handle.view.state.waiting)) == (None, 1)
    nbq_cluster.advance(6)
    assert handle.runs == 2
    nbq_cluster.run_all()


def test_start_end_and_max_runs(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    schedules = nbq_cluster.client.schedules
    bounded = schedules.add("bounded", fired, when, start=began + 3 * TEN, end=began + 4 * TEN)
    counted = schedules.add("counted", fired, when, max_runs=2)
    once = schedules.add("once", fired, nbq.at(began + TEN))
    assert bounded.upcoming(5) == [began + 3 * TEN, began + 4 * TEN]
    assert counted.upcoming(5) == [began + TEN, began + 2 * TEN]
    nbq_cluster.advance(60)
    assert story(bounded, began) == [("run", 30), ("run", 40)]
    assert story(counted, began) == [("run", 10), ("run", 20)]
    assert story(once, began) == [("run", 10)]
    for handle in (bounded, counted, once):
        assert (handle.state, handle.next, handle.upcoming(3)) == ("FINISHED", None, [])


def test_jitter_delays_and_keeps_the_fire_time(nbq_cluster: ClusterUnderTest) -> None:
    began, when = tens(nbq_cluster)
    handle = nbq_cluster.client.schedules.add("spread", fired, when, jitter=timedelta(seconds=8), max_runs=5)
    nbq_cluster.advance(60)
    assert story(handle, began) == [("run", n * 10) for n in range(1, 6)]
    late = [(fire.decided_at - fire.fire_time).total_seconds() for fire in handle.history]
    assert all(0 <= each <= 8.001 for each in late)
    assert len({round(each, 2) for each in late}) > 1


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"what": add.signature((1, 1), task_id="mine")}, "has the task_id 'mine'"),
        ({"what": nbq.group(add.s(1, 1), add.signature((2, 2), task_id="mine"))}, "has the task_id 'mine'"),
        ({"what": add.signature((1, 1), eta=datetime(2040, 1, 1, tzinfo=UTC))}, "fixed eta or expires"),
        ({"what": add.signature((1, 1), expires=datetime(2040, 1, 1, tzinfo=UTC))}, "fixed eta or expires"),
        ({"when": True}, "does not say when"),
        ({"when": "* * *"}, "has 3 fields"),
        ({"when": nbq.at(datetime(2020, 1, 1, tzinfo=UTC))}, "would never fire"),
        ({"end": datetime(2020, 1, 1, tzinfo=UTC)}, "would never fire"),
        (
            {"start": datetime(2041, 1, 1, tzinfo=UTC), "end": datetime(2040, 1, 1)},
            "its end is before its start",
        ),
        ({"start": "soon"}, "start: 'soon' is no date and time"),
        ({"jitter": -1}, "jitter_s"),
        ({"max_runs": 0}, "max_runs"),
        ({"misfire": "maybe"}, "misfire"),
        ({"overlap": "maybe"}, "overlap"),
        ({"name": ""}, "1 to 200 characters"),
        ({"name": "n" * 201}, "1 to 200 characters"),
    ],
)
def test_what_means_nothing_is_refused(nbq_cluster: ClusterUnderTest, given: Any, message: str) -> None:
    good: dict[str, Any] = {"name": "report", "what": add.s(1, 1), "when": 60}
    with pytest.raises(nbq.InvalidSchedule, match=message):
        nbq_cluster.client.schedules.add(**(good | given))
    assert nbq_cluster.client.schedules.names() == []


def test_a_name_is_taken_once(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.add("report", add.s(1, 1), 60)
    with pytest.raises(nbq.Refused, match="there is a schedule 'report' already") as caught:
        schedules.add("report", add.s(2, 2), 60)
    assert caught.value.code == "exists"
    assert schedules.add("report", add.s(2, 2), 60, replace=True).run().get() == 4


def test_a_schedule_that_is_not_there(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    gone = schedules.add("gone", fired, 60)
    gone.remove()
    for ask in (
        gone.pause, gone.resume, gone.remove, gone.run, lambda: gone.state, lambda: gone.edit(max_runs=1),
        lambda: schedules.get("gone"), lambda: schedules.history("gone"), lambda: schedules.upcoming("gone"),
    ):  # fmt: skip
        with pytest.raises(nbq.UnknownSchedule, match=r"the hub has no schedule 'gone': client\.schedules"):
            ask()


# ------------------------------------------------------------------ how it is shown


def test_what_users_wrote_is_escaped(nbq_cluster: ClusterUnderTest) -> None:
    handle = nbq_cluster.client.schedules.add("<b>", nbq.signature("<i>task"), nbq.crontab(0, 0))
    assert repr(handle).startswith("<schedule '<b>' ACTIVE: At 00:00 every day, UTC time., next ")
    for text in (handle._repr_html_(), nbq_cluster.client.schedules._repr_html_()):
        assert "<td>&lt;b&gt;</td><td>ACTIVE</td><td>&lt;i&gt;task</td>" in text
        assert "<b>" not in text
    handle.remove()
    assert "<td>&lt;b&gt;</td>" in handle._repr_html_()


def test_arguments_are_not_shown(nbq_cluster: ClusterUnderTest) -> None:
    handle = nbq_cluster.client.schedules.add("report", add.s("secret", "words") | add.s("more"), 60)
    assert handle.view.spec.text == "tests.schedules.work.add"


def test_what_is_kept_of_a_declaration_depends_on_the_key(nbq_cluster: ClusterUnderTest) -> None:
    """Whoever may only look cannot find the arguments by trying."""
    with ClusterUnderTest().cluster as other:
        digests = []
        for client in (nbq_cluster.client, other):
            client.schedules.update({"report": {"what": add.s("secret", "words"), "when": 60}})
            digests.append(client.schedules.view("report").spec.digest)
    assert len(set(digests)) == len(digests)
