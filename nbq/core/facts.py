"""Facts: what has happened, and nothing else can be undone by a crash.

The journal holds them, recovery applies them, and watching clients receive those that end
elements. A fact belongs to one run, named by its ``run`` number (assigned when it is accepted); the
facts of different runs are independent of each other. Schedules are numbered like runs, and the number 0 is
the hub's own; their facts are whole states, and a later one takes the place of an earlier one (``PLACES``).
"""

from __future__ import annotations

from msgspec import Struct

from nbq.core.model import NONE, BlockMeta, Graph, Nested, Origin, Slice, State
from nbq.core.timing import ScheduleSpec, ScheduleState

__all__ = [
    "PLACES",
    "Accepted",
    "Became",
    "Deferred",
    "Dropped",
    "End",
    "Ended",
    "Extended",
    "Fact",
    "Forgotten",
    "Inherited",
    "Leased",
    "Reprioritised",
    "Returned",
    "ScheduleMoved",
    "ScheduleRemoved",
    "ScheduleSet",
    "Settled",
    "Steered",
]


class Accepted(Struct, frozen=True, array_like=True, tag=1):
    """A run was taken. Block number k of the run is ``blocks[k]``."""

    run: int
    id: bytes
    owner: str
    at_s: float
    graph: Graph
    blocks: list[BlockMeta]
    origin: Origin | None = None
    """What it was made from, if the hub made it."""
    begin: bytes = b""
    """For each element of node 0, WAITING or SKIPPED: those that are tried again. Empty for all."""


class Leased(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Elements ``lo`` to ``hi - 1`` were granted to an engine under a token."""

    run: int
    node: int
    lo: int
    hi: int
    token: int
    engine: bytes


class Returned(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A lease ended for elements that did not: they may be granted again.

    ``charged`` says that a slot died while it ran element ``lo`` (then ``hi == lo + 1``); ``text``
    holds the evidence. ``lost`` says that the engine was lost: they may have begun, so an attempt is over.
    """

    run: int
    node: int
    lo: int
    hi: int
    token: int
    charged: bool = False
    text: str = ""
    lost: bool = False


class Settled(Struct, frozen=True, array_like=True, tag=4):
    """Elements were run to their end by an engine.

    Args:
        states: One byte an element, or empty when all are SUCCESS.
        block: The number of the block that holds values and failures, or NONE (ignored result).
        size, blob: Of that block, as in ``BlockMeta``.
        store: The result store that holds it under the name ``blob``; empty for the hub's own.
        at_s: When the hub took the outcome.
        seconds: How long the elements ran, together.
        errors: A line for each of the first failures, by element, for people and logs.
    """

    run: int
    node: int
    lo: int
    hi: int
    token: int
    states: bytes
    block: int
    size: int
    blob: str
    at_s: float
    engine: str
    seconds: float
    errors: dict[int, str] = {}
    block_lo: int = 0
    """The first element of that block; it was sealed for this place."""
    block_n: int = 0
    """How many elements that block has; it may hold more than this fact ends."""
    store: str = ""


class Ended(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The hub itself ended elements: ``code`` is cancelled, expired, lost, refused or skipped."""

    run: int
    node: int
    lo: int
    hi: int
    state: State
    code: str
    text: str
    at_s: float


class Inherited(Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Elements ended as the element they depend on did.

    ``cause_index`` is NONE when element i follows element i of ``cause_node``.
    """

    run: int
    node: int
    lo: int
    hi: int
    state: State
    cause_node: int
    cause_index: int = NONE
    at_s: float = 0.0


class Deferred(Struct, frozen=True, array_like=True, tag=8):
    """An attempt ended by asking for another, ``delay_s`` seconds after ``at_s`` or at ``eta_s``.

    ``counted`` says whether that is one more of its retries. If ``block`` is not NONE, that block (of
    ``size`` bytes, or the file ``blob``) holds its arguments from now on.
    """

    run: int
    node: int
    index: int
    token: int
    at_s: float
    delay_s: float
    eta_s: float | None
    counted: bool
    text: str
    block: int = NONE
    size: int = 0
    blob: str = ""


class Extended(Struct, frozen=True, array_like=True, tag=9):
    """A canvas was added to a run, by an attempt of element ``index`` of ``node``.

    Its nodes, lists and blocks are numbered behind those that the run has, block k of it as
    ``first_block + k``; in ``graph`` they still count from 0. With ``replaces``, the attempt has ended, and
    the element ends as the value of the graph does. Else that value is one more member of list ``into``.
    ``scope`` is what its blocks are sealed for beside the run.
    """

    run: int
    node: int
    index: int
    token: int
    at_s: float
    scope: bytes
    graph: Graph
    first_block: int
    blocks: list[BlockMeta]
    replaces: bool
    into: int = NONE


class Became(Struct, frozen=True, array_like=True, tag=10, gc=False):
    """An element that was replaced has succeeded: its value is that of ``value``."""

    run: int
    node: int
    lo: int
    hi: int
    """``lo + 1``."""
    value: Slice | Nested
    at_s: float


class Dropped(Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Separate calls of a batch were dropped, each a run of its own to users; the last takes all along."""

    run: int
    lo: int
    hi: int


class Forgotten(Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A finished run was dropped, with its blocks."""

    run: int


class Reprioritised(Struct, frozen=True, array_like=True, tag=12, gc=False):
    """A node of a run has another priority, or (``index``) one element of it."""

    run: int
    node: int
    priority: int
    index: int = NONE


class ScheduleSet(Struct, frozen=True, array_like=True, tag=13):
    """A schedule is this; block number k of its canvas is ``blocks[k]``, under its own number."""

    run: int
    name: str
    id: bytes
    """For which its blocks are sealed."""
    owner: str
    at_s: float
    spec: ScheduleSpec
    graph: Graph
    blocks: list[BlockMeta]


class ScheduleMoved(Struct, frozen=True, array_like=True, tag=14):
    """A schedule has come so far."""

    run: int
    state: ScheduleState


class ScheduleRemoved(Struct, frozen=True, array_like=True, tag=15, gc=False):
    """A schedule was removed, or another definition took its place; its blocks go. Its runs stay."""

    run: int


class Steered(Struct, frozen=True, array_like=True, tag=16):
    """Which queues are paused, and which rates were set over those that tasks have (None: no limit)."""

    run: int
    """Always 0."""
    paused: list[str]
    rates: dict[str, float | None]


PLACES: dict[type, int] = {ScheduleSet: 0, ScheduleMoved: 1, Steered: 0}
"""Where a fact lies among those of its number, if a later one takes its place."""

End = Settled | Ended | Inherited | Became
"""The facts that end elements; each element is named by exactly one of them."""

Fact = (
    Accepted | Leased | Returned | Deferred | Extended | Settled | Ended | Inherited | Became | Dropped
    | Forgotten | Reprioritised | ScheduleSet | ScheduleMoved | ScheduleRemoved | Steered
)  # fmt: skip
