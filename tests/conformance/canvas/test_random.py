"""Random canvases with failures: what runs their plans and what evaluates them without a graph agree."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nbq.canvas import Canvas, Signature, chain, chord, group
from tests.conformance.canvas.executor import execute
from tests.conformance.canvas.interpreter import Failed, Many, evaluate, failures
from tests.conformance.canvas.tasks import ExpectedError, fail, log, note, show

Numbers = st.integers(0, 10**6)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    task = draw(st.sampled_from([show, show, show, note, fail]))
    args = (draw(Numbers),) if task is fail else tuple(draw(st.lists(st.integers(0, 2), max_size=2)))
    immutable = task is fail or draw(st.sampled_from([False, False, True]))
    return Signature(task, args, {}, {}, immutable)


@st.composite
def wholes(draw: st.DrawFn, parts: st.SearchStrategy[Canvas], kinds: tuple[str, ...]) -> Canvas:
    several = st.lists(parts, max_size=4)
    kind = draw(st.sampled_from(kinds))
    if kind == "or":
        return draw(parts) | draw(parts)
    if kind == "group":
        return group(draw(several))
    if kind == "chain":
        return chain(draw(st.lists(parts, min_size=1, max_size=4)))
    return chord(draw(several), draw(parts), propagate=kind == "chord")


def canvases_of(*kinds: str) -> st.SearchStrategy[Canvas]:
    return st.recursive(signatures(), lambda parts: wholes(parts, kinds), max_leaves=20)


strict = canvases_of("group", "chain", "chord", "or")
canvases = canvases_of("group", "chain", "chord", "settled", "or")


def plain(value: Any) -> Any:
    """Return a value as a task gets it, exceptions in their places."""
    if isinstance(value, Many):
        return [plain(inner) for inner in value]
    return _Ambiguous(value.allowed) if isinstance(value, Failed) else value


class _Ambiguous:
    """An exception in the place of a value: equal to each of those that it may be."""

    def __init__(self, allowed: frozenset[Any]) -> None:
        self.allowed = allowed

    def __eq__(self, other: object) -> bool:
        return other in self.allowed

    __hash__ = None  # type: ignore[assignment]


def call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what the tasks of these tests give."""
    given = [plain(arg) for arg in args]
    if name == fail.name:
        return Failed(frozenset([ExpectedError(*given)]))
    if name == note.name:
        return given[0] if given else None
    return [given, kwargs]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(canvases)
def test_a_canvas_gives_its_value_or_one_of_the_exceptions_that_are_allowed(canvas: Canvas) -> None:
    expected = evaluate(canvas, call)
    log.clear()
    ran = execute(canvas)
    if bad := failures(expected):
        assert ran.state == "FAILURE"
        assert ran.of().value in bad
    else:
        assert plain(expected) == ran.get()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(strict, canvases), st.booleans())
def test_a_whole_that_fails_calls_its_errback_and_one_that_does_not_its_link(
    canvas: Canvas, by_call: bool
) -> None:
    failed = bool(failures(evaluate(canvas, call)))
    hung: dict[str, Any] = {"link": note.si("link"), "link_error": note.si("errback")}
    log.clear()
    ran = execute(canvas, **hung) if by_call else execute(canvas.clone(**hung))
    assert ran.state == ("FAILURE" if failed else "SUCCESS")
    assert log.count(("note", "link")) == (not failed)
    if failed or not _settles(canvas):
        assert (("note", "errback") in log) == failed


def _settles(canvas: Canvas) -> bool:
    """Return whether a failure in it can be the value of a chord's member, and not its own."""
    return getattr(canvas, "propagate", True) is False or any(map(_settles, canvas.members()))
