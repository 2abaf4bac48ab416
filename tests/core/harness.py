"""A scheduler with two clocks that tests turn by hand, and what makes graphs and checks for them.

Every fact is encoded and decoded on its way, and after every event all counters are counted again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal

import msgspec

from nbq.core import facts as f
from nbq.core.actions import Action, Done, Grant
from nbq.core.events import Chosen, EngineJoined, Event, Outcome, Reported, Steering, Submitted, Ticked
from nbq.core.model import (
    NONE,
    BlockMeta,
    EngineInfo,
    Graph,
    Item,
    Nested,
    NodeSpec,
    Now,
    Options,
    Slice,
    State,
)
from nbq.core.runs import Node, Own, Run
from nbq.core.scheduler import Limits, Scheduler

LETTERS = {
    State.WAITING: ".", State.SCHEDULED: "c", State.RETRY: "t", State.QUEUED: "q", State.LEASED: "l",
    State.STARTED: "r", State.SUCCESS: "S", State.FAILURE: "F", State.REVOKED: "R", State.SKIPPED: "-",
}  # fmt: skip
"""One letter a state: lower case while an element lives."""

TERMINAL = (State.SUCCESS, State.FAILURE, State.REVOKED)
ENDED = (*TERMINAL, State.SKIPPED)
EPOCH = 1
WALL_S = 1_000_000.0
MONO_S = 500.0


def token(number: int) -> int:
    """Return the token of the first, second … lease of a rig."""
    return (EPOCH << 40) + number


def address(task: str) -> bytes:
    """Return a content address for the function of a task."""
    return hashlib.blake2b(task.encode(), digest_size=16).digest()


def node(task: str = "work", size: int = 1, **fields: Any) -> NodeSpec:
    """Return an array; fields of its options are given among the others."""
    names = Options.__struct_fields__
    options = Options(**{name: fields.pop(name) for name in names if name in fields})
    return NodeSpec(task, address(task), size, options=options, **fields)


def blocks_of(graph: Graph, most: int = 256, size: int = 10) -> list[BlockMeta]:
    """Return argument blocks of ``size`` bytes that cover a graph."""
    blocks = []
    for number, spec in enumerate(graph.nodes):
        count = 1 if spec.shared else spec.size
        blocks += [BlockMeta(number, lo, min(most, count - lo), size) for lo in range(0, count, most)]
    return blocks


def letters(state: bytes | bytearray) -> str:
    """Return states as letters."""
    return "".join(LETTERS[State(value)] for value in state)


class Rig:
    """One scheduler, driven by hand."""

    def __init__(self, limits: Limits | None = None, epoch: int = EPOCH) -> None:
        self.epoch = epoch
        self.scheduler = Scheduler(epoch, limits)
        self.mono_s = MONO_S
        self.wall_s = WALL_S
        self.facts: list[f.Fact] = []
        self._runs = 0
        self.ticket = 0

    @property
    def now(self) -> Now:
        return Now(self.mono_s, self.wall_s)

    def send(self, event: Event) -> tuple[list[f.Fact], list[Action]]:
        """Handle an event; return its facts and actions."""
        facts, actions = self.scheduler.handle(event, self.now)
        for fact in facts:
            self.facts.append(msgspec.msgpack.decode(msgspec.msgpack.encode(fact), type=f.Fact))
        assert self.facts[len(self.facts) - len(facts) :] == facts
        check_counters(self.scheduler)
        return facts, actions

    def tick(self, after_s: float = 0.0) -> list[Action]:
        """Let time pass on both clocks; return the actions."""
        return self.tick_all(after_s)[1]

    def send_after(self, after_s: float) -> list[f.Fact]:
        """Let time pass on both clocks; return the facts."""
        return self.tick_all(after_s)[0]

    def tick_all(self, after_s: float = 0.0) -> tuple[list[f.Fact], list[Action]]:
        """Let time pass on both clocks; return facts and actions."""
        self.mono_s += after_s
        self.wall_s += after_s
        return self.send(Ticked())

    def grants(self, after_s: float = 0.0) -> list[Grant]:
        """Let time pass; return the grants alone."""
        return [action for action in self.tick(after_s) if isinstance(action, Grant)]

    def submit(
        self,
        *nodes: NodeSpec,
        lists: tuple[list[Item], ...] = (),
        value: Slice | Nested | None = None,
        each: bool = False,
        most: int = 256,
        owner: str = "me",
    ) -> Run:
        """Submit a graph, whose value is its last element unless told; return its run."""
        last = Slice(len(nodes) - 1, nodes[-1].size - 1, nodes[-1].size)
        graph = Graph(list(nodes), list(lists), None if each else value or last, each)
        self._runs += 1
        event = Submitted(bytes([self._runs]) * 16, owner, graph, blocks_of(graph, most))
        self.send(event)
        return self.scheduler.ledger.by_id[event.id]

    def join(
        self,
        name: str = "one",
        slots: int = 1,
        queues: tuple[str, ...] = ("default",),
        held: tuple[int, ...] = (),
    ) -> list[Action]:
        """Let an engine join; its id is its name."""
        return self.send(EngineJoined(name.encode(), info(name, slots, queues), list(held)))[1]

    def report(self, grant: Grant, *outcomes: Outcome) -> tuple[list[f.Fact], list[Action]]:
        """Let an engine report outcomes of a grant: that all of it succeeded, unless told."""
        return self.send(Reported(grant.engine, list(outcomes or [done(grant)])))

    def finish(self, states: str = "") -> None:
        """Let all engines end at once all they are granted: each lease in these states, by its elements.

        ``states`` has a letter for every element of a node; none means that all succeed.
        """
        while grants := self.grants():
            for grant in grants:
                self.report(grant, done(grant, states=states[grant.lo : grant.hi]))

    def steer(self, verb: Literal["cancel", "retry", "priority"], **fields: Any) -> Done:
        """Have something done with the elements that are chosen, to its end; return what came of it."""
        names = ("salt", "owner", "priority")
        own = {name: fields.pop(name) for name in names if name in fields}
        self.ticket += 1
        _, actions = self.send(Steering(self.ticket, Chosen(**fields), verb, **own))
        assert actions == []
        for _ in range(1000):
            for action in self.tick():
                if isinstance(action, Done):
                    assert action.ticket == self.ticket
                    return action
        raise AssertionError("it is never done")

    def work(self, count: int = 100) -> list[tuple[int, int, int]]:
        """Let all engines succeed at once in all they are granted; return (node, lo, hi) in order."""
        ran = []
        for _ in range(count):
            grants = self.grants()
            if not grants:
                break
            for grant in grants:
                ran.append((grant.node, grant.lo, grant.hi))
                self.report(grant)
        return ran

    def twin(self) -> Scheduler:
        """Return a scheduler to which the same facts were applied, before it takes up work."""
        twin = Scheduler(self.epoch + 1, self.scheduler.limits)
        for fact in self.facts:
            twin.apply(fact)
        return twin

    def restart(self) -> list[Action]:
        """Lose all but the facts, and take up work again; return the actions."""
        twin = self.twin()
        assert durable(twin) == durable(self.scheduler)
        self.scheduler = twin
        self.epoch += 1
        facts, actions = twin.recovered(self.now)
        self.facts += facts
        check_counters(twin)
        return actions


def info(name: str = "one", slots: int = 1, queues: tuple[str, ...] = ("default",)) -> EngineInfo:
    """Return what an engine says of itself."""
    return EngineInfo(name, "host", 1, slots, list(queues))


def done(grant: Grant, lo: int = NONE, hi: int = NONE, states: str = "", **fields: Any) -> Outcome:
    """Return an outcome of a grant; states as letters, size 5 unless told."""
    values = {letter: state for state, letter in LETTERS.items()}
    lo, hi = (grant.lo, grant.hi) if lo == NONE else (lo, hi)
    encoded = bytes([values[letter] for letter in states])
    return Outcome(grant.token, lo, hi, encoded, fields.pop("size", 5), **fields)


def shown(run: Run) -> list[str]:
    """Return the states of all nodes of a run as letters."""
    return [letters(part.state) for part in run.nodes]


def durable(scheduler: Scheduler) -> dict[str, Any]:
    """Return all that facts determine; what is decided anew after a restart counts as waiting."""
    ledger = scheduler.ledger
    fresh = bytes.maketrans(
        bytes([State.SCHEDULED, State.RETRY, State.QUEUED, State.STARTED]),
        bytes([State.WAITING, State.WAITING, State.WAITING, State.LEASED]),
    )
    runs = {}
    for number, run in ledger.runs.items():
        nodes = [
            (
                letters(part.state.translate(fresh)),
                part.left,
                part.ends,
                part.ended_s,
                tables(part.own),
                part.parent,
                part.root,
                part.aside,
                part.scope,
                part.spec,
            )
            for part in run.nodes
        ]
        lists = [(part.left, part.cause, part.ended_s) for part in run.lists]
        leases = {
            held.token: (held.node, held.lo, held.hi, held.open, held.engine) for held in run.leases.values()
        }
        about = (
            run.id,
            run.owner,
            run.at_s,
            run.graph,
            run.blocks,
            run.next_block,
            run.weight,
            run.finished_s,
        )
        runs[number] = (about, nodes, lists, leases)
    return {
        "runs": runs,
        "given": ledger.given,
        "paused": ledger.paused,
        "rates": ledger.rates,
        "left": ledger.left,
        "weight": ledger.weight,
        "kept": ledger.kept,
        "finished": {number for number in ledger.finished if number in ledger.runs},
        "held": {engine.id: engine.count for engine in ledger.fleet.engines.values() if engine.count},
    }


def tables(own: Own | None) -> tuple[object, ...]:
    """Return what is durable of what elements have of their own."""
    own = Own() if own is None else own
    replaced = {at: (r.value, r.first, r.stop) for at, r in own.replaced.items()}
    priorities = own.priorities
    return own.deaths, own.losses, own.retries, own.due, own.args, replaced, own.stands_for, priorities


def check_counters(scheduler: Scheduler) -> None:
    """Count everything again that the scheduler counts as it goes."""
    ledger = scheduler.ledger
    queued: Counter[str] = Counter()
    later: Counter[tuple[str, State]] = Counter()
    held: Counter[bytes] = Counter()
    for run in ledger.runs.values():
        _check_run(run)
        for part in run.nodes:
            queued[part.spec.options.queue] += part.state.count(State.QUEUED)
            for state in (State.SCHEDULED, State.RETRY):
                later[part.spec.options.queue, state] += part.state.count(state)
        for lease in run.leases.values():
            held[lease.engine] += lease.open.bit_count()
            assert lease.open
            assert ledger.leases[lease.token] is lease
            assert ledger.fleet.engines[lease.engine].leases[lease.token] is lease
    assert ledger.left == sum(run.left for run in ledger.runs.values())
    naming = [*ledger.runs.values(), *ledger.schedules.values()]
    assert ledger.functions == Counter(a for each in naming for a in each.functions)
    sharing = [run for run in ledger.runs.values() if run.origin is not None]
    shared = [block.blob for each in (*sharing, *ledger.schedules.values()) for block in each.blocks]
    assert ledger.shared == Counter(filter(None, shared))
    made: dict[str, dict[int, Run]] = {}
    for run in sharing:
        if run.left and run.origin is not None and run.origin.schedule:
            made.setdefault(run.origin.schedule, {})[run.number] = run
    assert ledger.made == made
    assert ledger.numbered == {each.number: each for each in ledger.schedules.values()}
    assert ledger.unfinished == {number: run for number, run in ledger.runs.items() if run.left}
    states = [part.state for run in ledger.runs.values() for part in run.nodes]
    assert ledger.ended[State.SUCCESS : State.SKIPPED] == [
        sum(state.count(value) for state in states)
        for value in State
        if State.SUCCESS <= value < State.SKIPPED
    ]
    assert ledger.weight == sum(run.weight for run in ledger.runs.values())
    assert ledger.kept == sum(run.weight for run in ledger.runs.values() if not run.left)
    assert len(ledger.leases) == sum(len(run.leases) for run in ledger.runs.values())
    assert {name: queue.queued for name, queue in scheduler.queues.items() if queue.queued} == +queued
    counts = {(name, State.SCHEDULED): queue.scheduled for name, queue in scheduler.queues.items()}
    counts |= {(name, State.RETRY): queue.again for name, queue in scheduler.queues.items()}
    assert {key: count for key, count in counts.items() if count} == +later
    assert {engine.id: engine.count for engine in ledger.fleet.engines.values() if engine.count} == +held


def _check_run(run: Run) -> None:
    for part in run.nodes:
        ended = sum(part.state.count(state) for state in ENDED)
        assert part.left == part.spec.size - ended
        covered = [index for fact in part.covering(0, part.spec.size) for index in range(fact.lo, fact.hi)]
        assert set(covered) == {index for index, state in enumerate(part.state) if state in ENDED} - set(
            _never_meant(run, part)
        )
        assert covered == sorted(set(covered))
        open_ = [
            index
            for lease in run.leases.values()
            if lease.node == part.number
            for lo, hi in lease.ranges(lease.lo, lease.hi)
            for index in range(lo, hi)
        ]
        held = [(at.lo, at.hi, at.token) for at in run.leases.values() if at.node == part.number]
        assert part.held == (sorted(held) or None)
        assert sorted(open_) == [
            index for index, state in enumerate(part.state) if state in (State.LEASED, State.STARTED)
        ]
    assert run.left == sum(part.left for part in run.nodes)
    assert (run.finished_s is None) == (run.left > 0)
    for number, items in enumerate(run.graph.lists):
        values = [value for item in items for value in _members(run, item)]
        assert run.lists[number].left == values.count(None)
        bad = any(_is_bad(run, item) for item in items)
        assert (run.lists[number].cause is not None) == bad


def _never_meant(run: Run, part: Node) -> list[int]:
    """Return the elements that began as skipped ones: of those that are tried again, a run has only some."""
    if run.origin is None or part.number:
        return []
    ended = {index for fact in part.ends for index in range(fact.lo, fact.hi)}
    return [i for i, state in enumerate(part.state) if state == State.SKIPPED and i not in ended]


def _members(run: Run, item: Item) -> list[bool | None]:
    """Return for each member None while it has not ended, else True."""
    if isinstance(item, Nested):
        return [None if run.lists[item.number].left else True]
    return [True if state in ENDED else None for state in run.nodes[item.node].state[item.lo : item.hi]]


def _is_bad(run: Run, item: Item) -> bool:
    if isinstance(item, Nested):
        return run.lists[item.number].cause is not None
    states = run.nodes[item.node].state[item.lo : item.hi]
    return State.FAILURE in states or State.REVOKED in states
