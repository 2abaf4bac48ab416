"""The cluster inside this process: who does something next, and when time passes.

One step after another: messages are exchanged; if there are none, a slot runs something; if none has anything
to run, the clock jumps to when the hub has something to do. If that is never, what somebody waits for can
never happen, and he is told so. The same submits lead to the same steps.
"""

from __future__ import annotations

import atexit
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from nbq import current
from nbq.blobs import BlobFolder
from nbq.client import Client
from nbq.configuration import Settings, current_settings
from nbq.core.model import Now, State
from nbq.core.queries import shown_state
from nbq.core.runs import Run
from nbq.core.scheduler import Limits, Scheduler
from nbq.engines.supervisor import EngineOptions
from nbq.errors import Standstill, UsageError
from nbq.hub import Hub, HubInfo
from nbq.local.engine import LocalEngine
from nbq.local.link import LocalLink
from nbq.local.loopback import Clock, LocalEndpoint, Loopback, MemoryStore
from nbq.settings import Connection, temporary_dir
from nbq.version import versions
from nbq.waits import patiently
from nbq.wire import Role
from nbq.zones import zone

__all__ = ["LocalClient", "LocalCluster"]

_TICK_S = 1e-6
"""A wait that ends has taken some time: what was due has passed, however numbers are rounded."""
_PATIENCE_S = 60.0
"""Nothing has happened for so long, and nothing is due: nothing ever will. All that a hub waits for of its
own accord (an engine that is silent, a lease that did not arrive) takes less."""
_FIRES = 1000
"""Schedules alone have fired so often, and nothing else has come further: it never will."""
_UNSETTLED_TURNS = 16


class _Scheduler(Scheduler):
    """The scheduler, which also says when something is due."""

    def due_s(self, now: Now) -> float | None:
        """Return in how many seconds something is due, expires or may start; None if nothing does."""
        waits = (self._deadlines.due_s(now), self._granting.wait_s(now))
        return min((wait for wait in waits if wait is not None), default=None)


class _Hub(Hub):
    """The hub, with that scheduler."""

    def _make_scheduler(self, epoch: int, limits: Limits | None) -> _Scheduler:
        self.deadlines = _Scheduler(epoch, limits, zone)
        return self.deadlines


class LocalCluster:
    """A hub, an engine and a client in this process, in virtual time.

    It is one ``with`` block, or lives as long as somebody holds it or a handle of it.

    Args:
        slots: How many tasks run at a time (as far as that can be told apart: one runs after another).
        queues: What the engine takes work from; None for whatever queue is named.
        limits: The bounds of the hub.
        settings: Settings for the calls of its client, over those of the process.
        waiting_limit: How many tasks for each slot may wait for others; None for what the setting says.
    """

    def __init__(
        self,
        slots: int = 1,
        queues: list[str] | None = None,
        limits: Limits | None = None,
        settings: Mapping[str, Any] | None = None,
        waiting_limit: int | None = None,
    ) -> None:
        self.clock = Clock()
        self.loopback = Loopback()
        self.lock = threading.RLock()
        """Held by the thread in which the cluster goes on."""
        self.engines: list[LocalEngine] = []
        self._slots = slots
        self._queues = queues
        self._waiting_limit = waiting_limit
        self._links: list[LocalLink] = []
        self._names = 0
        self._ran = 0
        """What slots have done so far."""
        self._progress = 0, 0
        """Commits and that, when time passed last."""
        self._idle_s = 0.0
        self._idle_turns = 0
        self._fires = 0
        """How often time has passed since for fire times of schedules alone."""
        self._left = 0
        """What had not ended when it did, of all that no schedule made."""
        self._unsettled = 0
        """Turns since the hub's last quiet moment: it may have kept something back for the next."""
        self.folder = _folder() / os.urandom(8).hex()
        self.folder.mkdir(mode=0o700)
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._secret = os.urandom(32).hex()
        self._path = str(self.folder / "local.json")
        info = HubInfo("local", "none", os.getpid(), versions())
        self.hub = _Hub(
            self.loopback, MemoryStore(), self.clock.now, info, _identify, BlobFolder(self.folder),
            limits,
        )  # fmt: skip
        self.add_engine()
        self.client = LocalClient(self, settings)

    # -------------------------------------------------------------- who takes part

    def _connection(self, role: Role) -> Connection:
        return Connection("local", role, [], "", "", "", role, self._secret, path=self._path)

    def add_engine(self, slots: int | None = None, queues: list[str] | None = None) -> str:
        """Start one more engine; returns its name."""
        self._names += 1
        name = f"local-{self._names}"
        endpoint = LocalEndpoint(self.loopback)
        serve = list(queues or self._queues or ["default"])
        limit = self._waiting_limit
        if limit is None:
            limit = current_settings().waiting_limit
        options = EngineOptions(
            self._connection("engine"), slots or self._slots, serve, name=name,
            settings=Settings(waiting_limit=limit),
        )  # fmt: skip
        engine = LocalEngine(options, endpoint, self.clock, self.folder)
        self.engines.append(engine)
        return name

    def lose_engine(self) -> None:
        """Let the oldest engine be gone without a word: what it has is run again by others, if there are any.

        Raises:
            UsageError: There is none.
        """
        if not self.engines:
            raise UsageError("there is no engine left to lose: add_engine() starts one")
        self.engines.pop(0).lose()

    def lose_slot(self, why: str = "died with signal SIGKILL") -> None:
        """Let the slots that are in the middle of something be as if they had died.

        Called by a task, that is its own slot: what it goes on to do has no outcome.
        """
        for engine in self.engines:
            for child in engine.children:
                if child.busy:
                    child.lose(why)

    def link(self) -> LocalLink:
        """Return one more client's connection."""
        found = LocalLink(self, self._connection("client"))
        self._links.append(found)
        return found

    def hung_up(self, link: LocalLink) -> None:
        """Take notice that a client's connection was closed."""
        if link in self._links:
            self._links.remove(link)

    # -------------------------------------------------------------- what happens

    def exchange(self) -> bool:
        """Let everybody say and hear what there is; returns whether anybody did."""
        before = self.loopback.count
        for link in list(self._links):
            link.turn()
        if self.loopback.inbox:
            self._unsettled += 1
            self.hub.turn(0.0)
            if self._unsettled > _UNSETTLED_TURNS:
                self._settle()
        for engine in list(self.engines):
            if engine.has_news:
                engine.turn()
        return self.loopback.count > before

    def step(self, until_s: float | None = None) -> bool:
        """Let something happen.

        Args:
            until_s: The (virtual) monotonic time that must not be passed, or None.

        Returns:
            False if nothing happened before that time.

        Raises:
            Standstill: Nothing can happen any more.
        """
        if self.exchange() or self._run() or self._settle():
            return True
        if self._queues is None and self._serve_all():
            return True
        return self._pass_time(until_s)

    def _run(self) -> bool:
        """Let a slot do something; returns whether any had something to do."""
        current.entered(self.client)
        try:
            ran = any(engine.step() for engine in list(self.engines))
            self._ran += ran
            return ran
        finally:
            current.left(self.client)

    def _settle(self) -> bool:
        """Give the hub a quiet moment, in which it commits; returns whether it said anything then."""
        before = self.loopback.count
        if self._unsettled:
            self._unsettled = 0
            self.hub.turn(0.0)
        return self.loopback.count > before

    def _serve_all(self) -> bool:
        """Let the engine serve the queues in which something waits that nobody serves."""
        scheduler = self.hub.scheduler
        fleet = scheduler.ledger.fleet
        waiting = [q.name for q in scheduler.queues.values() if q.queued and not fleet.serving(q.name)]
        if waiting and self.engines:
            self.engines[0].serve(waiting)
            return True
        return False

    def _pass_time(self, until_s: float | None) -> bool:
        """Move the clock to when something is to happen; returns False if that is too late."""
        progress = self.hub.commits, self._ran
        if progress != self._progress:
            self._progress = progress
            self._idle_s = self._idle_turns = 0
        now = self.clock.now()
        wait_s = self.hub.scheduler.wait_s(now)
        due_s = self.hub.deadlines.due_s(now)
        fires_s = self.hub.scheduler.firing.wait_s(now)
        self._count_fires(due_s is None and until_s is None and fires_s is not None)
        if due_s is None or (fires_s is not None and fires_s < due_s):
            due_s = fires_s
        if due_s is None:
            wait_s = max(wait_s, _TICK_S * 2 ** min(self._idle_turns, 24))
            if until_s is None and self._idle_s > _PATIENCE_S:
                raise Standstill(self._why())
        else:
            wait_s = due_s
        self._idle_turns += 1
        self._idle_s += wait_s
        to_s = now.mono_s + wait_s + _TICK_S
        late = until_s is not None and to_s > until_s
        self.clock.mono_s = until_s if late and until_s is not None else to_s
        self._tick()
        return not late

    def _count_fires(self, alone: bool) -> None:
        """Count how often there is nothing to wait for but that schedules fire.

        Raises:
            Standstill: That leads to nothing any more.
        """
        ledger = self.hub.scheduler.ledger
        made = sum(run.left for runs in ledger.made.values() for run in runs.values())
        if not alone or ledger.left - made != self._left:
            self._left, self._fires = ledger.left - made, 0
            return
        self._fires += 1
        if self._fires > _FIRES:
            self._fires = 0
            raise Standstill(f"{self._why()} but that schedules fire")

    def _tick(self) -> None:
        """Let everybody notice that time has passed; peers first, so that none is taken for lost."""
        for link in list(self._links):
            link.turn()
        for engine in list(self.engines):
            engine.turn()
        self.hub.turn(0.0)
        self._unsettled = 1

    def _why(self) -> str:
        scheduler = self.hub.scheduler
        fleet = scheduler.ledger.fleet
        unserved = [q.name for q in scheduler.queues.values() if q.queued and not fleet.serving(q.name)]
        text = f"{scheduler.ledger.left} tasks have not ended, and nothing can happen any more"
        if not self.engines:
            return f"{text}: there is no engine left"
        if unserved:
            return f"{text}: no engine serves {', '.join(map(repr, unserved))}"
        if any(child.busy for engine in self.engines for child in engine.children):
            return f"{text}: what runs waits for tasks that can never end: for itself, or for what follows it"
        return text

    def finish(self, run: bytes) -> None:
        """Let a run come to its end, however far in the future that is.

        Raises:
            Standstill: It cannot.
        """
        known = self.hub.scheduler.ledger.by_id
        with self.lock:
            self.exchange()
            patiently(partial(self._until, lambda: run not in known or not known[run].left), None)
            self._calm()

    def _until(self, done: Callable[[], bool], timeout: float | None) -> bool:
        until_s = None if timeout is None else self.clock.mono_s + timeout
        while not done():
            if not self.step(until_s):
                return done()
        return True

    def states(self, run: bytes) -> dict[str, int]:
        """Return how many tasks of a run are in each state; links that were not called for do not count."""
        counts: dict[str, int] = {}
        for node in self.hub.scheduler.ledger.by_id[run].nodes:
            for state in node.state:
                if state != State.SKIPPED:
                    name = shown_state(state)
                    counts[name] = counts.get(name, 0) + 1
        return counts

    def _calm(self) -> None:
        """Let everybody hear what there is to be heard."""
        while self.exchange() or self._settle():
            pass

    def run_all(self) -> None:
        """Let everything that was submitted come to its end, however far in the future that is.

        Of schedules that is what they have made by now: what they make meanwhile is not waited for.

        Raises:
            Standstill: Some of it cannot.
        """
        with self.lock:
            self.exchange()
            there = list(self.hub.scheduler.ledger.unfinished)
            while self._has_left(there):
                self.step()
            self._calm()

    def _has_left(self, there: list[int]) -> bool:
        """Return whether one of these runs has not ended, or one that no schedule made; drops what has."""
        unfinished = self.hub.scheduler.ledger.unfinished
        while there and there[-1] not in unfinished:
            there.pop()
        return bool(there) or any(map(_is_submitted, unfinished.values()))

    def advance(self, seconds: float) -> None:
        """Let so much (virtual) time pass, and all that happens meanwhile happen."""
        with self.lock:
            until_s = self.clock.mono_s + seconds
            while self.step(until_s):
                pass
            while self.exchange() or self._run() or self._settle():
                pass

    # -------------------------------------------------------------- its end

    def close(self) -> None:
        """End it: nothing more happens here."""
        self.client.close()
        self._finalizer()

    def __enter__(self) -> LocalClient:
        """Return its client, which is the current one inside the block."""
        return self.client.__enter__()

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self.client.__exit__(*exc)
        self.close()

    def __repr__(self) -> str:
        """Say what is here."""
        return f"<local cluster of {len(self.engines)} engines>"


class LocalClient(Client):
    """The client of a local cluster; it is the current one only inside ``with``, and while tasks run there.

    Args:
        cluster: The cluster.
        settings: Settings for its calls, over those of the process.
    """

    def __init__(self, cluster: LocalCluster, settings: Mapping[str, Any] | None = None) -> None:
        self.cluster = cluster
        self._local_link = link = cluster.link()
        super().__init__(link.connection, settings=settings, link=link)
        current.forget(self)
        atexit.unregister(self.close)  # nobody need know of what was not waited for: it never ran

    def finish_latest(self) -> None:
        """Let what was submitted last come to its end, links and errbacks too.

        Raises:
            Standstill: It cannot.
        """
        self.cluster.finish(self._local_link.latest)

    def states_of_latest(self) -> dict[str, int]:
        """Return how many tasks of what was submitted last are in each state; skipped ones do not count."""
        return self.cluster.states(self._local_link.latest)


def _is_submitted(run: Run) -> bool:
    return run.origin is None or not run.origin.schedule


def _identify(_user: str | None, token: bytes) -> tuple[str, Role] | None:
    roles: dict[bytes, Role] = {b"client": "client", b"engine": "engine"}
    return ("local", roles[token]) if token in roles else None


@cache
def _folder() -> Path:
    """Return this process's folder for what is too large for messages."""
    folder = temporary_dir("local")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
