"""Hubs with a planted fault each. They show that the simulator sees what it is there to see."""

from __future__ import annotations

from nbq import wire
from nbq.core.actions import Action
from nbq.core.events import Event, Outcome, Reported
from nbq.core.facts import Fact, Leased, ScheduleMoved
from nbq.core.model import NONE, Now
from nbq.core.runs import Lease, Run
from nbq.core.scheduler import Limits, Scheduler
from nbq.hub import Hub
from nbq.peers import Session

__all__ = ["CountingHub", "EarlyHub", "TornHub", "UnfencedHub"]


class EarlyHub(Hub):
    """Acknowledges a run as soon as it is decided, which is before it is committed."""

    def _on_submit(self, session: Session, message: wire.Submit, now: Now) -> None:
        super()._on_submit(session, message, now)
        if message.run in self.scheduler.ledger.by_id:
            self.peers.send(session, wire.Accepted([message.run]))


class _Forgiving(Scheduler):
    """Remembers every lease that it ever granted, and what was reported of those that are lost."""

    def __init__(self, epoch: int, limits: Limits | None) -> None:
        super().__init__(epoch, limits)
        self._granted: dict[int, tuple[Run, int]] = {}

    def handle(self, event: Event, now: Now) -> tuple[list[Fact], list[Action]]:
        if isinstance(event, Reported):
            for source, outcome in enumerate(event.outcomes):
                lease = self.ledger.leases.get(outcome.token)
                if lease is None and outcome.token in self._granted:
                    run, number = self._granted[outcome.token]
                    if self.ledger.runs.get(run.number) is run:
                        self._late(run, number, outcome, source, event, now)
        facts, actions = super().handle(event, now)
        for fact in facts:
            if isinstance(fact, Leased) and fact.run in self.ledger.runs:
                self._granted[fact.token] = self.ledger.runs[fact.run], fact.node
        return facts, actions

    def _late(self, run: Run, number: int, outcome: Outcome, source: int, event: Reported, now: Now) -> None:
        raise NotImplementedError


class _Unfenced(_Forgiving):
    """Takes the outcome of a lost lease for that of the one which followed it."""

    def _late(self, run: Run, number: int, outcome: Outcome, source: int, event: Reported, now: Now) -> None:
        current: list[Lease] = [lease for lease in run.leases.values() if lease.node == number]
        for lease in current:
            self._outcomes._take(lease, outcome, source, len(event.outcomes), now)


class _Counting(_Forgiving):
    """Joins chords by counting outcomes as they come, also those that come twice."""

    def _late(self, run: Run, number: int, outcome: Outcome, source: int, event: Reported, now: Now) -> None:
        home = run.nodes[number].home
        if home == NONE or not run.lists[home].left:
            return
        members = run.lists[home]
        members.left = max(0, members.left - (outcome.hi - outcome.lo))
        if members.left == 0:
            for consumer in members.consumers:
                self.ledger.wakes.append((run, consumer, 0, run.nodes[consumer].spec.size))


class UnfencedHub(Hub):
    """Accepts outcomes of leases that were lost."""

    def _make_scheduler(self, epoch: int, limits: Limits | None) -> Scheduler:
        return _Unfenced(epoch, limits)


class CountingHub(Hub):
    """Starts a chord's body after so many outcomes, rather than after so many ends."""

    def _make_scheduler(self, epoch: int, limits: Limits | None) -> Scheduler:
        return _Counting(epoch, limits)


class TornHub(Hub):
    """Commits that a fire time is dealt with a little later than its run."""

    def _commit(self) -> None:
        facts = self._batch.facts
        later: list[Fact] = [f for f in facts if isinstance(f, ScheduleMoved) and f.state.runs]
        self._batch.facts = [fact for fact in facts if fact not in later]
        super()._commit()
        self._batch.facts = later
        super()._commit()
