"""Scaling: how many slots an engine is to have, within the bounds that it named.

It grows when work of its queues waits that no slot takes: after a moment, by as many slots as there are
elements waiting, but at most to twice as many. It shrinks when slots have been idle for long: by half of
those that were idle all the time. So both ways lead to any size in a few steps, and a load that comes and
goes does not make it start and end processes all the time.

What this says is forgotten with the hub; how many slots there are is what engines say. Decides nothing about
engines without bounds, and nothing about one that is away, leaves, or has not answered the last demand.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbq.core.actions import Resize
from nbq.core.fleet import Engine, Fleet
from nbq.core.model import Now

__all__ = ["GROW_S", "SHRINK_S", "Scaling"]

LOOK_S = 0.25
"""How often to look."""
GROW_S = 0.5
"""Work that waits for so long is worth another slot."""
SHRINK_S = 30.0
"""Slots that are idle for so long are not needed."""
_ANSWER_S = 5.0
"""A demand that an engine has not followed is repeated after this time."""


class _Watch:
    """What was seen of one engine."""

    __slots__ = ("asked_s", "idle", "idle_s", "slots", "wait_s")

    def __init__(self) -> None:
        self.slots = 0
        self.begin()

    def begin(self) -> None:
        """See everything anew."""
        self.wait_s: float | None = None
        """Since when work waits."""
        self.idle_s: float | None = None
        """Since when slots idle."""
        self.idle = 0
        """How many were idle all that time."""
        self.asked_s: float | None = None
        """When it was asked to change."""

    def see(self, engine: Engine, slots: int, waiting: int, now_s: float) -> None:
        """Take note of how busy an engine is."""
        if slots != self.slots:
            self.begin()
            self.slots = slots
        idle = slots - engine.count
        if waiting <= 0:
            self.wait_s = None
        elif self.wait_s is None:
            self.wait_s = now_s
        if idle <= 0:
            self.idle_s = None
        elif self.idle_s is None:
            self.idle_s, self.idle = now_s, idle
        else:
            self.idle = min(self.idle, idle)


class Scaling:
    """The sizes of all engines that have bounds.

    Args:
        fleet: All engines.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._watched: dict[bytes, _Watch] = {}
        self._looked_s: float | None = None

    def bounded(self) -> list[Engine]:
        """Return the engines that may be scaled now, always in the same order."""
        engines = self._fleet.engines.values()
        found = [engine for engine in engines if engine.info and engine.info.most and engine.slots]
        return sorted(found, key=lambda engine: engine.id)

    def is_due(self, now: Now) -> bool:
        """Return whether it is time to look again; while no engine has bounds, never."""
        if self._looked_s is not None and now.mono_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now.mono_s
        if not self.bounded():
            self._watched.clear()
            return False
        return True

    def look(self, waiting: Mapping[str, int], now: Now) -> list[Resize]:
        """Return which engines are to have other slots than they have.

        Args:
            waiting: By queue, how many elements could start and wait for a slot.
            now: The time.
        """
        engines = self.bounded()
        self._watched = {engine.id: self._watched.get(engine.id) or _Watch() for engine in engines}
        left = dict(waiting)
        demands = []
        for engine in engines:
            watch = self._watched[engine.id]
            slots = self._wanted(engine, watch, left, now.mono_s)
            asked = watch.asked_s is not None and now.mono_s - watch.asked_s < _ANSWER_S
            info = engine.info
            if info is not None and slots != info.slots and not asked:
                watch.asked_s = now.mono_s
                demands.append(Resize(engine.id, slots, info.least, info.most))
        return demands

    def wait_s(self, now: Now) -> float | None:
        """Return after how many seconds to look, if work that waits may be worth a slot then."""
        if self._looked_s is None or all(watch.wait_s is None for watch in self._watched.values()):
            return None
        return max(0.0, self._looked_s + LOOK_S - now.mono_s)

    def _wanted(self, engine: Engine, watch: _Watch, left: dict[str, int], now_s: float) -> int:
        info = engine.info
        assert info is not None
        least, most, slots = info.least, info.most, info.slots
        work = sum(left.get(queue, 0) for queue in dict.fromkeys(info.queues))
        watch.see(engine, slots, work, now_s)
        if not least <= slots <= most:
            return min(max(slots, least), most)
        if work and slots < most:
            grown = min(most, slots + min(work, slots))
            _take(left, info.queues, grown - slots)
            return grown if watch.wait_s is not None and now_s - watch.wait_s >= GROW_S else slots
        if watch.idle_s is not None and now_s - watch.idle_s >= SHRINK_S:
            watch.idle_s = None
            return max(least, slots - max(1, watch.idle // 2))
        return slots


def _take(left: dict[str, int], queues: list[str], count: int) -> None:
    """Leave to other engines what one is to have slots for."""
    for queue in queues:
        taken = min(count, left.get(queue, 0))
        if taken:
            left[queue] -= taken
            count -= taken
