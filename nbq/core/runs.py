"""A run while it lives: flat states, counters of lists, and the log of how elements ended.

Everything durable about a run is changed here, by facts. Nothing here decides: a counter reaching
zero or a list turning bad is returned to the scheduler, which then decides what follows.

States are one byte an element and are searched with the C methods of bytes, never element by
element (design, section 5).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from nbq.core.facts import Accepted, End, Ended, Inherited, Settled
from nbq.core.model import NONE, BlockMeta, Graph, Many, Nested, NodeSpec, Slice, State

__all__ = ["Cause", "Lease", "Node", "Run", "spans", "states_of"]

Cause = tuple[int, int, State]
"""The element (node, index) that first failed, and how it ended."""

_WINDOW = 1024
_SUCCESS = bytes([State.SUCCESS])


def spans(state: bytearray | bytes, lo: int, hi: int, value: int) -> Iterator[tuple[int, int]]:
    """Yield the maximal ranges of ``state[lo:hi]`` whose elements all equal ``value``."""
    one = bytes([value])
    at = state.find(one, lo, hi)
    while at >= 0:
        end = at
        while end < hi:
            window = state[end : min(end + _WINDOW, hi)]
            same = len(window) - len(window.lstrip(one))
            end += same
            if same < len(window):
                break
        yield at, end
        at = state.find(one, end, hi)


def states_of(fact: End) -> bytes:
    """Return the terminal states that a fact gives to its elements, one byte each."""
    if isinstance(fact, Settled):
        return fact.states or _SUCCESS * (fact.hi - fact.lo)
    return bytes([fact.state]) * (fact.hi - fact.lo)


class Lease:
    """Elements granted to an engine; bit i of ``open`` is set while element lo + i has not ended."""

    __slots__ = ("at_s", "cost_s", "engine", "hi", "lo", "node", "open", "run", "token")

    def __init__(self, run: Run, node: int, lo: int, hi: int, token: int, engine: bytes) -> None:
        self.run = run
        self.node = node
        self.lo = lo
        self.hi = hi
        self.token = token
        self.engine = engine
        self.open = (1 << (hi - lo)) - 1
        self.at_s = 0.0
        self.cost_s = 0.0

    def ranges(self, lo: int, hi: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of elements between lo and hi that are still open."""
        at = max(lo, self.lo)
        hi = min(hi, self.hi)
        while at < hi:
            if not self.open >> (at - self.lo) & 1:
                at += 1
                continue
            end = at + 1
            while end < hi and self.open >> (end - self.lo) & 1:
                end += 1
            yield at, end
            at = end

    def closed(self) -> list[tuple[int, int]]:
        """Return the ranges that have ended while the engine may not know."""
        found: list[tuple[int, int]] = []
        at = self.lo
        for lo, hi in [*self.ranges(self.lo, self.hi), (self.hi, self.hi)]:
            if at < lo:
                found.append((at, lo))
            at = hi
        return found

    def covers(self, lo: int, hi: int) -> bool:
        """Return whether every element of a range is open under this lease."""
        if not self.lo <= lo < hi <= self.hi:
            return False
        mask = ((1 << (hi - lo)) - 1) << (lo - self.lo)
        return self.open & mask == mask

    def close(self, lo: int, hi: int) -> int:
        """Close elements and return how many of them were open."""
        lo = max(lo, self.lo)
        hi = min(hi, self.hi)
        if lo >= hi:
            return 0
        mask = ((1 << (hi - lo)) - 1) << (lo - self.lo)
        closed = (self.open & mask).bit_count()
        self.open &= ~mask
        return closed


class Node:
    """One array of a run."""

    __slots__ = (
        "_index", "args", "consumers", "deaths", "ended_s", "ends", "home", "left", "losses",
        "number", "spec", "state",
    )  # fmt: skip

    def __init__(self, number: int, spec: NodeSpec) -> None:
        self.number = number
        self.spec = spec
        self.state = bytearray(spec.size)
        self.left = spec.size
        self.ends: list[End] = []
        self.args: list[tuple[int, int]] = []
        """First element and number of each argument block, in order."""
        self.consumers: list[int] = []
        self.home = NONE
        self.ended_s = 0.0
        self.deaths: dict[int, int] = {}
        """How often a slot died while it ran an element."""
        self.losses: dict[int, int] = {}
        """How often a lease of an element came to nothing."""
        self._index: list[tuple[int, int]] = []

    def covering(self, lo: int, hi: int) -> Iterator[End]:
        """Yield the ends of elements in a range, by element; elements that live on have none."""
        for position in range(len(self._index), len(self.ends)):
            insort(self._index, (self.ends[position].lo, position))
        at = bisect_right(self._index, (lo, len(self.ends))) - 1
        for _, position in self._index[max(at, 0) :]:
            fact = self.ends[position]
            if fact.lo >= hi:
                return
            if fact.hi > lo:
                yield fact

    def args_block(self, index: int) -> tuple[int, int, int]:
        """Return number, first and end element of the argument block that holds an element."""
        if self.spec.shared:
            return self.args[0][1], 0, self.spec.size
        at = bisect_right(self.args, (index, 1 << 62)) - 1
        end = self.args[at + 1][0] if at + 1 < len(self.args) else self.spec.size
        return self.args[at][1], self.args[at][0], end

    def started(self, index: int) -> int:
        """Return the number of the attempt that an element is at, counted from 1."""
        return 1 + self.losses.get(index, 0)


class List:
    """One list of a run: ``left`` counts the members that have not ended, each once."""

    __slots__ = ("cause", "consumers", "ended_s", "home", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.cause: Cause | None = None
        self.consumers: list[int] = []
        self.home = NONE
        self.ended_s = 0.0


class Run:
    """One submitted canvas, numbered by the hub in the order of acceptance."""

    __slots__ = (
        "at_s", "bad", "blocks", "finished_s", "graph", "id", "leases", "left", "lists", "next_block",
        "nodes", "number", "owner", "size", "weight",
    )  # fmt: skip

    def __init__(self, fact: Accepted) -> None:
        self.number = fact.run
        self.id = fact.id
        self.owner = fact.owner
        self.at_s = fact.at_s
        self.graph: Graph = fact.graph
        self.blocks: list[BlockMeta] = fact.blocks
        self.next_block = len(fact.blocks)
        self.nodes = [Node(number, spec) for number, spec in enumerate(fact.graph.nodes)]
        self.lists = [
            List(sum(1 if isinstance(item, Nested) else item.hi - item.lo for item in items))
            for items in fact.graph.lists
        ]
        self.size = sum(node.spec.size for node in self.nodes)
        self.left = self.size
        self.bad = 0
        """Elements that ended without success."""
        self.finished_s: float | None = None
        self.leases: dict[int, Lease] = {}
        self.weight = sum(block.size for block in fact.blocks)
        """Bytes of its blocks."""
        self._connect()

    def _connect(self) -> None:
        for number, block in enumerate(self.blocks):
            self.nodes[block.node].args.append((block.lo, number))
        for node in self.nodes:
            if node.spec.after_node != NONE:
                self.nodes[node.spec.after_node].consumers.append(node.number)
            elif node.spec.after_list != NONE:
                self.lists[node.spec.after_list].consumers.append(node.number)
        for number, items in enumerate(self.graph.lists):
            for item in items:
                inner = self.lists[item.number] if isinstance(item, Nested) else self.nodes[item.node]
                inner.home = number

    def end(self, fact: End) -> list[int]:
        """Apply a fact that ends elements; return the lists that turned bad or ended by it."""
        node = self.nodes[fact.node]
        states = states_of(fact)
        count = fact.hi - fact.lo
        node.state[fact.lo : fact.hi] = states
        node.ends.append(fact)
        node.left -= count
        node.ended_s = max(node.ended_s, fact.at_s)
        self.left -= count
        self.bad += count - states.count(_SUCCESS)
        if isinstance(fact, Settled) and fact.block >= self.next_block:
            self.next_block = fact.block + 1
            self.weight += fact.size
        if self.left == 0:
            self.finished_s = fact.at_s
        if node.home == NONE:
            return []
        return self._end_members(node.home, count, self._cause(fact, states), fact.at_s)

    def _cause(self, fact: End, states: bytes) -> Cause | None:
        rest = states.lstrip(_SUCCESS)
        if not rest:
            return None
        index = fact.hi - len(rest)
        if isinstance(fact, Inherited):
            return fact.cause_node, index if fact.cause_index == NONE else fact.cause_index, fact.state
        return fact.node, index, State(rest[0])

    def _end_members(self, number: int, count: int, cause: Cause | None, at_s: float) -> list[int]:
        woken: list[int] = []
        while number != NONE:
            members = self.lists[number]
            members.left -= count
            members.ended_s = max(members.ended_s, at_s)
            turned_bad = cause is not None and members.cause is None
            if turned_bad:
                members.cause = cause
            if turned_bad or members.left == 0:
                woken.append(number)
            if members.left > 0:
                if turned_bad:
                    self._spoil(members.home, cause, woken)
                break
            cause = members.cause
            count = 1
            number = members.home
        return woken

    def _spoil(self, number: int, cause: Cause | None, woken: list[int]) -> None:
        """A list that turned bad makes the lists around it bad at once, before it has ended."""
        while number != NONE and self.lists[number].cause is None:
            self.lists[number].cause = cause
            woken.append(number)
            number = self.lists[number].home

    def tree(self, value: Slice | Nested) -> Slice | Many:
        """Return a value with its lists spelt out."""
        if isinstance(value, Slice):
            return value
        return Many([self.tree(item) for item in self.graph.lists[value.number]])

    def ends_of(self, tree: Slice | Many) -> Iterator[End]:
        """Yield the ends of the elements that a value is made of, in order."""
        if isinstance(tree, Slice):
            yield from self.nodes[tree.node].covering(tree.lo, tree.hi)
        else:
            for item in tree.items:
                yield from self.ends_of(item)

    def feed(self, number: int, lo: int, hi: int) -> tuple[bool, Slice | Many] | None:
        """Return what elements of a node are fed (see ``wire.Feed``), or None."""
        spec = self.nodes[number].spec
        if not spec.fed:
            return None
        if spec.after_list != NONE:
            return False, self.tree(Nested(spec.after_list))
        if self.nodes[spec.after_node].spec.size == 1:
            return False, Slice(spec.after_node, 0, 1)
        return True, Slice(spec.after_node, lo, hi)

    def functions(self) -> list[bytes]:
        """Return the functions that its nodes name, each once."""
        return list(dict.fromkeys(node.spec.function for node in self.nodes))

    def blobs(self) -> list[str]:
        """Return the names of the blobs that hold its arguments and results."""
        names = [block.blob for block in self.blocks if block.blob]
        for node in self.nodes:
            names += [fact.blob for fact in node.ends if isinstance(fact, Settled) and fact.blob]
        return names

    def root_cause(self, node: int, index: int) -> tuple[int, int, Settled | Ended] | None:
        """Return the element that an element's end goes back to, and the fact that ended it."""
        for fact in self.nodes[node].covering(index, index + 1):
            if not isinstance(fact, Inherited):
                return node, index, fact
            cause = index if fact.cause_index == NONE else fact.cause_index
            return self.root_cause(fact.cause_node, cause)
        return None
