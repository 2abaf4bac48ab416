"""The engine's half of the protocol, without sockets, clocks or processes.

What the hub sends goes into ``receive``, what slots do into ``slot_*`` and ``ended``; out come messages
for the hub (``outbox``) and orders for slots (``orders``). Every lease is held until each of its elements
has ended, was given back or was stopped; every report is kept until the hub has taken it. Messages
may be lost, doubled or reordered: a lease or an interrupt that comes twice changes nothing, and what
the hub does not acknowledge is sent again.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from nbq import wire
from nbq.core.events import Outcome
from nbq.core.model import EngineInfo
from nbq.wire import ToHub, ToPeer

__all__ = ["Chunk", "EngineSession", "Halt", "Order", "Run", "TakeBack"]

_BEAT_S = 1.0
_RESEND_S = 5.0
_SILENCE_S = 3.5
_DIAL_S = 1.0
"""A hub that has not answered a hello for so long is dialled again."""
_CHUNK_S = 0.01
"""How much work a slot is given at a time."""
_AHEAD = 2
"""How many chunks a slot holds, so that it need not wait for the next."""
_STUCK_S = 0.01
"""An element that runs longer than this gives up what is queued behind it in its slot."""
_BEGAN_S = 0.05
"""An element that runs longer than this is reported as started."""
_FEWEST = 8
_UNKNOWN_S = 1.0
_REPORT_BYTES = 512 * 1024
_SPEEDS = 10_000
_FUNCTIONS = 1000


class Run(Struct, frozen=True):
    """Run elements of a lease in a slot, after those that it has; the lease may be lost by now."""

    slot: int
    token: int
    lo: int
    hi: int
    lease: wire.Lease


class TakeBack(Struct, frozen=True):
    """Take from a slot what it has not started; answered by ``took_back``."""

    slot: int


class Halt(Struct, frozen=True):
    """Stop the element that a slot runs, if it is one of these."""

    slot: int
    token: int
    lo: int
    hi: int
    grace_s: float


Order = Run | TakeBack | Halt


class Chunk:
    """Elements ``lo`` to ``hi - 1`` of a lease in a slot."""

    __slots__ = ("hi", "lo", "token")

    def __init__(self, token: int, lo: int, hi: int) -> None:
        self.token = token
        self.lo = lo
        self.hi = hi


class _Held:
    """A lease: which of its elements are open, and what it still needs before it can run."""

    __slots__ = ("deferred", "lease", "missing", "open")

    def __init__(self, lease: wire.Lease) -> None:
        self.lease = lease
        self.open = set(range(lease.lo, lease.hi))
        self.missing: set[bytes | str] = set()
        self.deferred: set[int] = set()


class _Slot:
    __slots__ = ("bare", "began", "chunks", "halted", "running", "since_s", "stopped", "up")

    def __init__(self) -> None:
        self.up = False
        self.chunks: deque[Chunk] = deque()
        self.bare = False
        """Everything behind the running element was taken back."""
        self.running: tuple[int, int] | None = None
        """Token and index of the element that was last seen running."""
        self.since_s = 0.0
        self.began = False
        self.stopped: dict[int, float] = {}
        """Tokens of what it has that is to be stopped, and the grace of each in seconds."""
        self.halted: tuple[int, int] | None = None
        """The element that was last told to stop."""

    @property
    def unstarted(self) -> bool:
        """Return whether it may hold elements behind the one that it runs."""
        if self.bare or not self.chunks:
            return False
        return len(self.chunks) > 1 or self.chunks[0].hi - self.chunks[0].lo > 1


class EngineSession:
    """One engine, as the hub knows it.

    Args:
        engine: The engine's id, the same for the life of its process.
        info: What it says of itself; ``info.slots`` is how many slots there are, numbered from 0.
        versions: Versions to say hello with.
        token: What proves the role over ipc.
    """

    def __init__(self, engine: bytes, info: EngineInfo, versions: dict[str, str], token: bytes) -> None:
        self.id = engine
        self.info = info
        self.outbox: deque[ToHub] = deque()
        self.orders: list[Order] = []
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
        self._versions = versions
        self._token = token
        self._epoch = 0
        self._latest = 0
        """The highest token seen: the hub's tokens grow, so a lower one is of a lease that was here."""
        self._held: dict[int, _Held] = {}
        self._ready: deque[Chunk] = deque()
        self._inputs: dict[int, dict[int, list[wire.Block]]] = {}
        self._slots = [_Slot() for _ in range(info.slots)]
        self._spool: dict[int, tuple[wire.Report | wire.SlotDied, float]] = {}
        self._number = 0
        self._outcomes: list[Outcome] = []
        self._blocks: list[bytes] = []
        self._size = 0
        self._heard_s = 0.0
        self._beat_s = 0.0
        self._asked_s = 0.0
        self._speed_s: dict[bytes, float] = {}
        self._recall = 0

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
        return not self._held and not self._spool and not self._outcomes

    @property
    def named_blobs(self) -> set[str]:
        """Return the blobs that functions and held leases name."""
        names = {address.hex() for address, data in self.functions.items() if not data}
        for held in self._held.values():
            feed = held.lease.feed.blocks if held.lease.feed is not None else []
            names.update(block.blob for block in [held.lease.args, *feed] if block.blob)
        return names

    def _listed(self) -> list[int]:
        """Return the tokens of what is held, and of what has ended without the hub having taken it.

        A hub that is not told of the latter would run it again, though its outcome is on its way.
        """
        tokens = dict.fromkeys(self._held)
        for report, _ in self._spool.values():
            outcomes = report.outcomes if isinstance(report, wire.Report) else (report,)
            tokens.update((outcome.token, None) for outcome in outcomes)
        tokens.update((outcome.token, None) for outcome in self._outcomes)
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
                self._on_recall(message.count)
            case wire.Interrupt():
                for token, lo, hi in message.ranges:
                    self._stop(token, lo, hi)
            case wire.Stale():
                for token in message.tokens:
                    if token in self._held:
                        lease = self._held[token].lease
                        self._stop(token, lease.lo, lease.hi)
            case wire.Taken():
                for number in message.numbers:
                    self._spool.pop(number, None)
            case wire.Drain():
                self.drain()
            case _:
                pass  # Pong and Stopping say only that the hub was there
        self._assign()

    def _on_welcome(self, message: wire.Welcome, now_s: float) -> None:
        self.connected = True
        self._heard_s = now_s
        self.welcome = message
        self._epoch = max(self._epoch, message.epoch)
        for number, (report, _) in list(self._spool.items()):
            self._spool[number] = report, now_s
            self.outbox.append(report)
        self._ask(now_s)
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
            feed = wire.Feed(lease.feed.each, lease.feed.value, [*first, *lease.feed.blocks])
            lease = _with_feed(lease, feed)
        held = self._held[lease.token] = _Held(lease)
        if lease.function not in self.functions:
            held.missing.add(lease.function)
            self.outbox.append(wire.NeedFunctions([lease.function]))
        if self.fetch:
            blocks = [lease.args, *(lease.feed.blocks if lease.feed is not None else [])]
            held.missing.update(block.blob for block in blocks if block.blob)
            self.wanted_blobs.update(dict.fromkeys(b.blob for b in blocks if b.blob))
        if not held.missing:
            self._ready.append(Chunk(lease.token, lease.lo, lease.hi))

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
                    self._ready.append(Chunk(token, held.lease.lo, held.lease.hi))
        self._assign()

    def _on_recall(self, count: int) -> None:
        ranges: list[tuple[int, int, int]] = []
        while count > 0 and self._ready:
            chunk = self._ready[-1]
            lo = max(chunk.lo, chunk.hi - count)
            ranges.append((chunk.token, lo, chunk.hi))
            count -= chunk.hi - lo
            chunk.hi = lo
            if chunk.lo == chunk.hi:
                self._ready.pop()
        self._give_back(ranges)
        if count > 0:
            self._recall = count
            for number, slot in enumerate(self._slots):
                if slot.unstarted:
                    self._take_back(number)

    def _give_back(self, ranges: list[tuple[int, int, int]]) -> None:
        if ranges:
            self.outbox.append(wire.GaveBack(ranges))
        for token, lo, hi in ranges:
            self._close(token, lo, hi)

    def _close(self, token: int, lo: int, hi: int) -> None:
        held = self._held.get(token)
        if held is not None:
            held.open.difference_update(range(lo, hi))
            if not held.open:
                del self._held[token]

    def _stop(self, token: int, lo: int, hi: int) -> None:
        """Drop what has not started of a range, and halt what runs of it."""
        held = self._held.get(token)
        if held is None:
            return
        grace_s = held.lease.cancel_grace_s
        for chunk in list(self._ready):
            if chunk.token == token and chunk.lo < hi and lo < chunk.hi:
                self._ready.remove(chunk)
                for a, b in ((chunk.lo, min(lo, chunk.hi)), (max(hi, chunk.lo), chunk.hi)):
                    if a < b:
                        self._ready.append(Chunk(token, a, b))
        self._close(token, lo, hi)
        for number, slot in enumerate(self._slots):
            if any(c.token == token and c.lo < hi and lo < c.hi for c in slot.chunks):
                if slot.unstarted:
                    self._take_back(number)
                slot.stopped[token] = grace_s
                self.orders.append(Halt(number, token, lo, hi, grace_s))

    def drain(self) -> None:
        """Take nothing more, give back what has not started, finish the rest."""
        if not self.draining:
            self.draining = True
            self.outbox.append(wire.Leaving())
        self._on_recall(1 << 40)
        blocked = [(t, h.lease.lo, h.lease.hi) for t, h in self._held.items() if h.missing]
        self._give_back(blocked)

    # -------------------------------------------------------------- slots

    def slot_up(self, number: int) -> None:
        """A slot is ready for work."""
        slot = self._slots[number]
        slot.up = True
        self._assign()

    def slot_down(self, number: int, token: int, index: int, text: str, now_s: float) -> None:
        """A slot died. ``index`` is the element it ran, or -1; the rest of what it had is run again.

        An element that had been told to stop is not reported.
        """
        slot = self._slots[number]
        slot.up = slot.bare = False
        slot.running = slot.halted = None
        slot.stopped.clear()
        self.orders[:] = [order for order in self.orders if order.slot != number]
        for chunk in reversed(slot.chunks):
            held = self._held.get(chunk.token)
            if held is None:
                continue
            for lo, hi in _spans(held.open, chunk.lo, chunk.hi, index if chunk.token == token else -1):
                self._ready.appendleft(Chunk(chunk.token, lo, hi))
        slot.chunks.clear()
        held = self._held.get(token)
        if index >= 0 and held is not None and index in held.open:
            self._flush(now_s)
            self._number += 1
            self._post(wire.SlotDied(self._number, token, index, text[:8000]), now_s)
            self._close(token, index, index + 1)
        self._assign()

    def slot_runs(self, number: int, running: tuple[int, int] | None, now_s: float) -> None:
        """A slot was seen running an element (token and index), or none."""
        slot = self._slots[number]
        if slot.running != running:
            slot.running, slot.since_s, slot.began = running, now_s, False
        elif running is not None and not slot.began and now_s - slot.since_s > _BEGAN_S:
            slot.began = True
            self.outbox.append(wire.Began([running]))
        if running is not None and running[0] in slot.stopped and running != slot.halted:
            self._halt_late(number, slot, *running)

    def _halt_late(self, number: int, slot: _Slot, token: int, index: int) -> None:
        """Stop an element that was not yet running when it was to be stopped."""
        held = self._held.get(token)
        if held is None or index not in held.open:
            slot.halted = token, index
            self.orders.append(Halt(number, token, index, index + 1, slot.stopped[token]))

    def ended(self, number: int, outcomes: list[tuple[Outcome, bytes]], now_s: float) -> None:
        """A slot's elements ended; blocks are sealed. What was stopped or taken back is dropped."""
        for outcome, block in outcomes:
            held = self._held.get(outcome.token)
            if held is None or not any(i in held.open for i in range(outcome.lo, outcome.hi)):
                continue
            self._learn(held.lease.function, outcome.seconds / (outcome.hi - outcome.lo))
            size = len(block) + sum(len(line.encode()) for line in outcome.errors.values())
            if self._size + size > _REPORT_BYTES:
                self._flush(now_s)
            self._outcomes.append(outcome)
            self._blocks.append(block)
            self._size += size
            self._close(outcome.token, outcome.lo, outcome.hi)

    def chunk_done(self, number: int) -> None:
        """A slot has come to the end of its first chunk: what has no outcome was not run."""
        slot = self._slots[number]
        if slot.chunks:
            chunk = slot.chunks.popleft()
            if all(other.token != chunk.token for other in slot.chunks):
                slot.stopped.pop(chunk.token, None)
            held = self._held.get(chunk.token)
            if held is not None:
                for a, b in reversed(_spans(held.open - held.deferred, chunk.lo, chunk.hi, -1)):
                    self._ready.appendleft(Chunk(chunk.token, a, b))
        slot.bare = slot.bare and bool(slot.chunks)
        self._assign()

    def deferred(self, token: int, index: int) -> None:
        """An element has ended, but its result is still on its way to the hub."""
        held = self._held.get(token)
        if held is not None:
            held.deferred.add(index)

    def took_back(self, number: int, ranges: list[tuple[int, int, int]]) -> None:
        """What was taken from a slot, in order: (token, lo, hi)."""
        slot = self._slots[number]
        for token, lo, hi in reversed(ranges):
            for chunk in slot.chunks:
                if chunk.token == token and chunk.lo <= lo < chunk.hi:
                    chunk.hi = lo
            held = self._held.get(token)
            if held is not None:
                for a, b in reversed(_spans(held.open, lo, hi, -1)):
                    self._ready.appendleft(Chunk(token, a, b))
        count, self._recall = self._recall, 0
        if count:
            self._on_recall(count)
        self._assign()

    def _take_back(self, number: int) -> None:
        self._slots[number].bare = True
        self.orders.append(TakeBack(number))

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
        self._rescue(now_s)

    def _rescue(self, now_s: float) -> None:
        if self._ready or not any(slot.up and not slot.chunks for slot in self._slots):
            return
        for number, slot in enumerate(self._slots):
            if slot.unstarted and slot.running is not None and now_s - slot.since_s > _STUCK_S:
                self._take_back(number)

    @property
    def uneven(self) -> bool:
        """Return whether a slot idles while another has elements that it has not started."""
        idle = any(slot.up and not slot.chunks for slot in self._slots)
        return idle and not self._ready and any(slot.unstarted for slot in self._slots)

    @property
    def busy(self) -> bool:
        """Return whether any slot has work."""
        return any(slot.chunks for slot in self._slots)

    def _flush(self, now_s: float) -> None:
        if self._outcomes:
            self._number += 1
            self._post(wire.Report(self._number, self._outcomes, self._blocks), now_s)
            self._outcomes, self._blocks, self._size = [], [], 0

    def _post(self, report: wire.Report | wire.SlotDied, now_s: float) -> None:
        self._spool[report.number] = report, now_s
        if self.connected:
            self.outbox.append(report)

    # -------------------------------------------------------------- assigning

    def _learn(self, function: bytes, seconds: float) -> None:
        before = self._speed_s.pop(function, None)
        self._speed_s[function] = seconds if before is None else (before + seconds) / 2
        if len(self._speed_s) > _SPEEDS:
            del self._speed_s[next(iter(self._speed_s))]

    def _assign(self) -> None:
        """Give work to slots that have room, the least busy first."""
        for depth in range(_AHEAD):
            for number, slot in enumerate(self._slots):
                if not self._ready:
                    return
                if slot.up and not slot.bare and len(slot.chunks) == depth:
                    self._give(number, slot)

    def _give(self, number: int, slot: _Slot) -> None:
        chunk = self._ready[0]
        held = self._held.get(chunk.token)
        if held is None:
            self._ready.popleft()
            return
        cost_s = self._speed_s.get(held.lease.function, _UNKNOWN_S)
        if slot.chunks and cost_s > _CHUNK_S / _FEWEST:
            return  # long tasks wait here, where any slot can take them
        fair = max(1, sum(c.hi - c.lo for c in self._ready) // (2 * len(self._slots)))
        count = max(1, min(int(_CHUNK_S / max(cost_s, 1e-6)), max(fair, _FEWEST)))
        hi = min(chunk.hi, chunk.lo + count)
        slot.chunks.append(Chunk(chunk.token, chunk.lo, hi))
        self.orders.append(Run(number, chunk.token, chunk.lo, hi, held.lease))
        chunk.lo = hi
        if chunk.lo == chunk.hi:
            self._ready.popleft()


def _spans(open_: set[int], lo: int, hi: int, but: int) -> list[tuple[int, int]]:
    """Return the ranges of open elements between lo and hi, without one of them."""
    found: list[tuple[int, int]] = []
    for index in range(lo, hi):
        if index not in open_ or index == but:
            continue
        if found and found[-1][1] == index:
            found[-1] = found[-1][0], index + 1
        else:
            found.append((index, index + 1))
    return found


def _with_feed(lease: wire.Lease, feed: wire.Feed) -> wire.Lease:
    return wire.Lease(
        lease.token, lease.run, lease.node, lease.lo, lease.hi, lease.attempt, lease.task,
        lease.function, lease.args, lease.shared, feed, lease.ignore_result, lease.cancel_grace_s,
        lease.ids,
    )  # fmt: skip
