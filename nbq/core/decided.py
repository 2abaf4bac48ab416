"""What the event in hand has led to so far: facts, applied as soon as they are decided, and actions."""

from __future__ import annotations

from nbq.core.actions import Action
from nbq.core.facts import Fact
from nbq.core.ledger import Ledger

__all__ = ["Decided"]


class Decided:
    """The facts and actions of one ``handle``."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._facts: list[Fact] = []
        self._actions: list[Action] = []

    def emit(self, fact: Fact) -> None:
        """Decide a fact."""
        self._facts.append(fact)
        self.ledger.apply(fact)

    def act(self, action: Action) -> None:
        """Ask the hub for something."""
        self._actions.append(action)

    def take(self) -> tuple[list[Fact], list[Action]]:
        """Return what was decided since the last time."""
        taken = self._facts, self._actions
        self._facts, self._actions = [], []
        return taken
