"""Which slot of an engine runs what: what leases have open, what is ready, what each slot was given.

Sans-I/O, as ``engines.session``, which tells it what was leased and how slots fare; out come orders for
slots. It never sees a message, and never decides what the hub is told.

At most ``count`` slots run elements at a time. A slot whose element waits for other tasks does not count, so
that a stand-in (a slot numbered from ``count`` on) can run something; when it goes on, nothing else is begun
until as few run again.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from nbq import wire

__all__ = ["Abort", "Chunk", "Halt", "Held", "Order", "Roster", "Run", "TakeBack", "spans"]

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
_SPEEDS = 10_000


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


class Abort(Struct, frozen=True):
    """Let the element that a slot runs know that it is to end by itself, if it is this one."""

    slot: int
    token: int
    index: int


Order = Run | TakeBack | Halt | Abort


class Chunk:
    """Elements ``lo`` to ``hi - 1`` of a lease in a slot."""

    __slots__ = ("hi", "lo", "token")

    def __init__(self, token: int, lo: int, hi: int) -> None:
        self.token = token
        self.lo = lo
        self.hi = hi


class Held:
    """A lease: which of its elements are open, and what it still needs before it can run."""

    __slots__ = ("aborting", "deferred", "lease", "missing", "open")

    def __init__(self, lease: wire.Lease) -> None:
        self.lease = lease
        self.open = set(range(lease.lo, lease.hi))
        self.missing: set[bytes | str] = set()
        self.deferred: set[int] = set()
        self.aborting: set[int] = set()
        """Elements that are to end by themselves, and have not been told yet."""


class _Slot:
    __slots__ = (
        "bare", "began", "chunks", "given", "halted", "running", "since_s", "stopped", "up", "waiting",
        "worn",
    )  # fmt: skip

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
        self.waiting = False
        """Its element waits for other tasks."""
        self.given = 0
        """How many elements its process has been given, and has not given back."""
        self.worn = False
        """Its process is to run nothing more, however many elements it has been given."""

    @property
    def unstarted(self) -> bool:
        """Return whether it may hold elements behind the one that it runs."""
        if self.bare or not self.chunks:
            return False
        return len(self.chunks) > 1 or self.chunks[0].hi - self.chunks[0].lo > 1

    @property
    def active(self) -> bool:
        """Return whether it runs something now."""
        return bool(self.chunks) and not self.waiting


class Roster:
    """The slots of an engine and their work.

    Args:
        count: How many slots may run at a time.
        tasks: How many elements a slot's process runs before another takes its place; 0 for no bound.
    """

    def __init__(self, count: int, tasks: int = 0) -> None:
        self.count = count
        self.tasks = tasks
        self.held: dict[int, Held] = {}
        self.orders: list[Order] = []
        self._ready: deque[Chunk] = deque()
        self._slots = [_Slot() for _ in range(count)]
        self._speed_s: dict[bytes, float] = {}
        self._recall = 0

    # -------------------------------------------------------------- leases

    def ready(self, token: int) -> None:
        """A lease that is held lacks nothing any more."""
        lease = self.held[token].lease
        self._ready.append(Chunk(token, lease.lo, lease.hi))

    def close(self, token: int, lo: int, hi: int) -> None:
        """Elements have ended, or are not this engine's any more."""
        held = self.held.get(token)
        if held is not None:
            held.open.difference_update(range(lo, hi))
            if not held.open:
                del self.held[token]

    def is_open(self, token: int, lo: int, hi: int) -> bool:
        """Return whether any of these elements is still to end."""
        held = self.held.get(token)
        return held is not None and any(index in held.open for index in range(lo, hi))

    def recall(self, count: int) -> list[tuple[int, int, int]]:
        """Return up to so many elements that will not be started; others may follow from ``took_back``."""
        ranges: list[tuple[int, int, int]] = []
        while count > 0 and self._ready:
            chunk = self._ready[-1]
            lo = max(chunk.lo, chunk.hi - count)
            ranges.append((chunk.token, lo, chunk.hi))
            count -= chunk.hi - lo
            chunk.hi = lo
            if chunk.lo == chunk.hi:
                self._ready.pop()
        if count > 0:
            self._recall = count
            for number, slot in enumerate(self._slots):
                if slot.unstarted:
                    self._take_back(number)
        return ranges

    def stop(self, token: int, lo: int, hi: int) -> None:
        """Drop what has not started of a range, and halt what runs of it."""
        held = self.held.get(token)
        if held is None:
            return
        grace_s = held.lease.cancel_grace_s
        for chunk in list(self._ready):
            if chunk.token == token and chunk.lo < hi and lo < chunk.hi:
                self._ready.remove(chunk)
                for a, b in ((chunk.lo, min(lo, chunk.hi)), (max(hi, chunk.lo), chunk.hi)):
                    if a < b:
                        self._ready.append(Chunk(token, a, b))
        self.close(token, lo, hi)
        for number, slot in enumerate(self._slots):
            if any(c.token == token and c.lo < hi and lo < c.hi for c in slot.chunks):
                if slot.unstarted:
                    self._take_back(number)
                slot.stopped[token] = grace_s
                self.orders.append(Halt(number, token, lo, hi, grace_s))

    def abort(self, token: int, lo: int, hi: int) -> None:
        """Let elements know, now or when they begin, that they are to end by themselves."""
        held = self.held.get(token)
        if held is not None:
            held.aborting.update(held.open & set(range(lo, hi)))
            for number, slot in enumerate(self._slots):
                self._tell_abort(number, slot)

    def _tell_abort(self, number: int, slot: _Slot) -> None:
        if slot.running is not None:
            token, index = slot.running
            held = self.held.get(token)
            if held is not None and index in held.aborting:
                held.aborting.discard(index)
                self.orders.append(Abort(number, token, index))

    # -------------------------------------------------------------- slots

    def slot_up(self, number: int) -> None:
        """A process that is ready for work has taken a slot's place; stand-ins come after the others."""
        while number >= len(self._slots):
            self._slots.append(_Slot())
        slot = self._slots[number]
        slot.up = True
        slot.worn = False
        slot.given = 0
        self.assign()

    def slot_down(self, number: int, token: int, index: int) -> None:
        """A slot's process is gone; all that it had is run again but the element that it ran."""
        if number >= len(self._slots):
            return  # a stand-in that never came up
        slot = self._slots[number]
        slot.up = slot.bare = slot.waiting = False
        slot.running = slot.halted = None
        slot.stopped.clear()
        self.orders[:] = [order for order in self.orders if order.slot != number]
        for chunk in reversed(slot.chunks):
            held = self.held.get(chunk.token)
            if held is None:
                continue
            for lo, hi in spans(held.open, chunk.lo, chunk.hi, index if chunk.token == token else -1):
                self._ready.appendleft(Chunk(chunk.token, lo, hi))
        slot.chunks.clear()

    def slot_runs(self, number: int, running: tuple[int, int] | None, now_s: float) -> bool:
        """A slot was seen running an element (token and index), or none; returns whether to report that."""
        if number >= len(self._slots):
            return False
        slot = self._slots[number]
        began = False
        if slot.running != running:
            slot.running, slot.since_s, slot.began = running, now_s, False
        elif running is not None and not slot.began and now_s - slot.since_s > _BEGAN_S:
            slot.began = began = True
        if running is not None and running[0] in slot.stopped and running != slot.halted:
            self._halt_late(number, slot, *running)
        self._tell_abort(number, slot)
        return began

    def _halt_late(self, number: int, slot: _Slot, token: int, index: int) -> None:
        """Stop an element that was not yet running when it was to be stopped."""
        held = self.held.get(token)
        if held is None or index not in held.open:
            slot.halted = token, index
            self.orders.append(Halt(number, token, index, index + 1, slot.stopped[token]))

    def chunk_done(self, number: int) -> None:
        """A slot has come to the end of its first chunk: what has no outcome was not run."""
        slot = self._slots[number]
        if slot.chunks:
            chunk = slot.chunks.popleft()
            if all(other.token != chunk.token for other in slot.chunks):
                slot.stopped.pop(chunk.token, None)
            held = self.held.get(chunk.token)
            if held is not None:
                for a, b in reversed(spans(held.open - held.deferred, chunk.lo, chunk.hi, -1)):
                    self._ready.appendleft(Chunk(chunk.token, a, b))
        slot.bare = slot.bare and bool(slot.chunks)
        self.assign()

    def took_back(self, number: int, ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """What was taken from a slot, in order: (token, lo, hi). Returns what of it was recalled."""
        slot = self._slots[number]
        for token, lo, hi in reversed(ranges):
            slot.given -= hi - lo
            for chunk in slot.chunks:
                if chunk.token == token and chunk.lo <= lo < chunk.hi:
                    chunk.hi = lo
            held = self.held.get(token)
            if held is not None:
                for a, b in reversed(spans(held.open, lo, hi, -1)):
                    self._ready.appendleft(Chunk(token, a, b))
        count, self._recall = self._recall, 0
        recalled = self.recall(count) if count else []
        self.assign()
        return recalled

    def _take_back(self, number: int) -> None:
        self._slots[number].bare = True
        self.orders.append(TakeBack(number))

    def _bare(self, number: int, slot: _Slot) -> None:
        if slot.unstarted:
            self._take_back(number)

    # -------------------------------------------------------------- stand-ins, and processes that are spent

    @property
    def waiting(self) -> int:
        """Return how many elements wait for other tasks."""
        return sum(slot.waiting for slot in self._slots)

    def waits(self, number: int, on: bool) -> None:
        """The element that a slot runs begins or ends to wait for other tasks."""
        slot = self._slots[number]
        slot.waiting = on
        if on:
            self._bare(number, slot)
        elif self._active > self.count:
            for other, found in enumerate(self._slots):
                self._bare(other, found)  # it goes on before anything that is queued
        self.assign()

    @property
    def _active(self) -> int:
        return sum(slot.active for slot in self._slots)

    @property
    def wanted(self) -> int:
        """Return how many slots' processes there should be, with stand-ins for what waits and could run."""
        used = sum(slot.up for slot in self._slots if slot.chunks)
        open_ = min(sum(chunk.hi - chunk.lo for chunk in self._ready), self.count + self.waiting - used)
        return max(self.count, used + max(0, open_)) if self.waiting else self.count

    def is_idle(self, number: int) -> bool:
        """Return whether a slot has nothing to run."""
        return number >= len(self._slots) or not self._slots[number].chunks

    def is_spent(self, number: int) -> bool:
        """Return whether another process is to take the place of a slot's, when that has run what it has."""
        return number < len(self._slots) and self._spent(self._slots[number])

    def _spent(self, slot: _Slot) -> bool:
        return slot.worn or 0 < self.tasks <= slot.given

    def resize(self, count: int) -> None:
        """Have so many slots: those that are too many run nothing more, those that are taken back go on."""
        before, self.count = self.count, count
        for number, slot in enumerate(self._slots):
            if number >= count:
                self.wear(number)
            elif number >= before:
                slot.worn = False
        self.assign()

    def wear(self, number: int) -> None:
        """Let a slot's process start nothing more."""
        slot = self._slots[number]
        slot.worn = True
        self._bare(number, slot)

    # -------------------------------------------------------------- assigning

    def rescue(self, now_s: float) -> None:
        """Take back what is stuck behind a long element, if a slot idles."""
        if self._ready or not self._has_idle():
            return
        for number, slot in enumerate(self._slots):
            if slot.unstarted and slot.running is not None and now_s - slot.since_s > _STUCK_S:
                self._take_back(number)

    def _has_idle(self) -> bool:
        return self._active < self.count and any(
            slot.up and not slot.chunks and not self._spent(slot) for slot in self._slots
        )

    @property
    def uneven(self) -> bool:
        """Return whether a slot idles while another has elements that it has not started."""
        return not self._ready and self._has_idle() and any(slot.unstarted for slot in self._slots)

    @property
    def busy(self) -> bool:
        """Return whether any slot has work."""
        return any(slot.chunks for slot in self._slots)

    def learn(self, function: bytes, seconds: float) -> None:
        """Take note of how long an element of a function took."""
        before = self._speed_s.pop(function, None)
        self._speed_s[function] = seconds if before is None else (before + seconds) / 2
        if len(self._speed_s) > _SPEEDS:
            del self._speed_s[next(iter(self._speed_s))]

    def assign(self) -> None:
        """Give work to slots that have room, the least busy first."""
        if not self._ready:
            return
        free = self.count - self._active
        for depth in range(_AHEAD):
            for number, slot in enumerate(self._slots):
                if not self._ready or free < 0:
                    return
                if not slot.up or slot.bare or slot.waiting or len(slot.chunks) != depth or self._spent(slot):
                    continue
                if depth == 0 and free == 0:
                    break
                if self._give(number, slot) and depth == 0:
                    free -= 1

    def _give(self, number: int, slot: _Slot) -> bool:
        chunk = self._ready[0]
        held = self.held.get(chunk.token)
        if held is None:
            self._ready.popleft()
            return False
        cost_s = self._speed_s.get(held.lease.function, _UNKNOWN_S)
        if slot.chunks and cost_s > _CHUNK_S / _FEWEST:
            return False  # long tasks wait here, where any slot can take them
        fair = max(1, sum(c.hi - c.lo for c in self._ready) // (2 * self.count))
        count = max(1, min(int(_CHUNK_S / max(cost_s, 1e-6)), max(fair, _FEWEST)))
        if self.tasks:
            count = min(count, self.tasks - slot.given)
        hi = min(chunk.hi, chunk.lo + count)
        slot.given += hi - chunk.lo
        slot.chunks.append(Chunk(chunk.token, chunk.lo, hi))
        self.orders.append(Run(number, chunk.token, chunk.lo, hi, held.lease))
        chunk.lo = hi
        if chunk.lo == chunk.hi:
            self._ready.popleft()
        return True


def spans(open_: set[int], lo: int, hi: int, but: int) -> list[tuple[int, int]]:
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
