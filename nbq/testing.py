"""For tests of what uses nbq: a cluster in the test's process and in virtual time, as a pytest fixture.

    pytest_plugins = ["nbq.testing"]          # in conftest.py

    def test_orders(nbq_cluster):
        assert place_order.delay(17).get() == "placed"

Everything runs in the test's own thread, while it waits. See ``nbq.local`` for what is the same as in a
real cluster and what is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct

from nbq import signals
from nbq.canvas import Canvas
from nbq.local import LocalClient, LocalCluster
from nbq.tasks import Task

__all__ = ["Call", "ClusterUnderTest", "Ran", "nbq_cluster"]

_CALLS = 100_000


class Call(Struct, frozen=True):
    """An attempt of a task that was begun."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    task_id: str


class Ran(Struct, frozen=True):
    """What became of a canvas.

    Attributes:
        result: Its result object.
        value: Its value, or None if it has none.
        error: What its ``get()`` raises, or None.
        states: How many tasks of the whole run ended in each state.
        calls: The attempts that were begun meanwhile, in order.
    """

    result: Any
    value: Any
    error: BaseException | None
    states: dict[str, int]
    calls: list[Call]


class ClusterUnderTest:
    """A cluster in this process, and what a test does with it.

    Args:
        slots: How many slots its engine has.
        queues: What the engine takes work from; None for whatever queue is named.
        settings: Settings for the calls of its client, over those of the process.
    """

    def __init__(
        self, slots: int = 2, queues: list[str] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.cluster = LocalCluster(slots, queues, settings=settings)
        self.calls: list[Call] = []
        """The attempts that were begun so far, in order; the oldest of many are dropped."""

    @property
    def client(self) -> LocalClient:
        """Return the client; it is the current one during the test."""
        return self.cluster.client

    @property
    def now(self) -> datetime:
        """Return the virtual time."""
        return datetime.fromtimestamp(self.cluster.clock.now().wall_s, UTC)

    def advance(self, seconds: float) -> None:
        """Let (virtual) time pass, and all that happens meanwhile happen.

        Args:
            seconds: How much.
        """
        self.cluster.advance(seconds)

    def run_all(self) -> None:
        """Let everything that was submitted come to its end, however far in the future that is.

        Raises:
            Standstill: Some of it cannot.
        """
        self.cluster.run_all()

    def run(
        self,
        what: Canvas | Task[..., Any],
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Ran:
        """Submit a task or canvas, let it end, with links and errbacks, and say what became of it.

        Args:
            what: The task or canvas.
            args: As for ``apply_async``.
            kwargs: As for ``apply_async``.
            options: As for ``apply_async``.

        Raises:
            Standstill: It cannot come to its end.
        """
        first = len(self.calls)
        result = what.apply_async(args, kwargs, **options)
        self.client.finish_latest()
        value: Any = None
        error: BaseException | None = None
        try:
            value = result.get()
        except BaseException as raised:  # whatever the task raised
            error = raised
        return Ran(result, value, error, self.client.states_of_latest(), self.calls[first:])

    def add_engine(self, slots: int = 1, queues: list[str] | None = None) -> str:
        """Start one more engine; returns its name.

        Args:
            slots: How many slots it has.
            queues: What it takes work from; None for the same as the first.
        """
        return self.cluster.add_engine(slots, queues)

    def lose_engine(self, replace: bool = True) -> None:
        """Let the oldest engine be gone without a word, in the middle of what it runs.

        Args:
            replace: Whether another is started in its place.
        """
        self.cluster.lose_engine()
        if replace:
            self.cluster.add_engine()

    def lose_slot(self, why: str = "died with signal SIGKILL") -> None:
        """Let the slots that are in the middle of something be as if they had died; tasks call this.

        Args:
            why: What is said of it in evidence.
        """
        self.cluster.lose_slot(why)

    def _note(self, event: signals.TaskPrerun) -> None:
        if len(self.calls) >= _CALLS:
            del self.calls[: _CALLS // 2]
        self.calls.append(Call(event.sender, event.args, dict(event.kwargs), event.task_id))


@pytest.fixture
def nbq_cluster(request: pytest.FixtureRequest) -> Iterator[ClusterUnderTest]:
    """A cluster in this process and in virtual time; its client is the current one during the test.

    Arguments of ``ClusterUnderTest`` are given by
    ``@pytest.mark.parametrize("nbq_cluster", [{"slots": 4}], indirect=True)``.
    """
    under_test = ClusterUnderTest(**getattr(request, "param", {}))
    signals.task_prerun.connect(under_test._note)
    try:
        with under_test.cluster:
            yield under_test
    finally:
        signals.task_prerun.disconnect(under_test._note)
