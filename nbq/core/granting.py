"""Granting: what is ready waits in queues, by priority, and goes to engines that have room.

Two sorts of work do not block the head of their queue. What is over the rate of its task is **parked**,
by the task's name, until the next start is allowed: a token bucket for each name, over the whole cluster.
What only some engines know is passed over while those have no room. Of a paused queue nothing is granted,
and what engines have not started of it is asked back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

from nbq.core.actions import Grant
from nbq.core.decided import Decided
from nbq.core.facts import Leased
from nbq.core.fleet import HORIZON_S, Engine
from nbq.core.model import NONE, Now, State
from nbq.core.ready import ReadyQueue, ReadyRange
from nbq.core.runs import Node, Run, spans

__all__ = ["Granting"]

_TOKEN_BITS = 40
_LEASE_SIZE = 256
_BURST_S = 0.01
"""A rate is kept over this time: of 1,000 a second, ten may start at once."""
_PASSED_OVER = 64
"""How many ranges that only busy engines know are passed over in a turn."""
_GRANTS = 1000
"""Leases at once, some 30 microseconds each (design, promise 10: no turn over 50 ms)."""
_COUNTED = 4096
"""How many ranges and elements are counted at most to see how much waits: as many as an engine has slots."""
_STALE = 10_000
"""Ranges at once that were cancelled or moved, some microsecond each."""
_RATES = 10_000
_LOOKS = 10_000
_RECALL_S = 1.0
"""For so long after a queue was paused, what has not started of it is asked back; the rest runs by then."""
_AGAIN_S = 0.1
_LOOK_S = 0.05
"""How often to look at parked work that may start, while what was brought back of it waits for room."""


class _Rate:
    """A token bucket, and what waits for its tokens."""

    __slots__ = ("at_s", "parked", "per_s", "tokens")

    def __init__(self, now_s: float) -> None:
        self.at_s = now_s
        self.per_s = 1.0
        self.tokens = 1.0
        self.parked: dict[str, ReadyQueue] = {}
        """By the queue that it came from."""

    def refill(self, per_s: float, now_s: float) -> bool:
        """Add what has come in since; return whether a start is allowed."""
        most = max(1.0, per_s * _BURST_S)
        self.tokens = min(most, self.tokens + max(0.0, now_s - self.at_s) * per_s)
        self.at_s, self.per_s = now_s, per_s
        return self.starts > 0

    def lift(self) -> None:
        """Let all that is parked go on at once, to be looked at anew."""
        self.tokens = self.per_s = math.inf

    @property
    def starts(self) -> int:
        """Return how many starts are allowed."""
        return _GRANTS if self.tokens == math.inf else int(self.tokens + 1e-9)

    def next_s(self, look_s: float) -> float:
        """Return when parked work may go on: ``look_s`` if it may now, but what came back waits for room."""
        if self.tokens == math.inf:
            return self.at_s
        return look_s if self.starts else self.at_s + (1.0 - self.tokens) / self.per_s


class Granting:
    """All queues of a hub, and the tokens of what is granted.

    Args:
        decided: Where leases go.
        epoch: A number higher than in any earlier life of the store; tokens begin with it.
    """

    def __init__(self, decided: Decided, epoch: int) -> None:
        self.queues: dict[str, ReadyQueue] = {}
        self._decided = decided
        self._ledger = decided.ledger
        self._token = epoch << _TOKEN_BITS
        self._rates: dict[str, _Rate] = {}
        self._next_s: float | None = None
        """When parked work may go on, on the monotonic clock."""
        self._looked_s = 0.0
        self._grants = _GRANTS
        """How many leases more may be granted in this turn."""
        self._stale = _STALE
        """How many ranges more may be found in this turn to mean nothing any more."""
        self._recalled: dict[str, float] = {}
        """Until when what has not started is asked back, by queue."""
        self._recall_s = 0.0

    def add(self, run: Run, node: Node, lo: int, hi: int, *, front: bool = False) -> None:
        """Queue elements."""
        node.state[lo:hi] = bytes([State.QUEUED]) * (hi - lo)
        queue = self._queue(node.spec.options.queue)
        queue.queued += hi - lo
        parts = node.by_priority(lo, hi)
        for priority, a, b in reversed(parts) if front else parts:
            if not front:
                self._trim(queue, priority)
            queue.push(priority, ReadyRange(run.number, node.number, a, b), front=front)

    def _trim(self, queue: ReadyQueue, priority: int) -> None:
        """Drop what was cancelled of those that came last: behind what cannot start it would pile up."""
        while (item := queue.last(priority)) is not None:
            run = self._ledger.runs.get(item.run)
            node = run.nodes[item.node] if run is not None else None
            if node is not None and node.state.find(State.QUEUED, item.lo, item.hi) >= 0:
                return
            if node is not None and node.own is not None and node.own.moved.get(priority) is item:
                del node.own.moved[priority]
            queue.drop_last(priority)

    def raised(self, run: Run, node: Node, lo: int, hi: int) -> None:
        """Take notice that elements have a higher priority than before.

        What is queued of them is queued there too; the range that they were in before means them no more.
        Each is in one at its priority or above, and ``_sort`` puts it right when that is reached.
        """
        for priority, a, b in node.by_priority(lo, hi):
            at = node.state.find(State.QUEUED, a, b)
            if at >= 0:
                end = node.state.rfind(State.QUEUED, a, b) + 1
                self._put(self.queues[node.spec.options.queue], run.number, node, priority, at, end)

    def _put(self, queue: ReadyQueue, run: int, node: Node, priority: int, lo: int, hi: int) -> None:
        """Queue elements at another priority; what was moved of a node shares a range there."""
        moved = node.sparse.moved
        item = moved.get(priority)
        if item is None:
            item = moved[priority] = ReadyRange(run, node.number, lo, hi)
            queue.push(priority, item)
        else:
            item.lo, item.hi = min(item.lo, lo), max(item.hi, hi)

    @staticmethod
    def _drop_head(queue: ReadyQueue, node: Node | None) -> None:
        """Remove the range that is next for good."""
        if node is not None and node.own is not None and node.own.moved.get(queue.level) is queue.head():
            del node.own.moved[queue.level]
        queue.drop_head()

    def _queue(self, name: str) -> ReadyQueue:
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = ReadyQueue(name)
        return queue

    def later(self, node: Node, lo: int, hi: int, state: State) -> None:
        """Take notice that elements are to be queued at a time: SCHEDULED or RETRY."""
        node.state[lo:hi] = bytes([state]) * (hi - lo)
        self._count(self._queue(node.spec.options.queue), state, hi - lo)

    def removed(self, node: Node, count: int, state: State = State.QUEUED) -> None:
        """Take notice that elements of a node are in a state no longer: QUEUED, SCHEDULED or RETRY."""
        self._count(self.queues[node.spec.options.queue], state, -count)

    def _count(self, queue: ReadyQueue, state: State, count: int) -> None:
        if state == State.QUEUED:
            queue.queued += count
        elif state == State.SCHEDULED:
            queue.scheduled += count
        else:
            queue.again += count

    def wait_s(self, now: Now) -> float | None:
        """Return after how many seconds there is more to grant; None if not by itself."""
        if not self._grants or not self._stale:
            return 0.0
        times = [
            at_s for at_s in (self._next_s, self._recall_s if self._recalled else None) if at_s is not None
        ]
        return max(0.0, min(times) - now.mono_s) if times else None

    def dispatch(self, now: Now) -> None:
        """Grant what is ready to engines that have room."""
        self._grants, self._stale = _GRANTS, _STALE
        if self._next_s is not None and self._next_s <= now.mono_s:
            self._unpark(now)
        self._dispatch(now)
        look_s = self._looked_s + _LOOK_S
        self._next_s = min((r.next_s(look_s) for r in self._rates.values() if r.parked), default=None)

    def _dispatch(self, now: Now) -> None:
        for queue in [queue for name, queue in self.queues.items() if name not in self._ledger.paused]:
            passed: list[tuple[int, ReadyRange]] = []
            while self._grants and len(passed) < _PASSED_OVER and (found := self._next(queue)) is not None:
                run, node, head, at = found
                rate = self._ledger.rate(node.spec)
                if rate is not None and not self._may_start(node, rate, now):
                    self._park(queue, node, head)
                    queue.drop_head()
                    continue
                cost_s = self._ledger.fleet.cost_s(node.spec.function)
                picked, choosy = self._pick(queue, node, max(cost_s, HORIZON_S) if rate else cost_s)
                if picked is None and choosy:
                    passed.append((queue.level, head))
                    queue.drop_head()
                    continue
                if picked is None:
                    break
                end = at + 1 if rate else self._lease_end(queue, node, at, head.hi, picked[1])
                head.lo = end
                queue.queued -= end - at
                if rate is not None:
                    self._rates[node.spec.task].tokens -= 1
                self._grant(run, node, at, end, picked[0], cost_s, now)
                if head.lo >= head.hi:
                    self._drop_head(queue, node)
            for priority, item in reversed(passed):
                queue.push(priority, item, front=True)

    def _next(self, queue: ReadyQueue) -> tuple[Run, Node, ReadyRange, int] | None:
        """Return the range that is next, all of one priority, and its first element that is queued."""
        while self._stale and (head := queue.head()) is not None:
            run = self._ledger.runs.get(head.run)
            node = run.nodes[head.node] if run is not None else None
            at = node.state.find(State.QUEUED, head.lo, head.hi) if node is not None else NONE
            if run is None or node is None or at < 0:
                self._stale -= 1
                self._drop_head(queue, node)
            elif (parts := node.by_priority(at, head.hi)) == [(queue.level, at, head.hi)]:
                return run, node, head, at
            else:
                self._stale -= 1
                self._sort(queue, head, node, parts)
        return None

    def _sort(
        self, queue: ReadyQueue, head: ReadyRange, node: Node, parts: list[tuple[int, int, int]]
    ) -> None:
        """Put parts of the range that is next where they belong by now; those above it are there already."""
        level = queue.level
        self._drop_head(queue, node)
        for priority, lo, hi in reversed(parts):
            if priority == level:
                queue.push(priority, ReadyRange(head.run, head.node, lo, hi), front=True)
            elif priority < level:
                self._put(queue, head.run, node, priority, lo, hi)

    def _pick(self, queue: ReadyQueue, node: Node, cost_s: float) -> tuple[tuple[Engine, int] | None, bool]:
        """Return an engine and its room, or None; and whether others may have room for other work."""
        fleet = self._ledger.fleet
        task = node.spec.task
        if node.spec.bare_name and fleet.anyone_knows(queue.name, task):
            return fleet.pick_knowing(queue.name, cost_s, task), True
        return fleet.pick(queue.name, cost_s), False

    def _lease_end(self, queue: ReadyQueue, node: Node, lo: int, hi: int, room: int) -> int:
        """Return where a lease from ``lo`` ends: within room, one block, a fair share and one attempt."""
        serving = self._ledger.fleet.serving(queue.name) if queue.queued < _LEASE_SIZE * 8 else 1
        share = room if serving == 1 else max(1, queue.queued // (2 * serving))
        block_end = hi if node.spec.shared else node.args_block(lo)[2]
        end = min(hi, block_end, lo + min(room, share, _LEASE_SIZE))
        end = next(spans(node.state, lo, end, State.QUEUED))[1]
        return end if node.own is None else node.alike(lo, end)

    def _grant(self, run: Run, node: Node, lo: int, hi: int, engine: Engine, cost_s: float, now: Now) -> None:
        self._token += 1
        self._grants -= 1
        token = self._token
        self._decided.emit(Leased(run.number, node.number, lo, hi, token, engine.id))
        lease = self._ledger.leases[token]
        lease.at_s = now.mono_s
        lease.cost_s = cost_s
        run.began_s = run.began_s or now.wall_s
        engine.load_s += cost_s * (hi - lo)
        self._ledger.fleet.note(engine)
        attempt, late = node.started(lo), node.spec.options.acks_late
        self._decided.act(Grant(engine.id, run.number, node.number, lo, hi, token, attempt, not late))

    def unserved(self) -> dict[str, int]:
        """Return by queue how many elements wait for a slot, as far as that is soon counted.

        What is over its rate, or of a paused queue, waits for something else.
        """
        open_ = [queue for name, queue in self.queues.items() if name not in self._ledger.paused]
        return {queue.name: count for queue in open_ if (count := self._waiting(queue))}

    def _waiting(self, queue: ReadyQueue) -> int:
        count = 0
        for looked, item in enumerate(queue):
            if max(looked, count) >= _COUNTED:
                break
            run = self._ledger.runs.get(item.run)
            if run is not None:
                count += run.nodes[item.node].state.count(State.QUEUED, item.lo, item.hi)
        return count

    # -------------------------------------------------------------- rates

    def held_back(self, run: Run, node: Node, index: int, now: Now) -> tuple[float, int] | None:
        """Return in how many seconds the rate of its task lets another start, and how many are before it.

        None if the element is not one of those that wait for that.
        """
        rate = self._rates.get(node.spec.task)
        parked = rate.parked.get(node.spec.options.queue) if rate is not None else None
        if rate is None or parked is None:
            return None
        ahead = 0
        for _, item in islice(parked.ranges(), _LOOKS):
            if item.run == run.number and item.node == node.number and item.lo <= index < item.hi:
                return max(0.0, rate.next_s(now.mono_s) - now.mono_s), ahead + index - item.lo
            ahead += item.hi - item.lo
        return None

    def _may_start(self, node: Node, per_s: float, now: Now) -> bool:
        name = node.spec.task
        rate = self._rates.get(name)
        if rate is None:
            if len(self._rates) >= _RATES:  # those that nothing waits for can be made again
                self._rates = {key: kept for key, kept in self._rates.items() if kept.parked}
            rate = self._rates[name] = _Rate(now.mono_s)
        return rate.refill(per_s, now.mono_s)

    def _park(self, queue: ReadyQueue, node: Node, item: ReadyRange) -> None:
        parked = self._rates[node.spec.task].parked
        if queue.name not in parked:
            parked[queue.name] = ReadyQueue(queue.name)
        parked[queue.name].push(queue.level, item)

    def _unpark(self, now: Now) -> None:
        """Bring back as many ranges as may start; those whose time has not come are parked again."""
        self._looked_s = now.mono_s
        for rate in self._rates.values():
            if not rate.parked:
                continue
            if rate.per_s != math.inf:
                rate.refill(rate.per_s, now.mono_s)
            for name, parked in list(rate.parked.items()):
                for priority, item in reversed(self._living(parked, min(max(1, rate.starts), _GRANTS))):
                    self.queues[name].push(priority, item, front=True)
                if parked.head() is None:
                    del rate.parked[name]

    def _living(self, parked: ReadyQueue, count: int) -> list[tuple[int, ReadyRange]]:
        """Take out up to so many ranges, and all that was cancelled or moved before them."""
        found: list[tuple[int, ReadyRange]] = []
        while len(found) < count and (next_ := self._next(parked)) is not None:
            found.append((parked.level, next_[2]))
            parked.drop_head()
        return found

    # -------------------------------------------------------------- steering

    def paused(self, queue: str, now: Now) -> None:
        """Ask back what has not started of a queue of which nothing is granted any more."""
        self._recalled[queue] = now.mono_s + _RECALL_S
        self._recall_s = now.mono_s

    def resumed(self, queue: str) -> None:
        """Ask nothing more back of a queue."""
        self._recalled.pop(queue, None)

    def rate_set(self, task: str) -> None:
        """Let what waits for the rate of a task be looked at anew."""
        rate = self._rates.get(task)
        if rate is not None:
            rate.lift()
            self._next_s = -math.inf

    def recalls(self, now: Now) -> Iterator[tuple[Engine, int]]:
        """Yield engines that hold what may not have started of paused queues, and how many to ask for.

        An engine chooses what it gives back, so it is asked for all; of other queues it gets it again.
        """
        if not self._recalled or now.mono_s < self._recall_s:
            return
        self._recall_s = now.mono_s + _AGAIN_S
        for engine in list(self._ledger.fleet.engines.values()):
            leases = [(lease, lease.run.nodes[lease.node]) for lease in engine.leases.values()]
            if any(
                node.spec.options.queue in self._recalled
                and node.state.find(State.LEASED, lease.lo, lease.hi) >= 0
                for lease, node in leases
            ):
                yield engine, engine.count
        self._recalled = {name: until_s for name, until_s in self._recalled.items() if until_s > now.mono_s}
