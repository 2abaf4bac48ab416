"""Groups, chains and chords: the shapes that `|` and constructors make; operands stay as they are."""

import time
from typing import Any

import pytest

from nbq.canvas import chain, chord, group
from tests.canvas.kit import execute, s, si

A, B, C, D = s("a"), s("b"), s("c"), s("d")


@pytest.mark.parametrize(
    ("made", "same"),
    [
        (A | B, chain(A, B)),
        (A | B | C, chain(A, B, C)),
        (A | (B | C), chain(A, B, C)),
        ((A | B) | (C | D), chain(A, B, C, D)),
        (chain(A, chain(B, C), chain(chain(D))), chain(A, B, C, D)),
        (group(A, B) | C, chord([A, B], C)),
        (group([A]) | B, chord([A], B)),
        (group(A, B) | group(C, D), chord([A, B], group(C, D))),
        (chord([A]) | B, chord([A], B)),
        (A | group(B, C), chain(A, group(B, C))),
        (A | group(B, C) | D, chain(A, group(B, C), D)),
        (chord([A], B) | C, chain(chord([A], B), C)),
        (chord([A], B) | chord([C], D), chain(chord([A], B), chord([C], D))),
        (chain() | A, chain(A)),
        (A | chain(), chain(A)),
        (chain([A, B]), chain(A, B)),
        (chain(group(A, B), C), chain(group(A, B), C)),
    ],
)
def test_the_shape_of_what_is_joined(made, same):
    assert made == same
    assert type(made) is type(same)


def test_a_chain_with_something_of_its_own_stays_a_member():
    inner = chain(B, C).set(queue="q")
    assert [type(task).__name__ for task in chain(A, inner).tasks] == ["Signature", "chain"]
    assert [type(task).__name__ for task in (A | inner).tasks] == ["Signature", "chain"]
    assert [type(task).__name__ for task in (inner | A).tasks] == ["chain", "Signature"]


def test_a_group_takes_signatures_or_one_iterable_of_them():
    made = [group(A, B), group([A, B]), group((A, B)), group(task for task in (A, B)), group(iter([A, B]))]
    assert all(canvas == made[0] for canvas in made)
    assert made[0].tasks == [A, B]
    assert (group().tasks, group([]).tasks, group(A).tasks) == ([], [], [A])


def test_members_may_be_plain_data():
    data = A.to_dict()
    assert group(data, B) == group(A, B)
    assert group(data) == group(A)
    assert chain(data, data) == chain(A, A)
    assert chord([data], data) == chord([A], A)
    assert (B | data) == chain(B, A)


def test_the_forms_of_a_chord_are_equal():
    made = [
        chord((s("i", k) for k in range(3)), s("xsum")),
        chord([s("i", k) for k in range(3)], s("xsum")),
        chord(group(s("i", k) for k in range(3)), s("xsum")),
        group(s("i", k) for k in range(3)) | s("xsum"),
    ]
    assert all(canvas == made[0] for canvas in made)
    chained = chain(group(s("i", k) for k in range(3)), s("xsum"))
    assert [execute(canvas) for canvas in [*made, chained]] == [3] * 5


def test_a_chord_of_one_signature_has_a_header_of_one_member():
    assert chord(A, B) == chord([A], B)
    both = chain(A, B)
    assert chord(both, C).header.tasks == [both]


def test_operands_are_not_changed_and_not_shared_with_newcomers():
    one, two, three = s("a"), s("b"), s("c")
    joined: Any = one | two
    longer: Any = joined | three
    assert (joined, longer) == (chain(one, two), chain(one, two, three))
    for part in (one, two, three):
        part.set(priority=9)
    assert longer == chain(A, B, C)
    header = group(one)
    made = header | two
    header.tasks.append(three)
    assert isinstance(made, chord)
    assert len(made.header.tasks) == 1


def test_a_chain_grows_in_place_from_nothing():
    canvas: Any = chain()
    canvas |= s("add", 1, 1)
    canvas |= s("add", 1)
    assert execute(canvas) == 3


def test_joining_a_thousand_steps_takes_no_quadratic_time():
    canvas: Any = s("add", 0, 0)
    began = time.perf_counter()
    for _ in range(1000):
        canvas = canvas | s("add", 1)
    assert time.perf_counter() - began < 0.5
    assert len(canvas.tasks) == 1001


def test_members_in_order():
    assert (A.members(), group(A, B).members(), chain(A, B).members()) == ([], [A, B], [A, B])
    assert (chord([A], B).members(), chord([A]).members()) == ([group(A), B], [group(A)])


@pytest.mark.parametrize(
    ("canvas", "text"),
    [
        (group(A, s("b", 1)), "group(a(), b(1))"),
        (chain(A, B), "a() | b()"),
        (chain(A), "chain(a())"),
        (chain(), "chain()"),
        (chain(A, B).clone((5,)), "chain(a(), b())(5)"),
        (chord([A, B], C), "chord([a(), b()], c())"),
        (group(si("t", k) for k in range(1000)), "group(t(0), t(1), t(2), t(3), t(4), t(5), … 994 more)"),
    ],
)
def test_a_canvas_reads_as_it_could_be_written(canvas, text):
    assert repr(canvas) == text
