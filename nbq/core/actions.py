"""Actions: what the scheduler asks the hub to do; all but grants after its facts are committed."""

from __future__ import annotations

from msgspec import Struct

from nbq.core.model import NONE

__all__ = [
    "Abort",
    "Action",
    "Copy",
    "Discard",
    "Disown",
    "Done",
    "Grant",
    "Interrupt",
    "Keep",
    "Recall",
    "Reject",
    "Resize",
]


class Grant(Struct, frozen=True, gc=False):
    """Lease elements to an engine: send it what it needs to run them.

    ``after_commit`` says that it may not leave before the fact is committed (``acks_late=False``).
    """

    engine: bytes
    run: int
    node: int
    lo: int
    hi: int
    token: int
    attempt: int
    after_commit: bool = False


class Recall(Struct, frozen=True, gc=False):
    """Ask an engine for up to ``count`` elements that it has not started."""

    engine: bytes
    count: int


class Interrupt(Struct, frozen=True, gc=False):
    """Tell an engine to stop elements of a lease, running or not."""

    engine: bytes
    token: int
    lo: int
    hi: int


class Abort(Struct, frozen=True, gc=False):
    """Let running elements of a lease know that they are to end by themselves."""

    engine: bytes
    token: int
    lo: int
    hi: int


class Keep(Struct, frozen=True, gc=False):
    """Store a block of the message in hand: number ``source`` there, number ``block`` of the run."""

    run: int
    block: int
    source: int


class Reject(Struct, frozen=True):
    """The event in hand was refused, without any effect."""

    code: str
    text: str


class Disown(Struct, frozen=True):
    """Tell an engine that these leases are not its own (any more)."""

    engine: bytes
    tokens: list[int]


class Discard(Struct, frozen=True):
    """Delete these blobs and functions: the runs that named them are forgotten.

    And the blocks that are stored for run ``run``, which is none.
    """

    blobs: list[str]
    functions: list[bytes]
    run: int = NONE


class Copy(Struct, frozen=True, gc=False):
    """Store a block of a run (or schedule) once more, as block ``block`` of run ``run``."""

    run: int
    block: int
    of_run: int
    of_block: int


class Done(Struct, frozen=True):
    """What somebody wanted done with many elements is done: with so many; ``runs`` were made.

    ``text`` says why not all of it was, if it was not.
    """

    ticket: int
    count: int
    runs: list[bytes]
    text: str = ""


class Resize(Struct, frozen=True, gc=False):
    """Ask an engine to have so many slots, if these are still its bounds."""

    engine: bytes
    slots: int
    least: int
    most: int


Action = (
    Abort | Copy | Discard | Disown | Done | Grant | Recall | Interrupt | Keep | Reject | Resize
)  # fmt: skip
