"""Results of real runs together: sets of any runs, groups by hand, saved and found by other processes."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

import nbq
from tests.processes.harness import World, until
from tests.processes.work import add, block, fail, plus, total


def test_results_of_any_runs_are_one_set(client: nbq.Client) -> None:
    results = nbq.ResultSet([add.delay(1, 1), nbq.group(add.s(i, i) for i in range(3)).delay()])
    results.add((add.s(2, 2) | plus.s(1)).delay())
    assert results.get(30) == [2, [0, 2, 4], 5]
    assert (results.ready(), results.successful(), results.completed_count()) == (True, True, 5)
    results.add(fail.delay("at last"))
    with pytest.raises(ValueError, match="at last"):
        results.get(30)
    got = results.join(30, propagate=False)
    assert (got[:3], repr(got[3])) == ([2, [0, 2, 4], 5], "ValueError('at last')")
    assert (results[3].failed(), results[0].successful(), results.failed(), results.waiting()) == (
        True, True, True, False,
    )  # fmt: skip


def test_thousands_of_separate_calls_are_waited_for_together(client: nbq.Client) -> None:
    results = nbq.ResultSet(add.delay(i, 1) for i in range(3000))
    runs = nbq.ResultSet(add.apply_async((i, 1), task_id=f"separate-{i}") for i in range(200))
    assert results.get(60) == [i + 1 for i in range(3000)]
    assert runs.get(60) == [i + 1 for i in range(200)]
    assert results.completed_count() == 3000

    async def gathered() -> list[Any]:
        return await runs

    assert asyncio.run(gathered()) == [i + 1 for i in range(200)]
    assert sorted(one.get() for one in runs.as_completed(30)) == [i + 1 for i in range(200)]


def test_what_ends_first_comes_first_whatever_run_it_is_of(shared: World, client: nbq.Client) -> None:
    gates = [shared.mark(f"set-{i}") for i in range(2)]
    results = nbq.ResultSet(block.delay(shared.mark("set"), gate, i) for i, gate in enumerate(gates))
    shared.marked("set", 2)
    assert (results.ready(), results.waiting(), results.completed_count()) == (False, True, 0)
    ends = results.iter_native(30)
    (shared.marks / "set-1").touch()
    assert next(ends) == (
        results[1].id, {"task_id": results[1].id, "status": "SUCCESS", "result": 1, "traceback": None},
    )  # fmt: skip
    assert (results.ready(), results.completed_count()) == (False, 1)
    (shared.marks / "set-0").touch()
    assert [own for own, _ in ends] == [results[0].id]
    with pytest.raises(nbq.WaitTimeout, match="1 of 1 tasks"):
        list(nbq.ResultSet([block.delay(shared.mark("set"), shared.mark("never"))]).as_completed(0.05))
    client.cancel_all()


def test_one_failure_is_raised_while_others_run(shared: World, client: nbq.Client) -> None:
    slow = block.delay(shared.mark("slow"), shared.mark("slow-gate"))
    results = nbq.ResultSet([slow, fail.delay("early")])
    with pytest.raises(ValueError, match="early"):
        results.get(30)
    assert (slow.ready(), results.revoke()) == (False, 1)
    assert results.wait(30)
    assert slow.state == "REVOKED"


def test_a_group_by_hand_is_found_by_another_client(shared: World, client: nbq.Client) -> None:
    one, many = add.delay(1, 2), nbq.group(add.s(i, 0) for i in range(2)).delay()
    chained = (add.s(1, 1) | plus.s(5)).delay()
    group = nbq.GroupResult([one, nbq.ResultSet([many, chained])])
    own = group.save()
    with nbq.connect(client.connection.path) as other, other:
        again = nbq.GroupResult.restore(own)
        assert (again == group, again.get(30)) == (True, [3, [[0, 1], 7]])
        assert again[1][1].parent.get(30) == 2
        assert other.result(own).results == again.results
        assert pickle.loads(pickle.dumps(again)).get(30) == [3, [[0, 1], 7]]
        assert nbq.result_from_tuple(group.as_tuple()).get(30) == [3, [[0, 1], 7]]
        assert (again.delete(), again.delete()) == (True, False)
    with pytest.raises(nbq.UnknownResult, match=own):
        nbq.GroupResult.restore(own)
    assert nbq.GroupResult.restore(many.save()).get(30) == [0, 1]
    assert nbq.AsyncResult(one.id).get(30) == 3


def test_an_empty_group_has_no_results_and_is_kept(client: nbq.Client) -> None:
    result = nbq.group([]).delay()
    assert (result.results, result.get(30), result.completed_count(), result.ready()) == ([], [], 0, True)
    assert nbq.GroupResult.restore(result.save()).results == []
    by_hand = nbq.GroupResult([])
    assert (by_hand.results, by_hand.get(), by_hand.successful()) == ([], [], True)
    assert nbq.GroupResult.restore(by_hand.save()).results == []


def test_parents_are_walked_back_over_groups(client: nbq.Client) -> None:
    last = (add.s(1, 1) | plus.s(1) | nbq.group(plus.s(1), plus.s(2)) | total.s() | plus.s(0)).delay()
    assert last.get(30) == 9
    line: list[Any] = [last]
    while line[-1].parent is not None:
        line.append(line[-1].parent)
    assert [type(one).__name__ for one in line] == [
        "AsyncResult", "AsyncResult", "GroupResult", "AsyncResult", "AsyncResult",
    ]  # fmt: skip
    assert [one.get(30) for one in line] == [9, 9, [4, 5], 3, 2]
    first, header = line[-1], line[2]
    assert [one.parent for one in header] == [line[3]] * 2
    assert (line[3].children, header.children) == ([header], header.results)
    assert [value for _, value in first.collect()] == [2, 3, [4, 5], 4, 5, 9, 9]
    assert first.get_leaf() == 9
    assert last.as_list() == [line[0].id, line[1].id, header[0].id, header[1].id, line[3].id, first.id]


def test_links_are_children_once_they_were_called(client: nbq.Client) -> None:
    result = add.apply_async((2, 2), link=plus.s(16), link_error=plus.si(0))
    assert result.get(30) == 4
    (child,) = result.children
    assert (child.get(30), child.parent) == (20, result)
    failed = fail.apply_async(("no",), link=plus.s(16))
    with pytest.raises(ValueError, match="no"):
        failed.get(30)
    assert failed.children == []


def test_a_result_says_who_ran_it_and_when(client: nbq.Client) -> None:
    result = add.apply_async((1, 2), queue="default", shadow="shown")
    assert result.get(30) == 3
    assert result.date_done is not None
    assert abs(result.date_done.timestamp() - result.timing["started"]) < 60
    (engine,) = client.engines()
    assert (result.worker, result.queue, result.name, result.retries) == (
        engine.info.name, "default", "shown", 0,
    )  # fmt: skip


def test_what_was_forgotten_does_not_exist(client: nbq.Client) -> None:
    result = (add.s(1, 1) | plus.s(1)).delay()
    group = nbq.group(add.s(1, 1), add.s(2, 2)).delay()
    assert (result.get(30), group.get(30)) == (3, [2, 4])
    assert (result.exists(), result.parent.exists(), group.exists()) == (True, True, True)
    result.forget()
    group.forget()
    assert (result.exists(), result.parent.exists(), group.exists()) == (False, False, False)
    with pytest.raises(nbq.UnknownResult, match=result.id):
        client.result(result.id)


def test_the_traceback_of_a_task_is_that_of_its_engine(client: nbq.Client) -> None:
    result = fail.delay("deep down")
    with pytest.raises(ValueError, match="deep down") as caught:
        result.get(30)
    (note,) = caught.value.__notes__
    (engine,) = client.engines()
    assert note.startswith(f"in task {result.id}, on engine {engine.info.name} (")
    assert note.endswith(", attempt 1")
    assert isinstance(caught.value.__cause__, nbq.RemoteTraceback)
    lines = (result.traceback or "").splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ValueError: deep down")
    assert [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")] == ["fail"]


def test_running_sets_are_waited_for_in_turn(shared: World, client: nbq.Client) -> None:
    gate = shared.mark("later-gate")
    results = nbq.ResultSet([block.delay(shared.mark("later"), gate, 1)])
    called: list[object] = []
    results.then(lambda ended: called.append(ended.get(0)))
    (shared.marks / "later-gate").touch()
    assert results.wait(30)
    until(lambda: called == [[1]], "the callback")
