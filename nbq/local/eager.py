"""``apply()`` and eager mode: a canvas that runs here, now.

``apply()`` makes a cluster for one canvas, which lives as long as its handles do. Eager mode
(``always_eager``) has one cluster for the whole process; there every submit comes to its end before it
returns, however far in the future that is.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbq.canvas import Plan
from nbq.core.scheduler import Limits
from nbq.errors import Standstill
from nbq.local.cluster import LocalClient, LocalCluster
from nbq.results import AsyncResult
from nbq.resultsets import MapResult
from nbq.tasks import Task

__all__ = ["EagerClient", "apply_plan", "eager_client"]

_EAGER_BYTES = 256 * 1024 * 1024
"""How much of what has ended is kept in eager mode."""
_EAGER_DEPTH = 100
"""How deep tasks may wait for tasks that they submit in eager mode, all on one stack."""


def apply_plan(plan: Plan) -> Any:
    """Run a planned canvas here; returns its result object.

    It has ended, unless it never can: then its ``get()`` says why.
    """
    client = LocalCluster().client
    result = client.submit_plan(plan)
    with contextlib.suppress(Standstill):
        client.finish_latest()
    return result


class EagerClient(LocalClient):
    """The client of eager mode.

    Args:
        cluster: The cluster.
        propagates: Says whether a submit is to raise what its task raised.
    """

    def __init__(self, cluster: LocalCluster, propagates: Callable[[], bool]) -> None:
        super().__init__(cluster)
        self._propagates = propagates

    def _ended(self, result: Any) -> Any:
        with contextlib.suppress(Standstill):
            self.finish_latest()
        if self._propagates():
            result.get()
        return result

    def submit_plan(self, plan: Plan) -> Any:
        """Run a planned canvas."""
        return self._ended(super().submit_plan(plan))

    def submit_task(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        """Run a call of a task."""
        return self._ended(super().submit_task(task, args, kwargs, options))

    def send_task(
        self,
        name: str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run a call of a task by its name."""
        return self._ended(super().send_task(name, args, kwargs, **options))

    def submit(
        self, function: Callable[..., Any], *args: Any, label: str | None = None, **kwargs: Any
    ) -> AsyncResult:
        """Run a call of a plain function or a task."""
        return self._ended(super().submit(function, *args, label=label, **kwargs))

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> MapResult:
        """Run a call for each set of items."""
        return self._ended(super().map(function, *iterables, **options))


@functools.cache
def eager_client(propagates: Callable[[], bool]) -> EagerClient:
    """Return the client of eager mode in this process."""
    limits = Limits(retention_bytes=_EAGER_BYTES)
    return EagerClient(LocalCluster(limits=limits, waiting_limit=_EAGER_DEPTH), propagates)
