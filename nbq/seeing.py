"""What a client sees of its hub: runs, tasks, engines, queues. A part of ``Client``; changes nothing."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import msgspec

from nbq import wire
from nbq.canvas.options import instant
from nbq.core.model import State
from nbq.core.queries import shown_state
from nbq.core.views import ClusterView, ElementView, EngineView, Explanation, QueueView, RunView
from nbq.errors import UnknownResult, UsageError
from nbq.eventstream import Streaming
from nbq.link import Link
from nbq.results import AsyncResult, Finder
from nbq.resultsets import ResultSet
from nbq.runhandle import Run, answers_to

__all__ = ["Seeing", "Since"]

Since = datetime | timedelta | float
"""A moment: itself (without a zone: in the configured one), so long ago, or so many seconds ago."""

_MOST = 1000
_STATES = dict.fromkeys(shown_state(state) for state in State if state != State.SKIPPED)


class Seeing(Streaming):
    """The questions of a client."""

    _link: Link

    def runs(
        self, name: str = "", limit: int = 100, mine: bool = False, *, state: str = "", queue: str = "",
        label: str = "", since: Since | None = None,
    ) -> list[RunView]:  # fmt: skip
        """Return runs, newest first: those with a task of which all that is asked for holds.

        Args:
            name: Its name.
            limit: How many runs at most, up to 1,000.
            mine: Only those submitted with this client's key.
            state: Its state, such as ``"FAILURE"``.
            queue: Its queue.
            label: Its label.
            since: Only runs that were accepted since then: a datetime (without a zone: in the configured
                one), or a timedelta or number of seconds before now.

        Raises:
            UsageError: There is no such state, or ``since`` is no moment.
        """
        ask = _filtered(wire.Ask(0, "runs", name, limit, mine=mine), state, queue, label, since)
        return [row for answer in answers_to(self._link, ask) for row in answer.runs]

    def tasks(
        self, name: str = "", state: str = "", limit: int = 100, *, queue: str = "", label: str = "",
        since: Since | None = None,
    ) -> list[ElementView]:  # fmt: skip
        """Return tasks, newest runs first.

        Args:
            name: Only those of this name.
            state: Only those in this state, such as ``"FAILURE"``.
            limit: How many at most, up to 1,000.
            queue: Only those of this queue.
            label: Only those with this label.
            since: As for ``runs``.

        Raises:
            UsageError: As for ``runs``.
        """
        ask = _filtered(wire.Ask(0, "tasks", name, limit), state, queue, label, since)
        return [row for answer in answers_to(self._link, ask) for row in answer.elements]

    def run(self, what: str | AsyncResult | ResultSet) -> Run:
        """Return a run as a whole: its progress, tasks and result.

        Args:
            what: Its id, that of any task of it, or a handle. Of a call that was submitted by itself: of it.

        Raises:
            UnknownResult: The hub has no such run (any more).
        """
        return Run(self._link, what if isinstance(what, str) else what.id)

    def explain(self, what: str | AsyncResult | ResultSet | Run) -> Explanation:
        """Return why something is where it is: why a task waits, and for what in the end.

        Args:
            what: The id of a task, group or run, or a handle.

        Raises:
            UnknownResult: The hub has nothing of this id (any more).
        """
        text = what if isinstance(what, str) else what.id
        try:
            return self._link.explain(text)
        except UnknownResult:
            found = what if isinstance(what, ResultSet) else Finder(self._link).one(text)
            if isinstance(found, ResultSet) and len(
                found
            ):  # one put together by hand, which the hub only keeps
                return self.explain(next((one for one in found if not one.ready()), found[0]))
            raise

    def status(self) -> ClusterView:
        """Return hub, engines, queues, and how many tasks are in each state."""
        cluster = self._link.answer(wire.Ask(0, "cluster")).cluster
        assert cluster is not None
        return cluster

    def engines(self) -> list[EngineView]:
        """Return the engines, by name: host, versions and queues (``info``), what runs, memory in bytes."""
        return self.status().engines

    def queues(self) -> list[QueueView]:
        """Return the queues, by name: what waits in each, what engines have of it, how many serve it."""
        return self.status().queues

    @property
    def slots(self) -> int:
        """Return how many tasks can run at a time now."""
        return sum(engine.info.slots for engine in self.engines() if engine.state == "up")


def _filtered(ask: wire.Ask, state: str, queue: str, label: str, since: Since | None) -> wire.Ask:
    if state and state not in _STATES:
        raise UsageError(
            f"there is no state {state!r}: the states are {', '.join(_STATES)} (a task that shows a name of "
            "its own while it runs is STARTED)"
        )
    if not 1 <= ask.limit <= _MOST:
        raise UsageError(f"limit must be a number from 1 to {_MOST:,}, not {ask.limit!r}")
    since_s = None if since is None else _moment_s(since)
    return msgspec.structs.replace(ask, state=state, queue=queue, label=label, since_s=since_s)


def _moment_s(since: Since) -> float:
    """Return a moment in Unix time."""
    if isinstance(since, timedelta):
        return time.time() - since.total_seconds()
    if isinstance(since, int | float) and not isinstance(since, bool):
        return time.time() - since
    if isinstance(since, datetime):
        return instant("since", since)
    raise UsageError(f"since must be a datetime, a timedelta or a number of seconds ago, not {since!r}")
