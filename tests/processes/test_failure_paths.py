"""Whatever fails, wherever: ``get()`` raises it at once, every task of the canvas ends, and nothing waits.

The canvases run on one real cluster. ``ended`` asserts what holds for all of them: the exception comes well
before the deadline, and then the hub has nothing unfinished. It returns the state of each task, in the order
of the plan, by its first letter, and what those tasks give that did not succeed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

import nbq
from nbq.canvas import Canvas
from nbq.core.model import State
from tests.conformance.canvas.tasks import (
    ExpectedError,
    add,
    become,
    fail,
    grow,
    i,
    ignore,
    reject,
    told_id,
    tsum,
)
from tests.processes import control
from tests.processes.harness import World, until
from tests.processes.work import block, die, return_lock, return_unreadable

DEADLINE_S = 10.0
"""For the time from a failure to the exception in ``get()``: ten times what is promised."""
UNFINISHED = {state.name for state in State if state < State.SUCCESS}

ONE, BAD, SUM = i.si(1), fail.si("F", 7), tsum.s()
FAILED = ExpectedError("F", 7)


def kind(error: Any) -> tuple[type, Any]:
    """Return what makes an exception the same as another."""
    return type(error), error.args


def ended(client: nbq.Client, result: Any) -> tuple[BaseException, str, list[Any]]:
    """Wait for a failure; return it, the states of all tasks, and what those give that did not succeed."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the tests look at it
        result.get(timeout=3 * DEADLINE_S)
    raised_s = time.time()
    until(lambda: not UNFINISHED & client.status().states.keys(), "the end of everything", DEADLINE_S)
    run = client.runs(limit=1)[0].id
    rows = [row for row in client.tasks(limit=1000) if row.run == run]
    bad = [row for row in rows if row.state != "SUCCESS"]
    assert raised_s - min(row.at_s for row in bad) < DEADLINE_S
    values = [client.result(row.id).get(timeout=DEADLINE_S, propagate=False) for row in bad]
    return caught.value, "".join(row.state[0] for row in rows), values


def fails(client: nbq.Client, canvas: Canvas, states: str) -> None:
    """Assert that a canvas fails as ``BAD`` does, as do all its tasks that have not succeeded."""
    error, found, values = ended(client, canvas.delay())
    assert (kind(error), found) == (kind(FAILED), states)
    assert [kind(value) for value in values] == [kind(FAILED)] * (len(states) - states.count("S"))


# ------------------------------------------------------------------ where it fails

SHAPES: dict[str, tuple[Canvas, str]] = {
    "a task": (BAD, "F"),
    "a header task": (nbq.chord([ONE, BAD], SUM), "SFF"),
    "every header task": (nbq.chord([BAD] * 3, SUM), "FFFF"),
    "the body": (nbq.chord([ONE, ONE], BAD), "SSF"),
    "the body that takes exceptions": (nbq.chord([ONE, BAD], BAD, propagate=False), "SFF"),
    "the start of a header chain": (nbq.chord([BAD | ONE, ONE], SUM), "FFSF"),
    "the end of a header chain": (nbq.chord([ONE | BAD, ONE], SUM), "SFSF"),
    "the start of a body chain": (nbq.chord([ONE, ONE], nbq.chain(BAD, ONE)), "SSFF"),
    "the end of a body chain": (nbq.chord([ONE, ONE], nbq.chain(ONE, BAD)), "SSSF"),
    "a member of a header group": (nbq.chord([nbq.group(ONE, BAD), ONE], SUM), "SSFF"),
    "a member of a body group": (nbq.chord([ONE, ONE], nbq.group(ONE, BAD)), "SSSF"),
    "the header of a body": (nbq.chord([ONE, ONE], nbq.chord([ONE, BAD], SUM)), "SSSFF"),
    "the body of a body": (nbq.chord([ONE, ONE], nbq.chord([ONE, ONE], BAD)), "SSSSF"),
    "a header before a chain": (nbq.chord([ONE, BAD], nbq.chain(i.s(), i.s())), "SFFF"),
    "a header before a group": (nbq.chord([ONE, BAD], nbq.group(i.s(), i.s())), "SFFF"),
    "a header before a chord": (nbq.chord([ONE, BAD], nbq.chord([i.s(), i.s()], i.s())), "SFFFF"),
    "the header of a header": (nbq.chord([nbq.chord([ONE, BAD], SUM), ONE], SUM), "SFFSF"),
    "the body of a header": (nbq.chord([nbq.chord([ONE, ONE], BAD), ONE], SUM), "SSFSF"),
    "a group that starts nested chains": (nbq.chain(nbq.chain(nbq.group(ONE, BAD), i.s()), i.s()), "SFFF"),
    "a chain in a group in a chain": (
        nbq.chain(nbq.group(ONE, nbq.chain(BAD, nbq.group(i.si(2), i.si(3)), i.si(4))), i.s()),
        "SFFFFF",
    ),
    "a step before a group": (add.s(1, 1) | BAD | nbq.group(add.s(1), add.s(1)), "SFFF"),
    "a member of a last group": (add.s(1, 1) | add.s(1) | nbq.group(add.s(1), BAD), "SSSF"),
    "a header in a group": (nbq.group(ONE, nbq.chord([BAD], SUM)), "SFF"),
    "a step between empty groups": (nbq.chain(ONE, nbq.group([]), BAD, nbq.group([])), "SSFF"),
    "what a task is replaced by": (become.si(BAD.to_dict()) | i.s(), "FFF"),
    "a chain that replaces a task": (become.si(nbq.chain(ONE, BAD, i.s()).to_dict()) | i.s(), "FFSFF"),
    "a group that replaces a task": (become.si(nbq.group(ONE, BAD).to_dict()) | i.s(), "FFSF"),
    "a chord that replaces a task": (become.si(nbq.chord([ONE, BAD], SUM).to_dict()) | i.s(), "FFSFF"),
    "the second replacement": (become.si(become.si(BAD.to_dict()).to_dict()) | i.s(), "FFFF"),
    "the replacement of a member": (nbq.chord([become.si(BAD.to_dict()), ONE], SUM), "FSFF"),
    "the replacement of a body": (nbq.chord([ONE], become.si(BAD.to_dict())), "SFF"),
    "an added member": (nbq.chord([grow.s(0, BAD.to_dict()), ONE], SUM), "SSFF"),
    "an added chain": (nbq.chord([grow.s(0, nbq.chain(BAD, ONE).to_dict())], SUM), "SFFF"),
    "an added chord": (nbq.chord([grow.s(0, nbq.chord([ONE, BAD], SUM).to_dict())], SUM), "SFSFF"),
}


@pytest.mark.parametrize(("canvas", "states"), SHAPES.values(), ids=SHAPES)
def test_a_failure_anywhere_ends_all_that_follows(client: nbq.Client, canvas: Canvas, states: str) -> None:
    fails(client, canvas, states)


# ------------------------------------------------------------------ what fails it


CAUSES: dict[str, tuple[Callable[[str], Canvas], type[Exception], str, str]] = {
    "a time limit": (
        lambda path: block.si(path, f"{path}-never").set(time_limit=0.2),
        nbq.TimeLimitExceeded, r"work\.block was stopped after .*; its time_limit is 0\.2 s", "F",
    ),
    "a soft time limit": (
        lambda path: block.si(path, f"{path}-never").set(soft_time_limit=0.2),
        nbq.SoftTimeLimitExceeded, r"has run for .*; its soft_time_limit is 0\.2 s", "F",
    ),
    "slots that die": (lambda path: die.si("kill", path), nbq.TaskLost, "in 3 slots that died", "F"),
    "the end of its retries": (lambda path: control.hopeless.si(), ConnectionError, "^down$", "F"),
    "a result that cannot be serialised": (
        lambda path: return_lock.si(), nbq.NotSerializable, "result cannot be serialised: lock", "F",
    ),
    "a name that no engine knows": (
        lambda path: nbq.signature("no.such.task", immutable=True),
        nbq.UnknownTask, r"knows no task named 'no\.such\.task'", "F",
    ),
    "a replacement that is no canvas": (
        lambda path: become.si({"kind": "ring"}), nbq.InvalidSignature, "no canvas is of kind 'ring'", "F",
    ),
    "a replacement by nothing": (
        lambda path: become.si(nbq.chain().to_dict()),
        nbq.InvalidSignature, "cannot replace with an empty", "F",
    ),
    "reject": (lambda path: reject.si(), nbq.Reject, "no", "F"),
    "ignore": (lambda path: ignore.si(), nbq.TaskRevoked, "ignored", "R"),
    "the time when it expires": (
        lambda path: i.si(3).set(countdown=3600, expires=0.2), nbq.TaskRevoked, "expired", "R",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "text", "state"), CAUSES.values(), ids=CAUSES)
def test_a_header_and_a_chain_end_whatever_the_failure(
    client: nbq.Client, shared: World, request: pytest.FixtureRequest,
    make: Callable[[str], Canvas], error: type[Exception], text: str, state: str,
) -> None:  # fmt: skip
    path = shared.mark(re.sub(r"\W", "-", request.node.name))
    for canvas, expected in (
        (nbq.chord([ONE, make(f"{path}-header")], SUM), f"S{state}{state}"),
        (ONE | make(f"{path}-step") | i.s() | nbq.group(i.s(), i.s()), f"S{state * 4}"),
    ):
        raised, states, values = ended(client, canvas.delay())
        assert (type(raised), states) == (error, expected)
        assert re.search(text, str(raised))
        assert [kind(value) for value in values] == [kind(raised)] * (len(expected) - 1)


def test_a_value_that_its_consumer_cannot_read_is_the_consumers_failure(client: nbq.Client) -> None:
    for canvas in (nbq.chord([ONE, return_unreadable.si()], SUM), ONE | return_unreadable.si() | i.s()):
        raised, states, values = ended(client, canvas.delay())
        assert (type(raised), states) == (ValueError, "SSF")
        assert [kind(value) for value in values] == [kind(raised)]


@pytest.mark.parametrize("state", ["SCHEDULED", "STARTED"])
def test_a_cancelled_member_ends_the_body(client: nbq.Client, shared: World, state: str) -> None:
    gate = shared.mark("never")
    member = i.si(2).set(countdown=3600) if state == "SCHEDULED" else block.si(shared.mark("member"), gate)
    result = nbq.chord([ONE, member], SUM).delay()
    cancelled = result.parent[1]
    until(lambda: cancelled.state == state, "the member's state")
    assert cancelled.cancel()
    raised, states, values = ended(client, result)
    assert (type(raised), states) == (nbq.TaskRevoked, "SRR")
    assert str(raised) == f"cancelled [task {cancelled.id}]"
    assert [kind(value) for value in values] == [kind(raised)] * 2


# ------------------------------------------------------------------ errbacks


@pytest.mark.parametrize(
    ("canvas", "states"), [(BAD, "FF"), (nbq.chord([ONE, BAD], SUM), "SFFF"), (BAD | i.s() | i.s(), "FFFF")]
)
def test_an_errback_that_fails_changes_nothing(client: nbq.Client, canvas: Canvas, states: str) -> None:
    error, found, values = ended(client, canvas.clone().on_error(fail.si("other")).delay())
    assert (kind(error), found) == (kind(FAILED), states)
    others = [value.args for value in values if value.args != FAILED.args]
    assert others == [("other",)]


def test_an_errback_that_retries_is_not_waited_for(client: nbq.Client) -> None:
    canvas = nbq.chord([ONE, BAD], SUM).on_error(control.much_later.si())
    result = canvas.delay()
    with pytest.raises(ExpectedError) as caught:
        result.get(timeout=DEADLINE_S)
    assert kind(caught.value) == kind(FAILED)
    until(lambda: client.status().states.get("RETRY") == 1, "the retry of the errback")
    assert client.status().states.keys() & UNFINISHED == {"RETRY"}
    [retried] = client.tasks(state="RETRY")
    assert client.cancel(retried.id) == 1
    assert ended(client, result)[1] == "SFFR"


@pytest.mark.parametrize("more", [1, 42])
def test_an_errback_of_many_failures_runs_once(client: nbq.Client, more: int) -> None:
    canvas = nbq.chord([ONE, *[BAD] * more], SUM).on_error(told_id.s())
    error, states, _ = ended(client, canvas.delay())
    assert (kind(error), states) == (kind(FAILED), f"S{'F' * more}FS")
