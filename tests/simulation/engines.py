"""Engines of a simulated world: the real session, driven as the supervisor does, over simulated slots.

``EngineActor.turn`` and what it calls follow ``nbq/engines/supervisor.py`` line by line; a ``Slot`` behaves
as ``nbq/engines/slot.py`` and its page do.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from nbq import wire
from nbq.core.events import Addition, Again, Outcome
from nbq.core.model import EngineInfo, Many, Slice, State
from nbq.engines.session import EngineSession, Halt, Run, TakeBack
from tests.simulation.peers import PeerActor
from tests.simulation.workload import FUNCTIONS, SPEEDS, Call, Replacement, Violation, mix, open_block, seal

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["EngineActor", "Slot"]

_IDLE_S = 0.5
_BUSY_S = 0.05
_UNEVEN_S = 0.005
_RESTART_S = 0.3
_SEND_S = 0.005
_AGREE_S = 0.0002


class Work:
    """Elements that a slot was given."""

    __slots__ = ("cut", "hi", "lease", "lo", "next")

    def __init__(self, lease: wire.Lease, lo: int, hi: int) -> None:
        self.lease = lease
        self.lo = self.next = lo
        self.hi = self.cut = hi
        """From ``cut`` on, nothing may be started."""

    def __str__(self) -> str:
        """Return what a trace shows."""
        return f"finished {self.lease.token}, {self.lo} to {self.hi}"


class Results(msgspec.Struct):
    """Elements that ended in a slot."""

    lease: wire.Lease
    lo: int
    states: bytearray
    elements: list[bytes]
    seconds: float = 0.0
    errors: dict[int, str] = {}
    again: Again | None = None
    replaced: Replacement | None = None

    def __str__(self) -> str:
        """Return what a trace shows."""
        return f"results {self.lease.token}, {self.lo} to {self.lo + len(self.states)}"


class Slot:
    """One slot process."""

    def __init__(self, engine: EngineActor, number: int) -> None:
        self.engine = engine
        self.world = engine.world
        self.number = number
        self.ready = False
        """Whether its supervisor knows that it is up."""
        self.dead = False
        self.pipe: deque[str | Results | Work] = deque()
        """What it wrote and its supervisor has not read."""
        self.works: deque[Work] = deque()
        """As the supervisor knows them: until it has read that they are finished."""
        self.running: tuple[int, int] | None = None
        self.kill_at_s: float | None = None
        self.evidence = ""
        self._queue: deque[Work] = deque()
        self._batch: Results | None = None
        self._sent_s = 0.0
        self._began_s = 0.0
        self._turns = 0
        self.world.after(_RESTART_S * self.world.rng.random(), self._up)

    def _up(self) -> None:
        if not self.dead:
            self._write("up")
            self._next()

    def _write(self, message: str | Results | Work) -> None:
        self.pipe.append(message)
        late_s = 0.02 if self.world.rng.random() < 0.05 else 0.001
        self.engine.wake(self.world.now_s + self.world.rng.random() * late_s)

    def give(self, work: Work) -> None:
        """Take in work, behind what there is."""
        self.works.append(work)
        self._queue.append(work)
        if self.running is None and self.ready:
            self.world.after(self.world.rng.random() * 0.0005, self._idle_next)

    def _idle_next(self) -> None:
        if not self.dead and self.running is None:
            self._next()

    def _next(self) -> None:
        """Start the next element, or say that its work is finished."""
        while self._queue:
            work = self._queue[0]
            if work.next < work.cut:
                index = work.next
                work.next += 1
                self._start(work, index)
                return
            self._queue.popleft()
            self._send()
            self._write(work)

    def _start(self, work: Work, index: int) -> None:
        lease = work.lease
        self.running = lease.token, index
        self._began_s = self.world.now_s
        self.world.started(lease, index, self)
        call = self._call(lease, index)
        body = self.engine.session.functions[lease.function]
        seconds = self.world.rng.uniform(*SPEEDS[body])
        self._turns += 1
        mine = self._turns
        if call.does == "die" and self.world.deaths(lease, index) < call.times:
            self.world.after(seconds / 2, lambda: self._fall(mine))
        else:
            self.world.after(seconds, lambda: self._end(mine, work, index, seconds))

    def _call(self, lease: wire.Lease, index: int) -> Call:
        args = lease.args
        lo, n = (0, 1) if lease.shared else (args.lo, args.n)
        elements = open_block(args.data, *lease.args_place, lo, n)
        return msgspec.msgpack.decode(elements[0 if lease.shared else index - lo], type=Call)

    def _fall(self, turn: int) -> None:
        if turn == self._turns and not self.dead:
            self.kill("signal SIGSEGV")

    def _end(self, turn: int, work: Work, index: int, seconds: float) -> None:
        if turn != self._turns or self.dead:
            return
        lease = work.lease
        call = self._call(lease, index)
        if call.does == "again" and lease.retries < call.times:
            self._send()
            delay_s = self.world.rng.choice((0.0, self.world.rng.random()))
            asked = Results(lease, index, bytearray([State.RETRY]), [], again=Again(delay_s, None, call.text))
            self._write(asked)
            self.running = None
            self._next()
            return
        if call.does == "replace":
            self._send()
            made = Replacement(lease.run, lease.node, index, call)
            self._write(Results(lease, index, bytearray([State.WAITING]), [], replaced=made))
            self.running = None
            self._next()
            return
        value = mix(self.engine.session.functions[lease.function], call.text, self._fed(lease, index))
        self.world.invariants.on_value(lease, index, value)
        batch = self._batch
        if batch is None:
            batch = self._batch = Results(lease, index, bytearray(), [])
        failed = call.does == "fail"
        if failed:
            batch.errors[index] = call.text
        batch.states.append(State.FAILURE if failed else State.SUCCESS)
        batch.elements.append(msgspec.msgpack.encode([call.text if failed else value, lease.token]))
        batch.seconds += seconds
        if self.world.now_s - self._sent_s > _SEND_S:
            self._send()
        self.running = None
        self._next()

    def _fed(self, lease: wire.Lease, index: int) -> object:
        feed = lease.feed
        if feed is None:
            return None
        places: dict[tuple[int, int], str] = {}
        for block in feed.blocks:
            elements = open_block(block.data, *block.place(lease.run), block.lo, block.n)
            for at in range(block.use_lo, block.use_hi):
                places[block.node, at] = msgspec.msgpack.decode(elements[at - block.lo])[0]

        became = {(alias.node, alias.index): alias.value for alias in feed.became}

        def one(node: int, at: int) -> object:
            if (node, at) not in became:
                return places.get((node, at))
            built = build(became[node, at])
            return built[0] if isinstance(became[node, at], Slice) else built

        def build(tree: Slice | Many) -> list[object]:
            if isinstance(tree, Slice):
                return [one(tree.node, at) for at in range(tree.lo, tree.hi)]
            built: list[object] = []
            for item in tree.items:
                if isinstance(item, Slice):
                    built += build(item)
                else:
                    built.append(build(item))
            return built

        if feed.each and isinstance(feed.value, Slice):
            return one(feed.value.node, index)
        built = build(feed.value)
        return built[0] if isinstance(feed.value, Slice) else built

    def _send(self) -> None:
        batch, self._batch = self._batch, None
        self._sent_s = self.world.now_s
        if batch is not None:
            self._write(batch)

    # -------------------------------------------------------------- the page

    def take_back(self) -> list[tuple[int, int, int]]:
        """Keep it from starting more; returns what it will not start."""
        taken: list[tuple[int, int, int]] = []
        works = list(self.works)
        while any(work.next > work.lo for work in works[1:]):
            del works[0]  # it has come further than this
        for work in works:
            if work.next < work.hi:
                taken.append((work.lease.token, work.next, work.hi))
            work.cut = min(work.cut, work.next)
        if self.running is not None and self.world.now_s - self._began_s < _AGREE_S:
            self._turns += 1  # it met the new limits just as it was to begin: it ends without an outcome
            self.world.after(0.0, lambda: self._skip(self._turns))
        return taken

    def _skip(self, turn: int) -> None:
        if turn == self._turns and not self.dead:
            self.world.begun.pop(self.running, None)
            self.running = None
            self._next()

    def halt(self, token: int, lo: int, hi: int, grace_s: float) -> None:
        """Stop the running element, if it is one of these; it may take a while, or for ever."""
        if self.running is None or self.running[0] != token or not lo <= self.running[1] < hi:
            return
        self.kill_at_s = self.world.now_s + grace_s
        mine = self._turns
        if self.world.rng.random() < 0.7:
            self.world.after(self.world.rng.random() * 0.3, lambda: self._halted(mine))

    def _halted(self, turn: int) -> None:
        if turn == self._turns and self.running is not None and not self.dead:
            self._turns += 1
            self.kill_at_s = None
            self._send()
            self.running = None
            self._next()

    def overdue(self) -> bool:
        """Return whether it had its time to stop, and still runs the same element."""
        if self.kill_at_s is None:
            return False
        if self.running is None:
            self.kill_at_s = None
            return False
        return self.world.now_s >= self.kill_at_s

    def kill(self, how: str) -> None:
        """End the process; what it wrote can still be read."""
        if not self.dead:
            self.dead = True
            self.evidence = f"its slot died with {how}"
            if self.running is not None:
                self.world.slot_deaths.add(self.running)
            self.engine.wake(self.world.now_s + self.world.rng.random() * 0.01)


class EngineActor(PeerActor):
    """One engine."""

    def __init__(self, world: World, name: str, slots: int, queues: list[str]) -> None:
        engine = world.rng.randbytes(8)
        info = EngineInfo(name, "here", 1, slots, queues)
        session = EngineSession(engine, info, {}, b"engine")
        self.engine_session = session
        self.drained = False
        self._ending = False
        self._start_at_s = [0.0] * slots
        self.slots: list[Slot | None] = [None] * slots
        super().__init__(world, session)
        self.session: EngineSession = session
        for number in range(slots):
            self.slots[number] = Slot(self, number)

    def turn(self) -> None:
        """Take a turn (``Supervisor._turn``)."""
        session, now_s = self.session, self.world.now_s
        messages, self.inbox = self.inbox, []
        for message in messages:
            self.welcome(message)
            if isinstance(message, wire.Welcome):
                session.fetch = not message.blobs
            session.receive(message, now_s)
            if isinstance(message, wire.Order):
                self._resized()
            if session.denied is not None:
                raise Violation("denied", session.denied.text)
        for number, slot in enumerate(self.slots):
            if slot is not None and (slot.pipe or slot.dead):
                self._from_slot(number, slot, now_s)
        if self._ending and session.connected:
            session.drain()
        session.tick(now_s)
        self._carry_out()
        self.send_outbox()
        self._watch_slots(now_s)
        self.watch_hub()
        self._carry_out()
        self.send_outbox()
        if session.draining and session.idle and not session.busy:
            self.drained = True
            self.die()
            return
        wait_s = _UNEVEN_S if session.uneven else _BUSY_S if session.busy else _IDLE_S
        self.wake(now_s + wait_s)

    def _from_slot(self, number: int, slot: Slot, now_s: float) -> None:
        ended: list[tuple[Outcome, bytes]] = []
        while slot.pipe:
            message = slot.pipe.popleft()
            self.world.say(f"{self.session.info.name} slot {number} says {message}")
            if isinstance(message, Results) and message.replaced is not None:
                self.session.ended(number, ended, now_s)
                ended = []
                self._replaced(number, message, message.replaced, now_s)
            elif isinstance(message, Results):
                ended.extend(self._results(message))
            elif isinstance(message, Work):
                self.session.ended(number, ended, now_s)
                ended = []
                if slot.works and slot.works[0] is message:
                    slot.works.popleft()
                self.session.chunk_done(number)
            else:
                slot.ready = True
                self.session.slot_up(number)
        self.session.ended(number, ended, now_s)
        if slot.dead:
            self._bury(number, slot, now_s)

    def _replaced(self, number: int, results: Results, made: Replacement, now_s: float) -> None:
        if results.lease.token not in self.session.held:
            return
        addition = Addition(made.scope, made.graph, [block.meta() for block in made.blocks], True)
        outcome = Outcome(
            results.lease.token, results.lo, results.lo + 1, bytes(results.states), additions=[addition]
        )
        functions = {spec.function: FUNCTIONS[spec.function] for spec in made.graph.nodes}
        self.session.ended(number, [(outcome, b"")], now_s, [b.data for b in made.blocks], functions)

    def _results(self, results: Results) -> list[tuple[Outcome, bytes]]:
        if results.lease.token not in self.session.held:
            return []
        lease, lo, count = results.lease, results.lo, len(results.states)
        states = b"" if results.states == bytes([State.SUCCESS]) * count else bytes(results.states)
        block = b""
        if results.again is None and (not lease.ignore_result or states):
            block = seal(*lease.place, lo, results.elements)
        outcome = Outcome(
            lease.token, lo, lo + count, states, len(block), "", results.seconds, results.errors,
            results.again,
        )  # fmt: skip
        return [(outcome, block)]

    def _bury(self, number: int, slot: Slot, now_s: float) -> None:
        self.slots[number] = None
        self.world.say(f"{self.session.info.name} slot {number} is dead, it ran {slot.running}")
        token, index = slot.running or (0, -1)
        self.session.slot_down(number, token, index, slot.evidence, now_s)
        self._start_at_s[number] = now_s + self.world.rng.choice((0.0, 1.0))

    def _watch_slots(self, now_s: float) -> None:
        for number, slot in enumerate(self.slots):
            if slot is None:
                if number < self.session.roster.count and now_s >= self._start_at_s[number]:
                    self.slots[number] = Slot(self, number)
                continue
            if number >= self.session.roster.count and not slot.dead and self.session.roster.is_idle(number):
                slot.dead = True
                self.slots[number] = None
                self.session.slot_down(number, 0, -1, "", now_s)
                continue
            self.session.slot_runs(number, slot.running, now_s)
            if slot.overdue():
                slot.kill("signal SIGKILL")

    def _carry_out(self) -> None:
        while self.session.orders:
            order = self.session.orders.pop(0)
            self.world.say(f"{self.session.info.name} orders {str(order)[:80]}")
            slot = self.slots[order.slot]
            if slot is None:
                continue
            match order:
                case Run():
                    slot.give(Work(order.lease, order.lo, order.hi))
                case TakeBack():
                    self.session.took_back(order.slot, slot.take_back())
                case Halt():
                    slot.halt(order.token, order.lo, order.hi, order.grace_s)

    def watch_hub(self) -> None:
        """Dial again when the hub is silent; one that drains gives up (``Supervisor._watch_hub``)."""
        if self._ending and self.session.silent(self.world.now_s):
            self.drained = True
            self.die()
        else:
            super().watch_hub()

    @property
    def at_rest(self) -> bool:
        """Return whether it is connected and has nothing to do, or has gone."""
        session = self.session
        return not self.alive or (session.connected and session.idle and not session.busy)

    def scale(self, slots: int, least: int, most: int) -> None:
        """Be told by somebody to have other slots."""
        self.inbox.append(wire.Order("scale", slots, least, most))
        self.wake(self.world.now_s)

    def _resized(self) -> None:
        """Have places for all slots (``Slots.resized``)."""
        while len(self.slots) < self.session.roster.count:
            self.slots.append(None)
            self._start_at_s.append(0.0)
        for number, slot in enumerate(self.slots[self.session.roster.count :], self.session.roster.count):
            if slot is not None and not slot.ready:
                slot.dead = True
                self.slots[number] = None

    def drain(self) -> None:
        """SIGTERM."""
        self._ending = True
        self.wake(self.world.now_s)

    def die(self) -> None:
        """Kill -9, with all slots."""
        super().die()
        for slot in self.slots:
            if slot is not None:
                slot.dead = True
