"""A world of schedules: a real hub on a simulated disk, killed at any instant over days; clocks jump.

Its runs take their time on one engine that loses nothing; what everybody does is chance from a seed. What is
checked is only what was committed (``firing``).
"""

from __future__ import annotations

import heapq
from hashlib import blake2b
from random import Random
from typing import Any
from unittest import mock

from nbq import hub as module
from nbq import wire
from nbq.core.events import Outcome
from nbq.core.model import EngineInfo, Graph, NodeSpec, Now, Slice
from nbq.core.scheduler import Limits
from nbq.core.timing import Cron, Every, ScheduleSpec, Timing
from nbq.hub import Hub, HubInfo
from nbq.journal import Batch
from nbq.wire import Role
from nbq.zones import zone
from tests.security.loopback import Loopback
from tests.simulation.firing import Firing
from tests.simulation.store import Disk

__all__ = ["Fires"]

_FUNCTION = bytes(16)
_NODES = [NodeSpec("tick", _FUNCTION), NodeSpec("tock", _FUNCTION, after_node=0)]
_GRAPH = Graph(_NODES, value=Slice(1, 0, 1))
_BLOCKS = [wire.Block(0, 0, 1, b"a", 1), wire.Block(1, 0, 1, b"b", 1)]
_ENGINE = EngineInfo("e", "host", 1, 64, ["default"])


class Killed(BaseException):
    """The hub's process was killed at this point."""


class Fires:
    """One world of schedules.

    Args:
        seed: All chance in it.
        days: How long it lasts.
        kills: How often the hub is killed.
        hub_type: What to run as the hub (canaries run a broken one).
    """

    def __init__(self, seed: int, *, days: float = 3.0, kills: int = 20, hub_type: type[Hub] = Hub) -> None:
        self.rng = Random(seed)
        self.mono_s = 0.0
        self.skew_s = 1_767_225_600.0 + self.rng.random() * 1e7
        self.kills = 0
        """How often the hub was killed."""
        self.disk = Disk(self)  # type: ignore[arg-type]
        self.invariants = self
        self.ledger = Firing()
        self._end_s = days * 86_400.0
        self._fuse = 0
        self._hub_type = hub_type
        self._hub: Hub | None = None
        self._running: list[tuple[float, int, int, int]] = []
        """When which elements of which lease end."""
        self._salts = 0
        gap_s = self._end_s / (kills + 1)
        self._kills = sorted(gap_s * (count + self.rng.random()) for count in range(kills))
        self._jumps = sorted(self.rng.random() * self._end_s for _ in range(max(2, kills // 4)))
        self._acts = sorted(self.rng.random() * self._end_s for _ in range(30))
        self._names = [f"s{number}" for number in range(6)]

    # -------------------------------------------------------------- what the disk asks of a world

    def fuse(self, where: str) -> None:
        """Pass a point at which the hub may die."""
        if self._fuse:
            self._fuse -= 1
            if not self._fuse:
                raise Killed(where)

    def note(self, kind: str, data: bytes, what: object) -> None:
        """Take note of nothing."""

    def on_commit(self, batch: Batch) -> None:
        """Check what is on the disk now."""
        self.ledger.take(batch.facts)

    # -------------------------------------------------------------- the hub and its peers

    @property
    def _wall_s(self) -> float:
        return self.mono_s + self.skew_s

    def _start(self) -> None:
        """Start a hub (which may die of it), and let its peers join."""
        self.disk.epoch += 1
        self._loopback = Loopback()
        self._sessions: dict[bytes, bytes] = {}
        limits = Limits(lease_s=1e9, unseen_s=1e9, grace_s=1e9, retention_s=3600.0)
        info = HubInfo("fires", "process", 1, {})
        clock = lambda: Now(self.mono_s, self._wall_s)  # noqa: E731
        self._hub = self._hub_type(self._loopback, self.disk, clock, info, _identify, None, limits)
        self._say(b"\0client", wire.Hello(wire.PROTOCOL, "client", b"client", b"c" * 8, {}))
        held = sorted({token for _, token, _, _ in self._running})
        self._say(b"\0engine", wire.Hello(wire.PROTOCOL, "engine", b"engine", b"e" * 16, {}, _ENGINE, held))
        self._turn()
        for name in self._names:
            self._put(name, anew=False)

    def _say(self, peer: bytes, message: wire.ToHub) -> None:
        self._loopback.put(peer, wire.encode(message, self._sessions.get(peer, wire.NO_SESSION)))

    def _turn(self) -> None:
        """Let the hub take a turn, and its peers hear it."""
        assert self._hub is not None
        self._hub.turn(0.0)
        for peer, sent in list(self._loopback.sent.items()):
            self._loopback.sent[peer] = []
            for _, message in sent:
                self._hear(peer, message)

    def _hear(self, peer: bytes, message: wire.ToPeer) -> None:
        if isinstance(message, wire.Welcome):
            self._sessions[peer] = message.session
        elif isinstance(message, wire.Lease):
            assert message.args.data == _BLOCKS[message.node].data
            took_s = self.rng.choice((1.0, 60.0, 2000.0, 9000.0))
            heapq.heappush(self._running, (self.mono_s + took_s, message.token, message.lo, message.hi))
        elif isinstance(message, wire.Interrupt):
            self._lose({token for token, _, _ in message.ranges})
        elif isinstance(message, wire.Stale):
            self._lose(set(message.tokens))
        elif isinstance(message, wire.Rejected):
            assert message.code in ("exists", "unknown", "overlap", "schedule"), message
        assert not isinstance(message, wire.Denied | wire.NeedFunctions), message

    def _lose(self, tokens: set[int]) -> None:
        self._running = [entry for entry in self._running if entry[1] not in tokens]
        heapq.heapify(self._running)

    def _report(self) -> None:
        """Let what has run long enough be reported."""
        while self._running and self._running[0][0] <= self.mono_s:
            _, token, lo, hi = heapq.heappop(self._running)
            self._say(b"\0engine", wire.Report(1, [Outcome(token, lo, hi, size=1)], [b"r"]))

    # -------------------------------------------------------------- what people do

    def _put(self, name: str, *, anew: bool) -> None:
        """Add a schedule that is not there (any more), or give it another canvas."""
        rng = self.rng
        known = name in self.ledger.schedules
        if known and not anew:
            return
        self._salts += 1
        spec = self.ledger.schedules[name].spec if known else self._spec(name)
        own_id = blake2b(b"%d" % self._salts, digest_size=16).digest()
        self._say(b"\0client", wire.PutFunctions({_FUNCTION: b"code"}))
        put = wire.PutSchedule(self._salts, name, own_id, spec, _GRAPH, _BLOCKS, replace=known)
        self._say(b"\0client", put)
        if rng.random() < 0.3:
            self._say(b"\0client", put)  # as after a connection that was cut

    def _spec(self, name: str) -> ScheduleSpec:
        rng = self.rng
        timing: Timing = rng.choice(
            (
                Every(rng.choice((300.0, 601.0, 1800.0))),
                Cron(minute=rng.choice(("*/20", "0,7", "59")), tz="Asia/Shanghai"),
                Cron(hour=rng.choice(("*", "1,2,3", "*/4")), minute="30", tz="America/St_Johns"),
            )
        )
        number = int(name[1:])
        return ScheduleSpec(
            timing,
            misfire=("coalesce", "skip", "all")[number % 3],
            overlap=rng.choice(("allow", "skip", "queue", "cancel_previous")),
            jitter_s=rng.choice((0.0, 0.0, 100.0)),
            max_runs=rng.choice((None, None, 40)),
        )

    def _act(self) -> None:
        name = self.rng.choice(self._names)
        verb: Any = self.rng.choice(("pause", "resume", "run", "remove", "run", "put"))
        if verb == "put" or name not in self.ledger.schedules:
            self._put(name, anew=True)
            return
        self._salts += 1
        change = wire.ChangeSchedule(self._salts, name, verb, self._salts.to_bytes(16, "big"))
        for _ in range(self.rng.choice((1, 2))):
            self._say(b"\0client", change)
        if verb in ("pause", "remove"):
            self._acts.append(self.mono_s + 3000.0)
            self._acts.sort()

    # -------------------------------------------------------------- the story

    def run(self) -> Firing:
        """Live from beginning to end; returns what was committed.

        Raises:
            Violation: An invariant does not hold.
        """
        with mock.patch.object(module, "_CLIENT_SILENCE_S", self._end_s * 2):
            return self._run()

    def _run(self) -> Firing:
        while self.mono_s < self._end_s or self._hub is None:
            self._step()
        self._fuse = 0
        assert self._hub is not None
        for name, schedule in self.ledger.schedules.items():  # all is well again
            if schedule.state.paused:
                self._say(b"\0client", wire.ChangeSchedule(1, name, "resume", bytes(16)))
        for _ in range(50):
            self._turn()
        self.ledger.check_end(self._wall_s, zone)
        return self.ledger

    def _step(self) -> None:
        if self._hub is None:
            self.mono_s += self.rng.choice((1.0, 50.0, 5000.0))  # so long nobody can fire
        try:
            if self._hub is None:
                self._start()
            self._happen()
            self._turn()
        except Killed:
            self.kills += 1
            self._hub = None
            return
        assert self._hub is not None
        self.mono_s += self._gap_s()

    def _gap_s(self) -> float:
        """Return how long nothing happens, most often to the moment."""
        assert self._hub is not None
        now = Now(self.mono_s, self._wall_s)
        firing_s = self._hub.scheduler.firing.wait_s(now)
        waits = [3600.0 if firing_s is None else firing_s]
        waits += [at_s - self.mono_s for at_s in (*self._kills[:1], *self._jumps[:1], *self._acts[:1])]
        waits += [self._running[0][0] - self.mono_s] if self._running else []
        late_s = 0.0 if self.rng.random() < 0.8 else self.rng.choice((0.5, 59.0, 700.0))
        return max(min(waits), 0.001) + late_s

    def _happen(self) -> None:
        """Do what is to be done by now."""
        self._report()
        if self._acts and self._acts[0] <= self.mono_s:
            self._acts.pop(0)
            self._act()
        while self._jumps and self._jumps[0] <= self.mono_s:
            self._jumps.pop(0)
            self.skew_s += self.rng.choice((-3600.0, -30.0, 30.0, 3600.0))
        if self._kills and self._kills[0] <= self.mono_s:
            self._kills.pop(0)
            self._fuse = self.rng.randint(1, 8)


def _identify(_user: str | None, token: bytes) -> tuple[str, Role] | None:
    roles: dict[bytes, Role] = {b"client": "client", b"engine": "engine"}
    return ("someone", roles[token]) if token in roles else None
