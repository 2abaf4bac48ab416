"""Blocks as they travel, and what leased elements are fed of them. Parts of messages; values only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nbq.core.ids import made_id
from nbq.core.model import NONE, BlobName, BlockMeta, Index, Many, MaybeIndex, Origin, Slice, Text

__all__ = ["FRAME_LIMIT", "Alias", "Block", "Bytes", "Failed", "Feed", "Kin", "args_place", "place"]

FRAME_LIMIT = 1024 * 1024 + 64 * 1024
"""Bytes of one frame, enforced by ZeroMQ before authentication (design, section 6)."""

Bytes = Annotated[bytes, Meta(max_length=FRAME_LIMIT)]


def place(run: bytes, node: int, scope: bytes, inner: int) -> tuple[bytes, int]:
    """Return run and node that blocks are sealed for (``payload.origin``).

    Those of an addition are sealed for its scope and the number of their node within it, and for its run, so
    that nothing of another run can be shown in their place.
    """
    return (run + scope, inner) if scope else (run, node)


def args_place(
    run: bytes, node: int, scope: bytes, inner: int, origin: Origin | None, anew: bool
) -> tuple[bytes, int]:
    """Return run and node that the argument block of a node is sealed for.

    Args:
        run: The run.
        node: The node.
        scope: That of the addition that it belongs to.
        inner: Its number in that.
        origin: What the run was made from, if a hub made it. One that does not lead to the id of the run
            counts for nothing, and the block will not open.
        anew: Whether an attempt gave these arguments for the next, and so sealed them for the run.
    """
    if origin is None or anew or scope or made_id(origin.template, origin.salt) != run:
        return place(run, node, scope, inner)
    return origin.template, origin.node + node


class Block(Struct, frozen=True, array_like=True):
    """A sealed block of ``n`` elements from element ``lo`` of a node.

    ``data`` is empty when the block is the file ``blob`` of ``size`` bytes. In a feed, elements
    ``use_lo`` to ``use_hi - 1`` of the node have their values in this block; it may hold others that
    were not taken. ``number`` is that of ``Settled.block``.
    """

    node: Index
    lo: Index
    n: Annotated[int, Meta(ge=1, lt=2**31)]
    data: Bytes
    size: Annotated[int, Meta(ge=0)]
    blob: BlobName = ""
    number: MaybeIndex = -1
    use_lo: Index = 0
    use_hi: Index = 0
    scope: Annotated[bytes, Meta(max_length=16)] = b""
    """What it was sealed for beside the run, if it belongs to an addition (``core.events.Addition``)."""
    inner: Index = 0
    """The number of its node within that addition."""
    store: Text = ""
    """The result store that holds it under the name ``blob``, if one does."""

    def place(self, run: bytes) -> tuple[bytes, int]:
        """Return run and node to unseal it for (``payload.origin``)."""
        return place(run, self.node, self.scope, self.inner)

    def meta(self) -> BlockMeta:
        """Return what the scheduler may know of this block."""
        return BlockMeta(self.node, self.lo, self.n, self.size, self.blob)


class Failed(Struct, frozen=True, array_like=True):
    """Elements ``lo`` to ``hi - 1`` of a node did not succeed.

    The failure is that of element ``cause_index`` (NONE: of the same index) of ``cause_node``: in a block,
    or ``code`` (as in ``core.facts.Ended``) and ``text``. ``id`` is the id of that element if a user gave it.
    """

    node: Index
    lo: Index
    hi: Index
    cause_node: Index
    cause_index: MaybeIndex = NONE
    code: Text = ""
    text: str = ""
    id: Text = ""


class Alias(Struct, frozen=True, array_like=True):
    """An element that was replaced: its value is that of ``value``."""

    node: Index
    index: Index
    value: Slice | Many


class Kin(Struct, frozen=True, array_like=True):
    """The parent or root of leased elements: element ``index`` of a node, or (NONE) that of the same index.

    ``ids`` holds those that users gave, by element.
    """

    node: Index
    index: MaybeIndex = NONE
    ids: dict[Index, str] = {}


class Feed(Struct, frozen=True, array_like=True):
    """What is prepended to the arguments of a leased element.

    Args:
        each: Element i is fed the value of element i of ``value`` (then a slice for the lease).
        value: A slice of one element (a scalar), a slice for ``each``, or a list.
        blocks: The outcome blocks that hold the values; one may hold more than is used.
        parts: How many Inputs messages of the same token, sent before, hold further blocks.
        failed: Those elements of the value that did not succeed (for errbacks, and where exceptions stand
            in the places of values).
        became: Those elements of the value that were replaced.
    """

    each: bool
    value: Slice | Many
    blocks: list[Block]
    parts: int = 0
    failed: list[Failed] = []
    became: list[Alias] = []
