"""Whatever the timing, the policy, the clock and the crashes: what runs is what plain rules say."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nbq.core.timing import At, Cron, Every, Timing
from tests.core.firing import Planner
from tests.core.harness import WALL_S

_SPAN_S = 4 * 3600.0


@dataclass
class Reference:
    """The rules, over a list of all fire times."""

    times: list[float]
    misfire: str
    most: int | None
    at: int = 0
    """How many of them are dealt with."""
    ran: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)

    def look(self, now_s: float) -> None:
        """Deal with what is due."""
        while self.most is None or len(self.ran) < self.most:
            due = [at for at in self.times[self.at :] if at <= now_s]
            if not due:
                return
            if self.misfire == "all" or (len(due) == 1 and now_s - due[0] <= 60):
                self.ran.append(due[0])
                self.at += 1
                continue
            self.at += len(due)
            if self.misfire == "coalesce" or now_s - due[-1] <= 60:
                self.ran.append(due[-1])
                self.missed += due[:-1]
            else:
                self.missed += due


def every(timing: Timing, start_s: float) -> list[float]:
    """Return the fire times of four hours, found minute by minute or by counting."""
    end_s = start_s + _SPAN_S
    match timing:
        case Every():
            step = timing.seconds
            first = int(start_s // step) + 1
            return [number * step for number in range(first, int(end_s // step) + 1)]
        case At():
            return [timing.when.timestamp()]
        case Cron():
            minutes = (start_s // 60 * 60 + 60 * count for count in range(1, int(_SPAN_S // 60) + 1))
            wanted = {int(text) for text in timing.minute.split(",")}
            return [at for at in minutes if datetime.fromtimestamp(at, UTC).minute in wanted]


timings: st.SearchStrategy[Timing] = st.one_of(
    st.sampled_from([60, 90, 120, 400, 3600]).map(Every),
    st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True).map(
        lambda minutes: Cron(minute=",".join(map(str, minutes)))
    ),
    st.integers(1, 10_000).map(lambda at: At(datetime.fromtimestamp(WALL_S, UTC) + timedelta(seconds=at))),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([1.0, 30.0, 59.0, 61.0, 200.0, 3000.0])),
        st.tuples(st.just("jump"), st.sampled_from([-3600.0, -61.0, -5.0, 5.0, 61.0, 3600.0])),
        st.tuples(st.just("commit"), st.just(0.0)),
        st.tuples(st.just("crash"), st.just(0.0)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(timings, st.sampled_from(["coalesce", "skip", "all"]), st.none() | st.integers(1, 4), steps)
def test_what_runs_is_what_the_rules_say(
    timing: Timing, misfire: str, most: int | None, story: list[tuple[str, float]]
) -> None:
    rig = Planner()
    rig.put(timing=timing, misfire=misfire, max_runs=most)
    reference = Reference(every(timing, WALL_S), misfire, most)
    saved: tuple[int, Any] = (len(rig.facts), deepcopy(reference))
    for what, seconds in [*story, ("pass", 120.0)]:
        if what == "commit":
            saved = (len(rig.facts), deepcopy(reference))
        elif what == "crash":
            rig.facts, reference = rig.facts[: saved[0]], deepcopy(saved[1])
            rig.scheduler = rig.twin()
            rig.restart()
        elif rig.wall_s + seconds <= WALL_S + _SPAN_S:
            rig.wall_s += seconds
            rig.mono_s += max(seconds, 0.0)
        rig.settle(3)
        reference.look(rig.wall_s)
        assert [WALL_S + at for at in rig.times()] == reference.ran
    missed = [at for fire in rig.fires() if fire.what == "missed" for at in (fire.fire_s,)]
    assert set(missed) <= set(reference.missed)
    cursor = rig.schedule().state.cursor_s
    assert [at for at in reference.times if at <= cursor] == reference.times[: reference.at]
