"""The calls that every contender but nbq runs; imports nothing, because peers' environments run it too."""

from __future__ import annotations

from typing import Any


def noop(x: Any = None) -> None:
    """Do nothing."""


def step(x: int) -> int:
    """Return the next number: a link of a chain."""
    return x + 1


def count(values: list[Any]) -> int:
    """Return how many values came: the body of a chord."""
    return len(values)


def same(x: Any) -> Any:
    """Return what came."""
    return x
