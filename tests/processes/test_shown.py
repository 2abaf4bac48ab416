"""What running tasks show and are told: states of their own, aborts, the names that slots know."""

from __future__ import annotations

import time

import nbq
from tests.processes.harness import World, until
from tests.processes.work import wait_for


@nbq.task(bind=True)
def show(self, gate: str, count: int) -> str:
    """Show how far it is, many times; wait."""
    for number in range(count):
        self.update_state("HALF", {"at": number})
    wait_for(gate)
    return "done"


@nbq.task(bind=True)
def until_aborted(self, path: str) -> str:
    """Run until it is asked to end."""
    began_s = time.monotonic()
    while not self.is_aborted():
        if time.monotonic() - began_s > 30:
            return "never asked"
        time.sleep(0.01)
    return "in order"


def test_what_a_task_shows_last_is_what_is_seen(shared: World, client: nbq.Client) -> None:
    result = show.delay(shared.mark("gate"), 2000)
    until(lambda: (result.state, result.info) == ("HALF", {"at": 1999}), "the last that it shows")
    (shared.marks / "gate").touch()
    assert result.get(30) == "done"
    assert (result.state, result.info) == ("SUCCESS", "done")


def test_a_task_that_is_aborted_ends_by_itself(shared: World, client: nbq.Client) -> None:
    result = until_aborted.delay("")
    until(lambda: result.state == "STARTED", "its start")
    result.abort()
    assert result.get(30) == "in order"


def test_an_engine_says_which_tasks_it_knows(world: World) -> None:
    with nbq.Cluster(slots=1, include=["tests.processes.work"]) as client:
        (engine,) = client.engines()
        assert "tests.processes.work.pid_of_slot" in engine.info.tasks
