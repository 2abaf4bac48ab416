"""Kill -9 and SIGTERM of the hub: what was acknowledged is kept, and whoever waits gets it."""

from __future__ import annotations

import signal

import psutil
import pytest

import nbq
from nbq.settings import live_runtime
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import block, slow_add

TASKS = 20_000


@pytest.mark.parametrize(("shape", "durability"), [("map", "process"), ("group", "disk")])
def test_a_waiting_client_gets_all_results_over_a_hub_killed_midway(
    world: World, shape: str, durability: str
) -> None:
    hub = world.hub(durability=durability)
    world.engine(2)
    with nbq.connect() as client:
        slots_up(client, 2)
        if shape == "map":
            result = client.map(slow_add, range(TASKS), range(TASKS))
        else:
            result = nbq.group(slow_add.s(i, i) for i in range(TASKS)).delay()
        client.flush()
        until(lambda: result.completed_count() > TASKS // 4, "a quarter of the work")
        done = result.completed_count()
        kill(hub)
        assert done < TASKS
        again = world.hub(durability=durability)
        assert result.get(60) == [2 * i for i in range(TASKS)]
        assert result.progress == {"SUCCESS": TASKS}
        assert client.status().hub["pid"] == again.pid


def test_a_client_waits_in_get_while_the_hub_is_away(world: World) -> None:
    hub = world.hub()
    world.engine(1)
    with nbq.connect() as client:
        slots_up(client, 1)
        result = block.delay(world.mark("runs"), world.mark("gate"), "kept")
        world.marked("runs")
        kill(hub)
        (world.marks / "gate").touch()  # it ends while there is no hub to tell
        with pytest.raises(nbq.WaitTimeout):
            result.get(0.5)
        world.hub()
        assert result.get(30) == "kept"
        assert (result.attempts, len(world.lines("runs"))) == (1, 1)


def test_a_hub_that_is_told_to_end_is_waited_for_by_clients_and_engines(world: World) -> None:
    kill(world.hub())  # it has made its keys
    early = world.engine(1, name="early")
    until(lambda: len(world.alive("nbq.engines.slot")) == 1, "the engine's start")
    hub = world.hub()
    with nbq.connect() as client:
        slots_up(client, 1)
        result = client.map(slow_add, range(TASKS), range(TASKS))
        client.flush()
        until(lambda: result.completed_count() > 0, "the first result")
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(10) == 0
        assert live_runtime("default") is None
        world.hub()
        assert result.get(30) == [2 * i for i in range(TASKS)]
        assert [engine.info.pid for engine in client.engines()] == [early.pid]


def test_connect_waits_for_a_hub_that_is_started_again(world: World) -> None:
    hub = world.hub()
    hub.send_signal(signal.SIGSTOP)
    script = "import nbq; print('up'); print(nbq.connect(timeout=20).status().hub['pid'])"
    waiting = world.script(script)
    assert waiting.stdout.readline() == "up\n"
    threads = psutil.Process(waiting.pid)
    until(lambda: threads.num_threads() > 2, "the threads of its socket")
    kill(hub)
    again = world.hub()
    assert waiting.communicate(timeout=30) == (f"{again.pid}\n", None), world.log.read_text()
