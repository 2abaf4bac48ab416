"""The client: a user's handle to a hub. It plans and packs what is submitted, and asks what is asked.

All input and output is the ``Link``'s; nothing here touches a socket or a thread.
"""

from __future__ import annotations

import atexit
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nbq import context, current, payload, publishing, wire
from nbq.batch import PlannedRun, seal_plan
from nbq.canvas import EMPTY, Plan, Signature, TaskRef, keyword, positional
from nbq.canvas import plan as plan_canvas
from nbq.canvas.options import LINKS, ClientOptions, RetryPolicy, given_id
from nbq.configuration import Settings, check_scope
from nbq.core.model import Graph, Nested, NodeSpec, Slice
from nbq.errors import HubError, HubUnreachable, InvalidSignature, NbqError, UsageError, WaitTimeout
from nbq.functions import FunctionCache, by_bare_name, named
from nbq.link import Link
from nbq.results import AsyncResult, Finder, handle
from nbq.resultsets import GroupResult, MapResult, ResultSet
from nbq.routes import NOTHING_SAID, Router, Way
from nbq.settings import Connection, find_connection, live_runtime
from nbq.signals import after_task_publish, before_task_publish
from nbq.steering import Steering
from nbq.stores.used import UsedStore
from nbq.tasks import Task, registered

if TYPE_CHECKING:
    from nbq.scheduling import Schedules

R = TypeVar("R", AsyncResult, GroupResult, MapResult)

__all__ = ["Client", "connect", "send_task"]

_FLUSH_S = 10.0
_LISTEN_POLL_S = 0.02
_ADDRESSES = 10_000
_PROBE_S = 1.0
"""How long a hub that can be reached may take to say so."""
_NEVER = RetryPolicy(max_retries=0)


def connect(where: str | Path | None = None, timeout: float = 10.0, **settings: Any) -> Client:
    """Connect to a hub.

    Args:
        where: Its name, or the path of a connection file; else ``$NBQ_HUB``, else ``default``.
        timeout: Seconds to wait for a hub that is starting, recovering or being started again; one that
            does not run when this is called is not waited for.
        settings: Fields of ``nbq.Settings``, for calls through this client.

    Raises:
        HubUnreachable: Nothing listens there, or it did not answer in time.
        AuthenticationError: It does not know the key.
        VersionMismatch: It speaks another version of the protocol.
        SettingsError: There is no such setting, or it does not fit.
    """
    until = time.monotonic() + timeout
    runs = False
    while True:
        connection = find_connection(where, "client")
        runs = runs or live_runtime(connection.name) is not None
        try:
            return Client(connection, max(0.1, until - time.monotonic()), settings)
        except HubUnreachable:
            if not runs or time.monotonic() > until:
                raise
            time.sleep(_LISTEN_POLL_S)  # it starts or recovers, or is started again


def send_task(
    name: str,
    args: tuple[Any, ...] | list[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Submit a call of a task by its name, without its code, to the current client's hub.

    ``name``, ``args``, ``kwargs``, ``options`` and errors are as for ``Client.send_task``.
    """
    return current.current_client().send_task(name, args, kwargs, **options)


class Client(Steering):
    """A connection to one hub; made by ``connect`` or a ``Cluster``.

    Args:
        connection: Where the hub listens, and the keys.
        timeout: Seconds to wait for its answer. Raises as ``connect``.
        settings: Settings for its calls, over those of the process.
        link: The connection, if there is one already.
    """

    def __init__(
        self,
        connection: Connection,
        timeout: float = 10.0,
        settings: Mapping[str, Any] | None = None,
        *,
        link: Link | None = None,
    ) -> None:
        own = settings or {}
        check_scope(own, "connect()", serving=False)
        self._router = current.RouterOf(own, "connect()")
        self._router()  # what is wrong with the settings is said before anything is opened
        self._link = link or Link(connection, timeout)
        self._link.accept = frozenset(self.settings.accept_content)
        self._link.stored = UsedStore(self.settings.result_backend)
        self._cache = FunctionCache()
        self._functions: dict[bytes, tuple[bytes, bytes]] = {}
        """By payload of a function: its address, and what is sent of it."""
        current.note(self)
        atexit.register(self.close)

    @property
    def connection(self) -> Connection:
        """Return how the hub is reached."""
        return self._link.connection

    @property
    def closed(self) -> bool:
        """Return whether nothing can be done with it any more in this process."""
        return self._link.closed

    @property
    def settings(self) -> Settings:
        """Return the settings of its calls: those of the process, with its own over them."""
        return self._router().settings

    @property
    def router(self) -> Router:
        """Return what says where its calls go."""
        return self._router()

    # -------------------------------------------------------------- submitting

    def _function(self, task: TaskRef | str | Callable[..., Any]) -> tuple[bytes, bytes]:
        """Return address and payload of a task's function; a large payload has become a blob."""
        if isinstance(task, str):
            task = registered(task) or task
        if isinstance(task, Task):
            data = task.payload()
        elif isinstance(task, str):
            data = named(task, None)
        else:
            data = self._cache.payload(task)
        found = self._functions.get(data)
        if found is None or (self._link.local and not found[1]):  # a blob is written again if it is gone
            sealer = self._link.sealer
            address = sealer.function(data)
            found = address, data
            if sealer.large_function(address, data):
                found = address, b""
                if not self._link.local:
                    self._link.upload(address.hex())
            if len(self._functions) >= _ADDRESSES:
                self._functions.clear()
            self._functions[data] = found
        return found

    def submit_plan(self, plan: Plan) -> Any:
        """Submit a planned canvas; what ``delay`` and ``apply_async`` of canvases do. Returns its result.

        Args:
            plan: What ``canvas.plan`` made of it.

        Raises:
            NotSerializable: An argument or function cannot be serialised.
            UnknownQueue: The queue of a task is not declared, and may not be made.
            HubUnreachable: It does not want to wait for a hub that is away.
        """
        self._check_plan(plan)
        first = plan.nodes[0]
        if len(plan.nodes) == 1 and first.size == 1 and not plan.lists and first.task != EMPTY:
            args, kwargs = first.calls[0]
            way = Way(first.options, first.client)
            return self._submit_call(first.ref, first.task, args, kwargs, way, first.ids.get(0))
        self._await_hub(plan.client)
        if before_task_publish.receivers:
            publishing.before_plan(plan)
        sealed = self._seal(plan)
        result = handle(self._link, self._link.submit_run(sealed), plan.tree)
        if after_task_publish.receivers:
            publishing.after_plan(plan, sealed.run)
        return _noted(result, plan.client)

    def _check_plan(self, plan: Plan) -> None:
        self._link.check_usable()
        router = self._router()
        for node in plan.nodes:
            router.check_queue(node.options.queue)
            if isinstance(node.ref, str):  # a task that is known here goes as it does by itself
                node.ref = registered(node.ref) or node.ref

    def _seal(self, plan: Plan) -> PlannedRun:
        return seal_plan(plan, self._link.mint.run(), self._link.sealer, self._function)

    def seal(self, plan: Plan) -> PlannedRun:
        """Return a planned canvas, checked and sealed under an id of its own; raises as ``submit_plan``."""
        self._check_plan(plan)
        return self._seal(plan)

    @property
    def schedules(self) -> Schedules:
        """The schedules of the hub: to add, see, steer and remove them (``docs/guide/schedules.md``)."""
        from nbq.scheduling import Schedules  # brings zones and their rules: only where they are used

        return Schedules(self)

    def submit_task(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Any:
        """Submit a call of a task; what its ``delay`` and ``apply_async`` do. Returns its ``AsyncResult``.

        Args:
            task: The task.
            args: Positional arguments.
            kwargs: Keyword arguments.
            options: As for ``Signature.apply_async``.

        Raises:
            InvalidSignature: The function takes no such arguments, or an option does not exist or fit.
            NotSerializable: An argument or the function cannot be serialised.
            UnknownQueue: Its queue is not declared, and may not be made.
            HubUnreachable: It does not want to wait for a hub that is away.
        """
        self._link.check_usable()
        if not options:
            router = self._router.made or self._router()
            way = router.ways.get(task) or router.way(task, args, kwargs, options)
            return self._submit_call(task, task.name, args, kwargs, way, None)
        return self._submit_optioned(task, task.name, args, kwargs, options)

    def send_task(
        self,
        name: str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Submit a call of a task by its name; its code need not be here. Returns its ``AsyncResult``.

        Args:
            name: The name that engines know it by.
            args: Positional arguments.
            kwargs: Keyword arguments.
            options: As for ``apply_async``.

        Raises:
            InvalidSignature: There is no name, or an option does not exist or fit.
            NotSerializable: An argument cannot be serialised.
            UnknownQueue: Its queue is not declared, and may not be made.
            HubUnreachable: It does not want to wait for a hub that is away.
        """
        self._link.check_usable()
        if not name:
            raise InvalidSignature("the name of a task cannot be empty")
        task = registered(name) or name
        return self._submit_optioned(task, name, positional(args), keyword(kwargs), options)

    def _submit_optioned(
        self,
        task: Task[..., Any] | str,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Any:
        if not options.keys().isdisjoint(LINKS):
            return self.submit_plan(plan_canvas(Signature(task, args, kwargs), **options))
        task_id = options.get("task_id")
        way = self._router().way(task, args, kwargs, options)
        return self._submit_call(task, name, args, kwargs, way, given_id(task_id) if task_id else None)

    def submit(
        self, function: Callable[..., Any], *args: Any, label: str | None = None, **kwargs: Any
    ) -> AsyncResult:
        """Submit a call of a plain function or a task; returns without waiting for anything.

        Args:
            function: The function or task.
            args: Its positional arguments.
            label: A word by which it is found and cancelled (the option of this name).
            kwargs: Its keyword arguments.

        Raises:
            NotSerializable: The function or an argument cannot be serialised.
            UsageError: The function has a parameter ``label``, and it cannot be told what is meant.
        """
        options = {} if label is None else _labelled(function, label)
        if isinstance(function, Task):
            return self.submit_task(function, args, kwargs, options)
        self._link.check_usable()
        name = _name(function)
        way = self._router().way(name, args, kwargs, options)
        return self._submit_call(function, name, args, kwargs, way, None)

    def _submit_call(
        self,
        task: TaskRef | str | Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        way: Way,
        task_id: str | None,
    ) -> AsyncResult:
        if isinstance(task, Task):
            task.check(args, kwargs)
        function, data = self._function(task)
        client = way.client
        if before_task_publish.receivers:
            publishing.before_call(name, args, kwargs, way.options)
        encoding = None
        if client is NOTHING_SAID:
            call = payload.dump_call(args, kwargs)
        else:
            self._await_hub(client)
            encoding = self._link.sealer.encoding(client.serializer or "", client.compression or "")
            call = payload.dump_call(args, kwargs, client.headers, serializer=encoding.serializer)
        if len(call) > wire.INLINE_LIMIT:
            result = self._submit_large(name, function, data, call, way, task_id, encoding)
        else:
            replica, index = self._link.add_call(name, function, data, call, way.options, task_id, encoding)
            result = AsyncResult(self._link, replica, 0, index)
        if after_task_publish.receivers:
            publishing.after_call(name, args, kwargs, way.options, result.id)
        return _noted(result, client)

    def _submit_large(
        self,
        name: str,
        function: bytes,
        data: bytes,
        call: payload.Element,
        way: Way,
        task_id: str | None,
        encoding: payload.Encoding | None,
    ) -> AsyncResult:
        run = self._link.mint.run()
        ids = {0: task_id} if task_id else {}
        spec = NodeSpec(name, function, options=way.options, ids=ids, bare_name=by_bare_name(name, data))
        blocks = list(self._link.sealer.blocks(run, 0, function, [call], encoding))
        graph = Graph([spec], value=Slice(0, 0, 1))
        replica = self._link.submit_run(PlannedRun(run, graph, blocks, {function: data}))
        return AsyncResult(self._link, replica, 0, 0)

    def _await_hub(self, client: ClientOptions) -> None:
        """Wait until the hub answers, where a call does not want to be kept until then.

        Raises:
            HubUnreachable: It did not, for as long as the call wants to wait; nothing was submitted.
        """
        policy = client.retry_policy or self.settings.retry_policy
        if not client.retry:
            policy = _NEVER
        if policy is None:
            return
        looks = 0
        while True:
            try:
                self._link.ask(wire.Ask(0, "cluster"), _PROBE_S)
            except HubUnreachable:
                if looks == policy.max_retries:
                    break
                pause_s = policy.interval_start + looks * policy.interval_step
                time.sleep(min(pause_s, policy.interval_max))
                looks += 1
            else:
                return
        name = self.connection.name
        raise HubUnreachable(
            f"hub {name!r} does not answer, asked {looks + 1} times; the call was not submitted (without "
            "retry=False or a retry_policy it would be kept, and sent when the hub is there)"
        )

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> MapResult:
        """Submit a call for each set of items, as one array; returns without waiting for any to run.

        Args:
            function: A plain function or a task.
            iterables: As for the builtin ``map``: the shortest one ends it. They are consumed first.
            options: As for ``apply_async``, for every call. A function among the routes is asked once, about
                a call without arguments.

        Raises:
            InvalidSignature: The task takes another number of arguments.
            NotSerializable: The function or an argument cannot be serialised.
            UsageError: There is nothing to map over.
        """
        self._link.check_usable()
        if not iterables:
            raise UsageError("client.map needs at least one iterable after the function")
        if options.get("task_id"):
            raise UsageError("task_id belongs to one call: use submit or apply_async")
        if isinstance(function, Task):
            function.check((None,) * len(iterables), {})
        name = function.name if isinstance(function, Task) else _name(function)
        way = self._router().way(function if isinstance(function, Task) else name, (), {}, options)
        client = way.client
        self._await_hub(client)
        address, data = self._function(function)
        run = self._link.mint.run()
        encoding = self._link.sealer.encoding(client.serializer or "", client.compression or "")
        calls = zip(*iterables, strict=False)
        elements = payload.dump_calls(calls, client.headers, serializer=encoding.serializer)
        blocks = list(self._link.sealer.blocks(run, 0, address, elements, encoding))
        size = sum(block.n for block in blocks)
        if not size:
            raise UsageError("client.map got nothing to map over: an iterable is empty")
        spec = NodeSpec(name, address, size, options=way.options)
        graph = Graph([spec], [[Slice(0, 0, size)]], Nested(0))
        replica = self._link.submit_run(PlannedRun(run, graph, blocks, {address: data}))
        return _noted(MapResult(self._link, replica), client)

    def flush(self, timeout: float = _FLUSH_S) -> None:
        """Wait until the hub has acknowledged everything that was submitted.

        Args:
            timeout: Seconds to wait.

        Raises:
            WaitTimeout: It has not; the message names the runs.
            NbqError: A submit was refused since the last flush.
        """
        self._link.flush(timeout)

    def settle(self, timeout: float = _FLUSH_S) -> bool:
        """Wait like ``flush``, but raise nothing; return whether everything was answered."""
        try:
            return self._link.settle(timeout)
        except HubError:  # it does not take this client (any more): every handle says so
            return False

    # -------------------------------------------------------------- asking

    def result(self, task_id: str | AsyncResult | ResultSet) -> Any:
        """Return the handle of a task, group or map by its id, from any process.

        Args:
            task_id: Its id, or a handle of any client.

        Raises:
            UnknownResult: The hub has no run or task of this id (any more).
        """
        return Finder(self._link).one(task_id if isinstance(task_id, str) else task_id.id)

    # -------------------------------------------------------------- ending

    def close(self, timeout: float = _FLUSH_S) -> None:
        """Wait for outstanding acknowledgements, and hang up.

        Args:
            timeout: Seconds to wait; what is not acknowledged then is named in a warning.
        """
        if self.closed:
            return
        try:
            if self.connection.role == "client":
                self.flush(timeout)
        except (WaitTimeout, HubUnreachable) as error:
            warnings.warn(f"nbq: {error}; what is not acknowledged may be lost", stacklevel=2)
        except NbqError as error:
            warnings.warn(f"nbq: a submit was refused: {error}", stacklevel=2)
        finally:  # a warning may be an error
            self._link.close()
            self._link.stored.close()
            current.forget(self)
            atexit.unregister(self.close)

    def __enter__(self) -> Self:
        """Be the client that is meant when none is named."""
        current.entered(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Wait for outstanding acknowledgements and hang up."""
        current.left(self)
        self.close()

    def __repr__(self) -> str:
        """Name the hub."""
        return f"<nbq client of hub {self.connection.name!r}>"


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _labelled(function: Callable[..., Any], label: str) -> dict[str, Any]:
    """Return a label as the options of a call."""
    try:
        own = inspect.signature(function).parameters
    except (TypeError, ValueError):
        own = {}  # one written in C that does not say
    if "label" in own:
        raise UsageError(
            f"{_name(function)} has a parameter label, and submit(label=...) labels the call: give it by its "
            "place, or use functools.partial; apply_async(args, kwargs, label=...) takes both"
        )
    return {"label": label}


def _noted(result: R, client: ClientOptions) -> R:
    """Return a result; the running task, if there is one, takes note that it submitted that."""
    if context.here.running is not None and client.add_to_parent:
        context.submitted(result.id)
    return result
