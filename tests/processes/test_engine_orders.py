"""Engines are told to end, to begin anew, to have more slots or fewer; no task is lost or run twice by it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
from nbq.errors import UnknownEngine
from tests.processes.harness import World, slots_up, until

SLOT = "nbq.engines.slot"


@nbq.task
def pid() -> int:
    """Say which process runs this."""
    return os.getpid()


@nbq.task
def hold(mark: str, release: str) -> int:
    """Leave a mark, and run until there is another."""
    with Path(mark).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(release).exists():
        time.sleep(0.005)
    return os.getpid()


@pytest.fixture
def hub(world: World) -> Iterator[nbq.Client]:
    """A hub without engines, and its client."""
    world.hub()
    with nbq.connect() as client:
        yield client


def held(world: World, count: int, name: str = "running") -> list[nbq.AsyncResult]:
    """Have so many tasks running until they are released."""
    results = [hold.delay(world.mark(name), world.mark("go")) for _ in range(count)]
    world.marked(name, count)
    return results


def release(world: World) -> None:
    Path(world.mark("go")).touch()


def test_a_drained_engine_finishes_what_it_runs_and_another_does_the_rest(
    world: World, hub: nbq.Client
) -> None:
    first = world.engine(1, name="first")
    slots_up(hub, 1)
    [running] = held(world, 1)
    waiting = hold.delay(world.mark("later"), world.mark("go"))
    assert hub.drain("first") == 1
    until(lambda: [view.state for view in hub.engines()] == ["draining"])
    assert first.poll() is None
    world.engine(1, name="second")
    world.marked("later")
    release(world)
    assert first.wait(30) == 0
    assert running.get(30) != waiting.get(30)
    assert (running.attempts, waiting.attempts) == (1, 1)
    assert len(world.lines("running")) == len(world.lines("later")) == 1


def test_what_a_stopped_engine_ran_is_run_again(world: World, hub: nbq.Client) -> None:
    first = world.engine(1, name="first")
    slots_up(hub, 1)
    [running] = held(world, 1)
    assert hub.stop(hub.engines()[0], wait=30) == 1
    assert first.wait(30) == 0
    release(world)
    world.engine(1, name="second")
    assert str(running.get(30)) == world.lines("running")[1]
    assert running.attempts == 2


def test_slots_are_added_and_taken_away_and_what_they_run_is_finished(world: World, hub: nbq.Client) -> None:
    engine = world.engine(1, name="e")
    slots_up(hub, 1)
    assert hub.scale("e", 3, wait=30) == 1
    assert hub.slots == 3
    running = held(world, 3)
    waiting = [pid.delay() for _ in range(3)]
    assert hub.scale("e", 1, wait=30) == 1
    assert len(world.alive(SLOT)) == 3  # all three run something
    release(world)
    pids = [result.get(30) for result in running]
    assert len(set(pids)) == 3
    assert {result.get(30) for result in waiting} <= set(pids)
    until(lambda: len(world.alive(SLOT)) == 1, "the end of two slots")
    assert {result.attempts for result in [*running, *waiting]} == {1}
    assert pid.delay().get(30) == world.alive(SLOT)[0].pid
    assert engine.poll() is None


def test_an_engine_has_as_many_slots_as_the_work_needs(world: World, hub: nbq.Client) -> None:
    world.engine(1, name="e")
    slots_up(hub, 1)
    hub.autoscale("e", 1, 3)
    running = held(world, 3)  # they can only run if there are three slots
    assert [(view.info.slots, view.info.least, view.info.most) for view in hub.engines()] == [(3, 1, 3)]
    release(world)
    assert len({result.get(30) for result in running}) == 3
    assert hub.scale("e", 2, wait=30) == 1
    assert [(view.info.slots, view.info.least, view.info.most) for view in hub.engines()] == [(2, 0, 0)]


def test_bounds_hold_from_the_start_on(world: World, hub: nbq.Client) -> None:
    world.python("-m", "nbq", "engine", "--slots", "2..3", "--name", "e")
    slots_up(hub, 2)
    assert [(view.info.slots, view.info.least, view.info.most) for view in hub.engines()] == [(2, 2, 3)]
    running = held(world, 3)
    release(world)
    assert len({result.get(30) for result in running}) == 3


def test_a_restarted_engine_is_the_same_process_with_what_is_installed_now(world: World) -> None:
    with nbq.Cluster(slots=1) as client:
        [view] = client.engines()
        engine = view.info.pid
        [running] = held(world, 1)
        waiting = pid.delay()
        assert client.restart(view) == 1
        until(lambda: [found.state for found in client.engines()] == ["draining"])
        release(world)
        old = running.get(30)
        assert waiting.get(30) != old
        [again] = until(lambda: [found for found in client.engines() if found.id != view.id], "its return")
        until(lambda: [found.id for found in client.engines()] == [again.id], "the end of the old one")
        assert (again.info.name, again.info.pid, again.state) == (view.info.name, engine, "up")
        assert (running.attempts, waiting.attempts) == (1, 1)
        assert client.restart("", wait=30) == 1
        assert client.engines()[-1].info.pid == engine


def test_fresh_processes_have_changed_modules_and_new_tasks(world: World, hub: nbq.Client) -> None:
    module = world.folder / "changing.py"
    module.write_text("import nbq\n\n@nbq.task(name='changing.one')\ndef one():\n    return 'old'\n")
    world.engine(2, "--include", "changing", name="e")
    slots_up(hub, 2)
    until(lambda: "changing.one" in hub.engines()[0].info.tasks, "its tasks")
    one = nbq.signature("changing.one")
    assert one.delay().get(30) == "old"
    [running] = held(world, 1)
    before = {process.pid for process in world.alive(SLOT)}

    module.write_text("this is no Python\n")
    assert hub.reload() == 1
    until(lambda: world.log.read_text().count("goes on in the process that it has") == 2, "two failures")
    assert {process.pid for process in world.alive(SLOT)} == before
    assert one.delay().get(30) == "old"

    two = "\n@nbq.task(name='changing.two')\ndef two():\n    return 2\n"
    module.write_text("import nbq\n\n@nbq.task(name='changing.one')\ndef one():\n    return 'new'\n" + two)
    assert hub.reload("e") == 1
    until(lambda: "changing.two" in hub.engines()[0].info.tasks, "its new tasks")
    assert nbq.signature("changing.two").delay().get(30) == 2
    release(world)
    assert running.get(30) in before
    until(lambda: not before & {process.pid for process in world.alive(SLOT)}, "the end of both")
    assert [one.delay().get(30) for _ in range(3)] == ["new"] * 3
    assert len(world.alive(SLOT)) == 2
    assert running.attempts == 1


def test_who_names_no_engine_is_told_which_there_are(world: World, hub: nbq.Client) -> None:
    with pytest.raises(UnknownEngine, match=r"^there is none to be told; no engine is connected$"):
        hub.reload()
    world.engine(1, name="worker-1")
    slots_up(hub, 1)
    text = r"^no engine named 'worker1' is connected; there is worker-1$"
    with pytest.raises(UnknownEngine, match=text):
        hub.stop("worker1")
    for least, most in ((0, 3), (3, 2)):
        with pytest.raises(nbq.Refused, match="scaled to a number of slots, or between two bounds"):
            hub.autoscale("worker-1", least, most)
    with pytest.raises(nbq.Refused, match="scaled to a number of slots"):
        hub.scale("worker-1", 0)
