"""The engine's half of the protocol, without sockets, clocks or processes.

What the hub sends goes into ``receive``, what slots do into ``slot_*`` and ``ended``; out come messages
for the hub (``outbox``) and orders for slots (``orders``). Every lease is held until each of its elements
has ended, was given back or was stopped; every report is kept until the hub has taken it. Messages
may be lost, doubled or reordered: a lease or an interrupt that comes twice changes nothing, and what
the hub does not acknowledge is sent again.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from nbq import wire
from nbq.core.events import Outcome
from nbq.core.model import EngineInfo
from nbq.engines.notes import Notes
from nbq.engines.roster import Chunk, Halt, Held, Order, Roster, Run, TakeBack
from nbq.wire import ToHub, ToPeer

__all__ = ["Chunk", "EngineSession", "Halt", "Order", "Run", "TakeBack"]

_BEAT_S = 1.0
_RESEND_S = 5.0
_SILENCE_S = 3.5
_DIAL_S = 1.0
"""A hub that has not answered a hello for so long is dialled again."""
_REPORT_BYTES = 512 * 1024
_FUNCTIONS = 1000


class _Draft:
    """A report that is being written."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.blocks: list[bytes] = []
        self.added: list[bytes] = []
        self.functions: dict[bytes, bytes] = {}
        self.size = 0


class EngineSession:
    """One engine, as the hub knows it.

    Args:
        engine: The engine's id, the same for the life of its process.
        info: What it says of itself; ``info.slots`` is how many slots there are, numbered from 0.
        versions: Versions to say hello with.
        token: What proves the role over ipc.
        tasks: How many elements a slot's process runs before another takes its place; 0 for no bound.
    """

    def __init__(
        self, engine: bytes, info: EngineInfo, versions: dict[str, str], token: bytes, tasks: int = 0
    ) -> None:
        self.id = engine
        self.info = info
        self.outbox: deque[ToHub] = deque()
        self.functions: dict[bytes, bytes] = {}
        self.wanted_blobs: dict[str, None] = {}
        """Blobs that leases wait for; whoever has one calls ``provide`` with its name."""
        self.fetch = False
        """Whether blobs have to be fetched: the hub is on another host."""
        self.draining = False
        self.denied: wire.Denied | None = None
        self.connected = False
        self.welcome: wire.Welcome | None = None
        self.rss = 0
        self.roster = Roster(info.slots, tasks)
        self.orders = self.roster.orders
        self._notes = Notes()
        self._versions = versions
        self._token = token
        self._epoch = 0
        self._latest = 0
        """The highest token seen: the hub's tokens grow, so a lower one is of a lease that was here."""
        self._held = self.roster.held
        self._inputs: dict[int, dict[int, list[wire.Block]]] = {}
        self._spool: dict[int, tuple[wire.Report | wire.SlotDied, float]] = {}
        self._number = 0
        self._open = _Draft()
        self._waiting = 0
        """What the hub was told of how many elements wait for others."""
        self._heard_s = 0.0
        self._beat_s = 0.0
        self._asked_s = 0.0

    # -------------------------------------------------------------- the hub

    def hello(self, now_s: float) -> wire.Hello:
        """Return what to say first on a new connection."""
        self.connected = False
        self._heard_s = now_s
        self.outbox.clear()
        self._inputs.clear()  # of leases that were lost on the way
        return wire.Hello(
            wire.PROTOCOL, "engine", self._token, self.id, self._versions, self.info,
            self._listed(), self._epoch,
        )  # fmt: skip

    def silent(self, now_s: float) -> bool:
        """Return whether the hub has not been heard for so long that the connection is given up."""
        return now_s - self._heard_s > (_SILENCE_S if self.connected else _DIAL_S)

    @property
    def held(self) -> list[int]:
        """Return the tokens of the leases that this engine has."""
        return list(self._held)

    @property
    def idle(self) -> bool:
        """Return whether nothing runs, and nothing waits to be acknowledged."""
        return not self._held and not self._spool and not self._open.outcomes

    @property
    def named_blobs(self) -> set[str]:
        """Return the blobs that functions and held leases name."""
        names = {address.hex() for address, data in self.functions.items() if not data}
        for held in self._held.values():
            feed = held.lease.feed.blocks if held.lease.feed is not None else []
            names.update(block.blob for block in [held.lease.args, *feed] if block.blob and not block.store)
        return names

    def _listed(self) -> list[int]:
        """Return the tokens of what is held, and of what has ended without the hub having taken it.

        A hub that is not told of the latter would run it again, though its outcome is on its way.
        """
        tokens = dict.fromkeys(self._held)
        for report, _ in self._spool.values():
            outcomes = report.outcomes if isinstance(report, wire.Report) else (report,)
            tokens.update((outcome.token, None) for outcome in outcomes)
        tokens.update((outcome.token, None) for outcome in self._open.outcomes)
        return list(tokens)

    def lease(self, token: int) -> wire.Lease:
        """Return a lease that is held, its feed complete."""
        return self._held[token].lease

    def receive(self, message: ToPeer, now_s: float) -> None:
        """Take in a message from the hub."""
        if self.connected:  # before the welcome, nothing says that the hub knows this connection
            self._heard_s = now_s
        match message:
            case wire.Welcome():
                self._on_welcome(message, now_s)
            case wire.Denied():
                self._on_denied(message)
            case wire.Inputs():
                self._inputs.setdefault(message.token, {})[message.part] = message.blocks
            case wire.Lease():
                self._on_lease(message)
            case wire.Functions():
                for address, data in message.functions.items():
                    if data or not self.fetch:
                        self._add_function(address, data)
                        self.provide(address)
                    else:
                        self.wanted_blobs[address.hex()] = None
            case wire.Recall():
                self._give_back(self.roster.recall(message.count))
            case wire.Interrupt() | wire.Aborting():
                act = self.roster.stop if isinstance(message, wire.Interrupt) else self.roster.abort
                for token, lo, hi in message.ranges:
                    act(token, lo, hi)
            case wire.Stale():
                for token in message.tokens:
                    if token in self._held:
                        lease = self._held[token].lease
                        self.roster.stop(token, lease.lo, lease.hi)
            case wire.Taken():
                for number in message.numbers:
                    self._spool.pop(number, None)
            case wire.Order(verb="drain"):
                self.drain()
            case wire.Order(verb="scale"):
                self._scale(message.slots, message.least, message.most)
            case _:
                pass  # Pong and Stopping say only that the hub was there; other orders are for the process
        self.roster.assign()

    def _on_welcome(self, message: wire.Welcome, now_s: float) -> None:
        self.connected = True
        self._heard_s = now_s
        self.welcome = message
        self._epoch = max(self._epoch, message.epoch)
        for number, (report, _) in list(self._spool.items()):
            self._spool[number] = report, now_s
            self.outbox.append(report)
        self._ask(now_s)
        self._waiting = 0
        self._notes.again()
        self._tell_waiting()
        if self.draining:
            self.outbox.append(wire.Leaving())

    def _ask(self, now_s: float) -> None:
        """Ask (again) for the functions that leases wait for."""
        self._asked_s = now_s
        missing = {m for held in self._held.values() for m in held.missing if isinstance(m, bytes)}
        if missing:
            self.outbox.append(wire.NeedFunctions(sorted(missing)))

    def _on_denied(self, message: wire.Denied) -> None:
        self.connected = False
        if message.code == "session":
            self._heard_s = float("-inf")  # dial again, at once
        elif message.code in ("version", "key", "role"):
            self.denied = message

    def _on_lease(self, lease: wire.Lease) -> None:
        parts = self._inputs.pop(lease.token, {})
        if lease.token <= self._latest or self.draining:
            return  # it came twice, or was overtaken; the hub sees which leases are not held
        self._latest = lease.token
        if lease.feed is not None and lease.feed.parts:
            if len(parts) != lease.feed.parts:
                return  # something was lost; the hub will see that this lease is not held
            first = [block for part in sorted(parts) for block in parts[part]]
            feed = replace(lease.feed, blocks=[*first, *lease.feed.blocks], parts=0)
            lease = replace(lease, feed=feed)
        held = self._held[lease.token] = Held(lease)
        if lease.function not in self.functions:
            held.missing.add(lease.function)
            self.outbox.append(wire.NeedFunctions([lease.function]))
        if self.fetch:
            blocks = [lease.args, *(lease.feed.blocks if lease.feed is not None else [])]
            names = dict.fromkeys(block.blob for block in blocks if block.blob and not block.store)
            held.missing.update(names)
            self.wanted_blobs.update(names)
        if not held.missing:
            self.roster.ready(lease.token)

    def _add_function(self, address: bytes, data: bytes) -> None:
        """Keep a function; of too many, the oldest that no lease names goes, and is asked for again."""
        self.functions[address] = data
        if len(self.functions) > _FUNCTIONS:
            used = {held.lease.function for held in self._held.values()} | {address}
            used |= {order.lease.function for order in self.orders if isinstance(order, Run)}
            oldest = next((old for old in self.functions if old not in used), None)
            if oldest is not None:
                del self.functions[oldest]

    def provide(self, thing: bytes | str) -> None:
        """A function (by address) or a blob (by name) that leases waited for is here."""
        for token, held in self._held.items():
            if thing in held.missing:
                held.missing.discard(thing)
                if isinstance(thing, bytes):
                    self._add_function(thing, self.functions.get(thing, b""))  # it was fetched as a blob
                if not held.missing:
                    self.roster.ready(token)
        self.roster.assign()

    def _give_back(self, ranges: list[tuple[int, int, int]]) -> None:
        if ranges:
            self.outbox.append(wire.GaveBack(ranges))
        for token, lo, hi in ranges:
            self.roster.close(token, lo, hi)

    def drain(self) -> None:
        """Take nothing more, give back what has not started, finish the rest."""
        if not self.draining:
            self.draining = True
            self.outbox.append(wire.Leaving())
        self._give_back(self.roster.recall(1 << 40))
        blocked = [(t, h.lease.lo, h.lease.hi) for t, h in self._held.items() if h.missing]
        self._give_back(blocked)

    def _scale(self, slots: int, least: int, most: int) -> None:
        """Have so many slots, or (0) as many as there are within new bounds; see ``wire.Order``."""
        info = self.info
        if slots and most and (least, most) != (info.least, info.most):
            return
        if most:
            slots = min(max(slots or info.slots, least), most)
        self.info = replace(info, slots=max(1, slots), least=least, most=most)
        self.roster.resize(self.info.slots)
        if self.connected:
            self.outbox.append(wire.Resized(self.info.slots, least, most))

    # -------------------------------------------------------------- slots

    def knows(self, tasks: list[str]) -> None:
        """The slots know the tasks of these names."""
        if tasks != self.info.tasks:
            self.info = replace(self.info, tasks=tasks)
            if self.connected:
                self.outbox.append(wire.Knows(tasks))

    def slot_up(self, number: int) -> None:
        """A slot is ready for work."""
        self.roster.slot_up(number)

    def slot_down(self, number: int, token: int, index: int, text: str, now_s: float) -> None:
        """A slot died. ``index`` is the element it ran, or -1; the rest of what it had is run again.

        An element that had been told to stop is not reported.
        """
        self._notes.gone(number)
        self.roster.slot_down(number, token, index)
        held = self._held.get(token)
        if index >= 0 and held is not None and index in held.open:
            self._flush(now_s)
            self._number += 1
            self._post(wire.SlotDied(self._number, token, index, text[:8000]), now_s)
            self.roster.close(token, index, index + 1)
        self._tell_waiting()
        self.roster.assign()

    def slot_runs(self, number: int, running: tuple[int, int] | None, now_s: float) -> bool:
        """A slot was seen running an element (token and index), or none; returns whether that is news."""
        if not self.roster.slot_runs(number, running, now_s) or running is None:
            return False
        self.outbox.append(wire.Began([running]))
        return running[0] in self._held

    def slot_waits(self, number: int, on: bool) -> None:
        """The element that a slot runs begins or ends to wait for other tasks."""
        self.roster.waits(number, on)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        """Let the hub know how many more elements than slots this engine can hold running."""
        if self.connected and self.roster.waiting != self._waiting:
            self._waiting = self.roster.waiting
            self.outbox.append(wire.Waiting(self._waiting))

    def noted(self, number: int, note: wire.Note) -> None:
        """The element that a slot runs shows something of itself."""
        if self.roster.is_open(note.token, note.index, note.index + 1):
            self._notes.put(number, note)

    def ended(
        self,
        number: int,
        outcomes: list[tuple[Outcome, bytes]],
        now_s: float,
        added: list[bytes] | None = None,
        functions: dict[bytes, bytes] | None = None,
    ) -> None:
        """A slot's elements ended; blocks are sealed. What was stopped or taken back is dropped.

        Args:
            number: The slot.
            outcomes: How they ended, and their blocks.
            now_s: The time.
            added: The bytes of the blocks of what the only one of them adds to its run, but for blobs.
            functions: What that runs.
        """
        for outcome, block in outcomes:
            self._end(number, outcome, block, added or [], functions or {}, now_s)

    def _end(
        self, number: int, outcome: Outcome, block: bytes, added: list[bytes], functions: dict[bytes, bytes],
        now_s: float,
    ) -> None:  # fmt: skip
        token, lo, hi = outcome.token, outcome.lo, outcome.hi
        if not self.roster.is_open(token, lo, hi):
            return
        self._notes.ended(number, token, lo, hi)
        self.roster.learn(self._held[token].lease.function, outcome.seconds / (hi - lo))
        size = len(block) + sum(len(line.encode()) for line in outcome.errors.values())
        size += sum(map(len, (*added, *functions.values())))
        if self._open.size + size > _REPORT_BYTES:
            self._flush(now_s)
        self._open.outcomes.append(outcome)
        self._open.blocks.append(block)
        self._open.added += added
        self._open.functions |= functions
        self._open.size += size
        self.roster.close(token, lo, hi)

    def chunk_done(self, number: int) -> None:
        """A slot has come to the end of its first chunk: what has no outcome was not run."""
        self.roster.chunk_done(number)

    def deferred(self, token: int, index: int) -> None:
        """An element has ended, but its result is still on its way to the hub."""
        held = self._held.get(token)
        if held is not None:
            held.deferred.add(index)

    def took_back(self, number: int, ranges: list[tuple[int, int, int]]) -> None:
        """What was taken from a slot, in order: (token, lo, hi)."""
        self._give_back(self.roster.took_back(number, ranges))

    # -------------------------------------------------------------- time

    def tick(self, now_s: float) -> None:
        """Send what is due; look for elements that are stuck behind a long one."""
        self._flush(now_s)
        if not self.connected:
            return
        if now_s - self._beat_s >= _BEAT_S:
            self._beat_s = now_s
            self.outbox.append(wire.Beat(self._listed(), self.rss))
        for number, (report, sent_s) in list(self._spool.items()):
            if now_s - sent_s > _RESEND_S:
                self._spool[number] = report, now_s
                self.outbox.append(report)
        if now_s - self._asked_s > _RESEND_S:
            self._ask(now_s)
        self.outbox.extend(self._notes.take(now_s))
        self.roster.rescue(now_s)

    @property
    def uneven(self) -> bool:
        """Return whether a slot idles while another has elements that it has not started."""
        return self.roster.uneven

    @property
    def busy(self) -> bool:
        """Return whether any slot has work."""
        return self.roster.busy

    def _flush(self, now_s: float) -> None:
        draft = self._open
        if draft.outcomes:
            self._open = _Draft()
            self._number += 1
            report = wire.Report(self._number, draft.outcomes, draft.blocks, draft.added, draft.functions)
            self._post(report, now_s)

    def _post(self, report: wire.Report | wire.SlotDied, now_s: float) -> None:
        self._spool[report.number] = report, now_s
        if self.connected:
            self.outbox.append(report)
