"""The fire times of one schedule in Unix time: within its bounds, with its jitter, without a clock.

A fire time is **due** some while after it, by chance that is the same for each hub, but always before the
next one: so fire times are due in their order, however large the jitter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from hashlib import blake2b

from nbq.core.ids import fire_salt
from nbq.core.timing import ScheduleSpec, fires

__all__ = ["Moments"]

_LAST_S = 253_370_764_800.0
"""The start of 9999, in Unix time."""
_MICROSECOND = 1e-6


class Moments:
    """When a schedule fires.

    Args:
        spec: The schedule.
        own_id: Of the schedule; its jitter depends on it.
        zone: Finds a time zone by its name.

    Raises:
        ValueError: It means nothing, or there is no such zone.
    """

    def __init__(self, spec: ScheduleSpec, own_id: bytes, zone: Callable[[str], tzinfo]) -> None:
        for name in ("start_s", "end_s"):
            value = getattr(spec, name)
            if value is not None and not 0 <= value <= _LAST_S:
                raise ValueError(f"its {name[:-2]} is no instant between 1970 and 9999")
        if not math.isfinite(spec.jitter_s):
            raise ValueError("its jitter is no finite number of seconds")
        self._fires = fires(spec.timing, zone(spec.timing.tz))
        self._jitter_s = spec.jitter_s
        self._start_s = -math.inf if spec.start_s is None else spec.start_s
        self._end_s = math.inf if spec.end_s is None else spec.end_s
        self._id = own_id

    def after(self, at_s: float) -> float | None:
        """Return the first fire time after an instant, or None if there is none."""
        at_s = max(at_s, self._start_s - _MICROSECOND)
        if not 0 <= at_s < _LAST_S:
            return None
        found = self._fires(datetime.fromtimestamp(at_s, UTC))
        if found is None or found.timestamp() > self._end_s:
            return None
        return found.timestamp()

    def due_s(self, fire_s: float) -> float:
        """Return when a fire time is due: at it, or up to its jitter later."""
        if not self._jitter_s:
            return fire_s
        following = self.after(fire_s)
        most_s = self._jitter_s if following is None else min(self._jitter_s, following - fire_s)
        digest = blake2b(self._id + fire_salt(fire_s), digest_size=7, person=b"nbq.jitter").digest()
        return fire_s + most_s * int.from_bytes(digest, "big") / (1 << 56)

    def latest(self, first_s: float, now_s: float) -> float:
        """Return the last fire time that is due at a time, if ``first_s`` is; found by search."""
        low = first_s
        following = self.after(low)
        if following is None or self.due_s(following) > now_s:
            return low
        width = following - low
        while now_s - width > low:  # most often there is one shortly before now
            found = self.after(now_s - width)
            if found is not None and self.due_s(found) <= now_s:
                low = found
                break
            width *= 2
        high = now_s
        while True:  # low is due; what comes after high is not
            following = self.after(low)
            if following is None or self.due_s(following) > now_s:
                return low
            low = following
            middle = low + (high - low) / 2
            found = self.after(middle)
            if found is not None and self.due_s(found) <= now_s:
                low = found
            else:
                high = middle
