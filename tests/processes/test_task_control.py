"""What tasks ask and say, in a real cluster: retries, replacements, states, aborts, hooks, errbacks."""

from __future__ import annotations

from typing import Any

import pytest

import nbq
from tests.processes import control
from tests.processes.harness import World, until


def test_a_task_is_retried_under_its_id(client: nbq.Client) -> None:
    result = control.flaky.delay(2)
    assert result.get(timeout=30) == (2, 3, result.id)
    assert result.state == "SUCCESS"


def test_a_retry_with_other_arguments_keeps_its_place_in_a_chain(client: nbq.Client) -> None:
    result = (control.add.s(1, 1) | control.renamed.s() | control.add.s(100)).delay()
    assert result.get(timeout=30) == 100 + 2 * 10


def test_after_the_last_retry_the_reason_is_raised(client: nbq.Client) -> None:
    result = control.hopeless.delay()
    with pytest.raises(ConnectionError, match="down"):
        result.get(timeout=30)


def test_listed_exceptions_are_retried(client: nbq.Client, shared: World) -> None:
    path = str(shared.marks / "listed")
    assert control.unlucky.delay(path, 3).get(timeout=30) == 3


def test_a_retry_waits_for_its_time_and_can_be_cancelled(client: nbq.Client) -> None:
    result = control.much_later.delay()
    until(lambda: result.state == "RETRY", "the retry")
    assert client.cancel(result) == 1
    with pytest.raises(nbq.TaskRevoked):
        result.get(timeout=30)


def test_ignore_and_reject_end_what_follows(client: nbq.Client, shared: World) -> None:
    ignored = (control.ends.s("ignore") | control.add.s(1)).delay()
    with pytest.raises(nbq.TaskRevoked, match="ignored"):
        ignored.get(timeout=30)
    rejected = (control.ends.s("reject") | control.add.s(1)).delay()
    with pytest.raises(nbq.Reject):
        rejected.get(timeout=30)
    path = str(shared.marks / "requeued")
    assert control.requeued.delay(path).get(timeout=30) == (3, 0)


REPLACED: dict[str, tuple[Any, Any]] = {
    "by a task": (control.becomes.s(control.add.s(40, 2)), 42),
    "by a chain": (control.becomes.s(control.add.s(1, 1) | control.add.s(40)), 42),
    "by a group": (control.becomes.s(nbq.group(control.add.s(1, 1), control.add.s(2, 2))), [2, 4]),
    "by a chord": (control.becomes.s(nbq.chord([control.add.s(1, 1)], control.total.s())), 2),
    "by one that is replaced": (control.becomes.s(control.becomes.s(control.add.s(1, 1))), 2),
    "in a chain": (control.becomes.s(control.add.s(1, 1)) | control.add.s(1), 3),
    "by a group before a body": (
        control.becomes.s(nbq.group(control.add.s(1, 1), control.add.s(2, 2))) | control.total.s(),
        6,
    ),
    "in a header": (
        nbq.chord([control.becomes.s(control.add.s(1, 1)), control.add.s(2, 2)], control.total.s()),
        6,
    ),
    "in a group": (nbq.group(control.becomes.s(control.add.s(1, 1)), control.add.s(5, 5)), [2, 10]),
}


@pytest.mark.parametrize(("canvas", "expected"), REPLACED.values(), ids=REPLACED.keys())
def test_a_task_is_replaced(client: nbq.Client, canvas: Any, expected: Any) -> None:
    assert canvas.delay().get(timeout=30) == expected


def test_a_replacement_runs_under_the_id_of_what_it_replaces(client: nbq.Client) -> None:
    result = control.becomes.delay(control.own_id.s())
    assert result.get(timeout=30) == result.id


def test_a_replacement_that_fails_is_the_tasks_own_failure(client: nbq.Client) -> None:
    with pytest.raises(ValueError, match="boom"):
        (control.becomes.s(control.fail.s("boom")) | control.add.s(1)).delay().get(timeout=30)
    with pytest.raises(nbq.InvalidSignature, match="annot replace with an empty chain"):
        control.becomes.delay(nbq.chain()).get(timeout=30)


def test_headers_are_extended(client: nbq.Client) -> None:
    canvas = nbq.chord([control.extends.s(1, 5), control.add.s(0, 0)], control.in_order.s())
    assert canvas.delay().get(timeout=30) == [0, 1, 5]
    with pytest.raises(nbq.UsageError, match="add_to_chord is for members"):
        control.extends.delay(1, 2).get(timeout=30)


def test_a_state_of_its_own_is_shown_until_the_attempt_ends(client: nbq.Client, shared: World) -> None:
    gate = shared.marks / "shown"
    result = control.shows.delay(str(gate))
    until(lambda: result.state == "COUNTING", "the state")
    until(lambda: result.info == {"done": 999}, "the last value")
    gate.touch()
    assert (result.get(timeout=30), result.state) == ("ended", "SUCCESS")


def test_a_task_is_aborted(client: nbq.Client) -> None:
    result = control.patient.delay()
    until(lambda: result.state == "STARTED", "the start")
    result.abort()
    assert result.get(timeout=30) == "in order"


def test_a_coroutine_feels_its_soft_time_limit_and_a_cancel(client: nbq.Client, shared: World) -> None:
    assert control.sleepy.delay().get(timeout=30) == "woken"
    mark = shared.marks / "cancelled"
    result = control.sleeps.delay(str(mark))
    until(mark.exists, "the start")
    assert client.cancel(result) == 1
    until(lambda: mark.read_text() == "began, ended in order", "the end of the coroutine")


def test_errbacks_are_called_by_their_style(client: nbq.Client, shared: World) -> None:
    marks = [shared.marks / f"errback-{number}" for number in range(4)]
    result = control.fail.apply_async(
        ("boom",),
        link_error=[
            control.by_id.s(str(marks[0])),
            control.by_request.s(str(marks[1])),
            control.by_bound.s(str(marks[2])),
            control.immutable.si("own", str(marks[3])),
        ],
    )
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=30)
    until(lambda: all(mark.exists() for mark in marks), "the errbacks")
    assert [mark.read_text() for mark in marks] == [
        result.id, f"{result.id} ValueError('boom')", result.id, "own",
    ]  # fmt: skip


def test_a_body_that_wants_all_gets_exceptions_in_place(client: nbq.Client) -> None:
    canvas = nbq.chord([control.add.s(1, 1), control.fail.s("boom")], control.names.s(), propagate=False)
    assert canvas.delay().get(timeout=30) == ["int", "ValueError"]


def test_hooks_and_signals_run_in_the_slot(client: nbq.Client) -> None:
    result = control.hooked.delay(3)
    assert result.get(timeout=30) == 6
    assert result.stdout == "before_start\non_success 6\nsignal 6\n"


def test_what_a_task_submits_is_its_child(client: nbq.Client) -> None:
    result = control.submits.delay()
    ids = result.get(timeout=30)
    assert [child.id for child in result.children] == ids
    assert [child.get(timeout=30) for child in result.children] == [3, [2, 4]]


def test_the_end_of_a_task_never_comes_before_what_it_submitted(client: nbq.Client) -> None:
    results = [control.submits.delay() for _ in range(50)]
    for result in results:
        ids = result.get(timeout=30)
        assert [child.id for child in result.children] == ids
    for result in results:
        assert [child.get(timeout=30) for child in result.children] == [3, [2, 4]]


def test_results_and_signatures_can_be_values(client: nbq.Client) -> None:
    child, sig = control.returns_handles.delay().get(timeout=30)
    assert (child.get(timeout=30), sig.delay().get(timeout=30)) == (3, 7)


def test_a_request_knows_parent_and_root(client: nbq.Client) -> None:
    result = (control.own_id.si() | control.kin.si() | control.kin.si()).delay()
    ids = [result.parent.parent.id, result.parent.id]
    assert result.get(timeout=30) == (ids[1], ids[0])
    assert result.parent.get(timeout=30) == (ids[0], ids[0])


def test_publishing_is_told(client: nbq.Client) -> None:
    from nbq.signals import TaskPublish, after_task_publish

    told: list[TaskPublish] = []
    after_task_publish.connect(told.append, sender=control.add)
    try:
        result = control.add.delay(1, 2)
    finally:
        assert after_task_publish.disconnect(told.append, sender=control.add)
    assert [(event.args, event.task_id, event.options.queue) for event in told] == [
        ((1, 2), result.id, "default")
    ]
    assert result.get(timeout=30) == 3
