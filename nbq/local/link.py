"""The client's connection inside this process: who waits lets the cluster go on, one step after another.

So nothing happens behind the back of who submits: tasks run while somebody waits for something. Timeouts are
in virtual time. Any number of threads may wait; one of them at a time lets the cluster go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nbq.callbacks import Awaited
from nbq.core.model import NONE, Graph
from nbq.errors import NbqError, UsageError
from nbq.link import Link
from nbq.local.loopback import LocalEndpoint
from nbq.replica import Replica
from nbq.settings import Connection
from nbq.waits import MOMENT_S

if TYPE_CHECKING:
    from nbq.local.cluster import LocalCluster

__all__ = ["LocalLink"]

_Waiting = tuple[Awaited, Callable[[], object]]
"""A run or request, and what has to hold of it."""


class LocalLink(Link):
    """A client's connection to a local cluster.

    Args:
        cluster: What goes on while this waits.
        connection: The hub's name and the keys.
    """

    _threaded = False

    def __init__(self, cluster: LocalCluster, connection: Connection) -> None:
        self._cluster = cluster
        self.latest = b""
        """The run that was submitted last."""
        self._awaited: WeakKeyDictionary[AbstractEventLoop, list[_Waiting]] = WeakKeyDictionary()
        """By event loop: what its coroutines wait for."""
        self._clock = cluster.clock.read_s
        self._folder = lambda kind: cluster.folder / kind  # all blobs are in the hub's
        super().__init__(connection, 1.0)

    def _open(self, connection: Connection) -> LocalEndpoint:  # type: ignore[override]
        return LocalEndpoint(self._cluster.loopback, self._cluster.exchange)

    def _new_replica(self, run: bytes, graph: Graph | None) -> Replica:
        self.latest = run
        return super()._new_replica(run, graph)

    def turn(self) -> None:
        """Send what there is to send, and take in what has arrived."""
        self._turn(0.0)

    def _until(self, done: Callable[[], object], timeout: float | None) -> bool:
        until_s = None if timeout is None else self._clock() + timeout
        while not done():
            with self._cluster.lock:  # another thread may have gone on
                if not done() and not self._step(until_s):
                    return bool(done())
            self._callbacks.call_due()
        return True

    def _watch_hub(self, now_s: float) -> None:
        """Do nothing: the hub is here, however far the clock was moved."""

    def _call_when(
        self, awaited: Awaited, done: Callable[[], object], callback: Callable[[], object]
    ) -> None:
        """Call a function once something holds.

        While the caller's event loop runs, the cluster goes on between its other steps.
        """
        super()._call_when(awaited, done, callback)
        loop = asyncio._get_running_loop()
        if loop is None or done() or awaited.error is not None:
            return
        waiting = self._awaited.setdefault(loop, [])
        waiting.append((awaited, done))
        if len(waiting) == 1:
            loop.call_soon(self._go_on, loop, self._clock() + MOMENT_S)

    def _go_on(self, loop: AbstractEventLoop, until_s: float | None) -> None:
        """Let the cluster do the next thing that an event loop's coroutines wait for.

        Time passes only after a moment, in which a task that waits has said so (``waits.while_pending``).
        """
        awaited = self._awaited[loop]
        while awaited and (awaited[-1][0].error is not None or awaited[-1][1]()):
            awaited.pop()
        if not awaited:
            return
        try:
            soon = self._step(until_s)
        except NbqError as error:
            soon = True
            with self._lock:
                for replica, _ in awaited:
                    replica.error = replica.error or error
                    self._callbacks.touch(replica.run, NONE)
        self._callbacks.call_due()
        loop.call_later(0 if soon else MOMENT_S, self._go_on, loop, until_s if soon else None)

    def _step(self, until_s: float | None) -> bool:
        if self._lost is not None:
            raise self._lost
        if self.closed:
            raise UsageError("this client of a local cluster is closed: make another one")
        with self._cluster.lock:
            return self._cluster.step(until_s)

    def close(self) -> None:
        """Tell the hub that this client goes, and hang up."""
        if self.closed:
            return
        with contextlib.suppress(NbqError):
            self._turn(0.0)
        self._closing = True
        with self._changed:
            self._callbacks.give_up(UsageError("this client of a local cluster is closed"))
        self._callbacks.call_due()
        self._cluster.hung_up(self)
        self._end()

    def _end(self) -> None:
        self._endpoint.close()
