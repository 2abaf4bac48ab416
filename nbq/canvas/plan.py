"""Planning: a canvas becomes numbered nodes and numbered lists. The only place that rewrites shapes.

Members of a group that are alike (the same task and options, or chains of such) become one array each
step, so a map of a million calls and a group of a million signatures are the same graph. Chains are
walked, not recursed into, so a chain of 10,000 steps is planned like one of three; recursion follows
only nesting.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from nbq.canvas.compose import Chain, Chord, Group
from nbq.canvas.signature import Canvas, Signature, TaskRef, check_options, make_options, signature
from nbq.core.model import NONE, Item, Nested, Options, Slice
from nbq.errors import InvalidSignature

__all__ = ["EMPTY", "Plan", "PlannedNode", "plan"]

EMPTY = "nbq.empty"
"""The task that an empty group becomes: it returns []."""

Call = tuple[tuple[Any, ...], dict[str, Any]]
Value = Slice | Nested


class PlannedNode(Struct):
    """A node of a plan: as ``core.model.NodeSpec``, but with calls instead of blocks."""

    task: TaskRef
    options: Options
    calls: list[Call]
    after_node: int = NONE
    after_list: int = NONE
    fed: bool = False
    ids: dict[int, str] = {}


class Plan(Struct):
    """A planned canvas."""

    nodes: list[PlannedNode]
    lists: list[list[Item]]
    value: Value


def plan(
    canvas: Canvas,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Plan:
    """Return the plan of a canvas, called with further arguments and options.

    Raises:
        InvalidSignature: It cannot mean anything, or its arguments do not fit its tasks.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    check_options(given)
    planner = _Planner()
    value = planner.place(canvas, None, args, dict(kwargs or {}), given)
    return Plan(planner.nodes, planner.lists, value)


def _merged(canvas: Canvas, options: dict[str, Any]) -> dict[str, Any]:
    return {**canvas.options, **options} if options else canvas.options


class _Planner:
    def __init__(self) -> None:
        self.nodes: list[PlannedNode] = []
        self.lists: list[list[Item]] = []
        self._options: dict[object, Options] = {}

    def place(
        self,
        canvas: Canvas,
        source: Value | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        *,
        header: bool = False,
    ) -> Value:
        """Add a canvas that follows a value; returns its own value."""
        match canvas:
            case Signature():
                calls = [canvas.merged(args, kwargs)]
                return Slice(self._node([canvas], calls, source, _merged(canvas, options)), 0, 1)
            case Chain():
                return self._chain(canvas, source, args, kwargs, _merged(canvas, options))
            case Group():
                return self._group(canvas, source, args, kwargs, _merged(canvas, options), header)
            case Chord():
                merged = _merged(canvas, options)
                first, last = _first_and_last(merged)
                value = self._group(canvas.header, source, args, kwargs, first, header=True)
                return self.place(canvas.body, value, (), {}, last)
            case _:
                raise InvalidSignature(f"{canvas!r} cannot be planned")

    def _chain(
        self,
        canvas: Chain,
        source: Value | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Value:
        if not canvas.steps:
            raise InvalidSignature("an empty chain cannot be submitted or fed")
        first, last = _first_and_last(options)
        middle = {k: v for k, v in last.items() if k != "task_id"}
        count = len(canvas.steps)
        value = source
        for number, step in enumerate(canvas.steps):
            own = last if number == count - 1 else middle
            if number == 0:
                own = {**own, **first}
            value = self.place(step, value, args, kwargs, own)
            args, kwargs = (), {}
        assert value is not None
        return value

    def _group(
        self,
        canvas: Group,
        source: Value | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        header: bool,
    ) -> Value:
        members = list(_unrolled(canvas, options))
        if not members:
            empty = signature(EMPTY, immutable=True)
            return Slice(self._node([empty], [((), {})], source, {}), 0, 1)
        if "task_id" in options and len(members) > 1:
            raise InvalidSignature("one task_id cannot be given to all members of a group")
        if len(members) == 1 and not header and isinstance(members[0][0], Chain):
            value = self.place(members[0][0], source, args, kwargs, members[0][1])
            if isinstance(value, Nested):
                return value
            return self._list([value])
        buckets: dict[object, list[int]] = {}
        for number, (member, own) in enumerate(members):
            buckets.setdefault(_shape(member, own, number), []).append(number)
        items: list[Item | None] = [None] * len(members)
        for numbers in buckets.values():
            chosen = [members[number] for number in numbers]
            if isinstance(chosen[0][0], Signature | Chain) and len(chosen) > 1:
                node = self._arrays(chosen, source, args, kwargs)
                for place, number in enumerate(numbers):
                    items[number] = Slice(node, place, place + 1)
            else:
                for number in numbers:
                    member, own = members[number]
                    items[number] = self.place(member, source, args, kwargs, own)
        return self._list([item for item in items if item is not None])

    def _list(self, items: list[Item]) -> Nested:
        """Add a list; neighbouring slices of one node become one."""
        packed: list[Item] = []
        for item in items:
            before = packed[-1] if packed else None
            if (
                isinstance(item, Slice)
                and isinstance(before, Slice)
                and (before.node, before.hi) == (item.node, item.lo)
            ):
                packed[-1] = Slice(item.node, before.lo, item.hi)
            else:
                packed.append(item)
        self.lists.append(packed)
        return Nested(len(self.lists) - 1)

    def _arrays(
        self,
        members: list[tuple[Canvas, dict[str, Any]]],
        source: Value | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> int:
        """Add members of one shape as arrays, one for each step; returns the last node."""
        node = NONE
        columns = [m.steps if isinstance(m, Chain) else [m] for m, _ in members]
        depth = len(columns[0])
        for step in range(depth):
            column = [steps[step] for steps in columns]
            signatures = [one for one in column if isinstance(one, Signature)]
            calls = [one.merged(args, kwargs) for one in signatures]
            wanted = [
                _merged(one, _for_step(own, step, depth))
                for one, (_, own) in zip(signatures, members, strict=True)
            ]
            before: Value | None = source if step == 0 else Slice(node, 0, len(members))
            node = self._node(signatures, calls, before, wanted[0], wanted)
            args, kwargs = (), {}
        return node

    def _node(
        self,
        members: list[Signature],
        calls: list[Call],
        source: Value | None,
        options: dict[str, Any],
        each: list[dict[str, Any]] | None = None,
    ) -> int:
        first = members[0]
        wanted = {**first.task.options, **options}
        node = PlannedNode(first.task, self._make_options(wanted), calls)
        if source is None:
            for args, kwargs in calls:
                first.task.check(args, kwargs)
        elif isinstance(source, Nested):
            node.after_list = source.number
            node.fed = not first.immutable
        else:
            node.after_node = source.node
            node.fed = not first.immutable
        for index, own in enumerate(each or [options]):
            if own.get("task_id"):
                node.ids[index] = str(own["task_id"])
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _make_options(self, wanted: dict[str, Any]) -> Options:
        key = _frozen(wanted)
        found = self._options.get(key)
        if found is None:
            found = self._options[key] = make_options(wanted)
        return found


def _first_and_last(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options of a sequence: when it starts concerns its first part, its id the last."""
    when = ("eta", "countdown")
    first = {name: value for name, value in options.items() if name != "task_id"}
    last = {name: value for name, value in options.items() if name not in when}
    return first, last


def _for_step(options: dict[str, Any], step: int, depth: int) -> dict[str, Any]:
    if depth == 1:
        return options
    first, last = _first_and_last(options)
    chosen = dict(last) if step == depth - 1 else {k: v for k, v in last.items() if k != "task_id"}
    return {**chosen, **first} if step == 0 else chosen


def _unrolled(canvas: Group, options: dict[str, Any]) -> list[tuple[Canvas, dict[str, Any]]]:
    """Return the members of a group, those of groups in it in their place, each with its options."""
    found: list[tuple[Canvas, dict[str, Any]]] = []
    for member in canvas.members:
        if isinstance(member, Group):
            found.extend(_unrolled(member, _merged(member, options)))
        elif isinstance(member, Chain) and not member.steps:
            raise InvalidSignature("an empty chain cannot be a member of a group")
        else:
            found.append((member, options))
    return found


def _shape(member: Canvas, options: dict[str, Any], number: int) -> object:
    """Return a key that is equal for members that can share arrays."""
    steps = member.steps if isinstance(member, Chain) else [member]
    if isinstance(member, Chain) and member.options:
        return number
    shape: list[object] = [_frozen(options)]
    for step in steps:
        if not isinstance(step, Signature):
            return number
        shape += [step.task.key, step.immutable, _frozen(step.options)]
    return tuple(shape)


def _frozen(options: dict[str, Any]) -> object:
    return tuple(sorted((name, value) for name, value in options.items() if name != "task_id"))
