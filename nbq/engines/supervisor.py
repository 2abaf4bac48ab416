"""The engine process: one loop between the hub's socket and the slots' pipes.

It owns the connection, heartbeats, results that the hub has not taken, interrupts and kills. It runs
no user code and unpickles nothing: it checks seals, cuts blocks into elements for slots, and seals
what comes back.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import time
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
from nbq.engines.slots import Slots
from nbq.engines.telling import EngineLog
from nbq.engines.tunnel import Tunnel
from nbq.errors import (
    AuthenticationError,
    HubUnreachable,
    VersionMismatch,
)
from nbq.logs import LogFormat, configure
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
_TRIM_S = 1.0
"""How often what slots print outside Python is bounded."""
_GREET_S = 2.0
"""An engine joins with its first slot that is ready; or without one, after so long."""


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
        log_format: How it writes its log.
        log_levels: What it writes there (``logs.levels``).
        least: Between so many slots and ``most`` the hub may scale it; 0 and 0: it may not.
        most: See there.
        command: What to execute to begin anew; empty if it cannot.
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
    log_format: LogFormat = "text"
    log_levels: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    command: list[str] = []


class Supervisor:
    """One engine.

    Args:
        options: How to run.
        endpoint: The connection to the hub.
        log: Its log.
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
        log: EngineLog,
        tunnel: Tunnel | None = None,
    ) -> None:
        self._options = options
        self._tunnel = tunnel
        self._endpoint = endpoint
        self._connection = options.connection if tunnel is None else tunnel.connection
        self._log = log
        self._key = bytes.fromhex(options.connection.payload_key)
        name = options.name or f"{socket.gethostname()}-{os.getpid()}"
        said = versions()
        info = EngineInfo(
            name, socket.gethostname(), os.getpid(), options.slots, options.queues,
            said["python"], said["nbq"], said["cloudpickle"], least=options.least, most=options.most,
            process=bool(options.command),
        )  # fmt: skip
        token = options.connection.token.encode()
        tasks = options.settings.max_tasks_per_child or 0
        self.session = EngineSession(os.urandom(8), info, versions(), token, tasks)
        self._name = name
        self._sealing = Sealing(self._key, name)
        self._slots = Slots(self.session, options.settings, self._process, log)
        self._temporary = self._folder("engine")
        self._blobs = str(self._temporary)
        self._courier = Courier(self._temporary, self.session)
        self._began_s = self._clock()
        self._greeted = False
        self._ending = False
        self.begins_anew = False
        """Whether it is to begin anew, as the same process, when it has ended."""
        self._stopping = False
        self._lost_s: float | None = None
        self._complained = False
        self._dialled_s = 0.0
        self._trimmed_s = 0.0

    # -------------------------------------------------------------- the loop

    def run(self) -> int:
        """Serve until told to end; returns the exit code.

        Raises:
            HubError: The hub refuses this engine for good, or was gone for longer than allowed.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        try:
            self._slots.start_all()
            while not self._done():
                self._turn()
            return 0
        finally:
            self._slots.close()
            self._endpoint.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _on_signal(self, signum: int, _frame: object) -> None:
        """Drain on the first SIGTERM; stop at once on SIGINT or the second."""
        if signum == signal.SIGINT or self._ending:
            self._stopping = True
        self._ending = True
        self.begins_anew = False
        self._endpoint.wake()

    def _done(self) -> bool:
        if self._stopping:
            return True
        if self._options.parent and os.getppid() != self._options.parent:
            return True
        return self.session.draining and self.session.idle and not self.session.busy

    def _turn(self) -> None:
        session = self.session
        messages, ready = self._endpoint.receive(self._patience_s(), self._slots.fds.keys())
        now_s = self._clock()
        for message in messages:
            self._from_hub(message, now_s)
        for fd in ready & self._slots.fds.keys():  # a message may have led to the end of some
            self._from_slot(*self._slots.fds[fd], now_s)
        if self._ending and session.connected:
            session.drain()
        session.tick(now_s)
        self._carry_out()
        self._send()  # what can be done at once leaves before everything is looked after
        self._slots.watch(now_s, self._limit)
        self._trim(now_s)
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
        return min(_BUSY_S, *(child.limit_in_s(now_s) for child in self._slots.children if child is not None))

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
            self._log.say(f"connected to hub {message.hub} at {self._endpoint.address}")
        self._courier.receive(message)
        session.receive(message, now_s)
        if isinstance(message, wire.Order):
            self._obey(message, now_s)
        if session.denied is not None:
            kind = VersionMismatch if session.denied.code == "version" else AuthenticationError
            raise kind(session.denied.text)

    def _obey(self, order: wire.Order, now_s: float) -> None:
        """Do what the hub passed on from somebody, or wants itself."""
        if order.text:
            self._log.say(f"told to {order.verb} {order.text}")
        match order.verb:
            case "scale":
                self._slots.resized(now_s)
            case "reload":
                self._slots.renew_all(now_s)
            case "stop":
                self._stopping = True
                self.begins_anew = False
            case "restart" if self._options.command:
                self.begins_anew = self._ending = True
            case _:
                pass  # drain: the session does it

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
            if self._slots.ready or now_s - self._began_s > _GREET_S:
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
                self._log.trouble(f"{why}; dialling again until it answers")
            if self._tunnel is None:
                self._connection = refresh_endpoints(self._connection)
            self._endpoint.reset(self._connection)
            self._hello(now_s)

    # -------------------------------------------------------------- slots

    def _process(self) -> Child:
        """Start a process for a slot."""
        options = self._options
        init = pipe.Init(
            self._key, self._name, options.include, options.sys_path, options.cwd, options.element_limit
        )
        return self._spawn(slot_environment(self._connection.path, dump(options.settings)), init)

    def _from_slot(self, number: int, child: Child, now_s: float) -> None:
        messages, alive = child.receive()
        ended: list[Ended] = []
        for message in messages:
            match message:
                case pipe.Results():
                    ended.extend(self._results(number, message))
                    self._slots.weigh(number, child)
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
                    alive = alive and self._slots.came_up(number, child, message)
        self._end(number, ended, now_s)
        if not alive:
            self._slots.bury(number, child, now_s)

    def _on_waits(self, number: int, child: Child, *, on: bool) -> None:
        limit = self._options.settings.waiting_limit * self._slots.count
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
            outcome = one.outcome
            if (outcome.errors or outcome.again) and outcome.token in self.session.held:
                self._log.ended(number, self.session.lease(outcome.token), outcome)
            self.session.ended(number, [(one.outcome, one.block)], now_s, one.added, one.functions)
        ended.clear()

    def _limit(self, number: int, child: Child, now_s: float) -> None:
        """Let an element fail, and stop it, when its time limit has passed."""
        over = child.over_limit(now_s)
        if over is None or over[0] not in self.session.held:
            return
        token, index, ran_s = over
        lease = self.session.lease(token)
        self._end(number, [self._sealing.limited(lease, index, time.time() - ran_s, ran_s)], now_s)
        child.halt(token, index, index + 1, lease.cancel_grace_s)

    def _trim(self, now_s: float) -> None:
        """Now and then, see how large everything is, and keep it within bounds."""
        if now_s - self._trimmed_s > _TRIM_S:
            self._trimmed_s = now_s
            self._slots.trim_output()
            self.session.rss = sum(map(resident_bytes, [os.getpid(), *self._slots.pids]))
            self._courier.sweep()

    def _carry_out(self) -> None:
        """Do what the session ordered; an order may lead to further ones."""
        while self.session.orders:
            order = self.session.orders.pop(0)
            child = self._slots.children[order.slot]
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
    """Run an engine until it is told to end; returns the exit code. Told to restart, it does not return.

    Raises:
        HubError: The hub cannot be reached or refuses this engine.
        OSError: It is to begin anew, but cannot: its Python is gone.
    """
    configure("engine", options.log_format, options.log_levels)
    log = EngineLog()
    tunnel = Tunnel(options.via, options.connection, log.trouble) if options.via else None
    try:
        connection = options.connection if tunnel is None else tunnel.connection
        supervisor = Supervisor(options, PeerEndpoint(connection), log, tunnel)
        code = supervisor.run()
    finally:
        if tunnel is not None:
            tunnel.close()
    if supervisor.begins_anew:
        log.say(f"begins anew: {shlex.join(options.command)}")
        os.execv(options.command[0], options.command)  # noqa: S606 - there is no shell in it
    log.say("it ends")
    return code
