"""What the event in hand has led to so far: facts, applied as soon as they are decided, and actions."""

from __future__ import annotations

from nbq.core.actions import Action
from nbq.core.chronicle import Chronicle
from nbq.core.facts import Accepted, Extended, Fact
from nbq.core.ledger import Ledger

__all__ = ["Decided"]


class Decided:
    """The facts and actions of one ``handle``; the chronicle hears of each fact.

    Args:
        ledger: What the facts change.
        epoch: As for the scheduler.
    """

    def __init__(self, ledger: Ledger, epoch: int) -> None:
        self.ledger = ledger
        self.chronicle = Chronicle(ledger, epoch)
        self._facts: list[Fact] = []
        self._actions: list[Action] = []

    def emit(self, fact: Fact) -> None:
        """Decide a fact."""
        self._facts.append(fact)
        note = self.chronicle.notes.get(type(fact))
        if note is not None:
            note(fact)
        known = len(self.ledger.runs[fact.run].nodes) if isinstance(fact, Extended) else 0
        self.ledger.apply(fact)
        if isinstance(fact, Accepted | Extended):
            self.chronicle.submitted(self.ledger.runs[fact.run], known)

    def act(self, action: Action) -> None:
        """Ask the hub for something."""
        self._actions.append(action)

    def take(self) -> tuple[list[Fact], list[Action]]:
        """Return what was decided since the last time."""
        taken = self._facts, self._actions
        self._facts, self._actions = [], []
        return taken
