"""Calls that run in the calling process because settings say so."""

from __future__ import annotations

import pytest

import nbq
from nbq.configuration import configure

pytestmark = pytest.mark.usefixtures("fresh")


@nbq.task
def add(x: int, y: int) -> int:
    return x + y


@nbq.task
def total(xs: list[int]) -> int:
    return sum(xs)


@nbq.task
def fail() -> None:
    raise KeyError("x")


@nbq.task
def asks_another() -> int:
    found: int = add.delay(1, 2).get()
    return found


def test_calls_run_here_and_delays_pass_at_once() -> None:
    configure(always_eager=True)
    result = add.delay(1, 2)
    assert (result.state, result.get()) == ("SUCCESS", 3)
    assert add.apply_async((1, 2), countdown=3600).get() == 3
    assert (nbq.group(add.s(i, i) for i in range(10)) | total.s()).delay().get() == 90
    assert nbq.send_task(add.name, (3, 4)).get() == 7
    assert asks_another.delay().get() == 3


def test_what_a_task_raised_comes_with_get_or_if_so_set_at_once() -> None:
    configure(always_eager=True)
    result = fail.delay()
    assert result.state == "FAILURE"
    with pytest.raises(KeyError):
        result.get()
    configure(eager_propagates=True)
    with pytest.raises(KeyError):
        fail.delay()
