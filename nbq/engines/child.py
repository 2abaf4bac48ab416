"""A slot as its supervisor has it: a process, a pipe, a page, and what it was given."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from nbq.engines import pipe
from nbq.engines.pipe import FromSlot, ToSlot, Work

__all__ = ["Child"]

_TAIL_BYTES = 4096
_OUTPUT_BYTES = 16 * 1024 * 1024
_AGREE_S = 0.001
_LONG_S = 0.01
_FUNCTIONS = 500


class Child:
    """One slot process.

    Args:
        environment: The process's environment.
        init: What it is told first.
    """

    _clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, environment: dict[str, str], init: pipe.Init) -> None:
        self._open(environment)
        self.started_s = self._clock()
        self.ready = False
        self.halted: tuple[int, float] | None = None
        """Position that was told to stop, and the monotonic time at which the process is killed."""
        self._seen = 0, 0.0
        """Position that was last seen running, and since when."""
        self._hurried = 0
        self._next = 1
        self._works: deque[Work] = deque()
        self._limited = 0
        """How many of these have time limits."""
        self._over = 0
        """Position whose time limit has been seen to have passed."""
        self._softened = 0
        """Position whose soft time limit has."""
        self._functions: deque[bytes] = deque(maxlen=_FUNCTIONS)
        self._feeds: deque[int] = deque(maxlen=8)
        self.pipe.send(init)

    def _open(self, environment: dict[str, str]) -> None:
        """Start the process, with a pipe to it, the page, and a file for what it prints."""
        ours, theirs = socket.socketpair()
        self._page_handle, self._map = pipe.make_page()
        self.page = pipe.open_page(self._page_handle)
        self._output, _ = pipe.make_page()
        os.ftruncate(self._output, 0)
        flags = fcntl.fcntl(self._output, fcntl.F_GETFL)
        fcntl.fcntl(self._output, fcntl.F_SETFL, flags | os.O_APPEND)  # it is cut while others write to it
        handles = (theirs.fileno(), self._page_handle, self._output)
        argv = [sys.executable, "-P", "-m", "nbq.engines.slot", *map(str, handles)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, pass_fds=handles,
            start_new_session=True, env=environment,
        )  # fmt: skip
        theirs.close()
        ours.setblocking(False)
        self.pipe = pipe.Pipe(ours)

    @property
    def fd(self) -> int:
        """Return the descriptor to wait on."""
        return self.pipe.sock.fileno()

    def knows_function(self, address: bytes) -> bool:
        """Return whether it was sent a function, and take note that it now is."""
        known = address in self._functions
        if not known:
            self._functions.append(address)
        return known

    def knows_feed(self, token: int) -> bool:
        """Return whether it was sent the feed of a lease, and take note that it now is."""
        known = token in self._feeds
        if not known:
            self._feeds.append(token)
        return known

    def send(self, message: ToSlot) -> None:
        """Send a message; a dead slot is noticed elsewhere."""
        with contextlib.suppress(ConnectionError):
            self.pipe.send(message)

    def flush(self) -> None:
        """Send what it could not take before."""
        with contextlib.suppress(ConnectionError):
            self.pipe.flush()

    def next_position(self, count: int) -> int:
        """Return the position of the first of so many further elements."""
        first = self._next
        self._next += count
        return first

    def gave(self, work: Work) -> None:
        """Take note of work that it was sent."""
        self._works.append(work)
        self._limited += work.limited

    def finished(self, position: int) -> None:
        """Take note that it is at the end of some work."""
        if self._works and self._works[0].position == position:
            self._limited -= self._works.popleft().limited

    def receive(self) -> tuple[list[FromSlot], bool]:
        """Return what it sent, and whether it is still there."""
        try:
            alive = self.pipe.read()
            return list(self.pipe.from_slot()), alive
        except (ConnectionError, msgspec.DecodeError):  # user code can write into any descriptor
            return [], False

    def running(self) -> tuple[int, int] | None:
        """Return token and index of the element that it runs, or None."""
        place = self._place(self.page[pipe.POSITION])
        return place[:2] if place is not None else None

    def _place(self, position: int) -> tuple[int, int, Work] | None:
        for work in self._works:
            if work.position <= position < work.position + work.hi - work.lo:
                return work.token, work.lo + position - work.position, work
        return None

    def take_back(self) -> list[tuple[int, int, int]]:
        """Keep it from starting more of what it has; returns what it will not start.

        The slot writes its position before it reads the limits; here the limits are written, and its
        position is read at least a millisecond later. If the slot read the old limits, its position
        was written before that and is seen here, for no processor keeps a write to itself for so
        long. So nothing that is returned is ever started. (The one element at the position may have
        met the new limits: then the slot ends its work without an outcome of it, and the session
        runs it again.)
        """
        page = self.page
        page[pipe.BLOCKED_TO] = self._next
        page[pipe.BLOCKED_FROM] = page[pipe.REACHED] + 1
        time.sleep(_AGREE_S)
        position = page[pipe.REACHED]
        page[pipe.BLOCKED_FROM] = position + 1
        return list(self._beyond(position))

    def _beyond(self, position: int) -> Iterator[tuple[int, int, int]]:
        for work in self._works:
            lo = work.lo + max(0, position + 1 - work.position)
            if lo < work.hi:
                yield work.token, lo, work.hi

    def halt(self, token: int, lo: int, hi: int, grace_s: float) -> None:
        """Interrupt the running element if it is one of these; kill the process if that is no use."""
        position = self.page[pipe.POSITION]
        place = self._place(position)
        if place is None or place[0] != token or not lo <= place[1] < hi:
            return
        self.page[pipe.HALT] = position
        self.halted = position, self._clock() + grace_s
        self._interrupt()

    def _interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def abort(self, token: int, index: int) -> None:
        """Let the running element know that it is to end by itself, if it is this one."""
        position = self.page[pipe.POSITION]
        place = self._place(position)
        if place is not None and place[:2] == (token, index):
            self.page[pipe.ABORT] = position

    def over_limit(self, now_s: float) -> tuple[int, int, float] | None:
        """Return token, index and seconds of the running element when its time limit has passed, once.

        When its soft time limit has, it is told, until it takes note.
        """
        if not self._limited:
            return None
        page = self.page
        position = page[pipe.POSITION]
        place = self._place(position)
        began_s = page[pipe.BEGAN] / 1e6
        if place is None or not place[2].limited or not began_s or position != page[pipe.POSITION]:
            return None  # no function runs, or that of something else by now
        token, index, work = place
        ran_s, limit_s, soft_s = now_s - began_s, work.options.time_limit_s, work.options.soft_time_limit_s
        if limit_s is not None and ran_s >= limit_s:
            if self._over == position:
                return None
            self._over = page[pipe.LIMIT] = position
            return token, index, ran_s
        if soft_s is not None and ran_s >= soft_s:
            if self._softened != position:
                self._softened = page[pipe.SOFT] = position
            if page[pipe.SOFT] == position:
                self._interrupt()
        return None

    def limit_in_s(self, now_s: float) -> float:
        """Return in how many seconds a time limit may pass at the earliest."""
        if not self._limited:
            return float("inf")
        place = self._place(self.page[pipe.POSITION])
        waits: list[float] = []
        for work in self._works:
            options = work.options
            began_s = now_s
            if place is not None and place[2] is work and work.limited:
                began_s = min(now_s, self.page[pipe.BEGAN] / 1e6 or now_s)
            for limit_s in (options.time_limit_s, options.soft_time_limit_s):
                if limit_s is not None:
                    left_s = began_s + limit_s - now_s
                    # What has passed was seen to have; the next element of this work may begin any time.
                    waits.append(left_s if left_s > 0 else limit_s)
        return max(_AGREE_S, min(waits))

    def hurry(self, now_s: float) -> None:
        """Ask for the results that the slot has not sent, when the element that runs takes long."""
        position = self.page[pipe.POSITION]
        if position != self._seen[0]:
            self._seen = position, now_s
        elif position != self._hurried and now_s - self._seen[1] > _LONG_S:
            self._hurried = position
            place = self._place(position)
            if place is not None and position > place[2].position:
                self.process.send_signal(signal.SIGURG)

    def overdue(self, now_s: float) -> bool:
        """Return whether it was told to stop, had its time, and still runs the same element."""
        if self.halted is None:
            return False
        position, at_s = self.halted
        if self.page[pipe.POSITION] != position:
            self.halted = None
            return False
        return now_s >= at_s

    def kill(self) -> None:
        """Kill the process, and all that it started in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def trim_output(self) -> None:
        """Bound the file of what the process printed."""
        size = os.fstat(self._output).st_size
        if size > _OUTPUT_BYTES:
            os.ftruncate(self._output, 0)

    def evidence(self) -> str:
        """Return how the process died, and the last that it printed."""
        code = self.process.wait()
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        size = os.fstat(self._output).st_size
        tail = os.pread(self._output, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
        return f"its slot (process {self.process.pid}) died with {how}" + (
            f"; it last printed:\n{tail.strip()}" if tail.strip() else ""
        )

    def close(self) -> None:
        """Kill what is left of the process and free everything."""
        self.kill()
        self.process.wait()
        self.pipe.sock.close()
        self.page.release()
        self._map.close()
        for handle in (self._page_handle, self._output):
            os.close(handle)
