"""Handles to results: what a submit returns, and what ``client.result(id)`` finds again on any day.

A handle holds no value: it names elements of a run, and reads the client's replica of that run. The same
object serves threads (``get``) and coroutines (``await``).
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from nbq.core.ids import run_text
from nbq.core.model import NONE, Nested, Slice, State
from nbq.core.queries import shown_state
from nbq.errors import RemoteTraceback, WaitTimeout
from nbq.replica import Replica

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = ["AsyncResult", "GroupResult", "MapResult"]

_SUCCESS = int(State.SUCCESS)


class AsyncResult:
    """The result of one task."""

    __slots__ = ("_client", "_replica", "index", "node")

    def __init__(self, client: Client, replica: Replica, node: int, index: int) -> None:
        self._client = client
        self._replica = replica
        self.node = node
        self.index = index

    @property
    def id(self) -> str:
        """Return the task's id."""
        return self._replica.id_of(self.node, self.index)

    task_id = id

    @property
    def run_id(self) -> str:
        """Return the id of the run that the task belongs to."""
        return run_text(self._replica.run)

    # -------------------------------------------------------------- waiting

    def _known(self) -> int:
        return self._replica.node(self.node).state[self.index]

    def get(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """Wait for the task and return its value.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            propagate: Whether a failure is raised; else it is returned.

        Raises:
            WaitTimeout: It did not end in time; it goes on.
            TaskRevoked: It was cancelled, or expired.
            TaskLost: It started in too many slots that died.
            Exception: What the task raised, with its remote traceback as cause.
        """
        if not self._known():
            self._client.watch(self._replica, [self.node])
            if not self._client.wait(self._replica, self._known, timeout):
                raise WaitTimeout(f"task {self.id} has not ended after {timeout:g} s; it goes on")
        if self._known() == _SUCCESS:
            return self._replica.value(self.node, self.index)
        error = self._replica.failure(self.node, self.index)
        if propagate:
            raise error
        return error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the task; returns whether it has ended, however."""
        self._client.watch(self._replica, [self.node])
        return self._client.wait(self._replica, self._known, timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the task in a coroutine and return its value; raises as ``get``."""
        self._client.watch(self._replica, [self.node])
        yield from self._client.future(self._replica, self._known).__await__()
        return self.get(0)

    def then(self, callback: Callable[[AsyncResult], Any]) -> AsyncResult:
        """Call a function with this when the task has ended (in the client's thread: be quick)."""
        self._client.watch(self._replica, [self.node])
        self._client.call_when(self._replica, self._known, lambda: callback(self))
        return self

    # -------------------------------------------------------------- looking

    @property
    def state(self) -> str:
        """Return the state: WAITING SCHEDULED RETRY QUEUED STARTED SUCCESS FAILURE REVOKED.

        Raises:
            Refused: The hub did not take the task.
        """
        known = self._known()
        if known:
            return shown_state(known)
        return self._client.element(self._replica, self.node, self.index).state

    status = state

    def ready(self) -> bool:
        """Return whether the task has ended, however."""
        return State[self.state] >= State.SUCCESS

    def successful(self) -> bool:
        """Return whether the task has succeeded."""
        return self.state == State.SUCCESS.name

    def failed(self) -> bool:
        """Return whether the task has failed."""
        return self.state == State.FAILURE.name

    @property
    def result(self) -> Any:
        """Return the value, or the exception, or None while the task has not ended."""
        return self.get(propagate=False) if self.ready() else None

    info = result

    @property
    def traceback(self) -> str | None:
        """Return the remote traceback of a failed task as text, or None."""
        if not self.ready() or self.successful():
            return None
        self.wait()
        error = self._replica.failure(self.node, self.index)
        cause = error.__cause__
        return str(cause.args[0]) if isinstance(cause, RemoteTraceback) else str(error)

    @property
    def stdout(self) -> str:
        """Return what the task printed; empty until it has ended."""
        return self._extras()[2][0]

    @property
    def stderr(self) -> str:
        """Return what the task wrote to standard error; empty until it has ended."""
        return self._extras()[2][1]

    @property
    def timing(self) -> dict[str, float]:
        """Return when the task ``started`` (Unix time) and how many ``seconds`` it ran."""
        started_s, seconds, _ = self._extras()
        return {"started": started_s, "seconds": seconds}

    def _extras(self) -> tuple[float, float, tuple[str, str]]:
        if not self.ready():
            return 0.0, 0.0, ("", "")
        self.wait()
        return self._replica.extras(self.node, self.index)

    @property
    def attempts(self) -> int:
        """Return how many attempts there were so far."""
        return self._client.element(self._replica, self.node, self.index).attempt

    @property
    def parent(self) -> AsyncResult | GroupResult | None:
        """Return the result that this task follows, or None."""
        graph = self._client.graph(self._replica)
        spec = graph.nodes[self.node]
        if spec.after_list != NONE:
            return GroupResult(self._client, self._replica, Nested(spec.after_list))
        if spec.after_node == NONE:
            return None
        single = graph.nodes[spec.after_node].size == 1
        return AsyncResult(self._client, self._replica, spec.after_node, 0 if single else self.index)

    @property
    def children(self) -> list[AsyncResult]:
        """Return the results of the tasks that follow this one directly."""
        graph = self._client.graph(self._replica)
        found: list[AsyncResult] = []
        for number, spec in enumerate(graph.nodes):
            if spec.after_node != self.node:
                continue
            single = graph.nodes[self.node].size == 1
            indices = range(spec.size) if single else [self.index]
            found += [AsyncResult(self._client, self._replica, number, i) for i in indices]
        return found

    # -------------------------------------------------------------- acting

    def cancel(self) -> bool:
        """Stop the task, queued or running; returns whether there was anything to stop."""
        return self._client.cancel_elements(self._replica, self.node, self.index, self.index + 1) > 0

    revoke = cancel

    def forget(self) -> None:
        """Let the hub drop the run that this task belongs to, with its values."""
        self._client.forget(self._replica)

    def __eq__(self, other: object) -> bool:
        """Return whether the other names the same task; a text is compared with the id."""
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        """Hash as the id does."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Show id and, if it is known here, how it ended."""
        known = self._known()
        return f"<AsyncResult {self.id}{' ' + shown_state(known) if known else ''}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


class GroupResult:
    """The results of a group: a list, in the order of its members.

    Iterating yields a handle for each member.
    """

    def __init__(self, client: Client, replica: Replica, value: Nested) -> None:
        self._client = client
        self._replica = replica
        self._value = value

    @property
    def id(self) -> str:
        """Return the id of the run."""
        return run_text(self._replica.run)

    def _items(self) -> list[Slice | Nested]:
        return list(self._client.graph(self._replica).lists[self._value.number])

    def _leaves(self) -> list[Slice]:
        found: list[Slice] = []
        pending: list[Slice | Nested] = [self._value]
        lists = self._client.graph(self._replica).lists
        while pending:
            item = pending.pop()
            if isinstance(item, Slice):
                found.append(item)
            else:
                pending.extend(reversed(lists[item.number]))
        return found

    @property
    def results(self) -> list[AsyncResult | GroupResult]:
        """Return a handle for each member."""
        return list(self)

    @property
    def children(self) -> list[AsyncResult | GroupResult]:
        """Return the same."""
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        """Yield a handle for each member."""
        for item in self._items():
            if isinstance(item, Nested):
                yield GroupResult(self._client, self._replica, item)
            else:
                for index in range(item.lo, item.hi):
                    yield AsyncResult(self._client, self._replica, item.node, index)

    def __len__(self) -> int:
        """Return the number of members."""
        return sum(1 if isinstance(item, Nested) else item.hi - item.lo for item in self._items())

    def __getitem__(self, place: int) -> AsyncResult | GroupResult:
        """Return the handle of a member."""
        at = place + len(self) if place < 0 else place
        for item in self._items():
            size = 1 if isinstance(item, Nested) else item.hi - item.lo
            if at < size:
                if isinstance(item, Nested):
                    return GroupResult(self._client, self._replica, item)
                return AsyncResult(self._client, self._replica, item.node, item.lo + at)
            at -= size
        raise IndexError(place)

    # -------------------------------------------------------------- waiting

    def _watch(self) -> None:
        self._client.watch(self._replica, sorted({leaf.node for leaf in self._leaves()}))

    def _all_ended(self) -> bool:
        return all(self._replica.node(leaf.node).left == 0 for leaf in self._leaves())

    def _settled(self) -> bool:
        nodes = [self._replica.node(leaf.node) for leaf in self._leaves()]
        return any(node.bad for node in nodes) or all(node.left == 0 for node in nodes)

    def get(self, timeout: float | None = None, propagate: bool = True) -> list[Any]:
        """Wait for all members and return their values, in order.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            propagate: Whether a failure is raised, as soon as it is known; else exceptions stand in
                the places of values.

        Raises:
            WaitTimeout: Not all ended in time; they go on.
            Exception: As ``AsyncResult.get``, for the first failure.
        """
        self._watch()
        done = self._settled if propagate else self._all_ended
        if not self._client.wait(self._replica, done, timeout):
            count = len(self)
            raise WaitTimeout(f"{self.waiting_count()} of {count} tasks of {self.id} have not ended")
        if propagate:
            self._raise_first()
        return self._values(self._value)

    join = get

    def _raise_first(self) -> None:
        for leaf in self._leaves():
            node = self._replica.node(leaf.node)
            if not node.bad:
                continue
            for index in range(leaf.lo, leaf.hi):
                if node.state[index] > _SUCCESS:
                    raise self._replica.failure(leaf.node, index)

    def _values(self, value: Slice | Nested) -> list[Any]:
        if isinstance(value, Slice):
            if not self._replica.node(value.node).bad:
                return self._replica.values(value.node, value.lo, value.hi)
            return [
                AsyncResult(self._client, self._replica, value.node, index).get(0, propagate=False)
                for index in range(value.lo, value.hi)
            ]
        out: list[Any] = []
        for item in self._client.graph(self._replica).lists[value.number]:
            if isinstance(item, Slice):
                out += self._values(item)
            else:
                out.append(self._values(item))
        return out

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all members; returns whether all have ended, however."""
        self._watch()
        return self._client.wait(self._replica, self._all_ended, timeout)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait for all members in a coroutine and return their values; raises as ``get``."""
        self._watch()
        yield from self._client.future(self._replica, self._settled).__await__()
        return self.get(0)

    def as_completed(self, timeout: float | None = None) -> Iterator[AsyncResult]:
        """Yield the handle of each task, as it ends.

        Raises:
            WaitTimeout: Nothing more ended in time.
        """
        self._watch()
        until = None if timeout is None else time.monotonic() + timeout
        places = self._places()
        left = {number: 0 for number in places}
        while left:
            for number in list(left):
                node = self._replica.node(number)
                while left[number] < len(node.facts):
                    fact = node.facts[left[number]]
                    left[number] += 1
                    for index in range(fact.lo, fact.hi):
                        yield AsyncResult(self._client, self._replica, number, index)
                if node.left == 0 and left[number] == len(node.facts):
                    del left[number]
            if not left:
                return

            def news() -> bool:
                return any(len(self._replica.node(n).facts) > seen for n, seen in left.items())

            remaining = None if until is None else max(0.0, until - time.monotonic())
            if not self._client.wait(self._replica, news, remaining):
                raise WaitTimeout(f"{self.waiting_count()} tasks of {self.id} have not ended")

    def _places(self) -> list[int]:
        return sorted({leaf.node for leaf in self._leaves()})

    async def __aiter__(self) -> AsyncIterator[AsyncResult]:
        """Yield the handle of each task, as it ends."""
        iterator = self.as_completed()
        while True:
            found = await asyncio.to_thread(next, iterator, None)
            if found is None:
                return
            yield found

    # -------------------------------------------------------------- looking and acting

    def completed_count(self) -> int:
        """Return how many tasks are known to have succeeded."""
        self._watch()
        return sum(
            self._replica.node(leaf.node).state.count(_SUCCESS, leaf.lo, leaf.hi) for leaf in self._leaves()
        )

    def waiting_count(self) -> int:
        """Return how many tasks are not known to have ended."""
        self._watch()
        return sum(
            self._replica.node(leaf.node).state.count(0, leaf.lo, leaf.hi) for leaf in self._leaves()
        )

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """Return whether all tasks have ended, however."""
        self._watch()
        return self._all_ended()

    def successful(self) -> bool:
        """Return whether all tasks have succeeded."""
        return self.ready() and not self.failed()

    def failed(self) -> bool:
        """Return whether a task is known to have failed."""
        self._watch()
        return any(self._replica.node(number).bad for number in self._places())

    @property
    def progress(self) -> dict[str, int]:
        """Return how many tasks of the whole run are in each state, as the hub has it now."""
        return self._client.counts(self._replica)

    @property
    def parent(self) -> AsyncResult | GroupResult | None:
        """Return the result that this group follows, or None."""
        first = next(iter(self), None)
        return first.parent if first is not None else None

    def cancel(self) -> int:
        """Stop every task that has not ended; returns how many there were."""
        return sum(
            self._client.cancel_elements(self._replica, leaf.node, leaf.lo, leaf.hi)
            for leaf in self._leaves()
        )

    revoke = cancel

    def forget(self) -> None:
        """Let the hub drop the run, with its values."""
        self._client.forget(self._replica)

    def __repr__(self) -> str:
        """Show id and size."""
        return f"<{type(self).__name__} {self.id} of {len(self):,}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


class MapResult(GroupResult):
    """The results of ``client.map``; iterating yields values, in order, as they come."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each value, in order; raises what its call raised."""
        self._watch()
        for leaf in self._leaves():
            at = leaf.lo
            node = self._replica.node(leaf.node)
            while at < leaf.hi:
                if not self._client.wait(self._replica, lambda at=at, node=node: node.state[at] > 0, None):
                    continue
                end = at
                while end < leaf.hi and end - at < 256 and node.state[end] == _SUCCESS:
                    end += 1
                if end == at:
                    raise self._replica.failure(leaf.node, at)
                yield from self._replica.values(leaf.node, at, end)
                at = end

    @property
    def results(self) -> list[Any]:
        """Return a handle for each call."""
        return [self[place] for place in range(len(self))]
