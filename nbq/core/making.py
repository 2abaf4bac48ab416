"""Runs begin here: those that clients submit, and those that the hub makes of a template.

A run that the hub makes has copies of blocks that a client sealed for the template (``model.Origin``); blobs
it only names, and they are discarded with the last that names them. Nothing here decides whether or when a
run is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nbq.core.actions import Copy, Discard
from nbq.core.deadlines import Deadlines
from nbq.core.decided import Decided
from nbq.core.facts import Accepted
from nbq.core.following import expiry_s
from nbq.core.ids import made_id
from nbq.core.model import NONE, BlockMeta, Graph, Now, Origin
from nbq.core.runs import Node, Run

__all__ = ["Making"]


class Making:
    """Makes runs, and lets go of what forgotten ones named."""

    def __init__(self, decided: Decided, deadlines: Deadlines) -> None:
        self._decided = decided
        self._ledger = decided.ledger
        self._deadlines = deadlines

    def make(
        self,
        origin: Origin,
        owner: str,
        graph: Graph,
        blocks: list[BlockMeta],
        sources: Sequence[tuple[int, int]],
        now: Now,
        number: int = NONE,
        begin: bytes = b"",
    ) -> Run:
        """Make a run of a template, or return the one that was made of it with the same salt.

        Args:
            origin: What it is made from.
            owner: Whose it is.
            graph: Its canvas.
            blocks: Its argument blocks; their elements stand where they stood when they were sealed.
            sources: Where each of them is stored: the number of a run or schedule, and of a block of it.
            now: The time.
            number: The number that was reserved for it, if its blocks are stored under that already.
            begin: How the elements of its first node begin (``Accepted.begin``).
        """
        run_id = made_id(origin.template, origin.salt)
        made = self._ledger.by_id.get(run_id)
        if made is not None:
            return made
        stored = number != NONE
        number = number if stored else self._ledger.reserve()
        self._decided.emit(Accepted(number, run_id, owner, now.wall_s, graph, blocks, origin, begin))
        for place, block in enumerate(blocks):
            if not stored and not block.blob:
                self._decided.act(Copy(number, place, *sources[place]))
        run = self._ledger.runs[number]
        self.begin(run)
        return run

    def begin(self, run: Run) -> None:
        """Let the elements of a new run that follow nothing start, and watch what expires."""
        for node in run.nodes:
            self.watch_expiry(run, node)
            if node.spec.after_node == NONE and node.spec.after_list == NONE:
                self._ledger.wakes.append((run, node.number, 0, node.spec.size))

    def watch_expiry(self, run: Run, node: Node) -> None:
        """Let what has not started of a node expire in time."""
        at_s = expiry_s(run, node.spec)
        if at_s is not None and node.left:
            self._deadlines.at_wall(at_s, ("expire", run.number, node.number, 0, node.spec.size))

    def let_go(self, blobs: Iterable[str], functions: Iterable[bytes], template: bytes = b"") -> None:
        """Discard what nobody names any more.

        Args:
            blobs: Those that a forgotten run or removed schedule named.
            functions: Likewise.
            template: The template of that run, if it was made of one: a run that a client submitted may
                still name its blobs.
        """
        submitted = self._ledger.by_id.get(template)
        kept = {block.blob for block in submitted.blocks} if submitted is not None else ()
        unnamed = [name for name in blobs if name not in self._ledger.shared and name not in kept]
        unused = [address for address in functions if address not in self._ledger.functions]
        if unnamed or unused:
            self._decided.act(Discard(unnamed, unused))
