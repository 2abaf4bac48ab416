"""Whoever dies takes with it what lives only for it, and nothing else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import psutil

import nbq
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import add, block, note

CLUSTER = """
import nbq, sys, time
from tests.processes.work import block
cluster = nbq.Cluster(slots=2)
block.delay(sys.argv[1], sys.argv[2])
print("ready")
sys.stdin.read() if len(sys.argv) > 3 else time.sleep(60)
"""

SUBMITTER = """
import nbq, sys, time
from tests.processes.work import add, block
client = nbq.connect()
one = block.delay(sys.argv[1], sys.argv[2], "one")
many = client.map(add, range(1000), range(1000))
client.flush()
print(one.id)
print(many.id)
time.sleep(60)
"""

READER = """
import nbq, sys
client = nbq.connect()
one, many = (client.result(text) for text in sys.argv[1:3])
print(repr(one.get(20)), sum(many.get(20)), len(many), type(one).__name__, type(many).__name__)
"""


def test_an_unnamed_cluster_ends_with_its_parent_however_that_ends(world: World) -> None:
    parent = world.script(CLUSTER, world.mark("runs"), world.mark("never"))
    assert parent.stdout.readline() == "ready\n"
    world.marked("runs")
    assert [len(world.alive(part)) for part in ("hub", "engine", "nbq.engines.slot")] == [1, 1, 2]
    kill(parent)
    world.gone(seconds=20)


def test_slots_end_with_their_supervisor_even_in_a_task(world: World) -> None:
    hub = world.hub()
    engine = world.engine(2)
    with nbq.connect() as client:
        slots_up(client, 2)
        block.delay(world.mark("runs"), world.mark("gate"))
        world.marked("runs")
        kill(engine)
        world.gone("nbq.engines.slot", 10)
        assert hub.poll() is None
        client.cancel_all()


def test_an_engine_outlives_its_hub_and_its_slots_stay(world: World) -> None:
    hub = world.hub()
    engine = world.engine(2)
    with nbq.connect() as client:
        slots_up(client, 2)
        slots = sorted(process.pid for process in world.alive("nbq.engines.slot"))
        kill(hub)
        world.hub()
        slots_up(client, 2)
        assert add.delay(1, 2).get(30) == 3
    assert engine.poll() is None
    assert sorted(process.pid for process in world.alive("nbq.engines.slot")) == slots


def test_work_of_a_killed_client_goes_on_and_another_process_reads_it(world: World) -> None:
    world.hub()
    world.engine(1)
    submitter = world.script(SUBMITTER, world.mark("runs"), world.mark("gate"))
    one, many = submitter.stdout.readline().strip(), submitter.stdout.readline().strip()
    kill(submitter)
    (world.marks / "gate").touch()
    total = sum(2 * i for i in range(1000))
    assert world.output(READER, one, many) == f"'one' {total} 1000 AsyncResult GroupResult\n"


def test_a_child_that_a_task_started_ends_with_its_killed_slot(world: World) -> None:
    path = world.mark("child")

    def leave_a_child():
        child = subprocess.Popen(["sleep", "60"])
        note.run(path, str(child.pid))
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    with nbq.Cluster(slots=1) as client:
        result = client.submit(leave_a_child)
        (child,) = map(int, world.marked("child"))
        assert psutil.pid_exists(child)
        result.cancel()
        assert result.wait(30)
        until(lambda: not _runs(child), "the end of the child")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
