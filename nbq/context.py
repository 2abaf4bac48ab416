"""What a task may know of itself while it runs: ``nbq.current_task``.

The slot calls ``enter`` before each element; everything else is looked up only when it is asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from nbq.core.ids import element_text
from nbq.errors import UsageError

__all__ = ["CurrentTask", "Request", "current_task", "enter"]


class _Work(Protocol):
    run: bytes
    node: int
    attempt: int
    task: str
    ids: dict[int, str]


class Request(Struct, frozen=True):
    """What is known of a running task."""

    id: str
    task: str
    run: str
    attempt: int
    """Counted from 1; higher when an earlier attempt was lost with its slot."""
    hostname: str
    """The name of the engine."""

    @property
    def retries(self) -> int:
        """Return how many attempts there were before this one."""
        return self.attempt - 1


class CurrentTask:
    """The running task; the first argument of a task with ``bind=True``."""

    def __init__(self) -> None:
        self._work: _Work | None = None
        self._index = 0
        self._engine = ""

    @property
    def request(self) -> Request:
        """Return what is known of the running task.

        Raises:
            UsageError: No task is running here.
        """
        work = self._work
        if work is None:
            raise UsageError("no task is running here: nbq.current_task has a request inside tasks only")
        index = self._index
        given = work.ids.get(index) or element_text(work.run, work.node, index)
        return Request(given, work.task, work.run.hex(), work.attempt, self._engine)

    def __reduce__(self) -> str:
        """Pickle by name: a task that refers to it finds the one of its own slot."""
        return "current_task"

    def __repr__(self) -> str:
        """Name the running task."""
        return "<no task is running here>" if self._work is None else f"<task {self.request.id}>"

    def _enter(self, work: Any, index: int, engine: str) -> None:
        self._work = work
        self._index = index
        self._engine = engine


current_task = CurrentTask()
enter = current_task._enter
