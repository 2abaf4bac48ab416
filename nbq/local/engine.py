"""The engine inside this process: the real supervisor, over slots that are objects instead of processes.

User code runs when the cluster says so, one element after another, between the turns of everything else; so
while it runs it may itself wait for other tasks. It cannot be interrupted: a task that is cancelled while it
runs goes on, and its outcome is dropped; time limits are not enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import math
import os
import sys
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import Any, cast

from nbq import waits
from nbq.context import here
from nbq.engines import pipe
from nbq.engines.child import Child
from nbq.engines.slot import Slot
from nbq.engines.supervisor import EngineOptions, Supervisor
from nbq.engines.telling import EngineLog
from nbq.local.loopback import Clock, LocalEndpoint

__all__ = ["LocalChild", "LocalEngine"]

_WORDS = 16
_handles = itertools.count(1)
_nowhere = os.open(os.devnull, os.O_RDONLY)


class _Socket:
    """One end of a pipe inside this process."""

    def __init__(self) -> None:
        self.handle = next(_handles)
        self.other = self
        self.on_data: Callable[[], object] = bool
        self.await_data: Callable[[], bool] = lambda: True
        """Called when there is nothing to be read: lets the other end speak; False if that is gone."""
        self._data = bytearray()

    def send(self, data: bytes | bytearray) -> int:
        """Give all of it to the other end."""
        self.other._data += data
        self.other.on_data()
        return len(data)

    def recv(self, size: int) -> bytes:
        """Return what there is, or nothing at the end; raises BlockingIOError if there is nothing yet."""
        if not self._data and not self.await_data():
            return b""
        if not self._data:
            raise BlockingIOError
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    @property
    def has_data(self) -> bool:
        """Return whether there is something to be read."""
        return bool(self._data)

    def fileno(self) -> int:
        """Return a number of its own."""
        return self.handle

    def close(self) -> None:
        """Do nothing."""


class _Here:
    """Stands for the process of a slot: this one, which signals must not reach."""

    pid = os.getpid()

    def poll(self) -> int:
        """Return that it needs no more time to end."""
        return 0

    def send_signal(self, number: int) -> None:
        """Do nothing."""


class _Tee(io.TextIOBase):
    """Standard output or error while an element runs: what it prints is captured, and seen as well.

    Args:
        capture: What keeps it.
        stream: Where it would go otherwise.
    """

    def __init__(self, capture: io.TextIOBase, stream: Any) -> None:
        self._capture = capture
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text to both."""
        self._capture.write(text)
        return int(self._stream.write(text))

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the stream's descriptor, if it has one."""
        return int(self._stream.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the stream's encoding."""
        return str(self._stream.encoding)


class LocalSlot(Slot):
    """A slot that takes one message at a time, when it is told to."""

    _eager = True

    def step(self) -> bool:
        """Do the next thing that the supervisor said; returns whether there was any."""
        if cast(_Socket, self._link.sock).has_data:
            self._link.read()
            self._queue.extend(self._link.to_slot())
        if not self._queue:
            return False
        message = self._queue.popleft()
        if isinstance(message, pipe.Init):
            self.begin(message)
            self._link.send(pipe.Hello(os.getpid()))
        elif isinstance(message, pipe.Work):
            Context().run(self._isolated, message)
        else:
            self.take(message)
        return True

    def _isolated(self, work: pipe.Work) -> None:
        """Run elements as in a process of their own, in the middle of whatever this thread is doing."""
        captured = self._runner.captured
        out, err = _Tee(captured.out, sys.stdout), _Tee(captured.err, sys.stderr)
        running, loop = here.running, asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # a task may be a coroutine function
        outer = waits.bind(self)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                self.take(work)
        finally:
            waits.bind(outer)
            asyncio._set_running_loop(loop)
            here.running = running


class LocalChild(Child):
    """A slot as its supervisor has it, inside this process.

    Args:
        environment: As for a process; not used.
        init: What it is told first.
        clock: Virtual time.
        readable: Takes the number of its pipe when there is something to be read.
        turn: Lets its supervisor hear what it said; returns whether there still is one.
    """

    def __init__(
        self, environment: dict[str, str], init: pipe.Init, clock: Clock, readable: set[int],
        turn: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._clock = clock.read_s
        self._readable = readable
        self._turn = turn
        self.busy = False
        """Whether it is in the middle of something, so that this thread waits inside it."""
        self.lost = ""
        """Why it is taken for dead."""
        self._ran: tuple[int, int] | None = None
        super().__init__(environment, init)

    def _open(self, environment: dict[str, str]) -> None:
        ours, theirs = _Socket(), _Socket()
        ours.other, theirs.other = theirs, ours
        ours.on_data = lambda: None if self.lost else self._readable.add(ours.handle)
        theirs.await_data = lambda: not self.lost and self._turn()
        self.page = memoryview(bytearray(8 * _WORDS)).cast("Q")
        self.pipe = pipe.Pipe(cast(Any, ours))
        self.process = cast(Any, _Here())
        self.slot = LocalSlot(pipe.Pipe(cast(Any, theirs)), self.page, _nowhere)
        self.slot._clock = self._clock

    def step(self) -> bool:
        """Let the slot do the next thing that it was told; returns whether there was any."""
        self.busy = True
        try:
            return self.slot.step()
        finally:
            self.busy = False

    def lose(self, why: str) -> None:
        """Be as a process that has died."""
        if not self.lost:
            self._ran = self.running()
            self.lost = why
            self._readable.add(self.fd)

    def running(self) -> tuple[int, int] | None:
        """Return token and index of the element that it runs, or ran when it was lost."""
        return self._ran if self.lost else super().running()

    def receive(self) -> tuple[list[pipe.FromSlot], bool]:
        """Return what it sent, and whether it is still there."""
        messages, alive = super().receive()
        return ([], False) if self.lost else (messages, alive)

    def over_limit(self, now_s: float) -> None:
        """Return None: what runs here is not stopped."""

    def limit_in_s(self, now_s: float) -> float:
        """Return infinity, likewise."""
        return math.inf

    def overdue(self, now_s: float) -> bool:
        """Return False: there is nothing to kill."""
        return False

    def kill(self) -> None:
        """Do nothing: what runs here cannot be stopped."""

    def trim_output(self) -> None:
        """Do nothing: it has no file of output."""

    def evidence(self) -> str:
        """Return why it is taken for dead."""
        return f"its slot {self.lost}"

    def close(self) -> None:
        """Do nothing: it holds nothing."""


# In a user's process the log goes where the user's own logging sends it, and else nowhere.
logging.getLogger("nbq.local").addHandler(logging.NullHandler())


class LocalEngine(Supervisor):
    """One engine inside this process.

    Args:
        options: How to run.
        endpoint: The connection to the hub.
        clock: Virtual time.
        folder: Where temporary files lie.
    """

    def __init__(self, options: EngineOptions, endpoint: LocalEndpoint, clock: Clock, folder: Path) -> None:
        self._clock = clock.read_s
        self._folder = lambda kind: folder / kind  # all blobs are in the hub's
        self._spawn = lambda environment, init: LocalChild(
            environment, init, clock, endpoint.readable, self.turn
        )
        self._local_endpoint = endpoint
        self._gone = False
        super().__init__(options, endpoint, EngineLog("local."))
        self._slots.start_all()
        self._hello(clock.mono_s)

    @property
    def children(self) -> list[LocalChild]:
        """Return its slots."""
        return [child for child in self._slots.children if isinstance(child, LocalChild)]

    @property
    def has_news(self) -> bool:
        """Return whether the hub or a slot has said something that it has not heard."""
        return bool(self._local_endpoint.inbox or self._local_endpoint.readable)

    def turn(self) -> bool:
        """Take in what hub and slots said, and say what follows; returns False if it is gone."""
        if not self._gone:
            self._turn()
        return not self._gone

    def serve(self, queues: list[str]) -> None:
        """Take work from these queues too."""
        self.session.info.queues.extend(queues)
        self._hello(self._clock())

    def step(self) -> bool:
        """Let a slot that is free do the next thing; returns whether any had something to do."""
        return any(child.step() for child in self.children if not child.busy)

    def lose(self) -> None:
        """Be gone without a word."""
        self._gone = True
        self._local_endpoint.close()

    def _watch_hub(self, now_s: float) -> None:
        """Do nothing: the hub is here, however far the clock was moved."""
