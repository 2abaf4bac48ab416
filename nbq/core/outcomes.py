"""Outcomes: what engines report of attempts, and what comes of each.

An outcome counts for those of its elements that are still open under its lease; the rest is known already.
One that asks for more (another attempt, canvases for its run) is taken as a whole or fails. Never grants.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nbq.core import facts as f
from nbq.core.actions import Disown, Keep
from nbq.core.decided import Decided
from nbq.core.ending import Ending
from nbq.core.events import Addition, Again, Outcome, Reported
from nbq.core.graph import UnfitGraph, check_graph, is_whole
from nbq.core.model import NONE, Nested, Now, State
from nbq.core.runs import Lease, Node, Run

__all__ = ["Outcomes"]

_DEPTH = 100
"""How deep lists that take the place of elements may lie in each other: values are read by recursion."""
_ENDS = bytes([State.SUCCESS, State.FAILURE, State.REVOKED])
_OUTCOMES = _ENDS + bytes([State.RETRY, State.WAITING])


class Outcomes:
    """Takes in what engines report.

    Args:
        decided: Where facts and actions go.
        ending: What follows from failures.
        watch_expiry: Called for each node that is added to a run.
        elements: The most elements that may not have ended.
    """

    def __init__(
        self,
        decided: Decided,
        ending: Ending,
        watch_expiry: Callable[[Run, Node], None],
        elements: int,
    ) -> None:
        self._decided = decided
        self._ending = ending
        self._watch_expiry = watch_expiry
        self._elements = elements
        self.ledger = decided.ledger

    def take(self, event: Reported, now: Now) -> None:
        """Take in a report."""
        added = len(event.outcomes)
        for source, outcome in enumerate(event.outcomes):
            lease = self.ledger.leases.get(outcome.token)
            if lease is None or lease.engine != event.engine:
                self._decided.act(Disown(event.engine, [outcome.token]))
            else:
                self._take(lease, outcome, source, added, now)
            added += outcome.added_blocks()

    def _take(self, lease: Lease, outcome: Outcome, source: int, added: int, now: Now) -> None:
        """Record an outcome for those of its elements that are still open under its lease."""
        node = lease.run.nodes[lease.node]
        count = outcome.hi - outcome.lo
        if count <= 0 or len(outcome.states) not in (0, count) or outcome.states.strip(_OUTCOMES):
            return
        if outcome.again is not None or outcome.additions or outcome.states.strip(_ENDS):
            if count == 1 and lease.covers(outcome.lo, outcome.hi):
                self._take_one(lease, node, outcome, source, added, now)
            return
        self.ledger.fleet.measured(node.spec.function, outcome.seconds / count)
        self._settled(lease, node, outcome, source, now)

    def _settled(self, lease: Lease, node: Node, outcome: Outcome, source: int, now: Now) -> None:
        run = lease.run
        count = outcome.hi - outcome.lo
        engine = self.ledger.fleet.engine(lease.engine)
        name = engine.info.name if engine.info is not None else ""
        block = NONE
        for a, b in list(lease.ranges(outcome.lo, outcome.hi)):
            if block == NONE and outcome.size:
                block = run.next_block
                if not outcome.blob:
                    self._decided.act(Keep(run.number, block, source))
            states = outcome.states[a - outcome.lo : b - outcome.lo] if outcome.states else b""
            self._decided.emit(
                f.Settled(
                    run.number, node.number, a, b, lease.token, states, block, outcome.size,
                    outcome.blob, now.wall_s, name, outcome.seconds * (b - a) / count, outcome.errors,
                    outcome.lo, count, outcome.store,
                )
            )  # fmt: skip
            if State.FAILURE in states:
                self._ending.failed(run, node)

    def _take_one(
        self, lease: Lease, node: Node, outcome: Outcome, source: int, first: int, now: Now
    ) -> None:
        """Record how one attempt ended that asks for more: another attempt, or canvases for its run.

        ``first`` is where the bytes of the blocks of its additions begin.
        """
        run, index = lease.run, outcome.lo
        state = outcome.states[0] if outcome.states else State.SUCCESS
        again = outcome.again
        if state == State.RETRY and again is not None and _is_a_time(again):
            block = run.next_block if outcome.size else NONE
            if outcome.size and not outcome.blob:
                self._decided.act(Keep(run.number, block, source))
            self._decided.emit(
                f.Deferred(
                    run.number, node.number, index, lease.token, now.wall_s, again.delay_s, again.eta_s,
                    again.counted, again.text, block, outcome.size, outcome.blob,
                )
            )  # fmt: skip
            return
        replaced = [addition for addition in outcome.additions if addition.replaces]
        added = outcome.additions if state in (State.SUCCESS, State.WAITING) else []
        why = self._unfit(node, added)
        if state == State.RETRY:
            why = "it asks to be run again, at no time that there is"
        elif why is None and (state == State.WAITING) != (len(replaced) == 1):
            why = "an attempt is replaced by exactly one canvas"
        if why is not None:
            self._ending.fail(run, node, index, index + 1, "refused", why, now)
            return
        for addition in added:
            self._extend(lease, node, index, addition, first, now)
            first += sum(not block.blob for block in addition.blocks)
        if state != State.WAITING:
            self._settled(lease, node, outcome, source, now)

    def _unfit(self, node: Node, additions: list[Addition]) -> str | None:
        """Return why additions cannot be taken, or None."""
        total = sum(spec.size for addition in additions for spec in addition.graph.nodes)
        if self.ledger.left + total > self._elements:
            return f"the hub holds {self.ledger.left:,} unfinished tasks; nothing can be added to this run"
        for addition in additions:
            try:
                check_graph(addition.graph, addition.blocks)
            except UnfitGraph as error:
                return f"what it adds to its run cannot be run: {error}"
            if addition.graph.each:
                return "what it adds to its run has no value"
            if addition.replaces:
                if node.depth >= _DEPTH and isinstance(addition.graph.value, Nested):
                    return f"it is a list in more than {_DEPTH} others that took the place of a task"
            elif node.spec.header == NONE:
                return "it belongs to no chord header that could be extended"
            elif not is_whole(addition.graph):
                return "what it adds to its chord is part of something else"
        return None

    def _extend(
        self, lease: Lease, node: Node, index: int, addition: Addition, source: int, now: Now
    ) -> None:
        run, first = lease.run, lease.run.next_block
        into = NONE if addition.replaces else node.spec.header
        for number, block in enumerate(addition.blocks):
            if not block.blob:
                self._decided.act(Keep(run.number, first + number, source))
                source += 1
        before = len(run.nodes)
        self._decided.emit(
            f.Extended(
                run.number, node.number, index, lease.token, now.wall_s, addition.scope, addition.graph,
                first, addition.blocks, addition.replaces, into,
            )
        )  # fmt: skip
        for added in run.nodes[before:]:
            self._watch_expiry(run, added)


def _is_a_time(again: Again) -> bool:
    return math.isfinite(again.delay_s) and math.isfinite(again.eta_s or 0.0)
