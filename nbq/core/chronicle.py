"""The chronicle: the last things that happened, numbered, for whoever follows events.

It is made of facts as they are decided, and of what is no fact: what was seen running, engines that come and
go. What is noted is a small tuple; it becomes a ``Happening`` only when somebody reads it. It holds on to no
run. Nothing here is durable, or changes what is decided; the numbers of a hub's next life are higher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, msgpack

from nbq.core import facts as f
from nbq.core.fleet import Engine
from nbq.core.ids import element_text
from nbq.core.ledger import Ledger
from nbq.core.model import NONE, NodeSpec, State
from nbq.core.runs import Node, Run
from nbq.core.schedule import Schedule
from nbq.core.views import Happening, HappeningKind

__all__ = ["Chronicle", "Page", "Wanted"]

_KEPT = 10_000
_RARE = 1000
_EPOCH_BITS = 40
_REMOVED = "removed"
_TEXT = 1000
"""The most characters of a text that are shown."""

_ENDS: dict[int, HappeningKind] = {
    State.SUCCESS: "succeeded",
    State.FAILURE: "failed",
    State.REVOKED: "revoked",
}

_Cause = tuple[NodeSpec, int, int]
"""The element that others end as: its node, the number of that, and its index."""

_Entry = tuple[float, HappeningKind, NodeSpec, bytes, int, int, int, str, str | _Cause, int]
"""When, what, to whom (node, run, number of the node, first element, end), on which engine, why, and at which
attempt the first was."""

_FIRES: dict[str, tuple[HappeningKind, str]] = {
    "run": ("schedule-fired", ""),
    "manual": ("schedule-fired", ", by hand"),
    "missed": ("schedule-missed", ", missed"),
    "overlap": ("schedule-missed", ", skipped: a run has not ended"),
    "dropped": ("schedule-missed", ", dropped: too many wait for the end of a run"),
    "queued": ("schedule-changed", ", waits for the end of a run"),
}


class Wanted(Struct, frozen=True):
    """What somebody wants to hear of: that for which all of it holds; empty fields hold for all."""

    kinds: frozenset[str] = frozenset()
    task: str = ""
    queue: str = ""
    label: str = ""
    run: str = ""


class Page(Struct, frozen=True):
    """Happenings in order; how many before them are gone; and the number to go on after."""

    events: list[Happening]
    missed: int
    last: int


class Chronicle:
    """The last things that happened.

    Args:
        ledger: Where facts come to; asked before a fact is applied to it.
        epoch: A number higher than in any earlier life of the store; the numbers begin with it.
    """

    def __init__(self, ledger: Ledger, epoch: int) -> None:
        self.now_s = 0.0
        """The wall time of what is being decided."""
        self._ledger = ledger
        self._base = self.last = epoch << _EPOCH_BITS
        self._ring: list[_Entry | Happening | None] = [None] * _KEPT
        self.rare: deque[Happening] = deque(maxlen=_RARE)
        """The last of what happened to engines, schedules and queues; whoever writes a log takes it away."""
        self._replaced: Schedule | None = None
        """The schedule that was removed last, until it is known whether another takes its place."""
        self.notes: dict[type, Callable[[Any], None]] = {
            f.Settled: self._settled,
            f.Ended: self._ended,
            f.Inherited: self._inherited,
            f.Became: self._became,
            f.Deferred: self._deferred,
            f.ScheduleSet: self._schedule_set,
            f.ScheduleRemoved: self._schedule_removed,
            f.ScheduleMoved: self._schedule_moved,
            f.Steered: self._steered,
        }
        """What takes note of a fact that is about to be applied."""

    # -------------------------------------------------------------- what happens to elements

    def submitted(self, run: Run, first: int = 0) -> None:
        """Note that a run was taken, or that nodes from ``first`` on were added to it."""
        for node in run.nodes[first:]:
            if not node.aside:  # a link or errback shows if it is called for
                size = node.spec.size
                self._add((self.now_s, "submitted", node.spec, run.id, node.number, 0, size, "", "", 1))

    def started(self, run: Run, node: Node, index: int, engine: Engine) -> None:
        """Note that an element was seen running."""
        name = _name(engine)
        self._of(node, run, self.now_s, "started", index, index + 1, name, "")

    def progress(self, run: Run, node: Node, index: int, engine: Engine, state: str) -> None:
        """Note that a running element shows something of itself."""
        name = _name(engine)
        self._of(node, run, self.now_s, "progress", index, index + 1, name, state)

    def again(self, run: Run, node: Node, lo: int, hi: int, engine: Engine | None, text: str) -> None:
        """Note that elements whose attempt was lost run again."""
        name = _name(engine)
        self._of(node, run, self.now_s, "retried", lo, hi, name, text)

    def _of(
        self, node: Node, run: Run, at_s: float, kind: HappeningKind, lo: int, hi: int, engine: str,
        why: str | _Cause,
    ) -> None:  # fmt: skip
        attempt = 1 if node.own is None else node.started(lo)
        self._add((at_s, kind, node.spec, run.id, node.number, lo, hi, engine, why, attempt))

    def _settled(self, fact: f.Settled) -> None:
        run = self._ledger.runs[fact.run]
        node = run.nodes[fact.node]
        if not fact.states:
            self._of(node, run, fact.at_s, "succeeded", fact.lo, fact.hi, fact.engine, "")
            return
        at, states = fact.lo, fact.states
        while states:
            rest = states.lstrip(states[:1])
            end = at + len(states) - len(rest)
            text = fact.errors.get(at, "")
            self._of(node, run, fact.at_s, _ENDS[states[0]], at, end, fact.engine, text)
            at, states = end, rest

    def _ended(self, fact: f.Ended) -> None:
        kind = _ENDS.get(fact.state)
        if kind is not None:
            run = self._ledger.runs[fact.run]
            self._of(run.nodes[fact.node], run, fact.at_s, kind, fact.lo, fact.hi, "", fact.text)

    def _inherited(self, fact: f.Inherited) -> None:
        kind = _ENDS.get(fact.state)
        if kind is not None:
            run = self._ledger.runs[fact.run]
            index = fact.lo if fact.cause_index == NONE else fact.cause_index
            cause = run.nodes[fact.cause_node].spec, fact.cause_node, index
            self._of(run.nodes[fact.node], run, fact.at_s, kind, fact.lo, fact.hi, "", cause)

    def _became(self, fact: f.Became) -> None:
        run = self._ledger.runs[fact.run]
        self._of(run.nodes[fact.node], run, fact.at_s, "succeeded", fact.lo, fact.hi, "", "")

    def _deferred(self, fact: f.Deferred) -> None:
        run, index = self._ledger.runs[fact.run], fact.index
        name = _name(self._ledger.fleet.engines.get(self._ledger.leases[fact.token].engine))
        self._of(run.nodes[fact.node], run, fact.at_s, "retried", index, index + 1, name, fact.text)

    # -------------------------------------------------------------- what else happens

    def engine(self, kind: HappeningKind, engine: Engine, text: str) -> None:
        """Note that an engine comes or goes."""
        self._rare(kind, engine.id.hex(), text, engine=_name(engine))

    def _schedule_set(self, fact: f.ScheduleSet) -> None:
        last = self.rare[-1] if self.rare else None
        edited = fact.run in self._ledger.numbered
        if last is not None and (last.seq, last.id, last.text) == (self.last, fact.name, _REMOVED):
            edited = True  # another takes its place: it was not removed, after all
            self.rare.pop()
            self.last -= 1
        else:
            self._replaced = None
        self._rare("schedule-changed", fact.name, "edited" if edited else "added")

    def _schedule_removed(self, fact: f.ScheduleRemoved) -> None:
        self._replaced = self._ledger.numbered[fact.run]
        self._rare("schedule-changed", self._replaced.name, _REMOVED)

    def _schedule_moved(self, fact: f.ScheduleMoved) -> None:
        schedule = self._ledger.numbered[fact.run]
        before, after = schedule.state, fact.state
        if self._replaced is not None and self._replaced.name == schedule.name:
            before, self._replaced = self._replaced.state, None
        fires = []
        for fire in reversed(after.history):
            if fire.at_s < self.now_s or fire in before.history:
                break
            fires.append(fire)
        for fire in reversed(fires):
            kind, what = _FIRES[fire.what]
            since = f"{_time(fire.first_s)} to " if fire.first_s is not None else ""
            text = f"fire time {since}{_time(fire.fire_s)}{what}"
            self._rare(kind, schedule.name, text, run=fire.run.hex())
        if after.paused != before.paused:
            self._rare("schedule-changed", schedule.name, "paused" if after.paused else "resumed")
        if after.finished_s is not None and before.finished_s is None:
            self._rare("schedule-changed", schedule.name, "finished: it fires no more")

    def _steered(self, fact: f.Steered) -> None:
        before, after = self._ledger.paused, set(fact.paused)
        for queue in sorted(after ^ before):
            self._rare("queue-paused" if queue in after else "queue-resumed", queue, "", queue=queue)

    def _rare(
        self, kind: HappeningKind, own: str, text: str, *, engine: str = "", queue: str = "", run: str = ""
    ) -> None:
        happening = Happening(
            self.last + 1, self.now_s, kind, id=own, run=run, queue=queue, engine=engine, text=text
        )
        self.rare.append(happening)
        self._add(happening)

    def _add(self, entry: _Entry | Happening) -> None:
        self.last += 1
        self._ring[self.last % _KEPT] = entry

    # -------------------------------------------------------------- reading

    def read(self, after: int, wanted: Wanted, limit: int, most: int) -> Page:
        """Return what happened after a number.

        Args:
            after: The number; one of an earlier life means all of this one, and NONE from now on.
            wanted: What of it.
            limit: The most events.
            most: Bytes after which no further event is added.
        """
        if after == NONE or after > self.last:
            after = self.last
        after = max(after, self._base)
        kept = max(after, self.last - _KEPT)
        events: list[Happening] = []
        size, at = 0, kept
        for at in range(kept + 1, self.last + 1):
            entry = self._ring[at % _KEPT]
            if entry is None or not _fits(entry, wanted):
                continue
            events.append(_shown(at, entry))
            size += len(msgpack.encode(events[-1]))
            if len(events) >= limit or size >= most:
                break
        return Page(events, kept - after, at)

    def behind(self, after: int) -> int:
        """Return how many numbers there are to look at after one."""
        return min(self.last - max(after, self._base), _KEPT)


def _name(engine: Engine | None) -> str:
    return engine.info.name if engine is not None and engine.info is not None else ""


def _task(spec: NodeSpec) -> str:
    return spec.options.shadow or spec.task


def _fits(entry: _Entry | Happening, wanted: Wanted) -> bool:
    if isinstance(entry, Happening):
        kind, names, queue, label, run = entry.kind, (entry.task,), entry.queue, entry.label, entry.run
    else:
        kind, spec = entry[1], entry[2]
        options = spec.options
        names, queue, label = (spec.task, options.shadow), options.queue, options.label
        run = entry[3].hex() if wanted.run else ""
    return (
        (not wanted.kinds or kind in wanted.kinds)
        and (not wanted.task or wanted.task in names)
        and (not wanted.queue or wanted.queue == queue)
        and (not wanted.label or wanted.label == label)
        and (not wanted.run or wanted.run == run)
    )


def _shown(seq: int, entry: _Entry | Happening) -> Happening:
    if isinstance(entry, Happening):
        return entry
    at_s, kind, spec, run, node, lo, hi, engine, why, attempt = entry
    if isinstance(why, str):
        text = why[:_TEXT]
    else:
        cause, number, index = why
        text = f"as {_task(cause)} ({_id(cause, run, number, index)}), which it follows"
    options = spec.options
    return Happening(
        seq, at_s, kind, hi - lo, _id(spec, run, node, lo), run.hex(), _task(spec), options.queue,
        options.label, engine, text, attempt,
    )  # fmt: skip


def _id(spec: NodeSpec, run: bytes, node: int, index: int) -> str:
    return spec.ids.get(index) or element_text(run, node, index)


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(sep=" ", timespec="seconds")
