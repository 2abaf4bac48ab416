"""When a crontab fires, found by looking at the wall clock every minute.

Nothing here knows of offsets, folds or the text of fields: it walks through UTC and notes what the wall
clock shows, what it has shown before, and what it leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
Shown = tuple[int, int, tuple[int, int, int]]
"""Minute, hour and (month, day, weekday from Sunday), as a clock with a calendar shows them."""


@dataclass(frozen=True)
class Rule:
    """What a crontab means."""

    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    either: bool
    real: bool

    def has_day(self, month: int, day: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.either:
            return day in self.days or weekday in self.weekdays
        return day in self.days and weekday in self.weekdays


def shown(wall: datetime) -> Shown:
    return wall.minute, wall.hour, (wall.month, wall.day, int(wall.strftime("%w")))


class Walk:
    """The minutes from one instant to another, as a wall clock shows them."""

    def __init__(self, zone: tzinfo, start: datetime, end: datetime) -> None:
        self.start, self.end = start, end
        self._minutes: list[tuple[datetime, Shown, bool, list[Shown]]] = []
        seen: set[datetime] = set()
        last: datetime | None = None
        at = start - DAY  # what is shown again in the first minutes was shown before them
        while at <= end:
            wall = at.astimezone(zone).replace(tzinfo=None)
            left_out = []
            while last is not None and last + MINUTE < wall:
                last += MINUTE
                left_out.append(shown(last))
            if at >= start:
                self._minutes.append((at, shown(wall), wall in seen, left_out))
            seen.add(wall)
            last = wall
            at += MINUTE
        self._days = {day for _, (_, _, day), _, _ in self._minutes} | {
            day for *_, left_out in self._minutes for _, _, day in left_out
        }

    def fires(self, rule: Rule) -> list[datetime]:
        """Return every instant of the walk at which a crontab fires."""
        days = {day for day in self._days if rule.has_day(*day)}

        def matches(clock: Shown) -> bool:
            return clock[0] in rule.minutes and clock[1] in rule.hours and clock[2] in days

        if rule.real:
            return [at for at, clock, _, _ in self._minutes if matches(clock)]
        return [
            at
            for at, clock, again, left_out in self._minutes
            if (matches(clock) and not again) or any(map(matches, left_out))
        ]
