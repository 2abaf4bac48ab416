"""Granting: what is ready waits in queues, by priority, and goes to engines that have room.

Two sorts of work do not block the head of their queue. What is over the rate of its task is **parked**,
by the task's name, until the next start is allowed: a token bucket for each name, over the whole cluster.
What only some engines know is passed over while those have no room.
"""

from __future__ import annotations

from itertools import islice

from nbq.core.actions import Grant
from nbq.core.decided import Decided
from nbq.core.facts import Leased
from nbq.core.fleet import HORIZON_S, Engine
from nbq.core.model import NONE, Now, Options, State
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
_RATES = 10_000
_LOOKS = 10_000
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

    @property
    def starts(self) -> int:
        """Return how many starts are allowed."""
        return int(self.tokens + 1e-9)

    def next_s(self, look_s: float) -> float:
        """Return when parked work may go on: ``look_s`` if it may now, but what came back waits for room."""
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

    def add(self, run: Run, node: Node, lo: int, hi: int, *, front: bool = False) -> None:
        """Queue elements."""
        node.state[lo:hi] = bytes([State.QUEUED]) * (hi - lo)
        options = node.spec.options
        queue = self._queue(options.queue)
        queue.queued += hi - lo
        queue.push(options.priority, ReadyRange(run.number, node.number, lo, hi), front=front)

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
        if not self._grants:
            return 0.0
        return None if self._next_s is None else max(0.0, self._next_s - now.mono_s)

    def dispatch(self, now: Now) -> None:
        """Grant what is ready to engines that have room."""
        if self._next_s is not None and self._next_s <= now.mono_s:
            self._unpark(now)
        self._grants = _GRANTS
        self._dispatch(now)
        look_s = self._looked_s + _LOOK_S
        self._next_s = min((r.next_s(look_s) for r in self._rates.values() if r.parked), default=None)

    def _dispatch(self, now: Now) -> None:
        for queue in list(self.queues.values()):
            passed: list[tuple[int, ReadyRange]] = []
            while self._grants and (head := queue.head()) is not None and len(passed) < _PASSED_OVER:
                run = self._ledger.runs.get(head.run)
                node = run.nodes[head.node] if run is not None else None
                at = node.state.find(State.QUEUED, head.lo, head.hi) if node is not None else NONE
                if run is None or node is None or at < 0:
                    queue.drop_head()
                    continue
                rate = node.spec.options.rate_limit
                if rate is not None and not self._may_start(node, rate, now):
                    queue.drop_head()
                    self._park(queue, node, head)
                    continue
                cost_s = self._ledger.fleet.cost_s(node.spec.function)
                picked, choosy = self._pick(queue, node, max(cost_s, HORIZON_S) if rate else cost_s)
                if picked is None and choosy:
                    queue.drop_head()
                    passed.append((node.spec.options.priority, head))
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
                    queue.drop_head()
            for priority, item in reversed(passed):
                queue.push(priority, item, front=True)

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

        What is over its rate waits for something else.
        """
        return {name: count for name, queue in self.queues.items() if (count := self._waiting(queue))}

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
        parked[queue.name].push(node.spec.options.priority, item)

    def _unpark(self, now: Now) -> None:
        """Bring back as many ranges as may start; those whose time has not come are parked again."""
        self._looked_s = now.mono_s
        for rate in self._rates.values():
            if not rate.parked:
                continue
            rate.refill(rate.per_s, now.mono_s)
            for name, parked in list(rate.parked.items()):
                for options, item in reversed(self._living(parked, min(max(1, rate.starts), _GRANTS))):
                    self.queues[name].push(options.priority, item, front=True)
                if parked.head() is None:
                    del rate.parked[name]

    def _living(self, parked: ReadyQueue, count: int) -> list[tuple[Options, ReadyRange]]:
        """Take out up to so many ranges, and all that was cancelled before them."""
        found: list[tuple[Options, ReadyRange]] = []
        while len(found) < count and (head := parked.head()) is not None:
            parked.drop_head()
            run = self._ledger.runs.get(head.run)
            node = run.nodes[head.node] if run is not None else None
            if node is not None and node.state.find(State.QUEUED, head.lo, head.hi) >= 0:
                found.append((node.spec.options, head))
        return found
