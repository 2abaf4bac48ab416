"""What a client has its hub do with what it holds. A part of ``Client``; nothing here submits anything.

What is done with many tasks is one request, and one answer when it is done (``docs/guide/steering.md``).
"""

from __future__ import annotations

import os
from typing import Any, Literal

from nbq import wire
from nbq.canvas.options import rate_per_s
from nbq.choosing import Retried, States, What, again, choices, retried, steer
from nbq.commanding import Commanding
from nbq.core.events import Chosen
from nbq.core.model import NONE, State
from nbq.errors import UsageError
from nbq.results import AsyncResult
from nbq.resultsets import ResultSet
from nbq.runhandle import Run

__all__ = ["Steering"]

_PRIORITIES = range(-1000, 1001)


class Steering(Commanding):
    """The demands of a client."""

    def cancel(
        self, what: What | None = None, *, run: What | None = None, label: str = "", name: str = "",
        queue: str = "", state: States = None,
    ) -> int:  # fmt: skip
        """Stop a task, everything of a run, or all tasks of which all that is asked for holds.

        Queued ones end at once, running ones by interrupt, then kill. New ones that come meanwhile are not
        caught. A task that follows a stopped one is stopped too, and counts.

        Args:
            what: A handle, or the id of a task, group or run; then nothing else.
            run: Of this run: its id, or a handle.
            label: With this label.
            name: With this name.
            queue: Of this queue.
            state: In this state, such as ``"QUEUED"``, or in one of several.

        Returns:
            How many tasks were stopped.

        Raises:
            UnknownResult: The hub has no such task or run.
            UsageError: It is not said which tasks are meant.
        """
        if isinstance(what, AsyncResult | ResultSet | Run):
            return int(what.cancel())
        if what is not None and not (run or label or name or queue or state):
            return self._cancel_id(what)
        return sum(
            self._steer("cancel", one).count
            for one in choices(self._link, what, run, name, label, queue, state)
        )

    def _cancel_id(self, text: str) -> int:
        found = self._find(text)
        last = found.index + 1 if found.node != NONE else 0
        return self._link.answer(wire.Cancel(0, found.run, found.node, found.index, last)).count

    def cancel_all(self) -> int:
        """Stop everything that is not finished, whoever submitted it; returns how many tasks that were."""
        return self._steer("cancel", Chosen()).count

    def retry(
        self, what: What | None = None, *, run: What | None = None, label: str = "", name: str = "",
        queue: str = "", state: States = "FAILURE",
    ) -> Retried:  # fmt: skip
        """Run failed tasks again, from their first arguments, in new runs.

        A task that follows nothing, and that nothing follows (a call, a member of a map or group), is run
        again alone; else the whole canvas is, once it has ended. What was tried again already is meant only
        where its run is named.

        Args:
            what: A handle, or the id of a task, group or run; then nothing else.
            run: Those of this run.
            label: Those with this label.
            name: Those with this name.
            queue: Those of this queue.
            state: ``"FAILURE"``, ``"REVOKED"`` or both; of ``what``, both.

        Returns:
            A handle for each new run, newest first; ``tasks`` says how many are tried again.

        Raises:
            UnknownResult: The hub has no such task or run.
            Refused: What was named by ``what`` has not failed, or is part of a canvas that still runs.
            UsageError: It is not said which tasks are meant.
            HubBusy: The hub is full; some may have been tried again.
        """
        if what is not None and not (run or label or name or queue):
            return again(self._link, what)
        return retried(self._link, choices(self._link, what, run, name, label, queue, state))

    def set_priority(
        self, what: What | None = None, priority: int | None = None, *, run: What | None = None,
        label: str = "", name: str = "", queue: str = "", state: States = None,
    ) -> int:  # fmt: skip
        """Give tasks that have not ended another priority: what is queued changes its place at once.

        Chosen by what they have in common, all tasks of a map or group get it if one is meant.

        Args:
            what: A handle, or the id of a task, group or run; then nothing else.
            priority: From -1,000 to 1,000; higher goes first.
            run: Those of this run.
            label: Those with this label.
            name: Those with this name.
            queue: Those of this queue.
            state: Those in this state, or in one of several.

        Returns:
            How many tasks have it now that were meant.

        Raises:
            UnknownResult: The hub has no such task or run.
            UsageError: It is not said which tasks are meant, or there is no such priority.
        """
        if isinstance(priority, bool) or not isinstance(priority, int) or priority not in _PRIORITIES:
            raise UsageError(f"priority must be a whole number from -1,000 to 1,000, not {priority!r}")
        found = choices(self._link, what, run, name, label, queue, state)
        return sum(self._steer("priority", one, priority).count for one in found)

    def _steer(self, verb: Literal["cancel", "priority"], chosen: Chosen, priority: int = 0) -> wire.Answer:
        return steer(self._link, wire.Steer(0, chosen, verb, os.urandom(16), priority))

    # -------------------------------------------------------------- queues and rates

    def pause(self, queue: str) -> bool:
        """Start no more tasks of a queue until it is resumed, also after the hub is started anew.

        What runs goes on; what engines hold and have not started comes back within a second.

        Returns:
            Whether it was not paused before.
        """
        return bool(self._link.answer(wire.SteerQueue(0, queue, "pause")).count)

    def resume(self, queue: str) -> bool:
        """Start tasks of a paused queue again; returns whether it was paused."""
        return bool(self._link.answer(wire.SteerQueue(0, queue, "resume")).count)

    def purge(self, queue: str) -> int:
        """Cancel what waits in a queue and does not run; returns how many tasks that were."""
        if not queue:
            raise UsageError("which queue is to be purged?")
        return self._steer("cancel", Chosen(queue=queue, states=[State.QUEUED])).count

    def set_rate_limit(self, task: Any, rate: str | float | None) -> bool:
        """Let tasks of a name start at another rate, over the whole cluster, from now on.

        Args:
            task: The task, or its name.
            rate: As the option ``rate_limit``: starts per second, or a text such as ``"10/m"``; None or 0 for
                no limit; ``"own"`` for that which each call has of its own.

        Returns:
            Whether it was another before.

        Raises:
            UsageError: It is no rate.
        """
        name = task if isinstance(task, str) else str(task.name)
        own = rate == "own"
        per_s = None if own or rate is None else rate_per_s(rate)
        return bool(self._link.answer(wire.SetRate(0, name, per_s, own)).count)

    def _find(self, text: str) -> wire.Found:
        found = self._link.ask(wire.Ask(0, "find", text))
        assert isinstance(found, wire.Found)
        return found
