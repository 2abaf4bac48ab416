"""What a client has its hub do with what it holds. A part of ``Client``; nothing here submits anything."""

from __future__ import annotations

from nbq import wire
from nbq.commanding import Commanding
from nbq.core.model import NONE
from nbq.results import AsyncResult
from nbq.resultsets import GroupResult

__all__ = ["Steering"]


class Steering(Commanding):
    """The demands of a client."""

    def cancel(self, what: str | AsyncResult | GroupResult) -> int:
        """Stop a task, or everything of a run; returns how many tasks that were.

        Args:
            what: A handle, or the id of a task, group or run.

        Raises:
            UnknownResult: The hub has no such task or run.
        """
        if not isinstance(what, str):
            return int(what.cancel())
        found = self._find(what)
        last = found.index + 1 if found.node != NONE else 0
        return self._link.answer(wire.Cancel(0, found.run, found.node, found.index, last)).count

    def cancel_all(self) -> int:
        """Stop everything that is not finished, whoever submitted it; returns how many tasks that were."""
        count = 0
        for state in ("WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED"):
            while rows := self.tasks(state=state, limit=1000):
                for run in dict.fromkeys(row.run for row in rows):  # newest first: no slot is freed too early
                    count += self._link.answer(wire.Cancel(0, run)).count
        return count

    def _find(self, text: str) -> wire.Found:
        found = self._link.ask(wire.Ask(0, "find", text))
        assert isinstance(found, wire.Found)
        return found
