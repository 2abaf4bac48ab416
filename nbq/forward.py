"""What the hub passes on: leases with arguments and inputs to engines, ends with results to watchers.

Builds messages from runs and from stored blocks, which are never looked into. Decides and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbq import wire
from nbq.core.actions import Grant
from nbq.core.facts import End, Ended, Inherited, Settled
from nbq.core.model import NONE, Many, Slice
from nbq.core.runs import Run
from nbq.wire import Block

__all__ = ["Stored", "ends_message", "lease_messages"]

Stored = Callable[[int, int], bytes]
"""From the number of a run and of a block to the block's bytes."""

_ENDS_BYTES = 512 * 1024
_ENDS_FACTS = 2048
_INPUT_BYTES = 512 * 1024


def lease_messages(run: Run, grant: Grant, stored: Stored) -> Iterator[wire.Inputs | wire.Lease]:
    """Yield the messages of a lease: inputs beyond one message's size ahead, then the lease itself."""
    node = run.nodes[grant.node]
    spec = node.spec
    feed = None
    fed = run.feed(grant.node, grant.lo, grant.hi)
    if fed is not None:
        each, value = fed
        *ahead, blocks = _batches(_inputs(run, value, stored))
        for part, batch in enumerate(ahead):
            yield wire.Inputs(grant.token, part, batch)
        feed = wire.Feed(each, value, blocks, len(ahead))
    number, lo, hi = node.args_block(grant.lo)
    meta = run.blocks[number]
    data = b"" if meta.blob else stored(run.number, number)
    args = Block(grant.node, lo, hi - lo, data, meta.size, meta.blob, number)
    ids = {index: text for index, text in spec.ids.items() if grant.lo <= index < grant.hi}
    yield wire.Lease(
        grant.token, run.id, grant.node, grant.lo, grant.hi, grant.attempt, spec.task, spec.function, args,
        spec.shared, feed, spec.options.ignore_result, spec.options.cancel_grace_s, ids,
    )  # fmt: skip


def _inputs(run: Run, value: Slice | Many, stored: Stored) -> Iterator[Block]:
    for fact in run.ends_of(value):
        if isinstance(fact, Settled) and fact.block != NONE:
            yield _outcome_block(run, fact, stored, fact.lo, fact.hi)


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
    data = b"" if fact.blob else stored(run.number, fact.block)
    return Block(
        fact.node, fact.block_lo, fact.block_n, data, fact.size, fact.blob, fact.block, use_lo, use_hi
    )


def ends_message(run: Run, number: int, start: int, stored: Stored) -> wire.Ends:
    """Return the next ends of a node from a position, as many as fit in a message."""
    ends = run.nodes[number].ends
    facts: list[End] = []
    blocks: dict[int, Block] = {}
    size = 0
    stop = start
    while stop < len(ends) and stop - start < _ENDS_FACTS and size < _ENDS_BYTES:
        fact = ends[stop]
        stop += 1
        facts.append(fact)
        if isinstance(fact, Inherited):
            index = fact.lo if fact.cause_index == NONE else fact.cause_index
            cause = run.root_cause(fact.cause_node, index)
            if cause is None:
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
    return wire.Ends(run.id, number, start, stop, facts, list(blocks.values()))
