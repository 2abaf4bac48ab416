"""What a client knows of a run: how its elements ended, and the blocks that hold their values.

Filled by the I/O thread, read by everyone; a value is looked at only when somebody asks for it.
"""

from __future__ import annotations

import mmap
from array import array
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from nbq import payload
from nbq.blocks import Alias, Block
from nbq.core.facts import Became, End, Ended, Inherited, Settled
from nbq.core.ids import element_text
from nbq.core.model import NONE, Graph, Many, Slice, State
from nbq.core.runs import states_of
from nbq.errors import IntegrityError, NbqError, ended_error

__all__ = ["NodeReplica", "Replica"]

_SUCCESS = int(State.SUCCESS)


class NodeReplica:
    """The elements of one node: state bytes (0 while unknown), and which fact ended each."""

    __slots__ = ("bad", "facts", "left", "owner", "state")

    def __init__(self, size: int) -> None:
        self.state = bytearray(size)
        self.owner = array("i", [NONE]) * size
        self.facts: list[End] = []
        self.left = size
        self.bad = False
        """Whether an element is known that did not succeed."""

    def grow(self, size: int) -> None:
        """Have at least so many elements."""
        while len(self.owner) < size:
            self.owner.append(NONE)
        while len(self.state) < size:
            self.state.append(0)
            self.left += 1

    def add(self, fact: End) -> None:
        """Take in a fact, unless it is known."""
        self.grow(fact.hi)
        if self.owner[fact.lo] != NONE:
            return
        number = len(self.facts)
        self.facts.append(fact)
        states = states_of(fact)
        self.state[fact.lo : fact.hi] = states
        self.bad = self.bad or states.count(_SUCCESS) < len(states)
        self.owner[fact.lo : fact.hi] = array("i", [number]) * (fact.hi - fact.lo)
        self.left -= fact.hi - fact.lo


class Replica:
    """One run.

    Args:
        run: Its id.
        graph: Its graph; for a batch of separate calls, filled in when the batch is closed.
        key: The payload key, or b"" for viewers.
        contents: Returns the content of a block that is a file or in a result store; called once for each.
        accept: The serializers of values that may be read (``accept_content``); None for all.
    """

    def __init__(
        self,
        run: bytes,
        graph: Graph | None,
        key: bytes,
        contents: Callable[[Block], bytes | mmap.mmap],
        accept: Collection[str] | None = None,
    ) -> None:
        self.run = run
        self.graph = graph
        self.accepted = False
        self.error: NbqError | None = None
        """Why the hub did not take it, or does not have it any more."""
        self.nodes: dict[int, NodeReplica] = {}
        self.bad = False
        """Whether an element is known that did not succeed."""
        self.stored: set[str] = set()
        """The blocks that are known to lie in a result store."""
        self._key = key
        self._content = contents
        self._accept = accept
        self._blocks: dict[int, Block | payload.OpenBlock] = {}
        self._trees: dict[tuple[int, int], Slice | Many] = {}
        """Values of replaced elements."""
        self._unsettled: dict[int, list[Became]] = {}
        """Replaced elements that have ended, by a node of which an end is missing for their values."""

    def node(self, number: int) -> NodeReplica:
        """Return a node."""
        found = self.nodes.get(number)
        if found is None:
            known = self.graph is not None and number < len(self.graph.nodes)
            size = self.graph.nodes[number].size if known and self.graph is not None else 0
            found = self.nodes[number] = NodeReplica(size)
        return found

    def grow(self, graph: Graph) -> None:
        """Take in a newer graph: tasks that were replaced or extended a header may have added to it."""
        if self.graph is None or len(graph.nodes) <= len(self.graph.nodes):
            return
        self.graph = graph
        for number, node in self.nodes.items():
            node.grow(graph.nodes[number].size)

    def add(self, facts: list[End], blocks: list[Block], became: list[Alias] | None = None) -> None:
        """Take in ends, the blocks that they name, and the values of replaced elements."""
        for block in blocks:
            self._blocks.setdefault(block.number, block)
            if block.store:
                self.stored.add(block.blob)
        for alias in became or ():
            self._trees[alias.node, alias.index] = alias.value
        pending = deque(facts)
        while pending:
            fact = pending.popleft()
            missing = self._missing(self._trees[fact.node, fact.lo]) if isinstance(fact, Became) else NONE
            if missing != NONE and isinstance(fact, Became):
                self._unsettled.setdefault(missing, []).append(fact)
                continue
            node = self.node(fact.node)
            node.add(fact)
            self.bad = self.bad or node.bad
            pending.extend(self._unsettled.pop(fact.node, ()))  # one may be what another waits for

    def _missing(self, tree: Slice | Many) -> int:
        """Return a node of which an end is not known that a value is made of, or NONE."""
        if isinstance(tree, Many):
            return next((found for item in tree.items if (found := self._missing(item)) != NONE), NONE)
        state = self.node(tree.node).state
        return NONE if len(state) >= tree.hi and state.find(0, tree.lo, tree.hi) < 0 else tree.node

    def id_of(self, node: int, index: int) -> str:
        """Return the id of an element."""
        if self.graph is not None and node < len(self.graph.nodes):
            given = self.graph.nodes[node].ids.get(index)
            if given is not None:
                return given
        return element_text(self.run, node, index)

    def fact(self, node: int, index: int) -> End | None:
        """Return the fact that ended an element, or None."""
        found = self.node(node)
        owner = found.owner[index] if index < len(found.owner) else NONE
        return found.facts[owner] if owner != NONE else None

    def root(self, node: int, index: int) -> tuple[int, int, Settled | Ended]:
        """Return the element that an ended element's end goes back to, and its fact."""
        fact = self.fact(node, index)
        while isinstance(fact, Inherited):
            node, index = fact.cause_node, index if fact.cause_index == NONE else fact.cause_index
            fact = self.fact(node, index)
        if fact is None or isinstance(fact, Became):
            raise IntegrityError(f"the hub ended {self.id_of(node, index)} without saying how")
        return node, index, fact

    def opened(self, fact: Settled, accept: Collection[str] | None = None) -> payload.OpenBlock:
        """Return the block of a fact, opened; with the serializers that may be read, if values are to be.

        Raises:
            IntegrityError: It is not what an engine sealed for this place.
            ContentDisallowed: Its values may not be read.
        """
        block = self._blocks.get(fact.block)
        if isinstance(block, payload.OpenBlock):
            payload.check_accepted(block.serializer, accept)
            return block
        if block is None:
            raise IntegrityError(f"the hub sent no block {fact.block} of run {self.run.hex()}")
        where = payload.origin("result", *block.place(self.run), block.lo)
        data: Any = block.data
        if block.blob:
            data = self._content(block)
        found = self._blocks[fact.block] = payload.unseal(self._key, where, data, accept=accept)
        return found

    def value(self, node: int, index: int) -> Any:
        """Return the value of an element that succeeded."""
        fact = self.fact(node, index)
        if self._is_ignored(node):
            return None
        if isinstance(fact, Became):
            return self._built(self._trees[node, index], single=True)
        assert isinstance(fact, Settled)
        if fact.block == NONE:
            return None
        return self.opened(fact, self._accept).value(index - fact.block_lo)

    def _is_ignored(self, node: int) -> bool:
        """Return whether the values of a node are not for users: they were kept for what is fed them."""
        graph = self.graph
        return graph is not None and node < len(graph.nodes) and graph.nodes[node].options.ignore_result

    def _built(self, tree: Slice | Many, *, single: bool) -> Any:
        if isinstance(tree, Slice):
            values = self.values(tree.node, tree.lo, tree.hi)
            return values[0] if single else values
        out: list[Any] = []
        for item in tree.items:
            if isinstance(item, Slice):
                out += self._built(item, single=False)
            else:
                out.append(self._built(item, single=False))
        return out

    def failure(self, node: int, index: int) -> BaseException:
        """Return what an element that did not succeed raises."""
        at, place, fact = self.root(node, index)
        own = self.id_of(node, index)
        if isinstance(fact, Ended):
            error: BaseException = ended_error(fact.code, fact.text, self.id_of(at, place))
        else:
            element = self.opened(fact).element(place - fact.block_lo)
            error = payload.load_failure(element, self.id_of(at, place), self._accept)
        if (at, place) != (node, index):
            error.add_note(f"task {own} did not run because of it")
        return error

    def extras(self, node: int, index: int) -> tuple[float, float, tuple[str, str]]:
        """Return when an element started, how long it ran, and what it printed."""
        fact = self.fact(node, index)
        if not isinstance(fact, Settled) or fact.block == NONE:
            return 0.0, 0.0, ("", "")
        place = index - fact.block_lo
        started_s, seconds, output, _ = payload.load_extras(self.opened(fact).extras)
        if place >= len(seconds):
            return started_s, 0.0, output.get(place, ("", ""))
        return started_s + sum(seconds[:place]), seconds[place], output.get(place, ("", ""))

    def children(self, node: int, index: int) -> list[str]:
        """Return the ids of what an element submitted while it ran."""
        fact = self.fact(node, index)
        if not isinstance(fact, Settled) or fact.block == NONE:
            return []
        return payload.load_extras(self.opened(fact).extras)[3].get(index - fact.block_lo, [])

    def note(self, place: tuple[bytes, int], index: int, data: bytes) -> Any:
        """Return what a running element shows of itself, from the block that was sealed for its place."""
        where = payload.origin("note", *place, index)
        return payload.unseal(self._key, where, data, accept=self._accept).value(0)

    def values(self, node: int, lo: int, hi: int) -> list[Any]:
        """Return the values of a range of elements that all succeeded, block by block."""
        found = self.node(node)
        out: list[Any] = []
        at = lo
        while at < hi:
            fact = found.facts[found.owner[at]]
            end = min(hi, fact.hi)
            if isinstance(fact, Became):
                out.append(self.value(node, at))
            elif isinstance(fact, Settled) and fact.block != NONE and not self._is_ignored(node):
                block = self.opened(fact, self._accept)
                out += block.values(at - fact.block_lo, end - fact.block_lo)
            else:
                out += [None] * (end - at)
            at = end
        return out
