"""The processes of an engine's slots: started, watched, replaced by fresh ones, and let go.

It decides when a process comes and goes; what they run is the session's business, and what they say the
supervisor's. A process is never ended while it runs something, unless that is to be stopped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from nbq.configuration import Settings
from nbq.engines import pipe
from nbq.engines.child import Child
from nbq.engines.session import EngineSession
from nbq.engines.telling import EngineLog, Ran
from nbq.settings import resident_bytes

__all__ = ["Slots"]

_START_TRIES = 3
_START_PAUSE_S = 1.0
_STAND_IN_S = 5.0
"""For how long a stand-in that is not needed is kept."""
_LEAVE_S = 2.0
"""How long a process that is to end has for that."""


class Slots:
    """The processes of all slots, stand-ins too.

    Args:
        session: What the engine has to run.
        settings: When processes are spent.
        start: Starts a process.
        log: The engine's log.
    """

    def __init__(
        self,
        session: EngineSession,
        settings: Settings,
        start: Callable[[], Child],
        log: EngineLog,
    ) -> None:
        self.children: list[Child | None] = []
        """By slot; stand-ins and slots that are given up are numbered from ``count`` on."""
        self.fds: dict[int, tuple[int, Child]] = {}
        """Slots and their processes by the descriptors of their pipes."""
        self._session = session
        self._settings = settings
        self._begin = start
        self._log = log
        self._spares: dict[int, Child] = {}
        """By slot: processes that are to take the place of others."""
        self._stale: set[int] = set()
        """Slots whose processes go on only until others are ready in their place."""
        self._tasks: list[str] = []
        """What the process that came up last knows."""
        self._leaving: list[tuple[Child, float]] = []
        """Processes that are to end, and when they are killed."""
        self._failures: defaultdict[int, int] = defaultdict(int)
        self._start_at_s: defaultdict[int, float] = defaultdict(float)
        self._idle_s: dict[int, float] = {}
        """By stand-in: since when it has not been needed."""

    @property
    def count(self) -> int:
        """Return how many slots there are to be."""
        return self._session.roster.count

    @property
    def ready(self) -> bool:
        """Return whether a process has come up."""
        return any(child is not None and child.ready for child in self.children)

    @property
    def pids(self) -> list[int]:
        """Return the processes that can be used, or soon."""
        return [child.process.pid for _, child in self.fds.values()]

    def start(self, number: int) -> None:
        """Start the process of a slot."""
        while number >= len(self.children):
            self.children.append(None)
        self.children[number] = self._process(number)

    def start_all(self) -> None:
        """Start the processes of all slots."""
        for number in range(self.count):
            self.start(number)

    def _process(self, number: int) -> Child:
        child = self._begin()
        self.fds[child.fd] = number, child
        return child

    def resized(self, now_s: float) -> None:
        """There are to be more slots, or fewer: let go what has not come up and is not needed."""
        while len(self.children) < self.count:
            self.children.append(None)
        for number, child in enumerate(self.children[self.count :], self.count):
            if child is not None and not child.ready:
                self._leave(child, now_s)
                self.children[number] = None
        for number in [number for number in self._spares if number >= self.count]:
            self._leave(self._spares.pop(number), now_s)
        self._stale = {number for number in self._stale if number < self.count}

    def renew_all(self, now_s: float) -> None:
        """Let fresh processes take the places of all, one after another, each as soon as it can."""
        for number in list(self._spares):  # they are fresh no more
            self._leave(self._spares.pop(number), now_s)
        for number, child in enumerate(self.children):
            if child is None:
                continue
            if not child.ready:
                self._leave(child, now_s)
                self.children[number] = None
            elif number < self.count:
                self._stale.add(number)
            else:
                self._session.roster.wear(number)

    def close(self) -> None:
        """Kill what there is."""
        for _, child in self.fds.values():
            child.close()
        for child, _ in self._leaving:
            child.close()

    # -------------------------------------------------------------- what becomes of processes

    def came_up(self, number: int, child: Child, hello: pipe.Hello) -> bool:
        """A process has said that it is ready; returns whether it can be used."""
        if hello.trouble:
            self._log.slot(number, f"cannot start: {hello.trouble}")
            self._failures[number] += 1
            return False
        child.ready = True
        self._failures[number] = 0
        self._tasks = hello.tasks
        self._announce()
        if self.children[number] is child:
            self._session.slot_up(number)
        return True

    def _ran(self, running: tuple[int, int] | None) -> Ran | None:
        """Return of what lease which element a process ran."""
        if running is None or running[0] not in self._session.held:
            return None
        return self._session.lease(running[0]), running[1]

    def bury(self, number: int, child: Child, now_s: float) -> None:
        """A process is dead: say what it ran, and put another in its place."""
        running = child.running()
        child.kill()
        text = child.evidence()
        if not child.ready:
            self._failures[number] += 1
            self._log.slot(number, f"did not start: {text}")
        elif child.halted is None:
            self._log.slot(number, f"died: {text}", self._ran(running))
        del self.fds[child.fd]
        child.close()
        pause_s = _START_PAUSE_S * (self._failures[number] >= _START_TRIES)
        self._start_at_s[number] = now_s + pause_s
        if self._spares.get(number) is child:
            del self._spares[number]
            if number in self._stale:
                self._stale.discard(number)
                self._log.slot(number, "goes on in the process that it has")
                self._announce()
            return
        self._stale.discard(number)
        self.children[number] = self._spares.pop(number, None)
        token, index = running if running is not None else (0, -1)
        self._session.slot_down(number, token, index, text, now_s)
        spare = self.children[number]
        if spare is not None and spare.ready:
            self._session.slot_up(number)

    def _leave(self, child: Child, now_s: float) -> None:
        """Let a process that has nothing to do end."""
        del self.fds[child.fd]
        child.send(pipe.Bye())
        self._leaving.append((child, now_s + _LEAVE_S))

    # -------------------------------------------------------------- looking after them

    def watch(self, now_s: float, limit: Callable[[int, Child, float], None]) -> None:
        """See how all fare; ``limit`` looks at the time limit of what a process runs."""
        roster = self._session.roster
        for number, child in enumerate(self.children):
            if child is None:
                if number < self.count and now_s >= self._start_at_s[number]:
                    self.start(number)
                continue
            child.flush()
            running = child.running()
            if self._session.slot_runs(number, running, now_s):
                self._log.began(number, self._ran(running))
            child.hurry(now_s)
            limit(number, child, now_s)
            if child.overdue(now_s):
                child.kill()
            if number in self._stale:
                self._freshen(number)
            elif roster.is_spent(number):
                self._replace(number, child, now_s)
            elif number in self._spares:  # what was to spend the old process was taken back from it
                self._leave(self._spares.pop(number), now_s)
        self._stand_in(now_s)
        for child, until_s in list(self._leaving):
            if child.process.poll() is not None or now_s > until_s:
                child.close()
                self._leaving.remove((child, until_s))

    def trim_output(self) -> None:
        """Bound what processes print outside Python."""
        for child in self.children:
            if child is not None:
                child.trim_output()

    def weigh(self, number: int, child: Child) -> None:
        """Let a process that has grown too large run nothing more."""
        bound = self._settings.max_memory_per_child
        roster = self._session.roster
        if bound and not roster.is_spent(number) and resident_bytes(child.process.pid) > bound:
            roster.wear(number)

    def _freshen(self, number: int) -> None:
        """Start another process for a slot; when that is ready, the one that it has runs nothing more."""
        spare = self._spares.get(number)
        if spare is None:
            if all(other.ready for other in self._spares.values()):
                self._spares[number] = self._process(number)
        elif spare.ready:
            self._stale.discard(number)
            self._session.roster.wear(number)
            self._announce()

    def _announce(self) -> None:
        """Let the hub know which tasks the slots know, once all that take work know them."""
        if not self._stale:
            self._session.knows(self._tasks)

    def _replace(self, number: int, child: Child, now_s: float) -> None:
        """Put another process (or none) in the place of one that is to run nothing more."""
        idle = self._session.roster.is_idle(number)
        spare = self._spares.get(number)
        if number >= self.count:
            if spare is not None:
                self._leave(self._spares.pop(number), now_s)
            if idle:
                self._give_up(number, child, now_s)
        elif spare is None:
            if now_s >= self._start_at_s[number]:
                self._spares[number] = self._process(number)
        elif spare.ready and idle:
            self._leave(child, now_s)
            self.children[number] = self._spares.pop(number)
            self._session.slot_up(number)

    def _give_up(self, number: int, child: Child, now_s: float) -> None:
        self._leave(child, now_s)
        self.children[number] = None
        self._session.slot_down(number, 0, -1, "", now_s)

    def _stand_in(self, now_s: float) -> None:
        """Start processes in the stead of those whose elements wait for others, and end those that idle."""
        roster, count = self._session.roster, self.count
        while len(self.children) > count and self.children[-1] is None:
            del self.children[-1]
        if len(self.children) == count and not roster.waiting:
            return
        wanted = roster.wanted - count
        for number in range(count, count + roster.waiting):
            if self._alive_stand_ins() >= wanted:
                break
            free = number >= len(self.children) or self.children[number] is None
            if free and now_s >= self._start_at_s[number]:
                self.start(number)
        for number, child in enumerate(self.children[count:], count):
            if child is None or not roster.is_idle(number) or self._alive_stand_ins() <= wanted:
                self._idle_s.pop(number, None)
            elif now_s - self._idle_s.setdefault(number, now_s) > _STAND_IN_S:
                self._give_up(number, child, now_s)

    def _alive_stand_ins(self) -> int:
        return sum(child is not None for child in self.children[self.count :])
