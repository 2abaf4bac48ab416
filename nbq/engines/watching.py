"""Hooks and signals around an element. What they raise is printed, and never changes how the element ends.

A slot comes here only for tasks with hooks of their own, or when somebody listens to a signal.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from nbq import signals
from nbq.context import Running
from nbq.core.model import State
from nbq.traits import ExceptionInfo, Traits

__all__ = ["ended", "replaced", "starts", "stopped"]


def _call(hook: Callable[..., object], *given: Any) -> None:
    try:
        hook(*given)
    except Exception:  # a hook is user code
        print(f"nbq: {hook.__qualname__} raised:", file=sys.stderr)
        traceback.print_exc()


def _sender(running: Running) -> str:
    if running.task is not None:
        return str(running.task.name)
    return running.work.task if running.work is not None else ""


def starts(running: Running) -> None:
    """The function of an element is about to be called."""
    args, kwargs, _ = running.call or ((), {}, None)
    if signals.task_prerun.receivers:
        sender = _sender(running)
        signals.task_prerun.send(signals.TaskPrerun(sender, running.id, args, kwargs), sender)
    if isinstance(running.task, Traits):
        _call(running.task.before_start, running.id, args, kwargs)


def ended(running: Running, state: int, value: Any, error: BaseException | None) -> None:
    """An attempt has ended; ``error`` is what it raised, or why it is retried."""
    task_id, sender = running.id, _sender(running)
    args, kwargs, _ = running.call or ((), {}, None)
    task = running.task if isinstance(running.task, Traits) else None
    info = ExceptionInfo(error) if error is not None else None
    if state == State.SUCCESS:
        if task is not None:
            _call(task.on_success, value, task_id, args, kwargs)
        signals.task_success.send(signals.TaskSuccess(sender, task_id, value), sender)
    elif state == State.RETRY and info is not None:
        if task is not None:
            _call(task.on_retry, info.exception, task_id, args, kwargs, info)
        signals.task_retry.send(signals.TaskRetry(sender, task_id, info.exception, info), sender)
    elif state == State.FAILURE and info is not None:
        if task is not None:
            _call(task.on_failure, info.exception, task_id, args, kwargs, info)
        event = signals.TaskFailure(sender, task_id, info.exception, args, kwargs, info)
        signals.task_failure.send(event, sender)
    elif state == State.REVOKED:
        signals.task_revoked.send(signals.TaskRevoked(sender, task_id, False), sender)
    name = State(state).name
    outcome = None if state == State.WAITING else value if error is None else error
    if task is not None and state in (State.SUCCESS, State.FAILURE, State.RETRY):
        _call(task.after_return, name, outcome, task_id, args, kwargs, info)
    signals.task_postrun.send(signals.TaskPostrun(sender, task_id, args, kwargs, outcome, name), sender)


def replaced(running: Running, sig: Any) -> None:
    """A canvas takes the place of an element."""
    if isinstance(running.task, Traits):
        _call(running.task.on_replace, sig)


def stopped(running: Running) -> None:
    """An element was cancelled while it ran."""
    sender = _sender(running)
    signals.task_revoked.send(signals.TaskRevoked(sender, running.id, True), sender)
