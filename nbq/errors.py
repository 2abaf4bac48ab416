"""Every error a user can meet, as one tree.

    NbqError
    ├── UsageError                the call is wrong; fix the code
    │   ├── InvalidSignature      (also TypeError)
    │   ├── InvalidSchedule       (also ValueError)  a schedule means nothing, or can never fire
    │   ├── NotSerializable       (also TypeError)   names the path of the value, e.g. args[0].lock
    │   ├── PayloadTooLarge       names the limit and the setting that moves it
    │   ├── SettingsError         (also ValueError)
    │   ├── InvalidNotebook       (also ValueError)  a file is no notebook, or cannot be run as is asked
    │   ├── UnknownResult         (also KeyError)    no run or task has this id
    │   ├── UnknownEngine         (also KeyError)    no engine of this name is connected
    │   ├── UnknownQueue          (also KeyError)    the queue is not declared, and may not be made
    │   ├── UnknownSchedule       (also KeyError)    the hub has no schedule of this name
    │   ├── TooManyWaiting        more tasks of an engine wait for others than its setting allows
    │   └── Refused               the hub would not take a request; carries its code
    ├── HubError                  the service, not the call
    │   ├── HubUnreachable        (also ConnectionError)
    │   ├── AuthenticationError   wrong or missing key
    │   ├── VersionMismatch       the two sides speak different protocol versions
    │   ├── HubBusy               a bound is reached; try again later
    │   └── StoreError            the data folder cannot be used
    ├── ProtocolError             a peer broke the protocol (a bug or an attack, never user code)
    ├── IntegrityError            a payload is not what its maker sealed
    ├── ContentDisallowed         (also ValueError)  a payload's serializer is not in accept_content
    ├── ResultStoreError          a result store beside the hub's own failed
    │   └── ResultGone            it holds a value no more
    ├── Standstill                what is waited for can never happen (in a local cluster)
    └── TaskError                 how a task ended; carries task_id
        ├── TaskFailed            the original exception could not be rebuilt here
        ├── TaskRevoked           cancelled or expired
        ├── TaskLost              its slots died, with the evidence
        ├── TimeLimitExceeded     it ran longer than its time_limit
        ├── NotebookFailed        a cell of a notebook raised; carries the cell and the notebook so far
        │   └── NotebookTooLong   (also SoftTimeLimitExceeded)
        ├── MaxRetriesExceededError  it asked for one retry more than max_retries
        └── UnknownTask           the engine has no task of this name
    WaitTimeout (also TimeoutError)   your patience ended; the task goes on

What tasks raise to say how they end is no error: ``Retry``, ``Ignore``, ``Reject``. What is raised in them
when their soft time limit has passed is ``SoftTimeLimitExceeded``.

Messages say what happened, to which id, and what to do next. Nothing here imports anything of nbq.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AuthenticationError",
    "ContentDisallowed",
    "HubBusy",
    "HubError",
    "HubUnreachable",
    "Ignore",
    "IntegrityError",
    "InvalidNotebook",
    "InvalidSchedule",
    "InvalidSignature",
    "MaxRetriesExceededError",
    "NbqError",
    "NotSerializable",
    "NotebookFailed",
    "NotebookTooLong",
    "PayloadTooLarge",
    "ProtocolError",
    "Refused",
    "Reject",
    "RemoteTraceback",
    "ResultGone",
    "ResultStoreError",
    "Retry",
    "SettingsError",
    "SoftTimeLimitExceeded",
    "Standstill",
    "StoreError",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRevoked",
    "TimeLimitExceeded",
    "TooManyWaiting",
    "UnknownEngine",
    "UnknownQueue",
    "UnknownResult",
    "UnknownSchedule",
    "UnknownTask",
    "UsageError",
    "VersionMismatch",
    "WaitTimeout",
    "ended_error",
    "refusal",
]


class NbqError(Exception):
    """The root of every error that nbq raises."""


class UsageError(NbqError):
    """The call is wrong; the code has to change."""


class InvalidSignature(UsageError, TypeError):
    """A signature or canvas cannot mean anything as it is written."""


class InvalidSchedule(UsageError, ValueError):
    """A schedule means nothing, or can never fire."""


class NotSerializable(UsageError, TypeError):
    """A value cannot be serialised; the message names its path, such as ``args[0].lock``."""


class PayloadTooLarge(UsageError):
    """A value is larger than the limit on one element."""


class SettingsError(UsageError, ValueError):
    """A setting, a name or a file of settings is unusable."""


class InvalidNotebook(UsageError, ValueError):
    """A file is no notebook, or cannot be run as is asked."""


class UnknownResult(UsageError, KeyError):
    """No run and no task of the hub has the id that was asked for."""

    def __str__(self) -> str:
        """Return the message as written (KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class UnknownEngine(UsageError, KeyError):
    """No engine of this name is connected."""

    def __str__(self) -> str:
        """Return the message as written (KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class UnknownQueue(UsageError, KeyError):
    """A queue is not among the declared ones, and ``create_missing_queues`` is off."""

    def __str__(self) -> str:
        """Return the message as written (KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class UnknownSchedule(UsageError, KeyError):
    """The hub has no schedule of the name that was asked for."""

    def __str__(self) -> str:
        """Return the message as written (KeyError would quote it)."""
        return str(self.args[0]) if self.args else ""


class TooManyWaiting(UsageError):
    """More tasks of one engine wait for other tasks than its setting allows."""


class Refused(UsageError):
    """The hub would not take a request.

    Args:
        message: What was refused and what to do.
        code: The machine-readable reason, one of those in ``docs/protocol.md``.
    """

    def __init__(self, message: str, code: str = "refused") -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        """Return the message without the code."""
        return str(self.args[0])


class HubError(NbqError):
    """The hub, not the call, is the problem."""


class HubUnreachable(HubError, ConnectionError):
    """No hub answers where one was looked for."""


class AuthenticationError(HubError):
    """The hub does not know the key, or the key is not the hub's."""


class VersionMismatch(HubError):
    """The two sides speak different versions of the protocol."""


class HubBusy(HubError):
    """A bound of the hub is reached; the same call may be taken later."""


class StoreError(HubError):
    """The hub's data folder cannot be used."""


class ProtocolError(NbqError):
    """A peer sent what the protocol does not allow."""


class IntegrityError(NbqError):
    """A payload is not the one that its maker sealed, or was sealed for another place."""


class ContentDisallowed(NbqError, ValueError):
    """A payload was made by a serializer that ``accept_content`` does not list; it was not read."""


class ResultStoreError(NbqError):
    """A result store beside the hub's own cannot be written or read now."""


class ResultGone(ResultStoreError):
    """A result store does not hold a value any more: it expired, was deleted, or had to make room."""


class Standstill(NbqError):
    """Nothing can happen any more in a local cluster, and what is waited for has not happened."""


class SoftTimeLimitExceeded(Exception):
    """Raised in a task whose ``soft_time_limit`` has passed; it may catch it and end in order."""


class TaskError(NbqError):
    """How a task ended.

    Args:
        message: What happened.
        task_id: The id of the task that it happened to.
    """

    def __init__(self, message: str, task_id: str = "") -> None:
        super().__init__(message, task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        """Return the message and, where known, the id."""
        return f"{self.args[0]} [task {self.task_id}]" if self.task_id else str(self.args[0])


class TaskFailed(TaskError):
    """A task raised, and its exception could not be rebuilt here; the text of it is the message."""


class TaskRevoked(TaskError):
    """A task was cancelled, or expired before it started."""


class TaskLost(TaskError):
    """A task started in too many slots that died; the message holds the evidence."""


class TimeLimitExceeded(TaskError):
    """A task ran longer than its ``time_limit`` and was stopped."""


class NotebookFailed(TaskError):
    """A notebook did not come to its end.

    Args:
        message: Which cell of which notebook, and what it raised.
        task_id: The id of the task.
        cell: The number of the cell in the executed notebook, from 1; 0 if none had started.
        cells: How many cells that has.
        source: The start of the cell's source.
        ename: The name of what it raised.
        evalue: The text of that.
        remote: Its traceback, as the kernel printed it.
    """

    def __init__(
        self, message: str, task_id: str = "", cell: int = 0, cells: int = 0, source: str = "",
        ename: str = "", evalue: str = "", remote: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, task_id)
        self.args = (message, task_id, cell, cells, source, ename, evalue, remote)
        self.cell, self.cells, self.source = cell, cells, source
        self.ename, self.evalue, self.traceback = ename, evalue, remote
        self._executed = b""

    def keep(self, executed: bytes) -> None:
        """Keep the notebook as far as it was executed: JSON, compressed by zlib."""
        self._executed = executed

    @property
    def notebook(self) -> dict[str, Any] | None:
        """The notebook as far as it was executed; None if it is not known here.

        It has to be small: where it was not, outputs were left out, and their place says so.
        """
        import json  # no cost for all who import nbq

        return json.loads(zlib.decompress(self._executed)) if self._executed else None

    def save(self, path: str | Path) -> Path:
        """Write the notebook as far as it was executed.

        Raises:
            UsageError: It is not known here.
        """
        if not self._executed:
            raise UsageError(f"what was executed of the notebook is not known here [task {self.task_id}]")
        from pathlib import Path  # as above

        path = Path(path)
        path.write_bytes(zlib.decompress(self._executed))
        return path


class NotebookTooLong(NotebookFailed, SoftTimeLimitExceeded):
    """The soft time limit of a notebook's task passed while a cell ran."""


class MaxRetriesExceededError(TaskError):
    """A task asked to be retried once more than ``max_retries`` allows."""


class UnknownTask(TaskError):
    """The engine that was to run a task knows no task of its name."""


class WaitTimeout(NbqError, TimeoutError):
    """The wait was given up; what was waited for goes on."""


class Retry(Exception):
    """Raised by ``current_task.retry``: this attempt ends here, and another is scheduled.

    Args:
        message: Why.
        exc: The exception that led to it, or None.
        when: Seconds from now, or a datetime, or None.
    """

    def __init__(self, message: str = "", exc: BaseException | None = None, when: object = None) -> None:
        super().__init__(message)
        self.exc = exc
        self.when = when


class Ignore(Exception):
    """Raised in a task that is to end as REVOKED("ignored"), without a result."""


class Reject(Exception):
    """Raised in a task that is to fail, or (``requeue``) to be run again.

    Args:
        reason: Why.
        requeue: Whether to run it again.
    """

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class RemoteTraceback(Exception):
    """The traceback of a task as its engine printed it; the ``__cause__`` of what ``get()`` raises."""

    def __str__(self) -> str:
        """Return the remote text on lines of its own."""
        return f"\n{self.args[0]}" if self.args else ""


def ended_error(code: str, text: str, task_id: str) -> TaskError:
    """Return the error of a task that the hub itself ended, by its code (``core.facts.Ended``)."""
    if code == "lost":
        return TaskLost(text, task_id)
    if code == "refused":
        return TaskFailed(text, task_id)
    return TaskRevoked(text, task_id)


def refusal(code: str, text: str) -> NbqError:
    """Return the error for what a hub refuses, by its code in the protocol."""
    if code == "busy":
        return HubBusy(text)
    if code == "unknown":
        return UnknownResult(text)
    if code == "engine":
        return UnknownEngine(text)
    return Refused(text, code)
