"""A stream of what happens at a hub, for ``client.events()``: an iterator, sync and async.

It asks for more when what it has is read, so nothing piles up here: whoever reads too slowly is told how much
has gone meanwhile, by ``missed``. It waits for a hub that is away, and goes on with its next life.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol, Self, get_args

from msgspec import Struct

from nbq import wire
from nbq.core.ids import parse_id
from nbq.core.model import NONE
from nbq.core.views import Happening, HappeningKind
from nbq.errors import UsageError, refusal
from nbq.link import Link
from nbq.posting import Posted

__all__ = ["Event", "EventStream", "Streaming"]

_EPOCH_BITS = 40
_AT_ONCE = 1000


class Event(Struct, frozen=True):
    """Something that happened.

    Args:
        seq: Its number; those of a hub grow, also over its restarts.
        at: When, in UTC.
        kind: What: ``submitted``, ``started``, ``progress``, ``succeeded``, ``failed``, ``retried``,
            ``revoked``, ``engine-joined``, ``engine-lost``, ``engine-drained``, ``schedule-fired``,
            ``schedule-missed``, ``schedule-changed``, ``queue-paused`` or ``queue-resumed``.
        count: To how many tasks; they are consecutive ones of a map, or of calls that were sent together.
        id: Of the first of them, or of the engine; or the name of the schedule or queue.
        run: The id of the run; empty for none.
        task: The name of the tasks.
        queue: Their queue.
        label: Their label.
        engine: The name of the engine.
        text: An error, a state that was shown, what became of a fire time: one line for people.
        attempt: At which attempt the first of the tasks was, from 1; 0 for what is no task.
    """

    seq: int
    at: datetime
    kind: str
    count: int = 1
    id: str = ""
    run: str = ""
    task: str = ""
    queue: str = ""
    label: str = ""
    engine: str = ""
    text: str = ""
    attempt: int = 0


def _filter(kinds: str | Iterable[str], task: str, queue: str, label: str, run: str) -> wire.EventFilter:
    """Return a filter for the hub.

    Raises:
        UsageError: There is no such kind.
    """
    wanted = [kinds] if isinstance(kinds, str) else list(kinds)
    known: tuple[HappeningKind, ...] = get_args(HappeningKind)
    for kind in wanted:
        if kind not in known:
            raise UsageError(f"there are no events of kind {kind!r}, but: {', '.join(known)}")
    return wire.EventFilter([kind for kind in known if kind in wanted], task, queue, label, run)


class EventStream:
    """What happens at a hub, one ``Event`` after another.

    ``for`` and ``async for`` read it; both end when nothing has come for ``timeout`` seconds, and can then go
    on where they were. ``close``, the end of a ``with`` block, and Ctrl-C leave it.

    Args:
        link: The connection.
        wanted: Which events.
        after: The number after which it begins; None for now.
        timeout: Seconds without an event after which reading ends; None for never, 0 for what there is now.

    Attributes:
        last: The number up to which it has read: what to begin ``after`` to go on elsewhere.
        missed: How many events, of any kind, the hub no longer had when they were asked for.
        restarts: How often the hub turned out to have been started anew. What the one before did and this
            stream had not read is known to nobody, and not counted.
    """

    def __init__(
        self, link: Link, wanted: wire.EventFilter, after: int | None, timeout: float | None
    ) -> None:
        self.missed = 0
        self.restarts = 0
        self._link = link
        self._wanted = wanted
        self._timeout = timeout
        self._ready: deque[Happening] = deque()
        self._posted: Posted | None = None
        self._closed = False
        if after is None:
            self.last = self._look(NONE).last
        elif after < 0:
            raise UsageError(f"after={after}: numbers of events are not negative")
        else:
            self.last = after
        self._reached = self.last
        """How far the hub has looked; what is ready lies before."""

    # -------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[Event]:
        """Return itself."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event and return it.

        Raises:
            StopIteration: Nothing has come for ``timeout`` seconds, or the stream was closed.
            HubError: The hub refuses this client.
        """
        until_s = self._until_s()
        while not self._ready:
            if self._closed or not (self._read_now() if self._timeout == 0 else self._wait(until_s)):
                raise StopIteration
        return self._take()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event and return it; raises as ``__next__``, but StopAsyncIteration."""
        until_s = self._until_s()
        while not self._ready:
            if self._closed or not (
                self._read_now() if self._timeout == 0 else await self._wait_async(until_s)
            ):
                raise StopAsyncIteration
        return self._take()

    def _until_s(self) -> float | None:
        return None if self._timeout is None else self._link.now_s() + self._timeout

    def _take(self) -> Event:
        found = self._ready.popleft()
        self.last = found.seq if self._ready else self._reached
        at = datetime.fromtimestamp(found.at_s, UTC)
        return Event(
            found.seq, at, found.kind, found.count, found.id, found.run, found.task, found.queue,
            found.label, found.engine, found.text, found.attempt,
        )  # fmt: skip

    # -------------------------------------------------------------- asking

    def _look(self, after: int) -> wire.Events:
        """Ask for what there is."""
        answer = self._link.ask(wire.Follow(0, after, self._wanted, _AT_ONCE, wait=False))
        assert isinstance(answer, wire.Events)
        return answer

    def _read_now(self) -> bool:
        """Take in what there is; returns whether there was anything more to look at."""
        before = self._reached
        self._on_answer(self._look(before))
        return self._reached > before

    def _post(self) -> Posted:
        self._posted = self._link.post(wire.Follow(0, self._reached, self._wanted, _AT_ONCE))
        return self._posted

    def _left_s(self, until_s: float | None) -> float | None:
        return None if until_s is None else max(0.0, until_s - self._link.now_s())

    def _wait(self, until_s: float | None) -> bool:
        """Wait for an answer and take it in; returns whether there was one."""
        posted, came = self._post(), False
        try:
            self._link.answered(posted, self._left_s(until_s))
        finally:
            came = self._dropped(posted)
        return came

    async def _wait_async(self, until_s: float | None) -> bool:
        posted, came = self._post(), False
        try:
            await asyncio.wait_for(self._link.answered_async(posted), self._left_s(until_s))
        except TimeoutError:
            pass  # one that has come meanwhile is taken all the same
        finally:
            came = self._dropped(posted)
        return came

    def _dropped(self, posted: Posted) -> bool:
        self._posted = None
        answer = self._link.drop(posted)
        if answer is not None:
            self._on_answer(answer)
        return answer is not None

    def _on_answer(self, answer: wire.ToPeer) -> None:
        if isinstance(answer, wire.Rejected):
            raise refusal(answer.code, answer.text)
        assert isinstance(answer, wire.Events)
        if self._reached >> _EPOCH_BITS not in (0, answer.last >> _EPOCH_BITS):
            self.restarts += 1
        self.missed += answer.missed
        self._reached = answer.last
        self._ready.extend(answer.events)
        if not self._ready:
            self.last = self._reached

    # -------------------------------------------------------------- its end

    def close(self) -> None:
        """End it; whoever waits for an event, in whatever thread, is told that there are no more."""
        self._closed = True
        posted = self._posted
        if posted is not None:
            self._link.leave(posted)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()


class HasId(Protocol):
    """A handle of a task, a group or a run."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...


class Streaming:
    """The part of a client that hears of what happens."""

    _link: Link

    def events(
        self,
        after: int | None = None,
        kinds: str | Iterable[str] = (),
        task: str = "",
        queue: str = "",
        label: str = "",
        run: str | HasId = "",
        timeout: float | None = None,
    ) -> EventStream:
        """Return a stream of what happens, to be read by ``for`` or ``async for``; a viewer's key may.

        Args:
            after: Begin after the event of this number, as far as the hub keeps events (the last 10,000);
                0 for all of those, None for what happens from now on.
            kinds: Only events of this kind, or of these.
            task: Only events of tasks of this name.
            queue: Only events of tasks of this queue, or of the queue itself.
            label: Only events of tasks with this label.
            run: Only events of the run that this is, or belongs to: a handle or an id.
            timeout: Seconds without an event after which reading ends; None for never, 0 to read only what
                there is now.

        Raises:
            UsageError: There is no such kind of event.
            UnknownResult: The hub has no such run (any more).
        """
        text = run if isinstance(run, str) else run.id
        return EventStream(self._link, _filter(kinds, task, queue, label, self._run_id(text)), after, timeout)

    def _run_id(self, text: str) -> str:
        """Return the id of the run that an id names, or belongs to."""
        if not text or parse_id(text) is not None:
            return text[:32]
        found = self._link.ask(wire.Ask(0, "find", text))
        assert isinstance(found, wire.Found)
        return found.run.hex()
