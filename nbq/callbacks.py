"""What is to be called when something of a run is known: ``then`` callbacks, and futures of event loops.

They are added from any thread and called by the client's own, outside all locks. One that fails is logged
and ends nothing. A run with callbacks is kept, though nobody else holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from nbq.errors import NbqError

__all__ = ["Awaited", "Callbacks", "future_of"]


class Awaited(Protocol):
    """What somebody waits for: a run's replica, or a request."""

    @property
    def run(self) -> bytes:
        """Return its name."""
        ...

    error: NbqError | None
    """Why nothing more can be known of it."""


class _Call(NamedTuple):
    replica: Awaited
    done: Callable[[], object]
    callback: Callable[[], object]


class Callbacks:
    """All callbacks of a client.

    Args:
        changed: Guards what is noted here; notified when nothing is due any more.

    Attributes:
        due: Runs of which something is new, while their callbacks have not been looked at.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self.due: dict[bytes, None] = {}
        self._changed = changed
        self._calls: dict[bytes, list[_Call]] = {}
        self._followers: dict[bytes, list[deque[tuple[bytes, int]]]] = {}

    def follow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        """Note from now on in ``news`` what of some runs is new: run, and node or NONE."""
        with self._changed:
            for run in runs:
                self._followers.setdefault(run, []).append(news)

    def unfollow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        """Note there nothing more."""
        with self._changed:
            for run in runs:
                rest = [other for other in self._followers.pop(run, []) if other is not news]
                if rest:
                    self._followers[run] = rest

    def add(self, replica: Awaited, done: Callable[[], object], callback: Callable[[], object]) -> None:
        """Call a function once something holds of a run or the run has an error; if so now, at once."""
        call = _Call(replica, done, callback)
        with self._changed:
            now = _ready(call)
            if not now:
                self._calls.setdefault(replica.run, []).append(call)
        if now:
            _call(call)

    def touch(self, run: bytes, node: int) -> None:
        """Note that something of a run is new, or of a node of it; the caller holds the lock."""
        if run in self._calls:
            self.due[run] = None
        for news in self._followers.get(run, ()):
            news.append((run, node))

    def give_up(self, error: NbqError) -> None:
        """Let all who wait know that nothing more will come; the caller holds the lock."""
        for run, calls in self._calls.items():
            self.due[run] = None
            for call in calls:
                call.replica.error = call.replica.error or error

    def call_due(self) -> None:
        """Call what is due; the client's thread does."""
        ready: list[_Call] = []
        with self._changed:
            due, self.due = self.due, {}
            for run in due:
                rest: list[_Call] = []
                for call in self._calls.pop(run, []):
                    (ready if _ready(call) else rest).append(call)
                if rest:
                    self._calls[run] = rest
            self._changed.notify_all()
        for call in ready:
            _call(call)


def _ready(call: _Call) -> bool:
    return bool(call.done()) or call.replica.error is not None


def _call(call: _Call) -> None:
    try:
        call.callback()
    except Exception:  # user code: it must not end the thread that calls it
        logging.getLogger("nbq").exception("a callback of run %s failed", call.replica.run.hex())


def future_of(add: Callable[[Callable[[], object]], object]) -> asyncio.Future[None]:
    """Return a future of the running event loop that is done when a callback is called.

    Args:
        add: Gets the callback; it may be called at once, and more than once.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def call() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(finish)

    add(call)
    return future
