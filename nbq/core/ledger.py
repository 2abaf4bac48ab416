"""The ledger: everything durable that a hub knows, changed by facts and by nothing else.

``Ledger.apply`` is called for each fact as soon as it is decided, and again, with the same facts,
when a hub recovers. It decides nothing: what may follow from a fact is noted in ``wakes``, for the
scheduler to look at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import assert_never

from nbq.core import facts as f
from nbq.core.fleet import Fleet
from nbq.core.model import NONE, BlockMeta, NodeSpec, State
from nbq.core.runs import Lease, Node, Run, states_of, within
from nbq.core.schedule import Schedule
from nbq.core.timing import ScheduleState

__all__ = ["Ledger"]


class Ledger:
    """All runs, and who holds what of them."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.unfinished: dict[int, Run] = {}
        self.ended = [0] * len(State)
        """How many elements of all runs are in each terminal state; skipped ones are not counted."""
        self.by_id: dict[bytes, Run] = {}
        self.given: dict[str, tuple[int, int, int]] = {}
        """Run, node and index of each id that a user gave."""
        self.functions: dict[bytes, int] = {}
        """How many runs and schedules name each function."""
        self.shared: dict[str, int] = {}
        """How many schedules, and runs that the hub made, name each blob of arguments; those that clients
        submitted are not counted."""
        self.schedules: dict[str, Schedule] = {}
        self.numbered: dict[int, Schedule] = {}
        """Schedules by their numbers."""
        self.made: dict[str, dict[int, Run]] = {}
        """Runs that have not ended, by the name of the schedule that made them."""
        self.free: deque[str] = deque()
        """Names of schedules whose last run has ended while fire times wait for that."""
        self.paused: frozenset[str] = frozenset()
        """Queues of which nothing is granted."""
        self.rates: dict[str, float | None] = {}
        """Starts per second that were set live, by the names of tasks; None for no limit."""
        self.leases: dict[int, Lease] = {}
        self.fleet = Fleet()
        self.left = 0
        """Elements that have not ended."""
        self.weight = 0
        """Bytes of all blocks."""
        self.kept = 0
        """Bytes of the blocks of runs that have ended."""
        self.finished: deque[int] = deque()
        """Runs that have ended, the first first; some may be forgotten already."""
        self.wakes: deque[tuple[Run, int, int, int]] = deque()
        """Run, node and range of elements for which something has changed."""
        self._next_run = 1

    def reserve(self) -> int:
        """Return a run number that is given to no other run."""
        number = self._next_run
        self._next_run += 1
        return number

    def rate(self, spec: NodeSpec) -> float | None:
        """Return how many tasks such as this may start a second: as set live, else as they ask for."""
        return self.rates.get(spec.task, spec.options.rate_limit)

    def apply(self, fact: f.Fact) -> None:
        """Change state as a fact says; the same live and in recovery."""
        match fact:
            case f.Accepted():
                self._apply_accepted(fact)
            case f.Leased():
                self._apply_leased(fact)
            case f.Returned():
                self._apply_returned(fact)
            case f.Deferred():
                self._apply_deferred(fact)
            case f.Extended():
                self._apply_extended(fact)
            case f.Settled() | f.Ended() | f.Inherited() | f.Became():
                self._apply_end(fact)
            case f.Dropped():
                self._apply_dropped(fact)
            case f.Forgotten():
                self._apply_forgotten(fact)
            case f.ScheduleSet():
                self._apply_schedule(fact)
            case f.ScheduleMoved():
                self.numbered[fact.run].state = fact.state
            case f.ScheduleRemoved():
                self._remove_schedule(self.numbered[fact.run])
            case f.Reprioritised():
                self.runs[fact.run].nodes[fact.node].reprioritise(fact)
            case f.Steered():
                self.paused, self.rates = frozenset(fact.paused), dict(fact.rates)
            case _:
                assert_never(fact)

    def _apply_accepted(self, fact: f.Accepted) -> None:
        run = Run(fact)
        self.runs[run.number] = self.unfinished[run.number] = run
        self.by_id[run.id] = run
        self.left += run.left
        self.weight += run.weight
        self._next_run = max(self._next_run, run.number + 1)
        self._name_functions(run.functions)
        self._take_ids(run, run.nodes)
        if fact.origin is not None:
            self._name_blobs(fact.blocks, 1)
            if fact.origin.schedule:
                self.made.setdefault(fact.origin.schedule, {})[run.number] = run

    def _apply_schedule(self, fact: f.ScheduleSet) -> None:
        before = self.numbered.get(fact.run)
        state = ScheduleState(fact.at_s) if before is None else before.state
        schedule = Schedule(fact, state)
        self._name_functions(schedule.functions)
        self._name_blobs(schedule.blocks, 1)
        if before is not None:
            self._remove_schedule(before)
        self.schedules[fact.name] = self.numbered[fact.run] = schedule
        self._next_run = max(self._next_run, fact.run + 1)

    def _remove_schedule(self, schedule: Schedule) -> None:
        del self.numbered[schedule.number], self.schedules[schedule.name]
        self._drop_functions(schedule.functions)
        self._name_blobs(schedule.blocks, -1)

    def _name_functions(self, functions: Iterable[bytes]) -> None:
        for address in functions:
            self.functions[address] = self.functions.get(address, 0) + 1

    def _drop_functions(self, functions: Iterable[bytes]) -> None:
        for address in functions:
            self.functions[address] -= 1
            if not self.functions[address]:
                del self.functions[address]

    def _name_blobs(self, blocks: Iterable[BlockMeta], count: int) -> None:
        """Count those that name blobs: one more, or one less."""
        for block in blocks:
            if block.blob:
                self.shared[block.blob] = self.shared.get(block.blob, 0) + count
                if not self.shared[block.blob]:
                    del self.shared[block.blob]

    def _take_ids(self, run: Run, nodes: list[Node]) -> None:
        """Know elements by the ids that users gave; one that was replaced keeps its own."""
        for node in nodes:
            for index, text in node.spec.ids.items():
                self.given.setdefault(text, (run.number, node.number, index))

    def _apply_leased(self, fact: f.Leased) -> None:
        run = self.runs[fact.run]
        run.nodes[fact.node].state[fact.lo : fact.hi] = bytes([State.LEASED]) * (fact.hi - fact.lo)
        lease = Lease(run, fact.node, fact.lo, fact.hi, fact.token, fact.engine)
        self.leases[fact.token] = lease
        run.hold(lease)
        engine = self.fleet.engine(fact.engine)
        engine.leases[fact.token] = lease
        engine.count += fact.hi - fact.lo

    def _apply_returned(self, fact: f.Returned) -> None:
        node = self.runs[fact.run].nodes[fact.node]
        node.state[fact.lo : fact.hi] = bytes(fact.hi - fact.lo)
        if fact.charged:
            deaths = node.sparse.deaths
            deaths[fact.lo] = deaths.get(fact.lo, 0) + 1
        if fact.charged or fact.lost:
            losses = node.sparse.losses
            for index in range(fact.lo, fact.hi):
                losses[index] = losses.get(index, 0) + 1
        if node.own is not None and node.own.notes:
            for index in range(fact.lo, fact.hi):
                node.own.notes.pop(index, None)
        self._close(self.leases[fact.token], fact.lo, fact.hi)

    def _apply_deferred(self, fact: f.Deferred) -> None:
        run = self.runs[fact.run]
        before = run.weight
        run.nodes[fact.node].state[fact.index] = State.WAITING
        run.defer(fact)
        self.weight += run.weight - before
        self._close(self.leases[fact.token], fact.index, fact.index + 1)
        self.wakes.append((run, fact.node, fact.index, fact.index + 1))

    def _apply_extended(self, fact: f.Extended) -> None:
        run = self.runs[fact.run]
        weight, size, count, known = run.weight, run.size, len(run.nodes), len(run.functions)
        run.extend(fact)
        self.weight += run.weight - weight
        self.left += run.size - size
        self._name_functions(run.functions[known:])
        added = run.nodes[count:]
        self._take_ids(run, added)
        if fact.replaces:
            run.nodes[fact.node].state[fact.index] = State.WAITING
            self._close(self.leases[fact.token], fact.index, fact.index + 1)
        for node in added:
            if node.spec.after_node == NONE and node.spec.after_list == NONE:
                self.wakes.append((run, node.number, 0, node.spec.size))

    def _apply_end(self, fact: f.End) -> None:
        run = self.runs[fact.run]
        before = run.weight
        woken = run.end(fact)
        states = states_of(fact)
        for state in range(State.SUCCESS, State.SKIPPED):
            self.ended[state] += states.count(state)
        self.left -= fact.hi - fact.lo
        self.weight += run.weight - before
        if isinstance(fact, f.Settled):
            self._close(self.leases[fact.token], fact.lo, fact.hi)
        elif isinstance(fact, f.Ended) and run.leases:
            for lease in run.held(run.nodes[fact.node], fact.lo, fact.hi):
                self._close(lease, fact.lo, fact.hi)
        for number in run.nodes[fact.node].consumers:
            node = run.nodes[number]
            parent_is_one = len(run.nodes[fact.node].state) == 1
            lo, hi = (0, node.spec.size) if parent_is_one else (fact.lo, fact.hi)
            self.wakes.append((run, number, lo, hi))
        for members in woken:
            for number in run.lists[members].consumers:
                self.wakes.append((run, number, 0, run.nodes[number].spec.size))
        self._wake_replaced(run, fact, woken)
        if run.left == 0:
            del self.unfinished[run.number]
            self.finished.append(run.number)
            self.kept += run.weight
            if run.origin is not None and run.origin.schedule:
                self._free(run, run.origin.schedule)

    def _free(self, run: Run, name: str) -> None:
        """Note that a run of a schedule has ended."""
        made = self.made[name]
        del made[run.number]
        if not made:
            del self.made[name]
            schedule = self.schedules.get(name)
            if schedule is not None and schedule.state.waiting:
                self.free.append(name)

    def _wake_replaced(self, run: Run, fact: f.End, woken: list[int]) -> None:
        """Look at the elements that end as what has just ended does."""
        own = run.nodes[fact.node].own
        ended = (
            [own.stands_for[i] for i in within(own.stands_for, fact.lo, fact.hi)] if own is not None else []
        )
        for members in woken:
            replaced = run.lists[members].stands_for
            if replaced is not None:
                ended.append(replaced)
        self.wakes.extend((run, number, index, index + 1) for number, index in ended)

    def _close(self, lease: Lease, lo: int, hi: int) -> None:
        closed = lease.close(lo, hi)
        if not closed:
            return
        engine = self.fleet.engine(lease.engine)
        engine.count -= closed
        engine.load_s = max(0.0, engine.load_s - lease.cost_s * closed)
        if not lease.open:
            del self.leases[lease.token]
            lease.run.release(lease)
            del engine.leases[lease.token]
        self.fleet.note(engine)

    def _apply_dropped(self, fact: f.Dropped) -> None:
        run = self.runs[fact.run]
        run.dropped |= frozenset(range(fact.lo, fact.hi))
        ids = run.nodes[0].spec.ids
        for index in range(fact.lo, fact.hi) if ids else ():
            if self.given.get(ids.get(index, "")) == (run.number, 0, index):
                del self.given[ids[index]]

    def _apply_forgotten(self, fact: f.Forgotten) -> None:
        run = self.runs.pop(fact.run)
        del self.by_id[run.id]
        self.weight -= run.weight
        self.kept -= run.weight
        self._drop_functions(run.functions)
        if run.origin is not None:
            self._name_blobs(run.blocks, -1)
        for node in run.nodes:
            for state in range(State.SUCCESS, State.SKIPPED):
                self.ended[state] -= node.state.count(state)
            for text in node.spec.ids.values():
                if self.given.get(text, (NONE,))[0] == run.number:
                    del self.given[text]
