"""The handle of a schedule, and how schedules are shown. Asks the hub, and changes nothing by itself."""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from nbq.core.timing import Fire
from nbq.core.views import ScheduleView
from nbq.errors import HubError, UnknownSchedule
from nbq.schedules import Schedule
from nbq.zones import zone

if TYPE_CHECKING:
    from nbq.client import Client
    from nbq.scheduling import Schedules

__all__ = ["Fired", "ScheduleHandle", "moment", "summary", "table"]


class Fired:
    """A fire time that has passed, and what became of it.

    Attributes:
        fire_time: The fire time, in the schedule's zone; of several missed ones that were dealt with as one,
            the last.
        decided_at: When that was decided.
        outcome: ``run``, ``manual`` (a run that somebody asked for), ``missed``, ``overlap`` (another ran),
            ``queued`` (it waits for the end of another), or ``dropped`` (too many were queued).
        first_missed: Of several missed fire times, the first; else None.
        run_id: The id of its run; empty for none.
    """

    __slots__ = ("_client", "decided_at", "fire_time", "first_missed", "outcome", "run_id")

    def __init__(self, client: Client, fire: Fire, tz: str) -> None:
        self._client = client
        self.fire_time = moment(fire.fire_s, tz)
        self.decided_at = moment(fire.at_s, tz)
        self.outcome = fire.what
        self.first_missed = None if fire.first_s is None else moment(fire.first_s, tz)
        self.run_id = fire.run.hex()

    @property
    def result(self) -> Any:
        """The handle of its run; None if there was none. Raises UnknownResult if it is kept no more."""
        return self._client.result(self.run_id) if self.run_id else None

    def __repr__(self) -> str:
        """Show fire time and outcome."""
        return f"<{self.outcome} {self.fire_time.isoformat()}{' ' + self.run_id if self.run_id else ''}>"


class ScheduleHandle:
    """A schedule of a hub, by its name. What it says of itself is asked of the hub each time.

    Attributes:
        name: Its name.
    """

    __slots__ = ("_schedules", "_seen", "name")

    def __init__(self, schedules: Schedules, view: ScheduleView) -> None:
        self._schedules = schedules
        self._seen = view
        self.name = view.name

    @property
    def view(self) -> ScheduleView:
        """All that the hub says of it, now. Raises UnknownSchedule."""
        self._seen = self._schedules.view(self.name)
        return self._seen

    @property
    def when(self) -> Schedule:
        """When it fires."""
        return Schedule.of(self.view.spec.timing)

    @property
    def next(self) -> datetime | None:
        """When it fires next, in its own zone; None if it is paused or finished."""
        return _next(self.view)

    @property
    def state(self) -> Literal["ACTIVE", "PAUSED", "FINISHED"]:
        """Whether it fires: ``ACTIVE``, ``PAUSED``, or ``FINISHED`` (it has nothing more to fire)."""
        return _state(self.view)

    @property
    def runs(self) -> int:
        """How many runs it has had."""
        return self.view.state.runs

    @property
    def active(self) -> list[Any]:
        """The handles of its runs that have not ended: of the newest 100 of them, the newest last."""
        return [self._schedules.client.result(run.hex()) for run in self.view.active]

    @property
    def history(self) -> list[Fired]:
        """What became of its last fire times, the newest last."""
        view = self.view
        return [Fired(self._schedules.client, fire, view.spec.timing.tz) for fire in view.state.history]

    def upcoming(self, n: int = 5) -> list[datetime]:
        """Return the next times at which it fires (``Schedules.upcoming``)."""
        return self._schedules.upcoming(self.name, n)

    def pause(self) -> None:
        """Let it fire no more until ``resume``."""
        self._schedules.pause(self.name)

    def resume(self) -> None:
        """Let it fire again, from now on: while it was paused it missed nothing."""
        self._schedules.resume(self.name)

    def run(self) -> Any:
        """Run it now (``Schedules.run``)."""
        return self._schedules.run(self.name)

    def edit(self, **changes: Any) -> None:
        """Change it (``Schedules.edit``)."""
        self._schedules.edit(self.name, **changes)

    def remove(self) -> None:
        """Remove it. Runs of it go on."""
        self._schedules.remove(self.name)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is the schedule of that name of the same client."""
        if not isinstance(other, ScheduleHandle):
            return NotImplemented
        return (self.name, self._schedules.client) == (other.name, other._schedules.client)

    def __hash__(self) -> int:
        """Hash as the name does."""
        return hash(self.name)

    def __repr__(self) -> str:
        """Show what was last known of it."""
        row = summary(self._seen)
        following = f", next {row['next']}" if row["next"] else ""
        return f"<schedule {self.name!r} {row['state']}: {row['when']}{following}>"

    def _repr_html_(self) -> str:
        try:
            view = self.view
        except (HubError, UnknownSchedule):
            view = self._seen
        return table([view])


def summary(view: ScheduleView) -> dict[str, Any]:
    """Return what is shown of a schedule, as plain data that JSON can hold."""
    spec, state = view.spec, view.state
    when = Schedule.of(spec.timing)
    following = _next(view)
    tz = spec.timing.tz
    return {
        "name": view.name,
        "state": _state(view),
        "what": spec.text,
        "when": when.describe(),
        "timing": when.to_dict(),
        "next": None if following is None else following.isoformat(),
        "runs": state.runs,
        "active": [run.hex() for run in view.active],
        "waiting": [moment(fire_s, tz).isoformat() for fire_s in state.waiting],
        "misfire": spec.misfire,
        "overlap": spec.overlap,
        "jitter_s": spec.jitter_s,
        "start": None if spec.start_s is None else moment(spec.start_s, tz).isoformat(),
        "end": None if spec.end_s is None else moment(spec.end_s, tz).isoformat(),
        "max_runs": spec.max_runs,
        "source": spec.source,
        "owner": view.owner,
    }


def _state(view: ScheduleView) -> Literal["ACTIVE", "PAUSED", "FINISHED"]:
    if view.state.finished_s is not None:
        return "FINISHED"
    return "PAUSED" if view.state.paused else "ACTIVE"


def _next(view: ScheduleView) -> datetime | None:
    return None if view.next_s is None else moment(view.next_s, view.spec.timing.tz)


def moment(at_s: float, tz: str) -> datetime:
    """Return an instant in the zone of a name."""
    return datetime.fromtimestamp(at_s, UTC).astimezone(zone(tz))


def table(views: Iterable[ScheduleView]) -> str:
    """Return schedules as HTML."""
    columns = ["name", "state", "what", "when", "next", "runs"]
    rows = [["" if row[each] is None else str(row[each]) for each in columns] for row in map(summary, views)]
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
