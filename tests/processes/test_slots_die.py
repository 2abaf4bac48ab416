"""Slots that die while they run a task: that task alone is charged, and the slot is replaced."""

from __future__ import annotations

import pytest

import nbq
from tests.processes.harness import World, slots_up, until
from tests.processes.work import add, block, die, leave, note, pid_of_slot

DEATHS = [("kill", "signal SIGKILL"), ("exit", "exit code 3"), ("segfault", "signal SIGSEGV")]


@pytest.mark.parametrize(("how", "sign"), DEATHS)
def test_a_task_whose_slots_die_is_lost_after_three(
    shared: World, client: nbq.Client, how: str, sign: str
) -> None:
    innocent = block.delay(shared.mark(f"{how}-runs"), shared.mark(f"{how}-gate"), "unharmed")
    shared.marked(f"{how}-runs")
    guilty = die.delay(how, shared.mark(how))
    behind = [note.delay(shared.mark(f"{how}-behind"), str(i), i) for i in range(50)]
    with pytest.raises(nbq.TaskLost) as caught:
        guilty.get(30)
    text = str(caught.value)
    assert (caught.value.task_id, guilty.state) == (guilty.id, "FAILURE")
    assert text.startswith("it started in 3 slots that died; the last: its slot (process ")
    assert f"died with {sign}; it last printed:" in text
    assert f"about to die by {how}" in text
    assert len(shared.lines(how)) == 3
    assert [result.get(30) for result in behind] == list(range(50))
    assert sorted(map(int, shared.lines(f"{how}-behind"))) == list(range(50))
    (shared.marks / f"{how}-gate").touch()
    assert innocent.get(30) == "unharmed"
    assert {result.attempts for result in [innocent, *behind]} == {1}
    assert len(shared.lines(f"{how}-runs")) == 1


def test_a_task_that_survives_in_time_has_its_value(shared: World, client: nbq.Client) -> None:
    result = die.delay("kill", shared.mark("twice"), times=2)
    assert (result.get(30), result.attempts, result.state) == (3, 3, "SUCCESS")


def test_one_death_in_an_array_charges_one_element(shared: World, client: nbq.Client) -> None:
    path = shared.mark("once")

    def die_at_500(i):
        if i == 500:
            die.run("exit", path, 1)
        return i

    result = client.map(die_at_500, range(1000))
    assert result.get(30) == list(range(1000))
    assert [result[i].attempts for i in (0, 499, 500, 501, 999)] == [1, 1, 2, 1, 1]
    assert len(shared.lines("once")) == 2


@pytest.mark.parametrize("code", [0, 7])
def test_sys_exit_is_a_failure_and_the_slot_goes_on(world: World, code: int) -> None:
    with nbq.Cluster(slots=1) as client:
        before = pid_of_slot.delay().get(30)
        result = leave.delay(code)
        with pytest.raises(nbq.TaskFailed) as caught:  # it would end this process otherwise
            result.get(30)
        assert str(caught.value) == f"SystemExit: {code} [task {result.id}]"
        assert (result.state, result.attempts) == ("FAILURE", 1)
        assert pid_of_slot.delay().get(30) == before
        assert client.slots == 1


def test_a_killed_idle_slot_is_replaced_and_charges_nobody(world: World) -> None:
    with nbq.Cluster(slots=1) as client:
        before = pid_of_slot.delay().get(30)
        (slot,) = world.alive("nbq.engines.slot")
        assert slot.pid == before
        slot.kill()
        until(lambda: [p.pid for p in world.alive("nbq.engines.slot")] not in ([], [before]), "a new slot")
        slots_up(client, 1)
        result = add.delay(1, 2)
        assert (result.get(30), result.attempts) == (3, 1)
