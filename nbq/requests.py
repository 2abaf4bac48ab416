"""What is asked of a hub beside work: questions, and demands to change what it holds; one answer each.

Looks at the scheduler, and lets it decide. Commits nothing and sends nothing: a reply leaves the hub when
what it rests on is committed.
"""

from __future__ import annotations

from typing import Protocol

from nbq import answers, wire
from nbq.core import actions as act
from nbq.core import events as ev
from nbq.core.model import Now
from nbq.core.scheduler import Scheduler
from nbq.peers import Session

__all__ = ["Face", "Requests"]


class Face(Protocol):
    """What a hub does for whoever answers for it."""

    scheduler: Scheduler

    def decide(self, event: ev.Event, now: Now) -> tuple[act.Reject | None, list[act.Action]]:
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

    def _answer(self, session: Session, ask: wire.Ask, now: Now) -> wire.Answer | wire.Found | wire.Rejected:
        if ask.what == "saved":
            saved = self._hub.saved(ask.text)
            if saved is None:
                return wire.Rejected("unknown", f"nothing is saved as {ask.text!r}", request=ask.request)
            return wire.Answer(ask.request, 1, saved=saved)
        scheduler = self._hub.scheduler
        if ask.what == "cluster":
            cluster = answers.cluster(scheduler, self._hub.about(now), self.rss, now)
            return wire.Answer(ask.request, cluster=cluster)
        return answers.answer(scheduler, ask, session.owner)

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
