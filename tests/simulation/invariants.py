"""What must hold in a simulated world, after every commit, with every message, and at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nbq import wire
from nbq.core.facts import Became, End, Ended, Inherited, Settled
from nbq.core.ledger import Ledger
from nbq.core.model import NONE, Nested, State
from nbq.core.runs import Run, states_of
from nbq.core.scheduler import Scheduler
from nbq.journal import Batch
from nbq.session import Ended as SeenEnded
from nbq.wire import ToHub, ToPeer
from tests.core.harness import ENDED, tables
from tests.simulation.chronicle import Chronicle
from tests.simulation.engines import EngineActor
from tests.simulation.firing import Firing
from tests.simulation.workload import Job, Violation, open_block

if TYPE_CHECKING:
    from tests.simulation.clients import ClientActor
    from tests.simulation.peers import PeerActor
    from tests.simulation.world import World

__all__ = ["Invariants"]

Told = tuple[State, Any]


class Invariants:
    """All checks of one world."""

    def __init__(self, world: World) -> None:
        self.chronicle = Chronicle(world)
        self.firing = Firing()
        self._world = world
        self._told: dict[tuple[bytes, int, int], Told] = {}
        """What any client was told of an element."""
        self._ahead: dict[int, bytes] = {}
        """Engines of leases that were sent ahead of their commit."""

    # -------------------------------------------------------------- as it happens

    def on_commit(self, batch: Batch) -> None:
        """A batch is on the disk."""
        self.chronicle.take(batch.facts)
        self.firing.take(batch.facts)
        ahead, self._ahead = self._ahead, {}
        for token, engine in ahead.items():
            self._check_lease(token, engine)

    def on_sent(self, peer: PeerActor, message: ToPeer) -> None:
        """The hub says something."""
        chronicle = self.chronicle
        if isinstance(message, wire.Accepted):
            for run in message.runs:
                self._kept(run)
        elif isinstance(message, wire.Lease):
            assert isinstance(peer, EngineActor)
            if message.origin is not None:
                self._world.made(message.run, message.origin)
            if message.token in chronicle.tokens:
                self._check_lease(message.token, peer.session.id)
            else:
                self._ahead[message.token] = peer.session.id
        elif isinstance(message, wire.Ends):
            # What waits for a peer that is full may arrive after its run was forgotten.
            story = chronicle.by_id.get(message.run) or chronicle.forgotten.get(message.run)
            for fact in message.facts:
                found_fact = story.ends.get((fact.node, fact.lo)) if story is not None else None
                if found_fact is None or found_fact[2] != fact:
                    raise Violation("durable first", f"an end is told before it is committed: {fact}")

    def on_said(self, message: ToHub) -> None:
        """A peer says something."""
        if isinstance(message, wire.GaveBack):
            for token, lo, hi in message.ranges:
                for index in range(lo, hi):
                    slot = self._world.begun.get((token, index))
                    if slot is not None and not slot.dead:
                        raise Violation(
                            "not started", f"{index} of lease {token} is given back, but was started"
                        )

    def _check_lease(self, token: int, engine: bytes) -> None:
        """A lease may leave ahead of its commit, but the next commit must have it."""
        found = self.chronicle.tokens.get(token)
        if found is None or found[0] != engine:
            raise Violation("leases", f"lease {token} is sent to an engine, but not committed for it")

    def hub_lost(self) -> None:
        """What the hub was about to commit will never be."""
        self._ahead.clear()

    def _kept(self, run: bytes) -> None:
        if run not in self.chronicle.by_id and run not in self.chronicle.forgotten:
            raise Violation("acked is kept", f"run {run.hex()} is acknowledged, but not committed")

    def on_acked(self, run: bytes) -> None:
        """A client heard that a run is committed."""
        self._kept(run)

    def on_refused(self, job: Job, code: str) -> None:
        """A client heard that a run is not there."""
        if code == "unknown" and job.run not in self.chronicle.forgotten and job.acked:
            raise Violation("acked is kept", f"run {job.run.hex()} was acknowledged, and is unknown now")
        if code == "unknown" and not job.forget_asked and not self._world.profile.forgetful:
            raise Violation(
                "acked is kept", f"run {job.run.hex()} is forgotten, though nobody asked for that"
            )
        if code not in ("unknown", "task_id"):
            raise Violation("refused", f"a run is refused: {code}")

    def on_value(self, lease: wire.Lease, index: int, value: str) -> None:
        """An engine computed a value."""
        job = self._world.jobs[lease.run]
        if lease.scope:
            if value != job.replacements[lease.scope].values[lease.inner, index]:
                raise Violation("value", f"{lease.inner}, {index} of an addition ran on wrong values")
        elif value != job.value(lease.node, index):
            raise Violation("value", f"{lease.node}, {index} of {lease.run.hex()} ran on wrong values")

    def on_seen(self, client: ClientActor, event: SeenEnded) -> list[tuple[int, int]]:
        """A client is told of ends; returns the elements of the node that it watches."""
        facts: dict[tuple[int, int], End] = {}
        for fact in event.facts:
            for index in range(fact.lo, fact.hi):
                facts[fact.node, index] = fact
        blocks = {block.number: block for block in event.blocks}
        own = [fact for fact in event.facts if fact.node == event.node]
        places = dict.fromkeys((event.node, i) for fact in own for i in range(fact.lo, fact.hi))
        for place in places:
            told = self._told_of(client.jobs[event.run], place, facts, blocks)
            key = (event.run, *place)
            if self._told.setdefault(key, told) != told:
                raise Violation(
                    "one story", f"{place} of {event.run.hex()} was {self._told[key]}, now {told}"
                )
        return list(places)

    def _told_of(
        self,
        job: Job,
        place: tuple[int, int],
        facts: dict[tuple[int, int], End],
        blocks: dict[int, wire.Block],
    ) -> Told:
        fact = facts[place]
        state = State(states_of(fact)[place[1] - fact.lo])
        while isinstance(fact, Inherited):
            place = fact.cause_node, place[1] if fact.cause_index == NONE else fact.cause_index
            known = facts.get(place) or self._known(job, place)
            if known is None:
                raise Violation("root cause", f"a client is not told of {place}, the cause of an end")
            fact = known
        if isinstance(fact, Ended):
            return state, (place, fact.code)
        if isinstance(fact, Became):
            return state, None
        if fact.block == NONE:
            return state, None
        block = blocks.get(fact.block)
        if block is None:
            raise Violation("value", f"the block of {place} is not sent with its end")
        element = open_block(block.data, *block.place(job.run), block.lo, block.n)[place[1] - fact.block_lo]
        made = msgspec.msgpack.decode(element)[0]
        wanted = job.value(*place) if state == State.SUCCESS else job.call(*place).text
        if made != wanted:
            raise Violation("value", f"a client is told {made!r} of {place}, not {wanted!r}")
        return state, made

    def _known(self, job: Job, place: tuple[int, int]) -> End | None:
        story = self.chronicle.by_id.get(job.run)
        found = story.ends.get(place) if story is not None and (job.run, *place) in self._told else None
        return found[2] if found is not None else None

    # -------------------------------------------------------------- the scheduler's books

    def audit(self, scheduler: Scheduler) -> None:
        """Compare every counter with a recount, and the state with the chronicle."""
        ledger = scheduler.ledger
        queued: dict[str, int] = {}
        for run in ledger.runs.values():
            self._audit_run(run)
            for node in run.nodes:
                name = node.spec.options.queue
                queued[name] = queued.get(name, 0) + node.state.count(State.QUEUED)
        _equal("left", ledger.left, sum(run.left for run in ledger.runs.values()))
        living = [run.number for run in ledger.runs.values() if run.left]
        _equal("unfinished", list(ledger.unfinished), living)
        _equal("bad", ledger.ended[7] + ledger.ended[8], sum(run.bad for run in ledger.runs.values()))
        _equal("weight", ledger.weight, sum(run.weight for run in ledger.runs.values()))
        ended = sum(run.weight for run in ledger.runs.values() if not run.left)
        _equal("kept", ledger.kept, ended)
        _equal("by_id", {run.id: run for run in ledger.runs.values()}, ledger.by_id)
        _equal("stories", set(ledger.runs), set(self.chronicle.stories))
        for name, queue in scheduler.queues.items():
            _equal(f"queue {name}", queue.queued, queued.pop(name, 0))
        _equal("other queues", {name: count for name, count in queued.items() if count}, {})
        self._audit_ready(scheduler)
        self._audit_leases(ledger)

    def _audit_run(self, run: Run) -> None:
        story = self.chronicle.stories[run.number]
        sizes: dict[int, int] = {number: block.size for number, block in enumerate(run.blocks)}
        sizes |= {number: block.size for number, block in (run.added or {}).items()}
        for node in run.nodes:
            ended = sum(node.state.count(state) for state in ENDED)
            _equal("node.left", node.left, node.spec.size - ended)
            for fact in node.ends:
                if isinstance(fact, Settled) and fact.block != NONE:
                    sizes[fact.block] = fact.size
            for index, state in enumerate(node.state):
                place = node.number, index
                leased = state in (State.LEASED, State.STARTED)
                ended = state if state >= State.SUCCESS else None
                if (place in story.leased, story.state(place)) != (leased, ended):
                    raise Violation("counters", f"{place} of run {run.number} is in state {state}")
        _equal("run.left", run.left, sum(node.left for node in run.nodes))
        _equal("run.weight", run.weight, sum(sizes.values()))
        bad: list[bool] = []
        for number, items in enumerate(run.graph.lists):
            left = 0
            failed = False
            for item in items:
                if isinstance(item, Nested):
                    left += run.lists[item.number].left > 0
                    failed = failed or bad[item.number]
                else:
                    part = run.nodes[item.node].state[item.lo : item.hi]
                    left += sum(state < State.SUCCESS for state in part)
                    failed = failed or any(state > State.SUCCESS for state in part)
            bad.append(failed)
            _equal("list.left", run.lists[number].left, left)
            _equal("list.cause", run.lists[number].cause is not None, failed)

    def _audit_ready(self, scheduler: Scheduler) -> None:
        """Nothing that is queued may be missing in the ready queues."""
        ready: set[tuple[int, int, int]] = set()
        rates = scheduler._granting._rates.values()
        for queue in (
            *scheduler.queues.values(),
            *(parked for rate in rates for parked in rate.parked.values()),
        ):
            for level in queue._levels.values():
                ready.update((item.run, item.node, i) for item in level for i in range(item.lo, item.hi))
        for run in scheduler.ledger.runs.values():
            for node in run.nodes:
                at = node.state.find(State.QUEUED)
                while at >= 0:
                    if (run.number, node.number, at) not in ready:
                        raise Violation(
                            "counters", f"{node.number}, {at} of run {run.number} is queued nowhere"
                        )
                    at = node.state.find(State.QUEUED, at + 1)

    def _audit_leases(self, ledger: Ledger) -> None:
        open_: dict[tuple[int, int, int], int] = {}
        for token, lease in ledger.leases.items():
            run = lease.run.number
            if not lease.open:
                raise Violation("counters", f"lease {token} is kept, though all of it is closed")
            if ledger.runs.get(run) is not lease.run or lease.run.leases.get(token) is not lease:
                raise Violation("counters", f"lease {token} is not one of its run")
            if ledger.fleet.engines[lease.engine].leases.get(token) is not lease:
                raise Violation("counters", f"lease {token} is not one of its engine")
            for index in range(lease.lo, lease.hi):
                if lease.open >> (index - lease.lo) & 1:
                    open_[run, lease.node, index] = token
        told = {
            (story.number, *place): token
            for story in self.chronicle.stories.values()
            for place, token in story.leased.items()
        }
        _equal("open leases", open_, told)
        for engine in ledger.fleet.engines.values():
            held = sum(lease.open.bit_count() for lease in engine.leases.values())
            _equal("engine.count", engine.count, held)
            load_s = sum(lease.open.bit_count() * lease.cost_s for lease in engine.leases.values())
            if abs(load_s - engine.load_s) > 1e-6:
                raise Violation("counters", f"engine.load_s is {engine.load_s}, not {load_s}")

    def twin(self, live: Scheduler) -> None:
        """A scheduler that was told all that is on the disk must know what the live one knows."""
        twin = Scheduler(1)
        for fact in self._world.disk.all_facts():
            twin.apply(fact)
        _equal("twin", _durable(twin.ledger), _durable(live.ledger))


def _equal(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Violation("twin" if what == "twin" else "counters", f"{what}: {found} instead of {wanted}")


def _durable(ledger: Ledger) -> dict[str, object]:
    """Return what of a ledger must outlive a hub."""
    held = bytes([State.LEASED])
    shown = bytes.maketrans(bytes(range(6)), bytes(4) + held + held)
    runs = {
        run.number: [
            run.id, run.left, run.weight, run.next_block, run.finished_s,
            [(bytes(n.state).translate(shown), n.ends, tables(n.own), n.left) for n in run.nodes],
            [(node.ended_s, node.spec) for node in run.nodes],
            [(members.left, members.cause, members.ended_s) for members in run.lists],
        ]
        for run in ledger.runs.values()
    }  # fmt: skip
    leases = {
        t: (le.run.number, le.node, le.lo, le.hi, le.engine, le.open) for t, le in ledger.leases.items()
    }
    counts = {engine.id: engine.count for engine in ledger.fleet.engines.values() if engine.count}
    return {
        "runs": runs, "leases": leases, "counts": counts, "left": ledger.left, "weight": ledger.weight,
        "kept": ledger.kept, "paused": ledger.paused, "rates": ledger.rates,
        "schedules": {s.number: (s.name, s.id, s.spec, s.state) for s in ledger.schedules.values()},
        "made": {name: set(made) for name, made in ledger.made.items()},
        "given": ledger.given, "by_id": {key: run.number for key, run in ledger.by_id.items()},
    }  # fmt: skip
