"""From leases to work for slots, and from what slots send to reports: blocks are checked, cut and sealed.

Nothing here unpickles: elements are bytes.
"""

from __future__ import annotations

from msgspec import Struct

from nbq import payload, wire
from nbq.core.events import Addition, Outcome
from nbq.core.ids import element_text
from nbq.core.model import State
from nbq.engines import pipe
from nbq.errors import ContentDisallowed, IntegrityError, TimeLimitExceeded

__all__ = ["Ended", "Sealing"]


class Ended(Struct):
    """What is reported of elements that ended.

    Args:
        outcome: How they ended.
        block: The bytes of their block; empty for none, and for a blob.
        added: The bytes of the blocks of what the (only) element adds to its run, but for blobs.
        functions: What that runs.
        blobs: Files that the hub has to have before it hears of it.
    """

    outcome: Outcome
    block: bytes
    added: list[bytes] = []
    functions: dict[bytes, bytes] = {}
    blobs: list[str] = []


class Sealing:
    """Opens and seals blocks for an engine.

    Args:
        key: The payload key.
        engine: The engine's name.
    """

    def __init__(self, key: bytes, engine: str) -> None:
        self._key = key
        self._engine = engine

    def work(self, lease: wire.Lease, lo: int, hi: int, position: int, blobs: str) -> pipe.Work:
        """Return what a slot needs to run elements of a lease."""
        calls, serializer, trouble = self._calls(lease, lo, hi)
        return pipe.Work(
            position, lease.token, lease.run, lease.node, lo, hi, lease.attempt, lease.task, lease.function,
            calls, lease.shared, lease.args.blob, blobs, lease.ignore_result, lease.ids, lease.retries,
            lease.scope, lease.inner, lease.options, lease.parent, lease.root, lease.on, lease.told,
            lease.header, lease.at_s, serializer, trouble, lease.origin, lease.anew,
        )  # fmt: skip

    def _calls(self, lease: wire.Lease, lo: int, hi: int) -> tuple[list[bytes] | None, str, str]:
        """Return the arguments of some elements, what made them, and why they cannot be read.

        None if they are a blob, which the slot opens. What may be read at all is the slot's to say.
        """
        args = lease.args
        if args.blob:
            return None, "", ""
        first = 0 if lease.shared else args.lo
        where = payload.origin("args", *lease.args_place, first, lease.function)
        try:
            block = payload.unseal(self._key, where, args.data)
        except (IntegrityError, ContentDisallowed) as error:  # each element fails, with the reason
            trouble = str(error) if isinstance(error, ContentDisallowed) else ""
            return [b""] * (1 if lease.shared else hi - lo), "", trouble
        if lease.shared:
            return [bytes(block.element(0))], block.serializer, ""
        views = block.elements(lo - first, hi - first)
        return [bytes(view) for view in views], block.serializer, ""

    def ended(self, lease: wire.Lease, results: pipe.Results, *, far: bool) -> Ended:
        """Return what is reported of what a slot sent.

        Args:
            lease: What it ran.
            results: What it sent.
            far: Whether the hub is on another host: then blocks are compressed where that pays, and it
                has to be sent the files that are named.
        """
        block = b""
        size, again = results.size, results.again
        if not results.blob and self._has_block(lease, results):
            block = self._seal(lease, results, "auto" if far else "none")
            size = len(block)
        outcome = Outcome(
            results.token, results.lo, results.hi, results.states, size, results.blob, sum(results.seconds),
            results.errors, again, [_addition(added) for added in results.added], results.store,
        )  # fmt: skip
        ended = Ended(outcome, block)
        if results.added:
            blocks = [one for added in results.added for one in added.blocks]
            ended.added = [one.data for one in blocks if not one.blob]
            ended.functions = {a: data for added in results.added for a, data in added.functions.items()}
            ended.blobs = [one.blob for one in blocks if one.blob]
            ended.blobs += [address.hex() for address, data in ended.functions.items() if not data]
        if results.blob and not results.store:
            ended.blobs.append(results.blob)
        if not far:
            ended.blobs = []  # they lie in the hub's own folder
        return ended

    def _has_block(self, lease: wire.Lease, results: pipe.Results) -> bool:
        if results.again is not None:
            return bool(results.elements)  # its new arguments
        if results.states and results.states[0] == State.WAITING:
            return False  # another canvas is its value
        return not lease.ignore_result or bool(results.states)

    def _seal(self, lease: wire.Lease, results: pipe.Results, compression: str) -> bytes:
        if results.again is not None:
            where = payload.origin("args", *lease.place, results.lo, lease.function)
        else:
            where = payload.origin("result", *lease.place, results.lo)
        children = {0: results.children} if results.children else {}
        extras = payload.dump_extras(results.started_s, results.seconds, results.output, children)
        return payload.seal(
            self._key, where, results.elements, extras, serializer=results.serializer,
            compression=results.compression or compression,
        )  # fmt: skip

    def limited(self, lease: wire.Lease, index: int, started_s: float, seconds: float) -> Ended:
        """Return what is reported of an element that was stopped because it ran for too long.

        Args:
            lease: What it belongs to.
            index: The element.
            started_s: Unix time at which it began.
            seconds: How long it ran.
        """
        task = lease.ids.get(index) or element_text(lease.run, lease.node, index)
        limit_s = lease.options.time_limit_s or 0.0
        error = TimeLimitExceeded(
            f"{lease.task} was stopped after {seconds:.3g} s; its time_limit is {limit_s:g} s", task
        )
        # As plain data: nothing is pickled, and its class is one that every client has.
        failure = payload.dump_failure(
            error, f"on engine {self._engine}, attempt {lease.attempt}", None, "json"
        )
        where = payload.origin("result", *lease.place, index)
        extras = payload.dump_extras(started_s, [seconds], {})
        block = payload.seal(self._key, where, [failure], extras)
        states = bytes([State.FAILURE])
        return Ended(
            Outcome(
                lease.token,
                index,
                index + 1,
                states,
                len(block),
                "",
                seconds,
                {index: payload.summary(error)},
            ),
            block,
        )


def _addition(added: pipe.Added) -> Addition:
    metas = [block.meta() for block in added.blocks]
    return Addition(added.scope, added.graph, metas, added.replaces)
