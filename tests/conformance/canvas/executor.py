"""Runs planned graphs in this process, node by node: what the hub and slots have to do, without any of them.

It knows what becomes of links, errbacks, replacements and additions, so that canvases can be judged by
what their tasks see. ``Ran`` has what the tests need of a result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbq.canvas import Canvas, Plan, plan, plan_replacement
from nbq.canvas.plan import PlannedNode
from nbq.core.model import NONE, Item, Nested, On, Slice
from nbq.errors import Ignore, Reject, TaskRevoked
from nbq.tasks import Task
from tests.canvas.kit import graph_of
from tests.conformance.canvas.tasks import seam


@dataclass(frozen=True)
class Ended:
    """How an element ended: SUCCESS, FAILURE, REVOKED or SKIPPED; ``id`` is where it began."""

    state: str
    value: Any = None
    id: str = ""


class Replaced(Exception):
    """A task asked to be replaced."""


SKIPPED = Ended("SKIPPED")
STARTED = Ended("SUCCESS")


@dataclass
class Ran:
    """A canvas that has been run."""

    plan: Plan
    scope: str
    ends: list[list[Ended]] = field(default_factory=list)
    added: dict[int, list[Ended]] = field(default_factory=dict)

    def of(self, value: Slice | Nested | None = None) -> Ended:
        """Return how a value, by default that of the canvas, ended."""
        value = self.plan.value if value is None else value
        if isinstance(value, Slice):
            return self.ends[value.node][value.lo]
        parts = self.parts(value.number)
        bad = [part for part in parts if part.state != "SUCCESS"]
        return bad[0] if bad else Ended("SUCCESS", [part.value for part in parts])

    def parts(self, number: int) -> list[Ended]:
        found: list[Ended] = []
        for item in self.plan.lists[number]:
            found += self.ends[item.node][item.lo : item.hi] if isinstance(item, Slice) else [self.of(item)]
        return found + self.added.get(number, [])

    def settled(self, item: Item) -> list[Any]:
        """Return the values of an item, exceptions in the places of those that failed."""
        if isinstance(item, Slice):
            return [ended.value for ended in self.ends[item.node][item.lo : item.hi]]
        inner = [value for part in self.plan.lists[item.number] for value in self.settled(part)]
        return [inner + [ended.value for ended in self.added.get(item.number, [])]]

    def get(self) -> Any:
        ended = self.of()
        if ended.state != "SUCCESS":
            raise ended.value
        return ended.value

    @property
    def state(self) -> str:
        return self.of().state

    @property
    def values(self) -> list[Any]:
        """What ``get(propagate=False)`` of a group gives."""
        return self.settled(self.plan.value)[0]

    @property
    def states(self) -> list[str]:
        """The state of each element that is shown, in the order of the plan."""
        return [ended.state for node in self.ends for ended in node if ended.state != "SKIPPED"]

    def parents(self) -> list[Ended]:
        """Return how the value and, one after another, what it followed ended."""
        found, at = [], self.plan.value
        while at is not None:
            found.append(self.of(at))
            at = self.plan.parent(at)
        return found

    def id_of(self, node: int, index: int) -> str:
        return self.plan.nodes[node].ids.get(index, f"{self.scope}{self.plan.nodes[node].task}[{index}]")


def execute(canvas: Canvas, args: Any = (), kwargs: Any = None, **options: Any) -> Ran:
    """Plan a canvas and run it."""
    return run_plan(plan(canvas, args, kwargs, **options), "")


def run_plan(planned: Plan, scope: str) -> Ran:
    graph_of(planned)
    ran = Ran(planned, scope)
    for number, node in enumerate(planned.nodes):
        ran.ends.append([])
        for index in range(node.size):
            ran.ends[number].append(_end(ran, node, number, index))
    return ran


def _followed(ran: Ran, node: int, list_: int, index: int) -> Ended:
    if list_ != NONE:
        return ran.of(Nested(list_))
    if node == NONE:
        return STARTED
    return ran.ends[node][index if len(ran.ends[node]) > 1 else 0]


def _end(ran: Ran, node: PlannedNode, number: int, index: int) -> Ended:
    before = _followed(ran, node.after_node, node.after_list, index)
    given = _followed(ran, node.given_node, node.given_list, index)
    fed: tuple[Any, ...] = (before.value,)
    if node.on is On.SETTLED:
        if before is SKIPPED or given.state != "SUCCESS":
            return before if before is SKIPPED else given
        fed = (ran.settled(Nested(node.after_list))[0],) if node.after_list != NONE else fed
    elif node.on is On.FAILURE:
        if before.state != "FAILURE" or given.state != "SUCCESS":
            return SKIPPED
        fed = (before if node.told == NONE else Ended("FAILURE", before.value, ran.id_of(node.told, 0)),)
    elif before.state != "SUCCESS":
        return SKIPPED if node.on is On.LINK else before
    assert isinstance(node.ref, Task), f"{node.task} has no code here"
    own, kwargs = node.calls[0 if node.shared else index]
    args = (*(fed if node.fed else ()), *own)
    if node.fed and node.on is On.FAILURE:
        args = (*_told(node.ref, fed[0], len(own)), *own)
    return _call(ran, node, lambda task: task.call_in_slot(*args, **kwargs), ran.id_of(number, index))


def _told(task: Task[..., Any], failed: Ended, own: int) -> tuple[Any, ...]:
    """Return what an errback is called with."""
    if not task.bind and len(inspect.signature(task.run).parameters) >= 3 + own:
        return failed.id, failed.value, "traceback"
    return (failed.id,)


def _call(ran: Ran, node: PlannedNode, call: Callable[[Task[..., Any]], Any], own_id: str) -> Ended:
    asked: list[tuple[Canvas, bool]] = []
    with seam(asked, Replaced):
        try:
            assert isinstance(node.ref, Task)
            value: Any = call(node.ref)
        except Replaced:
            value = None
        except Ignore:
            return Ended("REVOKED", TaskRevoked("ignored"), own_id)
        except Reject as error:
            return Ended("FAILURE", error, own_id)
        except Exception as error:  # the task's own
            return Ended("FAILURE", error, own_id)
    ended = Ended("SUCCESS", value, own_id)
    for canvas, replaces in asked:
        try:
            inner = run_plan(plan_replacement(canvas), f"{own_id}/")
        except TypeError as error:
            return Ended("FAILURE", error, own_id)
        if replaces:
            ended = Ended(inner.state, inner.of().value, own_id)
        else:
            ran.added.setdefault(node.header, []).append(inner.of())
    return ended
