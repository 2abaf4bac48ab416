"""Tasks that wait for tasks: others run meanwhile, as in a cluster of processes, up to the limit."""

from __future__ import annotations

import asyncio

import pytest

import nbq
from nbq import group
from nbq.local import LocalCluster
from nbq.local.eager import EagerClient
from nbq.testing import ClusterUnderTest
from tests.local.work import (
    add,
    clusters,
    depth,
    depth_awaited,
    loses_and_waits,
    waits_for_all,
    waits_for_itself,
)

ONE_SLOT = pytest.mark.parametrize("nbq_cluster", [{"slots": 1}], indirect=True)


@pytest.mark.parametrize("task", [depth, depth_awaited])
def test_one_slot_is_enough(task) -> None:
    assert task.apply((3,)).get() == 3


@pytest.mark.parametrize("task", [depth, depth_awaited])
def test_too_many_do_not_wait(task) -> None:
    assert task.apply((4,)).get() == 4
    with pytest.raises(nbq.TooManyWaiting, match="4 tasks of this engine wait for others already"):
        task.apply((5,)).get()


def test_the_limit_is_for_each_slot() -> None:
    with LocalCluster(slots=2, waiting_limit=2) as client:
        assert depth.delay(5).get() == 5  # four wait, and two run
        with pytest.raises(nbq.TooManyWaiting, match="4 tasks of this engine wait"):
            depth.delay(6).get()
        assert depth.delay(5).get() == 5
        assert client.queues()[0].queued == 0


@ONE_SLOT
def test_those_that_wait_may_be_as_many_as_the_limit(nbq_cluster: ClusterUnderTest) -> None:
    assert nbq_cluster.run(waits_for_all, (3,)).value == 3
    assert isinstance(nbq_cluster.run(waits_for_all, (4,)).error, nbq.TooManyWaiting)
    assert group(depth.s(1) for _ in range(4)).delay().get() == [1] * 4


@ONE_SLOT
@pytest.mark.parametrize("lost", ["lose_engine", "lose_slot"])
def test_what_is_lost_may_wait(nbq_cluster: ClusterUnderTest, lost: str) -> None:
    clusters[:] = [nbq_cluster]
    assert loses_and_waits.delay(lost).get() == 3


def test_a_task_that_waits_for_itself_is_told_so() -> None:
    with pytest.raises(nbq.Standstill, match="what runs waits for tasks that can never end: for itself"):
        waits_for_itself.apply().get()


def test_eager_tasks_wait_deeper() -> None:
    client = EagerClient(LocalCluster(waiting_limit=10), lambda: False)
    with client:
        assert depth.delay(10).get() == 10
        assert depth.delay(11).state == "FAILURE"


@ONE_SLOT
def test_coroutines_wait_at_the_same_time(nbq_cluster: ClusterUnderTest) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(_awaited(n) for n in range(5)), _awaited(3))

    async def _awaited(n: int) -> int:
        return await add.apply_async((n, 1), countdown=3600) + await depth_awaited.delay(n % 3)

    assert asyncio.run(main()) == [1, 3, 5, 4, 6, 4]
