"""Random canvases: their plans pass the hub's check, and give what the canvases mean."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nbq.canvas import EMPTY, Canvas, Signature, chain, chord, draw_svg, draw_text, group, plan, signature
from tests.canvas.kit import graph_of, meaning, run


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    args = tuple(draw(st.lists(st.integers(0, 2), max_size=2)))
    options = draw(st.sampled_from([{}, {}, {"queue": "far"}]))
    return Signature(
        draw(st.sampled_from("abc")), args, {}, options, draw(st.sampled_from([False, False, True]))
    )


def dressed(canvas: Canvas, args: list[int], immutable: bool) -> Canvas:
    """Return a canvas with arguments of its own."""
    return canvas.clone(args).set(immutable=immutable or None)


@st.composite
def wholes(draw: st.DrawFn, parts: st.SearchStrategy[Canvas]) -> Canvas:
    several = st.lists(parts, max_size=4)
    kind = draw(st.sampled_from(["group", "chain", "chord", "or"]))
    if kind == "or":
        return draw(parts) | draw(parts)
    canvas: Canvas
    if kind == "group":
        canvas = group(draw(several))
    elif kind == "chain":
        canvas = chain(draw(st.lists(parts, min_size=1, max_size=4)))
    else:
        canvas = chord(draw(several), draw(parts))
    args, immutable = draw(st.sampled_from([([], False)] * 4 + [([7], False), ([8], True)]))
    return dressed(canvas, args, immutable)


canvases: st.SearchStrategy[Canvas] = st.recursive(signatures(), wholes, max_leaves=12)


def count(canvas: Canvas) -> int:
    """Return how many tasks a canvas is made of."""
    return 1 if isinstance(canvas, Signature) else sum(map(count, canvas.members()))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(canvases, st.lists(st.integers(3, 4), max_size=2))
def test_a_plan_gives_what_the_canvas_means(canvas: Canvas, args: list[int]):
    planned = plan(canvas, args)
    assert run(planned) == meaning(canvas, tuple(args))
    assert sum(node.size for node in planned.nodes if node.task != EMPTY) == count(canvas)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(canvases)
def test_plain_data_gives_an_equal_canvas_and_the_same_plan(canvas: Canvas):
    again = signature(canvas.to_dict())
    assert again == canvas
    assert graph_of(plan(again)) == graph_of(plan(canvas))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(canvases)
def test_planning_and_composing_change_no_operand(canvas: Canvas):
    before = canvas.to_dict()
    plan(canvas, (1,), queue="other")
    _ = canvas | canvas
    _ = canvas.clone((5,), priority=3)
    assert canvas.to_dict() == before


@settings(max_examples=60, deadline=None, derandomize=True)
@given(canvases, canvases)
def test_a_canvas_followed_by_a_canvas_is_a_chain_of_both(left: Canvas, right: Canvas):
    joined: Any = left | right
    assert run(plan(joined)) == meaning(joined)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(canvases)
def test_every_canvas_can_be_drawn(canvas: Canvas):
    assert draw_svg(canvas).startswith("<svg ")
    assert draw_text(canvas)
