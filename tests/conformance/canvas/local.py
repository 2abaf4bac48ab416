"""Runs canvases on a whole cluster inside this process, and says of them what ``executor.Ran`` does."""

from __future__ import annotations

from typing import Any

from nbq import current
from nbq.canvas import Canvas
from nbq.core.ids import element_text
from nbq.core.model import State
from nbq.core.queries import shown_state
from nbq.errors import TaskRevoked
from nbq.local import LocalCluster
from nbq.results import AsyncResult
from tests.conformance.canvas.executor import Ended
from tests.conformance.canvas.tasks import log


class Ran:
    """A canvas that has been run."""

    def __init__(self, cluster: LocalCluster, result: Any) -> None:
        self._result = result
        self._run = cluster.hub.scheduler.ledger.by_id[cluster.client._local_link.latest]

    def names(self) -> dict[str, str]:
        """Return what the executor calls tasks, by their ids."""
        return {
            element_text(self._run.id, node.number, index): f"{node.spec.task}[{index}]"
            for node in self._run.nodes
            for index in range(node.spec.size)
        }

    def get(self) -> Any:
        return self._result.get()

    @property
    def state(self) -> str:
        return self.of().state

    @property
    def values(self) -> list[Any]:
        return self._result.get(propagate=False)

    @property
    def states(self) -> list[str]:
        return [
            shown_state(state) for node in self._run.nodes for state in node.state if state != State.SKIPPED
        ]

    def of(self, result: Any = None) -> Ended:
        result = self._result if result is None else result
        own = result.id if isinstance(result, AsyncResult) else ""
        try:
            return Ended("SUCCESS", result.get(), own)
        except TaskRevoked as error:
            return Ended("REVOKED", error, own)
        except Exception as error:  # whatever the task raised
            return Ended("FAILURE", error, own)

    def parents(self) -> list[Ended]:
        found, at = [], self._result
        while at is not None:
            found.append(self.of(at))
            at = at.parent
        return found


def execute(canvas: Canvas, args: Any = (), kwargs: Any = None, **options: Any) -> Ran:
    """Run a canvas on a cluster of its own."""
    cluster = LocalCluster()
    current.entered(cluster.client)
    try:
        result = canvas.apply_async(args, kwargs, **options)
    finally:
        current.left(cluster.client)
    cluster.client.finish_latest()
    ran = Ran(cluster, result)
    names = ran.names()
    log[:] = [tuple(names.get(x, x) if isinstance(x, str) else x for x in entry) for entry in log]
    return ran
