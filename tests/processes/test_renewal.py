"""Slots' processes that have run enough, or have grown too large, are replaced; nothing is lost by it."""

from __future__ import annotations

import os

import pytest

import nbq
from tests.processes.harness import World, until

SLOT = "nbq.engines.slot"
_kept: list[bytes] = []


@nbq.task
def pid() -> int:
    """Say which process runs this."""
    return os.getpid()


@nbq.task
def grow(size: int) -> int:
    """Keep so many bytes for good."""
    _kept.append(os.urandom(size))
    return os.getpid()


@pytest.mark.parametrize(("slots", "tasks"), [(1, 1), (1, 3), (2, 4)])
def test_a_process_runs_so_many_tasks_and_no_more(world: World, slots: int, tasks: int) -> None:
    with nbq.Cluster(slots=slots, max_tasks_per_child=tasks):
        results = [pid.delay() for _ in range(12)]
        pids = [result.get(60) for result in results]
        counts = {found: pids.count(found) for found in pids}
        assert max(counts.values()) <= tasks
        assert len(counts) >= 12 // tasks
        assert {result.attempts for result in results} == {1}
        until(lambda: len(world.alive(SLOT)) == slots, "the end of spent processes")


def test_arrays_are_cut_where_a_process_is_spent(world: World) -> None:
    with nbq.Cluster(slots=1, max_tasks_per_child=10) as client:
        pids = client.map(lambda _: os.getpid(), range(35)).get(60)
        counts = [pids.count(found) for found in dict.fromkeys(pids)]
        assert counts == [10, 10, 10, 5]


def test_a_process_that_has_grown_too_large_is_replaced(world: World) -> None:
    with nbq.Cluster(slots=1, max_memory_per_child=300 << 20):
        small = [grow.delay(1000).get(60) for _ in range(3)]
        assert len(set(small)) == 1
        large = grow.delay(320 << 20)
        assert large.get(60) == small[0]
        after = [grow.delay(1000).get(60) for _ in range(3)]
        assert len(set(after)) == 1
        assert after[0] != small[0]
        assert large.attempts == 1
