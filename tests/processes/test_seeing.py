"""What a client sees of a real cluster: tasks and runs, how far a run is, and why a task waits."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import nbq
from nbq.core.views import ElementView
from tests.processes.harness import World, kill, until
from tests.processes.work import add, block, fail, total


def ids(rows: list[ElementView]) -> list[str]:
    return [row.id for row in rows]


def test_a_label_is_given_in_every_way_and_found(client: nbq.Client) -> None:
    labelled = nbq.task(name="tests.labelled", label="decorated")(lambda x: x)
    given = [
        add.apply_async((1, 2), label="red"),
        add.s(1, 2).set(label="red").delay(),
        client.submit(add, 1, 2, label="red"),
        client.submit(max, 1, 2, label="red"),
    ]
    group = nbq.group(add.s(1, 2), add.s(3, 0) | add.s(4)).apply_async(label="red")
    mapped = client.map(add, [1, 2], [3, 4], label="red")
    own = labelled.delay(5)
    assert [one.get(30) for one in [*given, group, mapped, own]] == [3, 3, 3, 2, [3, 7], [4, 6], 5]
    red = [*given, *group.results, group[1].parent, *mapped.results]
    found = client.tasks(label="red")
    assert sorted(ids(found)) == sorted(one.id for one in red)
    assert {row.label for row in found} == {"red"}
    assert ids(client.tasks(label="decorated")) == [own.id]
    assert ids(client.tasks(label="red", name=add.name, state="FAILURE")) == []
    assert [row.label for row in client.runs(label="decorated")] == ["decorated"]


def test_a_label_that_the_function_could_mean_is_refused(client: nbq.Client) -> None:
    def named(label: str) -> str:
        return label

    with pytest.raises(nbq.UsageError, match="named has a parameter label, and submit"):
        client.submit(named, label="x")
    assert client.submit(named, "x").get(30) == "x"


def test_tasks_and_runs_since_a_moment(client: nbq.Client) -> None:
    first = add.apply_async((1, 1), label="first")
    first.get(30)
    moment = until(lambda: datetime.now(UTC) if client.runs(label="first")[0].finished_s else None)
    second = add.apply_async((2, 2), label="second")
    second.get(30)
    for since in (timedelta(hours=1), 3600, 3600.5, datetime.now(UTC) - timedelta(hours=1)):
        assert first.id in ids(client.tasks(since=since))
    assert ids(client.tasks(since=moment, name=add.name)) == [second.id]
    assert [row.label for row in client.runs(since=moment)] == ["second"]
    assert client.tasks(since=0) == []
    with pytest.raises(nbq.UsageError, match=r"since=datetime.datetime\(2026.* has no time zone"):
        client.tasks(since=datetime(2026, 1, 1))
    with pytest.raises(nbq.UsageError, match="since must be a datetime, a timedelta or a number of seconds"):
        client.tasks(since="yesterday")  # type: ignore[arg-type]


def test_a_state_that_is_none_is_refused(client: nbq.Client) -> None:
    with pytest.raises(nbq.UsageError, match="there is no state 'DONE': the states are WAITING, SCHEDULED"):
        client.tasks(state="DONE")
    with pytest.raises(nbq.UsageError, match="limit must be a number from 1 to 1,000, not 0"):
        client.runs(limit=0)


def test_a_run_says_how_far_it_is(shared: World, client: nbq.Client) -> None:
    gate = shared.mark("gate")
    held = block.s(shared.mark("begun"), gate)
    canvas = nbq.chord([held, add.s(1, 2), fail.s("no")], total.s(), propagate=False)
    result = canvas.apply_async(label="far")
    shared.marked("begun")
    run = client.run(result)
    seen = until(lambda: p if (p := run.progress).done == 2 else None)
    states = {"STARTED": 1, "WAITING": 1, "SUCCESS": 1, "FAILURE": 1}
    until(lambda: run.states == states)
    assert (seen.done, seen.total, seen.finished) == (2, 4, False)
    assert seen.rate > 0
    assert seen.left_s == pytest.approx(2 / seen.rate)
    assert str(seen).startswith("2 of 4 · ")
    assert str(seen).endswith(" left · 1 failed")
    assert (run.id, run.task, run.label, run.size) == (result.run_id, total.name, "far", 4)
    assert [row.task for row in run.tasks(state="FAILURE")] == [fail.name]
    assert run.result == result
    assert client.run(run.tasks("STARTED")[0].id).id == run.id
    assert repr(run) == f"<Run {run.id} of {total.name}: 2 of 4>"
    assert run.cancel() == 2
    end = until(lambda: p if (p := run.progress).finished else None)
    assert (end.done, end.total, end.left_s) == (4, 4, 0.0)
    assert end.states == {"SUCCESS": 1, "FAILURE": 1, "REVOKED": 2}
    assert len(run.graph) >= 1


def test_a_call_by_itself_is_a_run_of_its_own(client: nbq.Client) -> None:
    one, other = add.delay(1, 2), fail.delay("no")
    one.wait(30)
    other.wait(30)
    run = client.run(one.id)
    assert (run.id, run.size, run.states, run.progress.finished) == (one.id, 1, {"SUCCESS": 1}, True)
    assert ids(run.tasks()) == [one.id]
    assert run.tasks(state="FAILURE") == []
    assert (run.result.get(30), run.cancel()) == (3, 0)
    whole = client.run(one.run_id)
    assert whole.id == one.run_id
    assert whole.size >= 1


def test_what_the_hub_does_not_have_is_no_run(client: nbq.Client) -> None:
    with pytest.raises(nbq.UnknownResult, match="the hub has no run or task 'nothing'"):
        client.run("nothing")


def test_why_a_task_waits_is_said_of_all_that_can_be_asked_about(shared: World, client: nbq.Client) -> None:
    gate = shared.mark("gate-why")
    held = [block.apply_async((shared.mark("why"), gate), label="why") for _ in range(2)]
    shared.marked("why", 2)
    canvas = nbq.chord([add.s(1, 2), add.s(3, 4)], total.s()).apply_async()
    client.flush()
    until(lambda: client.explain(held[0]).code == "running")
    why = client.explain(canvas)
    assert [reason.code for reason in why.reasons] == ["members", "busy"]
    names = [f"{add.name} ({one.id})" for one in canvas.parent]
    text = (
        f"It waits for a group: 0 of its 2 members have ended; {names[0]} is QUEUED and {names[1]} is QUEUED."
    )
    assert why.reasons[0].text == text
    engine = client.engines()[0].info.name
    busy = f"{names[0]} waits for a slot of {engine}: all 2 are busy."
    assert str(why) == f"{text} {busy}"
    assert [reason.code for reason in client.explain(canvas.run_id).reasons] == ["run", "busy"]
    assert client.explain(canvas.parent).reasons[1].text == busy
    assert client.run(canvas).explain() == client.explain(canvas.run_id)
    with pytest.raises(nbq.WaitTimeout) as caught:
        canvas.get(timeout=0.1)
    assert str(caught.value) == f"task {canvas.id} has not ended after 0.1 s; it goes on. {why}"
    with pytest.raises(
        nbq.WaitTimeout, match=f"2 of 2 tasks of .* have not ended; the first is {held[0].id}. "
    ):
        nbq.ResultSet(held).get(timeout=0.1)
    by_hand = nbq.GroupResult([canvas, *held])
    assert client.explain(by_hand) == client.explain(canvas)
    assert client.explain(by_hand.save()) == client.explain(canvas)
    with pytest.raises(nbq.UnknownResult, match="'nothing'"):
        client.explain("nothing")
    Path(gate).touch()
    assert canvas.get(30) == 10
    assert client.explain(canvas).code == "succeeded"


def test_a_hub_that_is_away_does_not_keep_a_wait_from_ending(world: World) -> None:
    hub = world.hub()
    with nbq.connect() as client:
        result = add.delay(1, 2)
        client.flush()
        kill(hub)
        began = time.monotonic()
        with pytest.raises(nbq.WaitTimeout) as caught:
            result.get(timeout=0.1)
        assert str(caught.value) == f"task {result.id} has not ended after 0.1 s; it goes on"
        assert time.monotonic() - began < 10
        world.hub()
        assert client.cancel(result) == 1
