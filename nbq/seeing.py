"""What a client sees of its hub: runs, tasks, engines, queues. A part of ``Client``; changes nothing."""

from __future__ import annotations

from nbq import wire
from nbq.core.views import ClusterView, ElementView, EngineView, QueueView, RunView
from nbq.eventstream import Streaming
from nbq.link import Link

__all__ = ["Seeing"]


class Seeing(Streaming):
    """The questions of a client."""

    _link: Link

    def runs(self, name: str = "", limit: int = 100, mine: bool = False) -> list[RunView]:
        """Return runs, newest first.

        Args:
            name: Only those with a task of this name.
            limit: How many at most, up to 1,000.
            mine: Only those submitted with this client's key.
        """
        return self._link.answer(wire.Ask(0, "runs", name, limit, mine=mine)).runs

    def tasks(self, name: str = "", state: str = "", limit: int = 100) -> list[ElementView]:
        """Return tasks, newest runs first.

        Args:
            name: Only those of this name.
            state: Only those in this state.
            limit: How many at most, up to 1,000.
        """
        return self._link.answer(wire.Ask(0, "tasks", name, limit, state)).elements

    def status(self) -> ClusterView:
        """Return hub, engines, queues, and how many tasks are in each state."""
        cluster = self._link.answer(wire.Ask(0, "cluster")).cluster
        assert cluster is not None
        return cluster

    def engines(self) -> list[EngineView]:
        """Return the engines, by name."""
        return self.status().engines

    def queues(self) -> list[QueueView]:
        """Return the queues, by name."""
        return self.status().queues

    @property
    def slots(self) -> int:
        """Return how many tasks can run at a time now."""
        return sum(engine.info.slots for engine in self.engines() if engine.state == "up")
