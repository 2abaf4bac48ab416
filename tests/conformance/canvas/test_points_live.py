"""Points of the canvas that show in handles and in running tasks: in this process, and with processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import nbq
from nbq import AsyncResult, GroupResult, ResultSet, chain, chord, group
from nbq.local import LocalClient, LocalCluster
from tests.conformance.canvas.tasks import (
    ExpectedError,
    add,
    become,
    calls_a_group,
    caught,
    each_plus,
    fail,
    i,
    kin,
    mul,
    priority,
    told_later,
    tsum,
)

WAIT_S = 30.0
I42, SUM = i.si(42), tsum.s()
CENTRE = chain(SUM, group(add.s(8), add.s(16)), SUM | add.s(32))
FOUR_LEVELS: Any = i.si(3)
for level in (3, 4, 5, 6):
    FOUR_LEVELS = chord([FOUR_LEVELS, i.si(level)], i.s())


@pytest.fixture(scope="module", params=["here", "processes"])
def client(request: pytest.FixtureRequest) -> Iterator[nbq.Client]:
    """The client of a cluster with two slots."""
    with LocalCluster(slots=2) if request.param == "here" else nbq.Cluster(slots=2) as client:
        yield client


pytestmark = pytest.mark.usefixtures("client")


# ------------------------------------------------------------------ who follows whom


def test_point_17_a_running_step_knows_what_it_follows_and_where_that_began() -> None:
    last = chain(kin.s(), kin.s(), kin.s()).delay()
    steps = [last.parent.parent, last.parent, last]
    assert [step.get(WAIT_S) for step in steps] == [
        (steps[0].id, None, steps[0].id),
        (steps[1].id, steps[0].id, steps[0].id),
        (steps[2].id, steps[1].id, steps[0].id),
    ]
    alone = kin.delay()
    assert alone.get(WAIT_S) == (alone.id, None, alone.id)


def test_point_53_members_bodies_and_what_follows_know_where_they_are() -> None:
    last = chain(kin.s(), kin.s(), group(kin.s(), kin.s()), kin.s(), kin.s()).delay()
    body, header = last.parent, last.parent.parent
    two, one = header.parent, header.parent.parent
    assert [type(result) for result in (last, body, header, two, one)] == [
        AsyncResult, AsyncResult, GroupResult, AsyncResult, AsyncResult,
    ]  # fmt: skip
    assert one.parent is None
    assert [member.parent for member in header] == [two, two]
    own, parent, root = body.get(WAIT_S)
    assert (own, parent in [member.id for member in header], root) == (body.id, True, one.id)
    assert [member.get() for member in header] == [(member.id, two.id, one.id) for member in header]
    assert (last.get(), two.get()) == ((last.id, body.id, one.id), (two.id, one.id, one.id))


def test_point_53_tuples_keep_groups_that_follow_groups() -> None:
    result = (group(i.s(1), i.s(2)) | group(SUM, SUM, i.s())).delay()
    assert result.get(WAIT_S) == [3, 3, [1, 2]]
    first = result.parent
    ((own, parent), members) = result.as_tuple()
    assert (own, len(members)) == (result.id, 3)
    assert (parent[0][0], len(parent[1])) == (first.id, 2)
    again = nbq.result_from_tuple(result.as_tuple())
    assert (again, again.get(WAIT_S), again.parent) == (result, [3, 3, [1, 2]], first)


def test_point_36_a_group_that_a_task_calls_is_one_child() -> None:
    result = calls_a_group.delay()
    called, children, returned = result.get(WAIT_S)
    assert (children, [child.id for child in result.children]) == ((called,), [called])
    assert [child.get(WAIT_S) for child in result.children] == [[0, 1, 2]]
    assert (returned.id, returned.get(WAIT_S)) == (called, [0, 1, 2])


# ------------------------------------------------------------------ options that tasks feel


def test_point_16_a_chain_that_is_called_with_an_id_has_it() -> None:
    canvas = chain(add.s(1, 1), add.s(1))
    result = canvas.apply_async(task_id=f"x-{time.monotonic_ns()}")
    assert (result.id[:2], result.get(WAIT_S)) == ("x-", 3)
    own = f"y-{time.monotonic_ns()}"
    assert (canvas.freeze(own).id, canvas.apply_async().id) == (own, own)


def test_point_23_each_step_runs_with_its_own_priority() -> None:
    result = chain(priority.s().set(priority=3), priority.s().set(priority=5)).delay()
    assert [result.get(WAIT_S), result.parent.get(WAIT_S)] == ["Priority: 5", "Priority: 3"]


def test_point_24_a_chord_does_not_begin_before_its_eta(client: nbq.Client) -> None:
    def now() -> float:
        return client.cluster.clock.now().wall_s if isinstance(client, LocalClient) else time.time()

    eta = datetime.fromtimestamp(now() + 0.5, UTC)
    canvas = chain(group(add.s(1, 2), add.s(3, 4)), SUM).on_error(told_later.s())
    result = canvas.apply_async(eta=eta)
    assert [member.state for member in result.parent] == ["SCHEDULED", "SCHEDULED"]
    assert result.get(WAIT_S) == 10
    assert now() >= eta.timestamp()


@pytest.mark.parametrize("client", ["processes"], indirect=True)
def test_point_54_a_member_that_catches_its_soft_time_limit_counts(client: nbq.Client) -> None:
    """There are no limits where nothing can be interrupted."""
    assert chord([caught.s(1), i.s(2)], SUM).delay().get(WAIT_S) == 3


# ------------------------------------------------------------------ failures and errbacks


def test_point_60_an_errback_that_retries_delays_nobody(client: nbq.Client) -> None:
    result = fail.apply_async(("F",), link_error=told_later.s())
    with pytest.raises(ExpectedError, match="F"):
        result.get(WAIT_S)
    assert result.state == "FAILURE"
    (errback,) = result.children
    deadline = time.monotonic() + WAIT_S
    while errback.state != "RETRY" and time.monotonic() < deadline:
        errback.wait(0.01)
    assert (errback.state, errback.retries) == ("RETRY", 1)
    assert client.cancel(errback) == 1


@pytest.mark.parametrize(
    "canvas",
    [
        chain(group(i.si(1), chain(fail.si("F"), group(i.si(2), i.si(3)), i.si(4))), i.s()),
        add.s(1, 1) | fail.si("F") | group(add.s(1), add.s(1)),
        add.s(1, 1) | add.s(1) | group(add.s(1), fail.si("F")),
        chain(chain(group(i.si(1), fail.si("F")), i.s()), i.s()),
    ],
)
def test_point_57_a_failure_comes_out_of_any_canvas(canvas: Any) -> None:
    with pytest.raises(ExpectedError, match="F"):
        canvas.delay().get(6)


def test_point_33_what_a_group_says_of_its_members() -> None:
    result = group(add.s(1, 1), fail.s("boom"), add.s(2, 2)).delay()
    assert result.get(WAIT_S, propagate=False) == [2, ExpectedError("boom"), 4]
    assert (result.ready(), result.failed(), result.successful(), result.completed_count()) == (
        True,
        True,
        False,
        2,
    )


def test_point_67_what_apply_gives_equals_what_was_raised() -> None:
    result = fail.apply(("F",), link_error=i.si("told"))
    assert (result.get(propagate=False), result.state) == (ExpectedError("F"), "FAILURE")


# ------------------------------------------------------------------ results that are kept


def test_point_31_an_empty_group_has_a_result_that_can_be_kept() -> None:
    result = group([])()
    assert (type(result), result.results, result.get(WAIT_S)) == (GroupResult, [], [])
    assert GroupResult.restore(result.save()).results == []
    made = GroupResult()
    assert GroupResult.restore(made.save()).results == []
    assert made.delete() is True
    with pytest.raises(nbq.UnknownResult):
        GroupResult.restore(made.id)


def test_point_66_sets_of_results() -> None:
    results = ResultSet([add.delay(1, 1)])
    results.add(add.delay(2, 2))
    results.add(results[0])
    assert results.get(WAIT_S) == [2, 4]
    results = ResultSet([fail.delay("F"), i.delay(1)])
    assert results.get(WAIT_S, propagate=False) == [ExpectedError("F"), 1]
    assert (results[0].failed(), results[1].successful()) == (True, True)
    with pytest.raises(ExpectedError):
        results.get()


def test_point_66_groups_are_saved_restored_and_travel() -> None:
    result = (i.s(1) | group(add.s(1), add.s(2))).delay()
    for again in (GroupResult.restore(result.save()), pickle.loads(pickle.dumps(result))):
        assert (again, again.get(WAIT_S), again.parent.get(WAIT_S)) == (result, [2, 3], 1)
    by_hand = GroupResult([add.delay(1, 1), add.delay(2, 2)])
    assert GroupResult.restore(by_hand.save()).get(WAIT_S) == [2, 4]
    ((own, parent), members) = by_hand.as_tuple()
    assert (own, parent, [member[0][0] for member in members]) == (
        by_hand.id,
        None,
        [one.id for one in by_hand],
    )


# ------------------------------------------------------------------ values of canvases


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        (chain(add.s(4) | mul.s(8)).clone((4,)), 64),
        (group(add.si(1, 1), group(add.si(1, 2), group(add.si(1, 3), add.si(1, 4)))), [2, 3, 4, 5]),
        (group(add.s(1, 2) | group(add.s(1), add.s(2))), [4, 5]),
        (chord(group(chain(I42, group(i.s(), i.s()))), i.s()), [[42, 42]]),
        (chord([add.s(2, 5)], each_plus.s(9)), [16]),
        (chord(become.si(I42.to_dict()), i.s()), [42]),
        (FOUR_LEVELS, [[[[3, 3], 4], 5], 6]),
        (group(chord([I42, chain(*[I42] * 42), group(*[I42] * 42), chord([I42] * 42, i.si(1337))], i.s())),
         [[42, 42, *[42] * 42, 1337]]),
        (chord([i.s(2), i.s(4)], SUM) | group(add.s(1), add.s(2)), [7, 8]),
        (chord([add.s(1, 1), add.s(2, 2)], SUM) | chord([add.s(1), add.s(2)], SUM), 15),
        (add.si(1, 0) | group(add.s(1), add.s(1)) | group(SUM, SUM) | SUM, 8),
        (chord([add.s(0, 1)], chord([SUM, SUM], CENTRE)), 60),
        (chain(i.s(1), chord([i.si(2), chain(i.si(3), chord([i.si(4), i.si(5)], i.si(6)))], i.si(7))), 7),
        (group((chord(I42, chain((i.s(),))),)), [[42]]),
        (chord((i.si(k) for k in range(1000)), SUM), 499_500),
        (i.si(1) | group(i.s() for _ in range(1000)) | SUM, 1000),
        (chain(i.s("Hello "), become.si(i.si("Hello ").to_dict()), add.s("world")), "Hello world"),
    ],
)  # fmt: skip
def test_points_of_values_in_clusters(canvas: Any, value: Any) -> None:
    assert canvas.delay().get(WAIT_S) == value
