"""Kill -9 of an engine, and its draining: its work goes on elsewhere, and only what ran is charged."""

from __future__ import annotations

import signal
import subprocess

import psutil
import pytest

import nbq
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import block, note, slow_add

TASKS = 5_000


@pytest.mark.parametrize("shape", ["map", "group"])
def test_another_engine_finishes_what_a_killed_one_had(world: World, shape: str) -> None:
    world.hub()
    first = world.engine(1, name="first")
    with nbq.connect() as client:
        slots_up(client, 1)
        if shape == "map":
            result = client.map(slow_add, range(TASKS), range(TASKS))
        else:
            result = nbq.group(slow_add.s(i, i) for i in range(TASKS)).delay()
        until(lambda: result.completed_count() > TASKS // 4, "a quarter of the work")
        kill(first)
        world.engine(1, name="second")
        assert result.get(60) == [2 * i for i in range(TASKS)]
        assert [engine.info.name for engine in client.engines() if engine.state == "up"] == ["second"]


def test_the_slots_of_a_killed_engine_end_and_its_task_is_started_again(world: World) -> None:
    world.hub()
    first = world.engine(1, name="first")
    with nbq.connect() as client:
        slots_up(client, 1)
        running = block.delay(world.mark("runs"), world.mark("gate"), "done")
        behind = [note.delay(world.mark("behind"), str(i), i) for i in range(20)]
        (slot,) = map(int, world.marked("runs"))
        kill(first)
        until(lambda: not psutil.pid_exists(slot), "the end of the slot")
        world.engine(1, name="second")
        world.marked("runs", 2)
        (world.marks / "gate").touch()
        assert running.get(30) == "done"
        assert [result.get(30) for result in behind] == list(range(20))
        assert sorted(map(int, world.lines("behind"))) == list(range(20))
        assert running.attempts == 2
        assert {result.attempts for result in behind} == {1}


def draining(world: World, client: nbq.Client) -> tuple[subprocess.Popen[str], nbq.AsyncResult, list]:
    """Start an engine that drains while one task runs in it and others are queued behind."""
    engine = world.engine(1, name="first")
    slots_up(client, 1)
    running = block.delay(world.mark("runs"), world.mark("gate"), "done")
    behind = [note.delay(world.mark("behind"), str(i), i) for i in range(20)]
    world.marked("runs")
    engine.send_signal(signal.SIGTERM)
    until(lambda: [e.state for e in client.engines()] == ["draining"], "draining")
    return engine, running, behind


def test_sigterm_lets_what_runs_finish_and_gives_the_rest_back(world: World) -> None:
    world.hub()
    with nbq.connect() as client:
        engine, running, behind = draining(world, client)
        world.engine(1, name="second")
        assert [result.get(30) for result in behind] == list(range(20))
        assert engine.poll() is None
        (world.marks / "gate").touch()
        assert engine.wait(10) == 0
        assert running.get(30) == "done"
        assert {result.attempts for result in [running, *behind]} == {1}
        assert len(world.lines("runs")) == 1
        assert sorted(map(int, world.lines("behind"))) == list(range(20))


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_an_engine_at_once(world: World, second: signal.Signals) -> None:
    world.hub()
    with nbq.connect() as client:
        engine, running, behind = draining(world, client)
        engine.send_signal(second)
        assert engine.wait(5) == 0
        world.gone("nbq.engines.slot")
        (world.marks / "gate").touch()
        world.engine(1, name="second")
        assert running.get(30) == "done"
        assert [result.get(30) for result in behind] == list(range(20))
        assert len(world.lines("runs")) == 2


def test_an_engine_gives_up_after_its_hub_timeout(world: World) -> None:
    hub = world.hub()
    patient = world.engine(1, name="patient")
    hasty = world.engine(1, "--hub-timeout", "0.5", name="hasty")
    with nbq.connect() as client:
        slots_up(client, 2)
        kill(hub)
    assert hasty.wait(20) == 3
    assert "the hub was gone for 0.5 s (--hub-timeout)" in world.log.read_text()
    assert patient.poll() is None
    assert len(world.alive("nbq.engines.slot")) == 1
    patient.send_signal(signal.SIGTERM)
    assert patient.wait(10) == 0
