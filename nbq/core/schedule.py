"""A schedule while it lives: what it is, how far it has come, and its runs that have not ended.

Changed by facts alone (``ledger``). Decides nothing.
"""

from __future__ import annotations

from nbq.core.facts import ScheduleSet
from nbq.core.model import BlockMeta, Graph
from nbq.core.timing import ScheduleSpec, ScheduleState

__all__ = ["Schedule"]


class Schedule:
    """One schedule, numbered like a run."""

    __slots__ = ("at_s", "blocks", "functions", "graph", "id", "name", "number", "owner", "spec", "state")

    def __init__(self, fact: ScheduleSet, state: ScheduleState) -> None:
        self.number = fact.run
        self.name = fact.name
        self.id = fact.id
        self.owner = fact.owner
        self.at_s = fact.at_s
        self.spec: ScheduleSpec = fact.spec
        self.graph: Graph = fact.graph
        self.blocks: list[BlockMeta] = fact.blocks
        self.state = state
        self.functions = tuple(dict.fromkeys(node.function for node in fact.graph.nodes))
        """The functions that its nodes name."""

    def blobs(self) -> list[str]:
        """Return the names of the blobs that hold its arguments."""
        return [block.blob for block in self.blocks if block.blob]

    def size(self) -> int:
        """Return how many elements each of its runs has."""
        return sum(node.size for node in self.graph.nodes)
