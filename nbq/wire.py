"""Messages between the hub and its peers, and their encoding: the only definition of the protocol.

A message is one frame: eight bytes of session token (zeros before a session exists), then a msgpack
array whose first item says which message it is. Everything that a peer sends is validated here,
against types and bounds, before any other code sees it; what does not fit raises ProtocolError.
Payloads (arguments, results, functions) are opaque bytes here and are never interpreted.

``docs/protocol.md`` describes each message; a test compares the two. Fields are only ever added at
the end, with defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from nbq.blocks import FRAME_LIMIT, Alias, Block, Bytes, Failed, Feed, Kin, args_place, place
from nbq.core.events import Outcome
from nbq.core.facts import Became, Ended, Inherited, Settled
from nbq.core.model import NONE, BlobName, EngineInfo, Graph, Index, MaybeIndex, On, Options, Origin, Text
from nbq.errors import ProtocolError
from nbq.operations import (
    Answer,
    Ask,
    ChangeSchedule,
    EventFilter,
    Events,
    Follow,
    Order,
    PutSchedule,
    Resized,
    SetRate,
    Steer,
    SteerEngine,
    SteerQueue,
)

__all__ = [
    "FRAME_LIMIT",
    "INLINE_LIMIT",
    "NO_SESSION",
    "PROTOCOL",
    "SESSION_BYTES",
    "Abort",
    "Aborting",
    "Accepted",
    "Alias",
    "Answer",
    "Ask",
    "Beat",
    "Began",
    "Block",
    "Cancel",
    "ChangeSchedule",
    "Chunk",
    "Denied",
    "Ends",
    "EventFilter",
    "Events",
    "Failed",
    "Feed",
    "Fetch",
    "Follow",
    "Forget",
    "Found",
    "Functions",
    "GaveBack",
    "Hello",
    "Inputs",
    "Interrupt",
    "Kin",
    "Knows",
    "Lease",
    "Leaving",
    "NeedFunctions",
    "Note",
    "Order",
    "Ping",
    "Pong",
    "PutFunctions",
    "PutSchedule",
    "Recall",
    "Rejected",
    "Report",
    "Request",
    "Resized",
    "Role",
    "Save",
    "SetRate",
    "SlotDied",
    "Stage",
    "Staged",
    "Stale",
    "Steer",
    "SteerEngine",
    "SteerQueue",
    "Stopping",
    "Submit",
    "Taken",
    "ToHub",
    "ToPeer",
    "Unwatch",
    "Upload",
    "Uploaded",
    "Waiting",
    "Watch",
    "Welcome",
    "decode_to_hub",
    "decode_to_peer",
    "encode",
]

PROTOCOL = 1
"""The version of the protocol; a hub and its peers must have the same."""

SESSION_BYTES = 8
NO_SESSION = bytes(SESSION_BYTES)

INLINE_LIMIT = 256 * 1024
"""A block up to this size travels in messages and lies in the journal; a larger one is a file."""

Role = Literal["client", "engine", "viewer"]

RunId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Address = Annotated[bytes, Meta(min_length=16, max_length=16)]
GivenId = Annotated[str, Meta(min_length=1, max_length=200)]
Token = Annotated[int, Meta(ge=0)]


# ------------------------------------------------------------------ peer to hub


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """The first message on a connection. ``token`` proves the role where CURVE does not."""

    protocol: int
    role: Role
    token: Annotated[bytes, Meta(max_length=64)]
    id: Annotated[bytes, Meta(min_length=8, max_length=16)]
    versions: dict[Text, Text]
    engine: EngineInfo | None = None
    held: list[Token] = []
    epoch: int = 0
    """The highest hub epoch that this peer has seen."""


class Ping(Struct, frozen=True, array_like=True, tag=2):
    """Are you there? Sent by clients once a second."""


class PutFunctions(Struct, frozen=True, array_like=True, tag=3):
    """Functions by content address; empty data means the file of that (hexadecimal) name."""

    functions: dict[Address, Bytes]


class Stage(Struct, frozen=True, array_like=True, tag=4):
    """Part of the argument blocks of a run that will be submitted, in order from block ``first``."""

    run: RunId
    first: Index
    blocks: list[Block]


class Submit(Struct, frozen=True, array_like=True, tag=5):
    """Submit a run. Its blocks are the ``staged`` ones sent before, then ``blocks``."""

    run: RunId
    graph: Graph
    blocks: list[Block]
    staged: int = 0
    watch: bool = True


class Watch(Struct, frozen=True, array_like=True, tag=6):
    """Send me the ends of these nodes of a run, from these positions on."""

    run: RunId
    cursors: dict[Index, Annotated[int, Meta(ge=0)]]


class Unwatch(Struct, frozen=True, array_like=True, tag=7):
    """Send me nothing more of this run."""

    run: RunId


class Cancel(Struct, frozen=True, array_like=True, tag=8):
    """Stop a whole run (``node`` NONE) or elements of it. Answered by Answer."""

    request: int
    run: RunId
    node: MaybeIndex = -1
    lo: Index = 0
    hi: Index = 0


class Forget(Struct, frozen=True, array_like=True, tag=9):
    """Drop a finished run, or calls ``lo`` to ``hi - 1`` of a batch of separate ones. Answered by Answer."""

    request: int
    run: RunId
    lo: MaybeIndex = NONE
    hi: MaybeIndex = NONE


class Upload(Struct, frozen=True, array_like=True, tag=11):
    """A chunk of a blob of ``total`` bytes. Answered by Uploaded."""

    name: BlobName
    offset: Annotated[int, Meta(ge=0)]
    total: Annotated[int, Meta(ge=0)]
    data: Bytes


class Fetch(Struct, frozen=True, array_like=True, tag=12):
    """Send me the chunk of a blob at ``offset``. Answered by Chunk."""

    request: int
    name: BlobName
    offset: Annotated[int, Meta(ge=0)]


class Report(Struct, frozen=True, array_like=True, tag=13):
    """Outcomes, with the bytes of their blocks in the same order (empty for none and for blobs).

    ``added`` holds the bytes of the blocks of their additions that are no blobs, and ``functions`` what
    those additions run. Sent again until answered by Taken.
    """

    number: int
    outcomes: list[Outcome]
    blocks: list[Bytes]
    added: list[Bytes] = []
    functions: dict[Address, Bytes] = {}


class GaveBack(Struct, frozen=True, array_like=True, tag=14):
    """Elements of a lease that were not started, given back: (token, lo, hi)."""

    ranges: list[tuple[Token, Index, Index]]


class Began(Struct, frozen=True, array_like=True, tag=15):
    """Elements seen running: (token, index)."""

    running: list[tuple[Token, Index]]


class SlotDied(Struct, frozen=True, array_like=True, tag=16):
    """A slot died while it ran an element; sent again until answered by Taken."""

    number: int
    token: Token
    index: Index
    text: Annotated[str, Meta(max_length=8192)]


class Beat(Struct, frozen=True, array_like=True, tag=17):
    """The engine is alive, holds these leases and uses this much memory. Sent once a second."""

    held: list[Token]
    rss: int = 0


class NeedFunctions(Struct, frozen=True, array_like=True, tag=18):
    """These functions are missing.

    An engine asks (answered by Functions), or the hub does when it gets a Submit that names them (to be
    answered by PutFunctions and the Submit again).
    """

    addresses: list[Address]


class Leaving(Struct, frozen=True, array_like=True, tag=19):
    """The peer is about to go. An engine is granted nothing more; a client is forgotten."""


class Note(Struct, frozen=True, array_like=True, tag=20):
    """A running attempt shows ``state`` in place of STARTED, and ``meta``: a sealed block of one element."""

    token: Token
    index: Index
    state: Annotated[str, Meta(min_length=1, max_length=100)]
    meta: Annotated[bytes, Meta(max_length=64 * 1024 + 1024)]


class Waiting(Struct, frozen=True, array_like=True, tag=21):
    """So many running elements of the engine wait for other tasks: others may run in their stead."""

    count: Annotated[int, Meta(ge=0, le=100_000)]


class Knows(Struct, frozen=True, array_like=True, tag=22):
    """The slots of the engine know the tasks of these names, and no others."""

    tasks: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=100_000)]


class Abort(Struct, frozen=True, array_like=True, tag=23):
    """Ask running elements to end by themselves; what has not started is cancelled. Answered by Answer."""

    request: int
    run: RunId
    node: MaybeIndex = NONE
    lo: Index = 0
    hi: Index = 0


class Save(Struct, frozen=True, array_like=True, tag=24):
    """Keep ``data`` (a result put together by hand) under an id; empty deletes. Answered by Answer."""

    request: int
    id: GivenId
    data: Annotated[bytes, Meta(max_length=FRAME_LIMIT)]


# ------------------------------------------------------------------ hub to peer


class Welcome(Struct, frozen=True, array_like=True, tag=101):
    """The answer to Hello. ``blobs`` is the folder of blobs, for peers on the hub's host only."""

    session: Annotated[bytes, Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    hub: Text
    store: bytes
    epoch: int
    durability: Text
    versions: dict[Text, Text]
    lease_s: float
    blobs: Text = ""


class Denied(Struct, frozen=True, array_like=True, tag=102):
    """The peer may not speak: code is version, key, role, session, malformed or store."""

    code: Text
    text: str


class Pong(Struct, frozen=True, array_like=True, tag=103):
    """The hub is there, and has committed this many turns."""

    commits: int


class Staged(Struct, frozen=True, array_like=True, tag=104):
    """Blocks of a run up to (not including) block ``upto`` are stored."""

    run: RunId
    upto: int


class Accepted(Struct, frozen=True, array_like=True, tag=105):
    """These runs are committed."""

    runs: list[RunId]


class Rejected(Struct, frozen=True, array_like=True, tag=106):
    """A submit (``run``) or a request was refused, without any effect."""

    code: Text
    text: str
    run: Annotated[bytes, Meta(max_length=16)] = b""
    request: int = 0


class Ends(Struct, frozen=True, array_like=True, tag=107):
    """Ends ``start`` to ``stop - 1`` of a node, with the blocks they name.

    ``facts`` may hold ends of other nodes: those that inherited ends name as their cause. ``became`` spells
    out the values of replaced elements, and ``sizes`` holds the sizes of the nodes that those name.
    """

    run: RunId
    node: Index
    start: int
    stop: int
    facts: list[Settled | Ended | Inherited | Became]
    blocks: list[Block]
    became: list[Alias] = []
    sizes: dict[Index, int] = {}


class Found(Struct, frozen=True, array_like=True, tag=109):
    """The run that an id names, and the element if it names one (else ``node`` is NONE)."""

    request: int
    run: RunId
    graph: Graph
    at_s: float
    node: MaybeIndex = -1
    index: Index = 0


class Uploaded(Struct, frozen=True, array_like=True, tag=110):
    """A blob has been stored up to this offset."""

    name: BlobName
    offset: int


class Chunk(Struct, frozen=True, array_like=True, tag=111):
    """A chunk of a blob of ``total`` bytes; 0 when there is no such blob (any more)."""

    request: int
    name: BlobName
    offset: int
    total: int
    data: Bytes


class Lease(Struct, frozen=True, array_like=True, tag=112):
    """Run elements ``lo`` to ``hi - 1`` of a node.

    Args:
        args: The block that holds their arguments (element 0 of it serves all when ``shared``).
        feed: What is prepended to the arguments, or None.
        ids: Given ids of elements, by element.
    """

    token: Token
    run: RunId
    node: Index
    lo: Index
    hi: Index
    attempt: int
    task: str
    function: Address
    args: Block
    shared: bool
    feed: Feed | None
    ignore_result: bool
    cancel_grace_s: float
    ids: dict[Index, str] = {}
    retries: int = 0
    """How many retries there were; ``attempt`` counts lost attempts too."""
    scope: bytes = b""
    """What blocks are sealed for beside the run, if the node belongs to an addition."""
    inner: int = 0
    """The number of the node within that addition."""
    options: Options = Options()
    parent: Kin | None = None
    root: Kin | None = None
    """None: each element is its own."""
    on: On = On.SUCCESS
    """FAILURE: what is fed is not a value but a failure, for an errback."""
    told: str = ""
    """The id that an errback is told; empty for that of the element that failed."""
    header: bool = False
    """Whether a chord header can be extended by its elements."""
    at_s: float = 0.0
    """When the run was accepted, in Unix time."""
    origin: Origin | None = None
    """What the run was made from, if the hub made it."""
    anew: bool = False
    """Whether ``args`` is what an attempt gave for the next, and so sealed for the run itself."""

    @property
    def place(self) -> tuple[bytes, int]:
        """Return run and node that blocks are sealed for (``payload.origin``)."""
        return place(self.run, self.node, self.scope, self.inner)

    @property
    def args_place(self) -> tuple[bytes, int]:
        """Return run and node that ``args`` is sealed for."""
        return args_place(self.run, self.node, self.scope, self.inner, self.origin, self.anew)


class Inputs(Struct, frozen=True, array_like=True, tag=120):
    """Blocks of the feed of a lease that follows, part number ``part`` of them."""

    token: Token
    part: int
    blocks: list[Block]


class Functions(Struct, frozen=True, array_like=True, tag=113):
    """Functions by content address; empty data means the file of that (hexadecimal) name."""

    functions: dict[Address, Bytes]


class Recall(Struct, frozen=True, array_like=True, tag=114):
    """Give back up to ``count`` elements that have not started. Answered by GaveBack."""

    count: int


class Interrupt(Struct, frozen=True, array_like=True, tag=115):
    """Stop elements of leases, (token, lo, hi), and report nothing of them."""

    ranges: list[tuple[Token, Index, Index]]


class Taken(Struct, frozen=True, array_like=True, tag=116):
    """Reports of these numbers are committed."""

    numbers: list[int]


class Stale(Struct, frozen=True, array_like=True, tag=117):
    """These leases are not (or no longer) yours: stop what runs of them and forget them."""

    tokens: list[Token]


class Aborting(Struct, frozen=True, array_like=True, tag=121):
    """Let running elements of leases, (token, lo, hi), know that they are to end by themselves."""

    ranges: list[tuple[Token, Index, Index]]


class Stopping(Struct, frozen=True, array_like=True, tag=119):
    """The hub is stopping; engines run on and wait for it."""


ToHub = (
    Hello | Ping | PutFunctions | Stage | Submit | Watch | Unwatch | Cancel | Forget | Ask | Upload
    | Fetch | Report | GaveBack | Began | SlotDied | Beat | NeedFunctions | Leaving | Note | Waiting
    | Knows | Abort | Save | PutSchedule | ChangeSchedule | Follow | Steer | SteerQueue | SetRate
    | SteerEngine | Resized
)  # fmt: skip
ToPeer = (
    Welcome | Denied | Pong | Staged | Accepted | Rejected | Ends | Answer | Found | Uploaded | Chunk
    | Inputs | Lease | Functions | NeedFunctions | Recall | Interrupt | Taken | Stale | Aborting | Order
    | Stopping | Events
)  # fmt: skip
Request = (
    Ask | Cancel | Forget | Abort | Save | PutSchedule | ChangeSchedule | Follow | Steer | SteerQueue
    | SetRate | SteerEngine
)  # fmt: skip
"""What a client may ask or want, one answer each: by its number, ``request``."""

_encoder = msgspec.msgpack.Encoder()
_to_hub = msgspec.msgpack.Decoder(ToHub)
_to_peer = msgspec.msgpack.Decoder(ToPeer)


def encode(message: ToHub | ToPeer, session: bytes = NO_SESSION) -> bytes:
    """Return the frame of a message."""
    return session + _encoder.encode(message)


def decode_to_hub(frame: bytes | memoryview) -> tuple[bytes, ToHub]:
    """Return session and message of a frame that a peer sent.

    Raises:
        ProtocolError: The frame is not a message of the protocol; the text says where.
    """
    view = memoryview(frame)
    try:
        return bytes(view[:SESSION_BYTES]), _to_hub.decode(view[SESSION_BYTES:])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(f"not a message to a hub: {error}") from None


def decode_to_peer(frame: bytes | memoryview) -> tuple[bytes, ToPeer]:
    """Return session and message of a frame that a hub sent.

    Raises:
        ProtocolError: The frame is not a message of the protocol; the text says where.
    """
    view = memoryview(frame)
    try:
        return bytes(view[:SESSION_BYTES]), _to_peer.decode(view[SESSION_BYTES:])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(f"not a message from a hub: {error}") from None
