"""Kill -9 of a real hub while schedules fire: each fire time is one run, none is lost or comes twice."""

from __future__ import annotations

import random
import time

import pytest

import nbq
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import fired

KILLS = 10
EVERY_S = 0.3


def test_a_hub_that_is_killed_ten_times_fires_each_time_once(world: World) -> None:
    rng = random.Random(4)
    hub = world.hub()
    world.engine(1)
    with nbq.connect() as client:
        slots_up(client, 1)
        when = nbq.every(EVERY_S)
        client.schedules.add("each", fired.s(world.mark("each")), when, misfire="all")
        client.schedules.add("last", fired.s(world.mark("last")), when)
        for _ in range(KILLS):
            before = len(world.lines("each"))
            until(lambda known=before: len(world.lines("each")) > known, "a run")
            time.sleep(rng.random() * EVERY_S)  # it dies at any instant of its period
            kill(hub)
            hub = world.hub()
        before = len(world.lines("each"))
        until(lambda: len(world.lines("each")) > before, "a run")
        client.schedules.pause("each")
        client.schedules.pause("last")
        until(lambda: not client.runs(state="QUEUED") and not client.runs(state="STARTED"), "its runs' end")
        rows = client.runs(limit=1000)
        each, last = (
            sorted(row.fire_s for row in rows if row.schedule == name and row.fire_s is not None)
            for name in ("each", "last")
        )
        state = client.schedules.get("last").view.state
    numbers = [round(at / EVERY_S) for at in each]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert len(numbers) > KILLS
    assert {float(line) for line in world.lines("each")} == set(each)
    assert [round(at / EVERY_S) * EVERY_S for at in last] == pytest.approx(last, abs=1e-6)
    assert len(last) == len(set(last)) == state.runs
