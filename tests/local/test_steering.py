"""Steering by a client: what is meant, what is tried again with what, what queues and rates do."""

from __future__ import annotations

from typing import Any

import pytest

import nbq
from nbq.testing import ClusterUnderTest
from tests.local.work import add, total

BROKEN: set[Any] = set()
"""With these the task below fails."""
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    BROKEN.clear()
    RAN.clear()


@nbq.task(bind=True)
def job(self, x, again=0):
    RAN.append((x, again))
    if self.request.fire_time is not None:
        RAN.append((self.request.schedule, self.request.fire_time))
    if again == 1:
        raise self.retry(args=("changed", 2), countdown=1)
    if x in BROKEN:
        raise ValueError(x)
    return x


@nbq.task(bind=True)
def becomes(self, x):
    self.replace(job.s(x) | add.s(1))


def failed(result: Any) -> Any:
    """Let a result end, in failure."""
    result.wait()
    assert result.failed()
    BROKEN.clear()
    RAN.clear()
    return result


def test_a_task_is_tried_again_and_gives_its_value(nbq_cluster: ClusterUnderTest) -> None:
    BROKEN.add(3)
    first = failed(job.apply_async((3,), task_id="mine", countdown=5, priority=4))
    again = first.retry()
    assert (again.get(), RAN) == (3, [(3, 0)])
    assert first.failed()
    assert nbq_cluster.client.result("mine").id == first.id != again.id
    with pytest.raises(nbq.errors.Refused, match="it has not failed, or its canvas still runs"):
        again.retry()
    assert nbq_cluster.client.retry(first.id)[0].get() == 3
    assert nbq_cluster.client.run(first).retry()[0].get() == 3


def test_the_failed_ones_of_a_map_are_tried_again_as_a_group_of_their_own(
    nbq_cluster: ClusterUnderTest,
) -> None:
    BROKEN.update({1, 5, 6, 300})
    mapped = failed(nbq_cluster.client.map(job, range(400), label="night"))
    found = nbq_cluster.client.retry(label="night")
    assert (len(found), found.tasks) == (1, 4)
    assert [found[0].get(), [one.get() for one in found[0]], RAN] == [
        [1, 5, 6, 300], [1, 5, 6, 300], [(1, 0), (5, 0), (6, 0), (300, 0)],
    ]  # fmt: skip
    assert (found[0].completed_count(), found[0].successful()) == (4, True)
    assert nbq_cluster.client.run(found.ids[0]).size == 4
    assert list(nbq_cluster.client.retry(label="night")) == []
    assert mapped.retry().tasks == 4
    assert list(nbq_cluster.client.retry(label="night", state="REVOKED")) == []
    nbq_cluster.run_all()


def test_separate_calls_and_members_of_sets_are_tried_again_alone(nbq_cluster: ClusterUnderTest) -> None:
    BROKEN.update({0, 1, 2})
    results = [job.delay(number) for number in range(5)]
    for result in results:
        result.wait()
    BROKEN.clear()
    RAN.clear()
    assert results[1].retry().get() == 1
    found = nbq.ResultSet([results[0], results[2], results[3]]).retry()
    assert sorted(one.get() for one in found) == [0, 2]
    assert [x for x, _ in RAN] == [1, 0, 2]
    assert nbq_cluster.client.retry(name=job.name).tasks == 0


def test_a_canvas_is_tried_again_as_a_whole_once_it_has_ended(nbq_cluster: ClusterUnderTest) -> None:
    BROKEN.add(2)
    chord = failed((nbq.group(job.s(1), job.s(2)) | total.s()).delay())
    again = chord.retry()
    assert (again.get(), RAN) == (3, [(1, 0), (2, 0)])
    BROKEN.add(2)
    chain = (job.s(2) | add.s(1)).delay()
    chain.wait()
    BROKEN.clear()
    assert chain.parent.retry().get() == 3
    BROKEN.add(7)
    open_ = (nbq.group(job.s(7), job.s(1).set(countdown=1000)) | total.s()).delay()
    nbq_cluster.advance(10)
    with pytest.raises(nbq.errors.Refused, match="still runs"):
        open_.retry()
    nbq_cluster.run_all()
    BROKEN.clear()
    assert nbq_cluster.client.retry(run=open_.run_id, state="FAILURE").tasks == 2
    nbq_cluster.run_all()


def test_arguments_changed_by_a_retry_and_what_took_a_place_are_the_first_again(
    nbq_cluster: ClusterUnderTest,
) -> None:
    BROKEN.update({"changed", 4})
    changed = failed(job.delay("first", 1))
    assert changed.retry().get() == "changed"
    assert RAN == [("first", 1), ("changed", 2)]
    BROKEN.add(4)
    replaced = failed(becomes.delay(4))
    assert (replaced.retry().get(), RAN) == (5, [(4, 0)])


def test_what_a_schedule_ran_keeps_its_fire_time(nbq_cluster: ClusterUnderTest) -> None:
    BROKEN.add(9)
    schedules = nbq_cluster.client.schedules
    schedules.add("tick", job.s(9), nbq.every(60), max_runs=1)
    nbq_cluster.advance(200)
    BROKEN.clear()
    (first, told), RAN[:] = RAN[:2], []
    assert told[0] == "tick"
    assert nbq_cluster.client.retry(name=job.name)[0].get() == 9
    assert len(RAN) == 2
    assert RAN[:] == [first, told]
    assert nbq_cluster.client.retry(name=job.name).tasks == 0


def test_the_cancelled_ones_too(nbq_cluster: ClusterUnderTest) -> None:
    late = job.apply_async((1,), countdown=100, label="late")
    assert nbq_cluster.client.cancel(label="late", state=["SCHEDULED", "QUEUED"]) == 1
    assert nbq_cluster.client.retry(label="late").tasks == 0
    assert nbq_cluster.client.retry(label="late", state="REVOKED")[0].get() == 1
    assert late.state == "REVOKED"


@pytest.mark.parametrize("nbq_cluster", [{"slots": 1}], indirect=True)
def test_priorities_of_what_is_queued(nbq_cluster: ClusterUnderTest) -> None:
    client = nbq_cluster.client
    client.pause("default")
    results = [job.apply_async((number,), label="odd" if number % 2 else "even") for number in range(6)]
    assert client.set_priority(label="odd", priority=3) == 3
    assert client.set_priority(results[4], 7) == 1
    assert client.set_priority(results[0].id, -1) == 1
    nbq_cluster.advance(1)
    assert RAN == []
    client.resume("default")
    nbq_cluster.run_all()
    assert [x for x, _ in RAN] == [4, 1, 3, 5, 2, 0]


def test_a_queue_is_paused_and_purged(nbq_cluster: ClusterUnderTest) -> None:
    client = nbq_cluster.client
    assert (client.pause("slow"), client.pause("slow")) == (True, False)
    waiting = [job.apply_async((number,), queue="slow") for number in range(3)]
    done = job.delay("quick")
    assert done.get() == "quick"
    nbq_cluster.advance(10)
    assert [(row.name, row.queued, row.paused) for row in client.queues() if row.name == "slow"] == [
        ("slow", 3, True)
    ]
    assert client.purge("slow") == 3
    assert [result.state for result in waiting] == ["REVOKED"] * 3
    assert (client.resume("slow"), client.resume("slow")) == (True, False)


def test_rates(nbq_cluster: ClusterUnderTest) -> None:
    client = nbq_cluster.client
    assert client.set_rate_limit(job, "1/m")
    assert not client.set_rate_limit(job.name, 1 / 60)
    results = client.map(job, range(3))
    nbq_cluster.advance(70)
    assert len(RAN) == 2
    assert client.set_rate_limit(job, None)
    assert results.get() == [0, 1, 2]
    limited = client.map(job, range(10), rate_limit=1000)
    assert client.set_rate_limit(job, "own")
    assert limited.get() == list(range(10))
    with pytest.raises(nbq.InvalidSignature, match="rate_limit must be a number per second or a text"):
        client.set_rate_limit(job, "often")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "say which tasks are meant"),
        ({"state": "QUEUED"}, "say which tasks are meant"),
        ({"what": "id", "label": "x"}, "by a handle or id alone, or by run="),
        ({"label": "x", "state": "DONE"}, "there is no state 'DONE': the states are WAITING"),
    ],
)
def test_what_is_meant_has_to_be_said(nbq_cluster: ClusterUnderTest, given: Any, text: str) -> None:
    for act in (nbq_cluster.client.cancel, nbq_cluster.client.retry):
        with pytest.raises(nbq.UsageError, match=text):
            act(**given)
    with pytest.raises(
        nbq.UsageError, match="priority must be a whole number from -1,000 to 1,000, not 1001"
    ):
        nbq_cluster.client.set_priority(label="x", priority=1001)
    with pytest.raises(nbq.UsageError, match="which queue"):
        nbq_cluster.client.purge("")
    for act in (nbq_cluster.client.cancel, nbq_cluster.client.retry):
        with pytest.raises(nbq.UnknownResult):
            act("0" * 32)
