"""One result: what it says of its task, what of Celery's ``get`` it takes, what it is pickled as."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from nbq import current, payload, wire
from nbq.core.facts import Inherited
from nbq.core.model import Graph, NodeSpec, Options, Slice, State
from nbq.core.views import ElementView, Reason
from nbq.errors import (
    HubUnreachable,
    IntegrityError,
    Refused,
    TaskRevoked,
    UnknownResult,
    UsageError,
    WaitTimeout,
)
from nbq.results import AsyncResult, handle
from nbq.resultsets import GroupResult, ResultSet
from tests.client.fakes import (
    FUNCTION,
    KEY,
    FakeLink,
    chain_graph,
    failed,
    group_graph,
    revoked,
    run_id,
    worth,
)


@pytest.fixture
def link() -> Iterator[Any]:
    made = FakeLink()
    client: Any = SimpleNamespace(_link=made, closed=False)
    current.entered(client)
    yield made
    current.left(client)


@pytest.fixture
def one(link: Any) -> AsyncResult:
    """Return the result of a task with options."""
    options = Options(queue="slow", shadow="shown as this")
    graph = Graph([NodeSpec("t", FUNCTION, options=options)], value=Slice(0, 0, 1))
    return AsyncResult(link, link.run(1, graph))


def view(state: str, engine: str = "", attempt: int = 1) -> ElementView:
    return ElementView(
        f"{run_id(1).hex()}-0-0", run_id(1), 0, 0, "t", state, attempt, engine, retries=attempt - 1
    )


def test_a_wait_that_is_given_up_says_why_if_the_hub_does(link: Any, one: AsyncResult) -> None:
    reasons = [Reason("parent", "It waits for a.", ["a"]), Reason("running", "a runs.", ["e"])]
    link.answers.append(wire.Answer(0, 2, reasons=reasons))
    text = f"task {one.id} has not ended after 3 s; it goes on"
    with pytest.raises(WaitTimeout) as caught:
        one.get(3.0)
    assert str(caught.value) == f"{text}. It waits for a. a runs."
    assert link.asked == [wire.Ask(0, "explain", one.id)]
    for error in (HubUnreachable("away"), UnknownResult("gone")):
        link.answers.append(error)
        with pytest.raises(WaitTimeout) as caught:
            one.get(3.0)
        assert str(caught.value) == text
    with pytest.raises(WaitTimeout) as caught:
        one.get(0)  # asks nothing: there is no answer
    assert str(caught.value) == f"task {one.id} has not ended after 0 s; it goes on"


def test_a_wait_for_many_that_is_given_up_says_why_the_first_is_missing(link: Any) -> None:
    group = handle(link, link.run(1, group_graph(3)))
    replica = group[0]._replica
    link.end(replica, *worth(replica, 0, 0, 1))
    text = f"2 of 3 tasks of {group.id} have not ended"
    for call in (lambda: group.get(3.0), lambda: list(group.as_completed(3.0))):
        link.answers.append(wire.Answer(0, 1, reasons=[Reason("running", "It runs.", [])]))
        with pytest.raises(WaitTimeout) as caught:
            call()
        assert str(caught.value) == f"{text}; the first is {group[1].id}. It runs."
        assert link.asked[-1] == wire.Ask(0, "explain", group[1].id)
    link.answers.append(HubUnreachable("away"))
    with pytest.raises(WaitTimeout) as caught:
        group.get(3.0)
    assert str(caught.value) == text


def shown(state: str, note: object = None) -> wire.Answer:
    """Return what a hub says of a task that runs and shows a value."""
    where = payload.origin("note", run_id(1), 0, 0)
    sealed = b"" if note is None else payload.seal(KEY, where, [payload.dumps(note)])
    return wire.Answer(0, 1, elements=[view(state)], note=sealed)


# ------------------------------------------------------------------ looking


def test_a_running_task_shows_a_state_and_a_value_of_its_own(link: Any, one: AsyncResult) -> None:
    link.answers.extend([shown("PROGRESS", {"done": 7})] * 4)
    assert (one.info, one.state, one.ready(), one.result) == ({"done": 7}, "PROGRESS", False, None)
    link.answers.extend([shown("STARTED")] * 2)
    assert one.info is None
    link.end(one._replica, *worth(one._replica, 0, 0, "value"))
    assert (one.info, one.result, one.state, one.ready()) == ("value", "value", "SUCCESS", True)


def test_a_value_shown_by_another_task_is_not_read(link: Any, one: AsyncResult) -> None:
    where = payload.origin("note", run_id(2), 0, 0)
    sealed = payload.seal(KEY, where, [payload.dumps("other")])
    link.answers.append(wire.Answer(0, 1, elements=[view("STARTED")], note=sealed))
    with pytest.raises(IntegrityError):
        _ = one.info


def test_what_is_known_of_a_task(link: Any, one: AsyncResult) -> None:
    link.answers.append(shown("QUEUED"))
    assert (one.name, one.queue, one.date_done) == ("shown as this", "slow", None)
    link.answers.append(wire.Answer(0, 1, elements=[view("STARTED", "e1", 3)]))
    assert one.worker == "e1"
    link.answers.extend([wire.Answer(0, 1, elements=[view("RETRY", "", 3)])] * 3)
    assert (one.worker, one.attempts, one.retries) == (None, 3, 2)
    link.end(one._replica, *worth(one._replica, 0, 0, 1))
    assert one.date_done == datetime(1970, 1, 1, 0, 16, 41, 500_000, tzinfo=UTC)


def test_what_the_hub_has_not_does_not_exist(link: Any, one: AsyncResult) -> None:
    link.answers.extend([shown("QUEUED"), UnknownResult("it may have expired")])
    assert (one.exists(), one.exists()) == (True, False)
    one._replica.error = Refused("too many")
    link.answers.append(one._replica.error)
    assert one.exists() is False


# ------------------------------------------------------------------ waiting


def test_get_calls_back_with_what_it_returns(link: Any, one: AsyncResult) -> None:
    called: list[tuple[str, str]] = []

    def callback(own: str, value: object) -> None:
        called.append((own, repr(value)))

    with pytest.raises(WaitTimeout):
        one.get(0, callback=callback)
    link.end(one._replica, *failed(one._replica, 0, 0, ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        one.get(0, callback=callback)
    assert called == []
    one.get(0, propagate=False, callback=callback)
    assert called == [(one.id, "ValueError('no')")]


def test_what_makes_no_difference_is_taken(link: Any, one: AsyncResult) -> None:
    link.end(one._replica, *worth(one._replica, 0, 0, 1))
    taken: dict[str, Any] = {
        "interval": 0.5, "no_ack": True, "follow_parents": False, "disable_sync_subtasks": False,
        "on_message": None,
    }  # fmt: skip
    assert one.get(0, **taken) == 1
    assert ResultSet([one]).get(0, **taken) == [1]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("on_message", print, "use then(), callback= or as_completed()"),
        ("on_interval", print, "use timeout= and wait in a loop"),
        ("disable_sync_subtasks", True, "a task may wait for others here"),
    ],
)
def test_what_would_change_something_in_celery_is_refused(
    link: Any, one: AsyncResult, name: str, value: Any, why: str
) -> None:
    for call in (one.get, ResultSet([one]).get, ResultSet([one]).iter_native):
        options: dict[str, Any] = {name: value}
        with pytest.raises(UsageError) as caught:
            list(call(0, **options))
        assert str(caught.value).startswith(f"get() has no {name}: ")
        assert why in str(caught.value)


def test_what_nobody_knows_is_an_error_as_in_any_call(one: AsyncResult) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'timeuot'"):
        one.get(timeuot=3)


def test_then_calls_one_of_two(link: Any) -> None:
    good, bad = (AsyncResult(link, link.run(number, chain_graph(1))) for number in (1, 2))
    called: list[tuple[str, AsyncResult]] = []

    def note(name: str) -> Any:
        return lambda result: called.append((name, result))

    good.then(note("ended"), on_error=note("failed"))
    bad.then(note("ended"), on_error=note("failed"))
    bad.then(note("either"))
    link.end(good._replica, *worth(good._replica, 0, 0, 1))
    link.end(bad._replica, [revoked(0, 0)])
    assert called == [("ended", good), ("failed", bad), ("either", bad)]


def test_a_failed_parents_error_is_raised_by_what_follows(link: Any) -> None:
    replica = link.run(1, chain_graph(2))
    facts, blocks = failed(replica, 0, 0, ValueError("first"))
    link.end(replica, facts, blocks)
    link.end(replica, [Inherited(1, 1, 0, 1, State.FAILURE, 0)])
    with pytest.raises(ValueError, match="first") as caught:
        handle(link, replica).get(0)
    assert caught.value.__notes__ == [
        f"in task {run_id(1).hex()}-0-0, on engine e1, attempt 1",
        f"task {run_id(1).hex()}-1-0 did not run because of it",
    ]
    assert str(caught.value.__cause__).strip() == "ValueError: first"


# ------------------------------------------------------------------ acting


def test_cancel_and_abort_ask_the_hub(link: Any) -> None:
    replica = link.run(1, chain_graph(2))
    first, last = (AsyncResult(link, replica, number, 0) for number in range(2))
    link.answers.extend(wire.Answer(0, count) for count in (1, 2, 0, 1))
    assert (first.revoke(terminate=False), last.cancel(signal="KILL"), first.abort(), last.abort()) == (
        True, True, False, True,
    )  # fmt: skip
    assert link.asked == [
        wire.Cancel(0, run_id(1), 0, 0, 1), wire.Cancel(0, run_id(1)),
        wire.Abort(0, run_id(1), 0, 0, 1), wire.Abort(0, run_id(1), 1, 0, 1),
    ]  # fmt: skip


# ------------------------------------------------------------------ ids


def answer_find(link: Any, number: int, node: int = -1, index: int = 0) -> None:
    link.answers.append(wire.Found(0, run_id(number), link.runs[run_id(number)].graph, 0.0, node, index))


def test_a_handle_is_pickled_as_its_id(link: Any, one: AsyncResult) -> None:
    answer_find(link, 1, 0)
    again = pickle.loads(pickle.dumps(one))
    assert (again, again == one.id, hash(again) == hash(one), type(again)) == (one, True, True, AsyncResult)
    group = handle(link, link.run(2, group_graph(2)))
    answer_find(link, 2)
    assert pickle.loads(pickle.dumps(group)).results == group.results
    for kind in (ResultSet, GroupResult):
        made = kind([one, ResultSet([group[1]], "inner")], "outer")
        answer_find(link, 1, 0)
        answer_find(link, 2, 0, 1)
        loaded = pickle.loads(pickle.dumps(made))
        assert (type(loaded), loaded, loaded.results) == (kind, made, made.results)
        assert loaded[1].results == [group[1]]


def test_a_result_is_made_of_an_id(link: Any, one: AsyncResult) -> None:
    answer_find(link, 1, 0)
    assert AsyncResult(one.id) == one
    link.run(2, group_graph(2))
    answer_find(link, 2)
    with pytest.raises(UnknownResult, match="is a group, not a task"):
        AsyncResult(run_id(2).hex())
    link.answers.append(UnknownResult("it may have expired"))
    with pytest.raises(UnknownResult, match="may have expired"):
        AsyncResult(f"{run_id(3).hex()}-0-0")


def test_a_revoked_task_raises(link: Any, one: AsyncResult) -> None:
    link.end(one._replica, [revoked(0, 0)])
    assert (one.state, one.ready(), one.failed(), one.successful()) == ("REVOKED", True, False, False)
    with pytest.raises(TaskRevoked, match="cancelled"):
        one.get(0)
    assert one.traceback == f"cancelled [task {one.id}]"
