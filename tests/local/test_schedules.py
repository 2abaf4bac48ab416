"""Schedules in the cluster within the process: they fire as virtual time passes."""

from __future__ import annotations

from datetime import timedelta

import pytest

import nbq
from nbq.testing import ClusterUnderTest
from tests.local.work import add, total

FIRED: list[tuple[float, str]] = []


@nbq.task(bind=True)
def fired(self, *args):
    FIRED.append((self.request.fire_time.timestamp(), self.request.schedule))
    return args


def test_a_schedule_fires_while_time_is_told_to_pass(nbq_cluster: ClusterUnderTest) -> None:
    FIRED.clear()
    schedules = nbq_cluster.client.schedules
    schedules.add("minutely", fired.s(1), nbq.every(60))
    schedules.add("soon", fired.s(2), nbq.at(nbq_cluster.now + timedelta(seconds=90)))
    began = nbq_cluster.now.timestamp()
    nbq_cluster.advance(600)
    first = (began // 60 + 1) * 60
    assert [at for at, name in FIRED if name == "minutely"] == [first + 60 * count for count in range(10)]
    assert [round(at - began) for at, name in FIRED if name == "soon"] == [90]
    assert [fire.outcome for fire in schedules.history("minutely")] == ["run"] * 10
    schedules.remove("minutely")
    nbq_cluster.advance(600)
    assert len(FIRED) == 11


def test_any_canvas_can_be_scheduled_and_its_value_read(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    canvas = nbq.chord([add.s(number, 1) for number in range(300)], total.s())
    schedules.add("sum", canvas, nbq.every(3600))
    assert schedules.run("sum").get() == sum(range(1, 301))
    nbq_cluster.advance(3600)
    fire = schedules.history("sum")[-1]
    assert (fire.outcome, fire.result.get()) == ("run", sum(range(1, 301)))
    schedules.remove("sum")


def test_overlap_counts_runs_that_have_not_ended(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    slow = add.s(1, 1).set(countdown=1000)
    schedules.add("slow", slow, nbq.every(600), overlap="skip")
    nbq_cluster.advance(2400)
    assert [fire.outcome for fire in schedules.history("slow")] == ["run", "overlap", "run", "overlap"]
    schedules.remove("slow")
    nbq_cluster.run_all()


def test_what_can_never_end_is_found_while_a_schedule_fires_for_ever(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.add("minutely", add.s(1, 1), nbq.every(60))
    nbq_cluster.client.pause("held")
    held = add.apply_async((1, 2), queue="held")
    with pytest.raises(nbq.Standstill, match="nothing can happen any more but that schedules fire"):
        held.get()
    nbq_cluster.client.resume("held")
    assert (held.get(), schedules.get("minutely").runs > 500) == (3, True)
    schedules.remove("minutely")


def test_what_ends_in_the_far_future_is_waited_for_while_a_schedule_fires(
    nbq_cluster: ClusterUnderTest,
) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.add("hourly", add.s(1, 1), nbq.every(3600))
    late = add.apply_async((1, 2), countdown=2000 * 3600)
    assert (late.get(), schedules.get("hourly").runs) == (3, 2000)
    schedules.remove("hourly")


def test_run_all_does_not_wait_for_what_schedules_make_meanwhile(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    when = nbq.every(600, start=nbq_cluster.now + timedelta(seconds=600))
    schedules.add("slow", add.s(1, 1).set(countdown=1000), when)
    run = schedules.run("slow")
    nbq_cluster.run_all()
    assert (run.state, schedules.get("slow").runs) == ("SUCCESS", 2)
    schedules.remove("slow")
    nbq_cluster.run_all()
