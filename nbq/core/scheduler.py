"""The scheduler: events in, facts and actions out.

``handle`` decides. ``apply`` is the only code that changes durable state: it is called for every
fact as soon as that is decided, and again, with the same facts, when a hub recovers. What an element
may do next (start, fail with its parent, wait) is not a fact: ``_decide`` finds it from durable
state, and is called alike for what just happened and, after recovery, for everything.

Facts of one ``handle`` belong together: the hub commits them in one transaction, and performs actions
only after that, but for grants (``docs/adr/0003``). Never waits, sends, sleeps, logs or reads a clock.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from msgspec import Struct

from nbq.core import facts as f
from nbq.core.actions import Action, Discard, Disown, Grant, Interrupt, Keep, Recall, Reject
from nbq.core.deadlines import Deadlines
from nbq.core.events import (
    Beat,
    Began,
    CancelAsked,
    EngineGone,
    EngineJoined,
    EngineLeaving,
    Event,
    ForgetAsked,
    GaveBack,
    Outcome,
    Reported,
    SlotDied,
    Submitted,
    Ticked,
)
from nbq.core.fleet import Engine
from nbq.core.graph import UnfitGraph, check_graph
from nbq.core.ledger import Ledger
from nbq.core.model import NONE, NodeSpec, Now, State
from nbq.core.ready import ReadyQueue, ReadyRange
from nbq.core.runs import Lease, Node, Run, spans

__all__ = ["Limits", "Scheduler"]

_TOKEN_BITS = 40
_LEASE_SIZE = 256
_POISON_DEATHS = 3
"""A task is failed when it has started in this many dying slots (design, promise 3)."""

_FORGET_AT_ONCE = 64
_DECISIONS = 1000
"""Decisions at once, some 10 to 20 microseconds each (design, promise 10: no turn over 50 ms)."""
_RECALL_PATIENCE_S = 0.1
_UNEVEN_TICK_S = 0.01


class Limits(Struct, frozen=True):
    """The bounds of a hub. Times in seconds, sizes in bytes."""

    lease_s: float = 15.0
    """An engine that is silent for so long has lost its leases."""
    grace_s: float = 1.0
    """An engine whose connection is gone has so long to come back."""
    unseen_s: float = 5.0
    """A lease of this age that its engine does not list is taken not to have arrived."""
    elements: int = 20_000_000
    """Elements that have not ended."""
    retention_s: float = 7 * 24 * 3600.0
    """A run that ended so long ago is forgotten."""
    retention_bytes: int = 1 << 30
    """Over so many bytes of runs that have ended, the oldest are forgotten."""
    retention_least_s: float = 60.0
    """No run is forgotten for its bytes before this age: who waits for it must be able to get it."""


class Scheduler:
    """All runs, queues and engines of one hub.

    Args:
        epoch: A number higher than in any earlier life of this hub's store; tokens begin with it.
        limits: The bounds.
    """

    def __init__(self, epoch: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.ledger = Ledger()
        self.queues: dict[str, ReadyQueue] = {}
        self._deadlines = Deadlines()
        self._token = epoch << _TOKEN_BITS
        self._facts: list[f.Fact] = []
        self._actions: list[Action] = []

    # -------------------------------------------------------------- what the hub calls

    def handle(self, event: Event, now: Now) -> tuple[list[f.Fact], list[Action]]:
        """Decide what one event leads to.

        Returns:
            The facts, already applied, to be committed together; and the actions to be performed
            after that.
        """
        match event:
            case Submitted():
                self._on_submitted(event, now)
            case CancelAsked():
                self._on_cancel(event, now)
            case ForgetAsked():
                self._on_forget(event)
            case EngineJoined():
                self._on_joined(event, now)
            case EngineGone():
                self._on_gone(event, now)
            case EngineLeaving():
                self._on_leaving(event)
            case Beat():
                self._on_beat(event, now)
            case Began():
                self._on_began(event)
            case Reported():
                self._on_reported(event, now)
            case GaveBack():
                self._on_gave_back(event, now)
            case SlotDied():
                self._on_slot_died(event, now)
            case Ticked():
                self._on_tick(now)
            case _:
                assert_never(event)
        self._settle(now)
        decided = self._facts, self._actions
        self._facts, self._actions = [], []
        return decided

    def apply(self, fact: f.Fact) -> None:
        """Change durable state as a fact says; the same live and in recovery."""
        self.ledger.apply(fact)

    def recovered(self, now: Now) -> tuple[list[f.Fact], list[Action]]:
        """Take up work again after all facts were applied.

        What may be running waits one lease period for its engine to report it; everything else is
        decided anew and can start at once.
        """
        self.ledger.wakes.clear()
        for engine in list(self.ledger.fleet.engines.values()):
            if not engine.leases:
                self.ledger.fleet.drop(engine)
            engine.deadline_s = now.mono_s + self.limits.lease_s
            self._deadlines.watch_engine(engine.deadline_s, engine.id)
        for run in self.ledger.unfinished.values():
            for node in run.nodes:
                self._watch_expiry(run, node)
                self.ledger.wakes.append((run, node.number, 0, node.spec.size))
        finished = [(run.finished_s or 0.0, run.number) for run in self.ledger.runs.values() if not run.left]
        self.ledger.finished = deque(number for _, number in sorted(finished))
        self._settle(now)
        decided = self._facts, self._actions
        self._facts, self._actions = [], []
        return decided

    def wait_s(self, now: Now) -> float:
        """Return for how many seconds nothing will happen by itself."""
        if self.ledger.wakes:
            return 0.0
        wait = self._deadlines.wait_s(now)
        return min(wait, _UNEVEN_TICK_S) if self.ledger.fleet.uneven() else wait

    def reserve(self) -> int:
        """Return a run number for a run whose blocks are stored before it is submitted."""
        return self.ledger.reserve()

    # -------------------------------------------------------------- runs

    def _on_submitted(self, event: Submitted, now: Now) -> None:
        if event.id in self.ledger.by_id:
            return  # sent again: the same acknowledgement, and nothing else, follows
        total = sum(node.size for node in event.graph.nodes)
        if self.ledger.left + total > self.limits.elements:
            self._reject("busy", f"the hub holds {self.ledger.left:,} unfinished tasks; submit again later")
            return
        try:
            check_graph(event.graph, event.blocks)
        except UnfitGraph as error:
            self._reject("graph", str(error))
            return
        given = [text for node in event.graph.nodes for text in node.ids.values()]
        for text in given:
            if text in self.ledger.given:
                self._reject("task_id", f"a task with the id {text!r} exists already")
                return
        if len(set(given)) < len(given):
            self._reject("task_id", "the same task id is given twice")
            return
        number = self.ledger.reserve() if event.number == NONE else event.number
        self._emit(f.Accepted(number, event.id, event.owner, now.wall_s, event.graph, event.blocks))
        for source in range(event.staged, len(event.blocks)):
            if not event.blocks[source].blob:
                self._actions.append(Keep(number, source, source - event.staged))
        run = self.ledger.runs[number]
        for node in run.nodes:
            self._watch_expiry(run, node)
            if node.spec.after_node == NONE and node.spec.after_list == NONE:
                self.ledger.wakes.append((run, node.number, 0, node.spec.size))

    def _reject(self, code: str, text: str) -> None:
        self._actions.append(Reject(code, text))

    def _watch_expiry(self, run: Run, node: Node) -> None:
        at_s = _expiry_s(run, node.spec)
        if at_s is not None and node.left:
            self._deadlines.at_wall(at_s, ("expire", run.number, node.number, 0, node.spec.size))

    def _on_cancel(self, event: CancelAsked, now: Now) -> None:
        run = self.ledger.by_id.get(event.id)
        if run is None:
            self._reject("unknown", "no such run")
            return
        nodes = run.nodes if event.node == NONE else run.nodes[event.node : event.node + 1]
        for node in nodes:
            lo, hi = (0, node.spec.size) if event.node == NONE else (event.lo, event.hi)
            self._end_here(run, node, lo, min(hi, node.spec.size), "cancelled", event.text, now)

    def _end_here(
        self, run: Run, node: Node, lo: int, hi: int, code: str, text: str, now: Now, *, whole: bool = True
    ) -> None:
        """Revoke what has not ended; with ``whole`` also what an engine holds."""
        held = (State.LEASED, State.STARTED) if whole else ()
        for value in (State.WAITING, State.SCHEDULED, State.RETRY, State.QUEUED, *held):
            for a, b in list(spans(node.state, lo, hi, value)):
                if value == State.QUEUED:
                    self.queues[node.spec.options.queue].queued -= b - a
                elif value in held:
                    self._interrupt(run, node, a, b)
                fact = f.Ended(run.number, node.number, a, b, State.REVOKED, code, text, now.wall_s)
                self._emit(fact)

    def _interrupt(self, run: Run, node: Node, lo: int, hi: int) -> None:
        for lease in list(run.leases.values()):
            if lease.node == node.number and lease.lo < hi and lo < lease.hi:
                for a, b in lease.ranges(lo, hi):
                    self._actions.append(Interrupt(lease.engine, lease.token, a, b))

    def _on_forget(self, event: ForgetAsked) -> None:
        run = self.ledger.by_id.get(event.id)
        if run is None:
            self._reject("unknown", "no such run")
        elif run.left:
            self._reject("unfinished", "the run has not finished; cancel it first")
        else:
            self._forget(run)

    def _forget(self, run: Run) -> None:
        blobs = run.blobs()
        self._emit(f.Forgotten(run.number))
        functions = [address for address in run.functions() if address not in self.ledger.functions]
        if blobs or functions:
            self._actions.append(Discard(blobs, functions))

    # -------------------------------------------------------------- what follows

    def _settle(self, now: Now) -> None:
        """Follow consequences, so many at a time: the rest of a long cascade is for the next turns."""
        for _ in range(_DECISIONS):
            if not self.ledger.wakes:
                return
            run, number, lo, hi = self.ledger.wakes.popleft()
            self._decide(run, number, lo, hi, now)

    def _decide(self, run: Run, number: int, lo: int, hi: int, now: Now) -> None:
        """Find what the waiting elements of a range may do: start, end as their parent, or wait."""
        node = run.nodes[number]
        spec = node.spec
        waiting = list(spans(node.state, lo, hi, State.WAITING))
        if spec.after_list != NONE:
            members = run.lists[spec.after_list]
            for a, b in waiting:
                if members.cause is not None:
                    at, index, state = members.cause
                    self._inherit(run, node, a, b, at, index, state, now)
                elif members.left == 0:
                    self._ready(run, node, a, b, members.ended_s, now)
        elif spec.after_node != NONE:
            parent = run.nodes[spec.after_node]
            for a, b in waiting:
                if parent.spec.size == 1:
                    self._follow(run, node, a, b, parent, 0, 1, now)
                else:
                    self._follow(run, node, a, b, parent, a, b, now)
        else:
            for a, b in waiting:
                self._ready(run, node, a, b, run.at_s, now)

    def _follow(
        self, run: Run, node: Node, lo: int, hi: int, parent: Node, plo: int, phi: int, now: Now
    ) -> None:
        """Let elements follow those of a parent: one for all, or each its own."""
        single = parent.spec.size == 1
        for a, b in list(spans(parent.state, plo, phi, State.SUCCESS)):
            start, end = (lo, hi) if single else (a, b)
            self._ready(run, node, start, end, parent.ended_s, now)
        for state in (State.FAILURE, State.REVOKED):
            for a, b in list(spans(parent.state, plo, phi, state)):
                for fact in parent.covering(a, b):
                    start, end = (lo, hi) if single else (max(a, fact.lo), min(b, fact.hi))
                    at, index = parent.number, a if single else NONE
                    if isinstance(fact, f.Inherited):
                        at, index = fact.cause_node, fact.cause_index
                        index = a if single and index == NONE else index
                    self._inherit(run, node, start, end, at, index, state, now)

    def _inherit(
        self, run: Run, node: Node, lo: int, hi: int, at: int, index: int, state: State, now: Now
    ) -> None:
        self._emit(f.Inherited(run.number, node.number, lo, hi, state, at, index, now.wall_s))

    def _ready(self, run: Run, node: Node, lo: int, hi: int, since_s: float, now: Now) -> None:
        """Queue waiting elements, or schedule them if it is not yet their time."""
        options = node.spec.options
        until_eta_s = (options.eta_s or 0.0) - now.wall_s
        wait_s = 0.0
        if options.countdown_s is not None:  # a wall clock that was set back makes it no longer
            wait_s = min(options.countdown_s, since_s + options.countdown_s - now.wall_s)
        expiry_s = _expiry_s(run, node.spec)
        if expiry_s is not None and expiry_s <= now.wall_s:
            self._end_here(run, node, lo, hi, "expired", "expired", now, whole=False)
        elif max(until_eta_s, wait_s) > 0:
            node.state[lo:hi] = bytes([State.SCHEDULED]) * (hi - lo)
            due = ("due", run.number, node.number, lo, hi)
            if until_eta_s > wait_s:
                self._deadlines.at_wall(now.wall_s + until_eta_s, due)
            else:
                self._deadlines.at_mono(now.mono_s + wait_s, due)
        else:
            self._queue(run, node, lo, hi)

    def _queue(self, run: Run, node: Node, lo: int, hi: int, *, front: bool = False) -> None:
        node.state[lo:hi] = bytes([State.QUEUED]) * (hi - lo)
        options = node.spec.options
        queue = self.queues.get(options.queue)
        if queue is None:
            queue = self.queues[options.queue] = ReadyQueue(options.queue)
        queue.queued += hi - lo
        queue.push(options.priority, ReadyRange(run.number, node.number, lo, hi), front=front)

    # -------------------------------------------------------------- granting

    def _dispatch(self, now: Now) -> None:
        for queue in self.queues.values():
            while (head := queue.head()) is not None:
                run = self.ledger.runs.get(head.run)
                node = run.nodes[head.node] if run is not None else None
                at = node.state.find(State.QUEUED, head.lo, head.hi) if node is not None else NONE
                if run is None or node is None or at < 0:
                    queue.drop_head()
                    continue
                cost_s = self.ledger.fleet.cost_s(node.spec.function)
                picked = self.ledger.fleet.pick(queue.name, cost_s)
                if picked is None:
                    break
                end = self._lease_end(queue, node, at, head.hi, picked[1])
                head.lo = end
                queue.queued -= end - at
                self._grant(run, node, at, end, picked[0], cost_s, now)
                if head.lo >= head.hi:
                    queue.drop_head()

    def _lease_end(self, queue: ReadyQueue, node: Node, lo: int, hi: int, room: int) -> int:
        """Return where a lease from ``lo`` ends: within room, one block, a fair share and one attempt."""
        serving = self.ledger.fleet.serving(queue.name) if queue.queued < _LEASE_SIZE * 8 else 1
        share = room if serving == 1 else max(1, queue.queued // (2 * serving))
        block_end = hi if node.spec.shared else node.args_block(lo)[2]
        end = min(hi, block_end, lo + min(room, share, _LEASE_SIZE))
        end = next(spans(node.state, lo, end, State.QUEUED))[1]
        if not node.losses:
            return end
        attempt = node.started(lo)
        return next((index for index in range(lo + 1, end) if node.started(index) != attempt), end)

    def _grant(self, run: Run, node: Node, lo: int, hi: int, engine: Engine, cost_s: float, now: Now) -> None:
        self._token += 1
        token = self._token
        self._emit(f.Leased(run.number, node.number, lo, hi, token, engine.id))
        lease = self.ledger.leases[token]
        lease.at_s = now.mono_s
        lease.cost_s = cost_s
        engine.load_s += cost_s * (hi - lo)
        self.ledger.fleet.note(engine)
        self._actions.append(Grant(engine.id, run.number, node.number, lo, hi, token, node.started(lo)))

    # -------------------------------------------------------------- engines

    def _on_joined(self, event: EngineJoined, now: Now) -> None:
        engine = self.ledger.fleet.engine(event.engine)
        engine.info = event.info
        engine.gone = engine.leaving = False
        engine.recalled_s = None
        self._hear(engine, now)
        self._deadlines.watch_engine(engine.deadline_s, engine.id)
        held = set(event.held)
        for lease in reversed(list(engine.leases.values())):
            if lease.token not in held:
                self._give_back(lease, lease.lo, lease.hi, now)
                continue
            for a, b in lease.closed():
                self._actions.append(Interrupt(engine.id, lease.token, a, b))
        self._disown(engine, event.held)
        self.ledger.fleet.note(engine)

    def _on_gone(self, event: EngineGone, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is not None and not engine.gone:
            engine.gone = True
            engine.deadline_s = min(engine.deadline_s, now.mono_s + self.limits.grace_s)
            self._deadlines.watch_engine(engine.deadline_s, engine.id)
            self.ledger.fleet.note(engine)

    def _on_leaving(self, event: EngineLeaving) -> None:
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is not None:
            engine.leaving = True
            self.ledger.fleet.note(engine)

    def _on_beat(self, event: Beat, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is None or engine.info is None:
            return
        self._hear(engine, now)
        held = set(event.held)
        for lease in reversed(list(engine.leases.values())):
            if lease.token not in held and now.mono_s - lease.at_s > self.limits.unseen_s:
                self._give_back(lease, lease.lo, lease.hi, now)
        self._disown(engine, event.held)

    def _hear(self, engine: Engine, now: Now) -> None:
        engine.heard_s = now.mono_s
        engine.deadline_s = now.mono_s + self.limits.lease_s

    def _disown(self, engine: Engine, held: list[int]) -> None:
        stale = [token for token in held if token not in engine.leases]
        if stale:
            self._actions.append(Disown(engine.id, stale))

    def _on_began(self, event: Began) -> None:
        for token, index in event.running:
            lease = self.ledger.leases.get(token)
            if lease is not None and lease.engine == event.engine and lease.covers(index, index + 1):
                lease.run.nodes[lease.node].state[index] = State.STARTED

    def _on_gave_back(self, event: GaveBack, now: Now) -> None:
        lease = self.ledger.leases.get(event.token)
        if lease is not None and lease.engine == event.engine:
            engine = self.ledger.fleet.engine(lease.engine)
            engine.recalled_s = None
            self._give_back(lease, event.lo, event.hi, now)

    def _give_back(self, lease: Lease, lo: int, hi: int, now: Now, *, lost: bool = False) -> None:
        """Return the open elements of a lease to the front of their queue.

        ``lost`` says that they may have begun on an engine that is lost.
        """
        run, node = lease.run, lease.run.nodes[lease.node]
        for a, b in reversed(list(lease.ranges(lo, hi))):
            self._emit(f.Returned(run.number, node.number, a, b, lease.token, lost=lost))
            self._queue_again(run, node, a, b, now)

    def _queue_again(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        expiry_s = _expiry_s(run, node.spec)
        if expiry_s is not None and expiry_s <= now.wall_s:
            self._end_here(run, node, lo, hi, "expired", "expired", now, whole=False)
        else:
            self._queue(run, node, lo, hi, front=True)

    def _on_slot_died(self, event: SlotDied, now: Now) -> None:
        lease = self.ledger.leases.get(event.token)
        if lease is None or lease.engine != event.engine:
            self._actions.append(Disown(event.engine, [event.token]))
            return
        if not lease.covers(event.index, event.index + 1):
            return
        run, node, index = lease.run, lease.run.nodes[lease.node], event.index
        token = lease.token
        self._emit(f.Returned(run.number, node.number, index, index + 1, token, True, event.text))
        deaths = node.deaths[index]
        if deaths < _POISON_DEATHS:
            self._queue_again(run, node, index, index + 1, now)
        else:
            text = f"it started in {deaths} slots that died; the last: {event.text}"
            number = node.number
            self._emit(f.Ended(run.number, number, index, index + 1, State.FAILURE, "lost", text, now.wall_s))

    def _on_reported(self, event: Reported, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is not None and engine.info is not None:
            self._hear(engine, now)
        for source, outcome in enumerate(event.outcomes):
            lease = self.ledger.leases.get(outcome.token)
            if lease is None or lease.engine != event.engine:
                self._actions.append(Disown(event.engine, [outcome.token]))
            else:
                self._take(lease, outcome, source, now)

    def _take(self, lease: Lease, outcome: Outcome, source: int, now: Now) -> None:
        """Record an outcome for those of its elements that are still open under its lease."""
        run, node = lease.run, lease.run.nodes[lease.node]
        count = outcome.hi - outcome.lo
        if count <= 0 or len(outcome.states) not in (0, count) or outcome.states.strip(_OUTCOMES):
            return
        self.ledger.fleet.measured(node.spec.function, outcome.seconds / count)
        engine = self.ledger.fleet.engine(lease.engine)
        name = engine.info.name if engine.info is not None else ""
        block = NONE
        for a, b in list(lease.ranges(outcome.lo, outcome.hi)):
            if block == NONE and outcome.size:
                block = run.next_block
                if not outcome.blob:
                    self._actions.append(Keep(run.number, block, source))
            states = outcome.states[a - outcome.lo : b - outcome.lo] if outcome.states else b""
            self._emit(
                f.Settled(
                    run.number, node.number, a, b, lease.token, states, block, outcome.size,
                    outcome.blob, now.wall_s, name, outcome.seconds * (b - a) / count, outcome.errors,
                    outcome.lo, count,
                )
            )  # fmt: skip

    # -------------------------------------------------------------- time

    def _on_tick(self, now: Now) -> None:
        for number in self._deadlines.engines(now):
            self._look_after(number, now)
        for kind, number, at, lo, hi in self._deadlines.elements(now):
            run = self.ledger.runs.get(number)
            if run is None:
                continue
            node = run.nodes[at]
            if kind == "due":
                for a, b in list(spans(node.state, lo, hi, State.SCHEDULED)):
                    self._queue(run, node, a, b)
            else:
                self._end_here(run, node, lo, hi, "expired", "expired", now, whole=False)
        self._retain(now)
        self._settle(now)
        self._dispatch(now)
        for engine, count in self.ledger.fleet.recalls(now, _RECALL_PATIENCE_S):
            self._actions.append(Recall(engine.id, count))

    def _look_after(self, number: bytes, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(number)
        if engine is None:
            return
        if engine.deadline_s > now.mono_s:
            self._deadlines.watch_engine(engine.deadline_s, engine.id)
            return
        for lease in reversed(list(engine.leases.values())):
            self._give_back(lease, lease.lo, lease.hi, now, lost=True)
        self.ledger.fleet.drop(engine)

    def _retain(self, now: Now) -> None:
        """Forget the oldest finished runs that are beyond the bounds, a few at a time."""
        for _ in range(_FORGET_AT_ONCE):
            if not self.ledger.finished:
                return
            run = self.ledger.runs.get(self.ledger.finished[0])
            if run is None:
                self.ledger.finished.popleft()
                continue
            age_s = now.wall_s - (run.finished_s or 0.0)
            heavy = self.ledger.kept > self.limits.retention_bytes
            if age_s <= self.limits.retention_s and not (heavy and age_s > self.limits.retention_least_s):
                return
            self.ledger.finished.popleft()
            self._forget(run)

    def _emit(self, fact: f.Fact) -> None:
        self._facts.append(fact)
        self.apply(fact)


_OUTCOMES = bytes([State.SUCCESS, State.FAILURE, State.REVOKED])


def _expiry_s(run: Run, spec: NodeSpec) -> float | None:
    """Return the Unix time at which what has not started of a node expires, or None."""
    options = spec.options
    times = [options.expires_at_s] if options.expires_at_s is not None else []
    if options.expires_s is not None:
        times.append(run.at_s + options.expires_s)
    return min(times, default=None)
