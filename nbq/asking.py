"""What a client asks of the hub about runs, and lets it do with them: one request and its answer each.

A part of the ``Link``, which sends requests and waits for answers; nothing here touches a session.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

from nbq import wire
from nbq.blocks import place
from nbq.core.model import NONE, Slice
from nbq.core.views import ElementView, Explanation
from nbq.errors import NbqError, UnknownResult
from nbq.replica import Replica
from nbq.stores.used import UsedStore

__all__ = ["Asking", "M"]

M = TypeVar("M", bound=wire.Request)

_WHY_S = 0.5
"""How much longer a wait that was given up may take, to learn why."""
_ENDED = {"SUCCESS", "FAILURE", "REVOKED"}


class Asking(ABC):
    """The questions and requests of a client."""

    stored = UsedStore("")
    """Where values lie that the hub only names."""

    @abstractmethod
    def answer(self, message: M) -> wire.Answer:
        """Send a request and return its answer; raises as ``Link.ask``."""

    @abstractmethod
    def ask(self, message: M, timeout: float = ...) -> wire.ToPeer:
        """Send a request and wait for its answer."""

    @abstractmethod
    def accepted(self, replica: Replica) -> None:
        """Wait until the hub has acknowledged a run.

        Raises:
            NbqError: It did not take it.
        """

    @abstractmethod
    def complete(self, replica: Replica, nodes: list[int]) -> None:
        """Wait until it is known how all elements of nodes ended, which have."""

    def _learn_stored(self, replica: Replica) -> None:
        """Have the replica of a finished run know which blocks lie in the store."""
        rows = self.rows(replica)
        if replica.graph is None or not all(_ENDED.issuperset(row) for row in rows):
            return  # the hub says why it cannot be forgotten
        sizes = [spec.size for spec in replica.graph.nodes]
        # Of a node that was skipped in part, the rest expires.
        whole = [
            n for n, (row, size) in enumerate(zip(rows, sizes, strict=False)) if sum(row.values()) == size
        ]
        self.complete(replica, whole)

    def element(self, replica: Replica, node: int, index: int) -> ElementView:
        """Return what the hub knows of an element, after its run was acknowledged."""
        return self._element(replica, node, index).elements[0]

    def _element(self, replica: Replica, node: int, index: int) -> wire.Answer:
        self.accepted(replica)
        return self.answer(wire.Ask(0, "element", run=replica.run, node=node, index=index))

    def note(self, replica: Replica, node: int, index: int) -> Any:
        """Return what a running element last showed of itself; None for nothing."""
        answer = self._element(replica, node, index)
        if not answer.note:
            return None
        (view,) = answer.elements
        where = place(replica.run, node, view.scope, view.inner)
        return replica.note(where, index, answer.note)

    def explain(self, text: str, timeout: float | None = None) -> Explanation:
        """Return why what an id names is where it is.

        Raises:
            UnknownResult: The hub has nothing of this id (any more).
            HubUnreachable: It does not answer in time.
        """
        answer = self.ask(wire.Ask(0, "explain", text), *([] if timeout is None else [timeout]))
        assert isinstance(answer, wire.Answer)
        return Explanation(text, answer.reasons)

    def why(self, text: str, waited_s: float | None) -> str:
        """Return that as the end of a message, after such a wait; nothing if the hub does not say at once."""
        if not waited_s:
            return ""  # it was only looked at
        try:
            return f". {self.explain(text, _WHY_S)}"
        except NbqError:
            return ""

    def saved(self, own: str) -> bytes:
        """Return what is kept at the hub under an id; nothing if there is nothing (any more)."""
        try:
            return self.answer(wire.Ask(0, "saved", own)).saved
        except UnknownResult:
            return b""

    def counts(self, replica: Replica, nodes: Iterable[int]) -> dict[str, int]:
        """Return how many elements of nodes are in each state, after their run was acknowledged."""
        totals: dict[str, int] = {}
        rows = self.rows(replica)
        for number in nodes:
            for state, count in rows[number].items():
                totals[state] = totals.get(state, 0) + count
        return totals

    def rows(self, replica: Replica) -> list[dict[str, int]]:
        """Return by node how many elements are in each state, after the run was acknowledged."""
        self.accepted(replica)
        return self.answer(wire.Ask(0, "nodes", run=replica.run)).nodes

    def cancel(self, replica: Replica, node: int, lo: int, hi: int) -> int:
        """Stop elements of a run; returns how many tasks that ended, with those that follow them."""
        self.accepted(replica)
        return self.answer(wire.Cancel(0, replica.run, node, lo, hi)).count

    def abort(self, replica: Replica, node: int, lo: int, hi: int) -> int:
        """Ask elements of a run to end by themselves; returns how many there were to ask."""
        self.accepted(replica)
        return self.answer(wire.Abort(0, replica.run, node, lo, hi)).count

    def save(self, own: str, data: bytes) -> int:
        """Keep data at the hub under an id, or (empty) delete it; returns how many there were to change."""
        return self.answer(wire.Save(0, own, data)).count

    def forget(self, replica: Replica, calls: Slice | None = None) -> None:
        """Let the hub drop a finished run, and the result store its values.

        Args:
            replica: The run.
            calls: Which are meant of a batch of separate calls; None for all. The values of a batch share
                blocks, so the store drops them when the last of the calls is forgotten.

        Raises:
            ResultStoreError: The store does not answer; the hub has dropped the run all the same.
        """
        self.accepted(replica)
        if self.stored:
            self._learn_stored(replica)
        lo, hi = (NONE, NONE) if calls is None else (calls.lo, calls.hi)
        gone = self.answer(wire.Forget(0, replica.run, lo, hi)).count
        if gone and self.stored and replica.stored:
            self.stored.opened().delete(replica.stored)
