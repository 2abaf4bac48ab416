"""Handles to single results: what a submit returns, and how any handle is found again by its id.

A handle holds no value: it names elements of a run, and reads the client's replica of that run. The same
object serves threads (``get``) and coroutines (``await``). It never polls, and never runs user code but
callbacks and what unpickling runs.
"""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nbq import walks, wire
from nbq.canvas.tree import EMPTY, Empty, Leaf, Tree, parent_of, tree_of
from nbq.core.ids import parse_id, parse_list_id, run_text
from nbq.core.model import NONE, Nested, On, Slice, State
from nbq.core.queries import shown_state
from nbq.current import current_client
from nbq.errors import NbqError, RemoteTraceback, UnknownResult, UsageError, WaitTimeout
from nbq.replica import Replica

if TYPE_CHECKING:
    from nbq.link import Link
    from nbq.resultsets import GroupResult

__all__ = ["ENDED", "AsyncResult", "Finder", "check_waiting", "handle", "made_known", "result_of"]

ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
"""The states of what has ended; a task may show names of its own while it runs."""

_SUCCESS = int(State.SUCCESS)
_SKIPPED = int(State.SKIPPED)
_TRAVEL_S = 10.0
"""How long the pickling of a handle waits for a hub to have what it names."""

_HARMLESS = {"interval", "no_ack", "follow_parents"}
"""Celery's, without effect here: nothing is polled or acknowledged, and a failed parent's error is always
that of what follows it."""
_MEANINGLESS = {
    "on_message": "there are no messages of a result backend: use then(), callback= or as_completed()",
    "on_interval": "nothing is polled, so it would never be called: use timeout= and wait in a loop",
    "disable_sync_subtasks": "a task may wait for others here, and is not kept from it: leave it out",
}


def check_waiting(options: Mapping[str, Any]) -> None:
    """Check the parameters of Celery's ``get`` that mean nothing here.

    Raises:
        UsageError: One would change what happens in Celery, and cannot here; the text says why.
        TypeError: There is no such parameter.
    """
    for name, value in options.items():
        if name in _HARMLESS or value is None or (name == "disable_sync_subtasks" and not value):
            continue
        if name in _MEANINGLESS:
            raise UsageError(f"get() has no {name}: {_MEANINGLESS[name]}")
        raise TypeError(f"get() got an unexpected keyword argument {name!r}")


class AsyncResult:
    """The result of one task.

    Args:
        link: The client's connection; or the id of a task, which the current client then looks for.
        replica: What the client knows of the task's run.
        node, index: Which element of it the task is.
    """

    __slots__ = ("_link", "_replica", "index", "node")

    def __init__(
        self, link: Link | str, replica: Replica | None = None, node: int = 0, index: int = 0
    ) -> None:
        if replica is None or isinstance(link, str):
            found = result_of(str(link))
            if not isinstance(found, AsyncResult):
                raise UnknownResult(f"{link} is a group, not a task: use client.result(id)")
            link, replica, node, index = found._link, found._replica, found.node, found.index
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

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], object] | None = None,
        **celery: Any,
    ) -> Any:
        """Wait for the task and return its value.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            propagate: Whether a failure is raised; else it is returned.
            callback: Called with the id and what is returned, before it is.
            celery: ``interval``, ``no_ack`` and ``follow_parents`` are taken and make no difference:
                nothing is polled, and the error of a failed parent is raised whatever they say.

        Raises:
            WaitTimeout: It did not end in time; it goes on.
            TaskRevoked: It was cancelled, or expired.
            TaskLost: It started in too many slots that died.
            UsageError: A parameter of Celery's that cannot mean anything here.
            Exception: What the task raised, with its remote traceback as cause.
        """
        if celery:
            check_waiting(celery)
        state = self._known()
        if not state:
            self._link.watch(self._replica, [self.node])
            if not self._link.wait(self._replica, self._known, timeout):
                why = self._link.why(self.id, timeout)
                raise WaitTimeout(f"task {self.id} has not ended after {timeout:g} s; it goes on{why}")
            state = self._known()
        if state == _SUCCESS:
            value = self._replica.value(self.node, self.index)
        else:
            value = self._replica.failure(self.node, self.index)
            if propagate:
                raise value
        if callback is not None:
            callback(self.id, value)
        return value

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the task; returns whether it has ended, however.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            TooManyWaiting: This is a task, and more tasks of its engine wait than its setting allows.
        """
        self._link.watch(self._replica, [self.node])
        return self._link.wait(self._replica, self._known, timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the task in a coroutine and return its value; raises as ``get``."""
        self._link.watch(self._replica, [self.node])
        yield from self._link.future(self._replica, self._known).__await__()
        return self.get(0)

    def then(
        self, callback: Callable[[AsyncResult], Any], on_error: Callable[[AsyncResult], Any] | None = None
    ) -> AsyncResult:
        """Call a function with this when the task has ended (in the client's thread: be quick).

        Args:
            callback: The function.
            on_error: What is called in its place if the task has not succeeded; None for the same.
        """

        def call() -> None:
            other = on_error is not None and self._known() != _SUCCESS
            (on_error if other and on_error else callback)(self)

        self._link.watch(self._replica, [self.node])
        self._link.call_when(self._replica, self._known, call)
        return self

    # -------------------------------------------------------------- looking

    @property
    def state(self) -> str:
        """Return the state: WAITING SCHEDULED RETRY QUEUED STARTED SUCCESS FAILURE REVOKED.

        While the task runs it may show a name of its own (``update_state``) in place of STARTED.

        Raises:
            Refused: The hub did not take the task.
            UnknownResult: The hub has it no more.
        """
        known = self._known()
        if known:
            return shown_state(known)
        return self._link.element(self._replica, self.node, self.index).state

    status = state

    def ready(self) -> bool:
        """Return whether the task has ended, however."""
        return self.state in ENDED

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

    @property
    def info(self) -> Any:
        """Return what the running task last showed by ``update_state``; once it has ended, ``result``."""
        if not self._known():
            note = self._link.note(self._replica, self.node, self.index)
            if note is not None or not self.ready():
                return note
        return self.get(propagate=False)

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
    def date_done(self) -> datetime | None:
        """Return when the hub took note that the task had ended, in UTC; None until then."""
        if not self.ready():
            return None
        self.wait()
        fact = self._replica.fact(self.node, self.index)
        return None if fact is None else datetime.fromtimestamp(fact.at_s, UTC)

    @property
    def name(self) -> str:
        """Return the name of the task, or what it is shown as (``shadow``)."""
        spec = self._link.graph(self._replica).nodes[self.node]
        return spec.options.shadow or spec.task

    @property
    def queue(self) -> str:
        """Return the queue that the task was sent to."""
        return self._link.graph(self._replica).nodes[self.node].options.queue

    @property
    def worker(self) -> str | None:
        """Return the name of the engine that ran the task or has it, or None."""
        return self._link.element(self._replica, self.node, self.index).engine or None

    @property
    def attempts(self) -> int:
        """Return how many attempts there were so far: the first, retries, and those that were lost."""
        return self._link.element(self._replica, self.node, self.index).attempt

    @property
    def retries(self) -> int:
        """Return how many times the task asked to be run again."""
        return self._link.element(self._replica, self.node, self.index).retries

    def exists(self) -> bool:
        """Return whether the hub has the task (still): results expire, and can be forgotten."""
        try:
            self._link.element(self._replica, self.node, self.index)
        except UnknownResult:
            return False
        except NbqError:
            if self._replica.error is None:
                raise
            return False  # it was not taken
        return True

    # -------------------------------------------------------------- what it belongs to

    @property
    def parent(self) -> AsyncResult | GroupResult | None:
        """Return the result that this task follows, or None."""
        graph = self._link.graph(self._replica)
        found = parent_of(graph, Slice(self.node, self.index, self.index + 1))
        return None if found is None else handle(self._link, self._replica, tree_of(graph, found))

    @property
    def children(self) -> list[AsyncResult | GroupResult]:
        """Return what came of this task: the next step, links that were called, what it submitted."""
        return self._children(walks.Kinship())

    def _children(self, kinship: walks.Kinship) -> list[Any]:
        graph = self._link.graph(self._replica)
        if kinship.all_ends and not kinship.has(self._replica.run):
            self._link.watch(self._replica, list(range(len(graph.nodes))))
        single = graph.nodes[self.node].size == 1
        found: list[Any] = []
        groups: set[int] = set()
        for number in kinship.followers(self._replica.run, graph, self.node):
            spec = graph.nodes[number]
            group = kinship.group(self._replica.run, graph, number)
            if group is not None and single:
                if group not in groups:
                    groups.add(group)
                    found.append(handle(self._link, self._replica, tree_of(graph, Nested(group))))
                continue
            indices = range(spec.size) if single else [self.index]
            members = [AsyncResult(self._link, self._replica, number, index) for index in indices]
            found += members if spec.on == On.SUCCESS else [one for one in members if self._called(one)]
        return found + self._submitted()

    def _submitted(self) -> list[Any]:
        """Return the results of what this task submitted while it ran, as far as the hub has them."""
        if not self.ready():
            return []
        self.wait()
        finder = Finder(self._link)
        found: list[Any] = []
        for text in self._replica.children(self.node, self.index):
            with contextlib.suppress(UnknownResult):
                found.append(finder.one(text))
        return found

    def _called(self, link: AsyncResult) -> bool:
        """Return whether a link or errback of this task was called for."""
        if not self.ready():
            return False
        known = link._known()
        if known:
            return known != _SKIPPED
        return link.state != State.SKIPPED.name

    _parts_of: None = None
    """A walk's question: the members, of what has some."""

    def _label(self) -> str:
        return f"{self.name} {self.state}"

    def as_tuple(self) -> Any:
        """Return ``((id, parent), None)``, the parent likewise; ``nbq.result_from_tuple`` reads it."""
        return walks.as_tuple(self)

    def as_list(self) -> list[str]:
        """Return the ids of this task and of what it follows, back to the first."""
        return walks.as_list(self)

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield pairs of a result (None at first) and one that follows it, from this one on.

        Args:
            intermediate: Whether what has not ended is passed by; else it is an error.

        Raises:
            WaitTimeout: A result has not ended.
        """
        return walks.iterdeps(self, intermediate)

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Yield pairs of a result and its value, from this one on, waiting for each (as ``get`` does).

        Args:
            intermediate: As for ``iterdeps``; nothing is passed by that can be waited for.
            options: As for ``get``.
        """
        return walks.collect(self, intermediate, options)

    def get_leaf(self) -> Any:
        """Return the value of the last result that follows from this one."""
        return walks.get_leaf(self)

    def build_graph(self, intermediate: bool = False) -> walks.ResultGraph:
        """Return what follows from this result as a graph. Args and errors as ``iterdeps``."""
        return walks.build_graph(self, intermediate)

    # -------------------------------------------------------------- acting

    def cancel(self, terminate: bool = True, signal: str | None = None) -> bool:
        """Stop the task, queued or running; returns whether there was anything to stop.

        Of a whole chain or chord, everything is stopped.

        Args:
            terminate: Celery's; what runs is stopped, whatever it says.
            signal: Celery's; it makes no difference (an exception in the task, then the end of its slot).
        """
        value = self._link.graph(self._replica).value
        if isinstance(value, Slice) and (value.node, value.lo) == (self.node, self.index):
            return self._link.cancel(self._replica, NONE, 0, 0) > 0
        return self._link.cancel(self._replica, self.node, self.index, self.index + 1) > 0

    revoke = cancel

    def retry(self) -> Any:
        """Run the task again, which failed or was cancelled (``client.retry``); returns the new result."""
        from nbq.choosing import again  # it knows this handle

        return again(self._link, self)[0]

    def abort(self) -> bool:
        """Ask the running task to end by itself (``current_task.is_aborted()``); cancel it if it waits.

        Returns whether there was anything to end.
        """
        return self._link.abort(self._replica, self.node, self.index, self.index + 1) > 0

    def forget(self) -> None:
        """Let the hub drop the run that this task belongs to, with its values.

        Of separate calls that left together, each is a run of its own.
        """
        each = self._link.graph(self._replica).each
        own = Slice(self.node, self.index, self.index + 1)
        self._link.forget(self._replica, own if each else None)

    # -------------------------------------------------------------- what Python asks

    def __eq__(self, other: object) -> bool:
        """Return whether the other names the same task; a text is compared with the id."""
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        """Hash as the id does."""
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the id; whoever loads it finds the task by its current client."""
        made_known(self._link, [self._replica])
        return result_of, (self.id,)

    def __repr__(self) -> str:
        """Show id and, if it is known here, how it ended."""
        known = self._known()
        return f"<AsyncResult {self.id}{' ' + shown_state(known) if known else ''}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


# ------------------------------------------------------------------ from runs and ids to handles


def made_known(link: Link, replicas: Iterable[Replica]) -> None:
    """Wait until the hub has runs whose handles go elsewhere, so that they are found there at once.

    Where that cannot be waited for (the hub is away, the client closed), they go all the same.
    """
    for replica in replicas:
        if not replica.accepted and replica.error is None:
            with contextlib.suppress(NbqError):
                link.graph(replica)  # an open batch is closed, and sent
                link.wait(replica, lambda replica=replica: replica.accepted, _TRAVEL_S)


def handle(link: Link, replica: Replica, tree: Tree | None = None) -> Any:
    """Return the handle of a part of a run, or of the value of the whole run."""
    if tree is None:
        graph = link.graph(replica)
        if graph.value is None:
            return AsyncResult(link, replica, 0, 0)
        tree = tree_of(graph, graph.value)
    if isinstance(tree, Leaf):
        return AsyncResult(link, replica, tree.node, tree.index)
    from nbq.members import Members  # these are made of what this module makes
    from nbq.resultsets import GroupResult

    return GroupResult.of(Members(link, replica, tree))


class Finder:
    """Finds handles by ids; the hub is asked once for each run.

    Args:
        link: The client's connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: dict[bytes, Replica] = {}

    def one(self, text: str) -> Any:
        """Return the handle of a task, run, group of a run, or saved group.

        Raises:
            UnknownResult: The hub has nothing of this id (any more).
        """
        listed = parse_list_id(text)
        if listed is not None:
            return self._listed(text, *listed)
        parsed = parse_id(text)
        if parsed is None:
            return self._named(text)
        replica = self._known.get(parsed[0])
        if replica is not None and parsed[1] != NONE and self._has(replica, parsed[1], parsed[2]):
            return self._element(replica, parsed[1], parsed[2])
        return self._asked(text)

    def _asked(self, text: str) -> Any:
        found = self._link.ask(wire.Ask(0, "find", text))
        assert isinstance(found, wire.Found)
        replica = self._known[found.run] = self._link.known(found.run, found.graph)
        if found.node != NONE:
            return self._element(replica, found.node, found.index)
        return handle(self._link, replica)

    def _has(self, replica: Replica, node: int, index: int) -> bool:
        nodes = self._link.graph(replica).nodes
        return node < len(nodes) and index < nodes[node].size

    def _element(self, replica: Replica, node: int, index: int) -> Any:
        if self._link.graph(replica).nodes[node].task == EMPTY:
            return handle(self._link, replica, Empty(node))
        return AsyncResult(self._link, replica, node, index)

    def _listed(self, text: str, run: bytes, number: int) -> Any:
        replica = self._known.get(run)
        if replica is None:
            self._asked(run_text(run))
            replica = self._known[run]
        graph = self._link.graph(replica)
        if number >= len(graph.lists):
            raise UnknownResult(f"the hub has no group {text!r}: its run has {len(graph.lists)}")
        return handle(self._link, replica, tree_of(graph, Nested(number)))

    def _named(self, text: str) -> Any:
        """Return the task that somebody gave an id, or the group that was saved under it."""
        try:
            return self._asked(text)
        except UnknownResult as error:
            data = self._link.saved(text)
            if not data:
                raise error from None
        return self.group(text, msgspec.msgpack.decode(data))

    def group(self, own: str, members: list[Any], depth: int = 0) -> GroupResult:
        """Return a group put together by hand from ids, and pairs of id and members."""
        from nbq.members import DEPTH_LIMIT
        from nbq.resultsets import GroupResult

        if depth > DEPTH_LIMIT:
            raise UsageError(f"results are nested more than {DEPTH_LIMIT} deep")
        found = [
            self.one(member) if isinstance(member, str) else self.group(member[0], member[1], depth + 1)
            for member in members
        ]
        return GroupResult(found, id=own)


def result_of(text: str) -> Any:
    """Return the handle of an id, by the current client; what handles are pickled as.

    Raises:
        UnknownResult: The hub has nothing of this id (any more).
    """
    return Finder(current_client()._link).one(text)
