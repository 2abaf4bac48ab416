"""What is asked of a hub beside work: questions, and demands to change what it holds; one answer each.

Looks at the scheduler, and lets it decide. Commits nothing and sends nothing: a reply leaves the hub when
what it rests on is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nbq import answers, wire
from nbq.core import actions as act
from nbq.core import events as ev
from nbq.core.ids import made_id
from nbq.core.model import NONE, Graph, Now
from nbq.core.scheduler import Scheduler
from nbq.followers import Followers
from nbq.hublog import HubLog
from nbq.peers import Peers, Session
from nbq.staging import Stagings

__all__ = ["Face", "Requests"]


_SCHEDULES = 250
"""So many schedules are told of in an answer, whose next fire times have to be found (design, promise 10)."""


class Face(Protocol):
    """What a hub does for whoever answers for it."""

    scheduler: Scheduler
    stagings: Stagings
    peers: Peers

    def missing_functions(self, graph: Graph) -> list[bytes]:
        """Return which functions that a graph names are not stored."""
        ...

    def unstage(self, run: bytes) -> None:
        """Drop the blocks that are staged under an id."""
        ...

    def decide(
        self, event: ev.Event, now: Now, sources: Sequence[bytes] = ()
    ) -> tuple[act.Reject | None, list[act.Action]]:
        """Let the scheduler decide; returns why it refused, and what it wants done (which is done)."""
        ...

    def reply(self, session: Session, message: wire.ToPeer) -> None:
        """Send a message once what was decided is committed."""
        ...

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        ...

    def about(self, now: Now) -> dict[str, str | int | float]:
        """Return what the hub says of itself."""
        ...


class Requests:
    """Answers for a hub.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: Face) -> None:
        self._hub = hub
        self.rss: dict[bytes, int] = {}
        """Resident memory of engines in bytes, by their ids."""
        self.followers = Followers(hub.scheduler.chronicle, hub.peers.has)
        self.log = HubLog(hub.scheduler.chronicle)
        self._ticket = 0
        self._steered: dict[tuple[bytes, int], int] = {}
        """Tickets of what is being done with many tasks, by who asked and the number of the request."""
        self._askers: dict[int, tuple[Session, int]] = {}

    def receive(self, session: Session, message: wire.Request, now: Now) -> None:
        """Take in a request; it may be answered later."""
        match message:
            case wire.Ask():
                self._hub.reply(session, self._answer(session, message, now))
            case wire.Cancel():
                event = ev.CancelAsked(message.run, message.node, message.lo, message.hi)
                self._end(session, message.request, event, now)
            case wire.Abort():
                event = ev.AbortAsked(message.run, message.node, message.lo, message.hi)
                self._end(session, message.request, event, now)
            case wire.Forget():
                event = ev.ForgetAsked(message.run, message.lo, message.hi)
                self._end(session, message.request, event, now)
            case wire.SteerEngine():
                self._hub.reply(session, self._order(session, message))
            case wire.PutSchedule():
                self._put_schedule(session, message, now)
            case wire.ChangeSchedule():
                self._change_schedule(session, message, now)
            case wire.Follow():
                events = self.followers.take(session, message)
                if events is not None:
                    self._hub.reply(session, events)
            case wire.Steer():
                self._steer(session, message, now)
            case wire.SteerQueue():
                self._set(
                    session, message.request, ev.QueueSteered(message.queue, message.verb == "pause"), now
                )
            case wire.SetRate():
                self._set(session, message.request, ev.RateSet(message.task, message.per_s, message.own), now)

    def look(self, now: Now) -> None:
        """Tell the log what happened, and those who wait for something to happen that has."""
        self.log.happened()
        for session, events in self.followers.answers(now):
            self._hub.reply(session, events)

    def _answer(self, session: Session, ask: wire.Ask, now: Now) -> wire.Answer | wire.Found | wire.Rejected:
        if ask.what == "saved":
            saved = self._hub.saved(ask.text)
            if saved is None:
                return wire.Rejected("unknown", f"nothing is saved as {ask.text!r}", request=ask.request)
            return wire.Answer(ask.request, 1, saved=saved)
        if ask.what == "schedules":
            return self._schedules(ask)
        scheduler = self._hub.scheduler
        if ask.what == "cluster":
            cluster = answers.cluster(scheduler, self._hub.about(now), self.rss, now)
            return wire.Answer(ask.request, cluster=cluster)
        return answers.answer(scheduler, ask, session.owner, now)

    def _order(self, session: Session, message: wire.SteerEngine) -> wire.Answer | wire.Rejected:
        """Pass an order on to the engines of a name; the answer counts them."""
        here = {
            engine.id: engine.info
            for engine in self._hub.scheduler.ledger.fleet.engines.values()
            if engine.info is not None and not engine.gone
        }
        name = message.engine
        meant = {engine: info for engine, info in here.items() if name in ("", info.name)}
        rejected = answers.unfit_order(message, list(here.values()), list(meant.values()))
        if rejected is not None:
            return rejected
        order = wire.Order(message.verb, message.slots, message.least, message.most, f"by {session.owner}")
        sessions = [found for engine in meant if (found := self._hub.peers.engine(engine)) is not None]
        for told in sessions:
            self._hub.reply(told, order)
        return wire.Answer(message.request, len(sessions))

    def _end(self, session: Session, request: int, event: ev.Event, now: Now) -> None:
        """Do what may end tasks or drop runs; the answer counts them."""
        ledger = self._hub.scheduler.ledger
        before = ledger.left + len(ledger.runs)
        rejected, actions = self._hub.decide(event, now)
        if rejected is not None:
            reply = wire.Rejected(rejected.code, rejected.text, request=request)
            self._hub.reply(session, reply)
            return
        count = before - ledger.left - len(ledger.runs)
        count += sum(action.hi - action.lo for action in actions if isinstance(action, act.Abort))
        self._hub.reply(session, wire.Answer(request, count))

    # -------------------------------------------------------------- steering

    def _set(self, session: Session, request: int, event: ev.QueueSteered | ev.RateSet, now: Now) -> None:
        """Steer a queue or rate; the answer counts 1 if it was another way before."""
        ledger = self._hub.scheduler.ledger
        before = ledger.paused, ledger.rates
        rejected, _ = self._hub.decide(event, now)
        if rejected is not None:
            reply = wire.Rejected(rejected.code, rejected.text, request=request)
            self._hub.reply(session, reply)
            return
        self._hub.reply(session, wire.Answer(request, int(before != (ledger.paused, ledger.rates))))

    def _steer(self, session: Session, message: wire.Steer, now: Now) -> None:
        """Begin to do something with many tasks; a request that comes again while it is done is known."""
        key = session.id, message.request
        known = self._steered.get(key)
        if known is not None:
            self._askers[known] = session, message.request
            return
        self._ticket += 1
        event = ev.Steering(
            self._ticket, message.chosen, message.verb, message.salt, session.owner, message.priority
        )
        rejected, _ = self._hub.decide(event, now)
        if rejected is not None:
            reply = wire.Rejected(rejected.code, rejected.text, request=message.request)
            self._hub.reply(session, reply)
            return
        self._steered[key] = self._ticket
        self._askers[self._ticket] = session, message.request

    def done(self, action: act.Done) -> None:
        """Answer who wanted something done with many tasks, if it is still there."""
        session, request = self._askers.pop(action.ticket)
        del self._steered[session.id, request]
        if action.text:
            self._hub.reply(session, wire.Rejected("busy", action.text, request=request))
        else:
            self._hub.reply(session, wire.Answer(request, action.count, made=action.runs))

    # -------------------------------------------------------------- schedules

    def _put_schedule(self, session: Session, message: wire.PutSchedule, now: Now) -> None:
        """Add or set a schedule; what is missing of it is asked for first, as for a run."""
        known = self._hub.scheduler.ledger.schedules.get(message.name)
        staging = self._hub.stagings.get(message.id)
        staged = len(staging.blocks) if staging is not None else 0
        again = known is not None and known.id == message.id
        if message.graph is not None and not again:
            missing = self._hub.missing_functions(message.graph)
            if missing:
                self._hub.reply(session, wire.NeedFunctions(missing))
                return
            if staged != message.staged:
                self._hub.reply(session, wire.Staged(message.id, staged))
                return
        blocks = staging.blocks if staging is not None else []
        event = ev.SchedulePut(
            message.name, message.id, session.owner, message.spec, message.graph,
            [*blocks, *(block.meta() for block in message.blocks)],
            staging.number if staging is not None else NONE, staged, message.replace,
        )  # fmt: skip
        rejected, _ = self._hub.decide(event, now, [block.data for block in message.blocks])
        now_known = self._hub.scheduler.ledger.schedules.get(message.name)
        if staging is not None:
            if now_known is not None and now_known.number == staging.number:
                self._hub.stagings.drop(message.id)
            else:
                self._hub.unstage(message.id)
        if rejected is None:
            self._hub.reply(session, wire.Answer(message.request, 1))
        else:
            reply = wire.Rejected(rejected.code, rejected.text, request=message.request)
            self._hub.reply(session, reply)

    def _change_schedule(self, session: Session, message: wire.ChangeSchedule, now: Now) -> None:
        known = self._hub.scheduler.ledger.schedules.get(message.name)
        rejected, _ = self._hub.decide(ev.ScheduleChanged(message.name, message.verb, message.salt), now)
        if rejected is not None or known is None:
            why = rejected or act.Reject("unknown", f"there is no schedule {message.name!r}")
            self._hub.reply(session, wire.Rejected(why.code, why.text, request=message.request))
            return
        made = [made_id(known.id, message.salt)] if message.verb == "run" else []
        self._hub.reply(session, wire.Answer(message.request, 1, made=made))

    def _schedules(self, ask: wire.Ask) -> wire.Answer | wire.Rejected:
        """Answer with one schedule and its history, or with the rows of a page of all, by name."""
        scheduler = self._hub.scheduler
        schedules = scheduler.ledger.schedules
        if ask.text:
            known = schedules.get(ask.text)
            if known is None:
                text = f"there is no schedule {ask.text!r}: it is mistyped, was removed, or had finished"
                return wire.Rejected("unknown", text, request=ask.request)
            return wire.Answer(ask.request, 1, schedules=[scheduler.firing.view(known, whole=True)])
        names = sorted(schedules)[ask.index : ask.index + min(ask.limit, _SCHEDULES)]
        rows = [scheduler.firing.view(schedules[name], whole=False) for name in names]
        return wire.Answer(ask.request, len(schedules), schedules=rows)
