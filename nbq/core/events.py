"""Events: everything that can happen to the scheduler."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from nbq.core.model import NONE, BlobName, BlockMeta, EngineInfo, Graph, Index, MaybeIndex, State, Text
from nbq.core.timing import ScheduleSpec

__all__ = [
    "AbortAsked",
    "Addition",
    "Again",
    "Beat",
    "Began",
    "CancelAsked",
    "Chosen",
    "EngineGone",
    "EngineJoined",
    "EngineLeaving",
    "EngineResized",
    "Event",
    "ForgetAsked",
    "GaveBack",
    "KnowsTasks",
    "Noted",
    "Outcome",
    "QueueSteered",
    "RateSet",
    "Reported",
    "ScheduleChanged",
    "SchedulePut",
    "SlotDied",
    "Steering",
    "Submitted",
    "Ticked",
    "WaitsFor",
]


class Submitted(Struct, frozen=True):
    """A client submits a planned canvas.

    ``blocks`` are its argument blocks, in the order in which the hub holds their bytes. The first
    ``staged`` of them are stored already, under the run number ``number`` that was reserved.
    """

    id: bytes
    owner: str
    graph: Graph
    blocks: list[BlockMeta]
    number: int = NONE
    staged: int = 0


class CancelAsked(Struct, frozen=True):
    """Somebody wants elements stopped; ``node`` NONE means the whole run."""

    id: bytes
    node: int = NONE
    lo: int = 0
    hi: int = 0
    text: str = "cancelled"


class ForgetAsked(Struct, frozen=True):
    """Somebody wants a finished run dropped; or calls ``lo`` to ``hi - 1`` of a batch of separate calls."""

    id: bytes
    lo: int = NONE
    hi: int = NONE


class AbortAsked(Struct, frozen=True):
    """Somebody wants elements to end by themselves; those that have not started are cancelled."""

    id: bytes
    node: int = NONE
    lo: int = 0
    hi: int = 0


class Chosen(Struct, frozen=True, array_like=True):
    """Which elements are meant: those for which all of it holds. Empty fields hold for all.

    Args:
        run: The id of a run.
        name: The name of a task, or what it is shown as.
        queue: The name of a queue.
        label: The label given by ``label=``.
        states: In one of these states; of an element that is granted but not seen running, QUEUED.
        before_s: Of runs that were accepted before this, in Unix time.
        node, lo, hi: Elements ``lo`` to ``hi - 1`` of this node of ``run``; NONE for all.
    """

    run: Annotated[bytes, Meta(max_length=16)] = b""
    name: Annotated[str, Meta(max_length=500)] = ""
    queue: Annotated[str, Meta(max_length=200)] = ""
    label: Annotated[str, Meta(max_length=200)] = ""
    states: Annotated[list[State], Meta(max_length=16)] = []
    before_s: float | None = None
    node: MaybeIndex = NONE
    lo: Index = 0
    hi: Index = 0


class Steering(Struct, frozen=True):
    """Somebody wants something done with many elements: a few each turn, then ``Done`` tells how many.

    Args:
        ticket: Of the request, for the answer.
        chosen: Which.
        verb: ``cancel`` them; ``retry`` those that have failed, in new runs; ``priority``: those that have
            not ended get another, and with them all of the same node.
        salt: For the ids of new runs.
        owner: Whose the new runs are.
        priority: The new priority.
    """

    ticket: int
    chosen: Chosen
    verb: Literal["cancel", "retry", "priority"]
    salt: bytes = b""
    owner: str = ""
    priority: int = 0


class QueueSteered(Struct, frozen=True):
    """Nothing more is granted of a queue (``paused``), or it is again."""

    queue: str
    paused: bool


class RateSet(Struct, frozen=True):
    """Tasks of this name start at another rate; ``per_s`` None for none, ``own`` for what each asks for."""

    task: str
    per_s: float | None
    own: bool = False


class SchedulePut(Struct, frozen=True):
    """Somebody adds a schedule, or (``replace``) sets what it is.

    Without ``graph`` it keeps its canvas. ``blocks``, ``number`` and ``staged`` are as in Submitted.
    """

    name: str
    id: bytes
    owner: str
    spec: ScheduleSpec
    graph: Graph | None
    blocks: list[BlockMeta]
    number: int = NONE
    staged: int = 0
    replace: bool = False


class ScheduleChanged(Struct, frozen=True):
    """Somebody pauses, resumes or removes a schedule, or has it run now; ``salt`` is for the run's id."""

    name: str
    verb: Literal["pause", "resume", "remove", "run"]
    salt: bytes = b""


class EngineJoined(Struct, frozen=True):
    """An engine connected, for the first time or again.

    ``held`` lists the tokens of the leases that it still has; what it was granted before and does
    not list goes back to the queue.
    """

    engine: bytes
    info: EngineInfo
    held: list[int]


class EngineGone(Struct, frozen=True):
    """The connection to an engine is gone; it has a moment to come back."""

    engine: bytes


class EngineLeaving(Struct, frozen=True):
    """An engine drains: it is granted nothing more and gives back what it has not started."""

    engine: bytes


class Beat(Struct, frozen=True):
    """An engine is alive and holds these leases."""

    engine: bytes
    held: list[int]


class Began(Struct, frozen=True):
    """Elements were seen running: pairs of token and index."""

    engine: bytes
    running: list[tuple[int, int]]


class Again(Struct, frozen=True, array_like=True):
    """An attempt asks to be run again: after ``delay_s`` seconds, or at ``eta_s`` (Unix time).

    ``counted`` says whether that is one more of its retries. With other arguments than before, they are
    the only element of the outcome's block.
    """

    delay_s: Annotated[float, Meta(ge=0)] = 0.0
    eta_s: float | None = None
    text: Text = ""
    counted: bool = True


class Addition(Struct, frozen=True, array_like=True):
    """A planned canvas that an attempt adds to its run; taken with the attempt's own outcome.

    Args:
        scope: What its blocks are sealed for beside the run, chosen at random by its planner.
        graph: It; numbers count from its own first node and list.
        blocks: Its argument blocks.
        replaces: Whether its value becomes that of the element. Else it becomes one more member of the
            chord header that the element belongs to.
    """

    scope: Annotated[bytes, Meta(min_length=16, max_length=16)]
    graph: Graph
    blocks: list[BlockMeta]
    replaces: bool


class Outcome(Struct, frozen=True, array_like=True):
    """Elements ``lo`` to ``hi - 1`` of a lease ended.

    Args:
        states: One byte an element (SUCCESS, FAILURE or REVOKED), empty when all succeeded; RETRY for one
            that asks for another attempt, WAITING for one that is replaced.
        size: Bytes of the outcome block; 0 when the result is ignored.
        blob: The name of the block's file, empty when it travels with the message.
        seconds: How long the elements ran, together.
        errors: A line for each of the first failures, by element.
        again: What a retry asks for (then there is one element).
        additions: What the attempt adds to its run (then there is one element).
        store: The result store that holds the block, under the name ``blob``; empty for none.
    """

    token: Annotated[int, Meta(ge=0)]
    lo: Index
    hi: Index
    states: bytes = b""
    size: Annotated[int, Meta(ge=0)] = 0
    blob: BlobName = ""
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    errors: dict[Index, Text] = {}
    again: Again | None = None
    additions: list[Addition] = []
    store: Text = ""

    def added_blocks(self) -> int:
        """Return how many blocks of its additions come with the report."""
        return sum(not block.blob for addition in self.additions for block in addition.blocks)


class Reported(Struct, frozen=True):
    """An engine reports outcomes.

    The hub holds the bytes of their blocks in the same order, then those of the blocks of their additions
    that are no blobs.
    """

    engine: bytes
    outcomes: list[Outcome]


class GaveBack(Struct, frozen=True):
    """An engine returns elements of a lease that it has not started."""

    engine: bytes
    token: int
    lo: int
    hi: int


class SlotDied(Struct, frozen=True):
    """A slot died while it ran one element of a lease."""

    engine: bytes
    token: int
    index: int
    text: str


class Noted(Struct, frozen=True):
    """A running element shows a state of its own and a value (opaque bytes)."""

    engine: bytes
    token: int
    index: int
    state: str
    meta: bytes


class WaitsFor(Struct, frozen=True):
    """So many running elements of an engine wait for other tasks: others may run in their stead."""

    engine: bytes
    count: int


class KnowsTasks(Struct, frozen=True):
    """The slots of an engine know the tasks of these names."""

    engine: bytes
    tasks: list[str]


class EngineResized(Struct, frozen=True):
    """An engine has so many slots from now on, and may be scaled between these (0 and 0: it may not)."""

    engine: bytes
    slots: int
    least: int = 0
    most: int = 0


class Ticked(Struct, frozen=True):
    """Time passed; sent once a turn, after everything else."""


Event = (
    Submitted
    | CancelAsked
    | ForgetAsked
    | EngineJoined
    | EngineGone
    | EngineLeaving
    | Beat
    | Began
    | Reported
    | GaveBack
    | SlotDied
    | Noted
    | WaitsFor
    | KnowsTasks
    | AbortAsked
    | Steering
    | QueueSteered
    | RateSet
    | SchedulePut
    | ScheduleChanged
    | EngineResized
    | Ticked
)
