"""Runs the coroutine of an ``async def`` task, and brings what interrupts it to where it waits.

What a signal handler raises while the event loop waits would end the loop, not the task. So it is thrown
into the coroutine there, as if what it awaits had raised it: a soft time limit can be caught, ``finally``
blocks run, and tasks that it started are cancelled as by ``asyncio.run``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Coroutines"]


class _Driven:
    """An awaitable that runs a coroutine step by step. It keeps what the coroutine ended with."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._arrived: BaseException | None = None
        self.stepping = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def __await__(self) -> Generator[Any, Any, None]:
        self.loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task()
        assert task is not None
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                self.stepping = True
                if thrown is not None:
                    waits_for = self._coroutine.throw(thrown)
                else:
                    waits_for = self._coroutine.send(sent)
            except StopIteration as end:
                self.value = end.value
                return
            except BaseException as error:  # user code: whoever runs the coroutine raises it
                self.error = error
                return
            finally:
                self.stepping = False
            sent = thrown = None
            try:
                sent = yield waits_for
            except BaseException as error:  # a cancel, or what was awaited raised: the coroutine decides
                thrown = error
            if self._arrived is not None:  # also if what is awaited kept the cancel to itself
                thrown, self._arrived = self._arrived, None
                if self._cancelled:
                    self._cancelled = False
                    task.uncancel()  # else a timeout around it would take that for its own

    def throw(self, error: BaseException) -> None:
        """Raise an error where the coroutine waits; called between two steps."""
        if self.loop is not None:
            self._arrived = error
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        """Cancel what is awaited, if the coroutine has not gone on by itself since the error arrived."""
        if self._arrived is not None and self._task is not None:
            self._cancelled = self._task.cancel()


async def _run(driven: _Driven) -> None:
    await driven


class Coroutines:
    """The coroutine that runs in this slot, if one does."""

    def __init__(self) -> None:
        self._driven: _Driven | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end and return what it returns, or raise what it raises."""
        before, driven = self._driven, _Driven(coroutine)
        self._driven = driven
        try:
            asyncio.run(_run(driven))
        finally:
            self._driven = before
        if driven.error is not None:
            trace = driven.error.__traceback__
            raise driven.error.with_traceback(trace.tb_next if trace is not None else None)
        return driven.value

    def interrupt(self, error: BaseException) -> None:
        """Raise an error in what runs: here, or where a coroutine waits. For signal handlers."""
        driven = self._driven
        if driven is None or driven.stepping or driven.loop is None:
            raise error
        driven.throw(error)
