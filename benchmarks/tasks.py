"""The same calls as ``benchmarks.work``, as nbq tasks; slots import this module."""

from __future__ import annotations

from typing import Any

import nbq


@nbq.task
def noop(x: Any = None) -> None:
    """Do nothing."""


@nbq.task
def step(x: int) -> int:
    """Return the next number: a link of a chain."""
    return x + 1


@nbq.task
def count(values: list[Any]) -> int:
    """Return how many values came: the body of a chord."""
    return len(values)


@nbq.task
def same(x: Any) -> Any:
    """Return what came."""
    return x


@nbq.task
def most(values: list[int]) -> int:
    """Return the largest number that came: where a group in a chain is joined."""
    return max(values)
