"""A run while it lives: flat states, counters of lists, and the log of how elements ended.

Everything durable about a run is changed here, by facts. Nothing here decides: a counter reaching
zero or a list turning bad is returned to the scheduler, which then decides what follows.

States are one byte an element and are searched with the C methods of bytes, never element by
element (design, section 5).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Collection, Iterator

from msgspec.structs import replace

from nbq.core.facts import Accepted, Became, Deferred, End, Ended, Extended, Inherited, Reprioritised, Settled
from nbq.core.model import NONE, BlockMeta, Graph, Item, Many, Nested, NodeSpec, On, Slice, State
from nbq.core.sparse import Own, Replacement

__all__ = ["Cause", "Lease", "List", "Node", "Own", "Replacement", "Run", "spans", "states_of", "within"]

Cause = tuple[int, int, State]
"""The element (node, index) that first failed, and how it ended."""

Kin = tuple[int, int]
"""A node, and the index of an element of it, or NONE for that of the same index."""

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


def within(table: Collection[int], lo: int, hi: int) -> list[int]:
    """Return the elements of a range that have an entry in a table, in order.

    It costs as much as the smaller of the two: a decision about one element looks at no others.
    """
    if hi - lo < len(table):
        return [index for index in range(lo, hi) if index in table]
    return sorted(index for index in table if lo <= index < hi)


def states_of(fact: End) -> bytes:
    """Return the terminal states that a fact gives to its elements, one byte each."""
    if isinstance(fact, Settled):
        return fact.states or _SUCCESS * (fact.hi - fact.lo)
    if isinstance(fact, Became):
        return _SUCCESS
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
    """One array of a run.

    ``ends`` is a log: the facts that ended elements, in the order in which they came. Watchers read
    it by position.
    """

    __slots__ = (
        "_index", "args", "aside", "consumers", "depth", "ended_s", "ends", "held", "home", "inner", "left",
        "number", "own", "parent", "root", "scope", "spec", "state",
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
        self.own: Own | None = None
        self.scope = b""
        """What its blocks are sealed for beside the run, if it was added to it."""
        self.inner = number
        """Its number in the canvas that it was planned in."""
        self.aside = spec.on in (On.LINK, On.FAILURE)
        """Whether it is, or follows, a link or errback: if it is not called for, it is skipped."""
        self.held: list[tuple[int, int, int]] | None = None
        """First element, end and token of each lease of it, in order; None for none."""
        self.depth = 0
        """How many lists that took the place of elements it lies in, one in the other."""
        self.parent: Kin | None = None
        self.root: Kin = (number, NONE)
        self._index: list[tuple[int, int]] = []

    def begin(self, states: bytes) -> None:
        """Let its elements begin in these states; empty for WAITING."""
        self.state[: len(states)] = states
        self.left -= states.count(State.SKIPPED)

    @property
    def sparse(self) -> Own:
        """Return what its elements have of their own, to be changed."""
        if self.own is None:
            self.own = Own()
        return self.own

    def covering(self, lo: int, hi: int) -> Iterator[End]:
        """Yield the ends of elements in a range, by element; elements that live on have none."""
        for position in range(len(self._index), len(self.ends)):
            insort(self._index, (self.ends[position].lo, position))
        at = bisect_right(self._index, (lo, len(self.ends))) - 1
        for place in range(max(at, 0), len(self._index)):
            fact = self.ends[self._index[place][1]]
            if fact.lo >= hi:
                return
            if fact.hi > lo:
                yield fact

    def not_replaced(self, lo: int, hi: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of elements that were not replaced."""
        for index in within(self.own.replaced, lo, hi) if self.own is not None else ():
            if lo < index:
                yield lo, index
            lo = index + 1
        if lo < hi:
            yield lo, hi

    def args_block(self, index: int) -> tuple[int, int, int]:
        """Return number, first and end element of the argument block that holds an element."""
        if self.spec.shared:
            return self.args[0][1], 0, self.spec.size
        at = bisect_right(self.args, (index, 1 << 62)) - 1
        end = self.args[at + 1][0] if at + 1 < len(self.args) else self.spec.size
        return self.args[at][1], self.args[at][0], end

    def started(self, index: int) -> int:
        """Return the number of the attempt that an element is at, counted from 1."""
        own = self.own
        return 1 if own is None else 1 + own.losses.get(index, 0) + own.retries.get(index, 0)

    def priority(self, index: int) -> int:
        """Return the priority of an element."""
        base = self.spec.options.priority
        return base if self.own is None else self.own.priorities.get(index, base)

    def by_priority(self, lo: int, hi: int) -> list[tuple[int, int, int]]:
        """Return priorities, and the ranges of elements that have them, in order."""
        base, own = self.spec.options.priority, self.own
        if own is None or not own.priorities:
            return [(base, lo, hi)]
        parts: list[tuple[int, int, int]] = []
        for index in within(own.priorities, lo, hi):
            if lo < index:
                parts.append((base, lo, index))
            parts.append((own.priorities[index], index, index + 1))
            lo = index + 1
        return parts + ([(base, lo, hi)] if lo < hi else [])

    def reprioritise(self, fact: Reprioritised) -> None:
        """Give an element, or all of them, another priority."""
        if fact.index != NONE:
            self.sparse.priorities[fact.index] = fact.priority
            return
        self.spec = replace(self.spec, options=replace(self.spec.options, priority=fact.priority))
        if self.own is not None:
            self.own.priorities.clear()

    def retries(self, index: int) -> int:
        """Return how often an element has asked for another attempt."""
        return 0 if self.own is None else self.own.retries.get(index, 0)

    def alike(self, lo: int, hi: int) -> int:
        """Return where the elements from ``lo`` on that can share a lease end: one attempt, one block."""
        own = self.own
        if own is None or not (own.losses or own.retries):
            return hi
        if lo in own.args:
            return lo + 1
        first = self.started(lo), self.retries(lo)
        for index in range(lo + 1, hi):
            if index in own.args or (self.started(index), self.retries(index)) != first:
                return index
        return hi


class List:
    """One list of a run: ``left`` counts the members that have not ended, each once."""

    __slots__ = ("cause", "consumers", "ended_s", "home", "left", "size", "stands_for")

    def __init__(self, left: int) -> None:
        self.left = self.size = left
        self.stands_for: tuple[int, int] | None = None
        """Node and index of the element that ends as this list does."""
        self.cause: Cause | None = None
        self.consumers: list[int] = []
        self.home = NONE
        self.ended_s = 0.0


class Run:
    """One submitted canvas, numbered by the hub in the order of acceptance."""

    __slots__ = (
        "added", "at_s", "bad", "began_s", "blocks", "dropped", "finished_s", "functions", "graph", "id",
        "leases", "left", "lists", "next_block", "nodes", "number", "origin", "owner", "planned", "size",
        "skipped", "weight", "widest",
    )  # fmt: skip

    def __init__(self, fact: Accepted) -> None:
        self.number = fact.run
        self.id = fact.id
        self.owner = fact.owner
        self.at_s = fact.at_s
        self.origin = fact.origin
        self.graph: Graph = fact.graph
        self.planned: Graph = fact.graph
        """As it was accepted, without what was added to it."""
        self.blocks: list[BlockMeta] = fact.blocks
        self.added: dict[int, BlockMeta] | None = None
        """Argument blocks of canvases that were added to it, by number."""
        self.dropped: frozenset[int] = frozenset()
        """Separate calls of a batch that were dropped while others are kept."""
        self.next_block = len(fact.blocks)
        self.nodes = [Node(number, spec) for number, spec in enumerate(fact.graph.nodes)]
        self.lists = [List(_count(items)) for items in fact.graph.lists]
        self.size = sum(node.spec.size for node in self.nodes)
        self.nodes[0].begin(fact.begin)
        self.left = sum(node.left for node in self.nodes)
        self.bad = 0
        """Elements that ended without success."""
        self.skipped = self.size - self.left
        """Links and errbacks that were not called for."""
        self.began_s = 0.0
        """When the first of it was granted, by this hub; not durable."""
        self.finished_s: float | None = None
        self.leases: dict[int, Lease] = {}
        self.widest = 0
        """How many elements the largest of its leases had."""
        self.weight = sum(block.size for block in fact.blocks)
        """Bytes of its blocks."""
        self.functions = tuple(dict.fromkeys([node.spec.function for node in self.nodes]))
        """The functions that its nodes name."""
        for number, block in enumerate(self.blocks):
            self.nodes[block.node].args.append((block.lo, number))
        self._connect(0, 0)

    def _connect(self, first: int, first_list: int) -> None:
        """Connect the nodes and lists from these numbers on with what they follow and belong to."""
        for node in self.nodes[first:]:
            spec = node.spec
            if spec.after_node != NONE:
                before = self.nodes[spec.after_node]
                before.consumers.append(node.number)
                self._descend(node, before)
            elif spec.after_list != NONE:
                self.lists[spec.after_list].consumers.append(node.number)
                member = _first_node(self.graph.lists, spec.after_list)
                self._descend(node, self.nodes[member.node], member.lo)
            if spec.given_node != NONE:
                self.nodes[spec.given_node].consumers.append(node.number)
            elif spec.given_list != NONE:
                self.lists[spec.given_list].consumers.append(node.number)
        for number in range(first_list, len(self.graph.lists)):
            for item in self.graph.lists[number]:
                self._member(item).home = number

    def _descend(self, node: Node, before: Node, index: int = NONE) -> None:
        """Note what a node comes after: its parent, and the root that the parent has."""
        if index == NONE and before.spec.size == 1:
            index = 0
        node.parent = before.number, index
        root, at = before.root
        node.root = root, index if at == NONE else at
        node.aside = node.aside or before.aside

    def _member(self, item: Item) -> Node | List:
        return self.lists[item.number] if isinstance(item, Nested) else self.nodes[item.node]

    def hold(self, lease: Lease) -> None:
        """Take notice of a lease."""
        self.leases[lease.token] = lease
        node = self.nodes[lease.node]
        if node.held is None:
            node.held = []
        insort(node.held, (lease.lo, lease.hi, lease.token))
        self.widest = max(self.widest, lease.hi - lease.lo)

    def release(self, lease: Lease) -> None:
        """Take notice that a lease has ended."""
        del self.leases[lease.token]
        node = self.nodes[lease.node]
        assert node.held is not None
        del node.held[bisect_left(node.held, (lease.lo, lease.hi, lease.token))]
        node.held = node.held or None

    def held(self, node: Node, lo: int, hi: int) -> list[Lease]:
        """Return the leases of a node that may have elements of a range, without a look at all others."""
        table = node.held or []
        first = bisect_left(table, (lo - self.widest, 0, 0))
        return [
            self.leases[token] for _, end, token in table[first : bisect_left(table, (hi, 0, 0))] if end > lo
        ]

    def block(self, number: int) -> BlockMeta:
        """Return what is known of an argument block."""
        if number < len(self.blocks):
            return self.blocks[number]
        assert self.added is not None
        return self.added[number]

    def extend(self, fact: Extended) -> None:
        """Add a canvas: its nodes, lists and blocks are numbered behind those that there are."""
        if self.added is None:  # what was accepted is a fact, and must stay what it was
            self.added = {}
            lists = [list(items) for items in self.graph.lists]
            self.graph = replace(self.graph, nodes=list(self.graph.nodes), lists=lists)
        first, first_list = len(self.nodes), len(self.lists)
        before = self.nodes[fact.node]
        for number, planned in enumerate(fact.graph.nodes):
            spec = _shifted(planned, first, first_list)
            if spec.header == NONE:
                spec = replace(spec, header=before.spec.header)
            node = Node(first + number, spec)
            node.scope, node.inner = fact.scope, number
            root, at = before.root
            node.root = root, fact.index if at == NONE else at
            node.aside = node.aside or before.aside
            node.depth = before.depth + (fact.replaces and isinstance(fact.graph.value, Nested))
            self.nodes.append(node)
            self.graph.nodes.append(spec)
            if spec.function not in self.functions:
                self.functions += (spec.function,)
        for items in fact.graph.lists:
            self.lists.append(List(_count(items)))
            self.graph.lists.append([_moved(item, first, first_list) for item in items])
        self._connect(first, first_list)
        for number, block in enumerate(fact.blocks, fact.first_block):
            self.added[number] = block
            self.nodes[first + block.node].args.append((block.lo, number))
            self.weight += block.size
        self.next_block = fact.first_block + len(fact.blocks)
        count = sum(spec.size for spec in fact.graph.nodes)
        self.size += count
        self.left += count
        assert fact.graph.value is not None
        value = _moved(fact.graph.value, first, first_list)
        if fact.replaces:
            before.sparse.replaced[fact.index] = Replacement(value, first, len(self.nodes))
            if isinstance(value, Nested):
                self.lists[value.number].stands_for = fact.node, fact.index
            else:
                self.nodes[value.node].sparse.stands_for[value.lo] = fact.node, fact.index
        elif fact.into != NONE:
            self.graph.lists[fact.into].append(value)
            self.lists[fact.into].left += 1
            self.lists[fact.into].size += 1
            self._member(value).home = fact.into

    def defer(self, fact: Deferred) -> None:
        """Let an element wait for its next attempt."""
        own = self.nodes[fact.node].sparse
        own.due[fact.index] = fact
        own.notes.pop(fact.index, None)
        table = own.retries if fact.counted else own.losses
        table[fact.index] = table.get(fact.index, 0) + 1
        if fact.block != NONE:
            own.args[fact.index] = fact
            self.next_block = fact.block + 1
            self.weight += fact.size

    def end(self, fact: End) -> list[int]:
        """Apply a fact that ends elements; return the lists that turned bad or ended by it."""
        node = self.nodes[fact.node]
        states = states_of(fact)
        count = fact.hi - fact.lo
        node.state[fact.lo : fact.hi] = states
        node.ends.append(fact)
        node.left -= count
        node.ended_s = max(node.ended_s, fact.at_s)
        if node.own is not None and node.own.notes:
            for index in range(fact.lo, fact.hi):
                node.own.notes.pop(index, None)
        self.left -= count
        if states != _SUCCESS * count:
            skipped = states.count(State.SKIPPED)
            self.skipped += skipped
            self.bad += count - states.count(_SUCCESS) - skipped
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

    def reach(self, node: Node, lo: int, hi: int) -> Iterator[tuple[Node, int, int]]:
        """Yield elements, and all that they were replaced by and that has not ended."""
        pending = deque([(node, lo, hi)])
        while pending:
            node, lo, hi = pending.popleft()
            yield node, lo, hi
            table = node.own.replaced if node.own is not None else {}
            for index in within(table, lo, hi):
                inner = self.nodes[table[index].first : table[index].stop]
                pending.extend((each, 0, each.spec.size) for each in inner if each.left)

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
            cause = self.lists[spec.after_list].cause
            if spec.on == On.FAILURE and cause is not None:
                return False, Slice(cause[0], cause[1], cause[1] + 1)
            return False, self.tree(Nested(spec.after_list))
        if self.nodes[spec.after_node].spec.size == 1:
            return False, Slice(spec.after_node, 0, 1)
        return True, Slice(spec.after_node, lo, hi)

    def blobs(self) -> list[str]:
        """Return the names of the blobs that hold its arguments and results."""
        blocks = [*self.blocks, *(self.added or {}).values()]
        names = [block.blob for block in blocks if block.blob]
        for node in self.nodes:
            names += [f.blob for f in node.ends if isinstance(f, Settled) and f.blob and not f.store]
            names += [f.blob for f in (node.own.args if node.own is not None else {}).values() if f.blob]
        return names

    def root_cause(self, node: int, index: int) -> tuple[int, int, Settled | Ended | Became] | None:
        """Return the element that an element's end goes back to, and the fact that ended it."""
        for fact in self.nodes[node].covering(index, index + 1):
            if not isinstance(fact, Inherited):
                return node, index, fact
            cause = index if fact.cause_index == NONE else fact.cause_index
            return self.root_cause(fact.cause_node, cause)
        return None


def _count(items: list[Item]) -> int:
    return sum(1 if isinstance(item, Nested) else item.hi - item.lo for item in items)


def _first_node(lists: list[list[Item]], number: int) -> Slice:
    """Return the first slice of a list, or of the first list in it."""
    item = lists[number][0]
    while isinstance(item, Nested):
        item = lists[item.number][0]
    return item


def _moved(item: Item, nodes: int, lists: int) -> Item:
    """Return an item whose numbers count from these on."""
    if isinstance(item, Nested):
        return Nested(item.number + lists)
    return Slice(item.node + nodes, item.lo, item.hi)


def _shifted(spec: NodeSpec, nodes: int, lists: int) -> NodeSpec:
    """Return a node that names others by numbers that count from these on."""

    def of(number: int, base: int) -> int:
        return number if number == NONE else number + base

    return replace(
        spec,
        after_node=of(spec.after_node, nodes),
        after_list=of(spec.after_list, lists),
        given_node=of(spec.given_node, nodes),
        given_list=of(spec.given_list, lists),
        told=of(spec.told, nodes),
        header=of(spec.header, lists),
    )
