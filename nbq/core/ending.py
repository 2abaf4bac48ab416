"""Elements that the hub itself ends: cancelled, expired, lost or refused ones."""

from __future__ import annotations

from nbq.core.actions import Abort, Interrupt
from nbq.core.decided import Decided
from nbq.core.facts import Ended
from nbq.core.granting import Granting
from nbq.core.model import NONE, Nested, Now, State
from nbq.core.runs import Node, Run, spans

__all__ = ["Ending"]

_HELD = (State.LEASED, State.STARTED)
_LATER = (State.QUEUED, State.SCHEDULED, State.RETRY)
_FREE = (State.WAITING, State.SCHEDULED, State.RETRY, State.QUEUED)


class Ending:
    """Ends elements, and lets engines know."""

    def __init__(self, decided: Decided, granting: Granting) -> None:
        self._decided = decided
        self._granting = granting
        self._failed: list[tuple[Run, Node]] = []

    def revoke(
        self, run: Run, node: Node, lo: int, hi: int, code: str, text: str, now: Now, *, held: bool = True
    ) -> None:
        """Revoke what has not ended; with ``held`` also what an engine holds.

        What an element was replaced by goes with it; without ``held`` neither does, for it has begun. A
        link or errback that waits is skipped.
        """
        if not held:
            for a, b in node.not_replaced(lo, hi):
                self._revoke(run, node, a, b, code, text, now, _FREE)
            return
        for part, a, b in run.reach(node, lo, hi):
            self._revoke(run, part, a, b, code, text, now, (*_FREE, *_HELD))

    def _revoke(
        self, run: Run, node: Node, lo: int, hi: int, code: str, text: str, now: Now,
        values: tuple[State, ...],
    ) -> None:  # fmt: skip
        for value in values:
            skipped = node.aside and value == State.WAITING
            if skipped and code == "expired":
                continue  # it may never be called for; if it is, it expires then
            for a, b in list(spans(node.state, lo, hi, value)):
                if value in _LATER:
                    self._granting.removed(node, b - a, value)
                elif value in _HELD:
                    for engine, token, c, d in self._open(run, node, a, b):
                        self._decided.act(Interrupt(engine, token, c, d))
                state, why = (State.SKIPPED, "skipped") if skipped else (State.REVOKED, code)
                self._decided.emit(Ended(run.number, node.number, a, b, state, why, text, now.wall_s))

    def expire(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        """Revoke elements that could start now, but are too late."""
        fact = Ended(run.number, node.number, lo, hi, State.REVOKED, "expired", "expired", now.wall_s)
        self._decided.emit(fact)

    def fail(self, run: Run, node: Node, lo: int, hi: int, code: str, text: str, now: Now) -> None:
        """Let elements fail that no engine holds or will report."""
        fact = Ended(run.number, node.number, lo, hi, State.FAILURE, code, text, now.wall_s)
        self._decided.emit(fact)
        self.failed(run, node)

    def failed(self, run: Run, node: Node) -> None:
        """Take notice that an element of a node failed."""
        if node.spec.options.fail_fast:
            self._failed.append((run, node))

    def fail_fast(self, now: Now) -> bool:
        """Cancel what runs beside failures that are to end their groups; what follows those has ended.

        Returns:
            Whether there was any such failure.
        """
        some = bool(self._failed)
        text = "another member of its group failed (fail_fast)"
        while self._failed:
            run, node = self._failed.pop()
            for number in self._beside(run, node):
                beside = run.nodes[number]
                self.revoke(run, beside, 0, beside.spec.size, "cancelled", text, now)
        return some

    def _beside(self, run: Run, node: Node) -> list[int]:
        """Return the nodes of the group that a node belongs to, with the steps that lead to its members."""
        found: dict[int, None] = {}
        end = node
        while end.home == NONE:
            later = (run.nodes[number] for number in end.consumers)
            steps = [n for n in later if n.spec.after_node == end.number and not n.aside]
            if len(steps) != 1 or steps[0].spec.size != node.spec.size:
                break
            end = steps[0]
        pending = [Nested(end.home)] if end.home != NONE else []
        pending_nodes = [] if pending else [end.number]
        while pending:
            for item in run.graph.lists[pending.pop().number]:
                if isinstance(item, Nested):
                    pending.append(item)
                else:
                    pending_nodes.append(item.node)
        for last in pending_nodes:
            number = last
            while number != NONE and run.nodes[number].spec.size == run.nodes[last].spec.size:
                if run.nodes[number].left == 0:
                    break  # it, and so what it follows, has ended
                found[number] = None
                number = run.nodes[number].spec.after_node
        return list(found)

    def abort(self, run: Run, node: Node, lo: int, hi: int, now: Now) -> None:
        """Ask what runs to end by itself; cancel what has not started."""
        self.revoke(run, node, lo, hi, "cancelled", "aborted before it started", now, held=False)
        for value in _HELD:
            for a, b in list(spans(node.state, lo, hi, value)):
                for engine, token, c, d in self._open(run, node, a, b):
                    self._decided.act(Abort(engine, token, c, d))

    def _open(self, run: Run, node: Node, lo: int, hi: int) -> list[tuple[bytes, int, int, int]]:
        """Return engine, token and range of what is leased of a node."""
        return [
            (lease.engine, lease.token, a, b)
            for lease in run.held(node, lo, hi)
            for a, b in lease.ranges(lo, hi)
        ]
