"""What is to happen later: heaps for each clock, never mixed.

Entries are not removed when they lose their meaning; whoever receives one looks at the state.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from nbq.core.model import Now

__all__ = ["Deadlines", "Due", "Expire"]

Due = tuple[str, int, int, int, int]
"""("due", run, node, lo, hi): the eta or countdown of elements is reached."""
Expire = tuple[str, int, int, int, int]
"""("expire", run, node, lo, hi): elements that have not started yet expire."""

_LONGEST_S = 30.0
"""The longest wait: a wall clock that was set is noticed within this time."""


class Deadlines:
    """Engines and countdowns on the monotonic clock, etas and expiry on the wall clock."""

    def __init__(self) -> None:
        self._engines: list[tuple[float, int, bytes]] = []
        self._watched: dict[bytes, float] = {}
        self._mono: list[tuple[float, int, Due]] = []
        self._wall: list[tuple[float, int, Due | Expire]] = []
        self._count = 0

    def watch_engine(self, at_mono_s: float, engine: bytes) -> None:
        """Look after an engine at a monotonic time, unless it is looked after before that anyway."""
        if at_mono_s < self._watched.get(engine, math.inf):
            self._watched[engine] = at_mono_s
            self._count += 1
            heapq.heappush(self._engines, (at_mono_s, self._count, engine))

    def at_mono(self, at_mono_s: float, what: Due) -> None:
        """Let elements become due at a monotonic time."""
        self._count += 1
        heapq.heappush(self._mono, (at_mono_s, self._count, what))

    def at_wall(self, at_wall_s: float, what: Due | Expire) -> None:
        """Let elements become due, or expire, at a Unix time."""
        self._count += 1
        heapq.heappush(self._wall, (at_wall_s, self._count, what))

    def engines(self, now: Now) -> Iterator[bytes]:
        """Take out and yield the engines to look after now."""
        while self._engines and self._engines[0][0] <= now.mono_s:
            at_mono_s, _, engine = heapq.heappop(self._engines)
            if self._watched.get(engine) == at_mono_s:
                del self._watched[engine]
                yield engine

    def elements(self, now: Now) -> Iterator[Due | Expire]:
        """Take out and yield what is due, or expires, now."""
        while self._mono and self._mono[0][0] <= now.mono_s:
            yield heapq.heappop(self._mono)[2]
        while self._wall and self._wall[0][0] <= now.wall_s:
            yield heapq.heappop(self._wall)[2]

    def due_s(self, now: Now) -> float | None:
        """Return in how many seconds something is due or expires, engines aside; None if nothing ever is."""
        waits = [self._mono[0][0] - now.mono_s] if self._mono else []
        if self._wall:
            waits.append(self._wall[0][0] - now.wall_s)
        return max(min(waits), 0.0) if waits else None

    def wait_s(self, now: Now) -> float:
        """Return how long nothing is due: at least 0, at most 30 seconds."""
        wait = _LONGEST_S
        if self._engines:
            wait = min(wait, self._engines[0][0] - now.mono_s)
        if self._mono:
            wait = min(wait, self._mono[0][0] - now.mono_s)
        if self._wall:
            wait = min(wait, self._wall[0][0] - now.wall_s)
        return max(wait, 0.0)
