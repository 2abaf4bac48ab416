"""The fixture for users' tests: virtual time, what ran, and what is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import nbq
from nbq import chord, group
from nbq.testing import Call, ClusterUnderTest
from tests.local.work import add, clusters, fail, flaky, later, loses, note, seen, told, total


def test_submits_run_while_somebody_waits(nbq_cluster: ClusterUnderTest) -> None:
    result = note.delay(1)
    assert seen == []
    assert (result.get(), seen) == ((1,), [(1,)])


def test_time_passes_when_it_is_told_to(nbq_cluster: ClusterUnderTest) -> None:
    result = add.apply_async((1, 1), countdown=3600)
    before = nbq_cluster.now
    nbq_cluster.advance(3599)
    assert (result.state, nbq_cluster.now - before) == ("SCHEDULED", timedelta(seconds=3599))
    nbq_cluster.advance(1.1)
    assert (result.state, result.get()) == ("SUCCESS", 2)


def test_a_timeout_is_in_virtual_time(nbq_cluster: ClusterUnderTest) -> None:
    result = add.apply_async((1, 1), countdown=3600)
    with pytest.raises(nbq.WaitTimeout):
        result.get(timeout=3000)
    assert result.get(timeout=601) == 2


def test_what_expires_is_revoked(nbq_cluster: ClusterUnderTest) -> None:
    result = add.apply_async((1, 1), countdown=60, expires=30)
    with pytest.raises(nbq.TaskRevoked, match="expired"):
        result.get()


def test_what_is_cancelled_never_runs(nbq_cluster: ClusterUnderTest) -> None:
    result = note.apply_async((1,), countdown=60)
    assert result.cancel()
    nbq_cluster.run_all()
    assert (result.state, seen) == ("REVOKED", [])


def test_run_says_what_became_of_a_canvas(nbq_cluster: ClusterUnderTest) -> None:
    ran = nbq_cluster.run(chord([add.s(1, 1), fail.s("no")], total.s()), link_error=told.s())
    assert (ran.value, repr(ran.error), ran.states) == (
        None, "ValueError('no')", {"SUCCESS": 2, "FAILURE": 2},
    )  # fmt: skip
    assert [(call.task, call.args) for call in ran.calls][:2] == [(add.name, (1, 1)), (fail.name, ("no",))]
    ran = nbq_cluster.run(flaky, (2,))
    assert (ran.value, ran.error, ran.states) == (2, None, {"SUCCESS": 1})
    assert ran.calls == [Call(flaky.name, (2,), {}, ran.result.id)] * 3


@pytest.mark.parametrize("nbq_cluster", [{"slots": 1, "queues": ["default"]}], indirect=True)
def test_what_can_never_happen_is_said_at_once(nbq_cluster: ClusterUnderTest) -> None:
    result = add.apply_async((1, 1), queue="elsewhere")
    with pytest.raises(nbq.Standstill, match="no engine serves 'elsewhere'"):
        result.get()
    nbq_cluster.add_engine(queues=["elsewhere"])
    assert result.get() == 2


def test_any_queue_is_served_unless_they_are_named(nbq_cluster: ClusterUnderTest) -> None:
    assert add.apply_async((1, 1), queue="gpu").get() == 2


@pytest.mark.parametrize("lost", ["lose_engine", "lose_slot"])
def test_what_ran_where_something_is_lost_runs_again(nbq_cluster: ClusterUnderTest, lost: str) -> None:
    clusters[:] = [nbq_cluster]
    assert (loses.s(lost).delay().get(), seen) == (2, [1, 2])


def test_without_an_engine_nothing_happens(nbq_cluster: ClusterUnderTest) -> None:
    nbq_cluster.lose_engine(replace=False)
    with pytest.raises(nbq.Standstill, match="no engine left"):
        add.delay(1, 1).get()


@pytest.mark.parametrize("nbq_cluster", [{"settings": {"default_queue": "mine"}}], indirect=True)
def test_settings_are_those_of_its_client(nbq_cluster: ClusterUnderTest) -> None:
    assert add.delay(1, 1).get() == 2
    assert [queue.name for queue in nbq_cluster.client.queues()] == ["default", "mine"]


def test_callbacks_and_coroutines(nbq_cluster: ClusterUnderTest) -> None:
    told_of: list[object] = []
    result = add.delay(1, 1).then(lambda ended: told_of.append(ended.get()))
    assert (result.get(), told_of) == (2, [2])

    async def main() -> tuple[object, object]:
        return await later.delay(5), await group(later.s(i) for i in range(3)).delay()

    assert asyncio.run(main()) == (5, [0, 1, 2])


def test_a_result_is_found_by_its_id(nbq_cluster: ClusterUnderTest) -> None:
    result = add.delay(1, 1)
    nbq_cluster.run_all()
    assert nbq_cluster.client.result(result.id).get() == 2
