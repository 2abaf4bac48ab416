"""What a client knows of replaced tasks: each ends when all is known that its value is made of."""

from __future__ import annotations

from nbq.blocks import Alias
from nbq.core.facts import Became, Settled
from nbq.core.model import NONE, Graph, Many, NodeSpec, Slice, State
from nbq.replica import Replica


class Counting(Replica):
    """Counts how often it looks for what is missing."""

    looks = 0

    def _missing(self, tree: Slice | Many) -> int:
        self.looks += 1
        return super()._missing(tree)


def replica(size: int) -> Counting:
    graph = Graph([NodeSpec("work", bytes(16), size)], value=Slice(0, 0, 1))
    return Counting(bytes(16), graph, bytes(32), lambda block: b"")


def settled(node: int, lo: int, hi: int) -> Settled:
    return Settled(1, node, lo, hi, 5, b"", NONE, 0, "", 9.0, "engine", 0.1)


def became(index: int, node: int = 0) -> Became:
    return Became(1, node, index, index + 1, Slice(0, 0, 1), 9.0)


def test_many_replaced_tasks_are_not_looked_at_for_each_other() -> None:
    count = 500
    made = replica(count)
    aliases = [Alias(0, index, Slice(1 + index, 0, 1)) for index in range(count)]
    made.add([became(index) for index in range(count)], [], aliases)
    assert made.node(0).left == count
    for index in range(count):
        made.add([settled(1 + index, 0, 1)], [])
    assert (made.node(0).left, made.looks) == (0, 2 * count)


def test_a_value_of_parts_is_known_with_the_last_of_them_and_what_waits_for_it_too() -> None:
    made = replica(2)
    tree = Many([Slice(2, 0, 2), Many([Slice(3, 0, 1)])])
    made.add([became(0), became(1)], [], [Alias(0, 0, Slice(0, 1, 2)), Alias(0, 1, tree)])
    made.add([settled(3, 0, 1)], [])
    made.add([settled(2, 1, 2)], [])
    assert bytes(made.node(0).state) == bytes(2)
    made.add([settled(2, 0, 1)], [])
    assert bytes(made.node(0).state) == bytes([State.SUCCESS]) * 2
