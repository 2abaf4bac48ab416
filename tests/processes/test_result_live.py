"""Results of tasks that submit others, are run again or replaced."""

from __future__ import annotations

import nbq
from nbq import current_task
from tests.processes.harness import until
from tests.processes.work import add, plus


@nbq.task
def submitting():
    nbq.group(add.s(i, 1) for i in range(2)).delay()
    add.delay(10, 1)
    return "submitted"


@nbq.task
def again():
    if current_task.request.retries < 2:
        current_task.retry(countdown=0)
    return "at last"


@nbq.task
def replaced(x):
    current_task.replace(plus.s(x, 100))


def test_what_a_task_submitted_are_its_children(client: nbq.Client) -> None:
    result = submitting.delay()
    assert result.get(30) == "submitted"
    until(lambda: len(result.children) == 2, "the hub's knowing of both")  # a submit waits for nothing
    group, single = result.children
    assert (group.get(30), single.get(30)) == ([1, 2], 11)
    assert [value for _, value in result.collect()] == ["submitted", [1, 2], 11, 1, 2]
    assert [type(one).__name__ for one in result.build_graph().nodes] == [
        "AsyncResult", "GroupResult", "AsyncResult", "AsyncResult", "AsyncResult",
    ]  # fmt: skip


def test_retries_are_counted(client: nbq.Client) -> None:
    result = again.delay()
    assert (result.get(30), result.retries, result.attempts) == ("at last", 2, 3)


def test_a_replaced_task_is_worth_what_took_its_place(client: nbq.Client) -> None:
    results = nbq.ResultSet([replaced.delay(1), nbq.group(replaced.s(i) for i in range(2)).delay()])
    results.add((replaced.s(5) | plus.s(1)).delay())
    assert results.get(30) == [101, [100, 101], 106]
    assert results[2].parent.get(30) == 105
    assert sorted(one.get() for one in results.as_completed(30)) == [100, 101, 101, 106]
