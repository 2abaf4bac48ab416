"""Points 26 to 54 of the canvas: groups and chords."""

from typing import Any

import pytest

from nbq.canvas import EMPTY, Branch, Canvas, Empty, chain, chord, group, plan
from nbq.canvas.signature import _Hooks
from nbq.core.model import Nested, Slice
from tests.conformance.canvas.tasks import (
    ExpectedError,
    add,
    become,
    count,
    each_plus,
    fail,
    i,
    log,
    note,
    told_id,
    tsum,
    xsum,
)

I42 = i.si(42)
SUM = tsum.s()


def test_point_26_the_order_is_that_of_the_definition(run):
    assert run(group(i.s(k) for k in range(1000))).get() == list(range(1000))


def test_point_27_nested_groups_are_one(run):
    inner = group(add.si(1, 100), group(add.si(1, 1000), add.si(1, 2000)))
    assert run(group(add.si(1, 10), inner)).get() == [11, 101, 1001, 2001]
    assert run(group(group(I42, I42))).get() == [42, 42]


def test_point_28_a_chain_that_ends_in_a_group_stays_nested(run):
    assert run(group(i.s(1), i.s(2), chain(i.s(5), group(i.si(3), i.si(4))))).get() == [1, 2, [3, 4]]


def test_point_29_a_group_of_one_chain_that_ends_in_a_group_is_that_group(run):
    assert run(group(add.s(1, 2) | group(add.s(1), add.s(2)))).get() == [4, 5]


def test_point_30_groups_at_any_place_of_a_chain(run):
    assert run(chain(group(I42, I42))).get() == [42, 42]
    assert run(chain(I42, group(i.s(), i.s()), i.s())).get() == [42, 42]
    assert run(chain(I42, group(i.s(), i.s()))).get() == [42, 42]


def test_point_31_an_empty_group(run):
    assert run(group([])).get() == []
    assert plan(group([])).tree == Empty(0)


def test_point_32_the_link_of_a_group_gets_the_list_once_and_its_errback_every_failure(run):
    canvas = group(i.s(k) for k in range(3))
    canvas.link(note.s())
    assert (run(canvas).get(), log) == ([0, 1, 2], [("note", [0, 1, 2])])
    log.clear()
    ran = run(group([I42] * 24 + [fail.s()] * 42), link=note.s(), link_error=told_id.s())
    assert (ran.state, len(log)) == ("FAILURE", 42)
    assert {name for name, _ in log} == {"told_id"}
    assert len({task_id for _, task_id in log}) == 42


def test_point_33_failures_stand_in_their_places_and_the_first_is_raised(run):
    ran = run(group(add.s(1, 1), fail.s("boom")))
    with pytest.raises(ExpectedError, match="boom"):
        ran.get()
    assert ran.values == [2, ExpectedError("boom")]
    assert ran.states == ["SUCCESS", "FAILURE"]


def test_point_34_a_group_of_one_is_its_member_in_a_chain_and_a_header_before_a_bar(run):
    assert run(chain(group(i.s(7)), add.s(1))).get() == 8
    assert run(i.s(7) | group(add.s(1)) | add.s(1)).get() == 9
    assert run(group([i.s(7)]) | count.s()).get() == 1


def test_point_35_groups_after_groups_run_each_task_once(run):
    def g(*numbers: int) -> Canvas:
        return group(note.si(k) for k in numbers)

    assert run(chain(g(1, 2, 3), g(4, 5, 6), g(7), g(8), note.si(9), note.si("Done"))).get() == "Done"
    assert log == [("note", k) for k in [*range(1, 10), "Done"]]
    log.clear()
    assert run(g(1, 2) | g(3, 4) | g(5, 6, 7, 8, 9) | note.si("Done")).get() == "Done"
    assert log == [("note", k) for k in [*range(1, 10), "Done"]]


def test_point_36_a_group_is_one_result_however_it_is_nested():
    assert plan(group(i.s(1), i.s(2))).tree == Branch(0, [Slice(0, 0, 2)], [0, 2])
    tree = plan(group(i.s(1), chain(i.s(2), group(i.s(), i.s())))).tree
    assert isinstance(tree, Branch)
    assert len(tree) == 2


def test_point_37_an_empty_group_after_a_group_is_nothing(run):
    two = group(i.s(1), i.s(2))
    assert run(chain(two, group([]), group([]))).get() == [1, 2]
    assert run(chord([i.s(1), i.s(2)], group([]))).get() == [1, 2]
    assert run(chain(i.s(1), group([]), i.s())).get() == []


@pytest.mark.parametrize(
    "canvas",
    [
        chord((i.s(k) for k in range(5)), xsum.s()),
        chord([i.s(k) for k in range(5)], xsum.s()),
        group(i.s(k) for k in range(5)) | xsum.s(),
        chain(group(i.s(k) for k in range(5)), xsum.s()),
    ],
)
def test_point_38_the_forms_of_a_chord_are_equal(run, canvas):
    assert run(canvas).get() == 10
    assert [node.size for node in plan(canvas).nodes] == [5, 1]


def test_point_38_the_body_may_be_given_later(monkeypatch):
    plans: list[Any] = []
    monkeypatch.setattr(_Hooks, "submit", plans.append)
    chord([i.s(1), i.s(2)])(xsum.s())
    assert [node.size for node in plans[0].nodes] == [2, 1]


def test_point_39_the_body_gets_values_in_order(run):
    assert run(chord((i.si(k) for k in range(10)), i.s())).get() == list(range(10))


def test_point_40_the_body_of_an_empty_header_gets_an_empty_list(run):
    assert run(chord([], each_plus.s(9))).get() == []
    assert run(group([]) | each_plus.s(9)).get() == []


def test_point_41_a_header_of_one(run):
    assert run(chord([add.s(2, 5)], each_plus.s(9))).get() == [16]
    assert run(chord(become.s(I42.to_dict()), i.s())).get() == [42]


def test_point_42_chords_in_chords(run):
    inner = chord([add.s(1, 2), add.s(3, 4)], add.s([5])), chord([add.s(6, 7)], add.s([10]))
    assert run(chord(list(inner), each_plus.s(["A"]))).get() == [[3, 7, 5, "A"], [13, 10, "A"]]
    deep: Canvas = chord([I42, I42], i.s())
    for _ in range(3):
        deep = chord([deep, I42], i.s())
    assert run(deep).get() == [[[[42, 42], 42], 42], 42]


def test_point_43_what_counts_as_one_member(run):
    header = [I42, chain(*[I42] * 42), group(*[I42] * 42), chord([I42] * 42, i.si(1337))]
    assert run(group(chord(header, i.s()))).get() == [[42, 42, *[42] * 42, 1337]]


def test_point_44_groups_within_a_header(run):
    assert run(chord(group(chain(I42, group(i.s(), i.s()))), i.s())).get() == [[42, 42]]
    assert run(chord((group(I42, I42),), i.s())).get() == [42, 42]


def test_point_45_a_chain_as_a_header_is_one_member_of_steps_in_order(run):
    assert run(chord(chain(i.s(1), add.s(1), add.s(1)), i.s())).get() == [3]
    assert run(chord([chain(i.s(1), add.s(1), add.s(1))], i.s())).get() == [3]


def test_point_46_what_follows_a_chord(run):
    six = chord([i.s(2), i.s(4)], SUM)
    assert run(six | add.s(1)).get() == 7
    assert run(six | group(add.s(1))).get() == 7
    assert run(six | group(add.s(1), add.s(2))).get() == [7, 8]
    two = chord([add.s(1, 1), add.s(2, 2)], SUM)
    assert run(two | chord([add.s(1), add.s(2)], SUM)).get() == 15


def test_point_47_chains_of_chords_stay_flat(run):
    def three() -> Canvas:
        return chain(chord([add.s(1), add.s(2), add.s(3)], SUM) for _ in range(3))

    canvas = i.s(0) | three() | three() | three()
    value = 0
    for _ in range(9):
        value = 3 * value + 6
    assert run(canvas).get() == value == 59_046
    planned = plan(canvas)
    assert (len(planned.nodes), len(planned.lists)) == (19, 9)


def test_point_48_groups_after_groups_each_get_the_whole_list(run):
    first = add.si(1, 0) | group(add.s(1), add.s(1)) | group(SUM, SUM) | SUM
    assert run(first).get() == 8
    second = add.si(1, 0) | group(add.s(1), add.s(1)) | SUM | add.s(1) | group(add.s(1), add.s(1)) | SUM
    assert run(second).get() == 12


def test_point_49_a_group_in_the_centre_of_everything(run):
    one = chain(SUM, group(add.s(8), add.s(16)), SUM | add.s(32))
    assert run(chord([add.s(0, 1)], chord([SUM, SUM], one))).get() == 60


def test_point_50_chords_and_chains_in_each_other(run):
    inner = chord([i.si(4), i.si(5)], i.si(6))
    assert run(chain(i.s(1), chord([i.si(2), chain(i.si(3), inner)], i.si(7)))).get() == 7
    assert run(group(chord([i.s(4), i.s(6)], SUM), chord([i.s(3), i.s(7)], SUM))).get() == [10, 10]
    assert run(group((chord(I42, chain((i.s(),))),))).get() == [[42]]


def test_point_51_arguments_of_a_call_reach_what_starts_first(run):
    assert run(chain(chord([i.s(), i.s()], i.s()), i.s()), (1,)).get() == [1, 1]
    header = group(add.s(k) for k in range(4))
    assert run(header | each_plus.s(8), (4,), {"z": 1}).get() == [13, 14, 15, 16]
    assert run(add.s(2) | header | each_plus.s(8), (2,), {"z": 1}).get() == [13, 14, 15, 16]


def test_point_52_large_headers_and_generators(run):
    assert run(chord([i.si(k) for k in range(1000)], SUM)).get() == 499_500
    assert run(i.si(1) | group(i.s() for _ in range(1000)) | SUM).get() == 1000
    taken: list[int] = []
    canvas = group(taken.append(k) or i.s(k) for k in range(3))
    assert taken == [0, 1, 2]
    assert run(canvas).get() == [0, 1, 2]


def test_point_53_parents_lead_back_through_groups():
    planned = plan(chain(i.s(1), i.s(), group(i.s(), i.s()), tsum.s(), i.s()))
    found: list[Slice | Nested | None] = [planned.value]
    while found[-1] is not None:
        found.append(planned.parent(found[-1]))
    assert found == [
        Slice(4, 0, 1), Slice(3, 0, 1), Nested(0), Slice(1, 0, 1), Slice(0, 0, 1), None,
    ]  # fmt: skip
    assert [planned.parent(Slice(2, k, k + 1)) for k in range(2)] == [Slice(1, 0, 1)] * 2
    fans = plan(chain(group(i.s(1), i.s(2)), group(i.s(), i.s(), i.s())))
    assert fans.parent(Nested(1)) == Nested(0)


def test_point_54_a_member_that_ends_in_order_counts(run):
    caught = chord([i.s(1).set(soft_time_limit=1, time_limit=2), i.s(2)], SUM)
    assert run(caught).get() == 3
    assert [node.options.soft_time_limit_s for node in plan(caught).nodes] == [1.0, None, None]
    assert plan(chord([], SUM)).nodes[0].task == EMPTY
