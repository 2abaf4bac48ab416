"""What a supervisor and a slot say to each other, over a socket pair, and the page that they share.

Frames are a length and a msgpack array. The page is a few numbers in shared memory that both sides
read without asking: where the slot is, what it must not start, and what it must stop. Elements are
counted by **position**: a number that grows by one for each element that a slot is given.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from nbq.blocks import args_place, place
from nbq.core.events import Again
from nbq.core.model import NONE, Graph, On, Options, Origin
from nbq.wire import Block, Feed, Kin

__all__ = [
    "ABORT",
    "BEGAN",
    "BLOCKED_FROM",
    "BLOCKED_TO",
    "HALT",
    "LIMIT",
    "POSITION",
    "REACHED",
    "SOFT",
    "Added",
    "Bye",
    "Feeding",
    "Finished",
    "FromSlot",
    "FunctionBody",
    "Hello",
    "Init",
    "Noted",
    "Pipe",
    "Results",
    "ToSlot",
    "WaitAnswer",
    "Waits",
    "Work",
    "make_page",
    "open_page",
]

POSITION, BLOCKED_FROM, BLOCKED_TO, HALT, REACHED, SOFT, ABORT, LIMIT, BEGAN = range(9)
"""Words of the page: the position that runs (0 for none); positions from the second word up to, not
including, the third must not be started; the position that is to be stopped; the last position that ran
or was about to; the position whose soft time limit has passed; the position that is to end by itself; the
position that is to be stopped because its time limit has passed; when the function of the running position
was called, in microseconds of the monotonic clock, if it has limits and was called yet."""

_WORDS = 9
_READ_BYTES = 1 << 18


class Init(Struct, frozen=True, array_like=True, tag=1):
    """The first frame to a slot."""

    payload_key: bytes
    engine: str
    include: list[str]
    sys_path: list[str]
    cwd: str
    element_limit: int


class FunctionBody(Struct, frozen=True, array_like=True, tag=2):
    """A function, before the first work that names it; empty if it is a blob."""

    address: bytes
    payload: bytes
    blobs: str


class Feeding(Struct, frozen=True, array_like=True, tag=3):
    """The feed of a lease, before the first work of it."""

    token: int
    run: bytes
    feed: Feed
    blobs: str


class Work(Struct, frozen=True, array_like=True, tag=4):
    """Run elements ``lo`` to ``hi - 1`` of a lease.

    ``calls`` are their arguments (one for all when ``shared``); None when they are one blob.
    """

    position: int
    token: int
    run: bytes
    node: int
    lo: int
    hi: int
    attempt: int
    task: str
    function: bytes
    calls: list[bytes] | None
    shared: bool
    blob: str
    blobs: str
    ignore_result: bool
    ids: dict[int, str]
    retries: int = 0
    scope: bytes = b""
    inner: int = 0
    options: Options = Options()
    parent: Kin | None = None
    root: Kin | None = None
    on: On = On.SUCCESS
    told: str = ""
    header: bool = False
    at_s: float = 0.0
    serializer: str = ""
    """Of ``calls``; empty for pickle."""
    trouble: str = ""
    """Why ``calls`` could not be taken from their block, where that is not its seal."""
    origin: Origin | None = None
    anew: bool = False

    @property
    def place(self) -> tuple[bytes, int]:
        """Return run and node that blocks are sealed for (``payload.origin``)."""
        return place(self.run, self.node, self.scope, self.inner)

    @property
    def args_place(self) -> tuple[bytes, int]:
        """Return run and node that the block of its arguments is sealed for."""
        return args_place(self.run, self.node, self.scope, self.inner, self.origin, self.anew)

    @property
    def limited(self) -> bool:
        """Return whether its elements have time limits."""
        return self.options.time_limit_s is not None or self.options.soft_time_limit_s is not None


class Bye(Struct, frozen=True, array_like=True, tag=5):
    """End."""


class WaitAnswer(Struct, frozen=True, array_like=True, tag=6):
    """The answer to Waits: others run meanwhile, or (``limit``) so many wait already and no more may."""

    limit: int = NONE


class Hello(Struct, frozen=True, array_like=True, tag=11):
    """The slot is ready, or what it was to import failed (``trouble``)."""

    pid: int
    trouble: str = ""
    tasks: list[str] = []
    """The names of the tasks that it knows."""


class Added(Struct, frozen=True, array_like=True):
    """A planned canvas that an attempt adds to its run (``core.events.Addition``), with its bytes."""

    scope: bytes
    graph: Graph
    blocks: list[Block]
    replaces: bool
    functions: dict[bytes, bytes]


class Results(Struct, frozen=True, array_like=True, tag=12):
    """Elements ``lo`` to ``hi - 1`` of a lease ended.

    ``elements`` holds values and failures; for one large value it is empty and ``blob`` is its file.
    """

    token: int
    lo: int
    hi: int
    states: bytes
    elements: list[bytes]
    started_s: float
    seconds: list[float]
    errors: dict[int, str]
    output: dict[int, tuple[str, str]]
    blob: str = ""
    size: int = 0
    serializer: str = ""
    """Of the elements; empty for pickle."""
    compression: str = ""
    """How their block is to be compressed; empty for what pays."""
    again: Again | None = None
    """What a retry asks for; ``elements`` then holds its new arguments, if they are others."""
    added: list[Added] = []
    store: str = ""
    """The result store to which ``blob`` was written; empty for none."""
    children: list[str] = []
    """Ids of the runs that the (only) element submitted."""


class Noted(Struct, frozen=True, array_like=True, tag=14):
    """The running element shows a state of its own, and a value: a sealed block."""

    token: int
    index: int
    state: str
    meta: bytes


class Waits(Struct, frozen=True, array_like=True, tag=15):
    """The running element begins (answered by WaitAnswer) or ends to wait for other tasks."""

    on: bool


class Finished(Struct, frozen=True, array_like=True, tag=13):
    """The slot has come to the end of one Work."""

    position: int


ToSlot = Init | FunctionBody | Feeding | Work | Bye | WaitAnswer
FromSlot = Hello | Results | Noted | Waits | Finished

_encoder = msgspec.msgpack.Encoder()
_to_slot = msgspec.msgpack.Decoder(ToSlot)
_from_slot = msgspec.msgpack.Decoder(FromSlot)


class Pipe:
    """One end of the socket pair. The slot's end blocks; the supervisor's does not."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._in = bytearray()
        self._out = bytearray()

    def send(self, message: ToSlot | FromSlot) -> None:
        """Send a message; what a non-blocking end cannot take yet is kept for ``flush``."""
        body = _encoder.encode(message)
        if self._out:
            self._out += len(body).to_bytes(4, "little") + body
            self.flush()
            return
        frame = len(body).to_bytes(4, "little") + body
        try:
            sent = self.sock.send(frame)
        except BlockingIOError:
            sent = 0
        if sent < len(frame):
            self._out += frame[sent:]
            self.flush()

    def flush(self) -> bool:
        """Send what is left over; returns whether nothing is."""
        while self._out:
            try:
                del self._out[: self.sock.send(self._out)]
            except BlockingIOError:
                return False
        return True

    def read(self) -> bool:
        """Take in what there is (the blocking end waits for something); False at the end."""
        try:
            data = self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        self._in += data
        return bool(data)

    def to_slot(self) -> Iterator[ToSlot]:
        """Yield the messages taken in, at the slot's end."""
        for body in self._bodies():
            yield _to_slot.decode(body)

    def from_slot(self) -> Iterator[FromSlot]:
        """Yield the messages taken in, at the supervisor's end."""
        for body in self._bodies():
            yield _from_slot.decode(body)

    def _bodies(self) -> Iterator[bytes]:
        while len(self._in) >= 4:
            size = int.from_bytes(self._in[:4], "little")
            if len(self._in) < 4 + size:
                return
            body = bytes(self._in[4 : 4 + size])
            del self._in[: 4 + size]
            yield body


def make_page() -> tuple[int, mmap.mmap]:
    """Return descriptor and mapping of a new page of zeros."""
    handle = os.memfd_create("nbq-slot") if hasattr(os, "memfd_create") else _unnamed_file()
    os.ftruncate(handle, mmap.PAGESIZE)
    return handle, mmap.mmap(handle, mmap.PAGESIZE)


def _unnamed_file() -> int:
    import tempfile  # only where there are no memory files

    handle, path = tempfile.mkstemp()
    Path(path).unlink()
    return handle


def open_page(handle: int) -> memoryview:
    """Return the words of a page."""
    return memoryview(mmap.mmap(handle, mmap.PAGESIZE)).cast("Q")[:_WORDS]
