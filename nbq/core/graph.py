"""Whether a graph that a client submits means anything; asked before it is accepted.

A graph that passes can be run to its end by ``runs`` and ``scheduler`` without any further check.
"""

from __future__ import annotations

import math

from nbq.core.model import NONE, BlockMeta, Graph, Item, Nested, NodeSpec, On, Slice

__all__ = ["UnfitGraph", "check_graph", "is_whole", "value_nodes"]


_NUMBERS = (
    "eta_s", "countdown_s", "expires_s", "expires_at_s", "cancel_grace_s", "time_limit_s",
    "soft_time_limit_s", "rate_limit",
)  # fmt: skip
_DEPTH_LIMIT = 100
"""How deep lists may be nested: values are built and read by recursion."""


class UnfitGraph(ValueError):
    """A graph cannot be run; the text names the node, list or block at fault."""


def check_graph(graph: Graph, blocks: list[BlockMeta]) -> None:
    """Check that a graph is well-formed and that its argument blocks cover it.

    Raises:
        UnfitGraph: Something of it is missing, doubled, out of range or in a circle.
    """
    if not graph.nodes:
        raise UnfitGraph("the graph has no nodes")
    for number, node in enumerate(graph.nodes):
        _check_node(graph, number, node)
    _check_lists(graph)
    _check_value(graph)
    _check_before(graph)
    _check_blocks(graph, blocks)


def _check_node(graph: Graph, number: int, node: NodeSpec) -> None:
    if node.after_node != NONE:
        if node.after_list != NONE:
            raise UnfitGraph(f"node {number} follows both a node and a list")
        if node.after_node >= number:
            raise UnfitGraph(f"node {number} follows node {node.after_node}, which is not before it")
        if graph.nodes[node.after_node].size not in (1, node.size):
            raise UnfitGraph(f"node {number} follows a node of another size")
    elif node.after_list != NONE:
        if node.after_list >= len(graph.lists):
            raise UnfitGraph(f"node {number} follows list {node.after_list}, which does not exist")
    elif node.fed or node.on != On.SUCCESS:
        raise UnfitGraph(f"node {number} is fed, or waits for an end, but follows nothing")
    _check_gate(graph, number, node)
    for name in _NUMBERS:
        value = getattr(node.options, name)
        if value is not None and not math.isfinite(value):
            raise UnfitGraph(f"node {number}: {name} is not a finite number")
    if any(index >= node.size for index in node.ids):
        raise UnfitGraph(f"node {number} gives an id to an element that it does not have")


def _check_gate(graph: Graph, number: int, node: NodeSpec) -> None:
    """Check the numbers that links, errbacks and members of headers have beside what they follow."""
    if NONE not in (node.given_node, node.given_list):
        raise UnfitGraph(f"node {number} is given both a node and a list")
    if node.given_node >= number or node.given_list >= len(graph.lists):
        raise UnfitGraph(f"node {number} is given what is not before it")
    if node.given_node != NONE and graph.nodes[node.given_node].size not in (1, node.size):
        raise UnfitGraph(f"node {number} is given a node of another size")
    if node.told >= len(graph.nodes) or node.header >= len(graph.lists):
        raise UnfitGraph(f"node {number} names a node or list that does not exist")


def _check_lists(graph: Graph) -> None:
    home_of_node = [NONE] * len(graph.nodes)
    home_of_list = [NONE] * len(graph.lists)
    slices: dict[int, list[Slice]] = {}
    depths: list[int] = []
    for number, items in enumerate(graph.lists):
        depth = 1
        for item in items:
            if isinstance(item, Nested):
                if item.number >= number:
                    raise UnfitGraph(f"list {number} holds list {item.number}, which is not before it")
                if home_of_list[item.number] != NONE:
                    raise UnfitGraph(f"list {item.number} is in two places")
                home_of_list[item.number] = number
                depth = max(depth, 1 + depths[item.number])
            else:
                _check_slice(graph, item)
                if home_of_node[item.node] not in (NONE, number):
                    raise UnfitGraph(f"node {item.node} is in two lists")
                home_of_node[item.node] = number
                slices.setdefault(item.node, []).append(item)
        if depth > _DEPTH_LIMIT:
            raise UnfitGraph(f"lists are nested more than {_DEPTH_LIMIT} deep")
        depths.append(depth)
    for node, parts in slices.items():
        at = 0
        for part in sorted(parts, key=lambda part: part.lo):
            if part.lo != at:
                raise UnfitGraph(f"the list of node {node} does not hold each element once")
            at = part.hi
        if at != graph.nodes[node].size:
            raise UnfitGraph(f"the list of node {node} does not hold each element once")
    _check_order(graph)


def _check_order(graph: Graph) -> None:
    """A node that follows a list must be numbered after every node in that list."""
    last: list[int] = []
    for items in graph.lists:
        last.append(max((_last_node(item, last) for item in items), default=NONE))
    for number, node in enumerate(graph.nodes):
        if node.after_list != NONE and last[node.after_list] >= number:
            raise UnfitGraph(f"node {number} follows a list that holds a node not before it")
        if node.given_list != NONE and last[node.given_list] >= number:
            raise UnfitGraph(f"node {number} is given a list that holds a node not before it")
    if any(not items for items in graph.lists):
        raise UnfitGraph("a list is empty")


def _last_node(item: Item, last: list[int]) -> int:
    return last[item.number] if isinstance(item, Nested) else item.node


def _check_slice(graph: Graph, part: Slice) -> None:
    if part.node >= len(graph.nodes) or not part.lo < part.hi <= graph.nodes[part.node].size:
        raise UnfitGraph(f"no such slice: node {part.node}, {part.lo} to {part.hi}")


def _check_value(graph: Graph) -> None:
    value = graph.value
    if graph.each:
        node = graph.nodes[0]
        if len(graph.nodes) > 1 or graph.lists or value or node.after_node != NONE:
            raise UnfitGraph("a batch of separate calls is one node and nothing else")
    elif value is None:
        raise UnfitGraph("the graph has no value")
    elif isinstance(value, Nested):
        if value.number >= len(graph.lists):
            raise UnfitGraph(f"the value is list {value.number}, which does not exist")
    else:
        _check_slice(graph, value)
        if value.hi - value.lo != 1:
            raise UnfitGraph("the value is a slice of more than one element")


def _check_before(graph: Graph) -> None:
    for number, item in graph.before.items():
        if number >= len(graph.lists):
            raise UnfitGraph(f"it says what list {number} follows, which does not exist")
        if isinstance(item, Slice):
            _check_slice(graph, item)
        elif item.number >= len(graph.lists):
            raise UnfitGraph(f"list {number} follows list {item.number}, which does not exist")


def _check_blocks(graph: Graph, blocks: list[BlockMeta]) -> None:
    reached = [0] * len(graph.nodes)
    for block in blocks:
        if block.node >= len(graph.nodes):
            raise UnfitGraph(f"a block of arguments is for node {block.node}, which does not exist")
        if block.lo != reached[block.node]:
            raise UnfitGraph(f"the argument blocks of node {block.node} are not in order")
        reached[block.node] += block.n
    for number, node in enumerate(graph.nodes):
        wanted = 1 if node.shared else node.size
        if reached[number] != wanted:
            raise UnfitGraph(f"node {number} has {reached[number]} argument sets, not {wanted}")


def is_whole(graph: Graph) -> bool:
    """Return whether the value of a graph can become an item of another's list: it is no part of anything."""
    value = graph.value
    if isinstance(value, Slice) and graph.nodes[value.node].size != 1:
        return False
    return all(item != value for items in graph.lists for item in items)


def value_nodes(graph: Graph) -> list[int]:
    """Return the nodes whose elements make up the value of a graph."""
    if graph.value is None:
        return [0]
    found: set[int] = set()
    pending: list[Item] = [graph.value]
    while pending:
        item = pending.pop()
        if isinstance(item, Slice):
            found.add(item.node)
        else:
            pending.extend(graph.lists[item.number])
    return sorted(found)
