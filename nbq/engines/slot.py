"""The slot process: reads work from its supervisor, runs it element by element, sends what came out.

Started fresh as ``python -m nbq.engines.slot SOCKET PAGE OUTPUT`` (descriptors). It has one thread; user
code runs in it. It ends when its supervisor does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import nbq.notebooks  # noqa: F401 - it makes a task that every engine has
from nbq import payload, signals, waits
from nbq.configuration import current_settings
from nbq.engines import pipe
from nbq.engines.ending import Ended
from nbq.engines.pipe import Results
from nbq.engines.runner import Batch, Halted, Runner, is_large, large
from nbq.engines.storing import Storing
from nbq.errors import (
    NbqError,
    SettingsError,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooManyWaiting,
)
from nbq.stores.used import UsedStore
from nbq.tasks import known_tasks

__all__ = ["Slot", "main"]

E = TypeVar("E", TimeLimitExceeded, SoftTimeLimitExceeded)

_SEND_S = 0.005
_SEND_BYTES = 32 * 1024
_PR_SET_PDEATHSIG = 1


class Slot:
    """The loop of one slot."""

    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _eager = False

    def __init__(self, link: pipe.Pipe, page: memoryview, output: int) -> None:
        self._link = link
        self._page = page
        self._output = output
        self._queue: deque[pipe.ToSlot] = deque()
        self._running = False
        self._storing: Storing | None = None
        """Where results go first, if not to the hub."""
        self._sent_s = 0.0
        self._thread = threading.get_ident()
        self._sending = threading.Lock()
        """Held while a message is written: threads of a task may show states."""
        self._waits = 0
        """In how many places the running element waits for other tasks."""
        self._excused = False
        """Whether the supervisor knows that it waits."""

    def serve(self) -> None:
        """Run until the supervisor says bye or is gone."""
        init = self._next()
        if not isinstance(init, pipe.Init):
            return
        self.begin(init)
        trouble = _prepare(init) or self._open_store()
        self._runner.captured.redirect()
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGURG, self._on_hurry)
        signal.siginterrupt(signal.SIGURG, False)  # it must not be felt by what runs
        event = signals.SlotEvent(init.engine, os.getpid())
        signals.worker_process_init.send(event)
        waits.bind(self)
        self._post(pipe.Hello(os.getpid(), trouble, known_tasks()))
        while self.take(self._next()):
            pass
        signals.worker_process_shutdown.send(event)

    def begin(self, init: pipe.Init) -> None:
        """Be ready to run elements."""
        settings = current_settings()
        self._key = init.payload_key
        self._runner = Runner(
            init.payload_key, init.engine, init.element_limit, self._output, self._say, self._aborted,
            self._eager, None if self._eager else self._begins,
        )  # fmt: skip
        self._runner.accept = frozenset(settings.accept_content)
        stored = self._runner.feeds.stored = UsedStore(settings.result_backend)
        if stored:
            note = f"on engine {init.engine}"
            self._storing = Storing(init.payload_key, stored, settings.result_expires, note)

    def _open_store(self) -> str:
        """Open the result store, if there is one; returns what went wrong."""
        try:
            if self._storing is not None:
                self._runner.feeds.stored.opened()
        except SettingsError as error:
            return str(error)
        return ""

    def take(self, message: pipe.ToSlot | None) -> bool:
        """Do what the supervisor says; returns False when that is to end."""
        if isinstance(message, pipe.Work):
            self._work(message)
        elif isinstance(message, pipe.FunctionBody):
            self._runner.add_function(message)
        elif isinstance(message, pipe.Feeding):
            self._runner.add_feed(message)
        else:
            return False
        return True

    def _next(self) -> pipe.ToSlot | None:
        while not self._queue:
            if not self._link.read():
                return None
            self._queue.extend(self._link.to_slot())
        return self._queue.popleft()

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop the running element, or let it know of its soft time limit, if it is the one that is meant."""
        page = self._page
        position = page[pipe.POSITION]
        if not self._running or position == 0:
            return
        if page[pipe.HALT] == position:
            self._running = False
            late = page[pipe.LIMIT] == position
            self._runner.interrupt(Halted(self._too_long(TimeLimitExceeded) if late else None))
        elif page[pipe.SOFT] == position and self._runner.inside:
            page[pipe.SOFT] = 0  # taken: the supervisor need not signal again
            self._runner.interrupt(self._too_long(SoftTimeLimitExceeded))

    def _too_long(self, kind: type[E]) -> E:
        ran_s = self._clock() - self._page[pipe.BEGAN] / 1e6
        options = self._batch.work.options
        if kind is SoftTimeLimitExceeded:
            return kind(
                f"it has run for {ran_s:.3g} s; its soft_time_limit is {options.soft_time_limit_s:g} s"
            )
        return kind(f"it was stopped after {ran_s:.3g} s; its time_limit is {options.time_limit_s:g} s")

    def _on_hurry(self, _signal: int, _frame: FrameType | None) -> None:
        """Send the results that wait while a long element runs."""
        if self._running:
            with self._quiet():
                self._send_ended()

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Let no interrupt come in the middle of a message; one that did is felt at the end."""
        own = self._running and threading.get_ident() == self._thread
        if own:
            self._running = False
        yield
        if own:
            self._running = True
            self._on_interrupt(0, None)

    def _send_ended(self) -> None:
        self._send(self._batch.lo + len(self._batch.states))

    def _aborted(self) -> bool:
        """Whether the running element was asked to end by itself."""
        page = self._page
        return page[pipe.ABORT] == page[pipe.POSITION] != 0

    def _begins(self) -> None:
        self._page[pipe.BEGAN] = int(self._clock() * 1e6)

    def _post(self, message: pipe.FromSlot) -> None:
        with self._sending:
            self._link.send(message)

    def _say(self, message: pipe.FromSlot) -> None:
        """Send a message in the middle of an element, in whatever thread of it."""
        with self._quiet():
            self._post(message)

    def wait_begins(self) -> None:
        """Let others run while the running element waits for them.

        Raises:
            TooManyWaiting: As many tasks as the setting allows wait already.
        """
        self._waits += 1
        if self._waits > 1:
            return
        limit = pipe.NONE
        with self._quiet():
            self._send_ended()
            self._post(pipe.Waits(True))
            limit = self._answer()
            self._excused = limit == pipe.NONE
        if limit != pipe.NONE:
            raise TooManyWaiting(
                f"{limit} tasks of this engine wait for others already, and no more may: let a canvas wait "
                "(a chain or chord needs no slot for that), or raise the setting waiting_limit"
            )

    def _answer(self) -> int:
        """Return the limit on waiting tasks if it is reached, else NONE; keep what else comes."""
        while True:
            if not self._link.read():
                return pipe.NONE  # the supervisor is gone, and this process with it
            for message in self._link.to_slot():
                if isinstance(message, pipe.WaitAnswer):
                    self._queue.extend(self._link.to_slot())
                    return message.limit
                self._queue.append(message)

    def wait_ends(self) -> None:
        """Go on with the running element."""
        self._waits = max(0, self._waits - 1)
        if self._waits == 0 and self._excused:
            with self._quiet():
                self._excused = False
                self._post(pipe.Waits(False))

    def _work(self, work: pipe.Work) -> None:
        page = self._page
        try:
            calls = self._runner.prepare(work)
            broken = None
        except NbqError as error:
            calls, broken = [b""] * (work.hi - work.lo), error
        self._batch = Batch(work, work.lo)
        limited = work.limited
        for place, call in enumerate(calls):
            position = work.position + place
            if limited:
                page[pipe.BEGAN] = 0
            page[pipe.REACHED] = page[pipe.POSITION] = position
            # Written before the limits are read: see Child.take_back for why both sides agree.
            if page[pipe.BLOCKED_FROM] <= position < page[pipe.BLOCKED_TO]:
                break
            index = work.lo + place
            began = self._clock()
            ended = self._element(work, index, call, broken)
            now = self._clock()
            if ended is None:
                self._send(index + 1)
                continue
            printed = self._runner.captured.take()
            if is_large(ended[1]):
                self._send(index)
                self._send_large(work, index, ended, now - began, printed)
                self._batch = Batch(work, index + 1)
                continue
            if ended[3] is not None:
                self._send(index)
                self._batch.add(ended, now - began, printed)
                self._send(index + 1)
                continue
            self._batch.add(ended, now - began, printed)
            if now - self._sent_s > _SEND_S or self._batch.size > _SEND_BYTES:
                self._send(index + 1)
        page[pipe.POSITION] = 0
        self._send(work.hi)
        self._post(pipe.Finished(work.position))

    def _element(
        self, work: pipe.Work, index: int, call: bytes | memoryview, broken: NbqError | None
    ) -> Ended | None:
        """Run one element; returns None when it was halted, and so has no result."""
        try:
            self._running = True
            ended = self._runner.run(work, index, call, broken)
            self._running = False
        except Halted:
            self._runner.captured.take()
            ended = None
        if self._excused:  # what it waited for in an event loop, it waits for no more
            self._waits = 1
            self.wait_ends()
        self._waits = 0
        return ended

    def _send(self, next_lo: int) -> None:
        """Send what has ended, and start a new batch."""
        if self._batch.states:
            self._report(self._batch.results())
        self._sent_s = self._clock()
        self._batch = Batch(self._batch.work, next_lo)

    def _send_large(
        self, work: pipe.Work, index: int, ended: Ended, seconds: float, printed: tuple[str, str] | None
    ) -> None:
        output = {0: printed} if printed is not None else {}
        extras = payload.dump_extras(time.time() - seconds, [seconds], output)
        try:
            self._post(large(self._key, work, index, ended, seconds, extras, self._storing))
        except NbqError as error:  # of the result store alone
            assert self._storing is not None
            gone = Results(work.token, index, index + 1, b"", [], time.time(), [seconds], {}, output)
            for results in self._storing.refused(work, gone, error):
                self._post(results)

    def _report(self, results: Results) -> None:
        """Send results, which are stored first where there is a store for them."""
        if self._storing is None:
            self._post(results)
            return
        for one in self._storing.stored(self._batch.work, results):
            self._post(one)


def _prepare(init: pipe.Init) -> str:
    """Make the process what tasks expect; returns what went wrong, for the supervisor's log."""
    sys.path[:] = [*init.sys_path, *(path for path in sys.path if path not in init.sys_path)]
    if init.cwd:
        with contextlib.suppress(OSError):  # another host has other folders
            os.chdir(init.cwd)
    for name in init.include:
        try:
            importlib.import_module(name)
        except BaseException as error:  # user code runs at import; the supervisor reports it
            return f"cannot import {name}: {payload.summary(error)}"
    return ""


def _die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its supervisor is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Run a slot on the descriptors in argv."""
    link, page, output = (int(text) for text in sys.argv[1:4])
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ConnectionError):  # the supervisor is gone: nobody to report to
        Slot(pipe.Pipe(socket.socket(fileno=link)), pipe.open_page(page), output).serve()


if __name__ == "__main__":
    main()
