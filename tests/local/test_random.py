"""Random canvases: what a whole cluster makes of them is what the reference interpreter says."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from nbq.canvas import Canvas, Signature, chain, chord, group, signature
from nbq.testing import ClusterUnderTest
from tests.conformance.canvas.interpreter import Failed, Many, evaluate, failures
from tests.conformance.canvas.tasks import ExpectedError, become, fail, show
from tests.local.work import note, seen, stubborn

CASES = 300
DEPTH = 5
TASKS = 200


class Maker:
    """Makes a canvas of at most so many tasks."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.left = self.rng.choice((10, 40, TASKS))

    def canvas(self, depth: int) -> Canvas:
        kind = self.rng.choice(("task", "group", "chain", "chord", "settled", "or")) if depth else "task"
        if kind == "task" or self.left < 2:
            return self.signature(depth)
        if kind == "or":
            return self.canvas(depth - 1) | self.canvas(depth - 1)
        parts = [self.canvas(depth - 1) for _ in range(min(self.rng.randint(0, 4), self.left))]
        if kind == "group":
            return group(parts)
        if kind == "chain":
            return chain(parts) if parts else self.signature(depth)
        return chord(parts, self.canvas(depth - 1), propagate=kind == "chord")

    def signature(self, depth: int) -> Signature:
        self.left -= 1
        draw = self.rng.random()
        if draw < 0.07:
            return fail.si(self.rng.randrange(10**6))
        if draw < 0.15:
            return stubborn.si(self.rng.randint(0, 3), self.rng.randrange(9))
        if draw < 0.22 and depth:
            return become.si(self.canvas(depth - 1).to_dict())
        args = [self.rng.randrange(3) for _ in range(self.rng.randint(0, 2))]
        return show.signature(args, immutable=self.rng.random() < 0.4)


class Allowed:
    """An exception in the place of a value: equal to each of those that it may be."""

    def __init__(self, allowed: frozenset[Any]) -> None:
        self.allowed = allowed

    def __eq__(self, other: object) -> bool:
        return other in self.allowed

    __hash__ = None  # type: ignore[assignment]


def plain(value: Any) -> Any:
    """Return a value as a task gets it, exceptions in their places."""
    if isinstance(value, Many):
        return [plain(inner) for inner in value]
    return Allowed(value.allowed) if isinstance(value, Failed) else value


def call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a task of these tests gives."""
    if name == become.name:
        value = evaluate(signature(args[0]), call)
        bad = failures(value)
        return Failed(bad) if bad else plain(value)
    given = [plain(arg) for arg in args]
    if name == fail.name:
        return Failed(frozenset([ExpectedError(*given)]))
    return given[1:] if name == stubborn.name else [given, kwargs]


@pytest.mark.parametrize("first", range(0, CASES, 50))
def test_a_cluster_and_the_interpreter_agree(nbq_cluster: ClusterUnderTest, first: int) -> None:
    for seed in range(first, first + 50):
        canvas = Maker(seed).canvas(DEPTH)
        expected = evaluate(canvas, call)
        bad = failures(expected)
        seen.clear()
        ran = nbq_cluster.run(canvas, link=note.si("link"), link_error=note.si("errback"))
        if bad:
            assert (ran.error in bad, ran.value, ("link",) in seen) == (True, None, False), f"seed {seed}"
        else:
            assert (ran.error, seen) == (None, [("link",)]), f"seed {seed}"
            assert plain(expected) == ran.value, f"seed {seed}"
