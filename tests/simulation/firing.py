"""A second opinion on schedules: every fire time is dealt with once, as its policies say.

Knows only the facts that were committed, in order; keeps the whole history of each schedule by name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo

from nbq.core import facts as f
from nbq.core.ids import made_id
from nbq.core.model import Origin
from nbq.core.runs import states_of
from nbq.core.timing import Fire, ScheduleSpec, ScheduleState, fires
from tests.simulation.workload import Violation

__all__ = ["Firing", "Told"]

_LATE_S = 60.0
_IN_A_ROW = 1000


class Told:
    """One schedule, from when it was added to when it was removed."""

    def __init__(self, fact: f.ScheduleSet) -> None:
        self.name = fact.name
        self.spec: ScheduleSpec = fact.spec
        self.ids = [fact.id]
        self.began_s = fact.at_s
        self.state = ScheduleState(fact.at_s)
        self.fires: list[Fire] = []
        self.gaps: list[tuple[float, float]] = []
        """From cursor to cursor: what passed in pauses."""


class Firing:
    """All schedules and their runs, by committed facts."""

    def __init__(self) -> None:
        self.schedules: dict[str, Told] = {}
        self.gone: list[Told] = []
        self._names: dict[int, str] = {}
        self._runs: dict[int, f.Accepted] = {}
        self._left: dict[int, int] = {}
        self._made: set[bytes] = set()
        self.ran: dict[tuple[bytes, bytes], float] = {}
        """Template and salt of each run: its fire time."""

    # -------------------------------------------------------------- facts

    def take(self, facts: list[f.Fact]) -> None:
        """Take in the facts of one batch, which stand or fall together."""
        accepted: list[f.Accepted] = []
        told: list[Fire] = []
        for fact in facts:
            match fact:
                case f.ScheduleSet():
                    self._set(fact)
                case f.ScheduleMoved():
                    told += self._moved(self.schedules[self._names[fact.run]], fact.state)
                case f.ScheduleRemoved():
                    self._removed(fact.run, facts)
                case f.Accepted() if fact.origin is not None and fact.origin.schedule:
                    accepted.append(fact)
                    self._accepted(fact, fact.origin)
                case f.Extended() if fact.run in self._left:
                    self._left[fact.run] += sum(node.size for node in fact.graph.nodes)
                case f.Settled() | f.Ended() | f.Inherited() | f.Became():
                    if fact.run in self._left:
                        self._left[fact.run] -= len(states_of(fact))
        runs = {fire.run for fire in told if fire.what in ("run", "manual")}
        if runs != {fact.id for fact in accepted}:
            raise Violation("one decision", f"runs {runs} were told of, {accepted} were made")

    def _set(self, fact: f.ScheduleSet) -> None:
        self._names[fact.run] = fact.name
        if fact.name in self.schedules:
            known = self.schedules[fact.name]
            known.spec = fact.spec
            known.ids.append(fact.id)
        else:
            self.schedules[fact.name] = Told(fact)

    def _removed(self, number: int, facts: list[f.Fact]) -> None:
        name = self._names.pop(number)
        again = any(isinstance(fact, f.ScheduleSet) and fact.name == name for fact in facts)
        if not again:
            self.gone.append(self.schedules.pop(name))

    def _accepted(self, fact: f.Accepted, origin: Origin) -> None:
        if origin.fire_s is None:
            raise Violation("origin", f"a run of no fire time: {fact}")
        known = self.schedules[origin.schedule]
        busy = [run for run, made in self._runs.items() if self._busy(run, made, origin.schedule)]
        if busy and known.spec.overlap != "allow":
            raise Violation("overlap", f"{known.spec.overlap}: runs {busy} of {known.name} had not ended")
        if fact.id in self._made or fact.id != made_id(origin.template, origin.salt):
            raise Violation("once", f"the run {fact.id.hex()} is made twice, or has another's id")
        if origin.template != known.ids[-1]:
            raise Violation("origin", f"a run of {known.name} was made from another canvas")
        self._made.add(fact.id)
        self._runs[fact.run] = fact
        self._left[fact.run] = sum(node.size for node in fact.graph.nodes)
        self.ran[origin.template, origin.salt] = origin.fire_s

    def _busy(self, run: int, made: f.Accepted, name: str) -> bool:
        assert made.origin is not None
        return made.origin.schedule == name and self._left[run] > 0

    # -------------------------------------------------------------- a schedule goes on

    def _moved(self, known: Told, state: ScheduleState) -> list[Fire]:
        """Check one step of a schedule; returns what it says that happened."""
        old, known.state = known.state, state
        fresh = _fresh(old.history, state.history)
        if state.cursor_s < old.cursor_s:
            raise Violation("cursor", f"{known.name} went back from {old.cursor_s} to {state.cursor_s}")
        at_s = old.cursor_s
        goes_on = state.cursor_s > old.cursor_s
        waiting = list(old.waiting)
        runs = old.runs
        for fire in fresh:
            if waiting and fire.what == "dropped" and not goes_on:
                if state.finished_s is None or fire.fire_s != waiting[-1]:
                    raise Violation("queue", f"{known.name} dropped what waits: {waiting}, {fire}")
                waiting = []
            elif fire.fire_s in waiting and fire.what in ("run", "manual") and not goes_on:
                if fire.fire_s != waiting.pop(0):
                    raise Violation("queue", f"{known.name} did not run the oldest first: {waiting}, {fire}")
            elif goes_on:
                self._policy(known, fire, at_s, old.late)
                at_s = fire.fire_s
                known.fires.append(fire)
            elif fire.what not in ("manual", "queued"):
                raise Violation("state", f"{known.name}: {fire} goes with no fire time")
            if fire.what == "queued":
                waiting.append(fire.fire_s)
            runs += fire.what in ("run", "manual")
        if at_s < state.cursor_s:  # a pause, and another timing, pass over fire times
            known.gaps.append((at_s, state.cursor_s))
        if (waiting, runs) != (state.waiting, state.runs):
            raise Violation("state", f"{known.name}: {state} is not {waiting}, {runs} after {old}")
        if known.spec.max_runs is not None and runs > known.spec.max_runs:
            raise Violation("max_runs", f"{known.name} has had {runs} runs")
        return fresh

    def _policy(self, known: Told, fire: Fire, after_s: float, late: int) -> None:
        """A fire time, with all that it stands for, follows what was dealt with before."""
        first_s = fire.fire_s if fire.first_s is None else fire.first_s
        late_s = fire.at_s - fire.fire_s - known.spec.jitter_s
        misfire = known.spec.misfire
        if first_s <= after_s or fire.fire_s > fire.at_s:
            raise Violation("once", f"{known.name}: {fire} is dealt with twice, or too early")
        if fire.what == "overlap" and not any(self._busy(*run, known.name) for run in self._runs.items()):
            raise Violation("overlap", f"{known.name}: {fire}, but nothing ran")
        wrong = {
            "all": (fire.first_s is not None and late < _IN_A_ROW) or fire.what == "missed",
            "skip": late_s > _LATE_S and fire.what != "missed",
            "coalesce": fire.what == "missed",
        }
        if wrong[misfire] or (fire.what == "missed" and fire.at_s - fire.fire_s <= _LATE_S):
            raise Violation("misfire", f"{known.name} ({misfire}): {fire}")
        allowed = {"skip": {"overlap"}, "queue": {"queued", "dropped"}}.get(known.spec.overlap, set())
        if fire.what not in {"run", "missed"} | allowed:
            raise Violation("overlap", f"{known.name} ({known.spec.overlap}): {fire}")

    # -------------------------------------------------------------- at the end

    def check_end(self, now_s: float, zone: Callable[[str], tzinfo]) -> None:
        """All fire times there ever were are dealt with, each once."""
        for known in (*self.gone, *self.schedules.values()):
            state = known.state
            done = known in self.gone or state.finished_s is not None
            self._check_all(known, state.cursor_s if done else max(now_s, state.cursor_s), zone)

    def _check_all(self, known: Told, upto_s: float, zone: Callable[[str], tzinfo]) -> None:
        following = fires(known.spec.timing, zone(known.spec.timing.tz))
        covered = [
            (fire.fire_s if fire.first_s is None else fire.first_s, fire.fire_s) for fire in known.fires
        ]
        ends = {end for _, end in covered}
        starts = {start for start, _ in covered}
        at = following(datetime.fromtimestamp(known.began_s, UTC))
        while at is not None and at.timestamp() <= upto_s - known.spec.jitter_s:
            at_s = at.timestamp()
            by = sum(start <= at_s <= end for start, end in covered)
            passed = any(low < at_s <= high for low, high in known.gaps)
            if by + passed != 1:
                raise Violation("once", f"{known.name}: {at} is dealt with {by} times (paused: {passed})")
            ends.discard(at_s)
            starts.discard(at_s)
            at = following(at)
        wrong = [end for end in ends | starts if end <= upto_s - known.spec.jitter_s]
        if wrong:
            raise Violation("once", f"{known.name}: {wrong} are no fire times")


def _fresh(old: list[Fire], new: list[Fire]) -> list[Fire]:
    """Return what a history has that it did not have before."""
    for count in range(len(new) + 1):
        rest = new[: len(new) - count]
        if not rest or old[len(old) - len(rest) :] == rest:
            return new[len(new) - count :]
    return new
