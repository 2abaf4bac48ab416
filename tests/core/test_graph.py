"""check_graph: what cannot be run is refused before it is accepted, with a text that names the fault."""

import math

import pytest

from nbq.core.graph import UnfitGraph, check_graph, value_nodes
from nbq.core.model import BlockMeta, Graph, Nested, NodeSpec, Options, Slice
from tests.core.harness import blocks_of, node

ONE = Slice(0, 0, 1)


def refused(graph: Graph, blocks: list[BlockMeta] | None = None) -> str:
    """Return the text with which a graph is refused."""
    with pytest.raises(UnfitGraph) as error:
        check_graph(graph, blocks_of(graph) if blocks is None else blocks)
    return str(error.value)


def fits(graph: Graph, most: int = 256) -> bool:
    check_graph(graph, blocks_of(graph, most))
    return True


def test_what_can_be_run_passes():
    assert fits(Graph([node()], value=ONE))
    assert fits(Graph([node(size=1000)], value=Slice(0, 999, 1000)), most=7)
    assert fits(Graph([node(size=1000, shared=True)], [[Slice(0, 0, 1000)]], Nested(0)))
    assert fits(Graph([node(size=3, ids={2: "mine"})], each=True))
    chord = [node("a", 3), node("b", 3, after_node=0, fed=True), node("c", after_list=0, fed=True)]
    assert fits(Graph(chord, [[Slice(1, 0, 3)]], Slice(2, 0, 1)))
    nested = [[Slice(0, 0, 1), Slice(0, 1, 2)], [Nested(0), Slice(1, 0, 1)]]
    assert fits(Graph([node(size=2), node()], nested, Nested(1)))


def test_the_items_of_a_list_may_stand_in_any_order():
    graph = Graph([node(size=3), node()], [[Slice(0, 1, 3), Slice(1, 0, 1), Slice(0, 0, 1)]], Nested(0))
    assert fits(graph)


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (Graph([], value=ONE), "the graph has no nodes"),
        (
            Graph([node(), node(), node(after_node=1, after_list=0)], [[ONE]], ONE),
            "node 2 follows both a node and a list",
        ),
        (Graph([node(after_node=0)], value=ONE), "node 0 follows node 0, which is not before it"),
        (Graph([node(after_node=1), node()], value=ONE), "node 0 follows node 1, which is not before it"),
        (
            Graph([node(size=2), node(size=3, after_node=0)], value=ONE),
            "node 1 follows a node of another size",
        ),
        (Graph([node(size=2), node(after_node=0)], value=ONE), "node 1 follows a node of another size"),
        (Graph([node(), node(after_list=0)], value=ONE), "node 1 follows list 0, which does not exist"),
        (Graph([node(fed=True)], value=ONE), "node 0 is fed, or waits for an end, but follows nothing"),
        (
            Graph([node(size=2, ids={2: "x"})], value=ONE),
            "node 0 gives an id to an element that it does not have",
        ),
    ],
)
def test_a_node_that_does_not_fit(graph, text):
    assert refused(graph) == text


@pytest.mark.parametrize("name", ["eta_s", "countdown_s", "expires_s", "expires_at_s", "cancel_grace_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_time(name, value):
    spec = NodeSpec("work", bytes(16), options=Options(**{name: value}))
    assert refused(Graph([spec], value=ONE)) == f"node 0: {name} is not a finite number"


@pytest.mark.parametrize(
    ("sizes", "lists", "text"),
    [
        ((1,), [[Nested(0)]], "list 0 holds list 0, which is not before it"),
        ((1,), [[Nested(1)], [ONE]], "list 0 holds list 1, which is not before it"),
        ((1,), [[ONE], [Nested(0), Nested(0)]], "list 0 is in two places"),
        ((1,), [[ONE], [Nested(0)], [Nested(0)]], "list 0 is in two places"),
        ((1,), [[ONE], [ONE]], "node 0 is in two lists"),
        ((2,), [[Slice(0, 0, 1)], [Slice(0, 1, 2)]], "node 0 is in two lists"),
        ((1,), [[Slice(1, 0, 1)]], "no such slice: node 1, 0 to 1"),
        ((1,), [[Slice(0, 0, 2)]], "no such slice: node 0, 0 to 2"),
        ((1,), [[Slice(0, 0, 0)]], "no such slice: node 0, 0 to 0"),
        ((2,), [[Slice(0, 0, 1)]], "the list of node 0 does not hold each element once"),
        ((2,), [[Slice(0, 1, 2)]], "the list of node 0 does not hold each element once"),
        ((2,), [[Slice(0, 0, 2), Slice(0, 1, 2)]], "the list of node 0 does not hold each element once"),
        ((3,), [[Slice(0, 0, 1), Slice(0, 2, 3)]], "the list of node 0 does not hold each element once"),
        ((1,), [[]], "a list is empty"),
        ((1,), [[], [Nested(0), ONE]], "a list is empty"),
    ],
)
def test_a_list_that_does_not_fit(sizes, lists, text):
    assert refused(Graph([node(size=size) for size in sizes], lists, ONE)) == text


@pytest.mark.parametrize(
    "lists", [[[Slice(1, 0, 1)]], [[Slice(2, 0, 1)]], [[Slice(0, 0, 1), Slice(2, 0, 1)]]]
)
def test_a_node_follows_no_list_that_waits_for_it(lists):
    graph = Graph([node(), node(after_list=0), node(after_node=1)], lists, ONE)
    assert refused(graph) == "node 1 follows a list that holds a node not before it"


def test_a_circle_through_a_nested_list_is_found():
    graph = Graph([node(), node(after_list=1)], [[Slice(1, 0, 1)], [Slice(0, 0, 1), Nested(0)]], ONE)
    assert refused(graph) == "node 1 follows a list that holds a node not before it"


def nest(depth: int) -> Graph:
    lists: list = [[ONE]]
    lists += [[Nested(number)] for number in range(depth - 1)]
    return Graph([node()], lists, Nested(depth - 1))


def test_lists_may_be_nested_a_hundred_deep():
    assert fits(nest(100))
    assert refused(nest(101)) == "lists are nested more than 100 deep"


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (Graph([node()]), "the graph has no value"),
        (Graph([node()], value=Nested(0)), "the value is list 0, which does not exist"),
        (Graph([node()], value=Slice(1, 0, 1)), "no such slice: node 1, 0 to 1"),
        (Graph([node(size=2)], value=Slice(0, 0, 2)), "the value is a slice of more than one element"),
        (Graph([node(), node()], each=True), "a batch of separate calls is one node and nothing else"),
        (Graph([node()], [[ONE]], each=True), "a batch of separate calls is one node and nothing else"),
        (Graph([node()], value=ONE, each=True), "a batch of separate calls is one node and nothing else"),
    ],
)
def test_a_value_that_does_not_fit(graph, text):
    assert refused(graph) == text


@pytest.mark.parametrize(
    ("spec", "blocks", "text"),
    [
        (node(), [BlockMeta(1, 0, 1, 9)], "a block of arguments is for node 1, which does not exist"),
        (node(), [], "node 0 has 0 argument sets, not 1"),
        (node(size=3), [BlockMeta(0, 0, 2, 9)], "node 0 has 2 argument sets, not 3"),
        (node(size=3), [BlockMeta(0, 0, 4, 9)], "node 0 has 4 argument sets, not 3"),
        (node(size=3, shared=True), [BlockMeta(0, 0, 3, 9)], "node 0 has 3 argument sets, not 1"),
        (
            node(size=3),
            [BlockMeta(0, 1, 2, 9), BlockMeta(0, 0, 1, 9)],
            "the argument blocks of node 0 are not in order",
        ),
        (
            node(size=3),
            [BlockMeta(0, 0, 2, 9), BlockMeta(0, 1, 2, 9)],
            "the argument blocks of node 0 are not in order",
        ),
    ],
)
def test_blocks_that_do_not_cover_the_arguments(spec, blocks, text):
    assert refused(Graph([spec], value=ONE), blocks) == text


def test_the_nodes_of_a_value_are_those_in_its_lists():
    nested = [[Slice(1, 0, 2)], [Slice(2, 0, 1), Nested(0)]]
    specs = [node(), node(size=2, after_node=0), node()]
    assert value_nodes(Graph(specs, nested, Nested(1))) == [1, 2]
    assert value_nodes(Graph(specs, nested, Slice(0, 0, 1))) == [0]
    assert value_nodes(Graph([node(size=2)], each=True)) == [0]
