"""What a task costs does not grow with its canvas, and nothing recurses along a chain of any length."""

from __future__ import annotations

import json
import time

import pytest

import nbq
from benchmarks.ours import fans, submitted_bytes
from benchmarks.tasks import step
from tests.conformance.canvas.tasks import ExpectedError, fail, i

STEPS = 10_000
DEADLINE_S = 120.0
FAILURE_S = 10.0
"""For all steps to have failed after the first: ten times what is promised."""


@pytest.fixture(scope="module")
def chained(client: nbq.Client) -> nbq.AsyncResult:
    """Return the result of a chain of many steps, which has ended."""
    result = nbq.chain(step.s(0), *(step.s() for _ in range(STEPS - 1))).delay()
    assert result.get(timeout=DEADLINE_S) == STEPS
    return result


@pytest.mark.parametrize("k", [8, 200])
def test_a_canvas_that_fans_out_and_in_is_finished(client: nbq.Client, k: int) -> None:
    before = client.status().states.get("SUCCESS", 0)
    assert fans(k).delay().get(timeout=DEADLINE_S) == k + 1
    assert client.status().states == {"SUCCESS": before + 4 * k + 1}


def test_the_bytes_of_a_task_do_not_grow_with_its_canvas(client: nbq.Client) -> None:
    small, large = (submitted_bytes(client, fans(k)) / (4 * k + 1) for k in (8, 200))
    assert 0 < large <= 1.5 * small


def test_every_step_of_a_long_chain_is_found_from_the_last(
    client: nbq.Client, chained: nbq.AsyncResult
) -> None:
    first, steps = chained, 1
    while first.parent is not None:
        first, steps = first.parent, steps + 1
    assert (steps, first.get(timeout=DEADLINE_S)) == (STEPS, 1)
    ids = [f"{chained.run_id}-{number}-0" for number in range(STEPS)]
    assert chained.as_list() == ids[::-1]
    own, before, depth = chained.as_tuple()[0][0], chained.as_tuple()[0][1], 1
    while before is not None:
        (own, before), depth = before[0], depth + 1
    assert (own, depth) == (ids[0], STEPS)


def test_all_that_follows_the_first_step_is_walked(client: nbq.Client, chained: nbq.AsyncResult) -> None:
    first = client.result(f"{chained.run_id}-0-0")
    assert [value for _, value in first.collect()] == list(range(1, STEPS + 1))
    assert first.get_leaf() == STEPS
    assert len(first.build_graph()) == STEPS


def test_a_long_chain_is_plain_data(client: nbq.Client) -> None:
    canvas = nbq.chain(step.s(0), *(step.s() for _ in range(STEPS - 1)))
    again = nbq.signature(json.loads(json.dumps(canvas.to_dict())))
    assert again == canvas
    assert len(repr(again)) < 1000


def test_the_failure_of_the_first_step_is_that_of_all(client: nbq.Client) -> None:
    result = nbq.chain(fail.s("F", 7), *(i.s() for _ in range(STEPS - 1))).delay()
    client.flush()
    began = time.monotonic()
    with pytest.raises(ExpectedError) as caught:
        result.get(timeout=DEADLINE_S)
    assert time.monotonic() - began < FAILURE_S
    assert caught.value.args == ("F", 7)
    [run] = client.runs(limit=1)
    assert (run.size, run.states) == (STEPS, {"FAILURE": STEPS})
    for number in (0, 1, STEPS // 2, STEPS - 1):
        error = client.result(f"{result.run_id}-{number}-0").get(timeout=FAILURE_S, propagate=False)
        assert (type(error), error.args) == (ExpectedError, ("F", 7))
