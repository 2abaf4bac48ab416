"""What a schedule is as plain data, its state, and the instants that it means.

Each kind is a tagged struct that JSON can hold; decoding one checks the types of its fields, and `fires`
checks what they mean. Nothing here finds the zone of a name, or knows what time it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal

from msgspec import Meta, Struct

from nbq.core.cron import LAST_YEAR, Calendar, next_fire
from nbq.core.model import Text

__all__ = [
    "At",
    "Cron",
    "Every",
    "Fire",
    "Fires",
    "Misfire",
    "Overlap",
    "ScheduleName",
    "ScheduleSpec",
    "ScheduleState",
    "Timing",
    "calendar",
    "fires",
    "period",
]

Fires = Callable[[datetime], datetime | None]
"""Takes an aware datetime, and returns the first instant after it, in UTC; None if there is none."""

Zoned = Annotated[datetime, Meta(tz=True)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(milliseconds=100)
_LONGEST = timedelta(days=366 * 100)


class Cron(Struct, frozen=True, tag_field="kind", tag="crontab"):
    """Wall times that match five fields."""

    minute: Text = "*"
    hour: Text = "*"
    day_of_week: Text = "*"
    day_of_month: Text = "*"
    month_of_year: Text = "*"
    tz: Text = "UTC"
    unix: bool = False
    """Whether 7 is Sunday too, and a day matches by day of week or of month, where both are given."""


class Every(Struct, frozen=True, tag_field="kind", tag="every"):
    """Instants at one distance from each other."""

    seconds: float
    start: Zoned | None = None
    """The first of them; without it they are counted from the start of 1970 in UTC, and go back for ever."""
    tz: Text = "UTC"


class At(Struct, frozen=True, tag_field="kind", tag="at"):
    """One instant."""

    when: Zoned
    tz: Text = "UTC"


Timing = Cron | Every | At

Misfire = Literal["coalesce", "skip", "all"]
"""What becomes of fire times that passed while nobody could fire: the latest runs; none does; each does."""

Overlap = Literal["allow", "skip", "queue", "cancel_previous"]
"""What becomes of a fire time at which a run of the schedule has not ended."""

ScheduleName = Annotated[str, Meta(min_length=1, max_length=200)]


class ScheduleSpec(Struct, frozen=True, omit_defaults=True):
    """All of a schedule but its canvas. Instants in Unix time.

    Args:
        timing: When it fires.
        misfire: What becomes of missed fire times.
        overlap: What becomes of a fire time at which a run of it has not ended.
        jitter_s: A run starts up to so much after its fire time, but before the next, by chance that is the
            same for each hub.
        start_s: No fire time before this.
        end_s: No fire time after this.
        max_runs: It is finished after so many runs.
        text: What it runs, for people.
        source: Who declared it, empty for one that was added by hand.
        digest: Of what was declared: whoever declares it anew sees whether it has changed.
    """

    timing: Timing
    misfire: Misfire = "coalesce"
    overlap: Overlap = "allow"
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    start_s: float | None = None
    end_s: float | None = None
    max_runs: Annotated[int, Meta(ge=1)] | None = None
    text: Text = ""
    source: Annotated[str, Meta(max_length=200)] = ""
    digest: Annotated[str, Meta(max_length=64)] = ""


class Fire(Struct, frozen=True, array_like=True, gc=False):
    """What became of a fire time.

    Args:
        fire_s: The fire time; of several that were missed, the last.
        at_s: When that was decided.
        what: ``run``, ``manual`` (a run that somebody asked for), ``missed``, ``overlap`` (skipped, as
            another ran), ``queued``, or ``dropped`` (too many were queued, or it was finished before).
        run: The id of the run, also of one that is queued.
        first_s: Of several that were missed or dropped, the first. If the last runs, it stands for all.
    """

    fire_s: float
    at_s: float
    what: Literal["run", "manual", "missed", "overlap", "queued", "dropped"]
    run: bytes = b""
    first_s: float | None = None


class ScheduleState(Struct, frozen=True, array_like=True):
    """How far a schedule has come. Whole: a later one takes the place of an earlier one.

    Args:
        cursor_s: All fire times up to this one are dealt with.
        paused: Whether it fires at all.
        runs: How many runs there were.
        waiting: Fire times that wait for the end of a run (overlap ``queue``).
        late: How many missed fire times in a row were run (misfire ``all``).
        history: The last fires, the newest last; bounded.
        finished_s: Since when it has nothing more to fire, or None.
    """

    cursor_s: float
    paused: bool = False
    runs: int = 0
    waiting: list[float] = []
    late: int = 0
    history: list[Fire] = []
    finished_s: float | None = None
    asked: list[tuple[float, bytes]] = []
    """Those that wait and that somebody asked for, with the salts for the ids of their runs."""


def calendar(timing: Cron) -> Calendar:
    """Return a crontab's calendar.

    Raises:
        ValueError: A field means nothing, or no date can ever match.
    """
    return Calendar.read(
        timing.minute,
        timing.hour,
        timing.day_of_week,
        timing.day_of_month,
        timing.month_of_year,
        timing.unix,
    )


def period(timing: Every) -> timedelta:
    """Return the distance, in whole microseconds.

    Raises:
        ValueError: It is shorter than 0.1 s or longer than a hundred years.
    """
    if not _SHORTEST.total_seconds() <= timing.seconds <= _LONGEST.total_seconds():
        raise ValueError(f"every {timing.seconds!r} seconds: it has to be between 0.1 s and a hundred years")
    return timedelta(seconds=timing.seconds)


def fires(timing: Timing, zone: tzinfo) -> Fires:
    """Return the function that knows when a schedule fires.

    Args:
        timing: The schedule.
        zone: The zone that its ``tz`` names.

    Raises:
        ValueError: A field means nothing, or the schedule can never fire.
    """
    match timing:
        case Cron():
            fields = calendar(timing)
            return lambda after: next_fire(fields, zone, after.astimezone(UTC))
        case Every():
            return _every(timing.start and _instant(timing.start), period(timing))
        case At():
            when = _instant(timing.when)
            return lambda after: when if when > after else None


def _instant(moment: datetime) -> datetime:
    """Return a moment in UTC. Raises ValueError at the ends of the calendar, where zones lack its date."""
    if not MINYEAR < moment.year < MAXYEAR:
        raise ValueError(f"{moment.isoformat()} is no instant that every zone has a date for")
    return moment.astimezone(UTC)


def _every(start: datetime | None, distance: timedelta) -> Fires:
    def following(after: datetime) -> datetime | None:
        after = after.astimezone(UTC)
        if start is not None and after < start:
            return start
        origin = start or _EPOCH
        try:
            found = origin + ((after - origin) // distance + 1) * distance
        except OverflowError:
            return None
        return found if found.year <= LAST_YEAR else None

    return following
