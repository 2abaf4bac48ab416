"""The hub's views as what the page shows: plain data by key, and what has changed of it. Pure.

A **picture** holds sections. A section of rows is ``{"order": keys, "rows": {key: row}}``; what is sent of a
later picture has the rows that are new or others, and the order if that is another.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from nbq.core.ids import element_text, run_text
from nbq.core.timing import Fire, Timing
from nbq.core.views import ClusterView, ElementView, EngineView, QueueView, RunView, ScheduleView
from nbq.errors import InvalidSchedule
from nbq.schedules import Schedule

__all__ = [
    "POINTS",
    "Picture",
    "Point",
    "changes",
    "cluster_sections",
    "described",
    "ended",
    "hub_row",
    "moment",
    "point",
    "run_row",
    "schedule_row",
    "section",
    "task_row",
]

Picture = dict[str, Any]

POINTS = 300
"""So many seconds the charts show."""

_QUIET_S = 3.0
"""An engine that was heard within this has been heard now."""
_ENDED = ("SUCCESS", "FAILURE", "REVOKED")
_NEXT = 5


# ------------------------------------------------------------------ rows


def hub_row(view: ClusterView) -> dict[str, Any]:
    """Return what the head of the page says."""
    return {**view.hub, "states": view.states}


def run_row(view: RunView) -> dict[str, Any]:
    """Return the row of a run; of a batch of separate calls, of one of them."""
    return {
        "id": run_text(view.id) if view.index < 0 else element_text(view.id, 0, view.index),
        "one": view.index >= 0, "task": view.task, "label": view.label, "owner": view.owner,
        "at_s": view.at_s, "began_s": view.began_s, "finished_s": view.finished_s, "size": view.size,
        "states": view.states, "schedule": view.schedule, "fire_s": view.fire_s,
    }  # fmt: skip


def task_row(view: ElementView) -> dict[str, Any]:
    """Return the row of a task."""
    return {
        "id": view.id, "run": run_text(view.run), "task": view.task, "label": view.label, "state": view.state,
        "attempt": view.attempt, "retries": view.retries, "engine": view.engine, "queue": view.queue,
        "at_s": view.at_s, "text": view.text,
    }  # fmt: skip


def engine_row(view: EngineView) -> dict[str, Any]:
    """Return the row of an engine."""
    info = view.info
    return {
        "id": view.id.hex(), "name": info.name, "host": info.host, "pid": info.pid, "slots": info.slots,
        "least": info.least, "most": info.most, "queues": info.queues, "running": view.running,
        "held": view.held, "busy": _busy(view), "state": view.state, "rss": view.rss,
        "python": info.python, "nbq": info.nbq,
        "silent_s": round(view.beat_s) if view.beat_s > _QUIET_S else 0,
    }  # fmt: skip


def queue_row(view: QueueView) -> dict[str, Any]:
    """Return the row of a queue."""
    return {"id": view.name, **msgspec.structs.asdict(view)}


def schedule_row(view: ScheduleView) -> dict[str, Any]:
    """Return the row of a schedule."""
    spec, state = view.spec, view.state
    return {
        "id": view.name, "name": view.name, "runs_what": spec.text, "when": sentence(spec.timing),
        "tz": spec.timing.tz, "paused": state.paused, "next_s": view.next_s, "runs": state.runs,
        "active": view.unfinished, "finished_s": state.finished_s, "owner": view.owner,
        "waiting": len(state.waiting), "last": fire_row(state.history[-1]) if state.history else None,
    }  # fmt: skip


def fire_row(fire: Fire) -> dict[str, Any]:
    """Return what became of a fire time."""
    return {
        "fire_s": fire.fire_s, "at_s": fire.at_s, "what": fire.what, "first_s": fire.first_s,
        "run": run_text(fire.run) if fire.run else "",
    }  # fmt: skip


@lru_cache(1000)
def sentence(timing: Timing) -> str:
    """Return what a schedule means."""
    return Schedule.of(timing).describe()


def described(schedule: Schedule, after: datetime | None = None) -> dict[str, Any]:
    """Return what a schedule means and when it fires next, for whoever is writing it.

    Raises:
        InvalidSchedule: It never does.
    """
    times = schedule.upcoming(_NEXT, after or datetime.now(UTC))
    if not times:
        raise InvalidSchedule("this never fires: its only time is over")
    return {"sentence": schedule.describe(), "next": [moment(time) for time in times]}


def moment(time: datetime) -> dict[str, Any]:
    """Return a moment in its own zone as text, and in Unix time."""
    return {"at_s": time.timestamp(), "text": f"{time:%a %Y-%m-%d %H:%M:%S %Z}"}


# ------------------------------------------------------------------ sections


def section(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as a section, in their order."""
    by_key = {row["id"]: row for row in rows}
    return {"order": list(by_key), "rows": by_key}


def cluster_sections(view: ClusterView) -> Picture:
    """Return what the state of the hub is on the page."""
    return {
        "hub": hub_row(view),
        "engines": section(map(engine_row, view.engines)),
        "queues": section(map(queue_row, view.queues)),
    }


class Point(NamedTuple):
    """A point of the charts: when, tasks ended in a second (None: not known), queued, slots busy, slots."""

    at_s: float
    rate: float | None
    queued: int
    busy: int
    slots: int


def point(view: ClusterView, before: Point | None, ended_before: int) -> Point:
    """Return a point of the charts.

    Args:
        view: The hub now.
        before: The point before.
        ended_before: How many tasks had ended then.
    """
    now_s = float(view.hub["time_s"])
    rate: float | None = None
    if before is not None and now_s > before.at_s:
        # Runs that are forgotten take their ends with them: that is no negative rate.
        rate = max(0.0, (ended(view) - ended_before) / (now_s - before.at_s))
    up = [engine for engine in view.engines if engine.state != "gone"]
    slots = sum(engine.info.slots for engine in up)
    busy = sum(map(_busy, up))
    queued = sum(queue.queued + queue.leased for queue in view.queues)
    return Point(now_s, rate, max(0, queued - busy), busy, slots)


def _busy(view: EngineView) -> int:
    """Return how many slots have something to do: short tasks end before anybody hears that they began."""
    return min(view.info.slots, max(view.running, view.held))


def ended(view: ClusterView) -> int:
    """Return how many of the tasks that the hub knows have ended."""
    return sum(view.states.get(state, 0) for state in _ENDED)


# ------------------------------------------------------------------ what has changed


def changes(old: Picture, new: Picture) -> Picture:
    """Return what of a picture is to be sent to whoever has seen another; nothing of what is the same."""
    found: Picture = {}
    for name, value in new.items():
        seen = old.get(name)
        if value is seen or value == seen:
            continue
        if name == "points":
            last = seen[-1][0] if seen else float("-inf")
            found[name] = [row for row in value if row[0] > last]
        elif isinstance(value, dict) and "order" in value and seen is not None:
            found[name] = _rows(seen, value)
        else:
            found[name] = value
    return found


def _rows(seen: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    known = seen["rows"]
    rows = {key: row for key, row in now["rows"].items() if known.get(key) != row}
    return {"rows": rows} if seen["order"] == now["order"] else {"rows": rows, "order": now["order"]}
