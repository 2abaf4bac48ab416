"""The nouns: states, options, graphs, blocks, engines and time.

Values only. They travel on the wire and lie in the journal as they are, so a field is only ever
added at the end, with a default.

A **graph** is numbered nodes and numbered lists. A **node** is an array of ``size`` elements with
one definition. It comes after nothing, after a node (element i after element i, or every element
after the only one) or after a list (every element after the whole list). A **list** is an ordered
set of slices of nodes and of other lists: the value of a group, and what a chord waits for. A node
or list is an item of at most one list.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

__all__ = [
    "NONE",
    "BlobName",
    "BlockMeta",
    "EngineInfo",
    "Graph",
    "Index",
    "Item",
    "Many",
    "MaybeIndex",
    "Nested",
    "NodeSpec",
    "Now",
    "On",
    "Options",
    "Origin",
    "Slice",
    "State",
    "Text",
]

NONE = -1
"""Stands for "no node", "no list" or "no block" where a number is expected."""

Text = Annotated[str, Meta(max_length=1024)]
"""A short text from a peer."""

Index = Annotated[int, Meta(ge=0, lt=2**31)]
MaybeIndex = Annotated[int, Meta(ge=NONE, lt=2**31)]
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)]
BlobName = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{32})?\Z")]
"""The name of a blob, which is that of its file; empty for none."""


class State(IntEnum):
    """The state of one element; everything from SUCCESS on is terminal."""

    WAITING = 0
    """For a parent."""
    SCHEDULED = 1
    """For its eta or countdown."""
    RETRY = 2
    """Its next attempt is scheduled."""
    QUEUED = 3
    LEASED = 4
    """Granted to an engine, not yet seen to start; shown to users as QUEUED."""
    STARTED = 5
    SUCCESS = 6
    FAILURE = 7
    REVOKED = 8
    SKIPPED = 9
    """A link or errback that was not called for; never shown or counted."""


class On(IntEnum):
    """What has to become of what a node follows, for it to run."""

    SUCCESS = 0
    """It succeeds; else this node ends as it did."""
    LINK = 1
    """It succeeds; else this node is skipped."""
    FAILURE = 2
    """It fails, and that failure is its own: what ``given_node`` or ``given_list`` names has
    succeeded. Else this node is skipped."""
    SETTLED = 3
    """All of it ends; exceptions stand in the places of values."""


class Now(Struct, frozen=True, gc=False):
    """The two clocks, read once for each event; never mixed.

    Args:
        mono_s: Monotonic seconds, for leases, grace periods and countdowns.
        wall_s: Unix time in seconds, for etas, expiry and what users see.
    """

    mono_s: float
    wall_s: float


class Options(Struct, frozen=True, omit_defaults=True, gc=False):
    """How an array is to be run. Times in seconds, instants as Unix time."""

    queue: Annotated[str, Meta(min_length=1, max_length=200)] = "default"
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    """Higher first."""
    eta_s: float | None = None
    countdown_s: float | None = None
    """Counted from the moment at which the element could otherwise be queued."""
    expires_s: float | None = None
    """Counted from the acceptance of the run."""
    expires_at_s: float | None = None
    ignore_result: bool = False
    cancel_grace_s: Annotated[float, Meta(ge=0)] = 0.5
    time_limit_s: Annotated[float, Meta(ge=1e-6)] | None = None
    """An attempt that runs longer is stopped, if need be with its slot, and has failed."""
    soft_time_limit_s: Annotated[float, Meta(ge=1e-6)] | None = None
    """An attempt that runs longer gets SoftTimeLimitExceeded raised in it."""
    rate_limit: Annotated[float, Meta(ge=1e-6)] | None = None
    """Starts per second, over the whole cluster, of tasks of this name."""
    acks_late: bool = True
    """False: at most once. The start is committed before the lease is sent; a lost one has failed."""
    fail_fast: bool = False
    """Whether the first failure of an element cancels the others of its node."""
    shadow: Annotated[str, Meta(max_length=500)] = ""
    """Shown in place of the task's name."""
    result_serializer: Annotated[str, Meta(max_length=100)] = ""
    """How the result is to be serialised; empty for pickle."""
    result_compression: Annotated[str, Meta(max_length=100)] = ""
    """How the result is to be compressed; empty for what pays."""
    label: Annotated[str, Meta(max_length=200)] = ""
    """A word of its user's, by which it is found, cancelled, and told of in events."""


class Slice(Struct, frozen=True, array_like=True, tag="s", gc=False):
    """Elements ``lo`` to ``hi - 1`` of a node."""

    node: Index
    lo: Index
    hi: Index


class Nested(Struct, frozen=True, array_like=True, tag="l", gc=False):
    """A whole list, as one item."""

    number: Index


Item = Slice | Nested


class Many(Struct, frozen=True, array_like=True, tag="m"):
    """A list value, spelt out: each item is the elements of a slice, or a list as one item."""

    items: list[Slice | Many]


class NodeSpec(Struct, frozen=True, omit_defaults=True):
    """One array of a graph, as planned.

    Args:
        task: The name shown to users.
        function: The content address of the function's payload (``payload.seal_function``).
        size: The number of elements.
        after_node: The node that this one follows, or NONE.
        after_list: The list that this one follows, or NONE.
        fed: Whether the value of what it follows is prepended to its arguments.
        shared: Whether one argument set (element 0 of the node's only block) serves all elements.
        options: How to run it.
        ids: Ids that the user gave, by element.
        on: What has to become of what it follows.
        given_node: For ``On.FAILURE`` and ``On.SETTLED``: the node that must have succeeded for the failure
            of what it follows to count as its own (what the guarded part itself followed), or NONE.
        given_list: Likewise, a list.
        told: For an errback that follows a list: the node whose first element's id it is told.
        header: The list of the innermost chord header that this node is a member of, or NONE.
        bare_name: Whether the task is sent by its name alone: only engines that know it can run it.
    """

    task: Annotated[str, Meta(max_length=500)]
    function: Annotated[bytes, Meta(min_length=16, max_length=16)]
    size: Size = 1
    after_node: MaybeIndex = NONE
    after_list: MaybeIndex = NONE
    fed: bool = False
    shared: bool = False
    options: Options = Options()
    ids: dict[Index, Annotated[str, Meta(min_length=1, max_length=200)]] = {}
    on: On = On.SUCCESS
    given_node: MaybeIndex = NONE
    given_list: MaybeIndex = NONE
    told: MaybeIndex = NONE
    header: MaybeIndex = NONE
    bare_name: bool = False


class Graph(Struct, frozen=True, omit_defaults=True):
    """A planned canvas.

    Args:
        nodes: In an order in which nothing comes before what it follows.
        lists: Their items; an item is never a list of a higher or equal number.
        value: A slice of exactly one element (a scalar), or a list. None when ``each``.
        each: Every element of node 0 (the only node) is a run of its own: separate ``delay()``s
            that left the client together.
        before: By list: what the group whose value it is followed, if anything (its result's parent).
    """

    nodes: list[NodeSpec]
    lists: list[list[Item]] = []
    value: Slice | Nested | None = None
    each: bool = False
    before: dict[Index, Slice | Nested] = {}


class BlockMeta(Struct, frozen=True, array_like=True, gc=False):
    """What the hub knows of a block: where its ``n`` elements stand and how many bytes it has.

    ``blob`` is empty when the block lies in the journal, else the name of its file.
    """

    node: Index
    lo: Index
    n: Size
    size: Annotated[int, Meta(ge=0)]
    blob: BlobName = ""


class Origin(Struct, frozen=True, array_like=True, gc=False):
    """What a run that the hub itself made was made from: a schedule's canvas, or a run that is tried again.

    Its arguments are blocks that a client sealed for ``template``. So that a hub cannot pass them off as
    those of a run that a client submitted, its id is made from the template (``core.ids.made_id``).

    Args:
        template: The id for which the client sealed the argument blocks.
        salt: What makes the id of the run differ from others of the template; chosen by a client, or the
            fire time (``core.ids.fire_salt``).
        node: The number that node 0 has in the template.
        schedule: The name of the schedule, if one made it.
        fire_s: The fire time, in Unix time.
    """

    template: Annotated[bytes, Meta(min_length=16, max_length=16)]
    salt: Annotated[bytes, Meta(min_length=16, max_length=16)]
    node: Index = 0
    schedule: Annotated[str, Meta(max_length=200)] = ""
    fire_s: float | None = None


class EngineInfo(Struct, frozen=True):
    """What an engine says of itself when it joins."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    host: Text
    pid: int
    slots: Annotated[int, Meta(ge=1, le=4096)]
    queues: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=1000)]
    python: Text = ""
    nbq: Text = ""
    cloudpickle: Text = ""
    tasks: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=100_000)] = []
    """The names of the tasks that its slots know."""
    least: Annotated[int, Meta(ge=0, le=4096)] = 0
    most: Annotated[int, Meta(ge=0, le=4096)] = 0
    """Between how many slots the hub may scale it; 0 and 0 when it may not."""
    process: bool = False
    """Whether it was started by a command, as a process of its own: it can be told to stop and begin anew."""
