"""Which tasks are meant, said to a hub: by handles and ids, or by what they have in common.

And the runs in which failed ones are tried again. Asks and tells; never decides what is tried again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, overload

from msgspec.structs import replace

from nbq import wire
from nbq.canvas.tree import Branch
from nbq.core.events import Chosen
from nbq.core.ids import run_text
from nbq.core.model import NONE, Nested, Slice, State
from nbq.core.queries import shown_state
from nbq.errors import Refused, UsageError
from nbq.link import Link
from nbq.members import Members
from nbq.results import AsyncResult, Finder
from nbq.resultsets import ResultSet
from nbq.runhandle import Run

__all__ = ["Retried", "States", "What", "again", "choices", "named", "retried", "steer"]

What = str | AsyncResult | ResultSet | Run
"""A handle, or the id of a task, group or run."""

States = str | Iterable[str] | None
"""The name of a state, or several."""

_STATES = {shown_state(state): state for state in State if state not in (State.SKIPPED, State.LEASED)}
_STEER_S = 3600.0
"""The longest that something may take which is done with many tasks."""
_BAD = [State.FAILURE, State.REVOKED]


class Retried(Sequence[Any]):
    """The results of runs in which tasks are tried again, newest first: an AsyncResult or GroupResult each.

    A handle is made when it is asked for. Of very many runs, only the first 10,000 are here.

    Attributes:
        tasks: How many tasks are tried again.
        ids: The ids of the runs.
    """

    def __init__(self, link: Link, answers: list[wire.Answer]) -> None:
        self._link = link
        self.tasks = sum(answer.count for answer in answers)
        made = [run for answer in answers for run in answer.made]
        self.ids = [run_text(run) for run in dict.fromkeys(made)]

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        """Return the handle of a run; of several, in a list."""
        if isinstance(place, slice):
            return [self[at] for at in range(len(self))[place]]
        return Finder(self._link).one(self.ids[place])

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<Retried: {self.tasks:,} in {len(self):,} new>"


def choices(
    link: Link, what: What | None, run: What | None, name: str, label: str, queue: str, state: States
) -> list[Chosen]:
    """Return what a hub is told of which tasks are meant: one choice, or one for each run of a set.

    Args:
        link: The client's connection.
        what: A handle or id, and nothing else; or None.
        run: Their run: its id, or a handle.
        name: That of the tasks; empty for any.
        label: Likewise.
        queue: Likewise.
        state: Their state, or several; None for any.

    Raises:
        UsageError: There is no such state; or nothing was named, and that would be everything.
        UnknownResult: The hub has nothing of this id (any more).
    """
    wanted = [state] if isinstance(state, str) else list(state or ())
    for one in wanted:
        if one not in _STATES:
            raise UsageError(f"there is no state {one!r}: the states are {', '.join(_STATES)}")
    common = run or name or label or queue
    if (what is None) != bool(common):
        raise UsageError(
            "say which tasks are meant: by a handle or id alone, or by run=, name=, label=, queue="
        )
    states = [_STATES[one] for one in wanted]
    one_named = run if what is None else what
    found = [Chosen()] if one_named is None else named(link, one_named)
    return [replace(one, name=name, label=label, queue=queue, states=states) for one in found]


def named(link: Link, what: What) -> list[Chosen]:
    """Return choices of what a handle or id stands for: of the value of a whole run, all of it.

    Raises:
        UnknownResult: The hub has nothing of this id (any more).
    """
    if isinstance(what, Run):
        view = what.view()
        return [_part(view.id, 0, view.index, view.index + 1) if view.index != NONE else Chosen(view.id)]
    if isinstance(what, str):
        what = Finder(link).one(what)
    if isinstance(what, AsyncResult):
        return [_of_task(link, what)]
    if isinstance(what, ResultSet):
        return _of_set(link, what)
    raise UsageError(f"{what!r} is neither a handle nor an id")


def _part(run: bytes, node: int, lo: int, hi: int) -> Chosen:
    return Chosen(run, node=node, lo=lo, hi=hi)


def _of_task(link: Link, result: AsyncResult) -> Chosen:
    replica = result._replica
    link.accepted(replica)
    value = link.graph(replica).value
    if isinstance(value, Slice) and (value.node, value.lo) == (result.node, result.index):
        return Chosen(replica.run)
    return _part(replica.run, result.node, result.index, result.index + 1)


def _of_set(link: Link, results: ResultSet) -> list[Chosen]:
    members = results._members
    parts = members.parts()
    for replica, _ in parts:
        link.accepted(replica)
    if isinstance(members, Members) and isinstance(members.tree, Branch):
        value = link.graph(members.replica).value
        if value == Nested(members.tree.number):
            return [Chosen(members.replica.run)]
    return [_part(replica.run, part.node, part.lo, part.hi) for replica, part in parts]


def steer(link: Link, message: wire.Steer) -> wire.Answer:
    """Have something done with many tasks, and wait until it is done."""
    return link.answer(message, _STEER_S)


def again(link: Link | None, what: What) -> Retried:
    """Try again what has failed, or was cancelled, of what a handle or id stands for.

    Args:
        link: The client's connection; None if there are no members.
        what: It.

    Raises:
        Refused: There is nothing of that to be tried again.
        UnknownResult: The hub has nothing of this id (any more).
    """
    found = None
    if link is not None:
        found = retried(link, [replace(one, states=_BAD) for one in named(link, what)])
    if not found:
        text = "nothing of it can be tried again: it has not failed, or its canvas still runs"
        raise Refused(text, "unfinished")
    return found


def retried(link: Link, chosen: list[Chosen]) -> Retried:
    """Try again what is chosen and has failed."""
    salt = os.urandom(16)  # one for all: a canvas is tried again once, however many of its tasks are meant
    return Retried(link, [steer(link, wire.Steer(0, one, "retry", salt)) for one in chosen])
