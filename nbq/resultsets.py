"""Results of many tasks: groups and maps of one run, and sets that are put together by hand.

Whoever waits is told of each end once and looks at nothing twice, so that 10,000 results of as many runs
cost 10,000 looks. Nothing here polls.
"""

from __future__ import annotations

import asyncio
import html
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

import msgspec

from nbq import walks
from nbq.callbacks import future_of
from nbq.canvas.tree import Branch, parent_of, tree_of
from nbq.core.ids import names_group
from nbq.core.model import Nested, Slice, State
from nbq.current import current_client
from nbq.ends import Ends
from nbq.errors import PayloadTooLarge, UnknownResult, UsageError, WaitTimeout
from nbq.members import DEPTH_LIMIT, Members, Picked, first_bad, is_task, missing_text
from nbq.replica import Replica
from nbq.results import ENDED, AsyncResult, Finder, check_waiting, handle, made_known, result_of
from nbq.waits import while_pending

if TYPE_CHECKING:
    from nbq.link import Link

__all__ = ["GroupResult", "MapResult", "ResultSet", "result_from_tuple"]

_SUCCESS = int(State.SUCCESS)
_ITER = 256
"""Values are unpickled so many at a time while a map is iterated."""
_SAVED_BYTES = 1024 * 1024
"""How many bytes of ids the hub keeps of one set."""


class ResultSet:
    """Results that are waited for together: a list, in the order in which they were added.

    Iterating yields a handle for each member.

    Args:
        results: Handles of tasks and groups, all of one client.
        id: What it is to be saved as; something random unless given.

    Raises:
        UsageError: What was given is no handle, or of another client.
    """

    def __init__(self, results: Iterable[AsyncResult | ResultSet] = (), id: str | None = None) -> None:  # noqa: A002 - Celery's word
        if isinstance(results, str):
            raise UsageError("the results come first: GroupResult(results, id=...)")
        self._members: Members | Picked = Picked()
        self._id = id or str(uuid.uuid4())
        self.update(results)

    @property
    def id(self) -> str:
        """Return the id: of the run, for the group that a run is worth."""
        return self._id

    @property
    def results(self) -> list[Any]:
        """Return a handle for each member."""
        return list(self._members)

    children = results

    def __iter__(self) -> Iterator[Any]:
        """Yield a handle for each member."""
        return iter(self._members)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._members)

    def __getitem__(self, place: int) -> Any:
        """Return the handle of a member."""
        return self._members[place]

    # -------------------------------------------------------------- members

    def _picked(self) -> Picked:
        if isinstance(self._members, Members):
            raise UsageError(
                f"the group of run {self.id} is what it is: nbq.ResultSet(group) is a set of its members"
            )
        return self._members

    def add(self, result: AsyncResult | ResultSet) -> None:
        """Take in a handle, unless it is a member.

        Args:
            result: The result of a task, or a group, which is then one member.

        Raises:
            UsageError: It is no handle, or of another client; or this is the group of a run.
        """
        self._picked().add(result)

    def update(self, results: Iterable[AsyncResult | ResultSet]) -> None:
        """Take in each of some ``results``; raises as ``add``."""
        picked = self._picked()
        for result in results:
            picked.add(result)

    def remove(self, result: AsyncResult | ResultSet | str) -> None:
        """Take out ``result``, a handle or its id.

        Raises:
            KeyError: It is no member.
        """
        if not self._picked().remove(result):
            raise KeyError(result)

    def discard(self, result: AsyncResult | ResultSet | str) -> None:
        """Take out ``result``, a handle or its id, if it is a member."""
        self._picked().remove(result)

    def clear(self) -> None:
        """Take out all."""
        self._picked().clear()

    # -------------------------------------------------------------- waiting

    @property
    def _link(self) -> Link | None:
        return self._members.link

    def _wait(self, done: Callable[[Ends], bool], timeout: float | None) -> tuple[bool, Ends]:
        with Ends(self._link, self._members.parts()) as ends:
            over = done(ends) or (
                self._link is not None and self._link.wait_many(lambda: done(ends), timeout)
            )
        if over and ends.error is not None and ends.left:
            raise ends.error
        return over, ends

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], object] | None = None,
        **celery: Any,
    ) -> list[Any]:
        """Wait for all members and return their values, in order.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            propagate: Whether a failure is raised, as soon as it is known; else exceptions stand in
                the places of values.
            callback: Called with id and value of each member, in order, once all have ended.
            celery: As for ``AsyncResult.get``.

        Raises:
            WaitTimeout: Not all ended in time; they go on.
            Exception: As ``AsyncResult.get``, for the first failure.
        """
        if celery:
            check_waiting(celery)
        over, ends = self._wait(Ends.settled if propagate else Ends.ended, timeout)
        if not over:
            raise WaitTimeout(self._missing(ends, timeout))
        if propagate and ends.bad:
            bad = first_bad(self._members.parts())
            assert bad is not None
            raise bad[0].failure(*bad[1:])
        values = self._members.values()
        if callback is not None:
            for member, value in zip(self._members, values, strict=True):
                callback(member.id, value)
        return values

    join = join_native = get

    def _missing(self, ends: Ends, timeout: float | None) -> str:
        return missing_text(self._members, self.id, ends.left, timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all members; returns whether all have ended, however.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
        """
        return self._wait(Ends.ended, timeout)[0]

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait for all members in a coroutine and return their values; raises as ``get``."""
        with Ends(self._link, self._members.parts()) as ends:
            future = future_of(lambda call: self._call(ends, ends.settled, call))
            yield from while_pending(future).__await__()
        return self.get(0)

    def then(self, callback: Callable[[Self], Any], on_error: Callable[[Self], Any] | None = None) -> Self:
        """Call ``callback``, or ``on_error``, with this when all have ended; as ``AsyncResult.then``."""
        ends = Ends(self._link, self._members.parts()).__enter__()
        todo = [callback if on_error is None else None]

        def call() -> None:
            try:
                todo.pop()
            except IndexError:
                return  # it has been called
            ends.__exit__()
            (on_error if on_error is not None and ends.bad else callback)(self)

        self._call(ends, ends.ended, call)
        return self

    def _call(self, ends: Ends, done: Callable[[], bool], callback: Callable[[], object]) -> None:
        """Call a function, at least once, when something holds of the members' ends."""
        link = self._link
        if link is None or done():
            callback()
            return

        def call() -> None:
            if done():
                callback()

        for run, replica in ends.replicas.items():
            link.call_when(replica, lambda run=run: done() or ends.over(run), call)

    def as_completed(self, timeout: float | None = None) -> Iterator[AsyncResult]:
        """Yield the handle of each task, as it ends.

        Args:
            timeout: Seconds to wait for all of them; None for as long as it takes.

        Raises:
            WaitTimeout: Nothing more ended in time.
        """
        link = self._link
        if link is None:
            return
        until = None if timeout is None else time.monotonic() + timeout
        with Ends(link, self._members.parts(), keep=True) as ends:
            while True:
                while ends.fresh:
                    replica, node, lo, hi = ends.fresh.popleft()
                    for index in range(lo, hi) if is_task(replica, node) else ():
                        yield AsyncResult(link, replica, node, index)
                if ends.ended():
                    if ends.error is not None and ends.left:
                        raise ends.error
                    if not ends.fresh:
                        return
                    continue
                remaining = None if until is None else max(0.0, until - time.monotonic())
                if not ends.stirred() and not link.wait_many(ends.stirred, remaining):
                    raise WaitTimeout(self._missing(ends, timeout))

    async def __aiter__(self) -> AsyncIterator[AsyncResult]:
        """Yield the handle of each task, as it ends."""
        iterator = self.as_completed()
        while (found := await asyncio.to_thread(next, iterator, None)) is not None:
            yield found

    def iter_native(
        self, timeout: float | None = None, **celery: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield id and outcome of each task, as it ends: task_id, status, result, traceback.

        Args:
            timeout: As for ``as_completed``.
            celery: As for ``AsyncResult.get``.

        Raises:
            WaitTimeout: Nothing more ended in time.
        """
        check_waiting(celery)
        for one in self.as_completed(timeout):
            value = one.get(propagate=False)
            yield one.id, {
                "task_id": one.id, "status": one.state, "result": value, "traceback": one.traceback,
            }  # fmt: skip

    # -------------------------------------------------------------- looking

    def completed_count(self) -> int:
        """Return how many tasks have succeeded."""
        return self._members.states().get(State.SUCCESS.name, 0) if len(self) else 0

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """Return whether all tasks have ended, however."""
        return self._members.states().keys() <= ENDED

    def successful(self) -> bool:
        """Return whether all tasks have succeeded."""
        return self._members.states().keys() <= {State.SUCCESS.name}

    def failed(self) -> bool:
        """Return whether a task has failed."""
        return State.FAILURE.name in self._members.states()

    @property
    def progress(self) -> dict[str, int]:
        """Return how many tasks of all runs with members here are in each state, as the hub has it now."""
        totals: dict[str, int] = {}
        for replica in {replica.run: replica for replica, _ in self._members.parts()}.values():
            assert self._link is not None
            nodes = range(len(self._link.graph(replica).nodes))
            for state, count in self._link.counts(replica, nodes).items():
                totals[state] = totals.get(state, 0) + count
        return totals

    def exists(self) -> bool:
        """Return whether the hub has all members (still)."""
        return all(one.exists() for one in self._members)

    # -------------------------------------------------------------- what it belongs to

    @property
    def parent(self) -> Any:
        """Return the result that this group follows, or None."""
        return None

    @property
    def _parts_of(self) -> list[Any]:
        return self.results

    def _label(self) -> str:
        return f"{type(self).__name__} of {len(self)}"

    def _children(self, kinship: walks.Kinship) -> list[Any]:
        """Return what follows, for a walk: the members, then what follows the whole group."""
        return self.results

    def as_tuple(self) -> Any:
        """Return ``((id, parent), members)``, each likewise; ``nbq.result_from_tuple`` reads it."""
        return walks.as_tuple(self)

    def as_list(self) -> list[str]:
        """Return the ids of the members and of what the group follows, back to the first."""
        return walks.as_list(self)

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield pairs of a result and one that follows it; as ``AsyncResult.iterdeps``."""
        return walks.iterdeps(self, intermediate)

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Yield pairs of a result and its value; as ``AsyncResult.collect``."""
        return walks.collect(self, intermediate, options)

    def build_graph(self, intermediate: bool = False) -> walks.ResultGraph:
        """Return what follows from this result as a graph. Args and errors as ``iterdeps``."""
        return walks.build_graph(self, intermediate)

    # -------------------------------------------------------------- acting

    def cancel(self, terminate: bool = True, signal: str | None = None) -> int:
        """Stop every task that has not ended; returns how many there were.

        Of a whole canvas, everything is stopped: also what these tasks wait for. The arguments are as for
        ``AsyncResult.cancel``.
        """
        return self._members.cancel()

    revoke = cancel

    def retry(self) -> Any:
        """Run again what failed or was cancelled (``client.retry``); returns the new results."""
        from nbq.choosing import again  # it knows this handle

        return again(self._link, self)

    def forget(self) -> None:
        """Let the hub drop the runs of all members, with their values."""
        done: set[bytes] = set()
        for replica, part in self._members.parts():
            assert self._link is not None
            if self._link.graph(replica).each:
                self._link.forget(replica, part)
            elif replica.run not in done:
                self._link.forget(replica)
            done.add(replica.run)

    def save(self) -> str:
        """Let the hub keep which results these are; returns the id that ``restore`` takes.

        Of a group of a run the hub keeps that anyway.

        Raises:
            PayloadTooLarge: There are too many.
        """
        if isinstance(self._members, Members):
            self._members.link.accepted(self._members.replica)
            return self.id
        data = msgspec.msgpack.encode(_ids(self))
        if len(data) > _SAVED_BYTES:
            raise PayloadTooLarge(
                f"the ids of these {len(self):,} results have {len(data):,} bytes, the limit is "
                f"{_SAVED_BYTES:,}: save them in parts, or submit a group or map (its id is enough)"
            )
        for replica in {replica.run: replica for replica, _ in self._members.parts()}.values():
            assert self._link is not None
            self._link.accepted(replica)
        (self._link or current_client()._link).save(self.id, data)
        return self.id

    def delete(self) -> bool:
        """Let the hub drop what was saved (never the results); returns whether there was something."""
        if isinstance(self._members, Members):
            return False
        return (self._link or current_client()._link).save(self.id, b"") > 0

    @classmethod
    def restore(cls, id: str) -> Any:  # noqa: A002 - Celery's word
        """Return the group whose ``id`` ``save`` gave, from any process.

        Raises:
            UnknownResult: The hub has no group of this id (any more).
        """
        found = result_of(id)
        if isinstance(found, AsyncResult):
            raise UnknownResult(f"{id!r} is a task, not a group: use client.result(id)")
        return found

    # -------------------------------------------------------------- what Python asks

    def __eq__(self, other: object) -> bool:
        """Return whether the other has the same id; a text is compared with it."""
        if isinstance(other, ResultSet):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        """Hash as the id does."""
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as ids; whoever loads it finds the results by its current client."""
        if self._link is not None:
            made_known(self._link, {replica.run: replica for replica, _ in self._members.parts()}.values())
        if isinstance(self._members, Members):
            return result_of, (self.id,)
        return _loaded, (type(self), self.id, _ids(self))

    def __repr__(self) -> str:
        """Show id and size."""
        return f"<{type(self).__name__} {self.id} of {len(self):,}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


class GroupResult(ResultSet):
    """The results of a group of a run; or results that were put together by hand, as one.

    Args:
        results, id: As for ``ResultSet``.
        parent: What it follows, if anything.
    """

    def __init__(
        self,
        results: Iterable[AsyncResult | ResultSet] = (),
        id: str | None = None,  # noqa: A002 - Celery's word
        parent: AsyncResult | ResultSet | None = None,
    ) -> None:
        super().__init__(results, id)
        self._parent: Any = parent
        """A result; or the tuple of one, until somebody asks."""

    @classmethod
    def of(cls, members: Members) -> Self:
        """Return the group that ``members`` of a run are."""
        made = cls.__new__(cls)
        made._members = members
        made._id = ""
        made._parent = None
        return made

    @property
    def id(self) -> str:
        """Return the id: of the run, for the group that a run is worth."""
        return self._members.id if isinstance(self._members, Members) else self._id

    @property
    def parent(self) -> AsyncResult | ResultSet | None:
        """Return the result that this group follows, or None."""
        members = self._members
        if isinstance(members, Picked):
            if self._parent is not None and not isinstance(self._parent, AsyncResult | ResultSet):
                self._parent = result_from_tuple(self._parent)
            return self._parent
        graph = members.link.graph(members.replica)
        if isinstance(members.tree, Branch):
            found = graph.before.get(members.tree.number)
        else:
            found = parent_of(graph, Slice(members.tree.node, 0, 1))
        return None if found is None else handle(members.link, members.replica, tree_of(graph, found))

    def _children(self, kinship: walks.Kinship) -> list[Any]:
        members = self._members
        if isinstance(members, Picked) or not isinstance(members.tree, Branch):
            return self.results
        graph = members.link.graph(members.replica)
        found = self.results
        groups: set[int] = set()
        for number in kinship.followers(members.replica.run, graph, number=members.tree.number):
            group = kinship.group(members.replica.run, graph, number)
            if group is None:
                found += [
                    AsyncResult(members.link, members.replica, number, index)
                    for index in range(graph.nodes[number].size)
                ]
            elif group not in groups:
                groups.add(group)
                found.append(handle(members.link, members.replica, tree_of(graph, Nested(group))))
        return found


class MapResult(GroupResult):
    """The results of ``client.map``; iterating yields values, in order, as they come."""

    def __init__(self, link: Link, replica: Replica) -> None:
        size = link.graph(replica).nodes[0].size
        self._members = Members(link, replica, Branch(0, [Slice(0, 0, size)], [0, size]))
        self._id = ""
        self._parent = None

    def __iter__(self) -> Iterator[Any]:
        """Yield each value, in order; raises what its call raised."""
        assert isinstance(self._members, Members)
        link, replica = self._members.link, self._members.replica
        link.watch(replica, [0])
        node = replica.node(0)
        at, size = 0, len(self)
        while at < size:
            link.wait(replica, lambda at=at: node.state[at] > 0, None)
            end = at
            while end < size and end - at < _ITER and node.state[end] == _SUCCESS:
                end += 1
            if end == at:
                raise replica.failure(0, at)
            yield from replica.values(0, at, end)
            at = end


# ------------------------------------------------------------------ ids and tuples


def _ids(group: ResultSet) -> list[Any]:
    """Return ids of members; a set that was put together by hand as its id and those of its members."""
    return [
        [one.id, _ids(one)] if isinstance(one, ResultSet) and isinstance(one._members, Picked) else one.id
        for one in group.results
    ]


def _loaded(kind: type[ResultSet], own: str, members: list[Any]) -> ResultSet:
    """Return a set of ids; what those put together by hand are pickled as."""
    return kind(Finder(current_client()._link).group(own, members).results, id=own)


def result_from_tuple(value: Any) -> Any:
    """Return the result that ``as_tuple`` described, by the current client.

    Args:
        value: What ``as_tuple`` returned, or the same as lists.

    Raises:
        UnknownResult: The hub has nothing of one of its ids (any more).
        UsageError: It is no such tuple.
    """
    return _from_tuple(Finder(current_client()._link), value, 0)


def _from_tuple(finder: Finder, value: Any, depth: int) -> Any:
    match value:
        case ((str(own), None | tuple() | list() as parent), None | tuple() | list() as members):
            if members is None or names_group(own):
                return finder.one(own)  # the hub knows what it follows
            if depth > DEPTH_LIMIT:
                raise UsageError(f"results are nested more than {DEPTH_LIMIT} deep")
            made = GroupResult([_from_tuple(finder, member, depth + 1) for member in members], id=own)
            made._parent = parent
            return made
    raise UsageError("a result as a tuple is ((id, parent), members): see as_tuple()")
