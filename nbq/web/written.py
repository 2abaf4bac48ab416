"""When a schedule fires as a person writes it into a form, and back: a line of fields, a period, a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from nbq.core.timing import At, Cron, Every, Timing
from nbq.errors import InvalidSchedule
from nbq.schedules import Schedule, at, crontab, every
from nbq.zones import zone

__all__ = ["EveryForm", "LineForm", "MomentForm", "WhenForm", "form_of", "schedule_of"]

Word = Annotated[str, Meta(max_length=1000)]
Zone = Annotated[str, Meta(min_length=1, max_length=100)]


class LineForm(Struct, frozen=True, tag_field="kind", tag="crontab"):
    """Minute, hour, day of month, month, day of week; or a word such as ``@daily``.

    ``unix`` says whether a day has to match one of its two fields or both, where both are given.
    """

    line: Word
    tz: Zone = "UTC"
    unix: bool = True


class EveryForm(Struct, frozen=True, tag_field="kind", tag="every"):
    """So many seconds; from ``start`` on, if there is one, in ISO form."""

    seconds: float
    tz: Zone = "UTC"
    start: Word = ""


class MomentForm(Struct, frozen=True, tag_field="kind", tag="at"):
    """A moment in ISO form; without an offset, in the zone."""

    when: Word
    tz: Zone = "UTC"


WhenForm = LineForm | EveryForm | MomentForm


def schedule_of(form: WhenForm) -> Schedule:
    """Return the schedule that is written.

    Raises:
        InvalidSchedule: It means nothing, or can never fire.
    """
    match form:
        case LineForm():
            if form.unix or form.line.strip().startswith("@"):
                return crontab.from_string(form.line, tz=form.tz)
            fields = form.line.split()
            if len(fields) != 5:
                raise InvalidSchedule(f"{form.line!r} has {len(fields)} fields, not five")
            minute, hour, day, month, weekday = fields
            return crontab(minute, hour, weekday, day, month, tz=form.tz)
        case EveryForm():
            return every(form.seconds, _moment(form.start) if form.start else None, tz=form.tz)
        case MomentForm():
            return at(_moment(form.when), tz=form.tz)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSchedule(f"{text!r} is no moment: write it as in 2031-04-24 17:00") from None


def form_of(timing: Timing) -> dict[str, Any]:
    """Return what a form for a schedule says at first."""
    match timing:
        case Cron():
            fields = (
                timing.minute,
                timing.hour,
                timing.day_of_month,
                timing.month_of_year,
                timing.day_of_week,
            )
            line = " ".join(field.replace(" ", "") for field in fields)
            return {"kind": "crontab", "line": line, "tz": timing.tz, "unix": timing.unix}
        case Every():
            start = timing.start.isoformat() if timing.start else ""
            return {"kind": "every", "seconds": timing.seconds, "tz": timing.tz, "start": start}
        case At():
            when = timing.when.astimezone(zone(timing.tz)).strftime("%Y-%m-%dT%H:%M:%S")
            return {"kind": "at", "when": when, "tz": timing.tz}
