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

from nbq.canvas.tree import Branch, Empty, Leaf, Tree, parent_of, tree_of
from nbq.core.ids import run_text
from nbq.core.model import NONE, Nested, Slice, State
from nbq.core.queries import shown_state
from nbq.errors import RemoteTraceback, WaitTimeout
from nbq.replica import Replica

if TYPE_CHECKING:
    from nbq.link import Link

__all__ = ["AsyncResult", "GroupResult", "MapResult", "handle"]

_SUCCESS = int(State.SUCCESS)
_ITER = 256
"""Values are unpickled so many at a time while a map is iterated."""


class AsyncResult:
    """The result of one task."""

    __slots__ = ("_link", "_replica", "index", "node")

    def __init__(self, link: Link, replica: Replica, node: int, index: int) -> None:
        self._link = link
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
            self._link.watch(self._replica, [self.node])
            if not self._link.wait(self._replica, self._known, timeout):
                raise WaitTimeout(f"task {self.id} has not ended after {timeout:g} s; it goes on")
        if self._known() == _SUCCESS:
            return self._replica.value(self.node, self.index)
        error = self._replica.failure(self.node, self.index)
        if propagate:
            raise error
        return error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the task; returns whether it has ended, however."""
        self._link.watch(self._replica, [self.node])
        return self._link.wait(self._replica, self._known, timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the task in a coroutine and return its value; raises as ``get``."""
        self._link.watch(self._replica, [self.node])
        yield from self._link.future(self._replica, self._known).__await__()
        return self.get(0)

    def then(self, callback: Callable[[AsyncResult], Any]) -> AsyncResult:
        """Call a function with this when the task has ended (in the client's thread: be quick)."""
        self._link.watch(self._replica, [self.node])
        self._link.call_when(self._replica, self._known, lambda: callback(self))
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
        return self._link.element(self._replica, self.node, self.index).state

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
        return self._link.element(self._replica, self.node, self.index).attempt

    @property
    def parent(self) -> AsyncResult | GroupResult | None:
        """Return the result that this task follows, or None."""
        graph = self._link.graph(self._replica)
        found = parent_of(graph, Slice(self.node, self.index, self.index + 1))
        return None if found is None else handle(self._link, self._replica, tree_of(graph, found))

    @property
    def children(self) -> list[AsyncResult]:
        """Return the results of the tasks that follow this one directly."""
        graph = self._link.graph(self._replica)
        found: list[AsyncResult] = []
        for number, spec in enumerate(graph.nodes):
            if spec.after_node != self.node:
                continue
            single = graph.nodes[self.node].size == 1
            indices = range(spec.size) if single else [self.index]
            found += [AsyncResult(self._link, self._replica, number, i) for i in indices]
        return found

    # -------------------------------------------------------------- acting

    def cancel(self) -> bool:
        """Stop the task, queued or running; returns whether there was anything to stop.

        Of a whole chain or chord, everything is stopped.
        """
        value = self._link.graph(self._replica).value
        if isinstance(value, Slice) and (value.node, value.lo) == (self.node, self.index):
            return self._link.cancel(self._replica, NONE, 0, 0) > 0
        return self._link.cancel(self._replica, self.node, self.index, self.index + 1) > 0

    revoke = cancel

    def forget(self) -> None:
        """Let the hub drop the run that this task belongs to, with its values."""
        self._link.forget(self._replica)

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

    def __init__(self, link: Link, replica: Replica, tree: Branch | Empty) -> None:
        self._link = link
        self._replica = replica
        self._tree = tree
        self._leaves = list(_leaves(tree))
        self._checked = 0
        """How many of the leaves are known to have ended: it is asked again and again."""

    @property
    def id(self) -> str:
        """Return the id of the run."""
        return run_text(self._replica.run)

    @property
    def results(self) -> list[AsyncResult | GroupResult]:
        """Return a handle for each member."""
        return [self[place] for place in range(len(self))]

    children = results

    def __iter__(self) -> Iterator[Any]:
        """Yield a handle for each member."""
        return (self[place] for place in range(len(self)))

    def __len__(self) -> int:
        """Return the number of members."""
        return 0 if isinstance(self._tree, Empty) else len(self._tree)

    def __getitem__(self, place: int) -> AsyncResult | GroupResult:
        """Return the handle of a member."""
        if isinstance(self._tree, Empty):
            raise IndexError(f"no member {place} of 0")
        return handle(self._link, self._replica, self._tree[place])

    # -------------------------------------------------------------- waiting

    def _nodes(self) -> list[int]:
        return sorted({leaf.node for leaf in self._leaves})

    def _watch(self) -> None:
        self._link.watch(self._replica, self._nodes())

    def _count(self, state: int) -> int:
        """Return how many elements are known to be in a state (0: not known to have ended)."""
        return sum(
            self._replica.node(leaf.node).state.count(state, leaf.lo, leaf.hi) for leaf in self._leaves
        )

    def _ended(self) -> bool:
        at = self._checked
        while at < len(self._leaves):
            leaf = self._leaves[at]
            node = self._replica.node(leaf.node)
            if node.left and node.state.find(0, leaf.lo, leaf.hi) >= 0:
                break
            at = self._checked = at + 1
        return at == len(self._leaves)

    def _settled(self) -> bool:
        return self._first_bad() is not None or self._ended()

    def _first_bad(self) -> tuple[int, int] | None:
        """Return node and index of the first member that is known not to have succeeded."""
        for leaf in self._leaves if self._replica.bad else ():
            node = self._replica.node(leaf.node)
            if not node.bad:
                continue
            for index in range(leaf.lo, leaf.hi):
                if node.state[index] > _SUCCESS:
                    return leaf.node, index
        return None

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
        done = self._settled if propagate else self._ended
        if not self._link.wait(self._replica, done, timeout):
            raise WaitTimeout(f"{self._count(0)} of {self._size()} tasks of {self.id} have not ended")
        bad = self._first_bad() if propagate else None
        if bad is not None:
            raise self._replica.failure(*bad)
        return self._values(self._tree)

    join = get

    def _size(self) -> int:
        return sum(leaf.hi - leaf.lo for leaf in self._leaves)

    def _values(self, tree: Branch | Empty) -> list[Any]:
        if isinstance(tree, Empty):
            return self._values_of(Slice(tree.node, 0, 1))[0]
        out: list[Any] = []
        for part in tree.parts:
            if isinstance(part, Slice):
                out += self._values_of(part)
            else:
                out.append(self._values(part))
        return out

    def _values_of(self, leaf: Slice) -> list[Any]:
        if not self._replica.node(leaf.node).bad:
            return self._replica.values(leaf.node, leaf.lo, leaf.hi)
        return [
            AsyncResult(self._link, self._replica, leaf.node, index).get(0, propagate=False)
            for index in range(leaf.lo, leaf.hi)
        ]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for all members; returns whether all have ended, however."""
        self._watch()
        return self._link.wait(self._replica, self._ended, timeout)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        """Wait for all members in a coroutine and return their values; raises as ``get``."""
        self._watch()
        yield from self._link.future(self._replica, self._settled).__await__()
        return self.get(0)

    def as_completed(self, timeout: float | None = None) -> Iterator[AsyncResult]:
        """Yield the handle of each task, as it ends.

        Raises:
            WaitTimeout: Nothing more ended in time.
        """
        self._watch()
        until = None if timeout is None else time.monotonic() + timeout
        seen = dict.fromkeys(self._nodes(), 0)

        def news() -> bool:
            return any(len(self._replica.node(number).facts) > count for number, count in seen.items())

        while seen:
            for number in list(seen):
                yield from self._fresh(number, seen)
            if not seen:
                return
            remaining = None if until is None else max(0.0, until - time.monotonic())
            if not self._link.wait(self._replica, news, remaining):
                raise WaitTimeout(f"{self._count(0)} tasks of {self.id} have not ended")

    def _fresh(self, number: int, seen: dict[int, int]) -> Iterator[AsyncResult]:
        """Yield handles of what ended of a node since the last time; take it out when all has."""
        node = self._replica.node(number)
        members = [leaf for leaf in self._leaves if leaf.node == number]
        while seen[number] < len(node.facts):
            fact = node.facts[seen[number]]
            seen[number] += 1
            for leaf in members:
                for index in range(max(fact.lo, leaf.lo), min(fact.hi, leaf.hi)):
                    yield AsyncResult(self._link, self._replica, number, index)
        if node.left == 0 and seen[number] == len(node.facts):
            del seen[number]

    async def __aiter__(self) -> AsyncIterator[AsyncResult]:
        """Yield the handle of each task, as it ends."""
        iterator = self.as_completed()
        while (found := await asyncio.to_thread(next, iterator, None)) is not None:
            yield found

    # -------------------------------------------------------------- looking and acting

    def completed_count(self) -> int:
        """Return how many tasks have succeeded."""
        return self._states().get(State.SUCCESS.name, 0)

    def _states(self) -> dict[str, int]:
        """Return how many tasks are in each state, as the hub has it now."""
        if self._ended():
            counts = {shown_state(state): self._count(state) for state in State if state >= _SUCCESS}
            return {name: count for name, count in counts.items() if count}
        return self._link.counts(self._replica, self._nodes())

    def waiting(self) -> bool:
        """Return whether any task has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """Return whether all tasks have ended, however."""
        return all(State[name] >= _SUCCESS for name in self._states())

    def successful(self) -> bool:
        """Return whether all tasks have succeeded."""
        return self._states().keys() <= {State.SUCCESS.name}

    def failed(self) -> bool:
        """Return whether a task has failed."""
        return State.FAILURE.name in self._states()

    @property
    def progress(self) -> dict[str, int]:
        """Return how many tasks of the whole run are in each state, as the hub has it now."""
        return self._link.counts(self._replica, range(len(self._link.graph(self._replica).nodes)))

    @property
    def parent(self) -> AsyncResult | GroupResult | None:
        """Return the result that this group follows, or None."""
        return self[0].parent if len(self) else None

    def cancel(self) -> int:
        """Stop every task that has not ended; returns how many there were.

        Of a whole canvas, everything is stopped: also what these tasks wait for.
        """
        value = self._link.graph(self._replica).value
        if isinstance(value, Nested) and isinstance(self._tree, Branch) and value.number == self._tree.number:
            return self._link.cancel(self._replica, NONE, 0, 0)
        return sum(self._link.cancel(self._replica, leaf.node, leaf.lo, leaf.hi) for leaf in self._leaves)

    revoke = cancel

    def forget(self) -> None:
        """Let the hub drop the run, with its values."""
        self._link.forget(self._replica)

    def __repr__(self) -> str:
        """Show id and size."""
        return f"<{type(self).__name__} {self.id} of {len(self):,}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


class MapResult(GroupResult):
    """The results of ``client.map``; iterating yields values, in order, as they come."""

    def __init__(self, link: Link, replica: Replica) -> None:
        graph = link.graph(replica)
        size = graph.nodes[0].size
        super().__init__(link, replica, Branch(0, [Slice(0, 0, size)], [0, size]))

    def __iter__(self) -> Iterator[Any]:
        """Yield each value, in order; raises what its call raised."""
        self._watch()
        node = self._replica.node(0)
        at, size = 0, len(self)
        while at < size:
            self._link.wait(self._replica, lambda at=at: node.state[at] > 0, None)
            end = at
            while end < size and end - at < _ITER and node.state[end] == _SUCCESS:
                end += 1
            if end == at:
                raise self._replica.failure(0, at)
            yield from self._replica.values(0, at, end)
            at = end


def handle(link: Link, replica: Replica, tree: Tree | None = None) -> Any:
    """Return the handle of a part of a run, or of the value of the whole run."""
    if tree is None:
        graph = link.graph(replica)
        if graph.value is None:
            return AsyncResult(link, replica, 0, 0)
        tree = tree_of(graph, graph.value)
    if isinstance(tree, Leaf):
        return AsyncResult(link, replica, tree.node, tree.index)
    return GroupResult(link, replica, tree)


def _leaves(tree: Branch | Empty) -> Iterator[Slice]:
    if isinstance(tree, Empty):
        yield Slice(tree.node, 0, 1)
        return
    for part in tree.parts:
        if isinstance(part, Slice):
            yield part
        else:
            yield from _leaves(part)
