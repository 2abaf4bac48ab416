"""Results and parents: which elements a value is made of, and what each of them followed."""

import pytest

from nbq.canvas import Branch, Empty, Leaf, chain, chord, group, parent_of, plan, tree_of
from nbq.canvas.tree import Tree
from nbq.core.model import Nested, Slice
from tests.canvas.kit import graph_of, s


def flat(tree: Tree) -> object:
    """Return a tree as nested lists of its leaves."""
    return [flat(child) for child in tree] if isinstance(tree, Branch) else tree


def test_a_task_is_a_leaf():
    assert plan(s("a") | s("b")).tree == Leaf(1, 0)


def test_a_group_is_a_branch_of_its_members_in_order():
    tree = plan(group(s("a"), s("b"), s("a"))).tree
    assert tree == Branch(0, [Slice(0, 0, 1), Slice(1, 0, 1), Slice(0, 1, 2)], [0, 1, 2, 3])
    assert flat(tree) == [Leaf(0, 0), Leaf(1, 0), Leaf(0, 1)]


def test_nested_values_are_branches_in_branches():
    tree = plan(group(s("a"), chain(s("b"), group(s("c"), s("c"))), chain(s("d"), group()))).tree
    assert flat(tree) == [Leaf(0, 0), [Leaf(2, 0), Leaf(2, 1)], Empty(4)]


def test_an_empty_group_is_empty():
    assert plan(group()).tree == Empty(0)


def test_children_are_found_by_position_without_making_all():
    tree = plan(group(*[s("a") for _ in range(1000)], chain(s("b"), group(s("c"), s("c"))), s("a"))).tree
    assert isinstance(tree, Branch)
    assert len(tree) == 1002
    assert (tree[0], tree[999], tree[1001], tree[-1]) == (
        Leaf(0, 0),
        Leaf(0, 999),
        Leaf(0, 1000),
        Leaf(0, 1000),
    )
    assert flat(tree[1000]) == flat(tree[-2]) == [Leaf(2, 0), Leaf(2, 1)]
    assert [tree[position] for position in range(1002)] == list(tree)


@pytest.mark.parametrize("position", [3, -4])
def test_there_is_no_child_beyond_the_ends(position):
    tree = plan(group(s("a"), s("a"), s("a"))).tree
    assert isinstance(tree, Branch)
    with pytest.raises(IndexError) as error:
        tree[position]
    assert str(error.value) == f"no child {position} of 3"


def test_the_tree_of_a_graph_is_that_of_its_plan():
    planned = plan(group(s("a"), chain(s("b"), group(s("c"), s("c"))), chain(s("d"), group())))
    assert tree_of(graph_of(planned), planned.value) == planned.tree


def test_parents_lead_back_to_the_first_step():
    planned = plan(chain(s("a"), s("b"), group(s("c"), s("c")), s("d"), s("e")))
    steps: list[Slice | Nested | None] = [planned.value]
    while (last := steps[-1]) is not None:
        steps.append(planned.parent(last))
    assert steps == [
        Slice(4, 0, 1),
        Slice(3, 0, 1),
        Nested(0),
        Slice(1, 0, 1),
        Slice(0, 0, 1),
        None,
    ]


def test_the_parent_of_a_member_is_the_step_before_it():
    planned = plan(s("a") | group(s("b"), s("b")))
    assert [planned.parent(Slice(1, k, k + 1)) for k in range(2)] == [Slice(0, 0, 1)] * 2


def test_in_arrays_of_chains_each_element_has_its_own_parent():
    planned = plan(group(chain(s("a", k), s("b")) for k in range(3)))
    assert [parent_of(planned, Slice(1, k, k + 1)) for k in range(3)] == [
        Slice(0, k, k + 1) for k in range(3)
    ]
    assert parent_of(graph_of(planned), Slice(0, 1, 2)) is None


def test_a_chord_in_a_chord_has_its_parents():
    planned = plan(chord([chord([s("a")], s("b")), s("c")], s("d")))
    assert planned.parent(planned.value) == Nested(1)
    assert (planned.parent(Nested(1)), planned.parent(Nested(0))) == (None, None)
    assert planned.parent(Slice(1, 0, 1)) == Nested(0)
