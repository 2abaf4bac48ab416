"""Schedules as English sentences. Pure: data in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta, tzinfo

from nbq.core.cron import Calendar
from nbq.core.fields import MONTHS, WEEKDAYS
from nbq.core.timing import At, Cron, Every, Timing, calendar, period
from nbq.core.words import joined

__all__ = ["sentence"]

_LISTED = 6
"""So many times are listed; more are described by their hours."""


def sentence(timing: Timing, zone: tzinfo) -> str:
    """Return what a schedule means, as in ``At 04:50 every day, UTC time``.

    Args:
        timing: The schedule.
        zone: The zone that its ``tz`` names.
    """
    match timing:
        case Cron():
            fields = calendar(timing)
            text = " ".join(part for part in (_times(fields), _days(fields)) if part)
            return f"{text[0].upper()}{text[1:]}, {timing.tz} time."
        case Every():
            text = f"Every {_length(period(timing))}"
            if timing.start is None:
                return f"{text}, counted from 1970 in UTC."
            return f"{text} from {timing.start.astimezone(zone):%Y-%m-%d %H:%M:%S}, {timing.tz} time."
        case At():
            return f"Once, on {timing.when.astimezone(zone):%A, %Y-%m-%d at %H:%M:%S}, {timing.tz} time."


def _times(fields: Calendar) -> str:
    minutes, hours = fields.minutes, fields.hours
    if len(minutes) * len(hours) <= _LISTED:
        return "at " + joined([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    step = _step(minutes, 60)
    if step:
        text = "every minute" if step == 1 else f"every {step} minutes"
    elif minutes == (0,):
        text = "on the hour"
    else:
        text = f"at {_counted('minute', minutes)} past the hour"
    if len(hours) == 24:
        return "every hour, on the hour" if minutes == (0,) else text
    every = _step(hours, 24)
    if every:
        return f"{text}, in every {_nth(every)} hour from 00"
    return f"{text}, in {_counted('hour', hours, '02')}"


def _days(fields: Calendar) -> str:
    week = None if len(fields.weekdays) == 7 else joined(_runs(fields.weekdays, WEEKDAYS.__getitem__))
    month = None if len(fields.days) == 31 else _counted("day", fields.days)
    if fields.either and (week is None or month is None):
        week = month = None  # one of the two is met every day
    if week is not None and month is not None:
        if fields.either:
            text = f"on {month} of the month and also on every {week}"
        else:
            text = f"on {week}, if it is {'one of ' if len(fields.days) > 1 else ''}{month} of the month"
    elif month is not None:
        text = f"on {month} of the month"
    elif week is not None:
        text = f"on {week}"
    else:
        text = "" if len(fields.minutes) * len(fields.hours) > _LISTED else "every day"
    if len(fields.months) < 12:
        names = joined(_runs(fields.months, lambda number: MONTHS[number - 1]))
        text = f"{text} in {names}".strip()
    return text


def _step(numbers: Sequence[int], size: int) -> int:
    """Return n if the numbers are every n-th of the whole field, all at one distance; else 0."""
    step = size // len(numbers)
    even = len(numbers) > 1 and size % step == 0 and tuple(numbers) == tuple(range(0, size, step))
    return step if even else 0


def _counted(noun: str, numbers: Sequence[int], shape: str = "") -> str:
    parts = _runs(numbers, lambda number: format(number, shape))
    return f"{noun}{'s' if len(numbers) > 1 else ''} {joined(parts)}"


def _runs(numbers: Sequence[int], name: Callable[[int], str]) -> list[str]:
    """Return the numbers by name, three and more that follow each other as ``first to last``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts: list[str] = []
    for run in runs:
        if len(run) > 2:
            parts.append(f"{name(run[0])} to {name(run[-1])}")
        else:
            parts.extend(name(number) for number in run)
    return parts


def _nth(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 6: "sixth", 8: "eighth", 12: "twelfth"}[number]


def _length(length: timedelta) -> str:
    """Return a length in words: ``1 hour 30 minutes``."""
    left = length.total_seconds()
    parts = []
    for noun, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:.0f} {noun}{'s' if count > 1 else ''}")
    left = round(left, 6)
    if left:
        parts.append(f"{left:.10g} second{'' if left == 1 else 's'}")
    return " ".join(parts)
