"""The options that users may give to a task, a signature or a call, and what they mean.

Names and values are checked here and nowhere else. Nothing is applied here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from nbq.core.ids import parse_id
from nbq.core.model import Options
from nbq.errors import InvalidSignature

__all__ = [
    "CALL_OPTIONS",
    "ENTRY_OPTIONS",
    "EXIT_OPTIONS",
    "LINKS",
    "OPTION_NAMES",
    "ClientOptions",
    "Defaults",
    "RetryPolicy",
    "bind_defaults",
    "bind_timezone",
    "check_names",
    "client_options",
    "current_defaults",
    "given_id",
    "holds",
    "instant",
    "listed",
    "merge",
    "rate_per_s",
    "run_options",
]

LINKS = ("link", "link_error")
"""Options that are lists of canvases. Those given in several places are added to each other."""

CALL_OPTIONS = frozenset({"task_id", *LINKS})
"""Options that belong to a call or signature and can be no default of a task."""

ENTRY_OPTIONS = frozenset({"countdown", "eta"})
"""Options that, given to a chain or chord, are for what starts first in it."""

EXIT_OPTIONS = frozenset({"link", "task_id"})
"""Options that, given to a chain or chord, are for what ends last in it."""

_CLIENT = frozenset({"add_to_parent", "compression", "headers", "retry", "retry_policy", "serializer"})
_SECONDS = frozenset({"cancel_grace", "countdown", "expires", "soft_time_limit", "time_limit"})
_PLAIN = frozenset({
    "acks_late", "fail_fast", "ignore_result", "label", "priority", "queue", "rate_limit",
    "result_compression", "result_serializer", "shadow",
})  # fmt: skip

OPTION_NAMES = CALL_OPTIONS | ENTRY_OPTIONS | _CLIENT | _SECONDS | _PLAIN
"""Every option that a call, a signature or (but for CALL_OPTIONS) a task may have."""

_QUEUE = "there are no exchanges here; name the queue that the task is to wait in, as in queue='reports'"
_ELSEWHERE = {
    "exchange": _QUEUE,
    "exchange_type": _QUEUE,
    "routing_key": _QUEUE,
    "delivery_mode": "how durable tasks are is one setting of the hub (durability); name a queue with queue=",
    "group_id": "a group keeps count by itself; no member needs its id",
    "chord": "a chord is written chord(header, body) or group(…) | body",
}
"""Options of Celery that mean nothing here, and what to write instead."""

_ID_LIMIT = _LABEL_LIMIT = 200
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?")
_PERIODS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

Name = Annotated[str, Meta(min_length=1, max_length=100)]
T = TypeVar("T")


class RetryPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """How often and when a submission is tried again while the hub cannot be reached. Times in seconds.

    Args:
        max_retries: None for ever.
        interval_start: Before the first of them.
        interval_step: How much longer each wait is than the one before.
        interval_max: The longest wait.
    """

    max_retries: Annotated[int, Meta(ge=0)] | None = 3
    interval_start: Annotated[float, Meta(ge=0)] = 0.0
    interval_step: Annotated[float, Meta(ge=0)] = 0.2
    interval_max: Annotated[float, Meta(ge=0)] = 0.2


class ClientOptions(Struct, frozen=True):
    """The options that concern how a call is sent; the hub never sees them.

    Args:
        serializer: The name of how its arguments are serialised; None for the configured one.
        compression: Likewise of how they are compressed.
        headers: What travels with the call for the task to read; None for nothing.
        retry: Whether to try again while the hub cannot be reached.
        retry_policy: How; None for the configured way.
        add_to_parent: Whether it becomes a child of the task in which it is submitted.
    """

    serializer: Name | None = None
    compression: Name | None = None
    headers: dict[str, Any] | None = None
    retry: bool = True
    retry_policy: RetryPolicy | None = None
    add_to_parent: bool = True


class Defaults(Protocol):
    """The options that calls have beside their own. A task is a ``TaskRef`` or a name."""

    @property
    def asks(self) -> bool:
        """Whether any of them depend on the arguments of a call; if not, ``routed`` changes nothing."""
        ...

    def basis(self, task: Any) -> Mapping[str, Any]:
        """Return what all calls of a task have: its own options, over what holds for all tasks."""
        ...

    def routed(
        self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the options of one call, over those that depend on its arguments."""
        ...

    def finish(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options without what is switched off."""
        ...


class _TasksOwn:
    """The options that tasks have of their own, and no others."""

    asks = False

    def basis(self, task: Any) -> Mapping[str, Any]:
        return {} if isinstance(task, str) else task.options

    def routed(
        self, task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return options

    def finish(self, options: dict[str, Any]) -> dict[str, Any]:
        return options


class _Hooks:
    """How options reach what they must not import."""

    defaults: Callable[[], Defaults] = _TasksOwn
    zone: Callable[[], tzinfo | None] | None = None


def bind_defaults(find: Callable[[], Defaults]) -> None:
    """Let ``find`` say, whenever a canvas is planned, which options its calls have beside their own."""
    _Hooks.defaults = staticmethod(find)


def current_defaults() -> Defaults:
    """Return the options that calls have beside their own now."""
    return _Hooks.defaults()


def bind_timezone(zone: Callable[[], tzinfo | None]) -> None:
    """Let ``zone`` say in which zone times without one are, or None if none is configured."""
    _Hooks.zone = staticmethod(zone)


def check_names(options: Mapping[str, Any]) -> None:
    """Raise InvalidSignature if an option does not exist."""
    unknown = sorted(options.keys() - OPTION_NAMES)
    if unknown and unknown[0] in _ELSEWHERE:
        raise InvalidSignature(f"there is no option {unknown[0]!r}: {_ELSEWHERE[unknown[0]]}")
    if unknown:
        known = ", ".join(sorted(OPTION_NAMES))
        raise InvalidSignature(f"there is no option {unknown[0]!r}; the options are {known}")


def listed(value: Any) -> list[Any]:
    """Return a link option as a list: it may be None, one canvas, or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def holds(links: list[Any], wanted: object) -> bool:
    """Return whether one of some links is, or equals, another."""
    return any(link is wanted or _equal(link, wanted) for link in links)


def _equal(link: object, other: object) -> bool:
    try:
        return bool(link == other)
    except Exception:  # their arguments are users' objects, whose == may do anything
        return False


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return options where the new win; None leaves the old, eta and countdown replace each other.

    Links and errbacks are added to the old ones; one that equals another is left out.
    """
    merged = dict(old)
    for name, value in new.items():
        if value is None:
            continue
        if name == "eta" and new.get("countdown") is None:
            merged.pop("countdown", None)
        elif name == "countdown" and new.get("eta") is None:
            merged.pop("eta", None)
        elif name in LINKS:
            merged[name] = listed(merged.get(name))
            merged[name] += [link for link in listed(value) if not holds(merged[name], link)]
            continue
        merged[name] = value
    return merged


def run_options(options: Mapping[str, Any]) -> Options:
    """Return what options mean to the hub; those that are not its business are left out.

    Args:
        options: As a user gave them: ``eta`` and ``expires`` as a datetime (without a zone: in the
            configured one) or its ISO text, all other times as seconds or a timedelta, ``rate_limit`` as
            a number per second or a text such as "100/m" (0 for no limit).

    Raises:
        InvalidSignature: An option does not exist or its value does not fit.
    """
    check_names(options)
    if options.get("eta") is not None and options.get("countdown") is not None:
        raise InvalidSignature("eta and countdown say the same thing; give one of them")
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in CALL_OPTIONS or name in _CLIENT:
            continue
        if name == "eta":
            fields["eta_s"] = instant(name, value)
        elif name == "expires" and isinstance(value, datetime | str):
            fields["expires_at_s"] = instant(name, value)
        elif name in _SECONDS:
            fields[f"{name}_s"] = _seconds(name, value)
        elif name == "rate_limit":
            fields[name] = rate_per_s(value)
        elif name == "label":
            fields[name] = _label(value)
        else:
            fields[name] = value
    soft, hard = fields.get("soft_time_limit_s"), fields.get("time_limit_s")
    if soft is not None and hard is not None and soft > hard:
        raise InvalidSignature(
            f"soft_time_limit ({soft:g} s) is longer than time_limit ({hard:g} s), so it would never be met"
        )
    return _converted(fields, Options)


def client_options(options: Mapping[str, Any]) -> ClientOptions:
    """Return what options mean to the client that sends a call; the hub's are left out.

    Raises:
        InvalidSignature: An option does not exist or its value does not fit.
    """
    check_names(options)
    fields = {name: value for name, value in options.items() if name in _CLIENT and value is not None}
    return _converted(fields, ClientOptions) if fields else _NOTHING_SAID


_NOTHING_SAID = ClientOptions()


def given_id(value: object) -> str:
    """Return a ``task_id`` that a user gave, or raise InvalidSignature if it cannot be an id."""
    if not isinstance(value, str) or not 1 <= len(value) <= _ID_LIMIT:
        raise InvalidSignature(f"task_id must be a text of 1 to {_ID_LIMIT} characters, not {value!r}")
    if parse_id(value) is not None:
        raise InvalidSignature(f"task_id {value!r} looks like an id that nbq makes; choose another")
    return value


def _label(value: object) -> str:
    """Return a label: it is shown in tables and looked for, so it is one line of what can be seen."""
    if not isinstance(value, str) or not 1 <= len(value) <= _LABEL_LIMIT or not value.isprintable():
        raise InvalidSignature(
            f"label must be a text of 1 to {_LABEL_LIMIT} printable characters, not {value!r}"
        )
    return value


def _converted(fields: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidSignature(f"an option does not fit: {error}") from None


def instant(name: str, value: object) -> float:
    """Return the Unix time that a datetime, or its ISO text, means; without a zone in the configured one.

    Raises:
        InvalidSignature: It is neither, or has no zone and none is configured; the text says ``name``.
    """
    given = value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidSignature(f"{name}={value!r} is not an ISO date and time") from None
    if not isinstance(value, datetime):
        raise InvalidSignature(f"{name} must be a datetime, not {value!r}; for seconds use countdown")
    if value.utcoffset() is None:
        zone = _Hooks.zone() if _Hooks.zone else None
        if zone is None:
            raise InvalidSignature(
                f"{name}={given!r} has no time zone and none is configured: write"
                " datetime(…, tzinfo=ZoneInfo('Europe/Paris')), or set timezone"
            )
        value = value.replace(tzinfo=zone)
    return value.timestamp()


def _seconds(name: str, value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidSignature(f"{name} must be a number of seconds, not {value!r}")
    return float(value)


def rate_per_s(value: object) -> float | None:
    """Return a rate limit as a number per second, or None for no limit.

    Raises:
        InvalidSignature: It is no rate.
    """
    per_s = None
    if isinstance(value, str) and (found := _RATE.fullmatch(value.strip())):
        per_s = float(found[1]) / _PERIODS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        per_s = float(value)
    if per_s is None or per_s < 0:
        raise InvalidSignature(
            f"rate_limit must be a number per second or a text such as '10/s' or '100/m', not {value!r}"
        )
    return per_s or None
