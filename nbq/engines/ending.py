"""How an element ends: from what its function returned, raised or asked for to what is reported.

Whatever user code raised becomes an outcome here. Nothing here runs a function or sends anything.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from nbq import context, payload
from nbq.context import Extra, Replaced, Running
from nbq.core.events import Again
from nbq.core.model import State
from nbq.engines.pipe import Added
from nbq.errors import (
    ContentDisallowed,
    Ignore,
    IntegrityError,
    NbqError,
    Reject,
    ResultStoreError,
    Retry,
    TaskRevoked,
    UnknownTask,
)

__all__ = ["WHOLE", "Ended", "More", "by_error", "by_request", "later", "with_extra"]

_SUCCESS, _FAILURE, _REVOKED = int(State.SUCCESS), int(State.FAILURE), int(State.REVOKED)
_RETRY, _WAITING = int(State.RETRY), int(State.WAITING)
_NOT_THE_USERS = (UnknownTask, IntegrityError, ContentDisallowed)
"""Raised before any code of the user's ran: frames would say nothing."""

_LONGEST = 6
"""2 to this power is the longest wait for a result store between two attempts, in seconds."""
_TEXT = 1024

WHOLE = "nbq.whole"
"""A header of the arguments that a retry gave: what the task was fed is among them already."""


class More(Struct, frozen=True):
    """What an outcome has beside state and value; such an outcome is reported alone."""

    again: Again | None = None
    added: list[Added] = []
    children: list[str] = []
    serializer: str = ""
    """Of the new arguments of a retry."""


Ended = tuple[int, payload.Element, str, More | None]
"""State, value or failure, a line for a failure, and what else there is."""


def by_request(running: Running, extra: Extra) -> tuple[Ended | None, BaseException | None]:
    """Return the end of an element that asked for one before it returned, and why; or None twice."""
    if extra.replacement is not None:
        return _replaced(extra), None
    if extra.retry is not None:
        return _again(running, extra, extra.retry), extra.retry.exc or extra.retry
    return None, None


def with_extra(ended: Ended, extra: Extra) -> Ended:
    """Return the end of an element with what it asked for: additions of one that failed are dropped."""
    state, element, line, more = ended
    added = extra.added if state == _SUCCESS else []
    if not added and not extra.children:
        return ended
    more = more or More(added=added)
    return state, element, line, structs.replace(more, children=extra.children)


def later(attempt: int, text: str) -> Again:
    """Return the demand for an attempt after a result store failed: none of the task's own retries."""
    return Again(float(1 << min(max(attempt - 1, 0), _LONGEST)), None, text[:_TEXT], counted=False)


def by_error(running: Running, error: BaseException, note: str) -> tuple[Ended, BaseException | None]:
    """Return the end of an element that raised, and the error that this is.

    Args:
        running: The element.
        error: What was raised.
        note: Where, for the person who reads the traceback.
    """
    error = _by_itself(running, error)
    extra = running.extra
    if extra is not None and isinstance(error, Replaced) and extra.replacement is not None:
        return _replaced(extra), None
    if extra is not None and isinstance(error, Retry) and error is extra.retry:
        try:
            return _again(running, extra, error), error.exc or error
        except NbqError as refused:  # the new arguments cannot be serialised
            error = refused
    if isinstance(error, Ignore):
        revoked = TaskRevoked("ignored", running.id)
        return (_REVOKED, payload.dump_failure(revoked, note, None, running.writes), "ignored", None), error
    if isinstance(error, Reject) and error.requeue:
        more = More(again=Again(text=payload.summary(error), counted=False))
        return (_RETRY, b"", "", more), error
    if type(error) is ResultStoreError and running.call is None and running.work is not None:
        # What it is fed cannot be read now; it has not begun.
        text = payload.summary(error)
        return (_RETRY, b"", "", More(again=later(running.work.attempt, text))), error
    skip: int | None = _own_frames(error)
    expected = running.task is not None and isinstance(error, running.task.throws)
    if expected or isinstance(error, _NOT_THE_USERS):
        skip = None
    failure = payload.dump_failure(error, note, skip, running.writes)
    return (_FAILURE, failure, payload.summary(error), None), error


def _by_itself(running: Running, error: BaseException) -> BaseException:
    """Return what comes of an error that may lead to a retry which nobody asked for yet."""
    task, trace = running.task, error.__traceback__
    if task is not None and running.call is not None and task.retries_for(error):
        retries = running.work.retries if running.work is not None else 0
        given: dict[str, Any] = {"exc": error, **task.retry_arguments(retries), "throw": False}
        try:
            return context.current_task.retry(**given)
        except Exception as refused:  # there were enough retries, or the arguments of one are wrong
            return refused.with_traceback(trace) if refused is error else refused
    if isinstance(error, Retry) and (running.extra is None or running.extra.retry is not error):
        return _asked_by_hand(error)
    return error


def _asked_by_hand(error: Retry) -> BaseException:
    """Return what comes of a Retry that the task itself raised: the retry that it means."""
    given: dict[str, Any] = {}
    if error.when is not None:
        is_seconds = isinstance(error.when, int | float) or hasattr(error.when, "total_seconds")
        given["countdown" if is_seconds else "eta"] = error.when
    try:
        return context.current_task.retry(exc=error.exc, throw=False, **given)
    except Exception as refused:  # there were enough retries, or its time cannot be one
        return refused


def _replaced(extra: Extra) -> Ended:
    return _WAITING, b"", "", More(added=[*extra.added, extra.replacement])


def _again(running: Running, extra: Extra, retry: Retry) -> Ended:
    delay_s, eta_s = extra.again
    element: payload.Element = b""
    if extra.call is not None:
        headers = (running.call[2] if running.call is not None else None) or {}
        element = payload.dump_call(*extra.call, {**headers, WHOLE: True}, serializer=running.reads)
    text = payload.summary(retry.exc) if retry.exc is not None else str(retry)
    return _RETRY, element, "", More(again=Again(delay_s, eta_s, text), serializer=running.reads)


def _own_frames(error: BaseException) -> int:
    """Return how many frames at the outer end of a traceback are nbq's own."""
    count, trace = 0, error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("nbq.engines."):
        count, trace = count + 1, trace.tb_next
    return count if trace is not None else 0
