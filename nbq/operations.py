"""Messages of those who see and steer a hub: questions, schedules, events, orders to tasks and engines.

A part of the protocol, like ``blocks``: ``wire`` has the unions, the encoding and the validation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from nbq.blocks import Block
from nbq.core.events import Chosen
from nbq.core.model import Graph, Index, Text
from nbq.core.timing import ScheduleName, ScheduleSpec
from nbq.core.views import (
    ClusterView,
    ElementView,
    Happening,
    HappeningKind,
    Reason,
    RunView,
    ScheduleView,
)

__all__ = [
    "Answer",
    "Ask",
    "ChangeSchedule",
    "EventFilter",
    "Events",
    "Follow",
    "Order",
    "PutSchedule",
    "Resized",
    "SetRate",
    "Steer",
    "SteerEngine",
    "SteerQueue",
    "Verb",
]

_Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Slots = Annotated[int, Meta(ge=0, le=4096)]

Verb = Literal["drain", "stop", "restart", "reload", "scale"]
"""What an engine can be told: finish what runs and end; end now; begin anew as a process; import modules
anew; have so many slots."""


# ------------------------------------------------------------------ peer to hub


class Ask(Struct, frozen=True, array_like=True, tag=10):
    """A question. Answered by Found, Answer or Rejected with the same request number.

    Args:
        what: ``find`` (``text`` is an id), ``cluster``, ``runs``, ``tasks``, ``nodes`` (of ``run``: how
            many elements are in each state), ``element``, ``saved`` (``text`` is an id), ``explain`` (why an
            element, group or run is where it is; ``text`` is its id), ``run`` (the row of the run, or
            separate call, that ``text`` is the id of or of a part of) or ``schedules`` (``text`` is a name).
        text: An id; or for ``runs``, ``tasks`` and ``schedules`` a name to look for ("" for all).
        limit: How many rows at most, newest first; of schedules never more than 250.
        state: For ``tasks``: only elements in this state ("" for all); for ``runs``: only those with some.
        mine: For ``runs``: only runs submitted with the key of who asks.
        run, node, index: For ``nodes`` and ``element``; ``run`` also for ``tasks``: only those of it. For
            ``schedules``, ``index`` is how many to leave out; all are ordered by name, and counted in the
            answer.
        queue, label, since_s: For ``tasks`` and ``runs``: only those of this queue and label, and of runs
            that were accepted since.
        resume: For ``tasks`` and ``runs``: where to go on, as the Answer before said.
    """

    request: int
    what: Literal[
        "find", "cluster", "runs", "tasks", "nodes", "element", "saved", "explain", "run", "schedules"
    ]
    text: Text = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    state: Text = ""
    mine: bool = False
    run: Annotated[bytes, Meta(max_length=16)] = b""
    node: Index = 0
    index: Index = 0
    queue: Annotated[str, Meta(max_length=200)] = ""
    label: Annotated[str, Meta(max_length=200)] = ""
    since_s: float | None = None
    resume: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=2)] = []


class PutSchedule(Struct, frozen=True, array_like=True, tag=25):
    """Add a schedule, or (``replace``) set what it is. Answered by Answer.

    Its blocks are the ``staged`` ones that were sent before under ``id``, then ``blocks``. Without ``graph``
    it keeps its canvas.
    """

    request: int
    name: ScheduleName
    id: _Id
    spec: ScheduleSpec
    graph: Graph | None
    blocks: list[Block]
    staged: int = 0
    replace: bool = False


class ChangeSchedule(Struct, frozen=True, array_like=True, tag=26):
    """Pause, resume or remove a schedule, or run it now. Answered by Answer, with the run in ``made``."""

    request: int
    name: ScheduleName
    verb: Literal["pause", "resume", "remove", "run"]
    salt: _Id


class EventFilter(Struct, frozen=True, array_like=True):
    """Which events are wanted: those for which all of it holds. Empty fields hold for all."""

    kinds: Annotated[list[HappeningKind], Meta(max_length=32)] = []
    task: Annotated[str, Meta(max_length=500)] = ""
    queue: Annotated[str, Meta(max_length=200)] = ""
    label: Annotated[str, Meta(max_length=200)] = ""
    run: Annotated[str, Meta(max_length=32)] = ""


class Follow(Struct, frozen=True, array_like=True, tag=27):
    """Tell me what happens after number ``after`` (NONE: from now on). Answered by Events, once there are.

    Without ``wait`` it is answered at once. An answer may be empty, to say how far the hub has looked.
    """

    request: int
    after: int
    filter: EventFilter = EventFilter()
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    wait: bool = True


class Steer(Struct, frozen=True, array_like=True, tag=28):
    """Do something with many tasks (``core.events.Steering``). Answered by Answer, when it is done."""

    request: int
    chosen: Chosen
    verb: Literal["cancel", "retry", "priority"]
    salt: _Id
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0


class SteerQueue(Struct, frozen=True, array_like=True, tag=29):
    """Grant nothing more of a queue, or again. Answered by Answer."""

    request: int
    queue: _Name
    verb: Literal["pause", "resume"]


class SetRate(Struct, frozen=True, array_like=True, tag=30):
    """Let tasks of a name start at another rate. Answered by Answer."""

    request: int
    task: Annotated[str, Meta(min_length=1, max_length=500)]
    per_s: Annotated[float, Meta(ge=1e-6)] | None = None
    own: bool = False
    """Whether each is to start at its own again."""


class SteerEngine(Struct, frozen=True, array_like=True, tag=31):
    """Tell engines what to do. Answered by Answer: how many were told.

    Args:
        engine: A name; empty for all.
        verb: What.
        slots: For ``scale``: how many; 0 to leave it to the hub, between ``least`` and ``most``.
        least, most: Bounds, or 0 and 0.
    """

    request: int
    engine: Annotated[str, Meta(max_length=200)]
    verb: Verb
    slots: _Slots = 0
    least: _Slots = 0
    most: _Slots = 0


class Resized(Struct, frozen=True, array_like=True, tag=32):
    """The engine has so many slots from now on, and may be scaled between these (0 and 0: it may not)."""

    slots: Annotated[int, Meta(ge=1, le=4096)]
    least: _Slots = 0
    most: _Slots = 0


# ------------------------------------------------------------------ hub to peer


class Answer(Struct, frozen=True, array_like=True, tag=108):
    """The answer to a request."""

    request: int
    count: int = 0
    cluster: ClusterView | None = None
    runs: list[RunView] = []
    elements: list[ElementView] = []
    nodes: list[dict[str, int]] = []
    saved: bytes = b""
    note: bytes = b""
    """For ``element``: what it last showed by Note, a sealed block; empty for nothing."""
    reasons: list[Reason] = []
    schedules: list[ScheduleView] = []
    made: list[_Id] = []
    """The runs that the hub made at a request."""
    resume: list[int] = []
    """Where to go on, if there was too much to look at for one answer: ask again with it for what follows."""


class Events(Struct, frozen=True, array_like=True, tag=122):
    """What has happened: ``missed`` events before it are not kept any more; go on after number ``last``."""

    request: int
    events: list[Happening]
    missed: int
    last: int


class Order(Struct, frozen=True, array_like=True, tag=118):
    """What an engine is to do; ``slots``, ``least`` and ``most`` as in SteerEngine.

    A hub that scales an engine by itself names ``slots`` and the bounds: it means nothing if those are no
    longer the engine's.
    """

    verb: Verb
    slots: _Slots = 0
    least: _Slots = 0
    most: _Slots = 0
    text: Text = ""
    """Who wants it, for the log."""
