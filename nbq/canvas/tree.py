"""Which result objects the value of a graph is made of. Works on plans and on graphs of the hub."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nbq.core.model import NONE, Item, Nested, Slice

__all__ = ["EMPTY", "Branch", "Empty", "Leaf", "Tree", "parent_of", "tree_of"]

EMPTY = "nbq.empty"
"""The builtin task that stands for a group without members: it returns ``[]``."""


class _NodeLike(Protocol):
    @property
    def task(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def after_node(self) -> int: ...
    @property
    def after_list(self) -> int: ...


class GraphLike(Protocol):
    """What a ``Plan`` and a ``core.model.Graph`` have in common."""

    @property
    def nodes(self) -> Sequence[_NodeLike]:
        """Its arrays."""
        ...

    @property
    def lists(self) -> list[list[Item]]:
        """The items of its lists."""
        ...

    @property
    def before(self) -> Mapping[int, Slice | Nested]:
        """By list: what its group followed, if anything."""
        ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """One element: an ``AsyncResult``."""

    node: int
    index: int


@dataclass(frozen=True, slots=True)
class Empty:
    """A group without members, which ends when element 0 of ``node`` ends."""

    node: int


@dataclass(frozen=True, slots=True)
class Branch:
    """A group of results: the items of list ``number``, made one by one when asked for.

    Args:
        number: The list.
        parts: Slices of nodes, groups and empty groups, in order.
        starts: The position of each part's first child, and at the end the number of children.
    """

    number: int
    parts: list[Slice | Branch | Empty]
    starts: list[int]

    def __len__(self) -> int:
        """Return how many children it has."""
        return self.starts[-1]

    def __getitem__(self, position: int) -> Tree:
        """Return the child at a position."""
        at = position + len(self) if position < 0 else position
        if not 0 <= at < len(self):
            raise IndexError(f"no child {position} of {len(self)}")
        place = bisect_right(self.starts, at) - 1
        part = self.parts[place]
        return Leaf(part.node, part.lo + at - self.starts[place]) if isinstance(part, Slice) else part

    def __iter__(self) -> Iterator[Tree]:
        """Yield its children in order."""
        for part in self.parts:
            if isinstance(part, Slice):
                for index in range(part.lo, part.hi):
                    yield Leaf(part.node, index)
            else:
                yield part


Tree = Leaf | Branch | Empty


def tree_of(graph: GraphLike, value: Slice | Nested) -> Tree:
    """Return the results that a value (a slice of one element, or a list) is made of."""
    if isinstance(value, Slice):
        return Empty(value.node) if graph.nodes[value.node].task == EMPTY else Leaf(value.node, value.lo)
    parts: list[Slice | Branch | Empty] = []
    starts = [0]
    for item in graph.lists[value.number]:
        if isinstance(item, Slice) and graph.nodes[item.node].task != EMPTY:
            parts.append(item)
            starts.append(starts[-1] + item.hi - item.lo)
            continue
        part = tree_of(graph, item)
        assert not isinstance(part, Leaf)
        parts.append(part)
        starts.append(starts[-1] + 1)
    return Branch(value.number, parts, starts)


def parent_of(graph: GraphLike, of: Slice | Nested) -> Slice | Nested | None:
    """Return what an element (a slice of one) or the group of a list followed, or None if it came first."""
    if isinstance(of, Nested):
        return graph.before.get(of.number)
    node = graph.nodes[of.node]
    if node.after_list != NONE:
        return Nested(node.after_list)
    if node.after_node == NONE:
        return None
    index = 0 if graph.nodes[node.after_node].size == 1 else of.lo
    return Slice(node.after_node, index, index + 1)
