"""Time limits: the soft one is raised in the task, the hard one stops it, whatever it does."""

from __future__ import annotations

import asyncio
import ctypes
import time

import pytest

import nbq
from tests.processes.harness import World
from tests.processes.work import note, pid_of_slot

TOLERANCE_S = 1.0
"""For a machine with much else to do; on an idle one it is about a millisecond."""


@nbq.task
def sleep(seconds: float) -> float:
    """Sleep, interruptibly."""
    time.sleep(seconds)
    return seconds


@nbq.task
def sleep_in_c(seconds: int) -> int:
    """Sleep with the GIL held: no signal handler runs."""
    return ctypes.PyDLL(None).sleep(seconds)


@nbq.task
def tidy(path: str, seconds: float) -> str:
    """End in order when the soft limit comes."""
    began_s = time.monotonic()
    try:
        time.sleep(seconds)
    except nbq.SoftTimeLimitExceeded as error:
        note.run(path, f"{time.monotonic() - began_s:.3f} {error}")
        time.sleep(0.3)  # it is raised once
        return "tidy"
    return "slept"


@nbq.task
async def tidy_async(path: str, seconds: float) -> str:
    """The same, in an event loop."""
    try:
        await asyncio.sleep(seconds)
    except nbq.SoftTimeLimitExceeded:
        await asyncio.sleep(0.3)
        return "tidy"
    return "slept"


class Watched(nbq.Task):
    """Leaves a mark when it fails."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note.run(args[0], f"{type(exc).__name__} {task_id}")


@nbq.task(base=Watched)
def watched(path: str, seconds: float) -> None:
    """Sleep, and be watched."""
    time.sleep(seconds)


@pytest.mark.parametrize("task", [sleep, sleep_in_c], ids=["in Python", "with the GIL held"])
def test_what_runs_too_long_is_stopped_and_has_failed(client: nbq.Client, task: nbq.Task) -> None:
    began_s = time.monotonic()
    result = task.apply_async((20,), time_limit=0.4)
    with pytest.raises(nbq.TimeLimitExceeded) as caught:
        result.get(30)
    assert (result.state, result.attempts, caught.value.task_id) == ("FAILURE", 1, result.id)
    name, _, text = str(caught.value).partition(" was stopped after ")
    seconds, _, rest = text.partition(" s; ")
    assert name == task.name
    assert rest == f"its time_limit is 0.4 s [task {result.id}]"
    assert 0.4 <= float(seconds) < 0.4 + TOLERANCE_S
    assert client.submit(int, 3).get(30) == 3
    assert time.monotonic() - began_s < 10


def test_a_slot_survives_what_stops_in_time_and_hooks_run(shared: World, client: nbq.Client) -> None:
    path = shared.mark("hook")
    before = {pid_of_slot.delay().get(30) for _ in range(20)}
    result = watched.apply_async((path, 20), time_limit=0.3)
    with pytest.raises(nbq.TimeLimitExceeded):
        result.get(30)
    assert shared.marked("hook") == [f"TimeLimitExceeded {result.id}"]
    assert {pid_of_slot.delay().get(30) for _ in range(20)} & before


def test_the_soft_limit_is_raised_once_and_in_time(shared: World, client: nbq.Client) -> None:
    result = tidy.apply_async((shared.mark("soft"), 20), soft_time_limit=0.4, time_limit=10)
    assert result.get(30) == "tidy"
    (line,) = shared.marked("soft")
    seconds, _, text = line.partition(" ")
    assert 0.35 <= float(seconds) < 0.4 + TOLERANCE_S
    assert text.startswith("it has run for 0.4")
    assert text.endswith(" s; its soft_time_limit is 0.4 s")
    again = tidy_async.apply_async((shared.mark("async"), 20), soft_time_limit=0.2)
    assert again.get(30) == "tidy"


def test_a_soft_limit_that_is_not_caught_is_the_failure(client: nbq.Client) -> None:
    result = sleep.apply_async((20,), soft_time_limit=0.2)
    with pytest.raises(nbq.SoftTimeLimitExceeded) as caught:
        result.get(30)
    assert "its soft_time_limit is 0.2 s" in str(caught.value)
    assert "time.sleep(seconds)" in str(caught.value.__cause__)


def test_limits_count_for_each_element_by_itself(client: nbq.Client) -> None:
    results = [sleep.apply_async((0.02,), time_limit=1.5, soft_time_limit=1.0) for _ in range(150)]
    assert [result.get(60) for result in results] == [0.02] * 150


def test_one_element_of_an_array_that_runs_too_long_fails_alone(client: nbq.Client) -> None:
    signatures = [sleep.s(20 if number == 3 else 0.01).set(time_limit=0.5) for number in range(8)]
    found = nbq.group(signatures).apply_async().get(60, propagate=False)
    assert [type(value) for value in found] == [float] * 3 + [nbq.TimeLimitExceeded] + [float] * 4


def test_a_task_that_waits_for_another_feels_its_limits(client: nbq.Client) -> None:
    @nbq.task
    def outer() -> str:
        inner = sleep.delay(30)
        try:
            inner.get(30)
        except nbq.SoftTimeLimitExceeded:
            inner.cancel()
            return "told"
        return "not told"

    assert outer.apply_async(soft_time_limit=0.5).get(30) == "told"
