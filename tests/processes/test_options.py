"""Options of calls, as real work obeys them: ids, due times, expiry, priorities, queues, dropped results."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

import nbq
from tests.processes.harness import World, slots_up, until
from tests.processes.work import add, block, note


def test_a_given_id_is_the_id(client: nbq.Client) -> None:
    result = add.apply_async((1, 2), task_id="sum-of-one-and-two")
    assert (result.id, result.get(30)) == ("sum-of-one-and-two", 3)
    assert client.result("sum-of-one-and-two").get(30) == 3


def test_an_id_given_twice_is_refused_in_get_and_in_flush(shared: World, client: nbq.Client) -> None:
    assert add.apply_async((1, 2), task_id="twice").get(30) == 3
    second = note.apply_async((shared.mark("twice"),), task_id="twice")
    with pytest.raises(nbq.Refused, match="a task with the id 'twice' exists already") as caught:
        second.get(30)
    assert caught.value.code == "task_id"
    with pytest.raises(nbq.Refused, match="'twice' exists already"):
        client.flush()
    client.flush()
    assert client.result("twice").get(30) == 3
    assert shared.lines("twice") == []


def test_a_refused_id_harms_no_other_call(shared: World, client: nbq.Client) -> None:
    assert add.apply_async((1, 2), task_id="taken").get(30) == 3
    before, twin, after, plain = (
        add.apply_async((i, i), task_id=given)
        for i, given in enumerate(("fresh-1", "taken", "fresh-2", None))
    )
    assert (before.get(30), after.get(30), plain.get(30)) == (0, 4, 6)
    with pytest.raises(nbq.Refused, match="'taken' exists already"):
        twin.get(30)
    with pytest.raises(nbq.Refused, match="'taken' exists already"):
        client.flush()


def test_ids_in_a_group_are_given_to_its_members(client: nbq.Client) -> None:
    result = nbq.group(add.signature((i, i), task_id=f"member-{i}") for i in range(3)).delay()
    assert [member.id for member in result] == ["member-0", "member-1", "member-2"]
    assert result.get(30) == [0, 2, 4]
    assert client.result("member-2").get(30) == 4


def test_an_ignored_result_is_not_kept(client: nbq.Client) -> None:
    result = add.apply_async((1, 2), ignore_result=True)
    assert (result.get(30), result.state) == (None, "SUCCESS")


def test_a_countdown_and_an_eta_are_waited_for(client: nbq.Client) -> None:
    began = time.time()
    soon = client.submit(time.time)
    counted = add.apply_async((1, 2), countdown=0.3)
    eta = add.apply_async((1, 2), eta=datetime.now(UTC) + timedelta(seconds=0.3))
    past = add.apply_async((1, 2), eta=datetime.now(UTC) - timedelta(seconds=60))
    assert soon.get(30) >= began
    assert past.get(30) == 3
    assert (counted.get(30), eta.get(30)) == (3, 3)
    for result in (counted, eta):
        assert 0.3 <= result.timing["started"] - began < 3.0


def test_a_task_that_waits_for_its_time_says_so(client: nbq.Client) -> None:
    result = add.apply_async((1, 2), countdown=3600)
    assert (result.state, result.ready()) == ("SCHEDULED", False)
    assert result.cancel() is True
    assert result.state == "REVOKED"


def test_what_expires_before_it_starts_is_revoked(world: World) -> None:
    with nbq.Cluster(slots=1):
        running = block.apply_async((world.mark("runs"), world.mark("gate"), "on time"), expires=60)
        world.marked("runs")
        late = note.apply_async((world.mark("late"),), expires=0.1)
        with pytest.raises(nbq.TaskRevoked) as caught:
            late.get(30)
        assert str(caught.value) == f"expired [task {late.id}]"
        past = note.apply_async((world.mark("late"),), expires=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(nbq.TaskRevoked, match="expired"):
            past.get(30)
        (world.marks / "gate").touch()
        assert running.get(30) == "on time"
        assert world.lines("late") == []


def test_higher_priorities_run_first(world: World) -> None:
    with nbq.Cluster(slots=1) as client:
        running = block.delay(world.mark("runs"), world.mark("gate"))
        world.marked("runs")
        order = world.mark("order")
        results = [note.apply_async((order, str(p)), priority=p) for p in (0, 9, 3, 5, 9, 1)]
        client.flush()
        (world.marks / "gate").touch()
        for result in [running, *results]:
            result.get(30)
        assert world.lines("order") == ["9", "9", "5", "3", "1", "0"]


def test_a_queue_waits_for_an_engine_that_serves_it(world: World) -> None:
    world.hub()
    world.engine(1, name="plain")
    with nbq.connect() as client:
        slots_up(client, 1)
        special = note.apply_async((world.mark("s"),), queue="special")
        plain = [note.delay(world.mark("p")) for _ in range(5)]
        for result in plain:
            result.get(30)
        assert (special.state, world.lines("s")) == ("QUEUED", [])
        [row] = client.tasks(state="QUEUED")
        assert (row.id, row.text) == (special.id, "no engine serves queue 'special'")
        assert [(q.name, q.queued, q.engines) for q in client.queues()] == [
            ("default", 0, 1),
            ("special", 1, 0),
        ]
        world.engine(1, "--queues", "special,other", name="extra")
        assert special.get(30) is None
        until(lambda: client.slots == 2, "both engines")
        assert [(e.info.name, e.info.queues) for e in client.engines()] == [
            ("extra", ["special", "other"]),
            ("plain", ["default"]),
        ]
