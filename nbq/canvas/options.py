"""The options that users may give to a task, a signature or a call, and what they mean to the hub.

Names and values are checked here and nowhere else. Nothing is applied here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from nbq.core.ids import parse_id
from nbq.core.model import Options
from nbq.errors import InvalidSignature

__all__ = ["ENTRY_OPTIONS", "OPTION_NAMES", "check_names", "given_id", "merge", "run_options"]

OPTION_NAMES = frozenset(
    {"cancel_grace", "countdown", "eta", "expires", "ignore_result", "priority", "queue", "task_id"}
)
"""Every option that a call, a signature or (but for ``task_id``) a task may have."""

ENTRY_OPTIONS = frozenset({"countdown", "eta"})
"""Options that, given to a chain or chord, are for what starts first in it."""

_ID_LIMIT = 200


def check_names(options: Mapping[str, Any]) -> None:
    """Raise InvalidSignature if an option does not exist."""
    unknown = sorted(options.keys() - OPTION_NAMES)
    if unknown:
        known = ", ".join(sorted(OPTION_NAMES))
        raise InvalidSignature(f"there is no option {unknown[0]!r}; the options are {known}")


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return options where the new win; None leaves the old, eta and countdown replace each other."""
    merged = dict(old)
    for name, value in new.items():
        if value is None:
            continue
        if name == "eta" and new.get("countdown") is None:
            merged.pop("countdown", None)
        elif name == "countdown" and new.get("eta") is None:
            merged.pop("eta", None)
        merged[name] = value
    return merged


def run_options(options: Mapping[str, Any]) -> Options:
    """Return what options mean to the hub (a ``task_id`` is not one of its options).

    Args:
        options: As a user gave them: ``eta`` and ``expires`` as a datetime (naive: local time) or its
            ISO text, ``expires`` and ``countdown`` also as seconds or a timedelta.

    Raises:
        InvalidSignature: An option does not exist or its value does not fit.
    """
    check_names(options)
    if options.get("eta") is not None and options.get("countdown") is not None:
        raise InvalidSignature("eta and countdown say the same thing; give one of them")
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name == "task_id":
            continue
        if name == "eta":
            fields["eta_s"] = _instant(name, value)
        elif name == "expires" and isinstance(value, datetime | str):
            fields["expires_at_s"] = _instant(name, value)
        elif name in ("expires", "countdown", "cancel_grace"):
            fields[f"{name}_s"] = _seconds(name, value)
        else:
            fields[name] = value
    try:
        return msgspec.convert(fields, Options)
    except msgspec.ValidationError as error:
        raise InvalidSignature(f"an option does not fit: {error}") from None


def given_id(value: object) -> str:
    """Return a ``task_id`` that a user gave, or raise InvalidSignature if it cannot be an id."""
    if not isinstance(value, str) or not 1 <= len(value) <= _ID_LIMIT:
        raise InvalidSignature(f"task_id must be a text of 1 to {_ID_LIMIT} characters, not {value!r}")
    if parse_id(value) is not None:
        raise InvalidSignature(f"task_id {value!r} looks like an id that nbq makes; choose another")
    return value


def _instant(name: str, value: object) -> float:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidSignature(f"{name}={value!r} is not an ISO date and time") from None
    if not isinstance(value, datetime):
        raise InvalidSignature(f"{name} must be a datetime, not {value!r}; for seconds use countdown")
    return value.timestamp()


def _seconds(name: str, value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidSignature(f"{name} must be a number of seconds, not {value!r}")
    return float(value)
