"""Cancel of real work: queued, running, refusing to stop; one task, a group, a run, the rest of a chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import nbq
from tests.processes.harness import World, until
from tests.processes.work import add, block, note, pid_of_slot, stubborn

PROMISE_S = 1.0
"""A slot is back within this after a cancel; tests allow ten times as long."""


@pytest.fixture
def busy(shared: World, client: nbq.Client) -> Iterator[Callable[[str], list[nbq.AsyncResult]]]:
    """Occupy both slots with interruptible tasks."""
    held: list[nbq.AsyncResult] = []

    def occupy(name: str) -> list[nbq.AsyncResult]:
        held.extend(block.delay(shared.mark(name), shared.mark("never")) for _ in range(2))
        shared.marked(name, 2)
        return list(held)

    yield occupy
    for result in held:
        result.cancel()
    for result in held:
        assert result.wait(30)


def revoked(result: nbq.AsyncResult | nbq.GroupResult) -> str:
    """Return the text of the TaskRevoked that a result raises."""
    with pytest.raises(nbq.TaskRevoked) as caught:
        result.get(30)
    return str(caught.value)


def test_a_queued_task_never_runs(shared: World, busy: Callable[[str], list]) -> None:
    busy("q")
    queued = note.delay(shared.mark("queued"))
    assert queued.state == "QUEUED"
    assert queued.cancel() is True
    assert revoked(queued) == f"cancelled [task {queued.id}]"
    assert (queued.state, queued.ready(), queued.successful(), queued.failed()) == (
        "REVOKED",
        True,
        False,
        False,
    )
    assert queued.cancel() is False
    assert shared.lines("queued") == []


def test_a_running_task_is_interrupted_and_its_slot_goes_on(
    shared: World, client: nbq.Client, busy: Callable[[str], list]
) -> None:
    first, second = busy("r")
    pids = set(map(int, shared.lines("r")))
    began = time.monotonic()
    assert first.cancel() is True
    result = pid_of_slot.delay()
    assert result.get(10 * PROMISE_S) in pids
    assert time.monotonic() - began < 10 * PROMISE_S
    assert revoked(first) == f"cancelled [task {first.id}]"
    until(lambda: second.state == "STARTED", "the other task's report")


def test_a_task_that_refuses_to_stop_is_killed_and_its_slot_is_back(world: World) -> None:
    with nbq.Cluster(slots=1):
        before = pid_of_slot.delay().get(30)
        result = stubborn.delay(world.mark("s"))
        world.marked("s")
        began = time.monotonic()
        assert result.cancel() is True
        behind = pid_of_slot.delay()
        assert behind.get(10 * PROMISE_S) != before
        assert time.monotonic() - began < 10 * PROMISE_S
        assert (behind.attempts, revoked(result)) == (1, f"cancelled [task {result.id}]")
        assert world.lines("s").count("ran") == 1


def test_a_group_is_stopped_and_what_had_ended_stays(shared: World, busy: Callable[[str], list]) -> None:
    early = shared.mark("early")
    group = nbq.group(
        [note.s(early, value="kept"), *(block.s(shared.mark("g"), shared.mark("never")) for _ in range(10))]
    )
    result = group.delay()
    shared.marked("g", 2)
    until(result[0].ready, "the first member's end")
    assert result.cancel() == 10
    assert revoked(result).startswith("cancelled [task ")
    assert result.progress == {"SUCCESS": 1, "REVOKED": 10}
    assert result[0].get() == "kept"
    kinds = [type(value) for value in result.get(propagate=False)]
    assert kinds == [str] + [nbq.TaskRevoked] * 10
    assert len(shared.lines("g")) == 2


def test_a_whole_run_is_stopped_by_its_id(shared: World, client: nbq.Client) -> None:
    result = client.map(block, [shared.mark("w")] * 1000, [shared.mark("never")] * 1000)
    shared.marked("w", 2)
    assert client.cancel(result.id) == 1000
    assert revoked(result).startswith("cancelled [task ")
    assert result.progress == {"REVOKED": 1000}
    assert len(shared.lines("w")) == 2


def test_later_steps_of_a_chain_end_with_the_one_that_is_cancelled(shared: World, client: nbq.Client) -> None:
    chain = nbq.chain(
        block.si(shared.mark("c"), shared.mark("never"), 1), add.s(1), note.si(shared.mark("after"))
    )
    last = chain.delay()
    first = last.parent.parent
    shared.marked("c")
    assert (first.state in ("QUEUED", "STARTED"), last.state) == (True, "WAITING")
    assert client.cancel(first) >= 1
    assert revoked(last) == f"cancelled [task {first.id}]"
    assert [first.state, last.parent.state, last.state] == ["REVOKED"] * 3
    assert shared.lines("after") == []


def test_cancelling_a_whole_canvas_stops_what_its_value_waits_for(shared: World, client: nbq.Client) -> None:
    held = block.si(shared.mark("x"), shared.mark("never"), 1)
    chain = nbq.chain(held, add.s(1)).delay()
    group = nbq.group(nbq.chain(held, add.s(number)) for number in range(3)).delay()
    shared.marked("x", 2)
    assert chain.cancel()
    assert group.cancel() == 6
    until(lambda: client.submit(abs, -3).get(30) == 3, "free slots")
    assert (chain.parent.state, chain.state) == ("REVOKED", "REVOKED")
    assert {member.parent.state for member in group} | {member.state for member in group} == {"REVOKED"}
    assert len(shared.lines("x")) <= 3


def test_cancel_all_stops_everything(shared: World, client: nbq.Client, busy: Callable[[str], list]) -> None:
    held = busy("a")
    queued = client.map(add, range(500), range(500))
    later = add.apply_async((1, 2), countdown=3600)
    waiting = nbq.chain(block.si(shared.mark("aa"), shared.mark("never"), 1), add.s(1)).delay()
    client.flush()
    assert client.cancel_all() == 2 + 500 + 1 + 2
    assert {result.state for result in [*held, later, waiting]} == {"REVOKED"}
    assert queued.progress == {"REVOKED": 500}
    assert client.cancel_all() == 0
    assert add.delay(1, 2).get(30) == 3


def test_an_unknown_id_cannot_be_cancelled(client: nbq.Client) -> None:
    with pytest.raises(nbq.UnknownResult, match="nobody-has-this-id"):
        client.cancel("nobody-has-this-id")
