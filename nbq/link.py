"""The client's connection: all its input and output, one **turn** after another.

Calls from any thread put work into the session under one lock. A turn sends it, receives, fills replicas
and wakes who waits for them. A background thread serves turns; a thread that waits for a result serves them
itself meanwhile (so that a round trip has no hand-over between threads). Nothing here runs on the caller's
event loop or runs user code, but for the callbacks of ``call_when``, which must be quick.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from nbq import payload, wire
from nbq.asking import Asking
from nbq.batch import Batch, Minter, PlannedRun, Sealer, put_schedule, stage
from nbq.bulk import BlobTraffic, HeldRuns
from nbq.callbacks import Callbacks, future_of
from nbq.core.graph import value_nodes
from nbq.core.model import NONE, Graph, Options
from nbq.errors import (
    AuthenticationError,
    HubError,
    HubUnreachable,
    NbqError,
    UsageError,
    VersionMismatch,
    WaitTimeout,
    refusal,
)
from nbq.interrupts import Interrupts
from nbq.posting import Posting, name_of
from nbq.replica import Replica
from nbq.session import Accepted, Answered, ClientSession, Connected, Ended, Event, Lost, RunRefused
from nbq.settings import Connection, refresh_endpoints, temporary_dir
from nbq.transport import PeerEndpoint, PeerTransport
from nbq.version import versions
from nbq.waits import patiently, while_pending

__all__ = ["Link"]

_IDLE_S = 0.5
_FULL_S = 0.005
_REDIAL_S = 0.3
_ASK_S = 30.0
_LINGER_S = 0.005
"""The background thread stays away for so long after a waiting thread has served."""
_NAP_S = 0.002
"""How often it looks meanwhile for something to send."""
_HANDOVER_S = 0.001
_CALLBACK_S = 0.05
"""How long a waiting thread lets the background thread call, before it serves on."""
_UNACKNOWLEDGED_BYTES = 512 * 1024 * 1024
"""More arguments than this are not kept for a hub that is slow or away: submits wait."""
_CLOSED = "this client is closed, or belongs to the parent process: call nbq.connect() here"


class Link(Posting, Asking):
    """One client's connection to a hub.

    Args:
        connection: Where the hub listens, and the keys.
        timeout_s: How long to wait for its first answer.

    Raises:
        HubUnreachable: Nothing listens there, or it did not answer in time.
        AuthenticationError: It does not know the key.
        VersionMismatch: It speaks another version of the protocol.
    """

    _open: Callable[[Connection], PeerTransport] = staticmethod(PeerEndpoint)
    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _folder: Callable[[str], Path] = staticmethod(temporary_dir)
    _threaded = True  # a link inside this process (nbq.local) has others of these four

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.pid = os.getpid()
        self.connection = connection
        self.welcome: wire.Welcome | None = None
        self.mint = Minter()
        self.accept: frozenset[str] | None = None
        """The serializers of results that may be read (``accept_content``); None for all."""
        self._key = bytes.fromhex(connection.payload_key)
        self._lock = threading.RLock()
        """Guards everything below; held briefly."""
        self._changed = threading.Condition(self._lock)
        self._io = threading.Lock()
        """Held by the thread that serves turns."""
        self._served_s = 0.0
        """When a waiting thread last served, or asked to."""
        self._leader = 0
        """The thread that serves while it waits, or 0."""
        self._callbacks = Callbacks(self._changed)
        token = connection.token.encode()
        self._session = ClientSession(os.urandom(8), connection.role, token, versions())
        self._replicas: weakref.WeakValueDictionary[bytes, Replica] = weakref.WeakValueDictionary()
        self._pinned: dict[bytes, Replica] = {}
        """Replicas of runs that are not acknowledged yet: kept though nobody holds a handle."""
        self._answers: dict[int, wire.ToPeer] = {}
        self._batch: Batch | None = None
        self._closing = False
        self._lost: HubError | None = None
        self._temporary = self._folder("client")
        self._traffic = BlobTraffic(self._temporary)
        self._held = HeldRuns()
        self._arrived: set[str] = set()
        self._refusals: list[NbqError] = []
        self._dialled_s = 0.0
        self._endpoint = self._open(connection)
        self._dial(self._clock())
        try:
            self._handshake(timeout_s)
        except BaseException:  # Ctrl-C too: nobody has this client, to close it
            self._end()
            raise
        self._thread = threading.Thread(target=self._serve, name="nbq-client", daemon=True)
        if self._threaded:
            self._thread.start()

    def _handshake(self, timeout_s: float) -> None:
        until = self._clock() + timeout_s
        while self.welcome is None:
            error = self._lost or self._endpoint.trouble()
            if error is None and self._clock() > until:
                where = self._endpoint.address
                error = HubUnreachable(f"the hub at {where} did not answer within {timeout_s:g} s")
            if error is not None:
                raise error
            self._turn(0.02)

    # -------------------------------------------------------------- the thread

    def _serve(self) -> None:
        try:
            self._serve_turns()
        except Exception as error:  # the thread's outermost loop: whoever waits must hear of its end
            with self._changed:
                self._lost = HubError(f"the connection to the hub ended: {type(error).__name__}: {error}")
                self._callbacks.give_up(self._lost)
                self._changed.notify_all()
        with self._io:
            with self._lock:
                if self._lost is None:
                    self._session.outbox.append(wire.Leaving())
                    self._push(self._clock())
                self._callbacks.give_up(UsageError(_CLOSED))
            self._end()
        self._callbacks.call_due()

    def _serve_turns(self) -> None:
        while not self._closing:
            if self._clock() - self._served_s < _LINGER_S:
                time.sleep(_NAP_S)  # whoever waits serves; this thread only takes care of what is left
                if self._io.acquire(blocking=False):
                    try:
                        self._turn(0.0)
                    finally:
                        self._io.release()
            else:
                with self._io:
                    self._turn(self._patience_s())
            self._callbacks.call_due()

    def _patience_s(self) -> float:
        """Return how long a turn may wait for messages."""
        if self._callbacks.due:
            return 0.0
        return _FULL_S if self._session.outbox and self._session.connected else _IDLE_S

    def _end(self) -> None:
        self._endpoint.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _turn(self, timeout_s: float) -> None:
        """Send what there is to send, receive (waiting up to so long), take in, send again."""
        with self._lock:
            self._push(self._clock())
        messages = self._endpoint.receive(timeout_s)[0]
        with self._changed:
            now_s = self._clock()
            for message in messages:
                if isinstance(message, wire.Chunk):
                    self._traffic.on_chunk(message)
                elif isinstance(message, wire.Uploaded):
                    self._traffic.on_uploaded(message)
                for event in self._session.receive(message, now_s):
                    replica = self._on_event(event)
                    if replica is not None:
                        self._callbacks.touch(replica.run, getattr(event, "node", NONE))
            if messages:
                self._push(now_s)
                self._changed.notify_all()
            self._watch_hub(now_s)

    def _push(self, now_s: float) -> None:
        """Send what there is to send, as far as the hub takes it."""
        self._close_batch()
        self._move_blobs(now_s)
        self._session.tick(now_s)
        outbox = self._session.outbox
        while outbox and self._session.connected and self._endpoint.send(outbox[0]):
            outbox.popleft()

    def _wake(self) -> None:
        """Let a turn that is under way send what was just added; the next turn does so by itself."""
        if self._io.locked():
            self._endpoint.wake()

    def _until(self, done: Callable[[], object], timeout: float | None) -> bool:
        """Serve, or wait for whoever serves, until something holds; returns whether it does.

        Raises:
            HubError: The hub refuses this client.
            UsageError: The client was closed.
        """
        until_s = None if timeout is None else self._clock() + timeout
        while not done():
            if self._lost is not None:
                raise self._lost
            if self.closed:
                raise UsageError(_CLOSED)
            if self._leader == threading.get_ident():
                raise UsageError("this signal came while its thread waits: set a flag, and wait elsewhere")
            now_s = self._served_s = self._clock()
            if until_s is not None and now_s >= until_s:
                return False
            if not self._lead(done, until_s):
                with self._changed:
                    if not done():
                        self._changed.wait(_IDLE_S if until_s is None else min(_IDLE_S, until_s - now_s))
            elif self._callbacks.due and threading.current_thread() is not self._thread:
                with self._changed:  # the background thread has something to call
                    self._changed.wait_for(lambda: not self._callbacks.due or done(), _CALLBACK_S)
        return True

    def _lead(self, done: Callable[[], object], until_s: float | None) -> bool:
        """Serve turns until something else is to be done; returns False at once if another thread does."""
        with Interrupts(self._endpoint.wake) as interrupts:
            if not self._io.acquire(blocking=False):
                self._endpoint.wake()
                if not self._io.acquire(timeout=_HANDOVER_S):
                    return False
            self._leader = threading.get_ident()
            try:
                while not (done() or interrupts.came or self._lost is not None or self._closing):
                    now_s = self._served_s = self._clock()
                    if until_s is not None and now_s >= until_s:
                        break
                    patience_s = self._patience_s()
                    self._turn(patience_s if until_s is None else min(patience_s, until_s - now_s))
                    if self._callbacks.due:
                        break
            finally:
                self._leader = 0
                self._io.release()
                with self._changed:
                    self._changed.notify_all()  # another waiting thread may serve now
        return True

    def _on_event(self, event: Event) -> Replica | None:
        match event:
            case Connected():
                self.welcome = event.welcome
                folder = Path(event.welcome.blobs) if self.local else self._temporary
                self.sealer = Sealer(self._key, folder, "none" if self.local else "auto")
                self._endpoint.session = event.welcome.session
                self._traffic.restart()
            case Lost():
                kind = VersionMismatch if event.code == "version" else AuthenticationError
                self._lost = kind(event.text)
                self._callbacks.give_up(self._lost)
            case Accepted():
                replica = self._pinned.pop(event.run, None)
                if replica is not None:
                    replica.accepted = True
                return replica
            case RunRefused():
                return self._on_refused(event)
            case Ended():
                replica = self._replicas.get(event.run)
                if replica is None:
                    self._session.unwatch(event.run)  # nobody holds a handle any more
                else:
                    replica.add(event.facts, event.blocks, event.became)
                return replica
            case Answered():
                self._answers[event.request] = event.answer
                self._callbacks.touch(name_of(event.request), NONE)
        return None

    def _on_refused(self, event: RunRefused) -> Replica | None:
        pinned = self._pinned.pop(event.run, None)
        replica = pinned or self._replicas.get(event.run)
        error = refusal(event.code, f"{event.text} [run {event.run.hex()}]")
        if replica is not None and replica.error is None:
            replica.error = error
        if pinned is not None:
            self._refusals.append(error)
        return replica

    def _dial(self, now_s: float) -> None:
        self._dialled_s = now_s
        self._endpoint.send(self._session.hello(now_s))

    def _watch_hub(self, now_s: float) -> None:
        """Dial again, where the hub listens now, when it is silent."""
        if self._session.silent(now_s) and now_s - self._dialled_s > _REDIAL_S:
            self.connection = refresh_endpoints(self.connection)
            self._endpoint.reset(self.connection)
            self._dial(now_s)

    def _move_blobs(self, now_s: float) -> None:
        traffic = self._traffic
        if traffic.idle:
            return
        for name in traffic.departed:
            for run in self._held.arrived(name):
                self._session.release(run, now_s)
        traffic.departed.clear()
        self._arrived.update(traffic.arrived)
        traffic.arrived.clear()
        if self._session.connected:
            self._session.outbox.extend(traffic.messages())

    # -------------------------------------------------------------- submitting

    @property
    def local(self) -> bool:
        """Return whether the hub shares a folder of blobs with this process."""
        return self.welcome is not None and bool(self.welcome.blobs)

    def upload(self, name: str) -> None:
        """Send a blob to a hub that does not share a folder."""
        with self._lock:
            self._held.leaves(name)
            self._traffic.upload(name)
            self._wake()

    def _complete(self, planned: PlannedRun) -> bool:
        """Return whether the hub has all blobs of a run; if not, they leave, and then it is released."""
        blobs = {block.blob for block in planned.blocks if block.blob}
        for name in () if self.local else blobs:
            self.upload(name)
        return not self._held.hold(planned.run, blobs | {address.hex() for address in planned.functions})

    def check_usable(self) -> None:
        """Check that something can be submitted here; wait while too much is not acknowledged yet.

        Raises:
            UsageError: The client is closed, another process's, or may only look.
        """
        if self.pid != os.getpid():
            raise UsageError("this client belongs to the parent process: call nbq.connect() here")
        if self._closing:
            raise UsageError("this client is closed: call nbq.connect() again")
        if self.connection.role != "client":
            raise UsageError(f"a {self.connection.role} key cannot submit: use client.json")
        if self._session.unacknowledged_bytes > _UNACKNOWLEDGED_BYTES:
            self._until(lambda: self._session.unacknowledged_bytes <= _UNACKNOWLEDGED_BYTES, None)

    def add_call(
        self, task: str, function: bytes, data: bytes, call: payload.Element, options: Options,
        task_id: str | None, encoding: payload.Encoding | None = None,
    ) -> tuple[Replica, int]:  # fmt: skip
        """Add a separate call, made with this encoding, to what leaves next; returns its run and place."""
        encoding = encoding or self.sealer.default
        with self._lock:
            batch = self._batch
            if batch is None or task_id or not batch.takes(function, options, encoding):
                self._close_batch()
                replica = self._new_replica(self.mint.run(), None)
                batch = self._batch = Batch(replica, task, function, data, options, encoding)
                self._wake()
            index = batch.add(call, task_id)
            if task_id:
                self._close_batch()  # if the id is taken, this call alone is refused
            return batch.replica, index

    def _close_batch(self) -> None:
        """Hand the open batch to the session; the caller holds the lock."""
        if self._batch is None:
            return
        with Interrupts(self._endpoint.wake):  # half of this would be a run that never comes to an end
            batch, self._batch = self._batch, None
            graph = batch.close()
            run = batch.replica.run
            blocks = list(self.sealer.blocks(run, 0, batch.function, batch.calls, batch.encoding))
            stages, submit = stage(run, graph, blocks)
            ready = self._complete(PlannedRun(run, graph, blocks, batch.functions))
            self._session.submit(batch.functions, stages, submit, {0: graph.nodes[0].size}, ready=ready)

    def _new_replica(self, run: bytes, graph: Graph | None) -> Replica:
        replica = Replica(run, graph, self._key, self._content, self.accept)
        self._replicas[run] = self._pinned[run] = replica
        return replica

    def submit_run(self, planned: PlannedRun) -> Replica:
        """Submit a planned run; returns its replica without waiting for anything."""
        stages, submit = stage(planned.run, planned.graph, planned.blocks)
        with self._lock, Interrupts(self._endpoint.wake):
            replica = self._new_replica(planned.run, planned.graph)
            watch = {number: planned.graph.nodes[number].size for number in value_nodes(planned.graph)}
            self._close_batch()
            ready = self._complete(planned)
            self._session.submit(planned.functions, stages, submit, watch, ready=ready)
            self._wake()
        return replica

    def _put(self, message: wire.PutSchedule, planned: PlannedRun) -> None:
        stages, put = put_schedule(message, planned)
        self._session.put(planned.functions, stages, put, ready=self._complete(planned))

    def settle(self, timeout: float) -> bool:
        """Wait until nothing that was submitted waits for an answer of the hub; return whether that is so."""
        return self._until(lambda: self._batch is None and not self._pinned, timeout)

    def flush(self, timeout: float) -> None:
        """Wait until the hub has acknowledged everything that was submitted.

        Raises:
            WaitTimeout: It has not; the message names the runs.
            NbqError: A submit was refused since the last flush.
        """
        if not self.settle(timeout):
            names = ", ".join(run.hex() for run in list(self._pinned)[:5])
            raise WaitTimeout(f"{len(self._pinned)} runs are not acknowledged yet: {names}")
        with self._lock:
            refusals, self._refusals = self._refusals, []
        if refusals:
            raise refusals[0]

    # -------------------------------------------------------------- replicas

    def known(self, run: bytes, graph: Graph) -> Replica:
        """Return the replica of a run that the hub is known to have."""
        with self._lock:
            replica = self._replicas.get(run)
            if replica is None:
                self._session.unwatch(run)  # what an earlier replica of it has seen is gone
                replica = self._new_replica(run, graph)
                del self._pinned[run]
            replica.accepted = True
            replica.grow(graph)
            return replica

    def graph(self, replica: Replica) -> Graph:
        """Return the graph of a run (a batch that is still open is closed for it)."""
        if replica.graph is None:
            with self._lock:
                self._close_batch()
                self._wake()
        assert replica.graph is not None
        return replica.graph

    def watch(self, replica: Replica, nodes: list[int]) -> None:
        """Let the hub send the ends of nodes of a run, if it does not yet."""
        if replica.graph is None:
            return  # an open batch: it is watched from its submit on
        self._check_client()
        with self._lock:
            sizes = {n: replica.graph.nodes[n].size for n in nodes if replica.node(n).left}
            if self._session.watch(replica.run, sizes):
                self._wake()

    def wait(self, replica: Replica, done: Callable[[], object], timeout: float | None) -> bool:
        """Wait until something holds of a run; returns whether it does, raises why it never will."""
        if done():
            return True
        ended = patiently(partial(self._until, lambda: done() or replica.error is not None), timeout)
        if ended and replica.error is not None and not done():
            raise replica.error
        return ended

    def call_when(self, replica: Replica, done: Callable[[], object], callback: Callable[[], object]) -> None:
        """Call a function once something holds of a run, or nothing more can be known of it."""
        self._excuse(replica, done)
        self._call_when(replica, done, callback)

    def future(self, replica: Replica, done: Callable[[], object]) -> asyncio.Future[None]:
        """Return a future of the running event loop that is done when something holds of a run."""
        return while_pending(future_of(lambda call: self.call_when(replica, done, call)))

    def follow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        """Note from now on in ``news`` what of some runs is new: run, and node or NONE."""
        self._callbacks.follow(runs, news)

    def unfollow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        """Note there nothing more."""
        self._callbacks.unfollow(runs, news)

    def wait_many(self, done: Callable[[], object], timeout: float | None) -> bool:
        """Wait until something holds of followed runs; returns whether it does.

        Raises:
            NbqError: The hub refuses this client, or it was closed.
        """
        return patiently(partial(self._until, done), timeout)

    def complete(self, replica: Replica, nodes: list[int]) -> None:
        """Wait until it is known how all elements of nodes ended, which have."""
        self.watch(replica, nodes)
        self.wait(replica, lambda: not any(replica.node(node).left for node in nodes), _ASK_S)

    def _excuse(self, replica: Replica, done: Callable[[], object]) -> None:
        """Note why nothing more will be known of a run, if that is so."""
        with self._lock:
            if not done() and (self.closed or self._lost is not None):
                replica.error = replica.error or self._lost or UsageError(_CLOSED)

    def accepted(self, replica: Replica) -> None:
        """Wait until the hub has acknowledged a run; raises as ``wait``."""
        self.graph(replica)
        self.wait(replica, lambda: replica.accepted, None)

    def _content(self, block: wire.Block) -> bytes | mmap.mmap:
        """Return a block's content; a file of a hub elsewhere is fetched first, and not kept."""
        name = block.blob
        if block.store:
            return self.stored.content(name, block.store)
        if self.welcome is not None and self.welcome.blobs:
            return payload.map_blob(Path(self.welcome.blobs), name)
        with self._lock:
            if name not in self._arrived:
                self._traffic.fetch(name)
                self._wake()
        self._until(lambda: name in self._arrived, None)
        with self._lock:
            self._arrived.discard(name)
            content = payload.map_blob(self._temporary, name)
            (self._temporary / name).unlink()
        return content

    # -------------------------------------------------------------- ending

    @property
    def closed(self) -> bool:
        """Return whether ``close`` was called, or this is another process than the link's own."""
        return self._closing or self.pid != os.getpid()

    def close(self) -> None:
        """Tell the hub that this client goes, and hang up."""
        if self.closed:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._endpoint.wake()
        if threading.current_thread() is not self._thread:  # a callback may close its client
            self._thread.join(5.0)
