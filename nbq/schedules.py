"""Schedules as users write them: ``crontab``, ``every`` and ``at``.

A schedule is a value: it can be compared, hashed, pickled, printed and turned into plain data and back, and
says when it fires. It runs nothing and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import msgspec

from nbq.core.cron import real_instant
from nbq.core.fields import FIELDS
from nbq.core.timing import At, Cron, Every, Timing, calendar, fires, period
from nbq.core.wording import sentence
from nbq.errors import InvalidSchedule
from nbq.zones import offset_name, zone, zone_name

__all__ = ["Schedule", "at", "crontab", "every"]

CronField = int | str | Iterable[int | str]

_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Schedule:
    """What ``crontab``, ``every`` and ``at`` have in common.

    Attributes:
        tz: The name of its zone: fixed times are its wall times, and all times are shown in it.
    """

    __slots__ = ("_fires", "_key", "_timing", "_zone")

    def __init__(self, timing: Timing) -> None:
        try:
            self._zone = zone(timing.tz)
            self._fires = fires(timing, self._zone)
        except ValueError as error:
            raise InvalidSchedule(str(error)) from None
        self._timing = timing
        self._key = _meaning(timing)

    @property
    def tz(self) -> str:
        """The name of its zone."""
        return self._timing.tz

    @property
    def timing(self) -> Timing:
        """What the hub is told of it."""
        return self._timing

    @staticmethod
    def of(timing: Timing) -> Schedule:
        """Return the schedule of what a hub was told. Raises InvalidSchedule."""
        return _made(timing)

    def next(self, after: datetime) -> datetime | None:
        """Return the first time after another at which this fires, in its own zone.

        Args:
            after: A datetime with a zone.

        Returns:
            The time, or None if there is none (a crontab looks 41 years ahead).

        Raises:
            InvalidSchedule: ``after`` has no zone.
        """
        found = self._fires(_aware(after))
        return None if found is None else found.astimezone(self._zone)

    def upcoming(self, n: int, after: datetime | None = None) -> list[datetime]:
        """Return the next times at which this fires, in its own zone.

        Args:
            n: How many, at most: a schedule may end.
            after: A datetime with a zone; left out, now.

        Raises:
            InvalidSchedule: ``after`` has no zone.
        """
        times: list[datetime] = []
        found = datetime.now(UTC) if after is None else _aware(after)
        while len(times) < n and (following := self._fires(found)) is not None:
            found = following
            times.append(found.astimezone(self._zone))
        return times

    def describe(self) -> str:
        """Return what this means, as a sentence in English."""
        return sentence(self._timing, self._zone)

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain data that JSON can hold."""
        data: dict[str, Any] = msgspec.to_builtins(self._timing)
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Schedule:
        """Return the schedule of plain data that ``to_dict`` made.

        Raises:
            InvalidSchedule: The data is of no schedule.
        """
        try:
            timing = msgspec.convert(data, Timing)
        except msgspec.ValidationError as error:
            raise InvalidSchedule(f"this is no schedule: {error}") from None
        return _made(timing)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return _written(self._timing)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._timing,)


class crontab(Schedule):  # noqa: N801 - Celery's name
    """Fires when the wall clock of a zone matches all five fields.

    A field is a number, a text or several of them. A text is ``*``, numbers, names (``mon``, ``january``),
    ranges (``8-17``, round the end too: ``fri-mon``), each of the last with a step (``*/15``), or a list of
    these (``8,12-14``). Steps count from the field's lowest number.

    With ``*`` in ``minute`` or ``hour`` it follows real time where clocks change; else it fires once a day at
    each of its times: the first of a repeated one, and at the end of a gap (``docs/guide/schedules.md``).

    Args:
        minute: 0 to 59.
        hour: 0 to 23.
        day_of_week: 0 (Sunday) to 6.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12.
        tz: The zone, by name or as a ``ZoneInfo``; left out, that of the setting ``timezone``, else UTC.

    Raises:
        InvalidSchedule: A field means nothing, no date can match, or there is no such zone.
    """

    __slots__ = ()

    def __init__(
        self,
        minute: CronField = "*",
        hour: CronField = "*",
        day_of_week: CronField = "*",
        day_of_month: CronField = "*",
        month_of_year: CronField = "*",
        tz: str | tzinfo | None = None,
    ) -> None:
        given = zip(FIELDS, (minute, hour, day_of_week, day_of_month, month_of_year), strict=True)
        super().__init__(Cron(*(_field_text(field.name, value) for field, value in given), tz=_name(tz)))

    @classmethod
    def from_string(cls, text: str, tz: str | tzinfo | None = None) -> Self:
        """Return the schedule of a line of Unix cron: ``minute hour day-of-month month day-of-week``.

        Here 7 is Sunday too, and a day matches by day of month or day of week where both are given, as cron
        has it. ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and
        ``@annually`` may stand for the five fields.

        Args:
            text: The line, without a command.
            tz: As of ``crontab``.

        Raises:
            InvalidSchedule: The line means nothing, no date can match, or there is no such zone.
        """
        fields = _SHORTHANDS.get(text.strip().lower(), text).split()
        if len(fields) != 5:
            raise InvalidSchedule(
                f"{text!r} has {len(fields)} fields, not five (minute hour day-of-month month day-of-week), "
                f"and is none of {', '.join(_SHORTHANDS)}"
            )
        minute, hour, day, month, weekday = fields
        schedule = cls.__new__(cls)
        Schedule.__init__(schedule, Cron(minute, hour, weekday, day, month, _name(tz), unix=True))
        return schedule


class every(Schedule):  # noqa: N801 - reads as a sentence
    """Fires at one distance in real time, whatever clocks do.

    Args:
        seconds: The distance, in seconds or as a timedelta: 0.1 s to a hundred years.
        start: The first time. Left out, it fires at the full multiples of the distance since 1970 in UTC, so
            that the times do not depend on when it was written or started.
        tz: The zone that times are shown in, and that a ``start`` without a zone is in; as of ``crontab``.

    Raises:
        InvalidSchedule: The distance is not one, or there is no such zone.
    """

    __slots__ = ()

    def __init__(
        self,
        seconds: float | timedelta,
        start: datetime | None = None,
        tz: str | tzinfo | None = None,
    ) -> None:
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidSchedule(f"every: {seconds!r} is no number of seconds and no timedelta")
        name = _name(tz)
        super().__init__(Every(float(seconds), None if start is None else _instant(start, name), name))


class at(Schedule):  # noqa: N801 - reads as a sentence
    """Fires once.

    Args:
        when: The time. Without a zone it is a wall time of ``tz``, by the rule for fixed times: the first of
            a repeated one (or the second, with ``fold=1``), and the end of a gap.
        tz: The zone that it is shown in; left out, its own, and else as of ``crontab``.

    Raises:
        InvalidSchedule: It is no datetime, or there is no such zone.
    """

    __slots__ = ()

    def __init__(self, when: datetime, tz: str | tzinfo | None = None) -> None:
        if not isinstance(when, datetime):
            raise InvalidSchedule(f"at: {when!r} is no datetime")
        name = _name_of(when) if tz is None and when.utcoffset() is not None else _name(tz)
        super().__init__(At(_instant(when, name), name))


_CLASSES: dict[type[Timing], type[Schedule]] = {Cron: crontab, Every: every, At: at}


def _made(timing: Timing) -> Schedule:
    kind = _CLASSES[type(timing)]
    schedule = kind.__new__(kind)
    Schedule.__init__(schedule, timing)
    return schedule


def _field_text(name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        items = list(value)
        if items and all(isinstance(item, int | str) and not isinstance(item, bool) for item in items):
            return ",".join(str(item) for item in items)
    raise InvalidSchedule(f"{name}: {value!r} is no number, text or list of these")


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidSchedule(f"{moment!r} has no zone; give it one, as in datetime.now(UTC)")
    return moment.astimezone(UTC)


def _instant(moment: datetime, name: str) -> datetime:
    """Return a datetime in UTC; without a zone it is a wall time of the named one."""
    return real_instant(moment, zone(name)) if moment.utcoffset() is None else moment.astimezone(UTC)


def _meaning(timing: Timing) -> tuple[object, ...]:
    """Return what is compared: what a schedule means, not how it is written (``mon`` is 1)."""
    match timing:
        case Cron():
            return Cron, calendar(timing), timing.tz
        case Every():
            return Every, period(timing), timing.start, timing.tz
        case At():
            return At, timing.when, timing.tz


def _written(timing: Timing) -> str:
    """Return what makes the schedule again when it is run after ``import datetime, nbq``."""
    match timing:
        case Cron(unix=True):
            order = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            text = " ".join(getattr(timing, name) for name in order)
            return f"nbq.crontab.from_string({text!r}, tz={timing.tz!r})"
        case Cron():
            given = {field.name: getattr(timing, field.name) for field in FIELDS}
            words = [f"{name}={text!r}" for name, text in given.items() if text != "*"]
            return f"nbq.crontab({', '.join([*words, f'tz={timing.tz!r}'])})"
        case Every():
            start = "" if timing.start is None else f", start={_moment(timing.start)}"
            return f"nbq.every({_number(timing.seconds)}{start}, tz={timing.tz!r})"
        case At():
            return f"nbq.at({_moment(timing.when)}, tz={timing.tz!r})"


def _number(seconds: float) -> str:
    return str(int(seconds)) if seconds.is_integer() else repr(seconds)


def _moment(moment: datetime) -> str:
    return repr(moment.astimezone(UTC)).replace("datetime.timezone.utc", "datetime.UTC")


def _name_of(moment: datetime) -> str:
    """Return the name of a datetime's own zone; one that has none by its offset then."""
    try:
        return zone_name(moment.tzinfo or UTC)
    except ValueError:
        return offset_name(moment)


def _name(tz: str | tzinfo | None) -> str:
    if tz is None:
        from nbq.current import current_router  # brings the client: only when no zone is named

        return current_router().settings.timezone or "UTC"
    try:
        return zone_name(tz)
    except ValueError as error:
        raise InvalidSchedule(f"tz: {error}") from None
