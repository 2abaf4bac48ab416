"""Following: what the elements that wait may do, now that something has ended.

Readiness is not a fact. ``_decide`` finds it from durable state, and is called alike for what has just
happened and, after recovery, for everything; so a cascade can be cut into turns, and recovery finishes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from nbq.core.deadlines import Deadlines
from nbq.core.decided import Decided
from nbq.core.ending import Ending
from nbq.core.facts import Became, Deferred, Ended, Inherited
from nbq.core.granting import Granting
from nbq.core.model import NONE, NodeSpec, Now, On, Slice, State
from nbq.core.runs import List, Node, Run, spans, within

__all__ = ["Following", "due_s", "expiry_s"]

_DECISIONS = 1000
"""Decisions at once, some 10 to 20 microseconds each (design, promise 10: no turn over 50 ms)."""


class _Verdict(IntEnum):
    WAIT = 0
    RUN = 1
    INHERIT = 2
    SKIP = 3


def _verdict(on: On, state: State, own: bool | None) -> _Verdict:
    """Return what becomes of elements when what they follow has ended.

    Args:
        on: What has to become of that.
        state: How it ended.
        own: Whether that failure is its own: whether its gate succeeded. None while that is open.
    """
    if state == State.SKIPPED:
        return _Verdict.SKIP
    if on == On.FAILURE:
        if state != State.FAILURE:
            return _Verdict.SKIP
        return _Verdict.WAIT if own is None else _Verdict.RUN if own else _Verdict.SKIP
    if state == State.SUCCESS:
        return _Verdict.RUN
    if on == On.LINK:
        return _Verdict.SKIP
    if on == On.SETTLED:
        return _Verdict.WAIT if own is None else _Verdict.RUN if own else _Verdict.INHERIT
    return _Verdict.INHERIT


class Following:
    """Lets elements start, or end as what they follow."""

    def __init__(self, decided: Decided, granting: Granting, ending: Ending, deadlines: Deadlines) -> None:
        self._decided = decided
        self._ledger = decided.ledger
        self._granting = granting
        self._ending = ending
        self._deadlines = deadlines

    def settle(self, now: Now) -> None:
        """Follow consequences, so many at a time: the rest of a long cascade is for the next turns."""
        for _ in range(_DECISIONS):
            if not self._ledger.wakes:
                return
            run, number, lo, hi = self._ledger.wakes.popleft()
            self._decide(run, run.nodes[number], lo, hi, now)

    def _decide(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        """Find what the waiting elements of a range may do: start, end as another, or wait."""
        for a, b in list(spans(node.state, lo, hi, State.WAITING)):
            for c, d in node.not_replaced(a, b):
                self._decide_span(run, node, c, d, now)
            for index in within(node.own.replaced, a, b) if node.own is not None else ():
                self._as_replaced(run, node, index, now)

    def _as_replaced(self, run: Run, node: Node, index: int, now: Now) -> None:
        value = node.sparse.replaced[index].value
        if isinstance(value, Slice):
            inner = run.nodes[value.node]
            state = State(inner.state[value.lo])
            if state in (State.FAILURE, State.REVOKED):
                self._inherit_from(
                    run, node, index, index + 1, inner, value.lo, value.lo + 1, True, state, now
                )
            for fact in inner.covering(value.lo, value.lo + 1):
                if isinstance(fact, Became):  # however often it was replaced, its value is one step away
                    value = fact.value
        else:
            members = run.lists[value.number]
            state = State.SUCCESS if members.left == 0 else State.WAITING
            if members.cause is not None:
                self._inherit(run, node, index, index + 1, *members.cause, now)
                return
        if state == State.SUCCESS:
            self._decided.emit(Became(run.number, node.number, index, index + 1, value, now.wall_s))

    def _decide_span(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        spec = node.spec
        if spec.after_list != NONE:
            self._after_list(run, node, lo, hi, run.lists[spec.after_list], now)
        elif spec.after_node != NONE:
            parent = run.nodes[spec.after_node]
            if parent.spec.size == 1:
                self._after_node(run, node, lo, hi, parent, 0, 1, now)
            else:
                self._after_node(run, node, lo, hi, parent, lo, hi, now)
        else:
            self.ready(run, node, lo, hi, run.at_s, now)

    def _after_list(self, run: Run, node: Node, lo: int, hi: int, members: List, now: Now) -> None:
        on = node.spec.on
        if members.left and (members.cause is None or on == On.SETTLED):
            return
        if members.cause is None:
            at, index, state = NONE, NONE, State.SUCCESS
        else:
            at, index, state = members.cause
        for a, b, own in self._own(run, node.spec, lo, hi, state):
            match _verdict(on, state, own):
                case _Verdict.RUN:
                    self.ready(run, node, a, b, members.ended_s or now.wall_s, now)
                case _Verdict.INHERIT:
                    self._inherit(run, node, a, b, at, index, state, now)
                case _Verdict.SKIP:
                    self._skip(run, node, a, b, now)

    def _after_node(
        self, run: Run, node: Node, lo: int, hi: int, parent: Node, plo: int, phi: int, now: Now
    ) -> None:
        """Let elements follow those of a parent: one for all, or each its own."""
        single = parent.spec.size == 1
        for state in (State.SUCCESS, State.FAILURE, State.REVOKED, State.SKIPPED):
            for a, b in list(spans(parent.state, plo, phi, state)):
                start, end = (lo, hi) if single else (a, b)
                for c, d, own in self._own(run, node.spec, start, end, state):
                    match _verdict(node.spec.on, state, own):
                        case _Verdict.RUN:
                            self.ready(run, node, c, d, parent.ended_s, now)
                        case _Verdict.INHERIT:
                            at = (a, b) if single else (c, d)
                            self._inherit_from(run, node, c, d, parent, *at, single, state, now)
                        case _Verdict.SKIP:
                            self._skip(run, node, c, d, now)

    def _own(
        self, run: Run, spec: NodeSpec, lo: int, hi: int, state: State
    ) -> Iterator[tuple[int, int, bool | None]]:
        """Yield ranges, and whether the failure of what they follow is its own (see ``_verdict``)."""
        if state == State.SUCCESS or spec.on not in (On.FAILURE, On.SETTLED):
            yield lo, hi, True
        elif spec.given_list != NONE:
            gate = run.lists[spec.given_list]
            yield lo, hi, False if gate.cause is not None else True if gate.left == 0 else None
        elif spec.given_node == NONE:
            yield lo, hi, True
        else:
            parent = run.nodes[spec.given_node]
            single = parent.spec.size == 1
            plo, phi = (0, 1) if single else (lo, hi)
            for value in State:
                for a, b in list(spans(parent.state, plo, phi, value)):
                    own = value == State.SUCCESS if value >= State.SUCCESS else None
                    yield (lo, hi, own) if single else (a, b, own)

    def _inherit_from(
        self, run: Run, node: Node, lo: int, hi: int, parent: Node, plo: int, phi: int, single: bool,
        state: State, now: Now,
    ) -> None:  # fmt: skip
        """End elements as those of a parent did: with the cause that those have."""
        for fact in parent.covering(plo, phi):
            start, end = (lo, hi) if single else (max(plo, fact.lo), min(phi, fact.hi))
            at, index = parent.number, plo if single else NONE
            if isinstance(fact, Inherited):
                at, index = fact.cause_node, fact.cause_index
                index = plo if single and index == NONE else index
            self._inherit(run, node, start, end, at, index, state, now)

    def _inherit(
        self, run: Run, node: Node, lo: int, hi: int, at: int, index: int, state: State, now: Now
    ) -> None:
        if state == State.SKIPPED:
            self._skip(run, node, lo, hi, now)
        else:
            fact = Inherited(run.number, node.number, lo, hi, state, at, index, now.wall_s)
            self._decided.emit(fact)

    def _skip(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        fact = Ended(run.number, node.number, lo, hi, State.SKIPPED, "skipped", "", now.wall_s)
        self._decided.emit(fact)

    # -------------------------------------------------------------- when

    def ready(self, run: Run, node: Node, lo: int, hi: int, since_s: float, now: Now) -> None:
        """Queue waiting elements, or schedule them if it is not yet their time."""
        expires_s = expiry_s(run, node.spec)
        if expires_s is not None and expires_s <= now.wall_s:
            self._ending.expire(run, node, lo, hi, now)
            return
        due = node.own.due if node.own is not None else {}
        at = lo
        for index in within(due, lo, hi) if due else ():
            if at < index:
                self._at_first(run, node, at, index, since_s, now)
            self._again(run, node, index, due[index], now)
            at = index + 1
        if at < hi:
            self._at_first(run, node, at, hi, since_s, now)

    def _at_first(self, run: Run, node: Node, lo: int, hi: int, since_s: float, now: Now) -> None:
        options = node.spec.options
        self._when(run, node, lo, hi, State.SCHEDULED, options.eta_s, options.countdown_s, since_s, now)

    def _again(self, run: Run, node: Node, index: int, due: Deferred, now: Now) -> None:
        self._when(run, node, index, index + 1, State.RETRY, due.eta_s, due.delay_s, due.at_s, now)

    def _when(
        self, run: Run, node: Node, lo: int, hi: int, state: State, eta_s: float | None,
        delay_s: float | None, since_s: float, now: Now,
    ) -> None:  # fmt: skip
        """Queue elements, or let them be due at a time or so long after something."""
        until_eta_s = (eta_s or 0.0) - now.wall_s
        wait_s = 0.0
        if delay_s is not None:  # a wall clock that was set back makes it no longer
            wait_s = min(delay_s, since_s + delay_s - now.wall_s)
        if max(until_eta_s, wait_s) <= 0:
            self._granting.add(run, node, lo, hi)
            return
        self._granting.later(node, lo, hi, state)
        due = ("due", run.number, node.number, lo, hi)
        if until_eta_s > wait_s:
            self._deadlines.at_wall(now.wall_s + until_eta_s, due)
        else:
            self._deadlines.at_mono(now.mono_s + wait_s, due)


def due_s(run: Run, node: Node, index: int) -> float:
    """Return the Unix time at which an element that is SCHEDULED or RETRY is to be queued, or about that."""
    due = node.own.due.get(index) if node.own is not None else None
    spec = node.spec
    if due is not None:
        eta_s, delay_s, since_s = due.eta_s, due.delay_s, due.at_s
    else:
        eta_s, delay_s, since_s = spec.options.eta_s, spec.options.countdown_s, run.at_s
        if spec.after_list != NONE:
            since_s = run.lists[spec.after_list].ended_s
        elif spec.after_node != NONE:
            since_s = run.nodes[spec.after_node].ended_s
    return max(eta_s or 0.0, since_s + delay_s if delay_s is not None else 0.0)


def expiry_s(run: Run, spec: NodeSpec) -> float | None:
    """Return the Unix time at which what has not started of a node expires, or None."""
    options = spec.options
    times = [options.expires_at_s] if options.expires_at_s is not None else []
    if options.expires_s is not None:
        times.append(run.at_s + options.expires_s)
    return min(times, default=None)
