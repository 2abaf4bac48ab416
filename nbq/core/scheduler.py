"""The scheduler: events in, facts and actions out.

``handle`` decides. ``apply`` is the only code that changes durable state: it is called for every
fact as soon as that is decided, and again, with the same facts, when a hub recovers. What an element
may do next is not a fact (see ``following``), nor is what is queued (see ``granting``).

Facts of one ``handle`` belong together: the hub commits them in one transaction, and performs actions
only after that, but for grants (``docs/adr/0003``). Never waits, sends, sleeps, logs or reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import tzinfo
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from nbq.core import facts as f
from nbq.core.actions import Action, Disown, Interrupt, Keep, Recall, Reject
from nbq.core.deadlines import Deadlines
from nbq.core.decided import Decided
from nbq.core.ending import Ending
from nbq.core.events import (
    AbortAsked,
    Beat,
    Began,
    CancelAsked,
    EngineGone,
    EngineJoined,
    EngineLeaving,
    EngineResized,
    Event,
    ForgetAsked,
    GaveBack,
    KnowsTasks,
    Noted,
    QueueSteered,
    RateSet,
    Reported,
    ScheduleChanged,
    SchedulePut,
    SlotDied,
    Steering,
    Submitted,
    Ticked,
    WaitsFor,
)
from nbq.core.firing import Firing, utc_alone
from nbq.core.fleet import Engine
from nbq.core.following import Following, expiry_s
from nbq.core.granting import Granting
from nbq.core.graph import UnfitGraph, check_graph
from nbq.core.ledger import Ledger
from nbq.core.making import Making
from nbq.core.model import NONE, Now, State
from nbq.core.outcomes import Outcomes
from nbq.core.runs import Lease, Node, Run, spans
from nbq.core.scaling import Scaling
from nbq.core.steering import Helm

__all__ = ["Limits", "Scheduler"]

_POISON_DEATHS = 3
"""A task is failed when it has started in this many dying slots (design, promise 3)."""

_AT_MOST_ONCE = "its engine or slot was lost after it was granted, and acks_late=False means at most once"

_FORGET_AT_ONCE = 64
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
        zone: Finds a time zone by its name, or raises ValueError.
    """

    def __init__(
        self, epoch: int, limits: Limits | None = None, zone: Callable[[str], tzinfo] = utc_alone
    ) -> None:
        self.limits = limits or Limits()
        self.ledger = Ledger()
        self._deadlines = Deadlines()
        self._decided = Decided(self.ledger, epoch)
        self.chronicle = self._decided.chronicle
        self._granting = Granting(self._decided, epoch)
        self._ending = Ending(self._decided, self._granting)
        self._following = Following(self._decided, self._granting, self._ending, self._deadlines)
        self._making = Making(self._decided, self._deadlines)
        elements = self.limits.elements
        self._helm = Helm(self._decided, self._granting, self._ending, self._making, elements)
        self._outcomes = Outcomes(self._decided, self._ending, self._making.watch_expiry, elements)
        retention_s = self.limits.retention_s
        self.firing = Firing(self._decided, self._making, self._ending, zone, elements, retention_s)
        self._scaling = Scaling(self.ledger.fleet)
        self.queues = self._granting.queues

    # -------------------------------------------------------------- what the hub calls

    def handle(self, event: Event, now: Now) -> tuple[list[f.Fact], list[Action]]:
        """Decide what one event leads to.

        Returns:
            The facts, already applied, to be committed together; and the actions to be performed
            after that.
        """
        self.chronicle.now_s = now.wall_s
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
            case Noted():
                self._on_noted(event)
            case WaitsFor() | KnowsTasks() | EngineResized():
                self._on_changed(event)
            case AbortAsked():
                self._on_abort(event, now)
            case Ticked():
                self._on_tick(now)
            case SchedulePut() | ScheduleChanged():
                self.firing.take(event, now)
            case Steering() | QueueSteered() | RateSet():
                self._helm.take(event, now)
            case _:
                assert_never(event)
        self._following.settle(now)
        if self._ending.fail_fast(now):
            self._following.settle(now)
        return self._decided.take()

    def apply(self, fact: f.Fact) -> None:
        """Change durable state as a fact says; the same live and in recovery."""
        self.ledger.apply(fact)

    def recovered(self, now: Now) -> tuple[list[f.Fact], list[Action]]:
        """Take up work again after all facts were applied.

        What may be running waits one lease period for its engine to report it; everything else is
        decided anew and can start at once.
        """
        self.ledger.wakes.clear()
        self.chronicle.now_s = now.wall_s
        for engine in list(self.ledger.fleet.engines.values()):
            if not engine.leases:
                self.ledger.fleet.drop(engine)
            engine.deadline_s = now.mono_s + self.limits.lease_s
            self._deadlines.watch_engine(engine.deadline_s, engine.id)
        for run in self.ledger.unfinished.values():
            for node in run.nodes:
                self._making.watch_expiry(run, node)
                self.ledger.wakes.append((run, node.number, 0, node.spec.size))
        finished = [(run.finished_s or 0.0, run.number) for run in self.ledger.runs.values() if not run.left]
        self.ledger.finished = deque(number for _, number in sorted(finished))
        self.firing.recovered()
        self._following.settle(now)
        return self._decided.take()

    def wait_s(self, now: Now) -> float:
        """Return for how many seconds nothing will happen by itself."""
        if self.ledger.wakes or self._helm.busy:
            return 0.0
        wait = self._deadlines.wait_s(now)
        for other in (self._granting.wait_s(now), self.firing.wait_s(now), self._scaling.wait_s(now)):
            if other is not None:
                wait = min(wait, other)
        return min(wait, _UNEVEN_TICK_S) if self.ledger.fleet.uneven() else wait

    def held_back(self, run: Run, node: Node, index: int, now: Now) -> tuple[float, int] | None:
        """Return how a rate holds a queued element back, if one does (see ``Granting.held_back``)."""
        return self._granting.held_back(run, node, index, now)

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
        self._decided.emit(f.Accepted(number, event.id, event.owner, now.wall_s, event.graph, event.blocks))
        for source in range(event.staged, len(event.blocks)):
            if not event.blocks[source].blob:
                self._decided.act(Keep(number, source, source - event.staged))
        self._making.begin(self.ledger.runs[number])

    def _reject(self, code: str, text: str) -> None:
        self._decided.act(Reject(code, text))

    def _on_cancel(self, event: CancelAsked, now: Now) -> None:
        run = self.ledger.by_id.get(event.id)
        if run is None:
            self._reject("unknown", "no such run")
            return
        nodes = run.nodes if event.node == NONE else run.nodes[event.node : event.node + 1]
        for node in nodes:
            lo, hi = (0, node.spec.size) if event.node == NONE else (event.lo, event.hi)
            self._ending.revoke(run, node, lo, min(hi, node.spec.size), "cancelled", event.text, now)

    def _on_abort(self, event: AbortAsked, now: Now) -> None:
        run = self.ledger.by_id.get(event.id)
        if run is None:
            self._reject("unknown", "no such run")
            return
        parts = ((node, 0, node.spec.size) for node in run.nodes)
        if event.node != NONE:
            named = run.nodes[event.node : event.node + 1]
            parts = (p for n in named for p in run.reach(n, event.lo, min(event.hi, n.spec.size)))
        for node, lo, hi in list(parts):
            self._ending.abort(run, node, lo, hi, now)

    def _on_forget(self, event: ForgetAsked) -> None:
        run = self.ledger.by_id.get(event.id)
        if run is None:
            self._reject("unknown", "no such run")
        elif event.lo != NONE and run.graph.each:
            self._drop(run, event.lo, event.hi)
        elif run.left:
            self._reject("unfinished", "the run has not finished; cancel it first")
        else:
            self._forget(run)

    def _drop(self, run: Run, lo: int, hi: int) -> None:
        """Drop some of separate calls; with the last of them all goes."""
        node = run.nodes[0]
        places = set(range(lo, min(hi, node.spec.size))) - run.dropped
        if not places:
            self._reject("unknown", "no such run")
        elif any(node.state[index] < State.SUCCESS for index in places):
            self._reject("unfinished", "the task has not finished; cancel it first")
        elif len(run.dropped) + len(places) == node.spec.size and not run.left:
            self._forget(run)
        else:
            self._decided.emit(f.Dropped(run.number, lo, hi))

    def _forget(self, run: Run) -> None:
        blobs = run.blobs()
        self._decided.emit(f.Forgotten(run.number))
        self._making.let_go(blobs, run.functions, run.origin.template if run.origin is not None else b"")

    # -------------------------------------------------------------- engines

    def _on_joined(self, event: EngineJoined, now: Now) -> None:
        engine = self.ledger.fleet.engine(event.engine)
        again = engine.info is not None and not engine.gone
        engine.info = event.info
        engine.gone = engine.leaving = False
        if not again:
            self.chronicle.engine("engine-joined", engine, f"{event.info.slots} slots on {event.info.host}")
        engine.recalled_s = None
        engine.waiting = 0
        self._hear(engine, now)
        self._deadlines.watch_engine(engine.deadline_s, engine.id)
        for other in self.ledger.fleet.before(engine):
            self.ledger.fleet.drop(other)
        held = set(event.held)
        for lease in reversed(list(engine.leases.values())):
            if lease.token not in held:
                self._lose(lease, lease.lo, lease.hi, now)
                continue
            for a, b in lease.closed():
                self._decided.act(Interrupt(engine.id, lease.token, a, b))
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
            if not engine.leaving:
                self.chronicle.engine("engine-drained", engine, "it takes nothing more, and ends")
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
                self._lose(lease, lease.lo, lease.hi, now)
        self._disown(engine, event.held)

    def _on_reported(self, event: Reported, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is not None and engine.info is not None:
            self._hear(engine, now)
        self._outcomes.take(event, now)

    def _hear(self, engine: Engine, now: Now) -> None:
        engine.heard_s = now.mono_s
        engine.deadline_s = now.mono_s + self.limits.lease_s

    def _disown(self, engine: Engine, held: list[int]) -> None:
        stale = [token for token in held if token not in engine.leases]
        if stale:
            self._decided.act(Disown(engine.id, stale))

    def _on_began(self, event: Began) -> None:
        for token, index in event.running:
            lease = self.ledger.leases.get(token)
            if lease is not None and lease.engine == event.engine and lease.covers(index, index + 1):
                self._seen_running(lease, index)

    def _seen_running(self, lease: Lease, index: int) -> None:
        node = lease.run.nodes[lease.node]
        if node.state[index] != State.STARTED:
            node.state[index] = State.STARTED
            self.chronicle.started(lease.run, node, index, self.ledger.fleet.engines[lease.engine])

    def _on_noted(self, event: Noted) -> None:
        lease = self.ledger.leases.get(event.token)
        if lease is not None and lease.engine == event.engine and lease.covers(event.index, event.index + 1):
            self._seen_running(lease, event.index)
            node, engine = lease.run.nodes[lease.node], self.ledger.fleet.engines[lease.engine]
            node.sparse.notes[event.index] = event.state, event.meta
            self.chronicle.progress(lease.run, node, event.index, engine, event.state)

    def _on_changed(self, event: WaitsFor | KnowsTasks | EngineResized) -> None:
        """What an engine has said of itself holds no more; what it now holds too much is asked back."""
        engine = self.ledger.fleet.engines.get(event.engine)
        if engine is None or engine.info is None:
            return
        if isinstance(event, WaitsFor):
            engine.waiting = event.count
        elif isinstance(event, KnowsTasks):
            engine.info = replace(engine.info, tasks=event.tasks)
        else:
            engine.info = replace(engine.info, slots=event.slots, least=event.least, most=event.most)
            if count := engine.excess():
                self._decided.act(Recall(engine.id, count))
        self.ledger.fleet.note(engine)

    def _on_gave_back(self, event: GaveBack, now: Now) -> None:
        lease = self.ledger.leases.get(event.token)
        if lease is not None and lease.engine == event.engine:
            engine = self.ledger.fleet.engine(lease.engine)
            engine.recalled_s = None
            self._give_back(lease, event.lo, event.hi, now)

    def _give_back(self, lease: Lease, lo: int, hi: int, now: Now, *, lost: bool = False) -> None:
        """Return the open elements of a lease to the front of their queue; ``lost`` ends an attempt."""
        run, node = lease.run, lease.run.nodes[lease.node]
        for a, b in reversed(list(lease.ranges(lo, hi))):
            self._decided.emit(f.Returned(run.number, node.number, a, b, lease.token, lost=lost))
            self._queue_again(run, node, a, b, now)
            if lost and node.state[a] == State.QUEUED:
                engine = self.ledger.fleet.engines.get(lease.engine)
                self.chronicle.again(run, node, a, b, engine, "its engine was lost")

    def _lose(self, lease: Lease, lo: int, hi: int, now: Now, *, begun: bool = False) -> None:
        """The engine of a lease does not have it (any more): it runs again, unless that could be twice.

        ``begun`` says that elements may have begun there.
        """
        node = lease.run.nodes[lease.node]
        if node.spec.options.acks_late:
            self._give_back(lease, lo, hi, now, lost=begun)
            return
        for a, b in list(lease.ranges(lo, hi)):
            self._ending.fail(lease.run, node, a, b, "lost", _AT_MOST_ONCE, now)

    def _queue_again(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        expires_s = expiry_s(run, node.spec)
        if expires_s is not None and expires_s <= now.wall_s:
            self._ending.expire(run, node, lo, hi, now)
        else:
            self._granting.add(run, node, lo, hi, front=True)

    def _on_slot_died(self, event: SlotDied, now: Now) -> None:
        lease = self.ledger.leases.get(event.token)
        if lease is None or lease.engine != event.engine:
            self._decided.act(Disown(event.engine, [event.token]))
            return
        if not lease.covers(event.index, event.index + 1):
            return
        run, node, index = lease.run, lease.run.nodes[lease.node], event.index
        token = lease.token
        self._decided.emit(f.Returned(run.number, node.number, index, index + 1, token, True, event.text))
        deaths = node.sparse.deaths[index]
        if not node.spec.options.acks_late:
            text = f"{_AT_MOST_ONCE}: {event.text}"
            self._ending.fail(run, node, index, index + 1, "lost", text, now)
        elif deaths < _POISON_DEATHS:
            self._queue_again(run, node, index, index + 1, now)
            if node.state[index] == State.QUEUED:
                engine = self.ledger.fleet.engines.get(event.engine)
                self.chronicle.again(run, node, index, index + 1, engine, event.text)
        else:
            text = f"it started in {deaths} slots that died; the last: {event.text}"
            self._ending.fail(run, node, index, index + 1, "lost", text, now)

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
                for state in (State.SCHEDULED, State.RETRY):
                    for a, b in list(spans(node.state, lo, hi, state)):
                        self._granting.removed(node, b - a, state)
                        self._granting.add(run, node, a, b)
            else:
                self._ending.revoke(run, node, lo, hi, "expired", "expired", now, held=False)
        self.firing.tick(now)
        self._retain(now)
        self._helm.go(now)
        self._following.settle(now)
        self._granting.dispatch(now)
        for engine, count in self.ledger.fleet.recalls(now, _RECALL_PATIENCE_S):
            self._decided.act(Recall(engine.id, count))
        if self._scaling.is_due(now):
            for demand in self._scaling.look(self._granting.unserved(), now):
                self._decided.act(demand)
        for engine, count in self._granting.recalls(now):
            self._decided.act(Recall(engine.id, count))

    def _look_after(self, number: bytes, now: Now) -> None:
        engine = self.ledger.fleet.engines.get(number)
        if engine is None:
            return
        if engine.deadline_s > now.mono_s:
            self._deadlines.watch_engine(engine.deadline_s, engine.id)
            return
        if engine.info is not None and not (engine.leaving and engine.gone and not engine.leases):
            silent_s = now.mono_s - engine.heard_s
            self.chronicle.engine("engine-lost", engine, f"not heard for {silent_s:.1f} s")
        for lease in reversed(list(engine.leases.values())):
            self._lose(lease, lease.lo, lease.hi, now, begun=True)
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
