"""The engine process: one loop between the hub's socket and the slots' pipes.

It owns the connection, heartbeats, results that the hub has not taken, interrupts and kills. It runs
no user code and unpickles nothing: it checks seals, cuts blocks into elements for slots, and seals
what comes back.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from nbq import payload, wire
from nbq.configuration import Settings, dump
from nbq.core.model import EngineInfo
from nbq.engines import pipe
from nbq.engines.child import Child
from nbq.engines.courier import Courier
from nbq.engines.roster import Abort
from nbq.engines.sealing import Ended, Sealing
from nbq.engines.session import EngineSession, Halt, Run, TakeBack
from nbq.engines.tunnel import Tunnel
from nbq.errors import (
    AuthenticationError,
    HubUnreachable,
    VersionMismatch,
)
from nbq.settings import (
    Connection,
    refresh_endpoints,
    resident_bytes,
    slot_environment,
    temporary_dir,
)
from nbq.transport import PeerEndpoint, PeerTransport
from nbq.version import versions

__all__ = ["EngineOptions", "Supervisor", "run_engine"]

_IDLE_S = 0.5
_BUSY_S = 0.05
_UNEVEN_S = 0.005
_REDIAL_S = 0.5
_LOOK_S = 0.02
"""How often to look for a hub that listens nowhere yet."""
_COMPLAIN_S = 2.0
_START_TRIES = 3
_TRIM_S = 1.0
"""How often what slots print outside Python is bounded."""
_START_PAUSE_S = 1.0
_GREET_S = 2.0
"""An engine joins with its first slot that is ready; or without one, after so long."""
_STAND_IN_S = 5.0
"""For how long a stand-in that is not needed is kept."""
_LEAVE_S = 2.0
"""How long a process that is to end has for that."""


class EngineOptions(Struct, frozen=True):
    """How an engine is to run.

    Args:
        connection: How to reach the hub.
        slots: How many elements run at a time.
        queues: What it takes work from.
        include: Modules that every slot imports at its start.
        name: Its name, unique on the hub.
        hub_timeout_s: How long to wait for a hub that is gone; None for ever.
        parent: A process with which the engine ends, or 0.
        sys_path: Folders added to the slots' import path.
        cwd: The slots' working folder; empty for the engine's own.
        element_limit: The most bytes that a result may have.
        via: ``USER@HOST`` through which the hub is reached by ssh; empty to dial it directly.
        settings: What else is set; the slots have the same settings.
    """

    connection: Connection
    slots: int
    queues: list[str]
    include: list[str] = []
    name: str = ""
    hub_timeout_s: float | None = None
    parent: int = 0
    sys_path: list[str] = []
    cwd: str = ""
    element_limit: int = payload.ELEMENT_LIMIT
    via: str = ""
    settings: Settings = Settings()


class Supervisor:
    """One engine.

    Args:
        options: How to run.
        endpoint: The connection to the hub.
        say: Takes a line for the log.
        tunnel: What the connection goes through, or None.
    """

    # What an engine inside this process has in place of real time, processes and a folder (nbq.local).
    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _spawn: Callable[[dict[str, str], pipe.Init], Child] = staticmethod(Child)
    _folder: Callable[[str], Path] = staticmethod(temporary_dir)

    def __init__(
        self,
        options: EngineOptions,
        endpoint: PeerTransport,
        say: Callable[[str], None],
        tunnel: Tunnel | None = None,
    ) -> None:
        self._options = options
        self._tunnel = tunnel
        self._endpoint = endpoint
        self._connection = options.connection if tunnel is None else tunnel.connection
        self._say = say
        self._key = bytes.fromhex(options.connection.payload_key)
        name = options.name or f"{socket.gethostname()}-{os.getpid()}"
        said = versions()
        info = EngineInfo(
            name, socket.gethostname(), os.getpid(), options.slots, options.queues,
            said["python"], said["nbq"], said["cloudpickle"],
        )  # fmt: skip
        token = options.connection.token.encode()
        tasks = options.settings.max_tasks_per_child or 0
        self.session = EngineSession(os.urandom(8), info, versions(), token, tasks)
        self._name = name
        self._sealing = Sealing(self._key, name)
        self._children: list[Child | None] = [None] * options.slots
        self._spares: dict[int, Child] = {}
        """By slot: processes that are to take the place of others."""
        self._leaving: list[tuple[Child, float]] = []
        """Processes that are to end, and when they are killed."""
        self._failures: defaultdict[int, int] = defaultdict(int)
        self._start_at_s: defaultdict[int, float] = defaultdict(float)
        self._idle_s: dict[int, float] = {}
        """By stand-in: since when it has not been needed."""
        self._temporary = self._folder("engine")
        self._blobs = str(self._temporary)
        self._courier = Courier(self._temporary, self.session)
        self._began_s = self._clock()
        self._greeted = False
        self._ending = False
        self._stopping = False
        self._lost_s: float | None = None
        self._complained = False
        self._dialled_s = 0.0
        self._trimmed_s = 0.0
        self._fds: dict[int, tuple[int, Child]] = {}
        """Slots and their processes by the descriptors of their pipes."""

    # -------------------------------------------------------------- the loop

    def run(self) -> int:
        """Serve until told to end; returns the exit code.

        Raises:
            HubError: The hub refuses this engine for good, or was gone for longer than allowed.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        try:
            for number in range(self._options.slots):
                self._start(number)
            while not self._done():
                self._turn()
            return 0
        finally:
            for _, child in self._fds.values():
                child.close()
            for child, _ in self._leaving:
                child.close()
            self._endpoint.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _on_signal(self, signum: int, _frame: object) -> None:
        """Drain on the first SIGTERM; stop at once on SIGINT or the second."""
        if signum == signal.SIGINT or self._ending:
            self._stopping = True
        self._ending = True
        self._endpoint.wake()

    def _done(self) -> bool:
        if self._stopping:
            return True
        if self._options.parent and os.getppid() != self._options.parent:
            return True
        return self.session.draining and self.session.idle and not self.session.busy

    def _turn(self) -> None:
        session = self.session
        messages, ready = self._endpoint.receive(self._patience_s(), self._fds.keys())
        now_s = self._clock()
        for message in messages:
            self._from_hub(message, now_s)
        for fd in ready:
            self._from_slot(*self._fds[fd], now_s)
        if self._ending and session.connected:
            session.drain()
        session.tick(now_s)
        self._carry_out()
        self._send()  # what can be done at once leaves before everything is looked after
        self._watch_slots(now_s)
        for number, ended in self._courier.move():
            self._end(number, [ended], now_s)
        self._watch_hub(now_s)
        self._carry_out()
        self._send()

    def _patience_s(self) -> float:
        """Return how long a turn may wait for messages."""
        if not self._endpoint.address:
            return _LOOK_S
        if self.session.uneven:
            return _UNEVEN_S
        if not self.session.busy:
            return _IDLE_S
        now_s = self._clock()
        return min(_BUSY_S, *(child.limit_in_s(now_s) for child in self._children if child is not None))

    # -------------------------------------------------------------- the hub

    def _hello(self, now_s: float) -> None:
        self._greeted = True
        self._dialled_s = now_s
        self._endpoint.send(self.session.hello(now_s))

    def _from_hub(self, message: wire.ToPeer, now_s: float) -> None:
        session = self.session
        if isinstance(message, wire.Welcome):
            self._endpoint.session = message.session
            self._lost_s = None
            self._complained = False
            session.fetch = not message.blobs
            self._blobs = message.blobs or str(self._temporary)
            self._courier.restart()
            self._say(f"connected to hub {message.hub} at {self._endpoint.address}")
        self._courier.receive(message)
        session.receive(message, now_s)
        if session.denied is not None:
            kind = VersionMismatch if session.denied.code == "version" else AuthenticationError
            raise kind(session.denied.text)

    def _send(self) -> None:
        outbox = self.session.outbox
        while outbox and (self.session.connected or isinstance(outbox[0], wire.Leaving)):
            if not self._endpoint.send(outbox[0]):
                return
            outbox.popleft()

    def _watch_hub(self, now_s: float) -> None:
        """Dial again when the hub is silent; give up when it was gone for too long."""
        session = self.session
        if self._tunnel is not None:
            self._tunnel.keep()
        if not self._greeted:
            ready = any(child is not None and child.ready for child in self._children)
            if ready or now_s - self._began_s > _GREET_S:
                self._hello(now_s)
            return
        absent = not self._endpoint.address
        if not absent and not session.silent(now_s):
            return
        if self._lost_s is None:
            self._lost_s = now_s
        timeout_s = self._options.hub_timeout_s
        if timeout_s is not None and now_s - self._lost_s > timeout_s:
            raise HubUnreachable(f"the hub was gone for {timeout_s:g} s (--hub-timeout)")
        if self._ending or session.draining:
            self._stopping = True  # nobody to give anything back to
        if now_s - self._dialled_s > (_LOOK_S if absent else _REDIAL_S):
            if not self._complained and now_s - self._lost_s > _COMPLAIN_S:
                self._complained = True
                why = self._endpoint.trouble() or "the hub does not answer"
                self._say(f"{why}; dialling again until it answers")
            if self._tunnel is None:
                self._connection = refresh_endpoints(self._connection)
            self._endpoint.reset(self._connection)
            self._hello(now_s)

    # -------------------------------------------------------------- slots

    def _start(self, number: int) -> None:
        """Start the process of a slot."""
        while number >= len(self._children):
            self._children.append(None)
        self._children[number] = self._process(number)

    def _process(self, number: int) -> Child:
        options = self._options
        init = pipe.Init(
            self._key, self._name, options.include, options.sys_path, options.cwd, options.element_limit
        )
        child = self._spawn(slot_environment(self._connection.path, dump(options.settings)), init)
        self._fds[child.fd] = number, child
        return child

    def _from_slot(self, number: int, child: Child, now_s: float) -> None:
        messages, alive = child.receive()
        ended: list[Ended] = []
        for message in messages:
            match message:
                case pipe.Results():
                    ended.extend(self._results(number, message))
                    self._weigh(number, child)
                case pipe.Finished():
                    self._end(number, ended, now_s)
                    child.finished(message.position)
                    self.session.chunk_done(number)
                case pipe.Noted():
                    note = wire.Note(message.token, message.index, message.state, message.meta)
                    self.session.noted(number, note)
                case pipe.Waits():
                    self._on_waits(number, child, on=message.on)
                case pipe.Hello():
                    alive = alive and self._on_hello(number, child, message)
        self._end(number, ended, now_s)
        if not alive:
            self._bury(number, child, now_s)

    def _on_hello(self, number: int, child: Child, hello: pipe.Hello) -> bool:
        """A process has come up; returns whether it can be used."""
        if hello.trouble:
            self._say(f"slot {number}: {hello.trouble}")
            self._failures[number] += 1
            return False
        child.ready = True
        self._failures[number] = 0
        self.session.knows(hello.tasks)
        if self._children[number] is child:
            self.session.slot_up(number)
        return True

    def _on_waits(self, number: int, child: Child, *, on: bool) -> None:
        limit = self._options.settings.waiting_limit * self._options.slots
        if on and self.session.roster.waiting >= limit:
            child.send(pipe.WaitAnswer(limit))
            return
        self.session.slot_waits(number, on)
        if on:
            child.send(pipe.WaitAnswer())

    def _results(self, number: int, results: pipe.Results) -> list[Ended]:
        """Seal what a slot sent; nothing comes of what is no longer wanted, or has to be uploaded first."""
        if results.token not in self.session.held:
            return []
        ended = self._sealing.ended(self.session.lease(results.token), results, far=self.session.fetch)
        return [] if self._courier.holds(number, ended) else [ended]

    def _end(self, number: int, ended: list[Ended], now_s: float) -> None:
        for one in ended:
            self.session.ended(number, [(one.outcome, one.block)], now_s, one.added, one.functions)
        ended.clear()

    def _bury(self, number: int, child: Child, now_s: float) -> None:
        """A process is dead: say what it ran, and put another in its place."""
        running = child.running()
        child.kill()
        text = child.evidence()
        if not child.ready:
            self._failures[number] += 1
            self._say(f"slot {number} did not start: {text}")
        elif child.halted is None:
            self._say(f"slot {number} died: {text}")
        del self._fds[child.fd]
        child.close()
        pause_s = _START_PAUSE_S * (self._failures[number] >= _START_TRIES)
        self._start_at_s[number] = now_s + pause_s
        if self._spares.get(number) is child:
            del self._spares[number]
            return
        self._children[number] = self._spares.pop(number, None)
        token, index = running if running is not None else (0, -1)
        self.session.slot_down(number, token, index, text, now_s)
        spare = self._children[number]
        if spare is not None and spare.ready:
            self.session.slot_up(number)

    def _leave(self, child: Child, now_s: float) -> None:
        """Let a process that has nothing to do end."""
        del self._fds[child.fd]
        child.send(pipe.Bye())
        self._leaving.append((child, now_s + _LEAVE_S))

    def _watch_slots(self, now_s: float) -> None:
        for number, child in enumerate(self._children):
            if child is None:
                if number < self._options.slots and now_s >= self._start_at_s[number] and not self._stopping:
                    self._start(number)
                continue
            child.flush()
            self.session.slot_runs(number, child.running(), now_s)
            child.hurry(now_s)
            self._limit(number, child, now_s)
            if child.overdue(now_s):
                child.kill()
            if self.session.roster.is_spent(number):
                self._renew(number, child, now_s)
            elif number in self._spares:  # what was to spend the old process was taken back from it
                self._leave(self._spares.pop(number), now_s)
            if now_s - self._trimmed_s > _TRIM_S:
                child.trim_output()
        self._stand_in(now_s)
        for child, until_s in list(self._leaving):
            if child.process.poll() is not None or now_s > until_s:
                child.close()
                self._leaving.remove((child, until_s))
        if now_s - self._trimmed_s > _TRIM_S:
            self._trimmed_s = now_s
            pids = [os.getpid(), *(child.process.pid for _, child in self._fds.values())]
            self.session.rss = sum(map(resident_bytes, pids))
            self._courier.sweep()

    def _limit(self, number: int, child: Child, now_s: float) -> None:
        """Let an element fail, and stop it, when its time limit has passed."""
        over = child.over_limit(now_s)
        if over is None or over[0] not in self.session.held:
            return
        token, index, ran_s = over
        lease = self.session.lease(token)
        self._end(number, [self._sealing.limited(lease, index, time.time() - ran_s, ran_s)], now_s)
        child.halt(token, index, index + 1, lease.cancel_grace_s)

    def _weigh(self, number: int, child: Child) -> None:
        """Let a process that has grown too large run nothing more."""
        bound = self._options.settings.max_memory_per_child
        roster = self.session.roster
        if bound and not roster.is_spent(number) and resident_bytes(child.process.pid) > bound:
            roster.wear(number)

    def _renew(self, number: int, child: Child, now_s: float) -> None:
        """Put another process in the place of one that is to run nothing more, once that is ready."""
        spare = self._spares.get(number)
        if spare is None:
            if now_s >= self._start_at_s[number] and not self._stopping:
                self._spares[number] = self._process(number)
        elif spare.ready and self.session.roster.is_idle(number):
            self._leave(child, now_s)
            self._children[number] = self._spares.pop(number)
            self.session.slot_up(number)

    def _stand_in(self, now_s: float) -> None:
        """Start processes in the stead of those whose elements wait for others, and end those that idle."""
        roster, count = self.session.roster, self._options.slots
        if len(self._children) == count and not roster.waiting:
            return
        wanted = roster.wanted - count
        for number in range(count, count + roster.waiting):
            if self._alive_stand_ins() >= wanted:
                break
            free = number >= len(self._children) or self._children[number] is None
            if free and now_s >= self._start_at_s[number] and not self._stopping:
                self._start(number)
        for number, child in enumerate(self._children[count:], count):
            if child is None or not roster.is_idle(number) or self._alive_stand_ins() <= wanted:
                self._idle_s.pop(number, None)
            elif now_s - self._idle_s.setdefault(number, now_s) > _STAND_IN_S:
                self._leave(child, now_s)
                self._children[number] = None
                self.session.slot_down(number, 0, -1, "", now_s)

    def _alive_stand_ins(self) -> int:
        return sum(child is not None for child in self._children[self._options.slots :])

    def _carry_out(self) -> None:
        """Do what the session ordered; an order may lead to further ones."""
        while self.session.orders:
            order = self.session.orders.pop(0)
            child = self._children[order.slot]
            if child is None:
                continue
            match order:
                case Run():
                    self._give(child, order)
                case TakeBack():
                    self.session.took_back(order.slot, child.take_back())
                case Halt():
                    child.halt(order.token, order.lo, order.hi, order.grace_s)
                case Abort():
                    child.abort(order.token, order.index)

    def _give(self, child: Child, order: Run) -> None:
        lease = order.lease
        if not child.knows_function(lease.function):
            data = self.session.functions[lease.function]
            child.send(pipe.FunctionBody(lease.function, data, self._blobs))
        if lease.feed is not None and not child.knows_feed(order.token):
            child.send(pipe.Feeding(order.token, lease.run, lease.feed, self._blobs))
        position = child.next_position(order.hi - order.lo)
        work = self._sealing.work(lease, order.lo, order.hi, position, self._blobs)
        child.gave(work)
        child.send(work)


def run_engine(options: EngineOptions) -> int:
    """Run an engine until it is told to end; returns the exit code.

    Raises:
        HubError: The hub cannot be reached or refuses this engine.
    """
    tunnel = Tunnel(options.via, options.connection, say) if options.via else None
    try:
        connection = options.connection if tunnel is None else tunnel.connection
        return Supervisor(options, PeerEndpoint(connection), say, tunnel).run()
    finally:
        if tunnel is not None:
            tunnel.close()


def say(text: str) -> None:
    """Write a line to the engine's log, its standard error."""
    print(f"nbq engine: {text}", file=sys.stderr, flush=True)
