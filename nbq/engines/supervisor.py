"""The engine process: one loop between the hub's socket and the slots' pipes.

It owns the connection, heartbeats, results that the hub has not taken, interrupts and kills. It runs
no user code and unpickles nothing: it checks seals, cuts blocks into elements for slots, and seals
what comes back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from nbq import payload, wire
from nbq.bulk import BlobTraffic
from nbq.configuration import Settings, dump
from nbq.core.model import EngineInfo
from nbq.engines import pipe
from nbq.engines.child import Child
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
_BLOB_S = 60.0
_TRIM_S = 1.0
"""How often what slots print outside Python is bounded."""
_START_PAUSE_S = 1.0


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
        self.session = EngineSession(os.urandom(8), info, versions(), token)
        self._name = name
        self._sealing = Sealing(self._key, name)
        self._children: list[Child | None] = [None] * options.slots
        self._failures = [0] * options.slots
        self._start_at_s = [0.0] * options.slots
        self._temporary = self._folder("engine")
        self._blobs = str(self._temporary)
        self._traffic = BlobTraffic(self._temporary)
        self._pending: dict[str, list[tuple[int, Ended, set[str]]]] = {}
        """By file on its way to the hub: what is reported when it, and others, are there."""
        self._ending = False
        self._stopping = False
        self._lost_s: float | None = None
        self._complained = False
        self._dialled_s = 0.0
        self._trimmed_s = 0.0
        self._fds: dict[int, int] = {}
        """Slots by the descriptors of their pipes."""
        self._asked: set[str] = set()

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
            self._hello(self._clock())
            while not self._done():
                self._turn()
            return 0
        finally:
            for child in self._children:
                if child is not None:
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
        wait_s = _UNEVEN_S if session.uneven else _BUSY_S if session.busy else _IDLE_S
        if not self._endpoint.address:
            wait_s = _LOOK_S
        messages, ready = self._endpoint.receive(wait_s, self._fds.keys())
        now_s = self._clock()
        for message in messages:
            self._from_hub(message, now_s)
        for fd in ready:
            self._from_slot(self._fds[fd], now_s)
        if self._ending and session.connected:
            session.drain()
        session.tick(now_s)
        self._carry_out()
        self._send()  # what can be done at once leaves before everything is looked after
        self._watch_slots(now_s)
        self._move_blobs()
        self._watch_hub(now_s)
        self._carry_out()
        self._send()

    # -------------------------------------------------------------- the hub

    def _hello(self, now_s: float) -> None:
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
            self._traffic.restart()
            self._say(f"connected to hub {message.hub} at {self._endpoint.address}")
        elif isinstance(message, wire.Chunk):
            self._traffic.on_chunk(message)
        elif isinstance(message, wire.Uploaded):
            self._traffic.on_uploaded(message)
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

    def _move_blobs(self) -> None:
        session, traffic = self.session, self._traffic
        for name in session.wanted_blobs:
            if name not in self._asked:
                self._asked.add(name)
                traffic.fetch(name)
        session.wanted_blobs.clear()
        for name in traffic.arrived:
            self._asked.discard(name)
            session.provide(name)
            with contextlib.suppress(ValueError):
                session.provide(bytes.fromhex(name))
        traffic.arrived.clear()
        for name in traffic.departed:
            for number, ended, missing in self._pending.pop(name, []):
                missing.discard(name)
                if not missing:
                    self._end(number, [ended], self._clock())
        traffic.departed.clear()
        if session.connected:
            session.outbox.extend(traffic.messages())

    def _sweep(self) -> None:
        """Delete what was fetched for leases that have ended."""
        if not self.session.fetch:
            return
        needed = self.session.named_blobs | self._pending.keys()
        for path in self._temporary.iterdir():
            # A young file may be a result that its slot has not reported yet; a part is being fetched.
            if path.name in needed or path.suffix == ".part":
                continue
            if time.time() - path.stat().st_mtime > _BLOB_S:
                path.unlink()

    # -------------------------------------------------------------- slots

    def _start(self, number: int) -> None:
        options = self._options
        init = pipe.Init(
            self._key, self._name, options.include, options.sys_path, options.cwd, options.element_limit
        )
        environment = slot_environment(self._connection.path, dump(options.settings))
        child = self._children[number] = self._spawn(environment, init)
        self._fds[child.fd] = number

    def _from_slot(self, number: int, now_s: float) -> None:
        child = self._children[number]
        if child is None:
            return
        messages, alive = child.receive()
        ended: list[Ended] = []
        for message in messages:
            if isinstance(message, pipe.Results):
                ended.extend(self._results(number, message))
            elif isinstance(message, pipe.Finished):
                self._end(number, ended, now_s)
                child.finished(message.position)
                self.session.chunk_done(number)
            elif not isinstance(message, pipe.Hello):
                continue
            elif message.trouble:
                self._say(f"slot {number}: {message.trouble}")
                self._failures[number] += 1
                alive = False
            else:
                child.ready = True
                self._failures[number] = 0
                self.session.slot_up(number)
        self._end(number, ended, now_s)
        if not alive:
            self._bury(number, now_s)

    def _results(self, number: int, results: pipe.Results) -> list[Ended]:
        """Seal what a slot sent; nothing comes of what is no longer wanted, or has to be uploaded first."""
        if results.token not in self.session.held:
            return []
        ended = self._sealing.ended(self.session.lease(results.token), results, far=self.session.fetch)
        # A file that is gone was sent before: another element named it, too.
        names = {name for name in ended.blobs if name in self._pending or (self._temporary / name).exists()}
        if not names:
            return [ended]
        self.session.deferred(results.token, results.lo)
        for name in names:
            self._pending.setdefault(name, []).append((number, ended, names))
            self._traffic.upload(name)
        return []

    def _end(self, number: int, ended: list[Ended], now_s: float) -> None:
        for one in ended:
            self.session.ended(number, [(one.outcome, one.block)], now_s, one.added, one.functions)
        ended.clear()

    def _bury(self, number: int, now_s: float) -> None:
        """A slot is dead: say what it ran, and put another in its place."""
        child = self._children[number]
        if child is None:
            return
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
        self._children[number] = None
        token, index = running if running is not None else (0, -1)
        self.session.slot_down(number, token, index, text, now_s)
        pause_s = _START_PAUSE_S * (self._failures[number] >= _START_TRIES)
        self._start_at_s[number] = now_s + pause_s

    def _watch_slots(self, now_s: float) -> None:
        for number, child in enumerate(self._children):
            if child is None:
                if now_s >= self._start_at_s[number] and not self._stopping:
                    self._start(number)
                continue
            child.flush()
            self.session.slot_runs(number, child.running(), now_s)
            child.hurry(now_s)
            if child.overdue(now_s):
                child.kill()
            if now_s - self._trimmed_s > _TRIM_S:
                child.trim_output()
        if now_s - self._trimmed_s > _TRIM_S:
            self._trimmed_s = now_s
            pids = [os.getpid(), *(child.process.pid for child in self._children if child is not None)]
            self.session.rss = sum(map(resident_bytes, pids))
            self._sweep()

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
