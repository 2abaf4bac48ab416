"""A run as a whole: how far it is, and what it consists of.

Asks the hub each time; keeps the pace that it has seen, and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from nbq import wire
from nbq.core.model import NONE
from nbq.core.views import ElementView, Explanation, RunView
from nbq.core.words import span_text
from nbq.results import ENDED, Finder

if TYPE_CHECKING:
    from nbq.choosing import Retried
    from nbq.link import Link
    from nbq.walks import ResultGraph

__all__ = ["Run", "RunProgress", "answers_to"]

_LOOK_BACK_S = 30.0
"""The rate is that of so long, once the handle has been asked for so long."""
_LEAST_S = 0.5
"""What a rate must rest on; until then the hub's figures are better."""
_LOOKS = 64
_BAD = ("FAILURE", "REVOKED")
_WORDS = {"FAILURE": "failed", "REVOKED": "revoked"}


class RunProgress(Struct, frozen=True):
    """How far a run is.

    Args:
        done: How many tasks have ended, however.
        total: How many there are, as far as is known: a task may add others.
        states: How many are in each state.
        rate: How many end in a second.
        left_s: About how many seconds it will take; None if nothing has ended yet.
        elapsed_s: How many seconds it has taken, from when it could first begin.
        finished: Whether all have ended.
    """

    done: int
    total: int
    states: dict[str, int]
    rate: float
    left_s: float | None
    elapsed_s: float
    finished: bool

    def __str__(self) -> str:
        """Say it in a line."""
        parts = [f"{self.done:,} of {self.total:,}"]
        if self.finished:
            parts.append(f"in {span_text(self.elapsed_s)}")
        elif self.left_s is not None:
            parts += [f"{_rate(self.rate)}/s", f"{span_text(self.left_s)} left"]
        parts += [f"{self.states[state]:,} {_WORDS[state]}" for state in _BAD if self.states.get(state)]
        return " · ".join(parts)

    __repr__ = __str__


class Run:
    """One submitted canvas, or one call that was submitted by itself.

    Args:
        link: The client's connection.
        text: Its id, or that of a part of it.

    Raises:
        UnknownResult: The hub has no such run (any more).
    """

    def __init__(self, link: Link, text: str) -> None:
        self._link = link
        self._text = text
        self._seen: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        """When it was looked at, on the monotonic clock, and how much had ended."""
        self.view()

    def view(self) -> RunView:
        """Return its row, as the hub has it now."""
        (self._last,) = self._link.answer(wire.Ask(0, "run", self._text)).runs
        self._seen.append((time.monotonic(), _done(self._last)))
        return self._last

    @property
    def id(self) -> str:
        """Return its id; of a call that was submitted by itself, that of the task."""
        return self._last.text

    @property
    def task(self) -> str:
        """Return the name of the task that ends last in it."""
        return self._last.task

    @property
    def label(self) -> str:
        """Return the label of that task."""
        return self._last.label

    @property
    def size(self) -> int:
        """Return how many tasks it has."""
        return self.view().size

    @property
    def states(self) -> dict[str, int]:
        """Return how many of its tasks are in each state."""
        return self.view().states

    @property
    def progress(self) -> RunProgress:
        """Return how far it is. The rate is that of the last half minute in which this was asked for."""
        view = self.view()
        done = _done(view)
        until_s = time.time() if view.finished_s is None else view.finished_s
        elapsed_s = max(0.0, until_s - (view.began_s or view.at_s)) if view.began_s or done else 0.0
        rate = self._rate(view, done, elapsed_s)
        left = view.size - done
        finished = view.finished_s is not None
        left_s = 0.0 if finished else left / rate if rate > 0 else None
        return RunProgress(done, view.size, view.states, rate, left_s, elapsed_s, finished)

    def _rate(self, view: RunView, done: int, elapsed_s: float) -> float:
        """Return how many tasks end in a second."""
        seen = self._seen
        while len(seen) > 1 and seen[-1][0] - seen[0][0] > _LOOK_BACK_S:
            seen.popleft()
        first_s, before = seen[0]
        span_s = seen[-1][0] - first_s
        if view.finished_s is None and span_s >= _LEAST_S and done > before:
            return (done - before) / span_s
        return done / elapsed_s if elapsed_s > 0 else 0.0

    @property
    def result(self) -> Any:
        """Return the handle of its value: an ``AsyncResult``, or a ``GroupResult``."""
        return Finder(self._link).one(self.id)

    @property
    def graph(self) -> ResultGraph:
        """Return what follows what of its results, as far as that is known; ``to_dot()`` is a drawing."""
        return self.result.build_graph(intermediate=True)

    def tasks(self, state: str = "", limit: int = 100) -> list[ElementView]:
        """Return its tasks.

        Args:
            state: Only those in this state, such as ``"FAILURE"``.
            limit: How many at most, up to 1,000.
        """
        last = self._last
        if last.index != NONE:
            rows = self._link.answer(wire.Ask(0, "element", run=last.id, index=last.index)).elements
            return [row for row in rows if state in ("", row.state)]
        ask = wire.Ask(0, "tasks", limit=limit, state=state, run=last.id)
        return [row for answer in answers_to(self._link, ask) for row in answer.elements]

    def cancel(self) -> int:
        """Stop all of it that has not ended; returns how many tasks that were."""
        last = self._last
        if last.index == NONE:
            return self._link.answer(wire.Cancel(0, last.id)).count
        return self._link.answer(wire.Cancel(0, last.id, 0, last.index, last.index + 1)).count

    def explain(self) -> Explanation:
        """Return what it waits for; as text, in sentences."""
        return self._link.explain(self.id)

    def retry(self) -> Retried:
        """Run again what failed of it or was cancelled; returns the results (``client.retry``)."""
        from nbq.choosing import again  # it knows this handle

        return again(self._link, self)

    def __repr__(self) -> str:
        """Show id, task and, as of the last look, how far it is."""
        last = self._last
        return f"<Run {self.id} of {last.task}: {_done(last):,} of {last.size:,}>"


def answers_to(link: Link, ask: wire.Ask) -> Iterator[wire.Answer]:
    """Yield the answers to a question that may be too much for one; their rows are at most its limit."""
    left = ask.limit
    while left > 0:
        answer = link.answer(msgspec.structs.replace(ask, limit=left))
        yield answer
        left -= answer.count
        if not answer.resume:
            return
        ask = msgspec.structs.replace(ask, resume=answer.resume)


def _done(view: RunView) -> int:
    return sum(count for state, count in view.states.items() if state in ENDED)


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}" if per_s >= 1 else f"{per_s:.2g}"
