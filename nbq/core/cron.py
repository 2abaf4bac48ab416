"""When a crontab fires: fields, a zone and an instant in, the next instant out.

Where clocks do not change this is arithmetic on wall times. Where they do:

* A crontab with ``*`` in its minutes or hours is about **real time**: it fires whenever the wall clock
  shows a time that matches, so in both of two repeated hours, and not for times that the clock leaves out.
* All others are about **fixed times**, and each fires once a day: the first of a repeated time, and at the
  end of the gap what the gap left out.

Pure: instants are given, zones are objects that are given, and every search has an end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from nbq.core.fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, expand

__all__ = ["LAST_YEAR", "Calendar", "next_fire", "real_instant"]

_LONGEST_YEARS = 41
"""A 29 February on a given weekday comes after at most 40 years."""

LAST_YEAR = 9998
"""So that a day more is still a date, in any zone."""

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which wall times match: five fields as ascending numbers.

    Args:
        either: Whether a day matches by day of week or by day of month, not only by both (Unix, where both
            are given).
        real: Whether it follows real time; else it is about fixed times.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    weekdays: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    either: bool
    real: bool

    @classmethod
    def read(cls, minute: str, hour: str, weekday: str, day: str, month: str, unix: bool) -> Calendar:
        """Return the calendar of five texts.

        Raises:
            ValueError: A text means nothing, or no date can ever match.
        """
        calendar = cls(
            expand(MINUTE, minute),
            expand(HOUR, hour),
            expand(WEEKDAY, weekday, unix),
            expand(DAY, day),
            expand(MONTH, month),
            unix and "*" not in weekday and "*" not in day,
            "*" in minute or "*" in hour,
        )
        longest = max(_length(2000, number) for number in calendar.months)
        if calendar.days[0] > longest and not calendar.either:
            raise ValueError(
                f"day_of_month {day!r} never comes in month_of_year {month!r}; the longest of them has "
                f"{longest} days"
            )
        return calendar

    def first(self, wall: datetime) -> datetime | None:
        """Return the first wall time that matches, from a whole minute on; None if it takes 41 years."""
        day = wall.date()
        if self._has(day):
            index = bisect_left(self.minutes, wall.minute)
            if wall.hour in self.hours and index < len(self.minutes):
                return wall.replace(minute=self.minutes[index])
            index = bisect_right(self.hours, wall.hour)
            if index < len(self.hours):
                return wall.replace(hour=self.hours[index], minute=self.minutes[0])
        later = self._day_after(day)
        if later is None:
            return None
        return datetime(later.year, later.month, later.day, self.hours[0], self.minutes[0])

    def _has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        weekday, number = day.isoweekday() % 7 in self.weekdays, day.day in self.days
        return weekday or number if self.either else weekday and number

    def _day_after(self, day: date) -> date | None:
        for year in range(day.year, min(day.year + _LONGEST_YEARS, LAST_YEAR) + 1):
            for month in self.months:
                if (year, month) < (day.year, day.month):
                    continue
                numbers = range(1, 32) if self.either else self.days
                for number in numbers[: bisect_right(numbers, _length(year, month))]:
                    found = date(year, month, number)
                    if found > day and self._has(found):
                        return found
        return None


def _length(year: int, month: int) -> int:
    return (date(year + month // 12, month % 12 + 1, 1) - _DAY).day


def next_fire(calendar: Calendar, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first instant after another at which a crontab fires.

    Args:
        calendar: Its fields.
        zone: Where its wall clock hangs.
        after: An instant, in UTC.

    Returns:
        The instant, in UTC, or None if there is none within 41 years.
    """
    if not 1 < after.year < LAST_YEAR:
        return None
    search = _next_real if calendar.real else _next_fixed
    return search(calendar, zone, after)


def _next_fixed(calendar: Calendar, zone: tzinfo, after: datetime) -> datetime | None:
    wall = calendar.first(_whole(_wall(zone, after)) + _MINUTE)
    while wall is not None:
        found = real_instant(wall, zone)
        if found > after:  # else this is the second of a repeated time, or another of the same gap
            return found
        wall = calendar.first(wall + _MINUTE)
    return None


def _next_real(calendar: Calendar, zone: tzinfo, after: datetime) -> datetime | None:
    """Go from one stretch of constant offset to the next; in each, wall times only go forward."""
    at, wall = after, _whole(_wall(zone, after)) + _MINUTE
    give_up = min(after.year + _LONGEST_YEARS, LAST_YEAR)
    while True:
        match = calendar.first(wall)
        if match is None or match.year > give_up:
            return None
        offset = _offset(zone, at)
        found = match.replace(tzinfo=UTC) - offset
        end = _end_of_stretch(zone, at)
        if found < end:
            return found
        # Offsets differ by less than two days. So within two days the clock may show again what it has shown
        # before; after that, nothing matches until two days before the match.
        at = end if end < after + 2 * _DAY else max(end, found - 2 * _DAY)
        wall = _wall(zone, at)
        if wall != _whole(wall):
            wall = _whole(wall) + _MINUTE


def real_instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant, in UTC, of a fixed time: the first of a repeated one, the end of its gap."""
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(zone, found) == wall.replace(fold=0):
        return found
    # In a gap, fold 0 counts with the offset before it, and is behind it; fold 1 the other way round.
    low, high = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _change(zone, low, high)


def _end_of_stretch(zone: tzinfo, at: datetime) -> datetime:
    """Return the end of the constant offset that an instant is in, or that it lasts for a day at least."""
    end = at + _DAY
    return end if _offset(zone, end) == _offset(zone, at) else _change(zone, at, end)


def _change(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """Return the first instant between two whose offset is not the first one's; it is a whole second."""
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    before = _offset(zone, low)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _offset(zone: tzinfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _wall(zone: tzinfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _whole(wall: datetime) -> datetime:
    return wall.replace(second=0, microsecond=0)
