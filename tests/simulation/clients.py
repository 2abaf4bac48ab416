"""Clients of a simulated world: the real session, and a user who submits, waits, cancels and forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from nbq import wire
from nbq.core.events import Chosen
from nbq.core.ids import run_text
from nbq.core.model import Graph, Slice, State
from nbq.core.timing import Every, ScheduleSpec
from nbq.session import Accepted, Answered, ClientSession, Connected, Ended, Event, Lost, RunRefused
from tests.simulation.peers import PeerActor
from tests.simulation.workload import FUNCTIONS, QUEUES, Job, Violation, make_job

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.world import World

__all__ = ["ClientActor"]

_IDLE_S = 0.5
NAMES = [body.decode() for body in FUNCTIONS.values()]


class ClientActor(PeerActor):
    """One client; ``inherited`` are the jobs of one that was killed, to be taken up again."""

    def __init__(self, world: World, inherited: list[Job]) -> None:
        session = ClientSession(world.rng.randbytes(8), "client", b"client", {})
        self.jobs: dict[bytes, Job] = {}
        self.unfinished: dict[bytes, set[tuple[int, int]]] = {}
        """Elements that are watched and have not been seen to end, by run."""
        self._finds: dict[int, Job] = {}
        self._seen: set[tuple[bytes, int, int]] = set()
        super().__init__(world, session)
        self.session: ClientSession = session
        for job in inherited:
            self._take_up(job)

    def turn(self) -> None:
        """Take a turn (``Client._turn``)."""
        now_s = self.world.now_s
        messages, self.inbox = self.inbox, []
        for message in messages:
            for event in self.session.receive(message, now_s):
                if isinstance(event, Connected):
                    self.welcome(message)
                self._on_event(event)
        self.session.tick(now_s)
        self.send_outbox()
        self.watch_hub()
        self.wake(now_s + _IDLE_S)

    def _on_event(self, event: Event) -> None:
        match event:
            case Accepted():
                self.jobs[event.run].acked = True
                self.world.invariants.on_acked(event.run)
            case Ended():
                for node, index in self.world.invariants.on_seen(self, event):
                    if (event.run, node, index) in self._seen:
                        raise Violation("seen once", f"an end of {node}, {index} came twice to one client")
                    self._seen.add((event.run, node, index))
                    self.unfinished.get(event.run, set()).discard((node, index))
                if event.run in self.unfinished and not self.unfinished[event.run]:
                    del self.unfinished[event.run]
            case RunRefused():
                self._on_refused(event)
            case Answered():
                self._on_answered(event)
            case Lost():
                raise Violation("denied", event.text)
            case Connected():
                pass

    def _on_refused(self, event: RunRefused) -> None:
        job = self.jobs[event.run]
        job.refused = job.refused or event.code
        self.unfinished.pop(event.run, None)
        self.world.invariants.on_refused(job, event.code)

    def _on_answered(self, event: Answered) -> None:
        job = self._finds.pop(event.request, None)
        if job is None:
            return
        if isinstance(event.answer, wire.Found):
            found = event.answer.graph
            count = len(job.graph.nodes)
            if found.nodes[:count] != job.graph.nodes or found.value != job.graph.value:
                raise Violation("found", "the hub found another graph than was submitted")
            self._watch(job)
        elif job.acked:
            self.world.invariants.on_refused(job, "unknown")
        elif job.run not in self.world.invariants.chronicle.forgotten and not job.refused:
            # Its acceptance was never heard of; the same run again is no other run. (The hub remembers
            # no run that it has forgotten: such a one would be run anew.)
            self.submit(job)

    # -------------------------------------------------------------- what the user does

    def submit(self, job: Job) -> None:
        """Submit a job, and mostly wait for it."""
        self.jobs[job.run] = job
        self.world.jobs[job.run] = job
        nodes = job.graph.nodes
        watch: dict[int, int] = {}
        submit = job.submit
        if self.world.rng.random() < 0.9:
            watch = {number: nodes[number].size for number in job.watched}
            self._expect(job)
        else:
            submit = wire.Submit(submit.run, submit.graph, submit.blocks, submit.staged, False)
        functions = {node.function: FUNCTIONS[node.function] for node in nodes}
        self.session.submit(functions, job.stages, submit, watch)
        self.wake(self.world.now_s)

    def schedule(self, name: str, chance: Random) -> None:
        """Add a schedule that runs some job a few times."""
        job = make_job(chance, self.world.wall_s, [], self.world.profile.largest)
        nodes = [replace(node, ids={}) for node in job.graph.nodes]
        if job.graph.each:
            job.graph = Graph(nodes, value=Slice(0, 0, 1))
        else:
            job.graph = replace(job.graph, nodes=nodes)
        self.world.templates[job.run] = job
        misfire, overlap = chance.choice(
            (("all", "allow"), ("coalesce", "skip"), ("coalesce", "queue"), ("skip", "queue"))
        )
        every = Every(chance.choice((0.5, 1.0, 3.0)))
        spec = ScheduleSpec(every, misfire, overlap, max_runs=chance.randint(1, 4))
        request = self.session.next_request()
        put = wire.PutSchedule(request, name, job.run, spec, job.graph, job.submit.blocks, job.submit.staged)
        functions = {node.function: FUNCTIONS[node.function] for node in nodes}
        self.session.put(functions, job.stages, put)
        self.wake(self.world.now_s)

    def steer(self, chance: Random) -> None:
        """Have something done with many tasks, or with a queue or rate."""
        request = self.session.next_request()
        common = chance.choice(({"queue": chance.choice(QUEUES)}, {"name": chance.choice(NAMES)}))
        bad = [State.FAILURE, State.REVOKED]
        chosen = Chosen(**common, states=chance.choice(([], [State.QUEUED], [State.WAITING, State.STARTED])))
        message: wire.Steer | wire.SteerQueue | wire.SetRate
        match chance.choice(("pause", "resume", "rate", "cancel", "retry", "retry", "retry", "priority")):
            case "pause" | "resume" as verb:
                message = wire.SteerQueue(request, chance.choice(QUEUES), verb)
            case "rate":
                own = chance.random() < 0.5
                message = wire.SetRate(request, chance.choice(NAMES), None if own else 50.0, own)
            case "cancel":
                self.world.chosen.append(chosen)
                message = wire.Steer(request, chosen, "cancel", chance.randbytes(16))
            case "retry":
                failed = chance.choice((Chosen(states=bad), replace(chosen, states=[])))
                message = wire.Steer(request, failed, "retry", chance.randbytes(16))
            case _:
                priority = chance.choice((-5, 0, 1, 5))
                message = wire.Steer(request, chosen, "priority", bytes(16), priority)
        self.session.ask(message, self.world.now_s)
        self.wake(self.world.now_s)

    def resume(self, queue: str) -> None:
        """Resume a queue."""
        request = self.session.next_request()
        self.session.ask(wire.SteerQueue(request, queue, "resume"), self.world.now_s)
        self.wake(self.world.now_s)

    def _expect(self, job: Job) -> None:
        self.unfinished[job.run] = {
            (number, index) for number in job.watched for index in range(job.graph.nodes[number].size)
        }

    def _watch(self, job: Job) -> None:
        nodes = job.graph.nodes
        before = set(self.session._watches.get(job.run, ()))
        if self.session.watch(job.run, {number: nodes[number].size for number in job.watched}):
            # What is watched already goes on where it is; the rest comes from its beginning.
            self._seen = {seen for seen in self._seen if seen[0] != job.run or seen[1] in before}
            self._expect(job)
            self.unfinished[job.run] -= {(node, index) for run, node, index in self._seen if run == job.run}

    def _take_up(self, job: Job) -> None:
        self.jobs[job.run] = job
        request = self.session.next_request()
        self._finds[request] = job
        self.session.ask(wire.Ask(request, "find", run_text(job.run)), self.world.now_s)

    def act(self) -> None:
        """Do one of the things that users do."""
        world = self.world
        rng = world.rng
        acked = [job for job in self.jobs.values() if job.acked and not job.refused]
        draw = rng.random()
        if draw < 0.6 or not acked:
            for _ in range(rng.choice((1, 1, 3))):
                self.submit(make_job(rng, world.wall_s, world.given, world.profile.largest))
            return
        job = rng.choice(acked)
        request = self.session.next_request()
        message: wire.Ask | wire.Cancel | wire.Forget
        if draw < 0.75:
            message = self._cancel(request, job)
        elif draw < 0.82:
            job.forget_asked = True
            message = wire.Forget(request, job.run)
        elif draw < 0.9:
            self.session.unwatch(job.run)
            self.unfinished.pop(job.run, None)
            self._take_up(job)
            return
        else:
            what = rng.choice(("cluster", "runs", "tasks", "element", "find"))
            message = wire.Ask(request, what, run_text(job.run) if what == "find" else "", 10, run=job.run)
        self.session.ask(message, world.now_s)
        self.wake(world.now_s)

    def _cancel(self, request: int, job: Job) -> wire.Cancel:
        rng = self.world.rng
        nodes = job.graph.nodes
        if rng.random() < 0.5:
            job.cancelled.update((n, i) for n, spec in enumerate(nodes) for i in range(spec.size))
            return wire.Cancel(request, job.run)
        number = rng.randrange(len(nodes))
        lo = rng.randrange(nodes[number].size)
        hi = rng.randint(lo + 1, nodes[number].size)
        job.cancelled.update((number, index) for index in range(lo, hi))
        return wire.Cancel(request, job.run, number, lo, hi)

    @property
    def at_rest(self) -> bool:
        """Return whether it is connected, and nothing is outstanding."""
        session = self.session
        waits = self.unfinished or self._finds or session.unacknowledged or session._requests
        inner = [
            run for run, nodes in session._watches.items() if max(nodes) >= len(self.jobs[run].graph.nodes)
        ]
        return session.connected and not waits and not inner
