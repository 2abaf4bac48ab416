"""Steering: what people want done with queues, rates, and many elements at once.

What concerns many elements is done in steps, some each turn, for what there was when it was asked; nothing of
it is a fact but what it leads to. Elements that failed are tried again in new runs (``making``): alone, where
nothing depends on them, else with the whole canvas they belong to. Never waits and never grants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

from msgspec.structs import replace

from nbq.core.actions import Copy, Discard, Done, Reject
from nbq.core.decided import Decided
from nbq.core.ending import Ending
from nbq.core.events import Chosen, QueueSteered, RateSet, Steering
from nbq.core.facts import Reprioritised, Steered
from nbq.core.granting import Granting
from nbq.core.ids import made_id
from nbq.core.making import Making
from nbq.core.model import NONE, BlockMeta, Graph, Nested, NodeSpec, Now, Origin, Slice, State
from nbq.core.runs import Node, Run, spans

__all__ = ["Helm"]

_WORK = 500.0
"""What may be done in a turn: so many facts, some 20 microseconds each; a turn may grant as well."""
_LOOK = 0.05
"""What it costs to look at a run or node that is not meant."""
_SCAN = 10_000.0
"""So many elements to look through are as much as a fact."""
_RUN = 4.0
"""What it costs to make a run."""
_BYTES = 2048.0
"""So many bytes to copy are as much as a fact."""
_WINDOW = 1024
"""Elements of a node that are looked at together."""
_JOBS = 1000
_NAMES = 10_000
"""The most queues that are paused, and the most rates that are set."""
_MADE = 10_000
"""So many of the runs that were made are told of; a message holds no more."""
_SLICES = 10_000
"""Ranges of one node that are tried again in one run; the graph of a run fits into a message."""
_SALT = 8
_FAILED = (State.FAILURE, State.REVOKED)
_LIVING = [state for state in State if state < State.SUCCESS]
_THERE = bytes(int(state != State.SKIPPED) for state in range(256))
_BEGIN = bytes([State.SKIPPED, State.WAITING, *range(2, 256)])
"""From whether an element is tried again to how it begins."""

Steps = Iterator[float]
"""The steps of a job: what each cost, in facts."""


class _Job:
    def __init__(self, event: Steering) -> None:
        self.ticket = event.ticket
        self.chosen = event.chosen
        self.steps: Steps = iter(())
        self.count = 0
        self.made: list[bytes] = []
        self.text = ""
        self.covered: dict[tuple[bytes, float | None, int], int] = {}
        """Elements that are in newer runs, by template, fire time and node: a byte each, from the lowest."""


class Helm:
    """Pauses queues, sets rates, and does what is wanted with many elements.

    Args:
        decided: Where facts and actions go.
        granting: What is queued.
        ending: Revokes.
        making: Makes the runs of those that are tried again.
        elements: The most elements that may not have ended.
    """

    def __init__(
        self, decided: Decided, granting: Granting, ending: Ending, making: Making, elements: int
    ) -> None:
        self._decided = decided
        self._ledger = decided.ledger
        self._granting = granting
        self._ending = ending
        self._making = making
        self._elements = elements
        self._jobs: deque[_Job] = deque()
        self._now = Now(0.0, 0.0)

    @property
    def busy(self) -> bool:
        """Return whether there is more to do in the next turn."""
        return bool(self._jobs)

    # -------------------------------------------------------------- queues and rates

    def take(self, event: Steering | QueueSteered | RateSet, now: Now) -> None:
        """Do what is wanted, or begin to."""
        match event:
            case QueueSteered():
                self._queue(event, now)
            case RateSet():
                self._rate(event)
            case Steering():
                self._begin(event)

    def _queue(self, event: QueueSteered, now: Now) -> None:
        paused = self._ledger.paused
        if event.paused and event.queue not in paused:
            if self._full(len(paused), "queues are paused"):
                return
            self._steered(paused | {event.queue}, self._ledger.rates)
            self._granting.paused(event.queue, now)
        elif not event.paused and event.queue in paused:
            self._steered(paused - {event.queue}, self._ledger.rates)
            self._granting.resumed(event.queue)

    def _rate(self, event: RateSet) -> None:
        rates = {task: per_s for task, per_s in self._ledger.rates.items() if task != event.task}
        if not event.own:
            if self._full(len(rates), "rates are set"):
                return
            rates[event.task] = event.per_s
        if rates != self._ledger.rates:
            self._steered(self._ledger.paused, rates)
            self._granting.rate_set(event.task)

    def _steered(self, paused: frozenset[str], rates: dict[str, float | None]) -> None:
        self._decided.emit(Steered(0, sorted(paused), rates))

    def _full(self, count: int, what: str) -> bool:
        if count >= _NAMES:
            self._decided.act(Reject("busy", f"{count:,} {what} already: undo some first"))
        return count >= _NAMES

    # -------------------------------------------------------------- many elements

    def _begin(self, event: Steering) -> None:
        if event.chosen.run and event.chosen.run not in self._ledger.by_id:
            self._decided.act(Reject("unknown", "no such run"))
        elif len(self._jobs) >= _JOBS:
            self._decided.act(Reject("busy", f"the hub does {_JOBS:,} such things already; ask again later"))
        else:
            job = _Job(event)
            match event.verb:
                case "cancel":
                    job.steps = self._cancel(job)
                case "priority":
                    job.steps = self._prioritise(job, event.priority)
                case "retry":
                    job.steps = self._retry(job, event.salt, event.owner)
            self._jobs.append(job)

    def go(self, now: Now) -> None:
        """Do some of it; each job has its turn."""
        self._now = now
        work = _WORK
        while self._jobs and work > 0:
            job = self._jobs.popleft()
            share = work / (len(self._jobs) + 1)
            done = False
            while share > 0 and not done:
                cost = next(job.steps, None)
                done = cost is None
                share -= cost or 0.0
                work -= cost or 0.0
            if not done:
                self._jobs.append(job)
                continue
            self._decided.act(Done(job.ticket, job.count, job.made, job.text))

    def _runs(self, chosen: Chosen, pool: dict[int, Run], *, newest: bool) -> Iterator[Run | None]:
        """Yield the runs that are meant, newest or oldest first; None for one that is not (any more)."""
        if chosen.run:
            yield self._ledger.by_id.get(chosen.run)
            return
        numbers = list(pool)
        for number in reversed(numbers) if newest else numbers:
            run = pool.get(number)
            early = run is not None and (chosen.before_s is None or run.at_s < chosen.before_s)
            yield run if early else None

    def _is_there(self, run: Run) -> bool:
        return self._ledger.runs.get(run.number) is run

    def _parts(self, chosen: Chosen, *, newest: bool) -> Iterator[tuple[Run, Node, int, int] | None]:
        """Yield the parts of unfinished runs that are meant, states aside; None where there was only a look.

        With ``newest``, the last nodes of a run come first: nothing ends by what it follows but is meant too.
        """
        for run in self._runs(chosen, self._ledger.unfinished, newest=newest):
            if run is None or not run.left:
                yield None
                continue
            parts = [(node, 0, node.spec.size) for node in run.nodes]
            if chosen.node != NONE:
                named = run.nodes[chosen.node : chosen.node + 1]
                parts = [part for node in named for part in run.reach(node, *_bounds(chosen, node))]
            for node, lo, hi in reversed(parts) if newest else parts:
                yield (run, node, lo, hi) if node.left and _is_meant(chosen, node) else None

    def _cancel(self, job: _Job) -> Steps:
        states = _states(job.chosen, _LIVING)
        for part in self._parts(job.chosen, newest=True):
            if part is None:
                yield _LOOK
                continue
            run, node, first, stop = part
            for lo in range(first, stop, _WINDOW):
                if self._is_there(run):
                    yield self._revoke(job, run, node, lo, min(lo + _WINDOW, stop), states)

    def _revoke(self, job: _Job, run: Run, node: Node, lo: int, hi: int, states: list[State]) -> float:
        before = self._ledger.left
        found = [part for state in states for part in spans(node.state, lo, hi, state)]
        for a, b in found:
            self._ending.revoke(run, node, a, b, "cancelled", "cancelled", self._now)
        job.count += before - self._ledger.left
        return 1.0 + len(found)

    def _prioritise(self, job: _Job, priority: int) -> Steps:
        states = _states(job.chosen, _LIVING)
        for part in self._parts(job.chosen, newest=False):
            if part is None:
                yield _LOOK
                continue
            run, node, lo, hi = part
            count = sum(node.state.count(state, lo, hi) for state in states)
            if not count:
                yield _LOOK
                continue
            job.count += count
            whole = hi - lo == node.spec.size
            for index in (NONE,) if whole else range(lo, hi):
                if self._is_there(run):
                    self._set_priority(run, node, index, priority)
                    yield 1.0

    def _set_priority(self, run: Run, node: Node, index: int, priority: int) -> None:
        lo, hi = (0, node.spec.size) if index == NONE else (index, index + 1)
        before = [part[0] for part in node.by_priority(lo, hi)]
        if before != [priority]:
            self._decided.emit(Reprioritised(run.number, node.number, priority, index))
            if min(before) < priority:
                self._granting.raised(run, node, lo, hi)

    # -------------------------------------------------------------- once more

    def _retry(self, job: _Job, salt: bytes, owner: str) -> Steps:
        salt = salt[:_SALT]
        states = [state for state in job.chosen.states or [State.FAILURE] if state in _FAILED]
        for run in self._runs(job.chosen, self._ledger.runs, newest=True):
            yield _LOOK if run is None else _LOOK + run.size / _SCAN
            if run is None:
                continue
            origin = run.origin
            if origin is not None and origin.salt[:_SALT] == salt:  # at this request, which came again
                self._note_made(job, run, run.size - run.skipped)
            elif run.bad and not job.text:
                yield from self._retry_of(job, run, states, salt, owner)
            if origin is not None:
                self._cover(job, run)

    def _cover(self, job: _Job, run: Run) -> None:
        """Note what is tried again in a run: in older ones, it is not meant any more."""
        for number in range(len(run.planned.nodes)):
            key = _place(run, number)
            there = int.from_bytes(run.nodes[number].state.translate(_THERE), "little")
            job.covered[key] = job.covered.get(key, 0) | there

    def _note_made(self, job: _Job, run: Run, count: int) -> None:
        job.count += count
        if len(job.made) < _MADE:
            job.made.append(run.id)

    def _retry_of(self, job: _Job, run: Run, states: list[State], salt: bytes, owner: str) -> Steps:
        """Try again what failed of a run."""
        failed: dict[int, bytes] = {}
        added = False
        table = bytes(int(state in states) for state in range(256))
        chosen = job.chosen
        for node in run.nodes:
            yield _LOOK
            if node.left == node.spec.size or not _is_meant(chosen, node):
                continue
            bits = int.from_bytes(node.state.translate(table), "little")
            if node.number >= len(run.planned.nodes):
                named = chosen.node in (NONE, node.number)  # what an element added cannot be run by itself
                added = added or (named and bits != 0)
                continue
            bits &= ~job.covered.get(_place(run, node.number), 0)
            if bits:
                failed[node.number] = _within(bits.to_bytes(node.spec.size, "little"), chosen, node, run)
        failed = {number: mask for number, mask in failed.items() if 1 in mask}
        count = sum(mask.count(1) for mask in failed.values())
        if failed and all(_is_apart(run, run.nodes[number]) for number in failed):
            for number, mask in failed.items():
                yield from self._alone(job, run, run.nodes[number], mask, salt, owner)
        elif (failed or (added and not job.covered.get(_place(run, 0)))) and not run.left:
            graph = run.planned
            nodes = [self._fresh(run.nodes[number].spec) for number in range(len(graph.nodes))]
            sources = list(enumerate(run.blocks))
            graph = Graph(nodes, graph.lists, graph.value, graph.each, graph.before)
            yield from self._make(job, run, _origin(run, 0, 0, salt), owner, graph, sources, b"", count or 1)

    def _alone(self, job: _Job, run: Run, node: Node, mask: bytes, salt: bytes, owner: str) -> Steps:
        """Try elements of a node again in runs of their own: in their places, the others are skipped."""
        parts = list(spans(mask, 0, len(mask), 1))
        for at in range(0, len(parts), _SLICES):
            some = parts[at : at + _SLICES]
            first, stop = some[0][0], some[-1][1]
            now = bytes(first) + mask[first:stop]
            count = now.count(1)
            slices = [Slice(0, lo, hi) for lo, hi in some]
            value = slices[0] if count == 1 else Nested(0)
            spec = self._fresh(replace(node.spec, size=stop, header=NONE))
            graph = Graph([spec], [list(slices)] if count > 1 else [], value)
            numbers = [number for _, number in node.args]
            blocks = [(number, run.block(number)) for number in numbers]
            if not node.spec.shared:
                blocks = [(number, b) for number, b in blocks if now.find(1, b.lo, b.lo + b.n) >= 0]
            own = [(number, replace(block, node=0)) for number, block in blocks]
            origin = _origin(run, node.number, first, salt)
            yield from self._make(job, run, origin, owner, graph, own, now.translate(_BEGIN), count)

    def _make(
        self, job: _Job, run: Run, origin: Origin, owner: str, graph: Graph,
        blocks: list[tuple[int, BlockMeta]], begin: bytes, count: int,
    ) -> Steps:  # fmt: skip
        """Make a run, once its blocks are copied: the copies belong to nothing while they are made."""
        made = self._ledger.by_id.get(made_id(origin.template, origin.salt))
        if made is not None:  # at this request, which came again
            self._note_made(job, made, count)
            return
        if self._ledger.left + sum(spec.size for spec in graph.nodes) > self._elements:
            job.text = f"the hub is full: {job.count:,} of the tasks are tried again, the others are not"
            return
        number = self._ledger.reserve()
        for place, (source, block) in enumerate(blocks):
            if not self._is_there(run):
                self._decided.act(Discard([], [], number))
                return
            if not block.blob:
                self._decided.act(Copy(number, place, run.number, source))
            yield _LOOK + (block.size / _BYTES if not block.blob else 0.0)
        if not self._is_there(run):
            self._decided.act(Discard([], [], number))
            return
        metas = [block for _, block in blocks]
        made = self._making.make(origin, owner, graph, metas, [], self._now, number, begin)
        self._note_made(job, made, count)
        yield _RUN

    def _fresh(self, spec: NodeSpec) -> NodeSpec:
        """Return a node to be run now: without ids that exist already, and without times that are past."""
        options = spec.options
        if spec.after_node == NONE and spec.after_list == NONE:
            options = replace(options, eta_s=None, countdown_s=None)
        if options.expires_at_s is not None and options.expires_at_s <= self._now.wall_s:
            options = replace(options, expires_at_s=None)
        return replace(spec, ids={}, options=options)


def _states(chosen: Chosen, states: list[State]) -> list[State]:
    """Return which of these states are meant: QUEUED is also what is granted and not seen running."""
    wanted = set(chosen.states)
    if State.QUEUED in wanted:
        wanted.add(State.LEASED)
    return [state for state in states if not wanted or state in wanted]


def _is_meant(chosen: Chosen, node: Node) -> bool:
    options = node.spec.options
    return (
        (not chosen.name or chosen.name in (node.spec.task, options.shadow))
        and (not chosen.queue or chosen.queue == options.queue)
        and (not chosen.label or chosen.label == options.label)
    )


def _bounds(chosen: Chosen, node: Node) -> tuple[int, int]:
    return min(chosen.lo, node.spec.size), min(chosen.hi, node.spec.size)


def _within(mask: bytes, chosen: Chosen, node: Node, run: Run) -> bytes:
    """Return a mask without what is not meant by number, and without separate calls that were dropped."""
    if chosen.node != NONE:
        lo, hi = _bounds(chosen, node) if chosen.node == node.number else (0, 0)
        mask = bytes(lo) + mask[lo:hi] + bytes(len(mask) - max(lo, hi))
    if not run.dropped or node.number:
        return mask
    kept = bytearray(mask)
    for index in run.dropped:
        kept[index] = 0
    return bytes(kept)


def _is_apart(run: Run, node: Node) -> bool:
    """Return whether a node follows nothing, and nothing follows it or a list that it is in."""
    if node.spec.after_node != NONE or node.spec.after_list != NONE or node.consumers:
        return False
    number = node.home
    while number != NONE:
        if run.lists[number].consumers:
            return False
        number = run.lists[number].home
    return True


def _place(run: Run, number: int) -> tuple[bytes, float | None, int]:
    """Return what the elements of a node share with those that they were made from: template and number."""
    origin = run.origin
    return (
        (run.id, None, number) if origin is None else (origin.template, origin.fire_s, origin.node + number)
    )


def _origin(run: Run, node: int, first: int, salt: bytes) -> Origin:
    """Return the origin of a run in which a node of a run, from element ``first`` on, is tried again."""
    place = run.id + node.to_bytes(8, "big") + first.to_bytes(8, "big")
    own = salt + blake2b(place, digest_size=16 - _SALT, person=b"nbq.again").digest()
    origin = run.origin
    if origin is None:
        return Origin(run.id, own, node)
    return Origin(origin.template, own, origin.node + node, origin.schedule, origin.fire_s)
