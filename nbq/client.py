"""The client: a user's handle to a hub.

All input and output happens on one background thread of its own, never on the caller's event loop. Calls
from any thread put work into the session under a lock and wake that thread; handles to results read
replicas that it fills.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from nbq import current, payload, wire
from nbq.batch import Batch, Minter, PlannedRun, Sealer, seal_plan, stage
from nbq.bulk import BlobTraffic
from nbq.canvas import Canvas, Signature, plan
from nbq.canvas.signature import Named, check_options, make_options
from nbq.core.model import NONE, Graph, Nested, NodeSpec, Options, Slice
from nbq.core.views import ClusterView, ElementView, EngineView, QueueView, RunView
from nbq.errors import (
    AuthenticationError,
    HubBusy,
    HubError,
    HubUnreachable,
    NbqError,
    Refused,
    UnknownResult,
    UsageError,
    VersionMismatch,
    WaitTimeout,
)
from nbq.functions import FunctionCache, named
from nbq.replica import Replica
from nbq.results import AsyncResult, GroupResult, MapResult
from nbq.session import Accepted, Answered, ClientSession, Connected, Ended, Lost
from nbq.session import Refused as RunRefused
from nbq.settings import Connection, find_connection, live_runtime, refresh_endpoints
from nbq.task import Task
from nbq.transport import PeerEndpoint
from nbq.version import versions

__all__ = ["Client", "connect"]

_IDLE_S = 0.5
_REDIAL_S = 0.3
_FLUSH_S = 10.0
_ASK_S = 30.0
_DEFAULTS = Options()


def connect(where: str | Path | None = None, timeout: float = 10.0) -> Client:
    """Connect to a hub.

    Args:
        where: Its name, or the path of a connection file; else ``$NBQ_HUB``, else ``default``.
        timeout: Seconds to wait for a hub that is starting or recovering.

    Raises:
        HubUnreachable: Nothing listens there, or it did not answer in time.
        AuthenticationError: It does not know the key.
        VersionMismatch: It speaks another version of the protocol.
    """
    until = time.monotonic() + timeout
    while True:
        connection = find_connection(where, "client")
        try:
            return Client(connection, max(0.1, until - time.monotonic()))
        except HubUnreachable:
            live = live_runtime(connection.name)
            if live is None or time.monotonic() > until:
                raise
            time.sleep(0.05)  # it runs, but does not listen yet: it recovers


class Client:
    """A connection to one hub; made by ``connect`` or a ``Cluster``.

    Args:
        connection: Where the hub listens, and the keys.
        timeout: Seconds to wait for its answer.
    """

    def __init__(self, connection: Connection, timeout: float = 10.0) -> None:
        self.pid = os.getpid()
        self.connection = connection
        self.welcome: wire.Welcome | None = None
        self._key = bytes.fromhex(connection.payload_key)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        token = connection.token.encode()
        self._session = ClientSession(os.urandom(8), connection.role, token, versions())
        self._replicas: weakref.WeakValueDictionary[bytes, Replica] = weakref.WeakValueDictionary()
        self._pinned: dict[bytes, Replica] = {}
        """Replicas of runs that are not acknowledged yet: kept though nobody holds a handle."""
        self._answers: dict[int, wire.ToPeer] = {}
        self._batch: Batch | None = None
        self._cache = FunctionCache()
        self._addresses: dict[bytes, bytes] = {}
        self._functions: dict[bytes, bytes] = {}
        self._mint = Minter()
        self._closing = False
        self._lost: HubError | None = None
        self._temporary = Path(tempfile.mkdtemp(prefix="nbq-client-"))
        self._traffic = BlobTraffic(self._temporary)
        self._uploads: dict[bytes, set[str]] = {}
        self._arrived: set[str] = set()
        self._refusals: list[tuple[bytes, NbqError]] = []
        self._dialled_s = 0.0
        try:
            self._endpoint = PeerEndpoint(connection)
        except HubUnreachable:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        self._dial(time.monotonic())
        self._handshake(timeout)
        self._thread = threading.Thread(target=self._serve, name="nbq-client", daemon=True)
        self._thread.start()
        current.note(self)
        atexit.register(self.close)

    def _handshake(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while self.welcome is None:
            self._turn(0.05)
            error = self._lost or self._endpoint.trouble()
            if error is None and time.monotonic() > until:
                address = self._endpoint.address
                error = HubUnreachable(f"the hub at {address} did not answer within {timeout:g} s")
            if error is not None and self.welcome is None:
                self._endpoint.close()
                shutil.rmtree(self._temporary, ignore_errors=True)
                raise error

    # -------------------------------------------------------------- the I/O thread

    def _dial(self, now_s: float) -> None:
        self._dialled_s = now_s
        self._endpoint.send(self._session.hello(now_s))

    def _serve(self) -> None:
        while not self._closing:
            self._turn(_IDLE_S)
        self._endpoint.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _turn(self, timeout_s: float) -> None:
        """Receive, take in, send: the whole work of the thread."""
        messages, _ = self._endpoint.receive(timeout_s)
        callbacks: list[Replica] = []
        with self._changed:
            now_s = time.monotonic()
            for message in messages:
                if isinstance(message, wire.Chunk):
                    self._traffic.on_chunk(message)
                elif isinstance(message, wire.Uploaded):
                    self._traffic.on_uploaded(message)
                for event in self._session.receive(message, now_s):
                    replica = self._on_event(event)
                    if replica is not None and replica.callbacks:
                        callbacks.append(replica)
            self._close_batch()
            self._move_blobs(now_s)
            self._session.tick(now_s)
            self._send()
            self._watch_hub(now_s)
            if messages:
                self._changed.notify_all()
        for replica in callbacks:
            replica.callbacks = [callback for callback in replica.callbacks if not callback()]

    def _on_event(self, event: object) -> Replica | None:
        match event:
            case Connected():
                self.welcome = event.welcome
                self._endpoint.session = event.welcome.session
                self._traffic.restart()
            case Lost():
                kind = VersionMismatch if event.code == "version" else AuthenticationError
                self._lost = kind(event.text)
            case Accepted():
                replica = self._pinned.pop(event.run, None)
                if replica is not None:
                    replica.accepted = True
                return replica
            case RunRefused():
                return self._on_refused(event)
            case Ended():
                replica = self._replicas.get(event.run)
                if replica is not None:
                    replica.add(event.facts, event.blocks)
                return replica
            case Answered():
                self._answers[event.request] = event.answer
            case _:
                pass
        return None

    def _on_refused(self, event: RunRefused) -> Replica | None:
        replica = self._pinned.pop(event.run, None) or self._replicas.get(event.run)
        error: NbqError = Refused(event.text, event.code)
        if event.code == "busy":
            error = HubBusy(event.text)
        elif event.code == "unknown":
            error = UnknownResult(f"{event.text}: {event.run.hex()}")
        if replica is not None:
            replica.error = error
        self._refusals.append((event.run, error))
        return replica

    def _send(self) -> None:
        outbox = self._session.outbox
        while outbox and self._session.connected and self._endpoint.send(outbox[0]):
            outbox.popleft()

    def _watch_hub(self, now_s: float) -> None:
        """Dial again, where the hub listens now, when it is silent."""
        if not self._session.silent(now_s) or now_s - self._dialled_s < _REDIAL_S:
            return
        self._dialled_s = now_s
        self.connection = refresh_endpoints(self.connection)
        try:
            self._endpoint.reset(self.connection)
        except HubUnreachable:
            return  # its socket is not there yet
        self._dial(now_s)
        self._session._heard_s = now_s - 3.0

    def _move_blobs(self, now_s: float) -> None:
        traffic = self._traffic
        for name in traffic.departed:
            for run, names in list(self._uploads.items()):
                names.discard(name)
                if not names:
                    del self._uploads[run]
                    self._session.release(run, now_s)
        traffic.departed.clear()
        self._arrived.update(traffic.arrived)
        traffic.arrived.clear()
        if self._session.connected:
            self._session.outbox.extend(traffic.messages())

    @property
    def _local(self) -> bool:
        return self.welcome is not None and bool(self.welcome.blobs)

    # -------------------------------------------------------------- submitting

    def _sealer(self) -> Sealer:
        folder = Path(self.welcome.blobs) if self.welcome and self.welcome.blobs else self._temporary
        return Sealer(self._key, folder, compress=not self._local)

    def _check_usable(self) -> None:
        if self.pid != os.getpid():
            raise UsageError("this client belongs to the parent process: call nbq.connect() here")
        if self._closing:
            raise UsageError("this client is closed: call nbq.connect() again")
        if self.connection.role != "client":
            raise UsageError(f"a {self.connection.role} key cannot submit: use client.json")

    def _function(self, task: object) -> tuple[bytes, bytes]:
        """Return address and payload of a task's function."""
        if isinstance(task, Task):
            data = task.payload()
        elif isinstance(task, Named):
            data = named(task.name, None)
        elif callable(task):
            data = self._cache.payload(task)
        else:
            raise UsageError(f"{task!r} is neither a task nor a function")
        address = self._addresses.get(data)
        if address is None:
            address = self._addresses[data] = self._sealer().function(data)
            if self._sealer().large_function(address, data):
                if not self._local:
                    self._traffic.upload(address.hex())
                self._functions[address] = b""
            else:
                self._functions[address] = data
        return address, self._functions[address]

    def submit_canvas(
        self, canvas: Canvas, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Any:
        """Submit a canvas; what ``delay`` and ``apply_async`` do."""
        self._check_usable()
        if isinstance(canvas, Signature):
            args, kwargs = canvas.merged(args, kwargs)
            canvas.task.check(args, kwargs)
            given = canvas.options if not options else {**canvas.options, **options}
            if canvas.task.options:
                given = {**canvas.task.options, **given}
            return self._submit_call(canvas.task, canvas.task.name, args, kwargs, given)
        planned = plan(canvas, args, kwargs, options)
        return self._submit_run(seal_plan(planned, self._mint.run(), self._sealer(), self._function))

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncResult:
        """Submit a call of a plain function or a task; returns without waiting for anything.

        Raises:
            NotSerializable: The function or an argument cannot be serialised.
        """
        self._check_usable()
        if isinstance(function, Task):
            return self.submit_canvas(Signature(function, args, kwargs), (), {}, {})
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return self._submit_call(function, name, args, kwargs, {})

    def _submit_call(
        self, task: object, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
    ) -> AsyncResult:
        function, data = self._function(task)
        call = payload.dump_call(args, kwargs)
        options = make_options(given) if given else _DEFAULTS
        if len(call) > wire.INLINE_LIMIT:
            return self._submit_large(name, function, data, call, options, given.get("task_id"))
        with self._lock:
            batch = self._batch
            if batch is None or not batch.takes(function, options):
                self._close_batch()
                replica = self._new_replica(self._mint.run(), None)
                batch = self._batch = Batch(replica, name, function, data, options)
                replica.node(0)
                self._endpoint.wake()
            return AsyncResult(self, batch.replica, 0, batch.add(call, given.get("task_id")))

    def _submit_large(
        self,
        name: str,
        function: bytes,
        data: bytes,
        call: payload.Element,
        options: Options,
        task_id: str | None,
    ) -> AsyncResult:
        run = self._mint.run()
        ids = {0: task_id} if task_id else {}
        spec = NodeSpec(name, function, options=options, ids=ids)
        blocks = list(self._sealer().blocks(run, 0, function, [call]))
        graph = Graph([spec], value=Slice(0, 0, 1))
        return self._submit_run(PlannedRun(run, graph, blocks, {function: data}))

    def _close_batch(self) -> None:
        """Send the open batch; the caller holds the lock."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        graph = batch.close()
        run = batch.replica.run
        blocks = list(self._sealer().blocks(run, 0, batch.function, batch.calls))
        stages, submit = stage(run, graph, blocks)
        self._session.submit(batch.functions, stages, submit, {0: graph.nodes[0].size})

    def _new_replica(self, run: bytes, graph: Graph | None) -> Replica:
        replica = Replica(run, graph, self._key)
        replica.blobs = self._blob_folder
        self._replicas[run] = self._pinned[run] = replica
        return replica

    def _submit_run(self, planned: PlannedRun) -> Any:
        stages, submit = stage(planned.run, planned.graph, planned.blocks)
        uploads = {block.blob for block in planned.blocks if block.blob and not self._local}
        with self._lock:
            replica = self._new_replica(planned.run, planned.graph)
            watch = {n: planned.graph.nodes[n].size for n in value_nodes(planned.graph)}
            for name in uploads:
                self._traffic.upload(name)
            if uploads:
                self._uploads[planned.run] = uploads
            self._close_batch()
            self._session.submit(planned.functions, stages, submit, watch, ready=not uploads)
            self._endpoint.wake()
        return self._handle(replica, planned.graph.value)

    def _handle(self, replica: Replica, value: Slice | Nested | None) -> Any:
        if isinstance(value, Nested):
            return GroupResult(self, replica, value)
        node, index = (value.node, value.lo) if value is not None else (0, 0)
        return AsyncResult(self, replica, node, index)

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> MapResult:
        """Submit a call for each set of items, as one array; returns without waiting for any to run.

        Args:
            function: A plain function or a task.
            iterables: As for the builtin ``map``: the shortest one ends it. They are consumed first.
            options: As for ``apply_async``, for every call.

        Raises:
            NotSerializable: The function or an argument cannot be serialised.
            UsageError: There is nothing to map over.
        """
        self._check_usable()
        check_options(options)
        if not iterables:
            raise UsageError("client.map needs at least one iterable after the function")
        given = {**function.options, **options} if isinstance(function, Task) else options
        if given.get("task_id"):
            raise UsageError("task_id belongs to one call: use submit or apply_async")
        address, data = self._function(function)
        run = self._mint.run()
        elements = payload.dump_calls(zip(*iterables, strict=False))
        blocks = list(self._sealer().blocks(run, 0, address, elements))
        size = sum(block.n for block in blocks)
        if not size:
            raise UsageError("client.map got nothing to map over: an iterable is empty")
        name = function.name if isinstance(function, Task) else getattr(function, "__qualname__", "function")
        spec = NodeSpec(name, address, size, options=make_options(given))
        graph = Graph([spec], [[Slice(0, 0, size)]], Nested(0))
        self._submit_run(PlannedRun(run, graph, blocks, {address: data}))
        return MapResult(self, self._replicas[run], Nested(0))

    def flush(self, timeout: float = _FLUSH_S) -> None:
        """Wait until the hub has acknowledged everything that was submitted.

        Raises:
            WaitTimeout: It has not; the message names how many runs.
            NbqError: A submit was refused since the last flush.
        """
        until = time.monotonic() + timeout
        with self._changed:
            self._close_batch()
            self._endpoint.wake()
            while self._pinned:
                remaining = until - time.monotonic()
                if self._lost is not None:
                    raise self._lost
                if remaining <= 0:
                    names = ", ".join(run.hex() for run in list(self._pinned)[:5])
                    raise WaitTimeout(f"{len(self._pinned)} runs are not acknowledged yet: {names}")
                self._changed.wait(min(remaining, 1.0))
            refusals, self._refusals = self._refusals, []
        if refusals:
            raise refusals[0][1]

    # -------------------------------------------------------------- results

    def result(self, task_id: str | AsyncResult | GroupResult) -> Any:
        """Return the handle of a task, group or map by its id, from any process.

        Raises:
            UnknownResult: The hub has no run or task of this id (any more).
        """
        text = task_id if isinstance(task_id, str) else task_id.id
        answer = self._ask(wire.Ask(0, "find", text))
        assert isinstance(answer, wire.Found)
        with self._lock:
            replica = self._replicas.get(answer.run)
            if replica is None:
                replica = self._new_replica(answer.run, answer.graph)
                del self._pinned[answer.run]
            replica.accepted = True
        if answer.node != NONE:
            return AsyncResult(self, replica, answer.node, answer.index)
        return self._handle(replica, answer.graph.value)

    def graph(self, replica: Replica) -> Graph:
        """Return the graph of a run (a batch that is still open is closed for it)."""
        if replica.graph is None:
            with self._lock:
                self._close_batch()
                self._endpoint.wake()
        assert replica.graph is not None
        return replica.graph

    def watch(self, replica: Replica, nodes: list[int]) -> None:
        """Let the hub send the ends of nodes of a run, if it does not yet."""
        if replica.graph is None:
            return  # an open batch: it is watched when it is submitted
        with self._lock:
            missing = {n: replica.graph.nodes[n].size for n in nodes if n not in replica.nodes}
            if replica.graph.each or (replica.run in self._pinned and not missing):
                missing = {n: s for n, s in missing.items() if replica.accepted}
            for number in missing:
                replica.node(number)
            if missing:
                known = self._session.watched(replica.run)
                wanted = {n: size for n, size in missing.items() if n not in known}
                if wanted:
                    self._session.watch(replica.run, wanted)
                    self._endpoint.wake()

    def wait(self, replica: Replica, done: Callable[[], Any], timeout: float | None) -> bool:
        """Wait until something holds of a run; returns whether it does.

        Raises:
            NbqError: The hub did not take the run, or refuses this client.
        """
        if done():
            return True
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not done():
                if replica.error is not None:
                    raise replica.error
                if self._lost is not None:
                    raise self._lost
                if self._closing:
                    raise UsageError("this client is closed: call nbq.connect() again")
                remaining = 3600.0 if until is None else until - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(remaining)
        return True

    def call_when(self, replica: Replica, done: Callable[[], Any], callback: Callable[[], Any]) -> None:
        """Call a function once something holds of a run, or the run was refused."""

        def check() -> bool:
            if done() or replica.error is not None:
                callback()
                return True
            return False

        with self._lock:
            if not check():
                replica.callbacks.append(check)

    def future(self, replica: Replica, done: Callable[[], Any]) -> asyncio.Future[None]:
        """Return a future of the running event loop that is done when something holds of a run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(None)

        self.call_when(replica, done, lambda: loop.call_soon_threadsafe(finish))
        return future

    # -------------------------------------------------------------- asking

    def _ask(self, message: wire.Ask | wire.Cancel | wire.Forget, timeout: float = _ASK_S) -> wire.ToPeer:
        """Send a request and wait for its answer."""
        with self._changed:
            self._close_batch()
            request = self._session.next_request()
            message = _numbered(message, request)
            self._session.ask(message, time.monotonic())
            self._endpoint.wake()
            until = time.monotonic() + timeout
            while request not in self._answers:
                remaining = until - time.monotonic()
                if self._lost is not None:
                    raise self._lost
                if remaining <= 0 or self._closing:
                    self._session.drop_request(request)
                    raise HubUnreachable(f"the hub did not answer within {timeout:g} s")
                self._changed.wait(min(remaining, 1.0))
            answer = self._answers.pop(request)
        if isinstance(answer, wire.Rejected):
            if answer.code == "unknown":
                raise UnknownResult(answer.text)
            raise Refused(answer.text, answer.code)
        return answer

    def _answer(self, message: wire.Ask | wire.Cancel | wire.Forget) -> wire.Answer:
        answer = self._ask(message)
        assert isinstance(answer, wire.Answer)
        return answer

    def element(self, replica: Replica, node: int, index: int) -> ElementView:
        """Return what the hub knows of an element, after its run was acknowledged."""
        self.graph(replica)
        self.wait(replica, lambda: replica.accepted, None)
        ask = wire.Ask(0, "element", run=replica.run, node=node, index=index)
        return self._answer(ask).elements[0]

    def counts(self, replica: Replica) -> dict[str, int]:
        """Return how many elements of a run are in each state."""
        self.graph(replica)
        self.wait(replica, lambda: replica.accepted, None)
        rows = self._answer(wire.Ask(0, "runs", run=replica.run)).runs
        return rows[0].states

    def runs(self, name: str = "", limit: int = 100, mine: bool = False) -> list[RunView]:
        """Return runs, newest first: of a task name ("" for all), or of this key only."""
        return self._answer(wire.Ask(0, "runs", name, limit, owner="." if mine else "")).runs

    def tasks(self, name: str = "", state: str = "", limit: int = 100) -> list[ElementView]:
        """Return tasks of the newest runs: of a name ("" for all), in a state ("" for any)."""
        return self._answer(wire.Ask(0, "tasks", name, limit, state)).elements

    def status(self) -> ClusterView:
        """Return hub, engines, queues, and how many tasks are in each state."""
        cluster = self._answer(wire.Ask(0, "cluster")).cluster
        assert cluster is not None
        return cluster

    def engines(self) -> list[EngineView]:
        """Return the engines, by name."""
        return self.status().engines

    def queues(self) -> list[QueueView]:
        """Return the queues, by name."""
        return self.status().queues

    @property
    def slots(self) -> int:
        """Return how many tasks can run at a time now."""
        return sum(engine.info.slots for engine in self.engines() if engine.state == "up")

    def cancel(self, what: str | AsyncResult | GroupResult) -> int:
        """Stop a task, or everything of a run, by handle or id; returns how many tasks that were.

        Raises:
            UnknownResult: The hub has no such task or run.
        """
        if not isinstance(what, str):
            return int(what.cancel())
        found = self._ask(wire.Ask(0, "find", what))
        assert isinstance(found, wire.Found)
        if found.node == NONE:
            return self._answer(wire.Cancel(0, found.run)).count
        return self._answer(wire.Cancel(0, found.run, found.node, found.index, found.index + 1)).count

    def cancel_elements(self, replica: Replica, node: int, lo: int, hi: int) -> int:
        """Stop elements of a run; returns how many tasks that ended, with those that follow them."""
        self.graph(replica)
        self.wait(replica, lambda: replica.accepted, None)
        return self._answer(wire.Cancel(0, replica.run, node, lo, hi)).count

    def forget(self, replica: Replica) -> None:
        """Let the hub drop a finished run."""
        self._ask(wire.Forget(0, replica.run))

    def _blob_folder(self, name: str) -> Path:
        """Return the folder that holds a blob; fetch it first if the hub is elsewhere."""
        if self.welcome is not None and self.welcome.blobs:
            return Path(self.welcome.blobs)
        with self._changed:
            if name not in self._arrived:
                self._traffic.fetch(name)
                self._endpoint.wake()
            while name not in self._arrived:
                if self._lost is not None or self._closing:
                    raise self._lost or HubUnreachable("the client was closed")
                self._changed.wait(1.0)
        return self._temporary

    # -------------------------------------------------------------- ending

    def close(self, timeout: float = _FLUSH_S) -> None:
        """Wait for outstanding acknowledgements (up to 10 s, then a warning names the runs); hang up."""
        if self._closing or self.pid != os.getpid():
            return
        try:
            self.flush(timeout)
        except WaitTimeout as error:
            warnings.warn(f"nbq: {error}; they may be lost", stacklevel=2)
        except NbqError as error:
            warnings.warn(f"nbq: a submit was refused: {error}", stacklevel=2)
        with self._changed:
            self._session.outbox.append(wire.Leaving())
            self._send()
            self._closing = True
            self._changed.notify_all()
        self._endpoint.wake()
        self._thread.join(5.0)
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


def value_nodes(graph: Graph) -> list[int]:
    """Return the nodes whose elements make up a graph's value."""
    if graph.value is None:
        return [0]
    found: dict[int, None] = {}
    pending: list[Slice | Nested] = [graph.value]
    while pending:
        item = pending.pop()
        if isinstance(item, Slice):
            found[item.node] = None
        else:
            pending.extend(graph.lists[item.number])
    return sorted(found)


def _numbered[M: (wire.Ask, wire.Cancel, wire.Forget)](message: M, request: int) -> M:
    import msgspec  # only for the copy

    return msgspec.structs.replace(message, request=request)
