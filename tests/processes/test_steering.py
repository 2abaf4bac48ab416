"""Steering real work: a paused queue stands still, failed tasks run again, and all outlives the hub."""

from __future__ import annotations

import time

import nbq
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import add, fails_until, note, slow_add

PROMISE_S = 1.0
"""What was granted and has not started comes back within this; tests allow ten times as long."""


def test_a_paused_queue_stands_still_although_work_was_granted_in_advance(client: nbq.Client) -> None:
    assert client.map(slow_add, range(200), range(200)).get(30)[:2] == [0, 2]  # it is known how quick it is
    mapped = client.map(slow_add, range(20_000), range(20_000))
    until(lambda: mapped.completed_count() > 100)
    began = time.monotonic()
    assert client.pause("default")
    still: tuple[float, int] = began, mapped.completed_count()
    while time.monotonic() - still[0] < 0.3:
        count = mapped.completed_count()
        if count != still[1]:
            still = time.monotonic(), count
        assert still[0] - began < 10 * PROMISE_S
    (row,) = [row for row in client.queues() if row.name == "default"]
    assert (row.paused, row.queued + row.leased + still[1]) == (True, 20_000)
    assert client.purge("default") == 20_000 - still[1]
    assert client.resume("default")
    assert mapped.wait(30)


def test_failed_tasks_are_tried_again_with_the_arguments_that_were_sealed(
    client: nbq.Client, shared: World
) -> None:
    gate = shared.mark("fixed")
    mapped = client.map(fails_until, [gate] * 600, range(600), label="night")
    chord = (nbq.group(fails_until.s(gate, n) for n in range(3)) | add.si(3, 4)).delay()
    big = fails_until.delay(gate, b"x" * 400_000)  # a blob
    for result in (mapped, chord, big):
        assert result.wait(30)
    (shared.marks / "fixed").touch()
    (again,) = client.retry(label="night")
    assert again.get(30) == list(range(600))
    assert chord.retry().get(30) == 7
    second = big.retry()
    assert second.get(30) == b"x" * 400_000
    big.forget()
    assert client.result(second.id).get(30) == b"x" * 400_000


def test_all_of_it_holds_after_the_hub_was_killed(world: World) -> None:
    hub = world.hub()
    with nbq.connect() as client:
        client.pause("slow")
        client.set_rate_limit(add, 0.001)
        limited = client.map(add, range(3), range(3))
        path = world.mark("order")
        texts = ["low", "high", "purged"]
        results = [note.apply_async((path, text), queue="slow", label=text) for text in texts]
        client.flush()
        assert client.set_priority(label="high", priority=5) == 1
        assert client.cancel(label="purged") == 1
        kill(hub)
        world.hub()
        world.engine(1, "--queues", "default,slow")
        slots_up(client, 1)
        first = until(lambda: limited.completed_count() == 1)
        (row,) = [row for row in client.queues() if row.name == "slow"]
        assert (first, row.paused, row.queued) == (True, True, 2)
        client.resume("slow")
        assert [results[0].wait(30), results[1].wait(30), results[2].state] == [True, True, "REVOKED"]
        assert world.lines("order") == ["high", "low"]
        assert limited.completed_count() == 1
        client.set_rate_limit(add, None)
        assert limited.get(30) == [0, 2, 4]
