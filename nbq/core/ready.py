"""Ready queues: what could be granted now, by priority (higher first) and FIFO within one.

A queue holds ranges of elements, not elements. A range may have gone stale (elements were cancelled
since); whoever takes it looks at the states again.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator

__all__ = ["ReadyQueue", "ReadyRange"]


class ReadyRange:
    """Elements ``lo`` to ``hi - 1`` of a node; shrinks from its low end as they are taken."""

    __slots__ = ("hi", "lo", "node", "run")

    def __init__(self, run: int, node: int, lo: int, hi: int) -> None:
        self.run = run
        self.node = node
        self.lo = lo
        self.hi = hi


class ReadyQueue:
    """One named queue. The scheduler keeps count of the elements that are QUEUED, SCHEDULED and RETRY."""

    __slots__ = ("_levels", "_order", "again", "name", "queued", "scheduled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.queued = 0
        self.scheduled = 0
        self.again = 0
        """Those in state RETRY."""
        self._levels: dict[int, deque[ReadyRange]] = {}
        self._order: list[int] = []

    def push(self, priority: int, item: ReadyRange, *, front: bool = False) -> None:
        """Add a range behind (or, given back by an engine, before) those of its priority."""
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            insort(self._order, -priority)
        if front:
            level.appendleft(item)
        else:
            level.append(item)

    def __iter__(self) -> Iterator[ReadyRange]:
        """Iterate over the ranges, the next first."""
        for order in self._order:
            yield from self._levels[-order]

    def head(self) -> ReadyRange | None:
        """Return the range that is next, or None."""
        while self._order:
            level = self._levels[-self._order[0]]
            if level:
                return level[0]
            del self._levels[-self._order.pop(0)]
        return None

    def ranges(self) -> Iterator[tuple[int, ReadyRange]]:
        """Yield priorities and ranges, in order."""
        for order in self._order:
            for item in self._levels[-order]:
                yield -order, item

    @property
    def level(self) -> int:
        """Return the priority of the range that is next."""
        return -self._order[0]

    def drop_head(self) -> None:
        """Remove the range that is next."""
        self._levels[-self._order[0]].popleft()

    def last(self, priority: int) -> ReadyRange | None:
        """Return the last range of a priority, or None."""
        level = self._levels.get(priority)
        return level[-1] if level else None

    def drop_last(self, priority: int) -> None:
        """Remove the last range of a priority."""
        self._levels[priority].pop()
