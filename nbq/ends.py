"""Waiting for elements of any number of runs: what is known of their ends, taken note of once.

The connection notes which node of which followed run has news (``Link.follow``); only that is looked at
again. Called by one thread at a time: the one that waits, or the connection's under its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from nbq.core.model import Slice, State
from nbq.errors import NbqError
from nbq.replica import Replica

if TYPE_CHECKING:
    from nbq.link import Link

__all__ = ["Ends", "Part"]

Part = tuple[Replica, Slice]

_SUCCESS = int(State.SUCCESS)


class _Node:
    """The wanted elements of one node."""

    __slots__ = ("left", "node", "number", "replica", "seen", "wanted")

    def __init__(self, replica: Replica, number: int, size: int, slices: list[Slice]) -> None:
        self.replica = replica
        self.number = number
        self.node = replica.node(number)
        self.seen = 0
        """How many facts of the node have been looked at."""
        self.wanted: bytearray | None = None
        """Which elements are; None for all."""
        self.left = size
        if slices != [Slice(number, 0, size)]:
            wanted = bytearray(size)
            for part in slices:
                wanted[part.lo : part.hi] = b"\1" * (part.hi - part.lo)
            self.left = wanted.count(1)
            self.wanted = wanted if self.left < size else None

    def news(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of wanted elements that have become known to have ended."""
        facts, wanted = self.node.facts, self.wanted
        while self.seen < len(facts):
            fact = facts[self.seen]
            self.seen += 1
            if wanted is None:
                yield fact.lo, fact.hi
                continue
            at = wanted.find(1, fact.lo, fact.hi)
            while at >= 0:
                end = wanted.find(0, at, fact.hi)
                end = fact.hi if end < 0 else end
                yield at, end
                at = wanted.find(1, end, fact.hi)


class Ends:
    """What is known of the ends of some elements. Used as a context: news is taken in within it.

    Args:
        link: The connection that has their replicas; None if there are no parts.
        parts: The elements.
        keep: Whether ``fresh`` is filled.

    Attributes:
        left: How many are not known to have ended.
        bad: Whether one is known that did not succeed.
        error: Why nothing more will be known of some of them, if so.
        fresh: What ended since somebody emptied this: replica, node, and range of elements.
    """

    def __init__(self, link: Link | None, parts: Iterable[Part], *, keep: bool = False) -> None:
        self._link = link
        self._keep = keep
        self._news: deque[tuple[bytes, int]] = deque()
        self._closed = False
        self.replicas: dict[bytes, Replica] = {}
        self._nodes: dict[bytes, dict[int, _Node]] = {}
        """Those with elements that are not known to have ended."""
        self.left = 0
        self.bad = False
        self.error: NbqError | None = None
        self.fresh: deque[tuple[Replica, int, int, int]] = deque()
        slices: dict[tuple[bytes, int], list[Slice]] = {}
        for replica, part in parts:
            self.replicas[replica.run] = replica
            slices.setdefault((replica.run, part.node), []).append(part)
        for (run, number), wanted in slices.items():
            assert link is not None
            replica = self.replicas[run]
            node = _Node(replica, number, link.graph(replica).nodes[number].size, wanted)
            self._nodes.setdefault(run, {})[number] = node
            self.left += node.left

    def __enter__(self) -> Self:
        """Let the hub send the ends, and take note of news."""
        if self._link is not None:
            for run, nodes in self._nodes.items():
                self._link.watch(self.replicas[run], sorted(nodes))
            self._link.follow(self.replicas, self._news)
        for run in list(self._nodes):
            self._look_at(run)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Take in no more news; whoever still asks is told that the wait is over."""
        self._closed = True
        if self._link is not None:
            self._link.unfollow(self.replicas, self._news)

    # -------------------------------------------------------------- questions

    def ended(self) -> bool:
        """Return whether all have ended, or nothing more will be known."""
        self._look()
        return self.left == 0 or self.error is not None or self._closed

    def settled(self) -> bool:
        """Return whether all have ended or one has not succeeded, or nothing more will be known."""
        return self.ended() or self.bad

    def stirred(self) -> bool:
        """Return whether there is something in ``fresh``, or will never be."""
        return self.ended() or bool(self.fresh)

    def over(self, run: bytes) -> bool:
        """Return whether all of one run have ended."""
        return run not in self._nodes

    # -------------------------------------------------------------- news

    def _look(self) -> None:
        while self._news:
            run, number = self._news.popleft()
            node = self._nodes.get(run, {}).get(number)
            if node is None:
                self._look_at(run)  # the run itself, or what a replaced element became
            else:
                self._take(run, node)

    def _look_at(self, run: bytes) -> None:
        self.error = self.error or self.replicas[run].error
        for node in list(self._nodes.get(run, {}).values()):
            self._take(run, node)

    def _take(self, run: bytes, node: _Node) -> None:
        state = node.node.state
        for lo, hi in node.news():
            node.left -= hi - lo
            self.left -= hi - lo
            self.bad = self.bad or state.count(_SUCCESS, lo, hi) < hi - lo
            if self._keep:
                self.fresh.append((node.replica, node.number, lo, hi))
        if node.left == 0:
            nodes = self._nodes[run]
            del nodes[node.number]
            if not nodes:
                del self._nodes[run]
