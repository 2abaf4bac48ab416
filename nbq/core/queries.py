"""Questions about the scheduler's state, and their answers for people. Nothing here changes state."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from msgspec import Struct

from nbq.core.facts import Ended, Settled
from nbq.core.fleet import Engine, Fleet
from nbq.core.graph import value_nodes
from nbq.core.ids import element_text, parse_id
from nbq.core.ledger import Ledger
from nbq.core.model import NONE, NodeSpec, Now, State
from nbq.core.runs import Lease, Node, Run
from nbq.core.scheduler import Scheduler
from nbq.core.views import ElementView, EngineView, QueueView, RunView

__all__ = [
    "Wanted",
    "call",
    "count_states",
    "element",
    "engines",
    "find",
    "note",
    "queues",
    "row",
    "runs",
    "shown_state",
    "shown_task",
    "tasks",
    "totals",
    "whole",
]

_LOOKS = 10_000
"""What is looked at for one answer, in steps of about a microsecond (design, promise 10)."""
_BYTES = 1000
"""How many states are searched in a step."""
_SHOWN = [state for state in State if state != State.SKIPPED]


def shown_state(state: int) -> str:
    """Return the name that users see for a state; what is granted but not running is QUEUED."""
    return State.QUEUED.name if state == State.LEASED else State(state).name


def count_states(nodes: Sequence[Node]) -> dict[str, int]:
    """Return how many elements of some nodes are in each state, by shown name."""
    if len(nodes) == 1 and len(nodes[0].state) == 1:
        state = State(nodes[0].state[0])
        return {} if state == State.SKIPPED else {shown_state(state): 1}
    counts: dict[str, int] = {}
    every = b"".join([node.state for node in nodes])  # to count them all at once is by far the quickest
    for state in _SHOWN:
        count = every.count(state)
        if count:
            name = shown_state(state)
            counts[name] = counts.get(name, 0) + count
    return counts


def totals(scheduler: Scheduler) -> dict[str, int]:
    """Return how many elements of all runs are in each state, by shown name; it looks at no run."""
    ledger = scheduler.ledger
    queues = scheduler.queues.values()
    held = sum(lease.open.bit_count() for lease in ledger.leases.values())
    started = sum(_started(lease) for lease in ledger.leases.values())
    counts = {
        State.SCHEDULED: sum(queue.scheduled for queue in queues),
        State.RETRY: sum(queue.again for queue in queues),
        State.QUEUED: sum(queue.queued for queue in queues) + held - started,
        State.STARTED: started,
    }
    counts = {State.WAITING: ledger.left - sum(counts.values()), **counts}
    counts |= {state: ledger.ended[state] for state in _SHOWN if state >= State.SUCCESS}
    return {shown_state(state): count for state, count in counts.items() if count}


def _started(lease: Lease) -> int:
    """Return how many elements of a lease were seen running."""
    return lease.run.nodes[lease.node].state.count(State.STARTED, lease.lo, lease.hi)


def find(scheduler: Scheduler, text: str) -> tuple[Run, int, int] | None:
    """Return run, node and index that an id names; the node is NONE for the id of a run."""
    ledger = scheduler.ledger
    given = ledger.given.get(text)
    if given is not None:
        number, node, index = given
        return ledger.runs[number], node, index
    parsed = parse_id(text)
    if parsed is None:
        return None
    run = ledger.by_id.get(parsed[0])
    if run is None:
        return None
    _, node, index = parsed
    if node != NONE and (node >= len(run.nodes) or index >= run.nodes[node].spec.size):
        return None
    if node == 0 and index in run.dropped:
        return None
    return run, node, index


def element(run: Run, number: int, index: int, fleet: Fleet) -> ElementView:
    """Return the view of one element: its text says why it ended, or why it cannot start."""
    return _elements(run, number, [index], fleet)[0]


def _elements(run: Run, number: int, indices: list[int], fleet: Fleet) -> list[ElementView]:
    """Return the views of elements of a node, by index."""
    held = _holders(run, number, indices, fleet.engines) if indices else {}
    return [_element(run, number, index, fleet, held.get(index, "")) for index in indices]


def _element(run: Run, number: int, index: int, fleet: Fleet, holder: str) -> ElementView:
    node = run.nodes[number]
    queue = node.spec.options.queue
    found = run.root_cause(number, index)
    engine = text = ""
    at_s = run.at_s
    if found is not None:
        _, at, fact = found
        at_s = fact.at_s
        if isinstance(fact, Ended):
            text = fact.text
        elif isinstance(fact, Settled):
            engine = fact.engine
            text = fact.errors.get(at, "")
    elif node.own is not None and index in node.own.due:
        text = node.own.due[index].text
    elif node.state[index] == State.QUEUED and not fleet.serving(queue):
        text = f"no engine serves queue {queue!r}"
    return ElementView(
        id=node.spec.ids.get(index) or element_text(run.id, number, index),
        run=run.id,
        node=number,
        index=index,
        task=shown_task(node.spec),
        state=_state_of(node, index),
        attempt=node.started(index),
        engine=engine or holder,
        text=text,
        at_s=at_s,
        retries=node.retries(index),
        queue=queue,
        scope=node.scope,
        inner=node.inner,
        label=node.spec.options.label,
    )


def shown_task(spec: NodeSpec) -> str:
    """Return the name that users see for a task."""
    return spec.options.shadow or spec.task


def _state_of(node: Node, index: int) -> str:
    """Return the state that users see for an element: its own name for it while it runs, if it has one."""
    state = node.state[index]
    if state == State.STARTED and node.own is not None and index in node.own.notes:
        return node.own.notes[index][0]
    return shown_state(state)


def _holders(run: Run, number: int, indices: list[int], engines: dict[bytes, Engine]) -> dict[int, str]:
    """Return the names of the engines that have elements of a node, by index."""
    held: dict[int, str] = {}
    for lease in run.leases.values():
        if lease.node == number:
            info = engines[lease.engine].info if lease.engine in engines else None
            first, stop = bisect_left(indices, lease.lo), bisect_left(indices, lease.hi)
            for index in indices[first:stop]:
                if info is not None and lease.covers(index, index + 1):
                    held[index] = info.name
    return held


def note(run: Run, number: int, index: int) -> bytes:
    """Return what an element last showed of itself while it runs, or nothing."""
    own = run.nodes[number].own
    return own.notes[index][1] if own is not None and index in own.notes else b""


class Wanted(Struct, frozen=True):
    """Which runs or elements to list: those for which all of it holds. Empty fields hold for all.

    Args:
        name: The name of a task, or what it is shown as.
        state: A state, by its shown name.
        queue, label: Of the task.
        since_s: Of a run that was accepted at this Unix time or later.
        owner: Of a run that was submitted with this key.
        run: Of the run with this id.
    """

    name: str = ""
    state: str = ""
    queue: str = ""
    label: str = ""
    since_s: float | None = None
    owner: str = ""
    run: bytes = b""

    def states(self) -> list[State]:
        """Return the states that are meant."""
        return [state for state in _SHOWN if not self.state or shown_state(state) == self.state]

    def takes_run(self, run: Run) -> bool:
        """Return whether elements of a run may be meant."""
        return (self.since_s is None or run.at_s >= self.since_s) and self.owner in ("", run.owner)

    def takes(self, spec: NodeSpec) -> bool:
        """Return whether elements of a node may be meant."""
        options = spec.options
        if self.queue and options.queue != self.queue:
            return False
        if self.label and options.label != self.label:
            return False
        return not self.name or self.name in (spec.task, options.shadow)


class _Scan:
    """A walk over runs, the newest first, that ends before it takes too long; ``looks`` are what is left."""

    def __init__(self, ledger: Ledger, wanted: Wanted, resume: list[int]) -> None:
        self.states = wanted.states()
        self.looks = _LOOKS
        self._ledger = ledger
        self._wanted = wanted
        self._resume = resume
        self._bad = all(state > State.SUCCESS for state in self.states)

    def runs(self) -> Iterator[tuple[Run, int]]:
        """Yield the runs that may be meant, and the first node of each that has not been looked at."""
        wanted, ledger = self._wanted, self._ledger
        if wanted.run:
            found = ledger.by_id.get(wanted.run)
            numbers = [] if found is None else [found.number]
        else:
            living = all(state < State.SUCCESS for state in self.states)
            numbers = sorted(ledger.unfinished if living else ledger.runs)
        at, first = (self._resume[0], self._resume[-1]) if self._resume else (NONE, 0)
        stop = len(numbers) if at == NONE else bisect_right(numbers, at)
        for place in range(stop - 1, -1, -1):
            run = ledger.runs[numbers[place]]
            self.looks -= 1
            meant = wanted.takes_run(run) and (run.bad or not self._bad)
            if meant or self.looks <= 0:  # then whoever scans says where to go on
                yield run, first if run.number == at else 0


def tasks(
    scheduler: Scheduler, wanted: Wanted, limit: int, resume: list[int]
) -> tuple[list[ElementView], list[int]]:
    """Return elements, newest run first.

    Args:
        scheduler: The hub's.
        wanted: Which.
        limit: How many at most.
        resume: Where to go on; empty to begin.

    Returns:
        The elements; and where to go on, if there was more to look at than a turn has time for.
    """
    scan = _Scan(scheduler.ledger, wanted, resume)
    rows: list[ElementView] = []
    for run, first in scan.runs():
        for number in range(first, len(run.nodes)):
            node = run.nodes[number]
            if scan.looks <= 0:
                return rows, [run.number, number]
            scan.looks -= 1
            if not wanted.takes(node.spec):
                continue
            found = _in_states(node, scan.states, limit - len(rows), run.dropped)
            rows += _elements(run, number, found, scheduler.ledger.fleet)
            scan.looks -= 10 * len(found) + node.spec.size // _BYTES + (len(run.leases) // 10 if found else 0)
            if len(rows) >= limit:
                return rows, []
        if scan.looks <= 0:
            return rows, [run.number, len(run.nodes)]
    return rows, []


def _in_states(node: Node, wanted: list[State], limit: int, dropped: frozenset[int]) -> list[int]:
    found: list[int] = []
    for state in wanted:
        at = node.state.find(state)
        most = len(found) + limit
        while at >= 0 and len(found) < most:
            if node.number or at not in dropped:
                found.append(at)
            at = node.state.find(state, at + 1)
    return sorted(found)[:limit]


def runs(
    scheduler: Scheduler, wanted: Wanted, limit: int, resume: list[int]
) -> tuple[list[RunView], list[int]]:
    """Return runs of which some element is meant, newest first; args and returns as ``tasks``."""
    scan = _Scan(scheduler.ledger, wanted, resume)
    rows: list[RunView] = []
    for run, first in scan.runs():
        for number in range(first, len(run.nodes)):
            if scan.looks <= 0:
                return rows, [run.number, number]
            node = run.nodes[number]
            scan.looks -= 1
            if not wanted.takes(node.spec):
                continue
            found = _in_states(node, scan.states, limit - len(rows) if run.graph.each else 1, run.dropped)
            if found:
                rows += [call(run, at) for at in found] if run.graph.each else [whole(run)]
                scan.looks -= 5 * len(found) + 2 * len(run.nodes) + run.size // _BYTES
                break
        if len(rows) >= limit:
            return rows, []
        if scan.looks <= 0:
            return rows, [run.number, len(run.nodes)]
    return rows, []


def row(run: Run, node: int, index: int) -> RunView:
    """Return the row of a run; of a batch of separate calls that of one of them, unless the node is NONE."""
    return call(run, index) if run.graph.each and node != NONE else whole(run)


def whole(run: Run) -> RunView:
    """Return the row of a run, with the counts of all its elements."""
    counts = count_states(run.nodes)
    size = run.size - run.skipped
    if run.dropped:
        for index in run.dropped:
            name = shown_state(run.nodes[0].state[index])
            counts[name] -= 1
        counts = {name: count for name, count in counts.items() if count}
        size -= len(run.dropped)
    return _row(run, size, counts, run.finished_s, NONE, _began_s(run))


def call(run: Run, index: int) -> RunView:
    """Return the row of one of a batch of separate calls."""
    node = run.nodes[0]
    state = node.state[index]
    finished_s = next((fact.at_s for fact in node.covering(index, index + 1)), None)
    began_s = _began_s(run) if state >= State.LEASED else 0.0
    return _row(run, 1, {shown_state(state): 1}, finished_s, index, began_s)


def _row(
    run: Run, size: int, states: dict[str, int], finished_s: float | None, index: int, began_s: float
) -> RunView:
    spec = run.nodes[max(value_nodes(run.graph))].spec
    origin = run.origin
    return RunView(
        id=run.id,
        task=shown_task(spec),
        owner=run.owner,
        at_s=run.at_s,
        size=size,
        states=states,
        finished_s=finished_s,
        index=index,
        label=spec.options.label,
        schedule=origin.schedule if origin is not None else "",
        fire_s=origin.fire_s if origin is not None else None,
        began_s=began_s,
    )


def _began_s(run: Run) -> float:
    """Return when the first element of a run was granted: after a restart about when, from what has ended."""
    if run.began_s:
        return run.began_s
    first = (node.ends[0] for node in run.nodes if node.ends)
    times = [fact.at_s - fact.seconds for fact in first if isinstance(fact, Settled)]
    return max(run.at_s, min(times)) if times else run.at_s if run.leases else 0.0


def engines(scheduler: Scheduler, now: Now, rss: dict[bytes, int]) -> list[EngineView]:
    """Return all engines, by name."""
    rows: list[EngineView] = []
    for engine in scheduler.ledger.fleet.engines.values():
        if engine.info is None:
            continue
        running = sum(_started(lease) for lease in engine.leases.values())
        state = "gone" if engine.gone else "draining" if engine.leaving else "up"
        heard_s = now.mono_s - engine.heard_s
        rows.append(
            EngineView(engine.id, engine.info, engine.count, running, state, rss.get(engine.id, 0), heard_s)
        )
    return sorted(rows, key=lambda row: row.info.name)


def queues(scheduler: Scheduler) -> list[QueueView]:
    """Return all queues that have work or an engine, by name."""
    fleet = scheduler.ledger.fleet
    leased: dict[str, int] = {}
    for lease in scheduler.ledger.leases.values():
        name = lease.run.nodes[lease.node].spec.options.queue
        leased[name] = leased.get(name, 0) + lease.open.bit_count()
    names = dict.fromkeys([*scheduler.queues, *leased, *scheduler.ledger.paused])
    for engine in fleet.engines.values():
        if engine.info is not None:
            names.update(dict.fromkeys(engine.info.queues))
    rows: list[QueueView] = []
    for name in sorted(names):
        queue = scheduler.queues.get(name)
        queued, scheduled = (queue.queued, queue.scheduled + queue.again) if queue is not None else (0, 0)
        paused = name in scheduler.ledger.paused
        serving = fleet.serving(name)
        rows.append(QueueView(name, queued, leased.get(name, 0), serving, paused, scheduled))
    return rows
