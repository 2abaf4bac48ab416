"""What a task may know and do while it runs: ``nbq.current_task``.

The slot says which element runs; all else is looked up only when it is asked for. Outside a slot, a task
that is called directly has a request that says so. Nothing here sends, serialises or plans anything: the
slot's ``Host`` does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol

from nbq.canvas.options import run_options
from nbq.core.model import State
from nbq.errors import InvalidSignature, MaxRetriesExceededError, Retry, UsageError
from nbq.request import Request, WorkLike, id_of, request_of

__all__ = [
    "Actions",
    "CurrentTask",
    "Extra",
    "Host",
    "Replaced",
    "Running",
    "begin",
    "current_task",
    "end",
    "here",
    "submitted",
]

_MAX_RETRIES = 3
_RETRY_DELAY_S = 180.0
_CHILDREN = 10_000
"""How many of the tasks that one task submits are its children; the rest run, but are not listed."""
_STATE_LENGTH = 100
_TERMINAL = frozenset(state.name for state in State if state >= State.SUCCESS)


class Host(Protocol):
    """What a slot does for the tasks that run in it."""

    engine: str
    eager: bool

    def note(self, running: Running, state: str, meta: object) -> None:
        """Show a state and a value of the running element to whoever looks."""
        ...

    def add(self, running: Running, canvas: object, replaces: bool) -> None:
        """Plan and seal what the running element adds to its run."""
        ...

    def is_aborted(self) -> bool:
        """Return whether the running element was asked to end by itself."""
        ...


class Extra:
    """What an element asked for while it ran; most ask for nothing."""

    __slots__ = ("added", "again", "call", "children", "replacement", "retry", "sig", "state")

    def __init__(self) -> None:
        self.children: list[str] = []
        self.added: list[Any] = []
        self.replacement: Any = None
        """What takes its place, and the signature of that."""
        self.sig: Any = None
        self.retry: Retry | None = None
        self.again: tuple[float, float | None] = 0.0, None
        """Seconds until the next attempt, and (instead) its Unix time."""
        self.call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        """Other arguments for the next attempt."""
        self.state = "STARTED"


class Running:
    """An element while it runs: a slot makes one for some work, and sets the rest for each element.

    Args:
        work: What the slot was given, or None for a direct call.
        host: The slot, or None for a direct call.
    """

    __slots__ = ("call", "extra", "hooked", "host", "index", "reads", "task", "work", "writes")

    def __init__(self, work: WorkLike | None, host: Host | None) -> None:
        self.work = work
        self.host = host
        self.reads = self.writes = ""
        """The serializers of its arguments and of its result."""
        self.index = 0
        self.task: Any = None
        """The ``Task`` that runs, or None for a plain function."""
        self.hooked = False
        """Whether that has hooks of its own."""
        self.call: tuple[tuple[Any, ...], dict[str, Any], Mapping[str, Any] | None] | None = None
        """Its arguments, with what it was fed, and its headers."""
        self.extra: Extra | None = None

    @property
    def id(self) -> str:
        """Its id; empty for a direct call."""
        return id_of(self.work, self.index) if self.work is not None else ""

    @property
    def request(self) -> Request:
        """What is known of it."""
        args, kwargs, headers = self.call or ((), {}, None)
        if self.work is None or self.host is None:
            return Request(task=self.task.name, args=args, kwargs=kwargs, called_directly=True)
        children = self.extra.children if self.extra is not None else []
        return request_of(
            self.work, self.index, args, kwargs, headers, self.host.engine, self.host.eager, children
        )

    def more(self) -> Extra:
        """Return what it asks for beside its outcome."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra


class Replaced(Exception):
    """Raised by ``replace``: the element ends here, and another canvas takes its place."""


class _Slot:
    """The element that the slot of this process runs, for all its threads."""

    running: Running | None = None


here = _Slot()
_direct: ContextVar[Running | None] = ContextVar("nbq_direct_call", default=None)
"""The innermost direct call."""


def begin(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Token[Running | None]:
    """A task is called directly."""
    running = Running(None, None)
    running.task = task
    running.call = args, kwargs, None
    return _direct.set(running)


def end(token: Token[Running | None]) -> None:
    """A direct call ends."""
    _direct.reset(token)


def submitted(task_id: str) -> None:
    """Take note that the running task, if there is one, submitted another."""
    running = here.running
    if running is not None:
        children = running.more().children
        if len(children) < _CHILDREN:
            children.append(task_id)


def _running() -> Running | None:
    return _direct.get() or here.running


def _needed(what: str) -> Running:
    running = _running()
    if running is None:
        raise UsageError(f"no task is running here: nbq.current_task has {what} inside tasks only")
    return running


class Actions:
    """What a running task may ask and say. The same on ``nbq.current_task``, ``self`` and any ``Task``."""

    __slots__ = ()

    @property
    def request(self) -> Request:
        """What is known of the running task.

        Raises:
            UsageError: No task is running here.
        """
        return _needed("a request").request

    def retry(
        self,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | timedelta | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """End this attempt here, and have the same task run again.

        Args:
            args: Other positional arguments, in place of all that it has now.
            kwargs: Other keyword arguments, likewise.
            exc: Why; raised in place of ``Retry`` when there were enough retries.
            throw: Whether to raise ``Retry``. If not, it is returned, and the attempt ends as a retry
                whatever the function returns; what it raises later counts.
            eta: When, in place of ``countdown``.
            countdown: After how many seconds; the task's ``default_retry_delay`` (180) unless given.
            max_retries: How many retries it may have; the task's ``max_retries`` (3) unless given.
            options: There are none: the task is the same. ``replace`` runs it with others.

        Raises:
            Retry: This attempt ends here.
            MaxRetriesExceededError: It had so many retries already, and there is no ``exc``.
            UsageError: No task is running here.
        """
        running = _needed("retry()")
        if options:
            raise InvalidSignature(
                f"retry runs the same task again, so its option {min(options)!r} cannot change: "
                "replace(signature) runs it with other options"
            )
        if running.work is None:
            why = exc if exc is not None else sys.exc_info()[1]
            raise why if why is not None else Retry("a task that was called directly is not retried")
        _refuse_more(running, running.work.retries, exc, max_retries)
        if eta is None and countdown is None:
            countdown = getattr(running.task, "default_retry_delay", _RETRY_DELAY_S)
        asked = run_options({"eta": eta, "countdown": countdown})
        delay_s = max(0.0, asked.countdown_s or 0.0)
        extra = running.more()
        extra.again = delay_s, asked.eta_s
        if args is not None or kwargs is not None:
            own = running.call or ((), {}, None)
            extra.call = (
                tuple(args) if args is not None else own[0],
                dict(kwargs) if kwargs is not None else own[1],
            )
        when = f"at {eta}" if eta is not None else f"in {delay_s:g} s"
        extra.retry = Retry(f"retry {when}" + (f": {exc!r}" if exc is not None else ""), exc, eta or delay_s)
        if throw:
            raise extra.retry
        return extra.retry

    def update_state(self, state: str | None = None, meta: object = None) -> None:
        """Show a state of its own in place of STARTED, and a value, until this attempt ends.

        At most some 20 a second are sent; the last one always is. In a direct call nobody is told.

        Args:
            state: Any name but those of states in which tasks end; None keeps the one shown last.
            meta: What ``AsyncResult.info`` is then; up to 64 KiB.

        Raises:
            UsageError: That is no state, or no task is running here.
            NotSerializable: The value cannot be serialised.
            PayloadTooLarge: It is too large.
        """
        running = _needed("update_state()")
        if state is not None and (not isinstance(state, str) or not 1 <= len(state) <= _STATE_LENGTH):
            raise UsageError(f"a state is a text of 1 to {_STATE_LENGTH} characters, not {state!r}")
        if state in _TERMINAL:
            raise UsageError(
                f"a task ends as {state} by what it does, not by saying so: return a value, raise an error, "
                "or raise nbq.Ignore()"
            )
        if running.host is not None:
            extra = running.more()
            extra.state = state or extra.state
            running.host.note(running, extra.state, meta)

    def replace(self, sig: object) -> NoReturn:
        """End this attempt here, and let a canvas take the place of this task: its id, and what follows it.

        Args:
            sig: A signature, group, chain or chord.

        Raises:
            InvalidSignature: It is none, or an empty chain.
            UsageError: No task is running here, or it was called directly.
        """
        running = _needed("replace()")
        if running.host is None:
            raise UsageError(
                "a task that was called directly cannot be replaced: submit it, or return a value"
            )
        running.host.add(running, sig, True)
        raise Replaced

    def add_to_chord(self, sig: object) -> None:
        """Add a member to the header of the chord that this task is a member of, if it succeeds.

        Args:
            sig: A signature, group, chain or chord; its value is one more item for the chord's body.

        Raises:
            InvalidSignature: It is none.
            UsageError: The running task is not a member of a chord's header.
        """
        running = _needed("add_to_chord()")
        if running.host is None or running.work is None or not running.work.header:
            raise UsageError("add_to_chord is for members of a chord's header; this task is none")
        running.host.add(running, sig, False)

    def is_aborted(self) -> bool:
        """Return whether somebody asked this task to end by itself (``AsyncResult.abort``)."""
        host = _needed("is_aborted()").host
        return host is not None and host.is_aborted()


def _refuse_more(running: Running, retries: int, exc: BaseException | None, given: int | None) -> None:
    """Raise if the running element had as many retries as it may have."""
    limit = given if given is not None else getattr(running.task, "max_retries", _MAX_RETRIES)
    if limit is None or retries < limit:
        return
    if exc is not None:
        raise exc
    name = running.work.task if running.work is not None else ""
    raise MaxRetriesExceededError(
        f"{name} asked for one retry more than its max_retries, which is {limit}", running.id
    )


class CurrentTask(Actions):
    """The running task; the first argument of a task with ``bind=True``.

    It has whatever its ``Task`` has, too: ``name``, ``max_retries``, ``s()``, and what a base class adds.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the task that runs."""
        running = _running() if not name.startswith("__") else None
        if running is None:
            raise AttributeError(f"nbq.current_task has no {name!r} while no task is running here")
        if running.task is None:
            raise AttributeError(f"a plain function has no {name!r}: make it a task with @nbq.task")
        return getattr(running.task, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the task that runs, in this process."""
        setattr(_needed("attributes").task, name, value)

    def __reduce__(self) -> str:
        """Pickle by name: a task that refers to it finds the one of its own slot."""
        return "current_task"

    def __repr__(self) -> str:
        """Name the running task."""
        running = _running()
        if running is None:
            return "<no task is running here>"
        return f"<task {running.id}>" if running.id else f"<a direct call of {running.task.name}>"


current_task = CurrentTask()
