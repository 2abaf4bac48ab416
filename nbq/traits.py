"""What a task has beside its function and options: when it retries by itself, what is expected, its hooks.

These are attributes of ``Task``, so that a base class can set them for all its tasks. They are checked here.
Nothing here runs a task.
"""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Any

from nbq.errors import Ignore, InvalidSignature, Reject, Retry

__all__ = ["HOOKS", "TRAITS", "ExceptionInfo", "Traits", "backoff", "checked", "hooked"]

_DOUBLINGS = 64
"""More of them, and the delay is the maximum anyhow."""


class ExceptionInfo:
    """An exception and where it was raised, as hooks and signals get it.

    Args:
        exception: It.
    """

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type: type[BaseException] = type(exception)
        self.tb: TracebackType | None = exception.__traceback__

    @cached_property
    def traceback(self) -> str:
        """Its traceback, as text."""
        try:
            return "".join(traceback.format_exception(self.type, self.exception, self.tb))
        except Exception:  # a broken __str__ or __repr__ somewhere in the chain
            return f"{self.type.__qualname__} (its traceback cannot be formatted)"

    def __str__(self) -> str:
        """Return the traceback."""
        return self.traceback


class Traits:
    """The attributes and hooks of a task. A base class sets the first and defines the second.

    Attributes:
        max_retries: How many retries it may have; None for any number.
        default_retry_delay: Seconds until a retry, unless that says otherwise.
        autoretry_for: Exceptions that lead to a retry by themselves.
        dont_autoretry_for: Those of them that do not.
        retry_kwargs: Arguments of such a retry, as for ``current_task.retry``.
        retry_backoff: Whether the delay of such retries doubles, from 1 second or from this number of them.
        retry_backoff_max: The longest such delay, in seconds.
        retry_jitter: Whether such a delay is taken at random between 0 and what it would be.
        throws: Exceptions that are expected: their traceback is left out of what is reported.
        typing: Whether calls are checked against the function's signature before they are submitted.
    """

    max_retries: int | None = 3
    default_retry_delay: float = 180.0
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    throws: tuple[type[BaseException], ...] = ()
    typing: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; one of these is checked."""
        object.__setattr__(self, name, checked(name, value) if name in TRAITS else value)

    def before_start(self, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> None:
        """Called in the slot before the function."""

    def on_success(self, retval: Any, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> None:
        """Called in the slot when the function has returned."""

    def on_failure(
        self,
        exc: BaseException,
        task_id: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        einfo: ExceptionInfo,
        /,
    ) -> None:
        """Called in the slot when the task has failed."""

    def on_retry(
        self,
        exc: BaseException,
        task_id: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        einfo: ExceptionInfo,
        /,
    ) -> None:
        """Called in the slot when the task is to be retried."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        einfo: ExceptionInfo | None,
        /,
    ) -> None:
        """Called in the slot after SUCCESS, FAILURE or RETRY, last; ``retval`` may be the exception."""

    def on_replace(self, sig: Any, /) -> None:
        """Called in the slot when a signature takes the place of the task."""

    def retries_for(self, error: BaseException) -> bool:
        """Return whether an exception leads to a retry by itself."""
        if not isinstance(error, self.autoretry_for) or isinstance(error, Ignore | Reject | Retry):
            return False
        return not isinstance(error, self.dont_autoretry_for)

    def retry_arguments(self, retries: int) -> dict[str, Any]:
        """Return the arguments of a retry that comes by itself, after so many retries."""
        given = dict(self.retry_kwargs)
        if self.retry_backoff:
            factor = max(1.0, float(self.retry_backoff))
            given.pop("eta", None)
            given["countdown"] = backoff(factor, retries, self.retry_backoff_max, self.retry_jitter)
        return given


TRAITS = frozenset(name for name in vars(Traits)["__annotations__"])
"""The attributes that ``@nbq.task`` takes, too."""

HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return", "on_replace")

_EXCEPTIONS = frozenset({"autoretry_for", "dont_autoretry_for", "throws"})


def backoff(factor: float, retries: int, maximum: float, jitter: bool) -> float:
    """Return the seconds until a retry: ``min(maximum, factor * 2 ** retries)``.

    With jitter it is taken at random between 0 and that ("full jitter"). The formula is Celery's
    (``celery.utils.time.get_exponential_backoff_interval``), but for fractions of seconds.
    """
    delay = min(maximum, factor * 2.0 ** min(retries, _DOUBLINGS))
    return max(0.0, random.uniform(0.0, delay) if jitter else delay)  # noqa: S311 - no secret


def checked(name: str, value: Any) -> Any:
    """Return the value of an attribute of a task as it is kept.

    Raises:
        InvalidSignature: It does not fit.
    """
    if name in _EXCEPTIONS:
        kinds = (value,) if isinstance(value, type) else tuple(value)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise InvalidSignature(f"{name} takes exception classes, not {value!r}")
        return kinds
    if name == "max_retries":
        if value is not None and (type(value) is not int or value < 0):
            raise InvalidSignature(f"max_retries is a number of retries, or None for any, not {value!r}")
        return value
    if name == "retry_kwargs":
        if not isinstance(value, Mapping):
            raise InvalidSignature(f"retry_kwargs are arguments of retry(), by name, not {value!r}")
        return dict(value)
    if name in ("retry_jitter", "typing"):
        return bool(value)
    if name == "retry_backoff" and isinstance(value, bool):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidSignature(f"{name} is a number of seconds, not {value!r}")
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidSignature(f"{name} is a number of seconds from 0 on, not {value!r}")
    return float(seconds)


def hooked(task: Traits) -> bool:
    """Return whether a task has hooks of its own."""
    own = vars(task)
    return any(name in own or getattr(type(task), name) is not getattr(Traits, name) for name in HOOKS)
