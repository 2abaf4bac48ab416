"""Random canvases with failures, links and errbacks on a real hub and slots, against the interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

import nbq
from nbq.canvas import Canvas
from tests.conformance.canvas.interpreter import evaluate, failures
from tests.conformance.canvas.tasks import ExpectedError, note
from tests.conformance.canvas.test_random import call, canvases, plain
from tests.processes.harness import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=2) as client:
        yield client
        # Links and errbacks are no part of what get() waits for.
        until(lambda: client.status().hub["unfinished"] == 0, "the end of links and errbacks")


@pytest.mark.usefixtures("cluster")
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(canvases)
def test_a_cluster_gives_what_the_interpreter_allows(canvas: Canvas) -> None:
    expected = evaluate(canvas, call)
    result = canvas.clone(link=note.si("link"), link_error=note.si("errback")).delay()
    if bad := failures(expected):
        with pytest.raises(ExpectedError) as error:
            result.get(timeout=20)
        assert error.value in bad
    else:
        assert plain(expected) == result.get(timeout=20)
