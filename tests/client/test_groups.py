"""Handles of groups know when their own members have ended, in whatever order that is."""

from __future__ import annotations

import mmap

from nbq.canvas.tree import Branch
from nbq.core.facts import Ended, Settled
from nbq.core.model import Graph, NodeSpec, Slice, State
from nbq.replica import Replica
from nbq.results import GroupResult


def _no_blobs(name: str) -> mmap.mmap:
    raise AssertionError(f"nobody asks for blob {name}")


def test_members_that_end_in_any_order_are_all_waited_for_and_no_others() -> None:
    replica = Replica(b"r" * 16, Graph([NodeSpec("t", b"f" * 16, 4)]), b"", _no_blobs)
    first, last = Slice(0, 0, 2), Slice(0, 2, 4)
    whole = GroupResult(None, replica, Branch(0, [first, last], [0, 2, 4]))  # type: ignore[arg-type]
    part = GroupResult(None, replica, Branch(0, [first], [0, 2]))  # type: ignore[arg-type]
    seen = [(whole._ended(), whole._first_bad(), part._ended())]
    for lo in (2, 0, 1):
        replica.add([Settled(1, 0, lo, lo + 1, 1, b"", -1, 0, "", 0.0, "e", 0.0)], [])
        seen.append((whole._ended(), whole._first_bad(), part._ended()))
    replica.add([Ended(1, 0, 3, 4, State.REVOKED, "cancelled", "", 0.0)], [])
    seen.append((whole._ended(), whole._first_bad(), part._ended()))
    assert seen == [
        (False, None, False),
        (False, None, False),
        (False, None, False),
        (False, None, True),
        (True, (0, 3), True),
    ]
