"""What an engine writes into its log: its connection, its slots, and tasks that begin and fail.

Nothing is done for a task that succeeds. Never decides anything, and sees no values.
"""

from __future__ import annotations

from nbq import wire
from nbq.core.events import Outcome
from nbq.core.ids import element_text
from nbq.core.model import State
from nbq.logs import Log

__all__ = ["EngineLog", "Ran"]

Ran = tuple[wire.Lease, int]
"""An element: its lease and index."""


class EngineLog:
    """The log of an engine.

    Args:
        within: What stands before the names of modules: ``local.`` for an engine inside a user's process.
    """

    def __init__(self, within: str = "") -> None:
        self._engine = Log(f"{within}engine")
        self._slots = Log(f"{within}slots")
        self._tasks = Log(f"{within}tasks")

    def say(self, text: str) -> None:
        """Tell what is as it should be."""
        self._engine.info(text)

    def trouble(self, text: str) -> None:
        """Tell what somebody may have to look after."""
        self._engine.warning(text)

    def slot(self, number: int, text: str, ran: Ran | None = None) -> None:
        """Tell what became of a slot's process, and what it ran."""
        self._slots.warning(f"slot {number} {text}", slot=number, **_about(ran))

    def began(self, number: int, ran: Ran | None) -> None:
        """A slot was seen running an element."""
        if ran is not None and self._tasks.tells("debug"):
            self._tasks.debug(f"{ran[0].task} runs", slot=number, **_about(ran))

    def ended(self, number: int, lease: wire.Lease, outcome: Outcome) -> None:
        """Elements ended, some of them with an error."""
        again = outcome.again
        if again is not None:
            self._tasks.debug(
                f"{lease.task} is to run again", slot=number, error=again.text, **_about((lease, outcome.lo))
            )
        for index, text in outcome.errors.items():
            if outcome.states[index - outcome.lo : index - outcome.lo + 1] == _FAILURE:
                self._tasks.warning(f"{lease.task} failed", slot=number, error=text, **_about((lease, index)))


_FAILURE = bytes([State.FAILURE])


def _about(ran: Ran | None) -> dict[str, object]:
    if ran is None:
        return {}
    lease, index = ran
    own = lease.ids.get(index) or element_text(lease.run, lease.node, index)
    return {"task": own, "name": lease.task, "attempt": lease.attempt}
