"""Random canvases, their links, errbacks, retries, replacements and additions: a cluster does what is meant.

``python -m tests.local.canvases`` tries more of them.
"""

from __future__ import annotations

import pytest

from nbq.canvas import Canvas, chain, chord, group, signature
from nbq.testing import ClusterUnderTest
from tests.conformance.canvas.tasks import ExpectedError, fail, show
from tests.local.canvases import check, check_shaken
from tests.local.judge import AnyOrder, Grown, Judge, plain
from tests.local.work import add_members, mark

CALM = 300
SHAKEN = 100
STEP = 50


@pytest.mark.parametrize("first", range(0, CALM, STEP))
def test_a_cluster_and_the_judge_agree(nbq_cluster: ClusterUnderTest, first: int) -> None:
    for seed in range(first, first + STEP):
        check(nbq_cluster, seed)


@pytest.mark.parametrize("first", range(0, SHAKEN, STEP))
def test_what_is_lost_changes_nothing(first: int) -> None:
    for seed in range(first, first + STEP):
        check_shaken(seed)


def _hung(canvas: Canvas) -> Canvas:
    canvas.link(mark.si("link"))
    canvas.link_error(mark.si("errback"))
    return canvas


@pytest.mark.parametrize(
    ("canvas", "told", "states"),
    [
        (show.s(1), {"link": 1}, {"SUCCESS": 2}),
        (fail.s(1), {"errback": 1}, {"FAILURE": 1, "SUCCESS": 1}),
        (chain(fail.s(1), show.s(), show.s()), {"errback": 1}, {"FAILURE": 3, "SUCCESS": 1}),
        (group(fail.s(1), fail.s(2), show.s()), {"errback": 2}, {"FAILURE": 2, "SUCCESS": 3}),
        (chord([fail.s(1), fail.s(2)], show.s()), {"errback": 1}, {"FAILURE": 3, "SUCCESS": 1}),
        (chord([fail.s(1)], show.s(), propagate=False), {"link": 1}, {"FAILURE": 1, "SUCCESS": 2}),
        (chord([show.s(1)], group(fail.si(1), fail.si(2))), {"errback": 2}, {"FAILURE": 2, "SUCCESS": 3}),
    ],
)
def test_the_judge_counts_as_the_guide_says(canvas: Canvas, told: object, states: object) -> None:
    judge = Judge()
    judge.evaluate(_hung(signature(canvas.to_dict())))
    assert (judge.told, judge.states) == (told, states)


def test_the_judge_adds_members_to_headers_only() -> None:
    adds = add_members.si([show.s(1).to_dict(), fail.s(2).to_dict()])
    header = Judge().evaluate(chord([adds, show.s(0)], show.s(), propagate=False)).value
    assert header == [[[1, [[0], {}], [[1], {}], ExpectedError(2)]], {}]
    assert Judge().evaluate(group(adds)).value == [1]
    assert Judge().evaluate(chord([adds], group())).value == [1]


def test_what_was_added_may_come_in_any_order() -> None:
    grown = Grown([1, 2, 3])
    grown.sure = 1
    assert plain(grown) == AnyOrder([1, 2, 3], 1) == [1, 3, 2]
    assert [plain(grown) == other for other in ([1, 2, 3], [2, 1, 3], [1, 3, 3], [1, 2])] == [
        True, False, False, False,
    ]  # fmt: skip
