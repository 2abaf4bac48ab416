"""The log of a hub or an engine: a line for each thing worth knowing, as text or as JSON, on standard error.

Modules say what happens with fields that programs can read. What is not written costs a comparison. Nothing
here is for the user's own log records, and a client's process is never configured.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from nbq.errors import SettingsError

__all__ = ["FIELDS", "LEVELS", "MODULES", "Log", "LogFormat", "configure", "levels"]

LogFormat = Literal["text", "json"]

LEVELS = ("debug", "info", "warning", "error")
MODULES = {
    "hub": "its start and end",
    "peers": "who connects and goes, and what is refused",
    "engines": "engines that join, drain and are lost",
    "schedules": "fire times, and changes of schedules",
    "queues": "queues paused and resumed",
    "tasks": "what becomes of tasks",
    "engine": "an engine's start and end, and its connection",
    "slots": "the processes that run tasks",
}
"""What levels can be given for, and what each tells."""
FIELDS = (
    "task", "name", "attempt", "count", "run", "queue", "label", "engine", "schedule", "slot", "peer", "role",
    "key", "code", "error", "seq", "traceback",
)  # fmt: skip
"""All fields that an event can have, in their order."""

_ROOT = "nbq"


class Log:
    """What a part of a process tells.

    Args:
        module: One of ``MODULES``.
    """

    def __init__(self, module: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{module}")

    def tells(self, level: str) -> bool:
        """Return whether what has this level is written: ask, where what to tell is dear to make."""
        return self._logger.isEnabledFor(logging.getLevelNamesMapping()[level.upper()])

    def debug(self, event: str, **fields: object) -> None:
        """Tell what happens all the time."""
        self._tell(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Tell what is as it should be."""
        self._tell(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Tell what somebody may have to look after."""
        self._tell(logging.WARNING, event, fields)

    def _tell(self, level: int, event: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields})


def levels(given: Sequence[str]) -> dict[str, int]:
    """Return levels by module ("" for all others) from texts such as ``info`` and ``peers=debug``.

    Raises:
        SettingsError: There is no such level or module.
    """
    found = {"": logging.INFO}
    for text in given:
        module, _, level = text.rpartition("=")
        if level.lower() not in LEVELS:
            raise SettingsError(f"{text!r}: there is no log level {level!r}, but {', '.join(LEVELS)}")
        if module not in MODULES and "=" in text:
            raise SettingsError(f"{text!r}: the log has no module {module!r}, but {', '.join(MODULES)}")
        found[module] = logging.getLevelNamesMapping()[level.upper()]
    return found


def configure(process: str, form: LogFormat, given: Sequence[str]) -> None:
    """Let this process write its log.

    Args:
        process: ``hub`` or ``engine``.
        form: How.
        given: What: see ``levels``.

    Raises:
        SettingsError: There is no such level or module.
    """
    chosen = levels(given)
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text(process))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.propagate = False
    for module, level in chosen.items():
        logging.getLogger(f"{_ROOT}.{module}" if module else _ROOT).setLevel(level)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging has for it
        """Say what went wrong, but for a log that cannot be written: whoever read it is gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = dict(getattr(record, "fields", {}))
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return {name: fields[name] for name in FIELDS if fields.get(name) not in (None, "")}


class _Json(logging.Formatter):
    """A line of JSON: time, level, module and event, then what fields there are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        module = record.name.removeprefix(f"{_ROOT}.")
        head = {"time": at, "level": record.levelname.lower(), "module": module, "event": record.getMessage()}
        return msgspec.json.encode({**head, **_fields(record)}).decode()


class _Text(logging.Formatter):
    """A line for people, whatever is in it: ``2026-01-31 12:00:00 INFO nbq hub: event key=value``."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
        return f"{at} {record.levelname} nbq {self._process}: {_escaped(record.getMessage())}{fields}"


def _value(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') and text else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
