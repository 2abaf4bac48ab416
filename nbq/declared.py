"""Schedules as they are declared: what the entries of a table mean, and which tables files have.

A file has them under ``[tool.nbq.schedules]`` (``pyproject.toml``) or ``[schedules]`` (``nbq.toml``). Tasks
are named there, and nothing is imported. What is wrong is said with its file and entry; nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from msgspec import Struct

from nbq.canvas import Canvas, Signature
from nbq.canvas.signature import to_canvas
from nbq.configuration import configuration_files, read_toml, tool_table
from nbq.core.cron import real_instant
from nbq.errors import InvalidSchedule, NbqError, SettingsError
from nbq.schedules import Schedule, at, crontab, every
from nbq.tasks import Task
from nbq.zones import zone

__all__ = [
    "Declared",
    "When",
    "canvas_of",
    "declaration",
    "instant_s",
    "read_declared",
    "schedule_of",
    "timed",
]

When = Schedule | str | float | timedelta | datetime
"""What a time of ``Schedules.add`` may be given as."""

_POLICY = ("misfire", "overlap", "jitter", "start", "end", "max_runs")
_KINDS = {"crontab": ("minute", "hour", "day_of_week", "day_of_month", "month_of_year"),
          "every": ("seconds", "start"), "at": ("when",)}  # fmt: skip
"""How a file says when, and what each may have as a table."""


class Declared(Struct, frozen=True):
    """The schedules that files declare.

    Attributes:
        source: Who declares them: ``project NAME``, or ``folder PATH`` where no project has a name.
        schedules: By name, for ``Schedules.update``.
        files: Where they were looked for.
    """

    source: str
    schedules: dict[str, dict[str, Any]]
    files: list[Path]


def canvas_of(what: Any) -> Canvas:
    """Return the canvas of a task, its name, a plain function, or a canvas.

    Raises:
        InvalidSignature: It is none of these.
    """
    if isinstance(what, (Task, str)):
        return Signature(what)
    if callable(what) and not isinstance(what, Canvas):
        return Signature(Task(what, getattr(what, "__qualname__", type(what).__qualname__), False, {}))
    return to_canvas(what, "a schedule")


def schedule_of(when: When) -> Schedule:
    """Return the schedule of a time, as ``Schedules.add`` takes it. Raises InvalidSchedule."""
    if isinstance(when, Schedule):
        return when
    if isinstance(when, str):
        return crontab.from_string(when)
    if isinstance(when, datetime):
        return at(when)
    if isinstance(when, int | float | timedelta) and not isinstance(when, bool):
        return every(when)
    raise InvalidSchedule(
        f"{when!r} does not say when: give nbq.crontab(...), nbq.every(...), nbq.at(...), a line of cron, "
        "seconds, or a datetime"
    )


def timed(kind: str, value: Any, tz: str | tzinfo | None) -> Schedule:
    """Return the schedule that a file or command line has as ``crontab``, ``every`` or ``at``.

    Raises:
        InvalidSchedule: The value does not fit.
    """
    make: Callable[..., Schedule] = {"crontab": crontab, "every": every, "at": at}[kind]
    if isinstance(value, Mapping):
        wrong = [key for key in value if key not in _KINDS[kind]]
        if wrong:
            raise InvalidSchedule(f"{kind} has no {wrong[0]!r}: it has {', '.join(_KINDS[kind])}")
        if kind != "crontab" and _KINDS[kind][0] not in value:
            raise InvalidSchedule(f"{kind} needs {_KINDS[kind][0]!r}")
        return make(**value, tz=tz)
    if kind == "crontab":
        if not isinstance(value, str):
            raise InvalidSchedule(f"crontab: {value!r} is neither a line of cron nor a table of fields")
        return crontab.from_string(value, tz)
    return make(_datetime("at", value) if kind == "at" else value, tz=tz)


def instant_s(name: str, key: str, value: object, tz: str) -> float | None:
    """Return an instant in Unix time: of a datetime or its text, which without a zone is in ``tz``.

    Raises:
        InvalidSchedule: It is neither, nor a number.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    try:
        moment = _datetime(key, value)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"schedule {name!r}: {error}") from None
    if moment.utcoffset() is None:
        moment = real_instant(moment, zone(tz))
    return moment.astimezone(UTC).timestamp()


def _datetime(key: str, value: object) -> datetime:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise InvalidSchedule(f"{key}: {value!r} is no date and time, as 2028-03-01T08:00") from None
    if not isinstance(value, datetime):
        raise InvalidSchedule(f"{key}: {value!r} is no date and time")
    return value


def declaration(name: str, entry: Mapping[str, Any]) -> tuple[Canvas, Schedule, dict[str, Any]]:
    """Return canvas, times and policies of an entry of ``Schedules.update``.

    Raises:
        InvalidSchedule: It means nothing.
    """
    if not isinstance(entry, Mapping):
        raise InvalidSchedule(f"schedule {name!r} is a table, not {entry!r}")
    left = dict(entry)
    try:
        what = _either(left, "task", "what")
        when = schedule_of(_either(left, "schedule", "when"))
        if left.pop("relative", True) is not True:
            raise InvalidSchedule(
                "relative=False counts from when Celery's beat last started; nbq.every(seconds, start=...) "
                "counts from a time of your own, and without start from 1970"
            )
        args, kwargs, options = left.pop("args", ()), left.pop("kwargs", None), left.pop("options", None)
        wrong = [key for key in left if key not in _POLICY]
        if wrong:
            known = "task, schedule, args, kwargs, options"
            raise InvalidSchedule(f"there is no {wrong[0]!r}: there are {known}, {', '.join(_POLICY)}")
        return canvas_of(what).clone(args, kwargs, **dict(options or {})), when, left
    except (NbqError, TypeError, ValueError) as error:  # the latter two: options that are no table
        raise InvalidSchedule(f"schedule {name!r}: {error}") from None


def _either(table: dict[str, Any], one: str, other: str) -> Any:
    """Return what is given under one of two names, and take it out."""
    given = [key for key in (one, other) if key in table]
    if len(given) != 1:
        raise InvalidSchedule(f"it needs either {one!r} or {other!r}")
    return table.pop(given[0])


# ------------------------------------------------------------------ files


def read_declared(file: Path | None = None) -> Declared:
    """Return the schedules of files of settings: of those that settings are read from, or of one.

    Raises:
        SettingsError: There is no such file, or an entry means nothing; the message names both.
    """
    files = configuration_files() if file is None else [file.absolute()]
    if not files:
        raise SettingsError("there is no pyproject.toml and no nbq.toml here or above: name one with --file")
    entries: dict[str, dict[str, Any]] = {}
    for path in files:
        table = tool_table(path, read_toml(path)).get("schedules", {})
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: schedules must be a table, with a table for each")
        for name, given in table.items():
            try:
                entry = _entry(name, given)
                declaration(name, entry)  # what is wrong is said here, where the file is known
            except InvalidSchedule as error:
                raise SettingsError(f"{path}: {error}") from None
            entries[name] = entry
    return Declared(_source(files[-1].parent), entries, files)


def _entry(name: str, given: Any) -> dict[str, Any]:
    """Return an entry of a file as ``Schedules.update`` takes it."""
    if not isinstance(given, dict):
        raise InvalidSchedule(f"schedule {name!r} is a table, not {given!r}")
    entry = dict(given)
    kinds = [kind for kind in _KINDS if kind in entry]
    if len(kinds) != 1:
        raise InvalidSchedule(f"schedule {name!r}: it needs one of {', '.join(_KINDS)}, and has {len(kinds)}")
    if not isinstance(entry.get("task"), str):
        raise InvalidSchedule(f"schedule {name!r}: task must be the name of one, as 'shop.tasks.report'")
    try:
        entry["schedule"] = timed(kinds[0], entry.pop(kinds[0]), entry.pop("tz", None))
    except InvalidSchedule as error:
        raise InvalidSchedule(f"schedule {name!r}: {error}") from None
    return entry


def _source(folder: Path) -> str:
    project = folder / "pyproject.toml"
    if project.is_file():
        table = read_toml(project).get("project", {})
        name = table.get("name") if isinstance(table, dict) else None
        if isinstance(name, str) and name:
            return f"project {name}"[:200]
    return f"folder {folder}"[-200:]
