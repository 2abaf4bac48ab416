"""Firing: which fire times of schedules run, when, and what becomes of those that do not.

All fire times up to a schedule's cursor are dealt with, and it only goes forward: whatever a clock does, none
is dealt with twice. A fire time's run, and that it was dealt with, are facts of one ``handle``, so a crash
keeps both or neither. What is missed is found by search, never by going through it (``moments``).

Knows no zone but by the function it is given, and never looks into a canvas.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, tzinfo
from itertools import islice

from msgspec.structs import replace

from nbq.core.actions import Keep, Reject
from nbq.core.decided import Decided
from nbq.core.ending import Ending
from nbq.core.events import ScheduleChanged, SchedulePut
from nbq.core.facts import ScheduleMoved, ScheduleRemoved, ScheduleSet
from nbq.core.graph import UnfitGraph, check_graph
from nbq.core.ids import fire_salt, made_id
from nbq.core.making import Making
from nbq.core.model import NONE, Now, Origin
from nbq.core.moments import Moments
from nbq.core.schedule import Schedule
from nbq.core.timing import Fire, ScheduleSpec, ScheduleState
from nbq.core.views import ScheduleView

__all__ = ["Firing", "utc_alone"]

_LATE_S = 60.0
"""A fire time that is dealt with later than this was missed."""
_IN_A_ROW = 1000
_WAITING = 100
_HISTORY = 20
_CANCELLED = 250
"""So many runs are cancelled in a turn before another takes their place."""
_ACTIVE = 100
"""So many runs that have not ended are named to people."""
_BUSY_S = 1.0
"""After so long a fire is tried again that the hub had no room for."""
_TURN = 750
"""Looks at schedules in a turn; one that makes a run counts as three (design, promise 10: no turn over
50 ms)."""
_TURN_BYTES = 64 * 1024
_TURN_PARTS = 8
_MOST = 20_000
_STALE = 64


def utc_alone(name: str) -> tzinfo:
    """Return UTC, the only zone that is known without data.

    Raises:
        ValueError: It is another.
    """
    if name != "UTC":
        raise ValueError(f"there is no time zone {name!r} here")
    return UTC


class _Refused(Exception):
    """A request is refused: a code, and what to do."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.reject = Reject(code, text)


class Firing:
    """All schedules of a hub.

    Args:
        decided: What is being decided.
        making: Makes runs.
        ending: Ends those that a fire cancels.
        zone: Finds a time zone by its name.
        elements: How many unfinished elements a hub may have.
        retention_s: How long a finished schedule is kept.
    """

    def __init__(
        self,
        decided: Decided,
        making: Making,
        ending: Ending,
        zone: Callable[[str], tzinfo],
        elements: int,
        retention_s: float,
    ) -> None:
        self._decided = decided
        self._ledger = decided.ledger
        self._making = making
        self._ending = ending
        self._zone = zone
        self._elements = elements
        self._retention_s = retention_s
        self._looks: list[tuple[float, int]] = []
        """When (Unix time) to look at which schedule; those of ``_next`` alone count."""
        self._next: dict[int, float] = {}
        self._moments: dict[int, tuple[Schedule, Moments]] = {}

    # -------------------------------------------------------------- when

    def recovered(self) -> None:
        """Look at all schedules anew, a few each turn."""
        self._ledger.free.clear()
        for number in self._ledger.numbered:
            self._look_at(number, 0.0)

    def wait_s(self, now: Now) -> float | None:
        """Return for how many seconds no schedule is to be looked at; None for ever."""
        if self._ledger.free:
            return 0.0
        while self._looks and self._next.get(self._looks[0][1]) != self._looks[0][0]:
            heapq.heappop(self._looks)
        return max(self._looks[0][0] - now.wall_s, 0.0) if self._looks else None

    def tick(self, now: Now) -> None:
        """Deal with what is due, as much as a turn may take."""
        while self._ledger.free:
            schedule = self._ledger.schedules.get(self._ledger.free.popleft())
            if schedule is not None:
                self._look_at(schedule.number, 0.0)
        left = _TURN
        while left > 0 and self._looks and self._looks[0][0] <= now.wall_s:
            at_s, number = heapq.heappop(self._looks)
            if self._next.get(number) == at_s:
                del self._next[number]
                left -= self._look(self._ledger.numbered[number], now)

    def _look_at(self, number: int, at_s: float) -> None:
        """Look at a schedule at a time, and not at another."""
        self._next[number] = at_s
        heapq.heappush(self._looks, (at_s, number))
        if len(self._looks) > 2 * len(self._next) + _STALE:
            self._looks = [(at_s, number) for number, at_s in self._next.items()]
            heapq.heapify(self._looks)

    def _times(self, schedule: Schedule) -> Moments:
        """Return when a schedule fires. Raises ValueError if it means nothing."""
        number = schedule.number
        known = self._moments.get(number)
        if known is None or known[0] is not schedule:
            known = schedule, Moments(schedule.spec, schedule.id, self._zone)
            self._moments[number] = known
        return known[1]

    def _look(self, schedule: Schedule, now: Now) -> int:
        """Do the next thing that is to be done with a schedule; return what it cost."""
        state = schedule.state
        if state.finished_s is not None:
            self._retain(schedule, state.finished_s, now)
            return 1
        if state.paused:
            return 1
        try:
            times = self._times(schedule)
        except (
            ValueError
        ):  # it meant something to the hub that took it; whoever resumes it is told why not now
            self._move(schedule, replace(state, paused=True), now)
            return 1
        most = schedule.spec.max_runs
        if most is not None and state.runs >= most:
            self._finish(schedule, now)
        elif state.waiting and not self._must_wait(schedule):
            return self._run_waiting(schedule, now)
        else:
            fire_s = times.after(state.cursor_s)
            if fire_s is None:
                if not state.waiting:
                    self._finish(schedule, now)
            elif times.due_s(fire_s) > now.wall_s:
                self._look_at(schedule.number, times.due_s(fire_s))
            else:
                return self._deal_with(schedule, times, fire_s, now)
        return 1

    # -------------------------------------------------------------- fires

    def _deal_with(self, schedule: Schedule, times: Moments, fire_s: float, now: Now) -> int:
        """Decide what becomes of the fire times that are due, of which this is the first."""
        state, spec = schedule.state, schedule.spec
        following = times.after(fire_s)
        several = following is not None and times.due_s(following) <= now.wall_s
        if not several and now.wall_s - times.due_s(fire_s) <= _LATE_S:
            return self._fire(schedule, fire_s, None, 0, now)
        if spec.misfire == "all" and state.late < _IN_A_ROW:
            return self._fire(schedule, fire_s, None, state.late + 1, now)
        last_s = times.latest(fire_s, now.wall_s)
        first_s = fire_s if fire_s < last_s else None
        if spec.misfire == "skip" and now.wall_s - times.due_s(last_s) > _LATE_S:
            fire = Fire(last_s, now.wall_s, "missed", b"", first_s)
            self._move(schedule, _with(state, fire, cursor_s=last_s, late=0), now)
            return 1
        return self._fire(schedule, last_s, first_s, 0, now)

    def _fire(self, schedule: Schedule, fire_s: float, first_s: float | None, late: int, now: Now) -> int:
        """Let a fire time run, or do what the overlap policy says; with it goes what was missed before."""
        if not self._has_room(schedule):
            self._look_at(schedule.number, now.wall_s + _BUSY_S)
            return 1
        dealt = replace(schedule.state, cursor_s=fire_s, late=late)
        overlap, busy = schedule.spec.overlap, schedule.name in self._ledger.made
        if overlap == "skip" and busy:
            fire = Fire(fire_s, now.wall_s, "overlap", b"", first_s)
            self._move(schedule, _with(dealt, fire), now)
            return 1
        if overlap == "queue" and (busy or dealt.waiting):
            self._queue(schedule, dealt, fire_s, first_s, b"", now)
            return 1
        if overlap == "cancel_previous" and self._revoke(schedule, _CANCELLED, now):
            self._look_at(schedule.number, now.wall_s)
            return _TURN
        return self._run(schedule, dealt, fire_s, first_s, b"", now)

    def _revoke(self, schedule: Schedule, most: int, now: Now) -> bool:
        """Cancel runs of a schedule that have not ended, the oldest first; return whether there are more."""
        text = f"the schedule {schedule.name!r} fired again (overlap='cancel_previous')"
        made = self._ledger.made.get(schedule.name, {})
        for run in list(islice(made.values(), most)):
            for node in run.nodes:
                self._ending.revoke(run, node, 0, node.spec.size, "cancelled", text, now)
        return bool(made)

    def _has_room(self, schedule: Schedule) -> bool:
        return self._ledger.left + schedule.size() <= self._elements

    def _must_wait(self, schedule: Schedule) -> bool:
        """Return whether fire times that wait have to go on waiting."""
        return schedule.spec.overlap == "queue" and schedule.name in self._ledger.made

    def _queue(
        self, schedule: Schedule, state: ScheduleState, fire_s: float, first_s: float | None, salt: bytes,
        now: Now,
    ) -> None:  # fmt: skip
        if len(state.waiting) >= _WAITING:
            self._move(schedule, _with(state, Fire(fire_s, now.wall_s, "dropped", b"", first_s)), now)
            return
        run_id = made_id(schedule.id, salt or fire_salt(fire_s))
        asked = [*state.asked, (fire_s, salt)] if salt else state.asked
        fire = Fire(fire_s, now.wall_s, "queued", run_id, first_s)
        self._move(schedule, _with(state, fire, waiting=[*state.waiting, fire_s], asked=asked), now)

    def _run_waiting(self, schedule: Schedule, now: Now) -> int:
        if not self._has_room(schedule):
            self._look_at(schedule.number, now.wall_s + _BUSY_S)
            return 1
        state = schedule.state
        fire_s = state.waiting[0]
        salt = next((salt for at_s, salt in state.asked if at_s == fire_s), b"")
        asked = [entry for entry in state.asked if entry != (fire_s, salt)]
        rest = replace(state, waiting=state.waiting[1:], asked=asked)
        return self._run(schedule, rest, fire_s, None, salt, now)

    def _run(
        self, schedule: Schedule, state: ScheduleState, fire_s: float, first_s: float | None, salt: bytes,
        now: Now,
    ) -> int:  # fmt: skip
        """Make the run of a fire time, in place of the ones before if that is the policy.

        Args:
            schedule: The schedule.
            state: Its state, as it is to be but for this run.
            fire_s: The fire time.
            first_s: The first of those that were missed and for which it stands.
            salt: What somebody chose who asked for the run; empty if nobody did.
            now: The time.
        """
        if schedule.spec.overlap == "cancel_previous":
            self._revoke(schedule, len(self._ledger.made.get(schedule.name, {})), now)
        origin = Origin(schedule.id, salt or fire_salt(fire_s), 0, schedule.name, fire_s)
        sources = [(schedule.number, block) for block in range(len(schedule.blocks))]
        run = self._making.make(origin, schedule.owner, schedule.graph, schedule.blocks, sources, now)
        fire = Fire(fire_s, now.wall_s, "manual" if salt else "run", run.id, first_s)
        self._move(schedule, _with(state, fire, runs=state.runs + 1), now)
        parts = len(schedule.graph.nodes) + len(schedule.blocks)
        return 3 + run.weight // _TURN_BYTES + parts // _TURN_PARTS

    def _move(self, schedule: Schedule, state: ScheduleState, now: Now) -> None:
        self._decided.emit(ScheduleMoved(schedule.number, state))
        self._look_at(schedule.number, now.wall_s)

    def _finish(self, schedule: Schedule, now: Now) -> None:
        """Note that a schedule has nothing more to fire; what still waited for a run is dropped."""
        state = schedule.state
        if state.waiting:
            first_s, last_s = state.waiting[0], state.waiting[-1]
            fire = Fire(last_s, now.wall_s, "dropped", b"", first_s if first_s < last_s else None)
            state = _with(state, fire)
        state = replace(state, waiting=[], asked=[], finished_s=now.wall_s)
        self._decided.emit(ScheduleMoved(schedule.number, state))
        self._look_at(schedule.number, now.wall_s + self._retention_s)

    def _retain(self, schedule: Schedule, finished_s: float, now: Now) -> None:
        if finished_s + self._retention_s <= now.wall_s:
            self._remove(schedule)
        else:
            self._look_at(schedule.number, finished_s + self._retention_s)

    def _remove(self, schedule: Schedule) -> None:
        self._decided.emit(ScheduleRemoved(schedule.number))
        self._next.pop(schedule.number, None)
        self._moments.pop(schedule.number, None)
        self._making.let_go(schedule.blobs(), schedule.functions)

    # -------------------------------------------------------------- what is asked for

    def take(self, event: SchedulePut | ScheduleChanged, now: Now) -> None:
        """Do what is asked for, or refuse to."""
        try:
            if isinstance(event, SchedulePut):
                self._put(event, now)
            else:
                self._change(event, now)
        except _Refused as refused:
            self._decided.act(refused.reject)

    def _put(self, event: SchedulePut, now: Now) -> None:
        old = self._ledger.schedules.get(event.name)
        if old is not None and event.graph is not None and old.id == event.id:
            return  # sent again
        if old is not None and not event.replace:
            text = f"there is a schedule {event.name!r} already: edit or remove it, or take another name"
            raise _Refused("exists", text)
        if old is None and event.graph is None:
            raise _Refused("unknown", f"there is no schedule {event.name!r} to edit: add it with its canvas")
        if old is None and len(self._ledger.schedules) >= _MOST:
            raise _Refused("busy", f"the hub has {_MOST:,} schedules already: remove some first")
        self._check_canvas(event)
        same = old is not None and _when(old.spec) == _when(event.spec)
        state = ScheduleState(now.wall_s)
        if old is not None:
            state = replace(old.state, finished_s=None)
            if not same or old.state.finished_s is not None:  # before now it was not asked to fire so
                state = replace(state, cursor_s=max(state.cursor_s, now.wall_s), late=0)
        try:
            moments = Moments(event.spec, event.id, self._zone)
        except ValueError as error:
            raise _Refused("schedule", f"the schedule {event.name!r} means nothing: {error}") from None
        if not same and moments.after(state.cursor_s) is None:
            text = f"the schedule {event.name!r} would never fire: all of its fire times have passed"
            raise _Refused("schedule", text)
        self._set(event, old, state, now)

    def _check_canvas(self, event: SchedulePut) -> None:
        graph = event.graph
        if graph is None:
            if event.blocks:
                raise _Refused("graph", "there are arguments, but no canvas")
            return
        try:
            check_graph(graph, event.blocks)
        except UnfitGraph as error:
            raise _Refused("graph", str(error)) from None
        if graph.each:
            raise _Refused("graph", "a schedule runs one canvas, not separate calls")
        if any(node.ids for node in graph.nodes):
            text = "a scheduled canvas runs many times, so its tasks cannot be given a task_id: leave it out"
            raise _Refused("task_id", text)
        size = sum(node.size for node in graph.nodes)
        if size > self._elements:
            raise _Refused("busy", f"it has {size:,} tasks, the hub takes {self._elements:,} at most")

    def _set(self, event: SchedulePut, old: Schedule | None, state: ScheduleState, now: Now) -> None:
        if event.graph is None:
            assert old is not None
            number, own_id, graph, blocks = old.number, old.id, old.graph, old.blocks
        else:
            number = self._ledger.reserve() if event.number == NONE else event.number
            own_id, graph, blocks = event.id, event.graph, event.blocks
        gone = old if event.graph is not None else None
        if gone is not None:
            self._decided.emit(ScheduleRemoved(gone.number))
            self._next.pop(gone.number, None)
            self._moments.pop(gone.number, None)
        self._decided.emit(
            ScheduleSet(number, event.name, own_id, event.owner, now.wall_s, event.spec, graph, blocks)
        )
        if gone is not None:
            self._making.let_go(gone.blobs(), gone.functions)
        if event.graph is not None:
            for source in range(event.staged, len(blocks)):
                if not blocks[source].blob:
                    self._decided.act(Keep(number, source, source - event.staged))
        self._move(self._ledger.numbered[number], state, now)

    def _change(self, event: ScheduleChanged, now: Now) -> None:
        schedule = self._ledger.schedules.get(event.name)
        if schedule is None:
            text = f"there is no schedule {event.name!r}: it is mistyped, was removed, or had finished"
            raise _Refused("unknown", text)
        match event.verb:
            case "pause":
                self._move(schedule, replace(schedule.state, paused=True), now)
            case "resume":
                self._resume(schedule, now)
            case "remove":
                self._remove(schedule)
            case "run":
                self._run_now(schedule, event.salt, now)

    def _resume(self, schedule: Schedule, now: Now) -> None:
        """Let it fire again; what would have fired while it was paused was not missed."""
        state = schedule.state
        if not state.paused:
            return
        try:
            self._times(schedule)
        except ValueError as error:
            text = f"the schedule {schedule.name!r} means nothing any more, edit it: {error}"
            raise _Refused("schedule", text) from None
        cursor_s = max(state.cursor_s, now.wall_s)
        self._move(schedule, replace(state, paused=False, cursor_s=cursor_s, late=0), now)

    def _run_now(self, schedule: Schedule, salt: bytes, now: Now) -> None:
        state, spec = replace(schedule.state, finished_s=None), schedule.spec
        asked = salt in (known for _, known in state.asked)
        if asked or made_id(schedule.id, salt) in self._ledger.by_id:
            return  # sent again
        name = schedule.name
        if spec.max_runs is not None and state.runs >= spec.max_runs:
            text = f"the schedule {name!r} has had all of its {spec.max_runs:,} runs: edit its max_runs"
            raise _Refused("schedule", text)
        if not self._has_room(schedule):
            raise _Refused("busy", f"the hub holds {self._ledger.left:,} unfinished tasks; try again later")
        active = self._ledger.made.get(name, {})
        if spec.overlap == "skip" and active:
            run = next(iter(active.values()))
            text = (
                f"run {run.id.hex()} of the schedule {name!r} has not ended, and its overlap is 'skip': "
                "wait for that run or cancel it, or edit the overlap"
            )
            raise _Refused("overlap", text)
        if spec.overlap == "queue" and (active or state.waiting):
            if state.paused:
                text = (
                    f"the schedule {name!r} is paused, and another run of it has not ended: resume it first"
                )
                raise _Refused("overlap", text)
            if len(state.waiting) >= _WAITING:
                text = f"{_WAITING} fire times of the schedule {name!r} wait already; try again later"
                raise _Refused("overlap", text)
            self._queue(schedule, state, now.wall_s, None, salt, now)
        else:
            self._run(schedule, state, now.wall_s, None, salt, now)

    # -------------------------------------------------------------- for people

    def view(self, schedule: Schedule, *, whole: bool) -> ScheduleView:
        """Return what people see of a schedule; but for ``whole`` with its last fire alone."""
        state = schedule.state
        if not whole:
            state = replace(state, history=state.history[-1:])
        made = self._ledger.made.get(schedule.name, {})
        active = [run.id for run in islice(reversed(made.values()), _ACTIVE)]
        return ScheduleView(
            schedule.name, schedule.spec, state, schedule.owner, schedule.at_s, self._next_s(schedule),
            active[::-1], len(made),
        )  # fmt: skip

    def _next_s(self, schedule: Schedule) -> float | None:
        state = schedule.state
        if state.paused or state.finished_s is not None:
            return None
        try:
            return self._times(schedule).after(state.cursor_s)
        except ValueError:  # it means nothing any more, and will be paused
            return None


def _when(spec: ScheduleSpec) -> tuple[object, ...]:
    """Return what says when a schedule fires."""
    return spec.timing, spec.start_s, spec.end_s


def _with(state: ScheduleState, fire: Fire, **changes: object) -> ScheduleState:
    """Return a state with one more fire in its history, and other changes."""
    return replace(state, history=[*state.history, fire][-_HISTORY:], **changes)
