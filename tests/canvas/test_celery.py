"""Celery's exact behaviours: what canvases that its own tests hold give, and where nbq decides otherwise."""

from typing import Any

import pytest

from nbq.canvas import Canvas, chain, chord, group
from tests.canvas.kit import execute, meaning, s, si


def i(*args: Any) -> Canvas:
    return s("i", *args)


def add(*args: Any) -> Canvas:
    return s("add", *args)


def ata(*args: Any) -> Canvas:
    return s("all", *args)


TSUM, XSUM = s("tsum"), s("xsum")
I42 = si("i", 42)

CHAINS = [
    (add(4, 4) | add(8) | add(16), 32),
    (chain(add(3, 4)), 7),
    (chain([chain(i(42))]), 42),
    (chain(add(1, 1), chain(add(2), add(3), add(4))), 11),
    (chain(group(i(1), i(2)), TSUM), 3),
    (chain(group(add(1, 2), add(3, 4)), TSUM), 10),
]

GROUPS = [
    (group(i(k) for k in range(1000)), list(range(1000))),
    (
        group(si("add", 1, 10), group(si("add", 1, 100), group(si("add", 1, 1000), si("add", 1, 2000)))),
        [11, 101, 1001, 2001],
    ),
    (group(group(I42, I42)), [42, 42]),
    (group(i(1), i(2), chain(i(5), group(si("i", 3), si("i", 4)))), [1, 2, [3, 4]]),
    (group(add(1, 2) | group(add(1), add(2))), [4, 5]),
    (chain(group(I42, I42)), [42, 42]),
    (chain(I42, group(i(), i()), i()), [42, 42]),
    (chain(I42, group(i(), i())), [42, 42]),
    (group([]), []),
    (chain(group(i(7)), add(1)), 8),
    (i(7) | group(add(1)) | add(1), 9),
    (group([i(7)]) | s("count"), 1),
    (chain(group(i(1), i(2)), group([]), group([])), [1, 2]),
    (chain(i(1), group([]), i()), []),
    (group(i(1), i(2)) | group(TSUM, TSUM) | group(TSUM, s("count")) | TSUM, 8),
]

CHORDS = [
    (chord((si("i", k) for k in range(10)), i()), list(range(10))),
    (chord([], ata(9)), []),
    (group([]) | ata(9), []),
    (chord([add(2, 5)], ata(9)), [16]),
    (chord(I42, i()), [42]),
    (
        chord(
            [chord([add(1, 2), add(3, 4)], s("all", 5)), chord([add(6, 7)], s("all", 10))],
            XSUM,
        ),
        8 + 12 + 23,
    ),
    (
        chord(
            group(chain(I42, group(i(), i()))),
            i(),
        ),
        [[42, 42]],
    ),
    (chord((group(I42, I42),), i()), [42, 42]),
    (chord([i(2), i(4)], TSUM) | group(add(1), add(2)), [7, 8]),
    (chord([add(1, 1), add(2, 2)], TSUM) | chord([add(1), add(2)], TSUM), 15),
    (si("add", 1, 0) | group(add(1), add(1)) | group(TSUM, TSUM) | TSUM, 8),
    (
        si("add", 1, 0)
        | group(add(1), add(1))
        | group(TSUM, TSUM)
        | TSUM
        | add(1)
        | group(add(1), add(1))
        | TSUM,
        20,
    ),
    (
        chord([add(0, 1)], chord([TSUM, TSUM], chain(TSUM, group(add(8), add(16)), TSUM | add(32)))),
        60,
    ),
    (
        chain(
            i(1),
            chord([si("i", 2), chain(si("i", 3), chord([si("i", 4), si("i", 5)], si("i", 6)))], si("i", 7)),
        ),
        7,
    ),
    (group(chord([i(4), i(6)], TSUM), chord([i(3), i(7)], TSUM)), [10, 10]),
    (group((chord(I42, chain((i(),))),)), [[42]]),
    (
        group(chord([I42, chain(*[I42] * 42), group(*[I42] * 42), chord([I42] * 42, si("i", 1337))], i())),
        [[42, 42, *[42] * 42, 1337]],
    ),
    (chord([si("i", k) for k in range(1000)], TSUM), 499_500),
    (si("i", 1) | group(i() for _ in range(1000)) | TSUM, 1000),
]


@pytest.mark.parametrize(("canvas", "value"), CHAINS + GROUPS + CHORDS)
def test_a_canvas_gives_what_celery_documents(canvas, value):
    assert execute(canvas) == value
    assert meaning(canvas) == value


@pytest.mark.parametrize(
    ("canvas", "args", "kwargs", "value"),
    [
        (chain(add(4) | s("mul", 8)), (4,), {}, 64),
        (chain(add(), add(8), add(10)), (), {"x": 1, "y": 1}, 20),
        (chain(chord([i(), i()], i()), i()), (1,), {}, [1, 1]),
        (group(add(k) for k in range(4)) | ata(8), (4,), {"z": 1}, [13, 14, 15, 16]),
        (add(2) | group(add(k) for k in range(4)) | ata(8), (2,), {"z": 1}, [13, 14, 15, 16]),
        (si("add", 2, 2), (99,), {}, 4),
        (group(add(1), si("add", 5, 5)), (1,), {}, [2, 10]),
    ],
)
def test_arguments_of_a_call_reach_what_celery_says(canvas, args, kwargs, value):
    assert execute(canvas, *args, **kwargs) == value


def test_nine_chords_of_three_in_a_chain():
    def three(*last: Any) -> Canvas:
        return chord([add(1), add(2), add(3)], chain(TSUM, *last))

    canvas = chain(i(0), *[three() for _ in range(3)])
    assert execute(canvas) == ((0 * 3 + 6) * 3 + 6) * 3 + 6
    assert execute(canvas | canvas.clone().set(immutable=True)) == 78


def test_a_chain_as_a_header_is_one_member_and_not_a_parallel_one():
    assert execute(chord(chain(i(1), add(1), add(1)), i())) == [3]
