"""A rig with schedules, whose wall clock starts at a round time."""

from __future__ import annotations

from typing import Any

from nbq.core import facts as f
from nbq.core.actions import Reject
from nbq.core.events import ScheduleChanged, SchedulePut
from nbq.core.model import Graph, Slice
from nbq.core.runs import Run
from nbq.core.schedule import Schedule
from nbq.core.scheduler import Limits
from nbq.core.timing import Every, Fire, ScheduleSpec, Timing
from tests.core.harness import WALL_S, Rig, blocks_of, node

GRAPH = Graph([node("tick")], value=Slice(0, 0, 1))
SALT = b"salt" * 4


class Planner(Rig):
    """A rig in which schedules are put and changed."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._puts = 0

    def put(
        self, name: str = "tick", timing: Timing | None = None, *, graph: Graph | None = GRAPH,
        replace: bool = False, **fields: Any,
    ) -> str:  # fmt: skip
        """Put a schedule (every 10 s, unless told); return the code and text of its refusal, or nothing."""
        self._puts += 1
        spec = ScheduleSpec(timing or Every(10.0), **fields)
        blocks = blocks_of(graph) if graph is not None else []
        own_id = self._puts.to_bytes(2, "big") * 8
        return self._refusal(SchedulePut(name, own_id, "me", spec, graph, blocks, replace=replace))

    def change(self, verb: Any, name: str = "tick", salt: bytes = SALT) -> str:
        """Change a schedule; return the code and text of the refusal, or nothing."""
        return self._refusal(ScheduleChanged(name, verb, salt))

    def _refusal(self, event: SchedulePut | ScheduleChanged) -> str:
        facts, actions = self.send(event)
        refused = [f"{action.code}: {action.text}" for action in actions if isinstance(action, Reject)]
        assert not (refused and facts)
        return "".join(refused)

    def schedule(self, name: str = "tick") -> Schedule:
        """Return a schedule."""
        return self.scheduler.ledger.schedules[name]

    def history(self, name: str = "tick") -> list[tuple[str, float]]:
        """Return what became of fire times, which are counted from the start."""
        return [(fire.what, fire.fire_s - WALL_S) for fire in self.schedule(name).state.history]

    def fires(self, name: str = "tick") -> list[Fire]:
        """Return the history as it is."""
        return self.schedule(name).state.history

    def runs(self) -> list[Run]:
        """Return the runs that schedules made, in order."""
        return [run for run in self.scheduler.ledger.runs.values() if run.origin is not None]

    def times(self) -> list[float]:
        """Return the fire times of all runs, counted from the start, from the facts."""
        accepted = [fact.origin for fact in self.facts if isinstance(fact, f.Accepted)]
        return [at.fire_s - WALL_S for at in accepted if at is not None and at.fire_s is not None]

    def jump(self, seconds: float) -> None:
        """Set the wall clock, and let the hub notice."""
        self.wall_s += seconds
        self.tick()

    def settle(self, turns: int = 50) -> None:
        """Let turns pass in which no time does."""
        for _ in range(turns):
            self.tick()
