"""A world of one hub, engines, clients, a network, a disk and a clock, all of it chance from one seed.

The hub's own loop is the loop of the world: while the real hub waits in ``receive``, time passes and the
others act. First everything goes wrong that can; then the world heals, and everything must come to its end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from hashlib import blake2b
from random import Random
from types import SimpleNamespace
from unittest import mock

import msgspec
from msgspec import Struct

from nbq import forward, peers
from nbq import session as client
from nbq.core import firing, granting, scheduler, steering
from nbq.core.events import Chosen
from nbq.core.firing import utc_alone
from nbq.core.model import Graph, Now, Origin
from nbq.core.scheduler import Limits
from nbq.engines import session as engine
from nbq.hub import Hub, HubInfo
from nbq.wire import Lease, Role
from tests.simulation.clients import ClientActor
from tests.simulation.engines import EngineActor, Slot
from tests.simulation.invariants import Invariants
from tests.simulation.network import Network, Weather
from tests.simulation.store import Disk
from tests.simulation.workload import QUEUES, Job, Violation

__all__ = ["HubKilled", "Profile", "World", "simulate"]

_AUDIT_TURNS = 8
_TWIN_TURNS = 64
_QUIET_S = 5.0
_SILENCE_S = 5.0
_STEPS = 100_000
_OTHER_CHANCE = 1_000_000
_STEERING_CHANCE = 2_000_000
_RESUME_S = 3.0


class HubKilled(BaseException):
    """The hub's process was killed at this point."""


class Profile(Struct):
    """What a world is like; drawn from the seed."""

    weather: Weather
    limits: Limits
    engines: int
    clients: int
    slots: int
    largest: int
    """The most elements of an array."""
    horizon_s: float
    acts: int
    faults: int
    turn_s: float
    """The longest turn of the hub."""
    forgetful: bool
    """Whether the hub keeps results for a short time only."""
    tight: bool
    """Whether messages, leases and windows hold very little, so that they have to be cut."""
    heal_s: float = 60.0


def draw_profile(rng: Random) -> Profile:
    """Return a profile."""
    nasty = rng.random() < 0.4
    weather = Weather(
        delay_s=rng.choice((0.0005, 0.005, 0.1)),
        slow_s=rng.choice((0.0, 0.3, 2.0)),
        high_water=rng.choice((1000, 1000, 8)),
    )
    if nasty:
        weather.loss = rng.choice((0.0, 0.02, 0.2))
        weather.double = rng.choice((0.0, 0.05, 0.3))
        weather.shuffle = rng.choice((0.0, 0.1, 0.5))
    forgetful = rng.random() < 0.2
    limits = Limits(
        lease_s=rng.choice((4.0, 15.0)),
        unseen_s=rng.choice((2.0, 5.0)),
        retention_s=rng.choice((2.0, 5.0)) if forgetful else 1e9,
        retention_bytes=rng.choice((2000, 1 << 30)) if forgetful else 1 << 30,
        retention_least_s=1.0,
    )
    return Profile(
        weather, limits,
        engines=rng.randint(1, 3), clients=rng.randint(1, 3), slots=rng.randint(1, 3),
        largest=rng.choice((6, 30)), horizon_s=rng.choice((3.0, 8.0)), acts=rng.randint(3, 16),
        faults=rng.choice((0, 3, 6, 15)), turn_s=rng.choice((0.0005, 0.02)), forgetful=forgetful,
        tight=rng.random() < 0.3,
    )  # fmt: skip


TIGHT = (
    (forward, "_ENDS_FACTS", 2),
    (peers, "_OUTBOX_MESSAGES", 40),
    (forward, "_INPUT_BYTES", 100),
    (granting, "_LEASE_SIZE", 3),
    (firing, "_TURN", 2),
    (steering, "_WORK", 4.0),
    (steering, "_SLICES", 2),
    (granting, "_STALE", 3),
    (scheduler, "_FORGET_AT_ONCE", 1),
    (engine, "_REPORT_BYTES", 100),
    (client, "_WINDOW_BYTES", 100),
    (client, "_RENEW_AT_ONCE", 2),
)
"""Bounds of the code under test, and what they are in a tight world."""


class World:
    """One world.

    Args:
        seed: All chance in it.
        verbose: Whether to print what happens.
        hub_type: What to run as the hub (canaries run a broken one).
    """

    def __init__(self, seed: int, *, verbose: bool = False, hub_type: type[Hub] = Hub) -> None:
        self.rng = Random(seed)
        self.now_s = 100.0
        self.skew_s = 1_700_000_000.0
        self.profile = draw_profile(self.rng)
        self.jobs: dict[bytes, Job] = {}
        self.templates: dict[bytes, Job] = {}
        """What schedules run, by the id that it was sealed for."""
        self.chosen: list[Chosen] = []
        """What somebody asked to cancel by what it has in common."""
        self.given: list[str] = []
        self.slot_deaths: set[tuple[int, int]] = set()
        """Token and index of what ran in a slot when that died."""
        self.begun: dict[tuple[int, int], Slot] = {}
        """The slot that last started an element (token and index)."""
        self.hub: Hub | None = None
        self.digest = blake2b(digest_size=8)
        self.steps = 0
        self.messages = 0
        """Messages that say something: not the signs of life."""
        self._seed = seed
        self._verbose = verbose
        self._hub_type = hub_type
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._fuse = 0
        self._turns = 0
        self._audited = 0
        self._twinned = 0
        self._died: dict[tuple[bytes, int, int], int] = {}
        self._healed = False
        self._paused_s = 0.0
        self._engines = 0
        self.invariants = Invariants(self)
        self.network = Network(self, self.profile.weather)
        self.disk = Disk(self)
        self.engines: list[EngineActor] = []
        self.clients: list[ClientActor] = []

    # -------------------------------------------------------------- time

    @property
    def wall_s(self) -> float:
        """Return the time of the wall clock, which may be set."""
        return self.now_s + self.skew_s

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._heap, (at_s, self._count, what))

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        """Do something after some time."""
        self.at(self.now_s + delay_s, what)

    def step(self, until_s: float) -> bool:
        """Let the next thing happen, if it happens by then."""
        if not self._heap or self._heap[0][0] > until_s:
            return False
        at_s, _, what = heapq.heappop(self._heap)
        self.now_s = max(self.now_s, at_s)
        self.steps += 1
        if self.steps > _STEPS:
            raise Violation("bounded", f"more than {_STEPS} steps")
        what()
        return True

    def note(self, kind: str, data: bytes, what: object) -> None:
        """Take note of something for the trace."""
        self.digest.update(b"%s %.9f " % (kind.encode(), self.now_s))
        self.digest.update(data)
        name = type(what).__name__
        if name not in ("Ping", "Pong", "Beat"):
            self.messages += 1
            if self._verbose:
                print(f"{self.now_s:11.6f} {kind:5} {what}"[:400])

    def say(self, text: str) -> None:
        """Take note of what happens to the world."""
        self.digest.update(text.encode())
        if self._verbose:
            print(f"{self.now_s:11.6f} world {text}")

    # -------------------------------------------------------------- what others ask

    def fuse(self, where: str) -> None:
        """Pass a point at which the hub may die."""
        if self._fuse:
            self._fuse -= 1
            if not self._fuse:
                self.say(f"the hub dies ({where})")
                raise HubKilled

    def started(self, lease: Lease, index: int, slot: Slot) -> None:
        """An element starts in a slot: once under a lease, but for a slot that ends before it does."""
        key = lease.token, index
        before = self.begun.get(key)
        if before is not None and not before.dead:
            raise Violation("once a lease", f"{index} of lease {lease.token} is run twice")
        self.begun[key] = slot

    def deaths(self, lease: Lease, index: int) -> int:
        """Return how many slots an element has killed, and count this time as one more."""
        key = lease.run, lease.node, index
        count = self._died.get(key, 0)
        self._died[key] = count + 1
        return count

    # -------------------------------------------------------------- the hub

    def _start_hub(self) -> None:
        self.disk.epoch += 1
        self.say("the hub starts")
        info = HubInfo("sim", "process", 1, {})
        self.hub = self._hub_type(
            self.network, self.disk, self._clock, info, _identify, None, self.profile.limits
        )
        for actor in (*self.engines, *self.clients):
            if actor.alive:
                self.after(self.rng.random() * 0.3, actor.connection.attach)

    def _clock(self) -> Now:
        return Now(self.now_s, self.wall_s)

    def _turn(self) -> None:
        """Let the hub take a turn, or the world go on without one."""
        try:
            if self.hub is None:
                until_s = self.now_s + (0.1 if self._healed else self.rng.random() * 3)
                while self.step(until_s):
                    pass
                self.now_s = until_s
                self._start_hub()
                return
            if self._paused_s:
                until_s, self._paused_s = self.now_s + self._paused_s, 0.0
                while self.step(until_s):
                    pass
            self.hub.turn(1.0)
        except HubKilled:
            self.hub = None
            self._fuse = 0
            self.network.hub_lost()
            self.invariants.hub_lost()
            return
        self._turns += 1
        if self._turns > _STEPS:
            raise Violation("bounded", f"more than {_STEPS} turns of the hub")
        if self.hub._batch:
            return  # the hub is ahead of the disk, which is compared at the next commit
        if self._turns - self._audited >= _AUDIT_TURNS:
            self._audited = self._turns
            self.invariants.audit(self.hub.scheduler)
        if self._turns - self._twinned >= _TWIN_TURNS:
            self._twinned = self._turns
            self.invariants.twin(self.hub.scheduler)

    # -------------------------------------------------------------- the story

    def run(self) -> str:
        """Live from beginning to end; returns the digest of all that happened.

        Raises:
            Violation: An invariant does not hold.
        """
        tokens = Random(self._seed)
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(peers, "os", SimpleNamespace(urandom=tokens.randbytes)))
            for module, name, value in TIGHT if self.profile.tight else ():
                stack.enter_context(mock.patch.object(module, name, value))
            self._start_hub()
            for _ in range(self.profile.engines):
                self._new_engine()
            for _ in range(self.profile.clients):
                self.clients.append(ClientActor(self, []))
            self._plan_chaos()
            end_s = self.now_s + self.profile.horizon_s
            while self.now_s < end_s:
                self._turn()
            self._heal()
            self.healed_s = self.now_s
            end_s = self.now_s + self.profile.heal_s
            while not self._at_rest():
                if self.now_s > end_s:
                    raise Violation("liveness", f"not at rest: {self._restless()}")
                self._turn()
            self.rested_s = self.now_s
            self._check_quiet()
            self._check_end()
        return self.digest.hexdigest()

    def _new_engine(self, *, queues: list[str] | None = None) -> None:
        serve = queues or [queue for queue in QUEUES if self.rng.random() < 0.7] or ["default"]
        self._engines += 1
        self.engines.append(EngineActor(self, f"engine{self._engines}", self.profile.slots, serve))

    def _plan_chaos(self) -> None:
        profile = self.profile
        for _ in range(profile.acts):
            self.after(self.rng.random() * profile.horizon_s, self._act)
        for _ in range(profile.faults):
            self.after(self.rng.random() * profile.horizon_s, self._fault)
        chance = Random(self._seed + _OTHER_CHANCE)  # worlds without schedules are what they always were
        schedules = chance.choice((0, 0, 0, 0, 1, 2))
        for number in range(schedules):
            self.after(chance.random() * profile.horizon_s, partial(self._schedule, f"s{number}", chance))
        chance = Random(self._seed + _STEERING_CHANCE)
        for _ in range(0 if schedules else chance.choice((0, 0, 2, 8))):
            self.after(chance.random() * profile.horizon_s, partial(self._steer, chance))

    def _act(self) -> None:
        if not self._healed:
            self.rng.choice(self.clients).act()

    def _schedule(self, name: str, chance: Random) -> None:
        if not self._healed:
            chance.choice(self.clients).schedule(name, chance)

    def _steer(self, chance: Random) -> None:
        if not self._healed:
            chance.choice(self.clients).steer(chance)

    def _resume(self) -> None:
        """In the end no queue may stay paused; what was asked before may come late."""
        if self.hub is not None:
            for queue in sorted(self.hub.scheduler.ledger.paused):
                self.clients[0].resume(queue)
        self.after(_RESUME_S, self._resume)

    def made(self, run: bytes, origin: Origin, graph: Graph | None = None) -> None:
        """The hub made a run; what it is like is committed, or else the hub says."""
        if run in self.jobs:
            return
        if graph is None:
            assert self.hub is not None
            graph = self.hub.scheduler.ledger.by_id[run].planned
        template = self.templates.get(origin.template) or self.jobs[origin.template]
        self.jobs[run] = template.again(run, origin.node, graph)

    def _fault(self) -> None:
        """Let something go wrong."""
        if self._healed:
            return
        faults = (
            self._kill_hub, self._kill_hub, self._kill_engine, self._kill_client, self._kill_slot,
            self._drain, self._scale, self._set_clock, self._cut, self._break, self._pause_hub,
        )  # fmt: skip
        fault = self.rng.choice(faults)
        self.say(fault.__name__)
        fault()

    def _kill_hub(self) -> None:
        self._fuse = self.rng.randint(1, 12)

    def _kill_engine(self) -> None:
        old = self.rng.choice(self.engines)
        old.die()
        self.engines.remove(old)
        self.after(self.rng.random() * 2, self._new_engine)
        if not self.engines:
            self._new_engine()

    def _drain(self) -> None:
        self.rng.choice(self.engines).drain()
        self.after(self.rng.random() * 2, self._new_engine)

    def _scale(self) -> None:
        """Let an engine have other slots, or bounds between which the hub scales it."""
        least, most = self.rng.choice(((0, 0), (1, 4)))
        self.rng.choice(self.engines).scale(0 if most else self.rng.randint(1, 4), least, most)

    def _kill_client(self) -> None:
        old = self.rng.choice(self.clients)
        old.die()
        self.clients.remove(old)
        self.clients.append(ClientActor(self, list(old.jobs.values())))

    def _kill_slot(self) -> None:
        slots = [slot for engine in self.engines if engine.alive for slot in engine.slots if slot is not None]
        if slots:
            self.rng.choice(slots).kill("signal SIGKILL")

    def _set_clock(self) -> None:
        self.skew_s += self.rng.choice((-3600.0, -2.0, 2.0, 3600.0))

    def _cut(self) -> None:
        connection = self.rng.choice([*self.engines, *self.clients]).connection
        connection.cut_until_s = self.now_s + self.rng.choice((0.5, 3.0, 8.0))

    def _break(self) -> None:
        self.rng.choice([*self.engines, *self.clients]).connection.detach()

    def _pause_hub(self) -> None:
        self._paused_s = self.rng.choice((0.3, 2.0, 6.0))

    # -------------------------------------------------------------- the end of it

    def _heal(self) -> None:
        self.say("the world heals")
        self._healed = True
        self._fuse = 0
        self.network.weather = Weather(delay_s=0.002)
        self.skew_s = 1_700_000_000.0 + 7200.0 * self.profile.faults
        for actor in (*self.engines, *self.clients):
            actor.connection.cut_until_s = 0.0
        self.engines = [engine for engine in self.engines if engine.alive]
        self._new_engine(queues=list(QUEUES))
        self._resume()

    def _at_rest(self) -> bool:
        if self.hub is None or self.hub.scheduler.ledger.left:
            return False
        schedules = self.hub.scheduler.ledger.schedules.values()
        if any(schedule.state.finished_s is None for schedule in schedules):
            return False
        peers = (*self.engines, *self.clients)
        return all(peer.at_rest for peer in peers)

    def _restless(self) -> str:
        assert self.hub is not None
        ledger = self.hub.scheduler.ledger
        states = {
            run.number: [node.state.hex() for node in run.nodes] for run in ledger.runs.values() if run.left
        }
        clients = [
            (c.unfinished, c._finds, c.session.unacknowledged, c.session._requests, c.session.connected)
            for c in self.clients
            if not c.at_rest
        ]
        engines = [
            (
                e.session.info.name,
                e.session.held,
                list(e.session._spool),
                e.session.connected,
                e.session.draining,
            )
            for e in self.engines
            if not e.at_rest
        ]
        return f"unfinished {states}, leases {list(ledger.leases)}, clients {clients}, engines {engines}"

    def _check_quiet(self) -> None:
        """Nothing goes on by itself once all is done."""
        end_s = self.now_s + _SILENCE_S  # so long it may take to notice that a connection is gone
        while self.now_s < end_s:
            self._turn()
        before = self.messages
        commits = self.hub.commits if self.hub is not None else 0
        end_s = self.now_s + _QUIET_S
        while self.now_s < end_s:
            self._turn()
        assert self.hub is not None
        if not self.profile.forgetful and (self.messages > before or self.hub.commits > commits):
            raise Violation("at rest", f"{self.messages - before} messages after everything was done")

    def _check_end(self) -> None:
        assert self.hub is not None
        scheduler = self.hub.scheduler
        self.invariants.audit(scheduler)
        self.invariants.twin(scheduler)
        self.invariants.firing.check_end(self.wall_s, utc_alone)
        if scheduler.ledger.leases:
            raise Violation("at rest", f"leases are left: {list(scheduler.ledger.leases)}")
        for job in self.jobs.values():
            story = self.invariants.chronicle.by_id.get(job.run)
            if story is None:
                if job.acked and job.run not in self.invariants.chronicle.forgotten:
                    raise Violation("acked is kept", f"run {job.run.hex()} is gone")
                continue
            size = sum(node.size for node in job.nodes)
            if len(story.ends) != size:
                raise Violation(
                    "liveness", f"{size - len(story.ends)} elements of run {story.number} never ended"
                )


def _identify(_user: str | None, token: bytes) -> tuple[str, Role] | None:
    roles: dict[bytes, Role] = {b"client": "client", b"engine": "engine"}
    return ("someone", roles[token]) if token in roles else None


def simulate(seed: int, *, verbose: bool = False, hub_type: type[Hub] = Hub) -> str:
    """Live one world; returns the digest of all that happened.

    Raises:
        Violation: An invariant does not hold.
    """
    return World(seed, verbose=verbose, hub_type=hub_type).run()


assert msgspec
