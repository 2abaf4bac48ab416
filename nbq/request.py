"""What is known of a running task: ``nbq.current_task.request``, with Celery's names.

A request is made when it is asked for. Nothing here knows where a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import Struct

from nbq.core.ids import element_text
from nbq.core.model import NONE, Options, Origin

__all__ = ["DeliveryInfo", "Request", "WorkLike", "id_of", "request_of"]


class _KinLike(Protocol):
    node: int
    index: int
    ids: dict[int, str]


class _Work(Protocol):
    """What a request is made of: ``engines.pipe.Work``."""

    @property
    def run(self) -> bytes: ...
    @property
    def node(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def ids(self) -> dict[int, str]: ...
    @property
    def retries(self) -> int: ...
    @property
    def options(self) -> Options: ...
    @property
    def parent(self) -> Any: ...
    @property
    def root(self) -> Any: ...
    @property
    def header(self) -> bool: ...
    @property
    def at_s(self) -> float: ...
    @property
    def origin(self) -> Origin | None: ...


WorkLike = _Work


class DeliveryInfo(Struct, frozen=True):
    """How a task came here. It can be read like Celery's dictionary, too."""

    priority: int = 0
    redelivered: bool = False
    """Whether an attempt before this one was lost with its slot or engine."""
    routing_key: str = ""
    """The name of the queue."""
    exchange: str = ""
    """Always empty: nbq has queues only."""

    def __getitem__(self, name: str) -> Any:
        """Return a field by its name."""
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field by its name, or the default if there is none."""
        return self[name] if name in self.__struct_fields__ else default


class Request(Struct, frozen=True, kw_only=True):
    """What is known of a running task."""

    id: str | None = None
    """Its id; None when it was called directly."""
    task: str = ""
    """Its name, whatever it is shown as (``shadow``)."""
    run: str = ""
    """The id of the run that it is part of."""
    root_id: str | None = None
    """The id of the first task of its chain."""
    parent_id: str | None = None
    """The id of the task that it follows; of those of a group, one."""
    children: tuple[str, ...] = ()
    """The ids of what it has submitted so far, in order; of a group, the group's."""
    args: tuple[Any, ...] = ()
    """Its positional arguments, with what it was fed."""
    kwargs: dict[str, Any] = {}
    retries: int = 0
    """How often it was retried before this attempt."""
    attempt: int = 1
    """Counted from 1. Higher than ``retries + 1`` when attempts were lost with their slots."""
    hostname: str = ""
    """The name of the engine."""
    eta: datetime | None = None
    """The earliest moment at which it was to start, in UTC."""
    expires: datetime | None = None
    """The moment from which on it would not have been started, in UTC."""
    timelimit: tuple[float | None, float | None] = (None, None)
    """Its ``time_limit`` and ``soft_time_limit``, in seconds."""
    delivery_info: DeliveryInfo = DeliveryInfo()
    headers: dict[str, Any] = {}
    """What its caller gave as ``headers``."""
    fire_time: datetime | None = None
    """The fire time for which its schedule started it, in UTC; the same in every attempt."""
    schedule: str = ""
    """The name of that schedule."""
    is_eager: bool = False
    """Whether it runs in the process that submitted it (``apply``, ``task_always_eager``)."""
    called_directly: bool = False
    """Whether it was called as a function: nothing was submitted, and nobody is told how it ends."""
    in_chord: bool = False
    """Whether it is a member of a chord's header, which ``add_to_chord`` extends."""
    group: str | None = None
    """Always None: a task does not know its group; whoever holds the GroupResult does."""
    group_index: int | None = None
    """Always None, as ``group``."""
    chord: str | None = None
    """Always None: what follows is known to the hub alone."""
    chain: tuple[Any, ...] = ()
    """Always empty, as ``chord``."""
    callbacks: tuple[Any, ...] = ()
    """Always empty, as ``chord``."""
    errbacks: tuple[Any, ...] = ()
    """Always empty, as ``chord``."""
    reply_to: str | None = None
    """Always None: results go to the hub, which tells whoever asks."""
    origin: str | None = None
    """Always None: the hub does not tell engines who submitted what."""
    stamps: dict[str, Any] = {}
    """Always empty: nbq has no stamps; use ``headers``."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field by its name, or the default if there is none."""
        return getattr(self, name) if name in self.__struct_fields__ else default


def id_of(work: WorkLike, index: int) -> str:
    """Return the id of an element that runs."""
    return work.ids.get(index) or element_text(work.run, work.node, index)


def request_of(
    work: WorkLike,
    index: int,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    headers: Mapping[str, Any] | None,
    hostname: str,
    eager: bool,
    children: list[str],
) -> Request:
    """Return what is known of an element that runs."""
    options, own = work.options, id_of(work, index)
    expires_s = options.expires_at_s
    if expires_s is None and options.expires_s is not None:
        expires_s = work.at_s + options.expires_s
    return Request(
        id=own,
        task=work.task,
        run=work.run.hex(),
        root_id=_kin(work, work.root, index) or own,
        parent_id=_kin(work, work.parent, index),
        children=tuple(children),
        args=args,
        kwargs=dict(kwargs),
        retries=work.retries,
        attempt=work.attempt,
        hostname=hostname,
        eta=_instant(options.eta_s),
        expires=_instant(expires_s),
        timelimit=(options.time_limit_s, options.soft_time_limit_s),
        delivery_info=DeliveryInfo(options.priority, work.attempt > work.retries + 1, options.queue),
        headers=dict(headers or {}),
        fire_time=_instant(work.origin.fire_s) if work.origin is not None else None,
        schedule=work.origin.schedule if work.origin is not None else "",
        is_eager=eager,
        in_chord=work.header,
    )


def _kin(work: WorkLike, kin: _KinLike | None, index: int) -> str | None:
    if kin is None:
        return None
    place = index if kin.index == NONE else kin.index
    return kin.ids.get(place) or element_text(work.run, kin.node, place)


def _instant(at_s: float | None) -> datetime | None:
    return datetime.fromtimestamp(at_s, UTC) if at_s is not None else None
