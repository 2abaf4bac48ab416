"""What the hub passes on: leases with arguments and inputs to engines, ends with results to watchers.

Builds messages from runs and from stored blocks, which are never looked into. Decides and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbq import wire
from nbq.blocks import Alias, Block, Failed, Feed, Kin
from nbq.core.actions import Abort, Disown, Grant, Interrupt, Recall, Resize
from nbq.core.facts import Became, End, Ended, Inherited, Settled
from nbq.core.ids import element_text
from nbq.core.model import NONE, Many, NodeSpec, On, Slice, State
from nbq.core.runs import Node, Run, within

__all__ = ["Stored", "ends_message", "engine_message", "lease_messages"]

Stored = Callable[[int, int], bytes]
"""From the number of a run and of a block to the block's bytes."""

_ENDS_BYTES = 512 * 1024
_ENDS_FACTS = 2048
_INPUT_BYTES = 512 * 1024


def engine_message(action: Abort | Disown | Interrupt | Recall | Resize) -> wire.ToPeer:
    """Return what an engine is to be told."""
    match action:
        case Recall():
            return wire.Recall(action.count)
        case Interrupt():
            return wire.Interrupt([(action.token, action.lo, action.hi)])
        case Abort():
            return wire.Aborting([(action.token, action.lo, action.hi)])
        case Disown():
            return wire.Stale(action.tokens)
        case Resize():
            return wire.Order("scale", action.slots, action.least, action.most)


def lease_messages(run: Run, grant: Grant, stored: Stored) -> Iterator[wire.Inputs | wire.Lease]:
    """Yield the messages of a lease: inputs beyond one message's size ahead, then the lease itself."""
    node = run.nodes[grant.node]
    spec, options = node.spec, node.spec.options
    feed = None
    fed = run.feed(grant.node, grant.lo, grant.hi)
    if fed is not None:
        each, value = fed
        inputs = _Inputs(run, stored, may_fail=spec.on in (On.FAILURE, On.SETTLED))
        inputs.collect(value)
        *ahead, blocks = _batches(iter(inputs.blocks))
        for part, batch in enumerate(ahead):
            yield wire.Inputs(grant.token, part, batch)
        feed = Feed(each, value, blocks, len(ahead), inputs.failed, inputs.became)
    ids = {index: text for index, text in spec.ids.items() if grant.lo <= index < grant.hi}
    root = None if node.root[0] == node.number else node.root
    args, shared = _args(run, node, grant.lo, stored)
    anew = node.own is not None and grant.lo in node.own.args
    yield wire.Lease(
        grant.token, run.id, grant.node, grant.lo, grant.hi, grant.attempt, spec.task, spec.function, args,
        shared, feed, options.ignore_result and not _is_wanted(run, node), options.cancel_grace_s, ids,
        node.retries(grant.lo), node.scope, node.inner, options, _kin(run, node.parent, grant),
        _kin(run, root, grant), spec.on, _told(run, spec), spec.header != NONE, run.at_s, run.origin, anew,
    )  # fmt: skip


def _args(run: Run, node: Node, index: int, stored: Stored) -> tuple[Block, bool]:
    """Return the block that holds the arguments of an element, and whether its first are for all."""
    own = node.own.args.get(index) if node.own is not None else None
    if own is not None:
        data = b"" if own.blob else stored(run.number, own.block)
        return Block(
            node.number, index, 1, data, own.size, own.blob, own.block, scope=node.scope, inner=node.inner
        ), False
    number, lo, hi = node.args_block(index)
    meta = run.block(number)
    data = b"" if meta.blob else stored(run.number, number)
    count = hi - lo if node.spec.shared else meta.n  # of those that are tried again, not all blocks are here
    return Block(
        node.number, lo, count, data, meta.size, meta.blob, number, scope=node.scope, inner=node.inner
    ), node.spec.shared


def _kin(run: Run, kin: tuple[int, int] | None, grant: Grant) -> Kin | None:
    if kin is None:
        return None
    number, index = kin
    lo, hi = (grant.lo, grant.hi) if index == NONE else (index, index + 1)
    ids = {at: text for at, text in run.nodes[number].spec.ids.items() if lo <= at < hi}
    return Kin(number, index, ids)


def _told(run: Run, spec: NodeSpec) -> str:
    """Return the id that an errback is told, if it is not that of the element that failed."""
    if spec.told == NONE:
        return ""
    return run.nodes[spec.told].spec.ids.get(0) or element_text(run.id, spec.told, 0)


def _is_wanted(run: Run, node: Node) -> bool:
    """Return whether anything is fed the values of a node (so that they are needed for a while)."""
    if node.own is not None and node.own.stands_for:
        return True
    consumers = list(node.consumers)
    number = node.home
    while number != NONE:
        members = run.lists[number]
        if members.stands_for is not None:
            return True
        consumers += members.consumers
        number = members.home
    return any(run.nodes[consumer].spec.fed for consumer in consumers)


class _Inputs:
    """What a value is made of: its blocks, which elements failed, and which were replaced."""

    def __init__(self, run: Run, stored: Stored, *, may_fail: bool) -> None:
        self._blocks: dict[tuple[int, int], Block] = {}
        """By node and first element of what was taken."""
        self.failed: list[Failed] = []
        self.became: list[Alias] = []
        self._run = run
        self._stored = stored
        self._may_fail = may_fail

    @property
    def blocks(self) -> list[Block]:
        """Return the blocks, each as often as elements were taken of it at once."""
        return list(self._blocks.values())

    def _add(self, fact: Settled) -> None:
        place = fact.node, fact.lo
        if place not in self._blocks:
            self._blocks[place] = _outcome_block(self._run, fact, self._stored, fact.lo, fact.hi)

    def collect(self, value: Slice | Many) -> None:
        """Add what a value is made of."""
        for fact in self._run.ends_of(value):
            if isinstance(fact, Settled) and fact.block != NONE:
                self._add(fact)
            if isinstance(fact, Became):
                tree = self._run.tree(fact.value)
                self.became.append(Alias(fact.node, fact.lo, tree))
                self.collect(tree)
            elif self._may_fail:
                self._collect_failed(fact)

    def _collect_failed(self, fact: Settled | Ended | Inherited) -> None:
        """Add the failures of what did not succeed, with the blocks that hold them."""
        if isinstance(fact, Settled):
            for at, state in enumerate(fact.states, fact.lo):
                if state != State.SUCCESS:
                    self._fail(fact.node, at, at + 1, fact.node, NONE, fact)
        elif isinstance(fact, Ended):
            self._fail_all(fact.node, fact.lo, fact.hi, fact.node, fact)
        elif fact.cause_index != NONE:
            self._cause(fact, fact.lo, fact.hi, fact.cause_index)
        else:
            for cause in self._run.nodes[fact.cause_node].covering(fact.lo, fact.hi):
                lo, hi = max(fact.lo, cause.lo), min(fact.hi, cause.hi)
                if isinstance(cause, Ended):
                    self._fail_all(fact.node, lo, hi, fact.cause_node, cause)
                else:
                    for index in range(lo, hi):
                        self._cause(fact, index, index + 1, index)

    def _cause(self, fact: Inherited, lo: int, hi: int, index: int) -> None:
        found = self._run.root_cause(fact.cause_node, index)
        if found is not None and isinstance(found[2], Settled | Ended):
            number, at, cause = found
            self._fail(fact.node, lo, hi, number, at, cause)
            if isinstance(cause, Settled):
                self._add(cause)

    def _fail_all(self, node: int, lo: int, hi: int, at: int, cause: Ended) -> None:
        """Add a failure of many elements, each its own: at once, but for those with ids that users gave."""
        given = within(self._run.nodes[at].spec.ids, lo, hi)
        for index in given:
            if lo < index:
                self._fail(node, lo, index, at, NONE, cause)
            self._fail(node, index, index + 1, at, NONE, cause)
            lo = index + 1
        if lo < hi:
            self._fail(node, lo, hi, at, NONE, cause)

    def _fail(
        self, node: int, lo: int, hi: int, at: int, index: int, cause: Settled | Ended | Became
    ) -> None:
        code, text = (cause.code, cause.text) if isinstance(cause, Ended) else ("", "")
        given = self._run.nodes[at].spec.ids.get(lo if index == NONE else index, "")
        self.failed.append(Failed(node, lo, hi, at, index, code, text, given))


def _batches(blocks: Iterator[Block]) -> list[list[Block]]:
    """Return blocks in groups that fit in a message; the last group may be empty."""
    groups: list[list[Block]] = [[]]
    size = 0
    for block in blocks:
        if groups[-1] and size + len(block.data) > _INPUT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(block)
        size += len(block.data)
    return groups


def _outcome_block(run: Run, fact: Settled, stored: Stored, use_lo: int = 0, use_hi: int = 0) -> Block:
    node = run.nodes[fact.node]
    data = b"" if fact.blob else stored(run.number, fact.block)
    return Block(
        fact.node, fact.block_lo, fact.block_n, data, fact.size, fact.blob, fact.block, use_lo, use_hi,
        node.scope, node.inner, fact.store,
    )  # fmt: skip


def ends_message(run: Run, number: int, start: int, stored: Stored) -> wire.Ends:
    """Return the next ends of a node from a position, as many as fit in a message."""
    ends = run.nodes[number].ends
    facts: list[End] = []
    blocks: dict[int, Block] = {}
    became: list[Alias] = []
    sizes: dict[int, int] = {}
    size = 0
    stop = start
    while stop < len(ends) and stop - start < _ENDS_FACTS and size < _ENDS_BYTES:
        fact = ends[stop]
        stop += 1
        facts.append(fact)
        if isinstance(fact, Became):
            tree = run.tree(fact.value)
            became.append(Alias(fact.node, fact.lo, tree))
            sizes |= {at: run.nodes[at].spec.size for at in _nodes_of(tree)}
            continue
        if isinstance(fact, Inherited):
            index = fact.lo if fact.cause_index == NONE else fact.cause_index
            cause = run.root_cause(fact.cause_node, index)
            if cause is None or isinstance(cause[2], Became):
                continue
            fact = cause[2]
            facts.append(fact)
        if isinstance(fact, Ended):
            size += len(fact.text)
            continue
        size += sum(map(len, fact.errors.values()))
        if fact.block != NONE and fact.block not in blocks:
            one = _outcome_block(run, fact, stored)
            size += len(one.data)
            blocks[fact.block] = one
    return wire.Ends(run.id, number, start, stop, facts, list(blocks.values()), became, sizes)


def _nodes_of(tree: Slice | Many) -> Iterator[int]:
    if isinstance(tree, Slice):
        yield tree.node
    else:
        for item in tree.items:
            yield from _nodes_of(item)
