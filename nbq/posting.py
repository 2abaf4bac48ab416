"""A client's requests to its hub, and what is answered to each. A part of the ``Link``; touches no socket."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from msgspec.structs import replace

from nbq import wire
from nbq.asking import M
from nbq.batch import PlannedRun
from nbq.callbacks import Awaited, Callbacks, future_of
from nbq.core.model import NONE
from nbq.errors import HubUnreachable, NbqError, UsageError, refusal
from nbq.session import ClientSession
from nbq.settings import Connection
from nbq.waits import while_pending

__all__ = ["Posted", "Posting", "name_of"]

_ASK_S = 30.0


class Posted:
    """A request that was sent.

    Attributes:
        run: What callbacks know it by.
        error: Why no answer comes any more.
        over: Whether nobody wants the answer any more.
    """

    __slots__ = ("error", "over", "request", "run")

    def __init__(self, request: int) -> None:
        self.request = request
        self.run = name_of(request)
        self.error: NbqError | None = None
        self.over = False


def name_of(request: int) -> bytes:
    """Return what callbacks know a request by; no run has such an id."""
    return b"request %d" % request


class Posting(ABC):
    """Requests, and waiting for their answers."""

    connection: Connection
    _lock: threading.RLock
    _changed: threading.Condition
    _clock: Callable[[], float]
    _session: ClientSession
    _answers: dict[int, wire.ToPeer]
    _callbacks: Callbacks

    @abstractmethod
    def _until(self, done: Callable[[], object], timeout: float | None) -> bool: ...

    @abstractmethod
    def _close_batch(self) -> None: ...

    @abstractmethod
    def _wake(self) -> None: ...

    @abstractmethod
    def _put(self, message: wire.PutSchedule, planned: PlannedRun) -> None:
        """Send a schedule with what it runs; the caller holds the lock."""

    def _call_when(
        self, awaited: Awaited, done: Callable[[], object], callback: Callable[[], object]
    ) -> None:
        """Call a function once something holds, or nothing more can be known."""
        self._callbacks.add(awaited, done, callback)

    def post(self, message: M, planned: PlannedRun | None = None) -> Posted:
        """Send a request, again until it is answered or dropped; a schedule with what it runs, if given."""
        with self._lock:
            self._close_batch()
            posted = Posted(self._session.next_request())
            numbered: M = replace(message, request=posted.request)
            if planned is not None and isinstance(numbered, wire.PutSchedule):
                self._put(numbered, planned)
            else:
                self._session.ask(numbered, self._clock())
            self._wake()
        return posted

    def drop(self, posted: Posted) -> wire.ToPeer | None:
        """Wait for a request no longer; returns its answer, if that has come."""
        self.leave(posted)
        with self._lock:
            self._session.drop_request(posted.request)
            return self._answers.pop(posted.request, None)

    def leave(self, posted: Posted) -> None:
        """Let those who wait for the answer, in whatever thread, go on without it."""
        with self._changed:
            posted.over = True
            self._callbacks.touch(posted.run, NONE)
            self._changed.notify_all()
            self._wake()

    def _is_over(self, posted: Posted) -> bool:
        return posted.request in self._answers or posted.over

    def answered(self, posted: Posted, timeout: float | None) -> None:
        """Wait for the answer to a request, for ever if ``timeout`` is None, until it has come or is left.

        Raises:
            HubError: The hub refuses this client.
            UsageError: The client was closed.
        """
        self._until(lambda: self._is_over(posted), timeout)

    async def answered_async(self, posted: Posted) -> None:
        """Wait for the answer to a request until it has come or is left; raises as ``answered``."""

        def done() -> bool:
            return self._is_over(posted)

        await while_pending(future_of(lambda call: self._call_when(posted, done, call)))
        if posted.error is not None and not done():
            raise posted.error

    def now_s(self) -> float:
        """Return the time by the clock of timeouts."""
        return self._clock()

    def ask(self, message: M, timeout: float = _ASK_S, planned: PlannedRun | None = None) -> wire.ToPeer:
        """Send a request, as ``post`` does, and wait for its answer.

        Raises:
            UnknownResult: The hub has no such run or task (any more).
            Refused: The hub did not do it.
            HubUnreachable: There was no answer in time.
            UsageError: This key may only look.
        """
        if not isinstance(message, wire.Ask | wire.Follow):
            self._check_client()
        posted = self.post(message, planned)
        try:
            self.answered(posted, timeout)
        finally:
            answer = self.drop(posted)
        if answer is None:
            raise HubUnreachable(f"the hub did not answer within {timeout:g} s")
        if isinstance(answer, wire.Rejected):
            raise refusal(answer.code, answer.text)
        return answer

    def _check_client(self) -> None:
        """Check that this key may read and change runs, not only look at them."""
        if self.connection.role != "client":
            text = f"a {self.connection.role} key cannot read values, cancel or forget: use client.json"
            raise UsageError(text)

    def answer(self, message: M, timeout: float = _ASK_S) -> wire.Answer:
        """Send a request and return its answer; raises as ``ask``."""
        answer = self.ask(message, timeout)
        assert isinstance(answer, wire.Answer)
        return answer
