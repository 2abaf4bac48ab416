"""Views: what the hub shows people of its runs, elements, engines, queues, schedules, and of what happens.

Values only, made when somebody asks; nothing here is state.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from nbq.core.ids import element_text, run_text
from nbq.core.model import EngineInfo
from nbq.core.timing import ScheduleSpec, ScheduleState

__all__ = [
    "ClusterView",
    "ElementView",
    "EngineView",
    "Explanation",
    "Happening",
    "HappeningKind",
    "QueueView",
    "Reason",
    "RunView",
    "ScheduleView",
]


class RunView(Struct, frozen=True, array_like=True):
    """A run, for people: counts of elements by state name."""

    id: bytes
    task: str
    owner: str
    at_s: float
    size: int
    states: dict[str, int]
    finished_s: float | None = None
    index: int = -1
    """The element that this row is about, when the run is a batch of separate calls."""
    label: str = ""
    """The label of the node whose value is the run's."""
    schedule: str = ""
    """The name of the schedule that made it."""
    fire_s: float | None = None
    """Its fire time."""
    began_s: float = 0.0
    """When the first of it was granted; 0 for not yet."""

    @property
    def text(self) -> str:
        """Return the id that people give: of the run, or of the separate call."""
        return run_text(self.id) if self.index < 0 else element_text(self.id, 0, self.index)


class EngineView(Struct, frozen=True, array_like=True):
    """An engine, for people."""

    id: bytes
    info: EngineInfo
    held: int
    running: int
    state: str
    rss: int
    beat_s: float
    """Seconds since it was last heard."""


class QueueView(Struct, frozen=True, array_like=True):
    """A queue, for people."""

    name: str
    queued: int
    leased: int
    engines: int
    paused: bool = False
    scheduled: int = 0
    """Those that are to be queued at a time: by eta, countdown or a retry."""


class ElementView(Struct, frozen=True, array_like=True):
    """One element, for people."""

    id: str
    run: bytes
    node: int
    index: int
    task: str
    state: str
    attempt: int
    engine: str = ""
    text: str = ""
    at_s: float = 0.0
    retries: int = 0
    queue: str = ""
    scope: bytes = b""
    """What its blocks are sealed for beside the run, if it belongs to an addition."""
    inner: int = 0
    label: str = ""


class ScheduleView(Struct, frozen=True, array_like=True):
    """A schedule, for people."""

    name: str
    spec: ScheduleSpec
    state: ScheduleState
    owner: str
    at_s: float
    """When it was set."""
    next_s: float | None
    """Its next fire time, None if there is none or it is paused."""
    active: list[bytes]
    """The newest runs of it that have not ended: up to 100, the newest last."""
    unfinished: int = 0
    """How many runs of it have not ended."""


HappeningKind = Literal[
    "submitted",
    "started",
    "progress",
    "succeeded",
    "failed",
    "retried",
    "revoked",
    "engine-joined",
    "engine-lost",
    "engine-drained",
    "schedule-fired",
    "schedule-missed",
    "schedule-changed",
    "queue-paused",
    "queue-resumed",
]


class Happening(Struct, frozen=True, array_like=True):
    """Something that happened, for whoever follows events.

    Args:
        seq: Its number; those of one hub grow, also over its restarts.
        at_s: When, in Unix time.
        kind: What.
        count: To how many elements, which then are consecutive ones of a node.
        id: Of the first of them, or of the engine; or the name of the schedule or queue.
        run: The id of the run, as text; empty for none.
        task, queue, label: Of the elements.
        engine: The name of the engine.
        text: An error, a state of its own, what became of a fire time: one line for people.
        attempt: At which attempt the first of the elements was; 0 for what is no element.
    """

    seq: int
    at_s: float
    kind: HappeningKind
    count: int = 1
    id: str = ""
    run: str = ""
    task: str = ""
    queue: str = ""
    label: str = ""
    engine: str = ""
    text: str = ""
    attempt: int = 0


class Reason(Struct, frozen=True, array_like=True):
    """Why an element is where it is.

    Args:
        code: For programs: one word for each reason (``core.explain``).
        text: For people: a sentence.
        refs: The ids of the tasks, engines or queues that it is about.
    """

    code: str
    text: str
    refs: list[str] = []


class Explanation(Struct, frozen=True):
    """Why a task, group or run is where it is; as text, in sentences.

    Args:
        id: Of what.
        reasons: The most important first.
    """

    id: str
    reasons: list[Reason]

    @property
    def code(self) -> str:
        """Return the code of the most important reason."""
        return self.reasons[0].code

    def __str__(self) -> str:
        """Say all of it."""
        return " ".join(reason.text for reason in self.reasons)


class ClusterView(Struct, frozen=True, array_like=True):
    """The hub, for people. ``hub`` holds name, pid, durability, uptime, counts and sizes."""

    hub: dict[str, str | int | float]
    engines: list[EngineView]
    queues: list[QueueView]
    states: dict[str, int]
