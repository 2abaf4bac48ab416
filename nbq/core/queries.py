"""Questions about the scheduler's state, and their answers for people. Nothing here changes state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nbq.core.facts import Ended, Settled
from nbq.core.fleet import Engine, Fleet
from nbq.core.graph import value_nodes
from nbq.core.ids import element_text, parse_id
from nbq.core.ledger import Ledger
from nbq.core.model import NONE, NodeSpec, Now, State
from nbq.core.runs import Node, Run
from nbq.core.scheduler import Scheduler
from nbq.core.views import ElementView, EngineView, QueueView, RunView

__all__ = [
    "count_states",
    "element",
    "engines",
    "find",
    "note",
    "queues",
    "runs",
    "shown_state",
    "shown_task",
    "tasks",
    "totals",
]


def shown_state(state: int) -> str:
    """Return the name that users see for a state; what is granted but not running is QUEUED."""
    return State.QUEUED.name if state == State.LEASED else State(state).name


def count_states(nodes: list[Node], states: Iterable[State] = State) -> dict[str, int]:
    """Return how many elements of some nodes are in each state, by shown name."""
    counts: dict[str, int] = {}
    for state in states:
        if state == State.SKIPPED:
            continue
        count = sum(node.state.count(state) for node in nodes)
        if count:
            name = shown_state(state)
            counts[name] = counts.get(name, 0) + count
    return counts


def totals(ledger: Ledger) -> dict[str, int]:
    """Return how many elements of all runs are in each state, by shown name."""
    nodes = [node for run in ledger.unfinished.values() for node in run.nodes]
    counts = count_states(nodes, [state for state in State if state < State.SUCCESS])
    ended = {shown_state(state): count for state, count in enumerate(ledger.ended) if count}
    return counts | ended


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
        engine=engine or _engine_of(run, number, index, fleet.engines),
        text=text,
        at_s=at_s,
        retries=node.retries(index),
        queue=queue,
        scope=node.scope,
        inner=node.inner,
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


def _engine_of(run: Run, number: int, index: int, engines: dict[bytes, Engine]) -> str:
    """Return the name of the engine that has an element, or an empty text."""
    for lease in run.leases.values():
        if lease.node == number and lease.covers(index, index + 1):
            info = engines[lease.engine].info if lease.engine in engines else None
            return info.name if info is not None else ""
    return ""


def note(run: Run, number: int, index: int) -> bytes:
    """Return what an element last showed of itself while it runs, or nothing."""
    own = run.nodes[number].own
    return own.notes[index][1] if own is not None and index in own.notes else b""


def tasks(scheduler: Scheduler, name: str, state: str, limit: int) -> list[ElementView]:
    """Return elements, newest run first: of a task name ("" for any), in a state ("" for any)."""
    states = [value for value in State if value != State.SKIPPED]
    wanted = [value for value in states if not state or shown_state(value) == state]
    rows: list[ElementView] = []
    living = all(value < State.SUCCESS for value in wanted)
    bad = all(value > State.SUCCESS for value in wanted)
    for run in reversed((scheduler.ledger.unfinished if living else scheduler.ledger.runs).values()):
        if bad and not run.bad:
            continue
        for node in run.nodes:
            if name and name not in (node.spec.task, node.spec.options.shadow):
                continue
            for index in _in_states(node, wanted, limit - len(rows), run.dropped):
                rows.append(element(run, node.number, index, scheduler.ledger.fleet))
            if len(rows) >= limit:
                return rows
    return rows


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


def runs(scheduler: Scheduler, name: str, owner: str, limit: int) -> list[RunView]:
    """Return runs, newest first: of a task name and a submitter ("" for any)."""
    found: list[RunView] = []
    for run in reversed(scheduler.ledger.runs.values()):
        if owner and run.owner != owner:
            continue
        if name and all(node.spec.task != name for node in run.nodes):
            continue
        found.extend(_rows(run, limit - len(found)))
        if len(found) >= limit:
            break
    return found


def _rows(run: Run, limit: int) -> Iterator[RunView]:
    """Yield the row of a run; for a batch of separate calls one for each of the first."""
    last = max(value_nodes(run.graph))
    task = shown_task(run.nodes[last].spec)
    if not run.graph.each:
        counts = count_states(run.nodes)
        size = run.size - run.skipped
        yield RunView(run.id, task, run.owner, run.at_s, size, counts, run.finished_s)
        return
    node = run.nodes[0]
    shown = [index for index in range(node.spec.size) if index not in run.dropped] if run.dropped else None
    for index in (shown or range(node.spec.size))[:limit]:
        states = {shown_state(node.state[index]): 1}
        finished = next((fact.at_s for fact in node.covering(index, index + 1)), None)
        yield RunView(run.id, task, run.owner, run.at_s, 1, states, finished, index)


def engines(scheduler: Scheduler, now: Now, rss: dict[bytes, int]) -> list[EngineView]:
    """Return all engines, by name."""
    rows: list[EngineView] = []
    for engine in scheduler.ledger.fleet.engines.values():
        if engine.info is None:
            continue
        running = sum(
            lease.run.nodes[lease.node].state.count(State.STARTED, lease.lo, lease.hi)
            for lease in engine.leases.values()
        )
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
    names = dict.fromkeys(scheduler.queues)
    for engine in fleet.engines.values():
        if engine.info is not None:
            names.update(dict.fromkeys(engine.info.queues))
    return [
        QueueView(
            name,
            scheduler.queues[name].queued if name in scheduler.queues else 0,
            leased.get(name, 0),
            fleet.serving(name),
        )
        for name in sorted(names)
    ]
