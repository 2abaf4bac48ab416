"""Tasks that wait for other tasks: others run in their stead, and nothing hangs."""

from __future__ import annotations

import time

import psutil
import pytest

import nbq
from nbq.current import current_client
from tests.processes.harness import World, until
from tests.processes.work import block, note

SLOT = "nbq.engines.slot"


@nbq.task
def deep(level: int) -> int:
    """Submit a task that submits a task that ..., and wait for it."""
    return 1 if level == 0 else deep.delay(level - 1).get(60) + 1


@nbq.task
async def deep_async(level: int) -> int:
    """The same, awaited."""
    return 1 if level == 0 else await deep_async.delay(level - 1) + 1


@nbq.task
def hold(marks: str, gate: str, name: str) -> str:
    """Wait for a task that ends when its gate opens; note when this one goes on."""
    value = block.delay(f"{marks}/runs", gate, name).get(60)
    note.run(f"{marks}/order", name)
    return value


@nbq.task
def append(path: str, text: str, seconds: float = 0.0) -> None:
    """Write a line, after so many seconds."""
    time.sleep(seconds)
    note.run(path, text)


@nbq.task
def first_known(ident: str) -> object:
    """Get what ended before."""
    return current_client().result(ident).get(30)


@pytest.mark.parametrize("task", [deep, deep_async], ids=["get", "await"])
def test_three_levels_deep_with_one_slot(world: World, task: nbq.Task) -> None:
    with nbq.Cluster(slots=1):
        assert task.delay(3).get(30) == 4
        until(lambda: len(world.alive(SLOT)) == 1, "the end of idle stand-ins", 20)


def test_one_too_many_that_wait_is_a_typed_error(world: World) -> None:
    with nbq.Cluster(slots=1):
        result = deep.delay(6)
        with pytest.raises(nbq.TooManyWaiting) as caught:
            result.get(60)
        assert str(caught.value) == (
            "4 tasks of this engine wait for others already, and no more may: let a canvas wait (a chain or "
            "chord needs no slot for that), or raise the setting waiting_limit"
        )
        assert deep.delay(3).get(30) == 4


def test_what_is_known_needs_no_stand_in(world: World) -> None:
    with nbq.Cluster(slots=1):
        known = deep.delay(0)
        assert known.get(30) == 1
        assert first_known.delay(known.id).get(30) == 1
        assert len(world.alive(SLOT)) == 1


def test_a_waiter_goes_on_before_what_is_queued(world: World) -> None:
    with nbq.Cluster(slots=1):
        result = hold.delay(str(world.marks), world.mark("gate"), "waiter")
        world.marked("runs")
        order = world.mark("order")
        queued = [append.delay(order, "queued", 0.2) for _ in range(5)]
        (world.marks / "gate").touch()
        assert result.get(30) == "waiter"
        for other in queued:
            other.get(30)
        assert world.lines("order") == ["waiter", *["queued"] * 5]


def test_a_task_that_waits_can_be_cancelled(world: World) -> None:
    with nbq.Cluster(slots=1):
        result = hold.delay(str(world.marks), world.mark("gate"), "waiter")
        world.marked("runs")
        began_s = time.monotonic()
        result.cancel()
        with pytest.raises(nbq.TaskRevoked):
            result.get(30)
        (world.marks / "gate").touch()
        assert deep.delay(2).get(30) == 3
        assert time.monotonic() - began_s < 20
        assert world.lines("order") == []


def test_a_slot_that_dies_while_it_waits_is_replaced(world: World) -> None:
    with nbq.Cluster(slots=1):
        result = hold.delay(str(world.marks), world.mark("gate"), "waiter")
        (pid,) = {int(line) for line in world.marked("runs")}
        (waiting,) = [process for process in world.alive(SLOT) if process.pid != pid]
        psutil.Process(waiting.pid).kill()
        (world.marks / "gate").touch()
        assert result.get(60) == "waiter"
        assert result.attempts == 2
