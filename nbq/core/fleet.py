"""Engines: who is there, what each holds, and who can take more.

Credits are counted in slots and in seconds of work. An engine may always hold as many elements as it
has slots; beyond that it is granted what it is expected to finish within ``HORIZON_S``, so tasks of
a second are hardly prefetched and tasks of microseconds by the thousand.
"""

from __future__ import annotations

from collections.abc import Iterator

from nbq.core.model import EngineInfo, Now
from nbq.core.runs import Lease

__all__ = ["HORIZON_S", "Engine", "Fleet"]

HORIZON_S = 0.05
"""How much work an engine holds beyond what it runs: a few round trips between busy processes."""

UNKNOWN_S = HORIZON_S
"""What a task is taken to need before it has been seen: so that none is prefetched."""

_LEAST_S = 20e-6
_MOST_PER_SLOT = 1024
_SPEEDS = 10_000
_SMOOTHING = 0.5


class Engine:
    """One engine as the hub sees it; without ``info`` it has not reported since the hub started."""

    __slots__ = (
        "count", "deadline_s", "gone", "heard_s", "id", "info", "leases", "leaving", "load_s",
        "recalled_s", "waiting",
    )  # fmt: skip

    def __init__(self, engine: bytes) -> None:
        self.id = engine
        self.info: EngineInfo | None = None
        self.leases: dict[int, Lease] = {}
        self.count = 0
        """Elements that it holds."""
        self.load_s = 0.0
        """Seconds of work that it is expected to hold."""
        self.heard_s = 0.0
        self.deadline_s = 0.0
        self.gone = False
        self.leaving = False
        self.recalled_s: float | None = None
        self.waiting = 0
        """Running elements that wait for other tasks, so that others may run in their stead."""

    @property
    def slots(self) -> int:
        """Return how many elements it can hold running; none while it is away or leaving."""
        if self.info is None or self.gone or self.leaving:
            return 0
        return self.info.slots + self.waiting

    def knows(self, task: str) -> bool:
        """Return whether its slots have said that they know a task."""
        return self.info is not None and task in self.info.tasks

    def room(self, cost_s: float) -> int:
        """Return how many more elements of this expected cost it may be granted."""
        free = self.slots - self.count
        spare_s = self.slots * HORIZON_S - self.load_s
        ahead = int(spare_s / cost_s) if spare_s > 0 else 0
        return min(max(free, ahead), self.slots * _MOST_PER_SLOT - self.count)

    def excess(self) -> int:
        """Return how many elements it holds beyond those that it would be granted now."""
        if not self.count or not self.slots:
            return 0
        cost_s = max(self.load_s / self.count, _LEAST_S)
        most = min(int(self.slots * HORIZON_S / cost_s), self.slots * _MOST_PER_SLOT)
        return max(0, self.count - max(self.slots, most))


class Fleet:
    """All engines, and for each queue those that may have room, in turn."""

    def __init__(self) -> None:
        self.engines: dict[bytes, Engine] = {}
        self._serving: dict[str, set[bytes]] = {}
        self._open: dict[str, dict[bytes, Engine]] = {}
        self._idle: dict[bytes, Engine] = {}
        self._ahead: dict[bytes, Engine] = {}
        self._speed_s: dict[bytes, float] = {}

    def engine(self, engine: bytes) -> Engine:
        """Return an engine, known or new."""
        found = self.engines.get(engine)
        if found is None:
            found = self.engines[engine] = Engine(engine)
        return found

    def before(self, engine: Engine) -> list[Engine]:
        """Return what an engine was before it began anew: of its name and host, leaving, without work."""
        return [
            other for other in self.engines.values()
            if other is not engine and other.leaving and not other.leases
            and other.info is not None and engine.info is not None
            and (other.info.name, other.info.host) == (engine.info.name, engine.info.host)
        ]  # fmt: skip

    def drop(self, engine: Engine) -> None:
        """Forget an engine that holds nothing."""
        self.engines.pop(engine.id, None)
        self.shut(engine)

    def shut(self, engine: Engine) -> None:
        """Grant nothing to an engine until it is noted again."""
        for others in self._open.values():
            others.pop(engine.id, None)
        for serving in self._serving.values():
            serving.discard(engine.id)
        self._idle.pop(engine.id, None)
        self._ahead.pop(engine.id, None)

    def note(self, engine: Engine) -> None:
        """Take notice that an engine's slots, leases or presence changed."""
        slots = engine.slots
        if slots == 0 or engine.info is None:
            self.shut(engine)
            return
        for queue in engine.info.queues:
            self._serving.setdefault(queue, set()).add(engine.id)
            self._open.setdefault(queue, {}).setdefault(engine.id, engine)
        if engine.count < slots:
            self._idle.setdefault(engine.id, engine)
        else:
            self._idle.pop(engine.id, None)
        if engine.count > slots:
            self._ahead.setdefault(engine.id, engine)
        else:
            self._ahead.pop(engine.id, None)

    def pick(self, queue: str, cost_s: float) -> tuple[Engine, int] | None:
        """Return the next engine of a queue that has room, and how much; each has its turn.

        Engines without room for this work leave the rotation until they are noted again.
        """
        engines = self._open.get(queue)
        while engines:
            engine = engines.pop(next(iter(engines)))
            room = engine.room(cost_s)
            if room > 0:
                engines[engine.id] = engine
                return engine, room
        return None

    def pick_knowing(self, queue: str, cost_s: float, task: str) -> tuple[Engine, int] | None:
        """Return the next engine of a queue that has room and knows a task."""
        for engine in self._open.get(queue, {}).values():
            if engine.knows(task) and (room := engine.room(cost_s)) > 0:
                return engine, room
        return None

    def anyone_knows(self, queue: str, task: str) -> bool:
        """Return whether an engine that serves a queue has said that it knows a task."""
        return any(self.engines[engine].knows(task) for engine in self._serving.get(queue, ()))

    def serving(self, queue: str) -> int:
        """Return how many engines take work from a queue."""
        return len(self._serving.get(queue, ()))

    def cost_s(self, function: bytes) -> float:
        """Return how long one element of a function is expected to run."""
        return self._speed_s.get(function, UNKNOWN_S)

    def measured(self, function: bytes, seconds: float) -> None:
        """Learn how long an element of a function ran."""
        seconds = max(seconds, _LEAST_S)
        before = self._speed_s.pop(function, None)
        if before is not None:
            seconds = before + _SMOOTHING * (seconds - before)
        self._speed_s[function] = seconds
        if len(self._speed_s) > _SPEEDS:
            del self._speed_s[next(iter(self._speed_s))]

    def uneven(self) -> bool:
        """Return whether one engine could take what another holds in advance."""
        return bool(self._idle and self._ahead)

    def recalls(self, now: Now, patience_s: float) -> Iterator[tuple[Engine, int]]:
        """Yield engines that hold unstarted elements while others idle, and how many to ask for.

        An engine is asked again only after ``patience_s``, or when it has answered.
        """
        free = {
            queue: sum(e.slots - e.count for e in self._idle.values() if e.info and queue in e.info.queues)
            for engine in self._idle.values()
            if engine.info
            for queue in engine.info.queues
        }
        for engine in list(self._ahead.values()):
            if engine.recalled_s is not None and now.mono_s - engine.recalled_s < patience_s:
                continue
            queues = {lease.run.nodes[lease.node].spec.options.queue for lease in engine.leases.values()}
            wanted = max((free.get(queue, 0) for queue in sorted(queues)), default=0)
            count = min(wanted, (engine.count - engine.slots + 1) // 2)
            if count > 0:
                engine.recalled_s = now.mono_s
                yield engine, count
