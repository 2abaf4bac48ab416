"""Signals: what happens around tasks, told to callbacks in the same process.

    @nbq.signals.task_failure.connect
    def tell(event: TaskFailure) -> None: ...

The names are Celery's where they mean the same. A callback gets one value, whose type says what is in it.
What it raises is printed to standard error and changes nothing. Nothing is paid while nobody listens.

Callbacks live in the process in which they were connected: those about running tasks belong into a module
that slots import (that of the tasks, or one of the engine's ``--include``).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from msgspec import Struct

from nbq.traits import ExceptionInfo

__all__ = [
    "Signal",
    "SlotEvent",
    "TaskFailure",
    "TaskPostrun",
    "TaskPrerun",
    "TaskPublish",
    "TaskRetry",
    "TaskRevoked",
    "TaskSuccess",
    "after_task_publish",
    "before_task_publish",
    "task_failure",
    "task_postrun",
    "task_prerun",
    "task_retry",
    "task_revoked",
    "task_success",
    "watched",
    "worker_process_init",
    "worker_process_shutdown",
]

T = TypeVar("T")
_Callback = Callable[[T], object]
C = TypeVar("C", bound=Callable[..., object])

watched: list[Signal[Any]] = []
"""The signals of running tasks that somebody listens to: a slot looks here once for each element."""


class Signal(Generic[T]):
    """Something that happens, and who is to be told.

    Args:
        name: What it is called.
        running: Whether it is about running tasks.
        lasting: Whether who connects later is told at once of what happened before (once in a process).
    """

    def __init__(self, name: str, *, running: bool = False, lasting: bool = False) -> None:
        self.name = name
        self.receivers: list[tuple[_Callback[T], str]] = []
        self._running = running
        self._lasting = lasting
        self._last: T | None = None

    @overload
    def connect(self, callback: C, *, sender: object = None) -> C: ...
    @overload
    def connect(self, callback: None = None, *, sender: object = None) -> Callable[[C], C]: ...
    def connect(self, callback: Any = None, *, sender: object = None) -> Any:
        """Tell a callback from now on; also a decorator, with or without ``sender``.

        Args:
            callback: It takes one argument. It is told once, however often it is connected.
            sender: Only of this task, or of the task of this name.

        Raises:
            TypeError: The callback cannot be called, or the sender is neither a task nor a name.
        """
        if callback is None:
            return lambda later: self.connect(later, sender=sender)
        if not callable(callback):
            raise TypeError(f"{self.name} tells callables, not {callback!r}")
        entry = callback, _sender(sender)
        if entry not in self.receivers:
            self.receivers.append(entry)
        if self._running and self not in watched:
            watched.append(self)
        if self._last is not None:
            self._tell(callback, self._last)
        return callback

    def disconnect(self, callback: Callable[..., object], *, sender: object = None) -> bool:
        """Tell a callback no more; returns whether it was connected.

        Args:
            callback: What was connected.
            sender: As it was connected.
        """
        entry = callback, _sender(sender)
        if entry not in self.receivers:
            return False
        self.receivers.remove(entry)
        if not self.receivers and self in watched:
            watched.remove(self)
        return True

    def send(self, event: T, sender: str = "") -> None:
        """Tell those who listen to this sender of an ``event``."""
        if self._lasting:
            self._last = event
        for callback, wanted in tuple(self.receivers):
            if not wanted or wanted == sender:
                self._tell(callback, event)

    def _tell(self, callback: _Callback[T], event: T) -> None:
        try:
            callback(event)
        except Exception:  # a callback is user code: it must not change what it is told of
            print(f"nbq: a callback of {self.name} raised:", file=sys.stderr)
            traceback.print_exc()

    def __repr__(self) -> str:
        """Name it."""
        return f"<signal {self.name}, {len(self.receivers)} callbacks>"


def _sender(sender: object) -> str:
    if sender is None or isinstance(sender, str):
        return sender or ""
    name = getattr(sender, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"a sender is a task or the name of one, not {sender!r}")
    return name


class TaskPrerun(Struct, frozen=True):
    """A task is about to run."""

    sender: str
    """The name of the task, here and below."""
    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class TaskPostrun(Struct, frozen=True):
    """An attempt has ended, as ``state``."""

    sender: str
    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    retval: Any
    """What the function returned or raised."""
    state: str


class TaskSuccess(Struct, frozen=True):
    """A task has succeeded."""

    sender: str
    task_id: str
    result: Any


class TaskFailure(Struct, frozen=True):
    """A task has failed."""

    sender: str
    task_id: str
    exception: BaseException
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    einfo: ExceptionInfo


class TaskRetry(Struct, frozen=True):
    """A task is to be retried."""

    sender: str
    task_id: str
    reason: BaseException
    """The exception that led to it, or ``Retry``."""
    einfo: ExceptionInfo


class TaskRevoked(Struct, frozen=True):
    """A task was stopped while it ran (``terminated``), or raised ``Ignore``."""

    sender: str
    task_id: str
    terminated: bool


class TaskPublish(Struct, frozen=True):
    """A task is about to be submitted, or was (``task_id`` is empty before)."""

    sender: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Any
    """How it is to be run, as ``nbq.core.model.Options``: ``queue``, ``priority`` and so on."""
    task_id: str = ""


class SlotEvent(Struct, frozen=True):
    """The process of a slot starts, or is about to end."""

    hostname: str
    """The name of the engine."""
    pid: int


task_prerun: Signal[TaskPrerun] = Signal("task_prerun", running=True)
task_postrun: Signal[TaskPostrun] = Signal("task_postrun", running=True)
task_success: Signal[TaskSuccess] = Signal("task_success", running=True)
task_failure: Signal[TaskFailure] = Signal("task_failure", running=True)
task_retry: Signal[TaskRetry] = Signal("task_retry", running=True)
task_revoked: Signal[TaskRevoked] = Signal("task_revoked", running=True)
before_task_publish: Signal[TaskPublish] = Signal("before_task_publish")
after_task_publish: Signal[TaskPublish] = Signal("after_task_publish")
worker_process_init: Signal[SlotEvent] = Signal("worker_process_init", lasting=True)
worker_process_shutdown: Signal[SlotEvent] = Signal("worker_process_shutdown")
