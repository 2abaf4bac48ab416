"""Walks over results that follow each other: tuples, lists, graphs and all values of a canvas.

Nothing here recurses: a chain may have any length. It knows results only by what they say of themselves
(``parent``, ``_children``), and asks nothing of a hub but through them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from nbq.core.model import NONE, Graph, Nested, Slice
from nbq.errors import WaitTimeout

__all__ = [
    "Kinship", "ResultGraph", "as_list", "as_tuple", "build_graph", "collect", "get_leaf", "iterdeps",
]  # fmt: skip


class Kinship:
    """What follows what in the runs of one walk; each graph is read through once.

    Args:
        all_ends: Whether the walk will ask for the ends of all that it meets.
    """

    def __init__(self, all_ends: bool = False) -> None:
        self.all_ends = all_ends
        self._followers: dict[bytes, dict[tuple[int, int], list[int]]] = {}
        self._groups: dict[bytes, dict[int, int]] = {}

    def has(self, run: bytes) -> bool:
        """Return whether the walk has been in a run."""
        return run in self._followers

    def followers(self, run: bytes, graph: Graph, node: int = NONE, number: int = NONE) -> list[int]:
        """Return the nodes that follow a node, or a list."""
        found = self._followers.get(run)
        if found is None:
            found = self._followers[run] = {}
            for place, spec in enumerate(graph.nodes):
                found.setdefault((spec.after_node, spec.after_list), []).append(place)
        return found.get((node, number), [])

    def group(self, run: bytes, graph: Graph, node: int) -> int | None:
        """Return the list that a node belongs to if that group, as a whole, follows what the node follows."""
        found = self._groups.get(run)
        if found is None:
            found = self._groups[run] = {}
            for number, before in graph.before.items():
                for item in graph.lists[number]:
                    if isinstance(item, Slice) and _follows(graph, item.node, before):
                        found[item.node] = number
        return found.get(node)


def _follows(graph: Graph, node: int, before: Slice | Nested) -> bool:
    spec = graph.nodes[node]
    if isinstance(before, Slice):
        return spec.after_node == before.node
    return spec.after_list == before.number


def as_tuple(result: Any, before: Any = None) -> Any:
    """Return a result as tuples of ids: ``((id, parent), members)``, the parent likewise.

    The parents of a group's members are spelt out up to what the group itself follows (``before``).
    """
    found: Any = None
    for one in reversed(_line(result, before)):
        members = None if one._parts_of is None else [as_tuple(part, one.parent) for part in one._parts_of]
        found = (one.id, found), members
    return found


def as_list(result: Any) -> list[str]:
    """Return the ids of a result and of what it follows; a group gives those of its members."""
    found: list[str] = []
    for one in _line(result, None):
        pending = [one]
        while pending:
            part = pending.pop()
            if part._parts_of is None:
                found.append(part.id)
            else:
                pending.extend(reversed(part._parts_of))
    return found


def _line(result: Any, before: Any) -> list[Any]:
    """Return a result, its parent, the parent's, and so on, up to ``before``."""
    found = [result]
    result = result.parent
    while result is not None and result != before:
        found.append(result)
        result = result.parent
    return found


def iterdeps(result: Any, intermediate: bool) -> Iterator[tuple[Any, Any]]:
    """Yield each result that follows from one, once, with one that it follows (breadth first)."""
    return ((parent, one) for parent, one, fresh in _walk(result, intermediate) if fresh)


def _walk(result: Any, intermediate: bool) -> Iterator[tuple[Any, Any, bool]]:
    """Yield each pair of a result and one that follows it, and whether that is met for the first time."""
    kinship = Kinship(all_ends=True)
    seen: set[str] = {result.id}
    pending: deque[tuple[Any, Any]] = deque([(None, result)])
    while pending:
        parent, one = pending.popleft()
        yield parent, one, True
        if not one.ready():
            if intermediate:
                continue
            raise WaitTimeout(
                f"{one.id} has not ended, so what follows from it is not complete: wait for it, or pass "
                "intermediate=True"
            )
        for child in one._children(kinship):
            if child.id in seen:
                yield one, child, False
            else:
                seen.add(child.id)
                pending.append((one, child))


def collect(result: Any, intermediate: bool, options: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each result that follows from one, with its value."""
    for _, one in iterdeps(result, intermediate):
        yield one, one.get(**options)


def get_leaf(result: Any) -> Any:
    """Return the value of the last result that follows from one."""
    value = None
    for _, value in collect(result, False, {}):  # noqa: B007 - the last one is what is asked for
        pass
    return value


class ResultGraph:
    """Results, and which follows which.

    Attributes:
        nodes: The results, each once, in the order in which they were met.
        edges: Pairs of a result and one that follows it.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.edges: list[tuple[Any, Any]] = []

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz."""
        numbers = {one.id: number for number, one in enumerate(self.nodes)}
        lines = ["digraph results {"]
        lines += [f'  r{number} [label="{_escaped(one)}"];' for number, one in enumerate(self.nodes)]
        lines += [f"  r{numbers[parent.id]} -> r{numbers[child.id]};" for parent, child in self.edges]
        return "\n".join([*lines, "}"]) + "\n"

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self.nodes)

    def __repr__(self) -> str:
        """Show sizes."""
        return f"<graph of {len(self.nodes):,} results, {len(self.edges):,} edges>"


def _escaped(result: Any) -> str:
    label = f"{result._label()}\n{result.id}"
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def build_graph(result: Any, intermediate: bool) -> ResultGraph:
    """Return what follows from a result as a graph."""
    graph = ResultGraph()
    for parent, one, fresh in _walk(result, intermediate):
        if fresh:
            graph.nodes.append(one)
        if parent is not None:
            graph.edges.append((parent, one))
    return graph
